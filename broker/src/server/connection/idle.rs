//! Decides which connection makes way where there is no room for one that waits: the one that has been idle for longest.
//!
//! Idle is who has no request under way, from its first byte to its answer's head. So nobody who is answered is cut off, and whoever
//! only holds a connection holds it while nobody wants it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The idle connections of a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct IdleConnections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told of each that becomes idle.
    grows: Notify,
}

/// Those who came first are first.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    idle: BTreeMap<u64, Arc<Notify>>,
}

/// One connection, which is in the queue while it is idle.
#[derive(Debug)]
pub(super) struct Standing {
    all: IdleConnections,
    way: Arc<Notify>,
    place: Mutex<Option<u64>>,
}

impl IdleConnections {
    /// One more, which has not asked for anything yet.
    pub(super) fn join(&self) -> Standing {
        let standing = Standing {
            all: self.clone(),
            way: Arc::default(),
            place: Mutex::default(),
        };
        standing.rests();
        standing
    }

    /// Tells the one that has been idle for longest to end; `false` where all are at work.
    pub(super) fn make_way(&self) -> bool {
        let first = lock(&self.0.queue).idle.pop_first();
        first.is_some_and(|(_, way)| {
            way.notify_one();
            true
        })
    }

    /// Returns once another one is idle, maybe early.
    pub(super) async fn grow(&self) {
        self.0.grows.notified().await;
    }
}

impl Standing {
    /// Its request is under way.
    pub(super) fn works(&self) {
        if let Some(place) = lock(&self.place).take() {
            lock(&self.all.0.queue).idle.remove(&place);
        }
    }

    /// It is idle, from now on.
    pub(super) fn rests(&self) {
        let mut own = lock(&self.place);
        let mut queue = lock(&self.all.0.queue);
        let place = queue.next;
        queue.next = place.saturating_add(1);
        queue.idle.insert(place, Arc::clone(&self.way));
        *own = Some(place);
        self.all.0.grows.notify_one();
    }

    /// Returns once it is to make way.
    pub(super) async fn told(&self) {
        self.way.notified().await;
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.works();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Waker};

    use super::*;

    fn is_told(standing: &Standing) -> bool {
        let mut told = Box::pin(standing.told());
        told.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_longest_idle_makes_way_and_nobody_who_works() {
        let all = IdleConnections::default();
        let [first, second, third] = [all.join(), all.join(), all.join()];
        first.works();
        second.works();
        second.rests();
        for (told, others) in [(&third, [&first, &second]), (&second, [&first, &third])] {
            assert!(all.make_way());
            assert!(is_told(told));
            assert!(!others.iter().any(|other| is_told(other)));
        }
        assert!(!all.make_way());
        drop((second, third));
        first.rests();
        drop(first);
        assert!(!all.make_way());
    }
}
