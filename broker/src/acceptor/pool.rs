//! Keeps GSSAPI off the asynchronous threads, says at once when more comes than can be done, and ends before the process.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kerbridge_wire::Reason;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use super::{Acceptor, Leg, Progress, Rejection};
use crate::channel_bindings::Channel;

type Outcome = Result<Progress, Rejection>;

/// How long the threads have to end. One that hangs in a replay cache's file system must not hang the exit.
const END_TIME: Duration = Duration::from_secs(2);

struct Job {
    leg: Leg,
    channel: Channel,
    done: oneshot::Sender<Outcome>,
}

/// Threads that accept tokens, with a bounded queue before them and a deadline on each token.
#[derive(Debug)]
pub struct AcceptorPool {
    /// Absent once the threads are to end.
    queue: Option<SyncSender<Job>>,
    depth: Gauge,
    deadline: Duration,
    threads: Vec<JoinHandle<()>>,
    /// Closed when the last acceptor is gone; nothing is ever sent.
    ended: Mutex<Receiver<Infallible>>,
}

impl AcceptorPool {
    /// Starts one thread for each acceptor. When the pool is dropped they finish their token, release their acceptors and
    /// end: libkrb5 takes its locks down when `main` returns, and whoever still uses them then aborts the process.
    pub fn start(
        acceptors: Vec<Box<dyn Acceptor>>,
        queue: usize,
        deadline: Duration,
        depth: Gauge,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let (alive, ended) = channel();
        let mut pool = Self {
            queue: Some(sender),
            depth,
            deadline,
            threads: Vec::new(),
            ended: Mutex::new(ended),
        };
        for (index, acceptor) in acceptors.into_iter().enumerate() {
            let (receiver, depth, alive) = (Arc::clone(&receiver), pool.depth.clone(), Sender::clone(&alive));
            let thread = thread::Builder::new()
                .name(format!("acceptor-{index}"))
                .spawn(move || {
                    work(acceptor.as_ref(), &receiver, &depth);
                    drop(acceptor);
                    drop(alive);
                })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Lets the threads end and waits for them; `false` where one is still busy after this time.
    fn end(&mut self, within: Duration) -> bool {
        self.queue = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(within) {
            Err(RecvTimeoutError::Disconnected) => {
                // They have only to return. What one of them panicked with was caught, or concerns nobody any more.
                self.threads.drain(..).for_each(|thread| drop(thread.join()));
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
        }
    }

    /// Accepts a leg, or rejects it: as the acceptor does, or because the queue is full or the deadline has passed. A
    /// handshake whose second leg is not worked on in time is over.
    pub async fn accept(&self, leg: Leg, channel: Channel) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let Some(queue) = &self.queue else { return Err(closed()) };
        // Counted before it is sent, or a quick thread would count it down first.
        self.depth.inc();
        match queue.try_send(Job { leg, channel, done }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.depth.dec();
                return Err(Rejection::new(Reason::BrokerOverloaded, "the queue is full"));
            }
            Err(TrySendError::Disconnected(_)) => {
                self.depth.dec();
                return Err(closed());
            }
        }
        match tokio::time::timeout(self.deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Rejection::new(Reason::Internal, "the acceptor failed on this token")),
            Err(_) => Err(Rejection::new(Reason::BrokerOverloaded, "the deadline has passed")),
        }
    }
}

impl Drop for AcceptorPool {
    fn drop(&mut self) {
        if !self.end(END_TIME) {
            tracing::warn!("a thread that accepts tickets does not end");
        }
    }
}

fn closed() -> Rejection {
    Rejection::new(Reason::Internal, "no thread accepts tokens any more")
}

fn work(acceptor: &dyn Acceptor, receiver: &Mutex<Receiver<Job>>, depth: &Gauge) {
    loop {
        // The lock is held while waiting for a job, not while doing it.
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { leg, channel, done }) = job else { return };
        depth.dec();
        // Nobody waits for it any more: its deadline has passed.
        if done.is_closed() {
            continue;
        }
        // One token that makes the acceptor panic must not take the thread from all others. An acceptor keeps nothing
        // between tokens, so a half-done one leaves nothing half-changed.
        match catch_unwind(AssertUnwindSafe(|| acceptor.accept(leg, &channel))) {
            // Whoever asked may have gone meanwhile; the result then goes with them.
            Ok(outcome) => drop(done.send(outcome)),
            Err(_) => drop(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        assert_eq!(pool.depth.get(), 0);
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
        while pool.depth.get() != 1 {
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
        assert!(!pool.end(Duration::from_millis(20)));
        release.wait();
        assert!(pool.end(Duration::from_secs(10)));
        assert_eq!(reason(&pool.accept(leg(), channel()).await), Some(Reason::Internal));
    }
}
