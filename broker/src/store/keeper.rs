//! Lets one thread own the place where a store is kept, and everybody who waits share one durable commit.
//!
//! A commit costs work and a wait, for a disk or a database, however little is in it. So one thread does them: it takes all that
//! came while it waited, writes that in one transaction, and answers only when it is durable. Under load it lets a little time
//! pass between two, in which more comes; a few callers do not wait for that.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::job::{Applied, Batch, Done, Job};
use super::{Answer, Changes, Consumed, Position, ReplayTag, Revocation, Revoked, Store, StoreError, Swept, Target};
use crate::queue::{NotTaken, Queue};
use crate::time::UnixTime;

/// As many calls as share one commit.
const LARGEST_GROUP: usize = 1024;
/// From the beginning of one commit to that of the next, under load.
const APART: Duration = Duration::from_millis(2);
/// As many calls in one commit are load. Fewer would wait longer than they save.
const LOAD: usize = 8;
/// How long what is broken is left alone before it is opened again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// How long the thread has to end. One that hangs in a file system must not hang the exit.
const END_TIME: Duration = Duration::from_secs(2);

/// Where a store is kept.
pub(super) trait Place: fmt::Debug + Send + 'static {
    /// Whether several processes have it open.
    const IS_SHARED: bool;

    /// It, opened. What was opened is dropped after an error.
    type Opened: Send;

    /// Opens what was opened before; makes nothing anew.
    fn reopen(&mut self) -> Result<Self::Opened, StoreError>;

    /// Does all of a batch in one durable transaction, or nothing. After an error of a commit it may have been done.
    fn apply(&mut self, opened: &mut Self::Opened, batch: &Batch) -> Result<Applied, StoreError>;
}

/// A store that one thread keeps in a place.
pub struct KeptStore {
    pub(super) is_shared: bool,
    pub(super) queue: Arc<Queue<Job>>,
    pub(super) deadline: Duration,
    /// How many calls are under way.
    pub(super) waiting: Gauge,
    pub(super) thread: Option<JoinHandle<()>>,
    /// Closed when the thread has let go of the place; nothing is ever sent.
    pub(super) ended: Mutex<Receiver<Infallible>>,
}

impl fmt::Debug for KeptStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptStore")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl KeptStore {
    /// Starts the thread on what was opened. `queue` is how many calls may wait, `deadline` how long each may take; `commits` is
    /// told how many seconds each commit took.
    pub(super) fn start<P: Place>(
        place: P,
        opened: P::Opened,
        queue: usize,
        deadline: Duration,
        commits: Histogram,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(queue));
        let (alive, ended) = channel::<Infallible>();
        let keeper = Keeper {
            place,
            opened: Some(opened),
            broken: None,
            commits,
        };
        let jobs = Arc::clone(&queue);
        let thread = thread::Builder::new().name("store".into()).spawn(move || {
            keeper.work(&jobs);
            drop(alive);
        })?;
        Ok(Self {
            is_shared: P::IS_SHARED,
            queue,
            deadline,
            waiting: Gauge::default(),
            thread: Some(thread),
            ended: Mutex::new(ended),
        })
    }

    async fn ask<T>(&self, job: impl FnOnce(Done<T>) -> Job) -> Result<T, StoreError> {
        let _waiting = Waiting::one(&self.waiting);
        let (done, outcome) = oneshot::channel();
        self.queue.put(job(done)).map_err(|not_taken| match not_taken {
            NotTaken::Full => StoreError::Full,
            NotTaken::Closed => StoreError::Closed,
        })?;
        match tokio::time::timeout(self.deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::Late),
        }
    }
}

/// A call that is under way until this is dropped.
struct Waiting<'g>(&'g Gauge);

impl<'g> Waiting<'g> {
    fn one(gauge: &'g Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Store for KeptStore {
    fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn consume_once(&self, tag: ReplayTag, until: UnixTime) -> Answer<'_, Consumed> {
        Box::pin(self.ask(move |done| Job::Consume { tag, until, done }))
    }

    fn revoke_all(&self, revocations: Vec<Revocation>, now: UnixTime) -> Answer<'_, Vec<Revoked>> {
        Box::pin(self.ask(move |done| Job::Revoke { revocations, now, done }))
    }

    fn lift(&self, target: Target) -> Answer<'_, Option<Position>> {
        Box::pin(self.ask(move |done| Job::Lift { target, done }))
    }

    fn revoked_since(&self, version: u64, most: usize) -> Answer<'_, Changes> {
        Box::pin(self.ask(move |done| Job::RevokedSince { version, most, done }))
    }

    fn tokens_end(&self, at_least: UnixTime) -> Answer<'_, UnixTime> {
        Box::pin(self.ask(move |done| Job::TokensEnd { at_least, done }))
    }

    fn sweep(&self, now: UnixTime) -> Answer<'_, Swept> {
        Box::pin(self.ask(move |done| Job::Sweep { now, done }))
    }
}

impl Drop for KeptStore {
    fn drop(&mut self) {
        self.queue.close();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(END_TIME) {
            // It has only to return; a panic of its own was caught, or concerns nobody any more.
            Err(RecvTimeoutError::Disconnected) => drop(self.thread.take().map(JoinHandle::join)),
            Err(RecvTimeoutError::Timeout) => tracing::warn!("the thread that keeps the store does not end"),
        }
    }
}

/// What the thread owns.
pub(super) struct Keeper<P: Place> {
    pub(super) place: P,
    pub(super) opened: Option<P::Opened>,
    /// When it broke, and by what.
    pub(super) broken: Option<(Instant, StoreError)>,
    pub(super) commits: Histogram,
}

impl<P: Place> Keeper<P> {
    fn work(mut self, queue: &Queue<Job>) {
        while let Some(jobs) = queue.take_many(LARGEST_GROUP) {
            let (began, count) = (Instant::now(), jobs.len());
            self.group(jobs);
            if count >= LOAD {
                // Nobody wakes this thread meanwhile, and what comes shares one commit.
                thread::sleep(APART.saturating_sub(began.elapsed()));
            }
        }
    }

    /// Does them all, or none of them, and answers each.
    pub(super) fn group(&mut self, mut jobs: Vec<Job>) {
        // Nobody waits for these any more: their deadline has passed, and it was refused.
        jobs.retain(|job| !job.is_given_up());
        if jobs.is_empty() {
            return;
        }
        match self.apply(&Batch::of(&jobs)) {
            Ok(applied) => applied.answer(jobs.into_iter()),
            Err(error) => jobs.into_iter().for_each(|job| job.fail(error.clone())),
        }
    }

    fn apply(&mut self, batch: &Batch) -> Result<Applied, StoreError> {
        let began = Instant::now();
        let mut opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.reopen()?,
        };
        // What panics in the middle of a transaction has committed nothing; it is opened anew after it.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.place.apply(&mut opened, batch)))
            .unwrap_or_else(|_| Err(StoreError::Broken("a failure inside".into())));
        match outcome {
            Ok(applied) => {
                self.opened = Some(opened);
                if applied.is_committed {
                    self.commits.observe(began.elapsed().as_secs_f64());
                }
                Ok(applied)
            }
            Err(error) => Err(self.broke(error)),
        }
    }

    /// A disk that was full may have room by now, and a database be back.
    pub(super) fn reopen(&mut self) -> Result<P::Opened, StoreError> {
        if let Some((when, error)) = &self.broken
            && when.elapsed() < REOPEN_PAUSE
        {
            return Err(error.clone());
        }
        match self.place.reopen() {
            Ok(opened) => {
                self.broken = None;
                tracing::info!("the store can be used again");
                Ok(opened)
            }
            Err(error) => Err(self.broke(error)),
        }
    }

    fn broke(&mut self, error: StoreError) -> StoreError {
        if self.broken.is_none() {
            tracing::error!(%error, "no ticket is accepted, and nothing can be revoked");
        }
        self.broken = Some((Instant::now(), error.clone()));
        error
    }
}
