//! Accepts tokens on threads of their own, each with a deadline.

use std::time::Duration;

use kerbridge_wire::Reason;
use prometheus_client::metrics::gauge::Gauge;

use super::{Acceptor, Leg, Progress, Rejection};
use crate::channel_bindings::Channel;
use crate::work_pool::{NotDone, WorkPool};

type Outcome = Result<Progress, Rejection>;

/// Threads that accept tokens, with a bounded queue before them and a deadline on each token.
#[derive(Debug)]
pub struct AcceptorPool {
    /// An acceptor keeps nothing between tokens, so one that panicked half-way leaves nothing half-changed.
    pool: WorkPool<Box<dyn Acceptor>>,
    deadline: Duration,
}

impl AcceptorPool {
    /// Starts one thread for each acceptor.
    pub fn start(
        acceptors: Vec<Box<dyn Acceptor>>,
        queue: usize,
        deadline: Duration,
        depth: Gauge,
    ) -> std::io::Result<Self> {
        let workers = acceptors.into_iter().map(|acceptor| move || acceptor).collect();
        let pool = WorkPool::start("acceptor", workers, queue, depth)?;
        Ok(Self { pool, deadline })
    }

    /// Accepts a leg, or rejects it: as the acceptor does, or because the queue is full or the deadline has passed. A
    /// handshake whose second leg is not worked on in time is over.
    pub async fn accept(&self, leg: Leg, channel: Channel) -> Outcome {
        let accepted = self.pool.run(move |acceptor| acceptor.accept(leg, &channel));
        match tokio::time::timeout(self.deadline, accepted).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(not_done)) => Err(Rejection::new(reason_of(not_done), not_done.to_string())),
            Err(_) => Err(Rejection::new(Reason::BrokerOverloaded, "the deadline has passed")),
        }
    }
}

const fn reason_of(not_done: NotDone) -> Reason {
    match not_done {
        NotDone::Full => Reason::BrokerOverloaded,
        NotDone::Panicked | NotDone::Ended => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;
    use crate::acceptor::Accepted;
    use crate::config::ListenerName;
    use crate::negotiate::tests::token;
    use crate::time::UnixTime;

    fn channel() -> Channel {
        Channel {
            listener: ListenerName::Mesh,
            server_name: None,
            at: UnixTime::from_seconds(1000),
        }
    }

    fn leg() -> Leg {
        Leg::Only(Arc::new(token()))
    }

    struct Scripted<F>(F);

    impl<F: Fn() -> Outcome + Send> Acceptor for Scripted<F> {
        fn accept(&self, _: Leg, _: &Channel) -> Outcome {
            (self.0)()
        }
    }

    fn alice() -> Outcome {
        let alice = kerbridge_gss::Principal::parse("alice@A.TEST").unwrap();
        Ok(Progress::Established(Accepted::for_test(alice)))
    }

    fn pool(queue: usize, deadline: u64, accept: impl Fn() -> Outcome + Send + 'static) -> AcceptorPool {
        let acceptors: Vec<Box<dyn Acceptor>> = vec![Box::new(Scripted(accept))];
        AcceptorPool::start(acceptors, queue, Duration::from_millis(deadline), Gauge::default()).unwrap()
    }

    fn reason(outcome: &Outcome) -> Option<Reason> {
        outcome.as_ref().err().map(|rejection| rejection.reason)
    }

    #[tokio::test]
    async fn a_panic_costs_one_token_and_no_thread() {
        let first = std::sync::atomic::AtomicBool::new(true);
        let pool = pool(4, 5000, move || {
            assert!(!first.swap(false, Ordering::SeqCst), "scripted");
            alice()
        });
        assert_eq!(reason(&pool.accept(leg(), channel()).await), Some(Reason::Internal));
        assert!(pool.accept(leg(), channel()).await.is_ok());
        assert_eq!(pool.pool.depth(), 0);
    }

    #[tokio::test]
    async fn more_than_the_queue_holds_is_refused_at_once() {
        let (busy, release) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (at, until) = (Arc::clone(&busy), Arc::clone(&release));
        let once = std::sync::Once::new();
        let pool = Arc::new(pool(1, 60_000, move || {
            once.call_once(|| {
                at.wait();
                until.wait();
            });
            alice()
        }));
        let ask = || {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.accept(leg(), channel()).await })
        };
        let working = ask();
        tokio::task::spawn_blocking(move || busy.wait()).await.unwrap();
        let waiting = ask();
        while pool.pool.depth() != 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            reason(&pool.accept(leg(), channel()).await),
            Some(Reason::BrokerOverloaded)
        );
        release.wait();
        assert!(working.await.unwrap().is_ok());
        assert!(waiting.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_token_past_its_deadline_is_refused_and_not_worked_on() {
        let release = Arc::new(Barrier::new(2));
        let until = Arc::clone(&release);
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let pool = pool(4, 20, move || {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                until.wait();
            }
            alice()
        });
        let (first, second) = tokio::join!(pool.accept(leg(), channel()), pool.accept(leg(), channel()));
        assert_eq!(reason(&first), Some(Reason::BrokerOverloaded));
        assert_eq!(reason(&second), Some(Reason::BrokerOverloaded));
        release.wait();
        assert!(pool.accept(leg(), channel()).await.is_ok());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
    /// Releasing it takes a while, as libkrb5's locks and files do.
    struct Slow(Arc<AtomicUsize>);

    impl Acceptor for Slow {
        fn accept(&self, _: Leg, _: &Channel) -> Outcome {
            alice()
        }
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(100));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_pool_that_is_gone_has_released_every_acceptor() {
        let released = Arc::new(AtomicUsize::new(0));
        let one = || -> Box<dyn Acceptor> { Box::new(Slow(Arc::clone(&released))) };
        let acceptors = vec![one(), one(), one()];
        drop(AcceptorPool::start(acceptors, 4, Duration::from_secs(5), Gauge::default()).unwrap());
        assert_eq!(released.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_not_waited_for_without_end() {
        let release = Arc::new(Barrier::new(2));
        let until = Arc::clone(&release);
        let mut pool = pool(4, 20, move || {
            until.wait();
            alice()
        });
        assert_eq!(
            reason(&pool.accept(leg(), channel()).await),
            Some(Reason::BrokerOverloaded)
        );
        assert!(!pool.pool.end(Duration::from_millis(20)));
        release.wait();
        assert!(pool.pool.end(Duration::from_secs(10)));
        assert_eq!(reason(&pool.accept(leg(), channel()).await), Some(Reason::Internal));
    }
}
