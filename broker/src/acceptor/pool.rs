//! Keeps GSSAPI off the asynchronous threads, and says at once when more comes than can be done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use kerbridge_wire::Reason;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use super::{Accepted, Acceptor, Rejection};
use crate::negotiate::NegotiateToken;

type Outcome = Result<Accepted, Rejection>;

struct Job {
    token: Arc<NegotiateToken>,
    done: oneshot::Sender<Outcome>,
}

/// Threads that accept tokens, with a bounded queue before them and a deadline on each token.
#[derive(Debug)]
pub struct AcceptorPool {
    queue: SyncSender<Job>,
    depth: Gauge,
    deadline: Duration,
}

impl AcceptorPool {
    /// Starts one thread for each acceptor. They end when the pool is dropped and the queue is empty.
    pub fn start(
        acceptors: Vec<Box<dyn Acceptor>>,
        queue: usize,
        deadline: Duration,
        depth: Gauge,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        for (index, acceptor) in acceptors.into_iter().enumerate() {
            let (receiver, depth) = (Arc::clone(&receiver), depth.clone());
            thread::Builder::new()
                .name(format!("acceptor-{index}"))
                .spawn(move || work(acceptor.as_ref(), &receiver, &depth))?;
        }
        Ok(Self {
            queue: sender,
            depth,
            deadline,
        })
    }

    /// Accepts a token, or rejects it: as the acceptor does, or because the queue is full or the deadline has passed.
    pub async fn accept(&self, token: Arc<NegotiateToken>) -> Outcome {
        let (done, outcome) = oneshot::channel();
        // Counted before it is sent, or a quick thread would count it down first.
        self.depth.inc();
        match self.queue.try_send(Job { token, done }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.depth.dec();
                return Err(Rejection::new(Reason::BrokerOverloaded, "the queue is full"));
            }
            Err(TrySendError::Disconnected(_)) => {
                self.depth.dec();
                return Err(Rejection::new(Reason::Internal, "no thread accepts tokens any more"));
            }
        }
        match tokio::time::timeout(self.deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Rejection::new(Reason::Internal, "the acceptor failed on this token")),
            Err(_) => Err(Rejection::new(Reason::BrokerOverloaded, "the deadline has passed")),
        }
    }
}

fn work(acceptor: &dyn Acceptor, receiver: &Mutex<Receiver<Job>>, depth: &Gauge) {
    loop {
        // The lock is held while waiting for a job, not while doing it.
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { token, done }) = job else { return };
        depth.dec();
        // Nobody waits for it any more: its deadline has passed.
        if done.is_closed() {
            continue;
        }
        // One token that makes the acceptor panic must not take the thread from all others. An acceptor keeps nothing
        // between tokens, so a half-done one leaves nothing half-changed.
        match catch_unwind(AssertUnwindSafe(|| acceptor.accept(&token))) {
            // Whoever asked may have gone meanwhile; the result then goes with them.
            Ok(outcome) => drop(done.send(outcome)),
            Err(_) => drop(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::negotiate::tests::token;

    struct Scripted<F>(F);

    impl<F: Fn() -> Outcome + Send> Acceptor for Scripted<F> {
        fn accept(&self, _: &NegotiateToken) -> Outcome {
            (self.0)()
        }
    }

    fn alice() -> Outcome {
        Ok(Accepted::for_test(
            kerbridge_gss::Principal::parse("alice@A.TEST").unwrap(),
        ))
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
            assert!(!first.swap(false, std::sync::atomic::Ordering::SeqCst), "scripted");
            alice()
        });
        let token = Arc::new(token());
        assert_eq!(reason(&pool.accept(Arc::clone(&token)).await), Some(Reason::Internal));
        assert!(pool.accept(token).await.is_ok());
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
        let token = Arc::new(token());
        let ask = || {
            let (pool, token) = (Arc::clone(&pool), Arc::clone(&token));
            tokio::spawn(async move { pool.accept(token).await })
        };
        let working = ask();
        tokio::task::spawn_blocking(move || busy.wait()).await.unwrap();
        let waiting = ask();
        while pool.depth.get() != 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            reason(&pool.accept(Arc::clone(&token)).await),
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
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let pool = pool(4, 20, move || {
            if counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                until.wait();
            }
            alice()
        });
        let token = Arc::new(token());
        let (first, second) = tokio::join!(pool.accept(Arc::clone(&token)), pool.accept(Arc::clone(&token)));
        assert_eq!(reason(&first), Some(Reason::BrokerOverloaded));
        assert_eq!(reason(&second), Some(Reason::BrokerOverloaded));
        release.wait();
        assert!(pool.accept(token).await.is_ok());
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2);
    }
}
