//! Keeps calls that block off the asynchronous threads, says at once when more comes than can be done, and ends before the
//! process.

use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::queue::{NotTaken, Queue};

/// How long the threads have to end. One that hangs in a file system or at a KDC must not hang the exit.
const END_TIME: Duration = Duration::from_secs(2);

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// Threads that each have a worker of their own, with a bounded queue before them.
pub struct WorkPool<W> {
    name: &'static str,
    queue: Arc<Queue<Job<W>>>,
    depth: Gauge,
    threads: Vec<JoinHandle<()>>,
    /// Closed when the last worker is gone; nothing is ever sent.
    ended: Mutex<Receiver<Infallible>>,
}

/// Why some work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// As much waits as may.
    Full,
    /// It panicked.
    Panicked,
    /// The threads end.
    Ended,
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full",
            Self::Panicked => "it failed on this request",
            Self::Ended => "no thread works any more",
        })
    }
}

impl<W: 'static> WorkPool<W> {
    /// Starts one thread for each worker, which is made there and never leaves it. When the pool is dropped they finish what
    /// they do, release their workers and end: libkrb5 takes its locks down when `main` returns, and whoever still uses them
    /// then aborts the process.
    pub fn start<M>(name: &'static str, workers: Vec<M>, queue: usize, depth: Gauge) -> std::io::Result<Self>
    where
        M: FnOnce() -> W + Send + 'static,
    {
        let (alive, ended) = channel();
        let mut pool = Self {
            name,
            queue: Arc::new(Queue::new(queue)),
            depth,
            threads: Vec::new(),
            ended: Mutex::new(ended),
        };
        for (index, make) in workers.into_iter().enumerate() {
            let (queue, depth, alive) = (Arc::clone(&pool.queue), pool.depth.clone(), Sender::clone(&alive));
            let thread = thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                let mut worker = make();
                work(&mut worker, &queue, &depth);
                drop(worker);
                drop(alive);
            })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Has some work done by one of the workers. Who no longer waits when its turn comes has none done.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut W) -> T + Send + 'static) -> Result<T, NotDone> {
        let (done, outcome) = oneshot::channel();
        let job: Job<W> = Box::new(move |worker| {
            if done.is_closed() {
                return;
            }
            // One piece of work that panics must not take the thread from all others.
            match catch_unwind(AssertUnwindSafe(|| work(worker))) {
                // Whoever asked may have gone meanwhile; the result then goes with them.
                Ok(outcome) => drop(done.send(outcome)),
                Err(_) => drop(done),
            }
        });
        self.put(job)?;
        outcome.await.map_err(|_| NotDone::Panicked)
    }

    /// The same for a thread that may wait, for so long at most: `None` is that it was too long.
    pub fn wait<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce(&mut W) -> T + Send + 'static,
    ) -> Option<Result<T, NotDone>> {
        let (done, outcome) = sync_channel(1);
        let is_wanted = Arc::new(AtomicBool::new(true));
        let still_wanted = Arc::clone(&is_wanted);
        let job: Job<W> = Box::new(move |worker| {
            if !still_wanted.load(Ordering::Acquire) {
                return;
            }
            if let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| work(worker))) {
                drop(done.send(outcome));
            }
        });
        if let Err(not_done) = self.put(job) {
            return Some(Err(not_done));
        }
        match outcome.recv_timeout(within) {
            Ok(outcome) => Some(Ok(outcome)),
            Err(RecvTimeoutError::Disconnected) => Some(Err(NotDone::Panicked)),
            Err(RecvTimeoutError::Timeout) => {
                is_wanted.store(false, Ordering::Release);
                None
            }
        }
    }

    fn put(&self, job: Job<W>) -> Result<(), NotDone> {
        // Counted before it is put there, or a quick thread would count it down first.
        self.depth.inc();
        self.queue.put(job).map_err(|not_taken| {
            self.depth.dec();
            match not_taken {
                NotTaken::Full => NotDone::Full,
                NotTaken::Closed => NotDone::Ended,
            }
        })
    }
}

impl<W> WorkPool<W> {
    /// Lets the threads end and waits for them; `false` where one is still busy after this time.
    pub(crate) fn end(&mut self, within: Duration) -> bool {
        self.queue.close();
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

    /// How much waits for a thread.
    #[cfg(test)]
    pub(crate) fn depth(&self) -> i64 {
        self.depth.get()
    }
}

impl<W> Drop for WorkPool<W> {
    fn drop(&mut self) {
        if !self.end(END_TIME) {
            tracing::warn!(pool = self.name, "a thread does not end");
        }
    }
}

impl<W> fmt::Debug for WorkPool<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkPool")
            .field("name", &self.name)
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

fn work<W>(worker: &mut W, queue: &Queue<Job<W>>, depth: &Gauge) {
    while let Some(job) = queue.take() {
        depth.dec();
        job(worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_in_vain_has_nothing_done_later() {
        let pool = WorkPool::start("test", vec![|| 0_u32], 4, Gauge::default()).unwrap();
        let (go, hold) = channel::<()>();
        let (begins, begun) = channel();
        let late = thread::scope(|scope| {
            let busy = scope.spawn(|| {
                pool.wait(Duration::from_secs(60), move |_| {
                    begins.send(()).unwrap();
                    assert!(hold.recv().is_err());
                })
            });
            begun.recv().unwrap();
            let late = pool.wait(Duration::from_millis(20), |done| *done += 1);
            drop(go);
            busy.join().unwrap().unwrap().unwrap();
            late
        });
        assert_eq!(late, None);
        assert_eq!(pool.wait(Duration::from_secs(60), |done| *done), Some(Ok(0)));
        let panicked = pool.wait(Duration::from_secs(60), |_| assert_eq!(1, 2, "scripted"));
        assert_eq!(panicked, Some(Err(NotDone::Panicked)));
    }
}
