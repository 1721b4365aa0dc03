//! Decides whether an accepted authenticator is used for the first time, beyond what MIT's replay cache can say.
//!
//! MIT's `file2` cache, which saw the token first, forgets after one clock skew although the authenticator of a client whose
//! clock is ahead stays acceptable for up to two, and it does not wait for the disk, so that a power cut takes its newest
//! entries. The store closes both gaps.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kerbridge_gss::Enctype;
use kerbridge_wire::Reason;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::acceptor::Accepted;
use crate::negotiate::NegotiateToken;
use crate::store::{Consumed, ReplayTag, Store, StoreError, Swept};
use crate::time::{Clock, UnixTime};

/// For how long a tag is kept beyond the time in which its authenticator could be accepted, in seconds: the clock may be
/// set back a little.
const MARGIN: u64 = 60;
/// Between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The same while the store is ill: it is not asked anything else where a balancer has taken the broker out.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// What is asked before a token is minted for a ticket.
#[derive(Clone, Debug)]
pub struct ReplayGuard {
    store: Option<Arc<dyn Store>>,
    /// Tags are noted there.
    notes: bool,
    keep: u64,
    health: Arc<Health>,
}

/// What the store last could not do, and who asks it again.
#[derive(Debug, Default)]
struct Health {
    ill: Mutex<Option<StoreError>>,
    news: Notify,
}

/// A client whose authenticator was not used before. Only [`ReplayGuard::first_use`] makes one.
#[derive(Debug)]
pub struct FirstUse<'a> {
    accepted: &'a Accepted,
    token: &'a NegotiateToken,
}

/// Why there is no such client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFirst {
    /// It was used before.
    Again,
    /// That cannot be known now.
    Unknown(StoreError),
}

impl ReplayGuard {
    /// Asks this store, or nobody but MIT's cache where there is none. An authenticator is acceptable from one clock skew
    /// before its time to one after it, so its tag is kept for two, and a margin.
    pub fn new(store: Option<Arc<dyn Store>>, clock_skew_seconds: u32) -> Self {
        let keep = u64::from(clock_skew_seconds).saturating_mul(2).saturating_add(MARGIN);
        Self {
            store,
            notes: true,
            keep,
            health: Arc::default(),
        }
    }

    /// The same, but only MIT's cache decides; the store is there for others, and is looked after all the same.
    #[must_use]
    pub fn without_notes(self) -> Self {
        Self { notes: false, ..self }
    }

    /// Uses the authenticator of an accepted token up, until the deadline at the latest.
    pub async fn first_use<'a>(
        &self,
        accepted: &'a Accepted,
        token: &'a NegotiateToken,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<FirstUse<'a>, NotFirst> {
        if let Some(store) = self.store.as_ref().filter(|_| self.notes) {
            let tag = ReplayTag::of(token.authenticator());
            let answer = tokio::time::timeout_at(deadline, store.consume_once(tag, now.plus(self.keep)));
            match answer.await {
                Ok(Ok(Consumed::First)) => {}
                Ok(Ok(Consumed::Again)) => return Err(NotFirst::Again),
                Ok(Err(error)) => {
                    // More than it can do at once, or by a deadline that was nearly over, is no illness.
                    if matches!(error, StoreError::Broken(_) | StoreError::Closed) && self.note(Some(error.clone())) {
                        self.health.news.notify_one();
                    }
                    return Err(NotFirst::Unknown(error));
                }
                Err(_) => return Err(NotFirst::Unknown(StoreError::Late)),
            }
        }
        Ok(FirstUse { accepted, token })
    }

    /// Whether the store could do what it was last asked. It is asked something every half minute at least.
    pub fn health(&self) -> Result<(), StoreError> {
        let ill = self.health.ill.lock().unwrap_or_else(PoisonError::into_inner);
        ill.clone().map_or(Ok(()), Err)
    }

    /// `true` where that is news.
    fn note(&self, ill: Option<StoreError>) -> bool {
        let mut known = self.health.ill.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != ill;
        *known = ill;
        is_news
    }

    /// Lets the store forget what nobody needs any more, every half minute, for ever.
    pub async fn sweep(self, clock: Clock) {
        let Some(store) = &self.store else { return };
        loop {
            let pause = match store.sweep(clock.now()).await {
                Ok(Swept { tags, revocations }) => {
                    tracing::debug!(tags, revocations, "the store was swept");
                    self.note(None);
                    SWEEP_EVERY
                }
                // What it could not do now is done by the next one.
                Err(StoreError::Full) => SWEEP_AGAIN,
                Err(error) => {
                    if self.note(Some(error.clone())) {
                        tracing::warn!(%error, "the store was not swept");
                    }
                    SWEEP_AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.health.news.notified() => tokio::time::sleep(SWEEP_AGAIN).await,
            }
        }
    }
}

impl FirstUse<'_> {
    /// What the token proved.
    pub fn accepted(&self) -> &Accepted {
        self.accepted
    }

    /// The ciphertext of its ticket.
    pub fn ticket(&self) -> &[u8] {
        self.token.ticket()
    }

    /// What it was encrypted by: the acceptor has decrypted it by that.
    pub fn enctype(&self) -> Enctype {
        self.token.key().enctype
    }
}

impl NotFirst {
    /// The word of the closed list.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Again => Reason::Replay,
            Self::Unknown(_) => Reason::StoreUnavailable,
        }
    }
}

impl fmt::Display for NotFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again => f.write_str("the authenticator is in the store"),
            Self::Unknown(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use kerbridge_gss::Principal;

    use super::*;
    use crate::negotiate::tests::token;
    use crate::store::{Answer, Changes, Position, Revocation, Revoked, Target};

    /// Answers as told, and keeps what it was asked.
    #[derive(Debug)]
    struct Scripted {
        answer: Option<Result<Consumed, StoreError>>,
        asked: Mutex<Vec<(ReplayTag, UnixTime)>>,
        swept: Mutex<Result<Swept, StoreError>>,
    }

    impl Scripted {
        fn new(answer: Option<Result<Consumed, StoreError>>) -> Arc<Self> {
            Arc::new(Self {
                answer,
                asked: Mutex::default(),
                swept: Mutex::new(Ok(Swept::default())),
            })
        }
    }

    impl Store for Scripted {
        fn consume_once(&self, tag: ReplayTag, until: UnixTime) -> Answer<'_, Consumed> {
            self.asked.lock().unwrap().push((tag, until));
            match self.answer.clone() {
                Some(answer) => Box::pin(async { answer }),
                None => Box::pin(std::future::pending()),
            }
        }

        fn is_shared(&self) -> bool {
            false
        }

        fn revoke_all(&self, _: Vec<Revocation>, _: UnixTime) -> Answer<'_, Vec<Revoked>> {
            Box::pin(async { Err(StoreError::Closed) })
        }

        fn lift(&self, _: Target) -> Answer<'_, Option<Position>> {
            Box::pin(async { Err(StoreError::Closed) })
        }

        fn revoked_since(&self, _: u64, _: usize) -> Answer<'_, Changes> {
            Box::pin(async { Err(StoreError::Closed) })
        }

        fn tokens_end(&self, _: UnixTime) -> Answer<'_, UnixTime> {
            Box::pin(async { Err(StoreError::Closed) })
        }

        fn sweep(&self, _: UnixTime) -> Answer<'_, Swept> {
            let answer = self.swept.lock().unwrap().clone();
            Box::pin(async { answer })
        }
    }

    async fn ask(answer: Option<Result<Consumed, StoreError>>) -> (Option<NotFirst>, Vec<(ReplayTag, UnixTime)>) {
        let store = Scripted::new(answer);
        let guard = ReplayGuard::new(Some(Arc::<Scripted>::clone(&store)), 300);
        let (accepted, token) = (Accepted::for_test(Principal::parse("alice@A.TEST").unwrap()), token());
        let deadline = Instant::now().checked_add(Duration::from_millis(20)).unwrap();
        let outcome = guard
            .first_use(&accepted, &token, UnixTime::from_seconds(1000), deadline)
            .await;
        let asked = store.asked.lock().unwrap().clone();
        (outcome.err(), asked)
    }

    #[tokio::test]
    async fn only_a_first_use_is_one_and_whatever_the_store_cannot_say_is_our_fault() {
        assert_eq!(ask(Some(Ok(Consumed::First))).await.0, None);
        for (answer, reason) in [
            (Some(Ok(Consumed::Again)), Reason::Replay),
            (Some(Err(StoreError::Full)), Reason::StoreUnavailable),
            (Some(Err(StoreError::Late)), Reason::StoreUnavailable),
            (Some(Err(StoreError::Closed)), Reason::StoreUnavailable),
            (
                Some(Err(StoreError::Broken("no room".into()))),
                Reason::StoreUnavailable,
            ),
            (None, Reason::StoreUnavailable),
        ] {
            let refused = ask(answer.clone()).await.0.map(|error| error.reason());
            assert_eq!(refused, Some(reason), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn the_authenticator_is_noted_for_two_clock_skews_and_a_minute() {
        let (_, asked) = ask(Some(Ok(Consumed::First))).await;
        assert_eq!(asked, [(ReplayTag::of(b"authenticator"), UnixTime::from_seconds(1660))]);
    }

    fn broken() -> StoreError {
        StoreError::Broken("no room".into())
    }

    #[tokio::test]
    async fn a_store_that_breaks_is_ill_and_one_that_is_only_busy_is_not() {
        for (answer, health) in [
            (Some(Ok(Consumed::First)), Ok(())),
            (Some(Ok(Consumed::Again)), Ok(())),
            (Some(Err(StoreError::Full)), Ok(())),
            (Some(Err(StoreError::Late)), Ok(())),
            (None, Ok(())),
            (Some(Err(broken())), Err(broken())),
        ] {
            let guard = ReplayGuard::new(Some(Scripted::new(answer.clone())), 300);
            let (accepted, token) = (Accepted::for_test(Principal::parse("alice@A.TEST").unwrap()), token());
            let deadline = Instant::now().checked_add(Duration::from_millis(20)).unwrap();
            let now = UnixTime::from_seconds(1000);
            drop(guard.first_use(&accepted, &token, now, deadline).await);
            assert_eq!(guard.health(), health, "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_sweep_finds_an_illness_that_nobody_else_meets_and_its_end_within_a_second() {
        let store = Scripted::new(None);
        let guard = ReplayGuard::new(Some(Arc::<Scripted>::clone(&store)), 300);
        let clock = Clock::Fixed(UnixTime::from_seconds(1000));
        let sweep = tokio::spawn(guard.clone().sweep(clock));
        let within = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
        within(1).await;
        for illness in [broken(), StoreError::Late] {
            assert_eq!(guard.health(), Ok(()));
            *store.swept.lock().unwrap() = Err(illness.clone());
            within(31).await;
            assert_eq!(guard.health(), Err(illness));
            *store.swept.lock().unwrap() = Ok(Swept::default());
            within(2).await;
        }
        // An exchange met it first.
        guard.note(Some(broken()));
        guard.health.news.notify_one();
        within(2).await;
        assert_eq!(guard.health(), Ok(()));
        *store.swept.lock().unwrap() = Err(StoreError::Full);
        within(31).await;
        assert_eq!(guard.health(), Ok(()));
        sweep.abort();
    }
}
