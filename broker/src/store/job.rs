//! Says what is asked of the thread that owns the file, gathers it into one transaction, and hands out what came of it.

use tokio::sync::oneshot;

use crate::store::{Changes, Consumed, Position, ReplayTag, Revocation, Revoked, StoreError, Swept, Target};
use crate::time::UnixTime;

/// Where an answer goes. Whoever asked may have gone meanwhile.
pub(super) type Done<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the thread.
#[derive(Debug)]
pub(super) enum Job {
    Consume {
        tag: ReplayTag,
        until: UnixTime,
        done: Done<Consumed>,
    },
    Revoke {
        revocations: Vec<Revocation>,
        now: UnixTime,
        done: Done<Vec<Revoked>>,
    },
    Lift {
        target: Target,
        done: Done<Option<Position>>,
    },
    RevokedSince {
        version: u64,
        most: usize,
        done: Done<Changes>,
    },
    TokensEnd {
        at_least: UnixTime,
        done: Done<UnixTime>,
    },
    Sweep {
        now: UnixTime,
        done: Done<Swept>,
    },
}

/// What one transaction is to do, and what is to be read after it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) consume: Vec<(ReplayTag, UnixTime)>,
    pub(super) change: Vec<Change>,
    pub(super) tokens_end: Option<UnixTime>,
    pub(super) sweep: Option<UnixTime>,
    /// After a version, so many at most.
    pub(super) read: Vec<(u64, usize)>,
}

/// A change of what is revoked.
#[derive(Debug)]
pub(super) enum Change {
    Revoke(Revocation, UnixTime),
    Lift(Target),
}

/// What came of a change.
#[derive(Debug)]
pub(super) enum Changed {
    Revoked(Revoked),
    /// Nothing where there was nothing to lift.
    Lifted(Option<Position>),
}

/// What came of a batch.
#[derive(Debug)]
pub(super) struct Applied {
    /// Something was written.
    pub(super) is_committed: bool,
    /// In the order of the batch.
    pub(super) consumed: Vec<Consumed>,
    /// In the order of the batch.
    pub(super) changed: Vec<Result<Changed, StoreError>>,
    pub(super) tokens_end: UnixTime,
    pub(super) swept: Swept,
    /// In the order of the batch.
    pub(super) read: Vec<Changes>,
}

impl Job {
    /// Whether nobody waits for it any more: the deadline has passed, and it was refused.
    pub(super) fn is_given_up(&self) -> bool {
        match self {
            Self::Consume { done, .. } => done.is_closed(),
            Self::Revoke { done, .. } => done.is_closed(),
            Self::Lift { done, .. } => done.is_closed(),
            Self::RevokedSince { done, .. } => done.is_closed(),
            Self::TokensEnd { done, .. } => done.is_closed(),
            Self::Sweep { done, .. } => done.is_closed(),
        }
    }

    /// Says that it could not be done.
    pub(super) fn fail(self, error: StoreError) {
        match self {
            Self::Consume { done, .. } => drop(done.send(Err(error))),
            Self::Revoke { done, .. } => drop(done.send(Err(error))),
            Self::Lift { done, .. } => drop(done.send(Err(error))),
            Self::RevokedSince { done, .. } => drop(done.send(Err(error))),
            Self::TokensEnd { done, .. } => drop(done.send(Err(error))),
            Self::Sweep { done, .. } => drop(done.send(Err(error))),
        }
    }
}

impl Batch {
    pub(super) fn of(jobs: &[Job]) -> Self {
        let mut batch = Self::default();
        for job in jobs {
            match job {
                Job::Consume { tag, until, .. } => batch.consume.push((*tag, *until)),
                Job::Revoke { revocations, now, .. } => {
                    let revoke = |revocation: &Revocation| Change::Revoke(revocation.clone(), *now);
                    batch.change.extend(revocations.iter().map(revoke));
                }
                Job::Lift { target, .. } => batch.change.push(Change::Lift(target.clone())),
                Job::RevokedSince { version, most, .. } => batch.read.push((*version, *most)),
                Job::TokensEnd { at_least, .. } => batch.tokens_end = batch.tokens_end.max(Some(*at_least)),
                Job::Sweep { now, .. } => batch.sweep = batch.sweep.max(Some(*now)),
            }
        }
        batch
    }
}

impl Applied {
    /// Answers each of the jobs that the batch was made of.
    pub(super) fn answer(self, jobs: impl Iterator<Item = Job>) {
        let Self {
            is_committed: _,
            consumed,
            changed,
            tokens_end,
            swept,
            read,
        } = self;
        let (mut consumed, mut changed, mut read) = (consumed.into_iter(), changed.into_iter(), read.into_iter());
        // There are as many as were asked for.
        let missing = || StoreError::Broken("an answer is missing".into());
        for job in jobs {
            match job {
                Job::Consume { done, .. } => drop(done.send(consumed.next().ok_or_else(missing))),
                Job::Revoke { revocations, done, .. } => {
                    // Each takes its own, whatever came of the one before it.
                    let all: Vec<_> = revocations
                        .iter()
                        .map(|_| match changed.next() {
                            Some(Ok(Changed::Revoked(revoked))) => Ok(revoked),
                            Some(Err(error)) => Err(error),
                            Some(Ok(Changed::Lifted(_))) | None => Err(missing()),
                        })
                        .collect();
                    drop(done.send(all.into_iter().collect()));
                }
                Job::Lift { done, .. } => drop(done.send(match changed.next() {
                    Some(Ok(Changed::Lifted(position))) => Ok(position),
                    Some(Err(error)) => Err(error),
                    Some(Ok(Changed::Revoked(_))) | None => Err(missing()),
                })),
                Job::RevokedSince { done, .. } => drop(done.send(read.next().ok_or_else(missing))),
                Job::TokensEnd { done, .. } => drop(done.send(Ok(tokens_end))),
                Job::Sweep { done, .. } => drop(done.send(Ok(swept))),
            }
        }
    }
}
