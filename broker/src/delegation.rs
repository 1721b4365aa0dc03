//! Gets tickets in users' names: asks the KDC once for many who wait, keeps what it gave as long as that may be, and makes one
//! token for each who asks.
//!
//! Two kinds of threads. Those that ask the KDC may hang with it, and are few; those that make tokens of tickets that are there,
//! and verify the tokens of those who ask, do not ask it. A KDC that does not answer therefore costs those who need it, and
//! nobody else (module `asking`).
//!
//! What is kept belongs to one policy, and is known by user (with the realm) and target; a user who is known by another name
//! than their principal is resolved to it first, in a table of its own. Nothing that is kept leaves: [`kdc::Acting`] has no way
//! out but one token at a time.

mod answer;
mod asking;
mod flights;
pub mod kdc;
mod log_in;
mod service_ticket;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use kerbridge_gss::{DelegatedUser, DelegationTarget, Principal};
use kerbridge_wire::Reason;
use kerbridge_wire::feed::plain_subject;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use log_in::LogIn;
pub use service_ticket::ServiceTicket;

use self::answer::Request;
use self::asking::Asking;
use self::flights::Flights;
use self::kdc::{Kdc, NoTicket};
use self::service_ticket::{Acquired, token_for};
use crate::channel_bindings::CertificateFile;
use crate::config::{DelegationLimits, KeySource, TargetBinding};
use crate::metrics::DelegationMetrics;
use crate::policy::{ByKdc, DelegationGrant, NotTraced, may_be_one_account, same_but_for_case};
use crate::rate_limit::RateLimit;
use crate::revocation::TokenNames;
use crate::subject_token::{Feeds, Issuers, VerifiedToken, Verifier};
use crate::time::{Clock, UnixTime};
use crate::work_pool::WorkPool;

/// How long a refusal of the KDC is not asked for again.
const REFUSALS_KEPT: Duration = Duration::from_secs(5);
/// How long a name is taken to mean the same principal, in seconds.
const NAMES_KEPT: u64 = 300;
/// Between two looks at what may be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Gets tickets in users' names. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Delegation(Arc<Inner>);

struct Inner {
    /// Verify tokens and make tokens: never wait for anybody.
    quick: WorkPool<Verifier>,
    /// Ask the KDC.
    kdc: WorkPool<Box<dyn Kdc>>,
    tickets: Flights<TicketKey, Acquired, NoTicket>,
    names: Flights<DelegatedUser, Resolved, NoTicket>,
    asking: Asking,
    issuers: Arc<Issuers>,
    feeds: Feeds,
    bindings: HashMap<String, Arc<CertificateFile>>,
    /// This broker's own principals, which are neither user nor target.
    own: Vec<Principal>,
    /// Other brokers', which are no targets either.
    refused_targets: Vec<Principal>,
    by_user: RateLimit<u64>,
    by_target: RateLimit<u64>,
    /// Seconds before a ticket's end from which on no more tokens are made of it: the library would ask for another, which takes
    /// a KDC, and a service whose clock is ahead would refuse it.
    margin: u64,
    keys: RandomState,
    deadline: Duration,
    metrics: DelegationMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TicketKey {
    user: Principal,
    target: DelegationTarget,
}

#[derive(Debug)]
struct Resolved {
    principal: Principal,
    until: UnixTime,
}

/// What a delegation is made of.
pub struct Parts {
    /// Make what asks the KDC, each on its own thread.
    pub kdcs: Vec<Box<dyn FnOnce() -> Box<dyn Kdc> + Send>>,
    /// Threads that verify and make tokens.
    pub threads: usize,
    /// Whose tokens are taken.
    pub issuers: Arc<Issuers>,
    /// Whose revocations are followed, and where they are.
    pub feeds: Vec<KeySource>,
    /// How much at once.
    pub limits: DelegationLimits,
    /// The realm of the account that acts.
    pub home: String,
    /// This broker's own principals.
    pub own: Vec<Principal>,
    /// What is never acted towards beside them.
    pub refused_targets: Vec<Principal>,
    /// The certificates that tickets are bound to.
    pub bindings: Vec<TargetBinding>,
    /// How far clocks may differ, in seconds.
    pub clock_skew: u64,
    /// How long one request may take.
    pub deadline: Duration,
    /// What is counted.
    pub metrics: DelegationMetrics,
}

impl Delegation {
    /// Starts the threads.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let Parts {
            kdcs,
            threads,
            issuers,
            feeds,
            limits,
            home,
            own,
            refused_targets,
            bindings,
            clock_skew,
            deadline,
            metrics,
        } = parts;
        let asking = Asking::new(&home, deadline, kdcs.len(), limits.queue);
        let verifiers = (0..threads).map(|_| {
            let issuers = Arc::clone(&issuers);
            move || Verifier::new(issuers)
        });
        let bindings = bindings
            .into_iter()
            .map(|TargetBinding { target, file }| (target, file));
        Ok(Self(Arc::new(Inner {
            quick: WorkPool::start("token", verifiers.collect(), limits.queue, metrics.token_queue())?,
            kdc: WorkPool::start("kdc", kdcs, limits.queue, metrics.kdc_queue())?,
            tickets: Flights::new(limits.entries, REFUSALS_KEPT),
            names: Flights::new(limits.entries, REFUSALS_KEPT),
            asking,
            feeds: Feeds::start(feeds, Arc::clone(&issuers))?,
            issuers,
            bindings: bindings.collect(),
            own,
            refused_targets,
            by_user: RateLimit::new(limits.user_per_minute),
            by_target: RateLimit::new(limits.target_per_minute),
            margin: clock_skew.saturating_add(deadline.as_secs()).saturating_add(1),
            keys: RandomState::new(),
            deadline,
            metrics,
        })))
    }

    /// The name of this broker's own that may be the same account's as a service's: Active Directory folds case, and has more names
    /// for an account.
    pub fn own_name_of(&self, service: &Principal) -> Option<&Principal> {
        self.0.own.iter().find(|own| may_be_one_account(own, service))
    }

    /// The one of `refused_targets` that may be the same account's.
    pub fn refused_name_of(&self, service: &Principal) -> Option<&Principal> {
        self.0
            .refused_targets
            .iter()
            .find(|other| may_be_one_account(other, service))
    }

    /// Whether a good token could be verified, as far as that is known without one.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(issuer) = self.0.issuers.unheard_of() {
            return Err(format!("the keys of {issuer} have not been there yet"));
        }
        match self.0.feeds.unheard_of() {
            Some(issuer) => Err(format!("the revocations of {issuer} have not been there yet")),
            None => Ok(()),
        }
    }

    /// What other issuers have revoked, as far as it is followed.
    pub fn feeds(&self) -> Feeds {
        self.0.feeds.clone()
    }

    /// Follows the feeds, where there are some. It ends with the runtime.
    pub fn follow(&self, clock: Clock) {
        self.0.feeds.follow(clock);
    }

    /// How long one request may take.
    pub fn deadline(&self) -> Duration {
        self.0.deadline
    }

    /// Verifies somebody's token. Whether it was revoked is asked after it.
    pub async fn verify(
        &self,
        token: Zeroizing<String>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<VerifiedToken, NoTicket> {
        let verified = self
            .quickly(deadline, move |verifier| verifier.verify(token.as_bytes(), now))
            .await?;
        verified.map_err(|reason| NoTicket::new(reason, "the token is refused"))
    }

    /// Whether a verified token may be taken, by what its issuer's feed says, where that is followed.
    pub async fn check_feed(&self, token: &VerifiedToken, now: UnixTime, deadline: Instant) -> Result<(), NoTicket> {
        let names = token.feed_names();
        let judged = self.0.feeds.check(token.issuer(), &names, now, deadline).await;
        judged.map_err(|reason| NoTicket::new(reason, "by what is known of its issuer's feed"))
    }

    /// Whether who has these names in tokens of ours may be served, by what the broker that mints them says, where its feed is
    /// followed.
    pub async fn check_names(&self, names: &TokenNames<'_>, now: UnixTime, deadline: Instant) -> Result<(), NoTicket> {
        let Some(issuer) = self.0.issuers.our_issuer() else {
            return Ok(());
        };
        let judged = self.0.feeds.check(issuer, names, now, deadline).await;
        judged.map_err(|reason| NoTicket::new(reason, "by what is known of our own issuer's feed"))
    }

    /// The principal that the KDC knows by a name, for whom there may be no more questions than tickets.
    pub async fn resolve(&self, name: &ByKdc, now: UnixTime, deadline: Instant) -> Result<Principal, NoTicket> {
        let user = name.user().clone();
        let (text, realm) = match &user {
            DelegatedUser::Principal(principal) => (principal.as_str(), principal.realm()),
            DelegatedUser::Enterprise(name) => (name.name(), name.realm()),
        };
        let (who, realm) = (self.who(text), realm.to_owned());
        self.may_have_more(&self.0.by_user, who, "the user")?;
        self.0.by_user.spend(who, Instant::now());
        let request = Request {
            table: |inner| &inner.names,
            key: user.clone(),
            good: |known: &Resolved| now < known.until,
            wanted: now.plus(NAMES_KEPT),
            realm,
            deadline,
        };
        let ask = move |kdc: &mut dyn Kdc| {
            let principal = kdc.resolve(&user)?;
            let until = now.plus(NAMES_KEPT);
            Ok(Resolved { principal, until })
        };
        let (resolved, _) = self.answer(request, ask).await?;
        name.resolved(&resolved.principal)
            .map_err(|not_traced: NotTraced| NoTicket::new(not_traced.reason(), not_traced.to_string()))
    }

    /// A ticket for what was granted, to somebody whose token ends at `token_end`.
    pub async fn ticket(
        &self,
        grant: &DelegationGrant,
        token_end: UnixTime,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<ServiceTicket, NoTicket> {
        let (user, target) = (grant.user().clone(), grant.target().clone());
        self.may_act(&user, &target)?;
        let key = TicketKey {
            user: user.clone(),
            target: target.clone(),
        };
        let request = Request {
            table: |inner| &inner.tickets,
            key: key.clone(),
            good: |known: &Acquired| known.is_good(now, grant.max_life(), self.0.margin),
            wanted: token_end,
            realm: user.realm().to_owned(),
            deadline,
        };
        let asked = target.clone();
        let ask = move |kdc: &mut dyn Kdc| kdc.act(&user, &asked).map(|acting| Acquired { acting, since: now });
        let (acquired, found) = self.answer(request, ask).await?;
        let until = acquired.until(grant.max_life()).min(token_end);
        let binding = self.0.bindings.get(&target.to_string()).cloned();
        let ticket = Arc::clone(&acquired);
        let made = self
            .quickly(deadline, move |_| {
                let mut bindings = Vec::new();
                if let Some(file) = binding {
                    // The one that the file has now comes first.
                    file.bindings(now, &mut bindings);
                }
                token_for(&ticket.acting, &target, bindings.first())
            })
            .await?;
        let (token, ticket_end) = made.inspect_err(|_| self.0.tickets.forget(&key, &acquired))?;
        let expires = until.min(ticket_end);
        if now.until(expires) == 0 {
            self.0.tickets.forget(&key, &acquired);
            return Err(NoTicket::new(Reason::Internal, "the KDC gave a ticket that has ended"));
        }
        Ok(ServiceTicket { token, expires, found })
    }

    /// Forgets from time to time what nobody can use any more. It ends with the runtime.
    pub async fn sweep(self, clock: Clock) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.sweep_once(clock.now());
        }
    }

    fn sweep_once(&self, now: UnixTime) {
        let moment = Instant::now();
        let Inner {
            tickets,
            names,
            metrics,
            ..
        } = &*self.0;
        metrics.keeps(tickets.sweep(|known| now < known.acting.ticket_end(), now, moment));
        names.sweep(|known| now < known.until, now, moment);
    }

    /// Neither for nor towards ourselves, and not more than may be.
    fn may_act(&self, user: &Principal, target: &DelegationTarget) -> Result<(), NoTicket> {
        let service = target.service().as_principal();
        let is_user = |own: &&Principal| same_but_for_case(own, user);
        let own = self.own_name_of(service).or_else(|| self.0.own.iter().find(is_user));
        if let Some(own) = own {
            return Err(NoTicket::new(
                Reason::DelegationDenied,
                format!("{own} is this broker itself"),
            ));
        }
        if let Some(other) = self.refused_name_of(service) {
            return Err(NoTicket::new(
                Reason::DelegationDenied,
                format!("{other} stands in delegation.refused_targets"),
            ));
        }
        let (user, target) = (self.who(user.as_str()), self.0.keys.hash_one(target));
        self.may_have_more(&self.0.by_user, user, "the user")?;
        self.may_have_more(&self.0.by_target, target, "the target")?;
        let now = Instant::now();
        self.0.by_user.spend(user, now);
        self.0.by_target.spend(target, now);
        Ok(())
    }

    /// Whose limit it is. A domain gives one person tickets in every case of their name, and they share one.
    fn who(&self, user: &str) -> u64 {
        self.0.keys.hash_one(plain_subject(user))
    }

    fn may_have_more(&self, limit: &RateLimit<u64>, key: u64, who: &str) -> Result<(), NoTicket> {
        if limit.is_exceeded(key, Instant::now()) {
            let detail = format!("{who} has had too many tickets within a minute");
            return Err(NoTicket::new(Reason::RateLimited, detail));
        }
        Ok(())
    }

    async fn quickly<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&mut Verifier) -> T + Send + 'static,
    ) -> Result<T, NoTicket> {
        match tokio::time::timeout_at(deadline, self.0.quick.run(work)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(not_done)) => Err(not_done.into()),
            Err(_) => Err(NoTicket::new(Reason::BrokerOverloaded, "the deadline has passed")),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delegation")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("own", &self.own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
