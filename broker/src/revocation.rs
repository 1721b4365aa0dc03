//! Decides what is revoked: takes revocations into the store, keeps what stands there in memory for those who mint and
//! verify, and hands it to the filters as signed pages.
//!
//! What is in memory is read anew from the store twice a second, since another broker may have revoked, and before anything is
//! given that such a revocation would have refused ([`Revocations::catch_up`]). Where it was not read for 30 s, nobody can say
//! any more what is revoked: filters get no page, and no question about a token has an answer.

mod order;
mod pages;
mod unrevoked;
mod view;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use axum::body::Bytes;
use kerbridge_wire::Reason;
use kerbridge_wire::feed_query::FeedQuery;
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use order::{By, Order, Right, Until};
pub use unrevoked::Unrevoked;

use self::pages::Pages;
use self::view::View;
use crate::keyring::{NotSigned, SigningKey};
use crate::metrics::RevocationMetrics;
use crate::policy::Grant;
use crate::store::{Kind, Position, Revoked, Store, StoreError, Target};
use crate::time::{Clock, UnixTime};

/// Between two looks into the store.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two sweeps of what is in memory.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long what is in memory counts without another look into the store.
const TRUSTED_FOR: Duration = Duration::from_secs(30);
/// How long a question of the feed waits for a look into the store: filters wait two seconds for the answer.
const CATCH_UP_TIME: Duration = Duration::from_millis(300);
/// Seconds by which tokens are taken to live longer than the policy says: one is issued after its session's revocation, and
/// clocks may differ.
pub const LIFE_MARGIN: u64 = 120;
/// Revocations that are read from the store at once.
const READ_AT_ONCE: usize = 16 * 1024;

/// The revocations of this broker's issuer.
pub struct Revocations {
    store: Arc<dyn Store>,
    issuer: String,
    /// Longest life of a token, in seconds.
    longest_life: u64,
    view: Arc<RwLock<View>>,
    /// The store has something of this process's own that could not be read back.
    is_behind: AtomicBool,
    /// One reads at a time, so that none puts something older in place of what another has read.
    reading: Mutex<()>,
    pages: Pages,
    metrics: RevocationMetrics,
}

/// The claims of a token of ours by which it can be revoked.
#[derive(Clone, Copy, Debug)]
pub struct TokenNames<'a> {
    /// Its `jti`.
    pub token: Option<&'a str>,
    /// Its `sid`.
    pub session: Option<&'a str>,
    /// Its `sub`.
    pub subject: &'a str,
    /// Its `iat`; a token without is revoked by whatever names it.
    pub issued: Option<UnixTime>,
}

/// Why nothing is minted, or no token taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationError {
    /// It is revoked, by a revocation of this kind.
    Revoked(Kind),
    /// The store could not be read when it had to be, or not for too long.
    Unknown,
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    /// Nothing was read from the store yet.
    NotRead,
    /// The store was not read for too long: another broker may know more.
    Old,
    /// It cannot be signed.
    Signature(NotSigned),
    /// The thread that was to make it is gone.
    Gone,
}

impl RevocationError {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Revoked(_) => Reason::Revoked,
            Self::Unknown => Reason::StoreUnavailable,
        }
    }
}

impl fmt::Display for RevocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked(Kind::Token) => f.write_str("the token was revoked"),
            Self::Revoked(Kind::Session) => f.write_str("the session was revoked, and its ticket with it"),
            Self::Revoked(Kind::Subject) => f.write_str("the subject was revoked"),
            Self::Unknown => f.write_str("the store could not be read, so that nobody knows what is revoked"),
        }
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRead => f.write_str("nothing was read from the store yet"),
            Self::Old => f.write_str("the store was not read for too long: what is known of revocations is old"),
            Self::Signature(error) => error.fmt(f),
            Self::Gone => f.write_str("the thread that was to make the page is gone"),
        }
    }
}

impl std::error::Error for RevocationError {}
impl std::error::Error for PageError {}

impl Revocations {
    /// Those of an issuer in a store, of which nothing is read yet. `longest_life` of its tokens is in seconds.
    pub fn new(store: Arc<dyn Store>, issuer: &str, longest_life: u64, metrics: RevocationMetrics) -> Self {
        Self {
            store,
            issuer: issuer.to_owned(),
            longest_life: longest_life.saturating_add(LIFE_MARGIN),
            view: Arc::default(),
            is_behind: AtomicBool::new(false),
            reading: Mutex::default(),
            pages: Pages::new(issuer),
            metrics,
        }
    }

    /// Reads the store, and notes there how long tokens live that are minted from now on. To be done before anything is
    /// minted.
    pub async fn load(&self, clock: Clock) -> Result<(), StoreError> {
        self.tokens_end(clock.now()).await?;
        self.refresh(clock).await
    }

    /// Knows from here on whatever any broker had answered to be revoked before this was called. Whoever calls it at the same
    /// time shares one look into the store. Where that fails, or has not come to its end by the deadline, nothing may be given.
    pub async fn catch_up(&self, deadline: Instant) -> Result<(), RevocationError> {
        // Nobody else changes the store, and what is changed here is read before it is answered.
        if !self.store.is_shared() && !self.is_behind.load(Ordering::Acquire) {
            return Ok(());
        }
        let called = Instant::now();
        let caught_up = async {
            let _one = self.reading.lock().await;
            // Somebody who waited with this one has begun to look since.
            if self.view().read_at().is_some_and(|at| at >= called) {
                return Ok(());
            }
            self.read(None).await
        };
        match tokio::time::timeout_at(deadline, caught_up).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(RevocationError::Unknown),
        }
    }

    /// Reads what other brokers revoked and forgets what nobody needs any more, for ever.
    pub async fn keep(&self, clock: Clock) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        let mut failure = None;
        loop {
            ticks.tick().await;
            let outcome = self.refresh(clock).await.err();
            if outcome != failure {
                match &outcome {
                    Some(error) => {
                        tracing::warn!(%error, "the store is not read: what filters know of revocations grows old")
                    }
                    None => tracing::info!("the store is read again"),
                }
                failure = outcome;
            }
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                self.sweep(clock.now()).await;
            }
        }
    }

    /// Forgets what nobody needs any more, and notes that tokens are minted still.
    async fn sweep(&self, now: UnixTime) {
        self.view.write().unwrap_or_else(PoisonError::into_inner).sweep(now);
        if let Err(error) = self.tokens_end(now).await {
            tracing::warn!(%error, "how long tokens live was not noted in the store");
        }
    }

    /// Until when any token may be valid that was minted so far.
    pub async fn tokens_end(&self, now: UnixTime) -> Result<UnixTime, StoreError> {
        self.store.tokens_end(now.plus(self.longest_life)).await
    }

    /// Reads on in the store from where this stands, and can say from then on what was all that it had, and when.
    async fn refresh(&self, clock: Clock) -> Result<(), StoreError> {
        let _one = self.reading.lock().await;
        self.read(Some(clock.now())).await
    }

    /// Reads on in the store; `as_of` is now, where somebody knows. One at a time.
    async fn read(&self, as_of: Option<UnixTime>) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut from = self.view().newest();
        let mut read = Vec::new();
        let mut continues_from = None;
        let newest = loop {
            let at = read
                .last()
                .map_or(from.map_or(0, |from| from.version), |(version, _)| *version);
            let changes = self.store.revoked_since(at, READ_AT_ONCE).await?;
            let goes_on = from.is_none_or(|from| {
                from.epoch == changes.newest.epoch
                    && from.version <= changes.newest.version
                    && from.version >= changes.continues_from
            });
            // Something taken back meanwhile, or another store, makes worthless what was read before it.
            let is_same = continues_from.is_none_or(|known| known == (changes.newest.epoch, changes.continues_from));
            if !goes_on || !is_same {
                (from, continues_from) = (None, None);
                if at != 0 {
                    read.clear();
                    continue;
                }
            }
            continues_from = Some((changes.newest.epoch, changes.continues_from));
            let count = changes.recorded.len();
            read.extend(
                changes
                    .recorded
                    .iter()
                    .map(|one| (one.version, one.revocation.entry(&self.issuer))),
            );
            if count < READ_AT_ONCE {
                break changes.newest;
            }
        };
        let oldest = continues_from.map_or(0, |(_, version)| version);
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if from.is_none() {
            view.begin_anew();
        }
        view.take(read, newest, oldest, as_of, began);
        self.metrics.stand(newest, view.len(), view.as_of());
        self.is_behind.store(false, Ordering::Release);
        Ok(())
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Revokes. Once this is answered it is durable, nothing is minted against it, and the next page of the feed has it.
    pub async fn revoke(&self, order: Order, by: &By<'_>, clock: Clock) -> Result<Revoked, StoreError> {
        let mut revoked = self.revoke_all(vec![(order, *by)], clock).await?;
        revoked
            .pop()
            .ok_or_else(|| StoreError::Broken("an answer is missing".into()))
    }

    /// The same of several orders, each with whoever wants it, in one commit.
    pub async fn revoke_all(&self, orders: Vec<(Order, By<'_>)>, clock: Clock) -> Result<Vec<Revoked>, StoreError> {
        let now = clock.now();
        let needs_end = orders.iter().any(|(order, _)| order.until() == Until::TokensEnd);
        let tokens_end = if needs_end {
            Some(self.tokens_end(now).await?)
        } else {
            None
        };
        let (orders, by): (Vec<Order>, Vec<By<'_>>) = orders.into_iter().unzip();
        let orders = orders.into_iter().map(|order| order.into_revocation(tokens_end));
        let revoked = self.store.revoke_all(orders.collect(), now).await?;
        for (revoked, by) in revoked.iter().zip(&by) {
            self.metrics.revoked(revoked.revocation.target.kind());
            order::log_revoked(revoked, by);
        }
        self.noted(clock).await;
        Ok(revoked)
    }

    /// Takes a revocation back; `None` where there is none of this target. Tokens that live still are good again.
    pub async fn lift(&self, target: &Target, by: &By<'_>, clock: Clock) -> Result<Option<Position>, StoreError> {
        let position = self.store.lift(target.clone()).await?;
        if let Some(position) = position {
            order::log_lifted(target, position, by);
            self.noted(clock).await;
        }
        Ok(position)
    }

    /// The store has it, so that it has happened; what is in memory has it before anything is given that it is about.
    async fn noted(&self, clock: Clock) {
        if let Err(error) = self.refresh(clock).await {
            self.is_behind.store(true, Ordering::Release);
            tracing::warn!(%error, "a revocation is in the store, and is read from there later");
        }
    }

    /// Whether a token of ours, which was verified, may still be taken.
    pub fn check(&self, token: &TokenNames<'_>, now: UnixTime) -> Result<(), RevocationError> {
        let view = self.trusted()?;
        let named = [
            (Kind::Token, token.token),
            (Kind::Session, token.session),
            (Kind::Subject, Some(token.subject)),
        ];
        for (kind, value) in named {
            let entry = value
                .and_then(|value| Target::known(kind, value).ok())
                .and_then(|target| view.find(&target.key(&self.issuer), now));
            if entry.is_some_and(|found| found.covers(token.issued)) {
                return Err(RevocationError::Revoked(kind));
            }
        }
        Ok(())
    }

    /// Whether a token may be minted for a grant, and with which `iat`.
    pub fn admit<'g>(&self, grant: &'g Grant, now: UnixTime) -> Result<Unrevoked<'g>, RevocationError> {
        Unrevoked::of(grant, &*self.trusted()?, &self.issuer, now)
    }

    fn trusted(&self) -> Result<RwLockReadGuard<'_, View>, RevocationError> {
        let view = self.view();
        match view.read_at() {
            Some(at) if at.elapsed() <= TRUSTED_FOR => Ok(view),
            Some(_) | None => Err(RevocationError::Unknown),
        }
    }

    /// A signed page of the feed: what is asked for, or what the asker must begin with instead.
    pub async fn page(&self, query: FeedQuery, key: &SigningKey) -> Result<Bytes, PageError> {
        if self.is_ahead(query) {
            // Another broker was asked before. Where this one cannot catch up, it tells what it knows.
            let until = Instant::now().checked_add(CATCH_UP_TIME).unwrap_or_else(Instant::now);
            if self.catch_up(until).await.is_err() {
                tracing::debug!("a filter knows more of revocations than could be read here");
            }
        }
        let was_read = self.view().newest().is_some();
        if was_read && self.ready().is_err() {
            return Err(PageError::Old);
        }
        self.pages.page(query, &self.view, key).await
    }

    /// Whether what was read is young enough to answer by.
    pub fn ready(&self) -> Result<(), RevocationError> {
        self.trusted().map(drop)
    }

    /// Whether the asker knows more than was read here.
    fn is_ahead(&self, query: FeedQuery) -> bool {
        let (epoch, version) = match query {
            FeedQuery::Snapshot => return false,
            FeedQuery::Since { epoch, version } | FeedQuery::Page { epoch, version, .. } => (epoch, version),
        };
        let newest = self.view().newest();
        newest.is_some_and(|newest| newest.epoch != epoch || newest.version < version)
    }

    /// Where it stands, how many there are, and when that was so; `None` before anything was read.
    pub fn stand(&self) -> Option<(Position, usize, UnixTime)> {
        let view = self.view();
        Some((view.newest()?, view.len(), view.as_of()))
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("store", &self.store)
            .field("newest", &self.view().newest())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
