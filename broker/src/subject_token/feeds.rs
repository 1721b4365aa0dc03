//! Follows the signed revocations of other brokers, and judges their tokens by what is known of them: for a broker that has no
//! store to look into.
//!
//! Pages are taken, refused and kept by the gate's own rules ([`kerbridge_gate::feed`]), on one thread of their own, where the
//! tables stay. Who has a token judged asks that thread. Until a first snapshot was read to its end, and whenever what is known is
//! too old, nobody's token is taken (`feed_stale`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kerbridge_gate::UnixTime as GateTime;
use kerbridge_gate::feed::{Accepted, Feed, FeedError, Origin, PAGE_LIMIT, Progress, UnverifiedPage};
use kerbridge_gate::revocation::RevocationKeys;
use kerbridge_wire::Reason;
use kerbridge_wire::feed_query::FeedQuery;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::{Issuers, Verifier};
use crate::config::KeySource;
use crate::outgoing::{Missed, fetch};
use crate::revocation::TokenNames;
use crate::signature;
use crate::time::{Clock, UnixTime};
use crate::work_pool::{NotDone, WorkPool};

/// Tokens that wait to be judged.
const QUEUE: usize = 4096;
/// Between two looks while nothing was heard at all: its keys may come later, and nobody is served before.
const AT_FIRST: Duration = Duration::from_millis(250);

/// The feeds that are followed. Cheap to clone.
#[derive(Clone)]
pub struct Feeds(Option<Arc<Inner>>);

struct Inner {
    tables: WorkPool<Tables>,
    followed: Vec<Followed>,
}

/// A feed, and whether anything was heard of it.
struct Followed {
    source: KeySource,
    is_heard: AtomicBool,
}

/// What one thread knows.
struct Tables {
    verifier: Verifier,
    /// In the order of the sources; `None` for an issuer whose tokens are never taken.
    tables: Vec<Option<Table>>,
}

struct Table {
    place: usize,
    feed: Feed,
    /// What the delta that is being read builds on.
    base: Option<u64>,
    /// The last answer led nowhere: all of it is to be read anew.
    wants_snapshot: bool,
}

/// Why a look at a feed brought nothing.
enum NoNews {
    Missed(Missed),
    Refused(FeedError),
    NotDone(NotDone),
}

/// What a page has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// All that there is for now.
    All,
    /// There are more pages of it.
    Part,
}

impl Feeds {
    /// Follows these, and nothing where there are none.
    pub fn start(sources: Vec<KeySource>, issuers: Arc<Issuers>) -> std::io::Result<Self> {
        if sources.is_empty() {
            return Ok(Self(None));
        }
        let names: Vec<String> = sources.iter().map(|source| source.terms.issuer.clone()).collect();
        let tables = vec![move || Tables::new(&names, issuers)];
        let followed = sources.into_iter().map(|source| Followed {
            source,
            is_heard: AtomicBool::new(false),
        });
        Ok(Self(Some(Arc::new(Inner {
            tables: WorkPool::start("feeds", tables, QUEUE, Gauge::default())?,
            followed: followed.collect(),
        }))))
    }

    /// An issuer of whose revocations nothing was heard yet.
    pub fn unheard_of(&self) -> Option<&str> {
        let mut followed = self.0.iter().flat_map(|inner| &inner.followed);
        let unheard = followed.find(|one| !one.is_heard.load(Ordering::Acquire))?;
        Some(&unheard.source.terms.issuer)
    }

    /// Whether who has these names may be served, by what an issuer's feed says; where that is not followed, they may.
    pub async fn check(
        &self,
        issuer: &str,
        names: &TokenNames<'_>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<(), Reason> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let is_its = |one: &Followed| one.source.terms.issuer == issuer;
        let Some(at) = inner.followed.iter().position(is_its) else {
            return Ok(());
        };
        let TokenNames {
            token,
            session,
            subject,
            issued,
        } = *names;
        let keys = RevocationKeys::new(issuer, token, session, subject);
        // A token without is older than any revocation.
        let issued = issued.map_or(0, UnixTime::seconds);
        let judged = inner.tables.run(move |tables| tables.check(at, &keys, issued, now));
        match tokio::time::timeout_at(deadline, judged).await {
            Ok(Ok(judged)) => judged,
            Ok(Err(NotDone::Full)) | Err(_) => Err(Reason::BrokerOverloaded),
            Ok(Err(NotDone::Panicked | NotDone::Ended)) => Err(Reason::Internal),
        }
    }

    /// Asks for what is new, as often as each source says. It ends with the runtime.
    pub fn follow(&self, clock: Clock) {
        let Some(inner) = &self.0 else { return };
        for at in 0..inner.followed.len() {
            let inner = Arc::clone(inner);
            drop(tokio::spawn(async move { inner.follow(at, clock).await }));
        }
    }
}

impl Inner {
    async fn follow(&self, at: usize, clock: Clock) {
        let Some(followed) = self.followed.get(at) else { return };
        let every = Duration::from_secs(followed.source.terms.poll.seconds().into());
        let issuer = &followed.source.terms.issuer;
        let mut complaint = None;
        loop {
            let outcome = self.look(at, &followed.source, clock).await;
            let problem = outcome.as_ref().err().map(ToString::to_string);
            if problem != complaint {
                match &problem {
                    Some(problem) => tracing::warn!(issuer, problem, "the issuer's revocations are kept as they were"),
                    None => tracing::info!(issuer, "the issuer's revocations are known"),
                }
                complaint = problem;
            }
            match outcome {
                // The rest of it is there already.
                Ok(Taken::Part) => continue,
                Ok(Taken::All) => followed.is_heard.store(true, Ordering::Release),
                Err(_) => {}
            }
            let is_heard = followed.is_heard.load(Ordering::Acquire);
            tokio::time::sleep(if is_heard { every } else { every.min(AT_FIRST) }).await;
        }
    }

    /// Asks one question.
    async fn look(&self, at: usize, source: &KeySource, clock: Clock) -> Result<Taken, NoNews> {
        let question = self.tables.run(move |tables| tables.question(at)).await?;
        let page = fetch(&source.place, |path| question.target(path), PAGE_LIMIT).await?;
        let now = clock.now();
        let taken = self.tables.run(move |tables| tables.take(at, page, now)).await?;
        taken.map_err(NoNews::Refused)
    }
}

impl Tables {
    fn new(issuers: &[String], known: Arc<Issuers>) -> Self {
        let verifier = Verifier::new(known);
        let tables = issuers.iter().map(|issuer| {
            let (place, feed) = verifier.feed(issuer)?;
            Some(Table {
                place,
                feed,
                base: None,
                wants_snapshot: false,
            })
        });
        Self {
            tables: tables.collect(),
            verifier,
        }
    }

    fn question(&self, at: usize) -> FeedQuery {
        let table = self.tables.get(at).and_then(Option::as_ref);
        table.map_or(FeedQuery::Snapshot, Table::question)
    }

    fn take(&mut self, at: usize, page: Vec<u8>, now: UnixTime) -> Result<Taken, FeedError> {
        let no_keys = FeedError::Signature(Reason::KeysUnavailable);
        let (Some(table), Some(now)) = (
            self.tables.get_mut(at).and_then(Option::as_mut),
            GateTime::from_seconds(now.seconds()),
        ) else {
            return Err(no_keys);
        };
        let keys = self.verifier.keys(table.place, now).ok_or(no_keys)?;
        let page = UnverifiedPage::read(page, keys)?;
        let is_good = signature::is_good(page.signature());
        table.take(page, is_good, now)
    }

    fn check(&self, at: usize, keys: &RevocationKeys, issued: u64, now: UnixTime) -> Result<(), Reason> {
        let known = self.tables.get(at).and_then(Option::as_ref);
        let known = known.and_then(|table| table.feed.known()).ok_or(Reason::FeedStale)?;
        let time = |seconds| GateTime::from_seconds(seconds).ok_or(Reason::Internal);
        known.check(keys, time(issued)?, time(now.seconds())?)
    }
}

impl Table {
    fn question(&self) -> FeedQuery {
        match (self.feed.wants(), self.feed.position()) {
            _ if self.wants_snapshot => FeedQuery::Snapshot,
            (Some((position, page)), _) => FeedQuery::Page {
                epoch: position.epoch,
                version: position.version,
                base: self.base,
                page,
                at: self.feed.began(),
            },
            (None, Some(position)) => FeedQuery::Since {
                epoch: position.epoch,
                version: position.version,
            },
            (None, None) => FeedQuery::Snapshot,
        }
    }

    fn take(&mut self, page: UnverifiedPage, is_good: bool, now: GateTime) -> Result<Taken, FeedError> {
        self.wants_snapshot = false;
        let taken = self.read(page, is_good, now);
        // Where the answers lead nowhere, all of it leads somewhere; an older copy of the store does not.
        self.wants_snapshot = taken.is_err_and(|error| {
            !matches!(
                error,
                FeedError::GoesBack | FeedError::FromTheFuture | FeedError::OtherIssuer
            )
        });
        taken
    }

    fn read(&mut self, page: UnverifiedPage, is_good: bool, now: GateTime) -> Result<Taken, FeedError> {
        let page = page.resume(is_good)?;
        let base = page.claims().base;
        if self.feed.accept(page, Origin::Fetched, now)? == Accepted::Reading {
            self.base = base;
        }
        // A page has a bound. Where there is nothing to read, a step forgets what nobody needs any more.
        while self.feed.step(now)? == Progress::Working {}
        Ok(if self.feed.wants().is_some() {
            Taken::Part
        } else {
            Taken::All
        })
    }
}

impl From<Missed> for NoNews {
    fn from(missed: Missed) -> Self {
        Self::Missed(missed)
    }
}

impl From<NotDone> for NoNews {
    fn from(not_done: NotDone) -> Self {
        Self::NotDone(not_done)
    }
}

impl fmt::Display for NoNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missed(missed) => missed.fmt(f),
            Self::Refused(error) => error.fmt(f),
            Self::NotDone(not_done) => not_done.fmt(f),
        }
    }
}

impl fmt::Debug for Feeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let followed = self.0.iter().flat_map(|inner| &inner.followed);
        f.debug_list()
            .entries(followed.map(|one| &one.source.terms.issuer))
            .finish()
    }
}

#[cfg(test)]
mod tests;
