//! Hands jobs to threads in their order, and wakes a thread only where one waits: to wake one is a call to the system, and on
//! a busy machine none waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A bounded queue; whoever takes from it waits, whoever puts into it never does.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    added: Condvar,
    most: usize,
}

#[derive(Debug)]
struct State<T> {
    jobs: VecDeque<T>,
    /// Threads that wait.
    waiting: usize,
    /// Those of them that were woken and do not run yet.
    woken: usize,
    closed: bool,
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// As many wait as may.
    Full,
    /// The threads are to end.
    Closed,
}

impl<T> Queue<T> {
    /// For so many jobs at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                waiting: 0,
                woken: 0,
                closed: false,
            }),
            added: Condvar::new(),
            most,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job behind all others.
    pub(crate) fn put(&self, job: T) -> Result<(), NotTaken> {
        let mut state = self.state();
        if state.closed {
            return Err(NotTaken::Closed);
        }
        if state.jobs.len() >= self.most {
            return Err(NotTaken::Full);
        }
        state.jobs.push_back(job);
        if state.woken < state.waiting {
            state.woken = state.woken.saturating_add(1);
            drop(state);
            self.added.notify_one();
        }
        Ok(())
    }

    /// The oldest job, once there is one; none when the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.waiting = state.waiting.saturating_add(1);
            state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting = state.waiting.saturating_sub(1);
            // One that wakes by itself counts as one that was woken: at worst one is woken for nothing.
            state.woken = state.woken.saturating_sub(1);
        }
    }

    /// The oldest jobs, at most so many, once there is one; none when the queue is closed and empty.
    pub(crate) fn take_many(&self, most: usize) -> Option<Vec<T>> {
        let first = self.take()?;
        let mut state = self.state();
        let more = state.jobs.len().min(most.saturating_sub(1));
        Some(std::iter::once(first).chain(state.jobs.drain(..more)).collect())
    }

    /// Takes no more jobs; those that are there are done.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.added.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn jobs_are_taken_in_their_order_and_none_beyond_the_bound() {
        let queue = Queue::new(2);
        assert_eq!(queue.put(1), Ok(()));
        assert_eq!(queue.put(2), Ok(()));
        assert_eq!(queue.put(3), Err(NotTaken::Full));
        assert_eq!(queue.take(), Some(1));
        queue.close();
        assert_eq!(queue.put(4), Err(NotTaken::Closed));
        assert_eq!(queue.take(), Some(2));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn many_are_taken_in_their_order() {
        let queue = Queue::new(5);
        for job in 1..=5 {
            queue.put(job).unwrap();
        }
        assert_eq!(queue.take_many(3), Some(vec![1, 2, 3]));
        assert_eq!(queue.take_many(3), Some(vec![4, 5]));
        queue.close();
        assert_eq!(queue.take_many(3), None);
    }

    #[test]
    fn each_job_is_done_once_however_many_threads_put_and_take() {
        const JOBS: usize = 20_000;
        let queue = Arc::new(Queue::new(usize::MAX));
        let (done, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(job) = queue.take() {
                        sum.fetch_add(job, Ordering::SeqCst);
                        // Whoever does the last one lets all end; a thread that is not woken would wait for ever.
                        if done.fetch_add(1, Ordering::SeqCst) == 4 * JOBS - 1 {
                            queue.close();
                        }
                    }
                });
            }
            for _ in 0..4 {
                scope.spawn(|| (1..=JOBS).for_each(|job| queue.put(job).unwrap()));
            }
        });
        assert_eq!(sum.into_inner(), 4 * (JOBS * (JOBS + 1) / 2));
    }
}
