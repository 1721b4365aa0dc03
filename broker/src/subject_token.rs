//! Verifies a token that somebody wants traded for something else, by the gate's own rules, and keeps what is needed of it.
//!
//! There is one verify function in the product ([`kerbridge_gate::verification::verify`]). It works with values that stay on
//! their thread, so each thread has a [`Verifier`]; what they share is [`Issuers`], and the keys in it that are replaced while
//! the broker runs.

mod actors;
mod clients;
mod details;
mod feeds;
mod issuers;
mod pool;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use kerbridge_gate::certificate::Confirmation;
use kerbridge_gate::feed::Feed;
use kerbridge_gate::jwk::{KeySet, NotAKeySet};
use kerbridge_gate::pointer::Pointer;
use kerbridge_gate::poll;
use kerbridge_gate::verification::verify;
use kerbridge_gate::{Config as GateConfig, Snapshot};
use kerbridge_wire::Reason;

pub use self::actors::Actors;
pub use self::clients::ASSERTION_AUDIENCE;
pub use self::details::KERBEROS;
pub use self::feeds::Feeds;
pub use self::issuers::{Issuers, KeyTerms};
pub use self::pool::{NotVerified, Verifiers};

use self::details::{CLAIMS, Details, MayAct};
use self::issuers::Keys;
use crate::revocation::TokenNames;
use crate::signature::is_good;
use crate::time::UnixTime;

/// A token whose signature, issuer and times were checked. Only [`Verifier::verify`] makes one. It was not asked whether it
/// was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    author: Author,
    issuer: Box<str>,
    subject: Box<str>,
    audiences: Vec<Box<str>>,
    groups: Vec<Box<str>>,
    scopes: Vec<String>,
    token_id: Option<Box<str>>,
    session: Option<Box<str>>,
    issued: Option<UnixTime>,
    expires: UnixTime,
    confirmation: Confirmation,
    is_for_others: bool,
    details: Details,
}

/// Who wrote a token, and what it says of who it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// A broker of ours.
    Ours {
        /// `sub`
        subject: Box<str>,
        /// [`PRINCIPAL_CLAIM`](kerbridge_wire::exchange::PRINCIPAL_CLAIM)
        principal: Option<Box<str>>,
    },
    /// Another issuer.
    Another {
        /// `iss`
        issuer: Box<str>,
        /// The claim that the issuer's `[[subject]]` names, where it is a text.
        claim: Option<Box<str>>,
    },
}

impl VerifiedToken {
    /// Who wrote it.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// `iss`
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// `jti`
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// By what a token of ours can be revoked; another issuer's is not ours to revoke.
    pub fn names(&self) -> Option<TokenNames<'_>> {
        match self.author {
            Author::Ours { .. } => Some(self.feed_names()),
            Author::Another { .. } => None,
        }
    }

    /// By what its issuer, whoever that is, revokes it.
    pub fn feed_names(&self) -> TokenNames<'_> {
        TokenNames {
            token: self.token_id.as_deref(),
            session: self.session.as_deref(),
            subject: &self.subject,
            issued: self.issued,
        }
    }

    /// `exp`
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Its audience: the first of those that are asked about.
    pub fn audience(&self) -> Option<&str> {
        self.audiences.first().map(AsRef::as_ref)
    }

    /// Whether it is for this audience of the policy.
    pub fn is_for(&self, audience: &str) -> bool {
        self.audiences.iter().any(|own| **own == *audience)
    }

    /// Whether another issuer's is for somebody else than us, too.
    pub const fn is_for_others(&self) -> bool {
        self.is_for_others
    }

    /// Whether it says that its subject is in this group.
    pub fn is_in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| **own == *group)
    }

    /// The groups that it says its subject is in.
    pub fn groups(&self) -> &[Box<str>] {
        &self.groups
    }

    /// The words of `scope`.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// `sid`
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// `iat`
    pub fn issued(&self) -> Option<UnixTime> {
        self.issued
    }

    /// `client_id`
    pub fn client(&self) -> Option<&str> {
        self.details.client.as_deref()
    }

    /// `auth_time`
    pub fn auth_time(&self) -> Option<UnixTime> {
        self.details.auth_time
    }

    /// `amr`
    pub fn methods(&self) -> &[Box<str>] {
        &self.details.methods
    }

    /// Whether the ticket behind it was bound to a channel.
    pub fn is_channel_bound(&self) -> bool {
        self.details.is_channel_bound
    }

    /// `act`
    pub fn actors(&self) -> &Actors {
        &self.details.actors
    }

    /// Who must show that it is theirs.
    pub const fn confirmation(&self) -> Confirmation {
        self.confirmation
    }

    /// Whether `may_act` lets a client of ours act with it.
    pub fn may_be_used_by(&self, client: &str) -> bool {
        match &self.details.may_act {
            MayAct::Unsaid => true,
            MayAct::Client(named) => **named == *client,
            MayAct::Another => false,
        }
    }

    /// A token of ours for `orders`, in these groups, good until 10,000.
    #[cfg(test)]
    pub(crate) fn for_test(subject: &str, principal: Option<&str>, groups: &[&str]) -> Self {
        Self {
            author: Author::Ours {
                subject: subject.into(),
                principal: principal.map(Into::into),
            },
            issuer: "https://broker.test".into(),
            subject: subject.into(),
            audiences: vec!["orders".into()],
            groups: groups.iter().map(|group| Box::from(*group)).collect(),
            scopes: vec!["read".into(), "write".into()],
            token_id: Some("j".into()),
            session: Some("s".into()),
            issued: Some(UnixTime::from_seconds(1000)),
            expires: UnixTime::from_seconds(10_000),
            confirmation: Confirmation::Bearer,
            is_for_others: false,
            details: Details::default(),
        }
    }

    /// The same by another issuer, with this claim.
    #[cfg(test)]
    pub(crate) fn by_another(self, issuer: &str, claim: Option<&str>) -> Self {
        Self {
            author: Author::Another {
                issuer: issuer.into(),
                claim: claim.map(Into::into),
            },
            issuer: issuer.into(),
            ..self
        }
    }
}

/// Verifies tokens on one thread.
pub struct Verifier {
    issuers: Arc<Issuers>,
    /// Absent until the first token, and where there can be none.
    snapshot: Option<Snapshot>,
    /// By issuer: what the snapshot has.
    seen: Vec<Option<Keys>>,
    /// [`CLAIMS`], and behind them those of the issuers.
    wanted: Vec<Pointer>,
    /// By issuer: the place of its own claim among them.
    places: Vec<Option<usize>>,
}

impl Verifier {
    /// Takes the tokens of these.
    pub fn new(issuers: Arc<Issuers>) -> Self {
        let mut wanted: Vec<Pointer> = CLAIMS.iter().filter_map(|name| Pointer::parse(name)).collect();
        let places = issuers.claims.iter().map(|claim| {
            let place = wanted.len();
            wanted.push(claim.clone()?);
            Some(place)
        });
        let places = places.collect();
        Self {
            places,
            seen: vec![None; issuers.claims.len()],
            snapshot: None,
            issuers,
            wanted,
        }
    }

    /// Verifies a token at a time, or says why it is none of ours to take.
    pub fn verify(&mut self, token: &[u8], now: UnixTime) -> Result<VerifiedToken, Reason> {
        let moment = kerbridge_gate::UnixTime::from_seconds(now.seconds()).ok_or(Reason::Internal)?;
        self.refresh(moment)?;
        let snapshot = self.snapshot.as_ref().ok_or(Reason::Internal)?;
        let claims = verify(snapshot, moment, token, &self.wanted, is_good)?;
        let place = claims.issuer();
        let issuer = self.issuers.config.issuers.get(place).ok_or(Reason::Internal)?;
        // Each issuer has its own claim; the others' mean nothing in its tokens.
        let claim = self.places.get(place).copied().flatten();
        let claim = claim.and_then(|place| claims.value(place)?.as_str().map(Box::from));
        let is_ours = self.issuers.our_issuer() == Some(&*issuer.issuer);
        let author = if is_ours {
            Author::Ours {
                subject: (&**claims.subject()).into(),
                principal: claim,
            }
        } else {
            Author::Another {
                issuer: issuer.issuer.as_str().into(),
                claim,
            }
        };
        let other = (!is_ours).then_some(issuer.issuer.as_str());
        let ours = self.issuers.our_issuer().unwrap_or_default();
        let details = Details::read(|name| claims.value(place_of(name)?), other, ours)?;
        let audiences = self.issuers.audiences.iter();
        let is_us = |value: &str| issuer.audiences.values().flatten().any(|ours| ours == value);
        Ok(VerifiedToken {
            is_for_others: !is_ours && claims.audiences().iter().any(|value| !is_us(value)),
            author,
            issuer: issuer.issuer.as_str().into(),
            subject: (&**claims.subject()).into(),
            audiences: audiences
                .filter(|audience| snapshot.vouches_for(&claims, audience))
                .cloned()
                .collect(),
            groups: claims.groups().to_vec(),
            scopes: claims.scopes().iter().map(|word| word.to_string()).collect(),
            token_id: claims.token_id().map(Into::into),
            session: claims.session().map(Into::into),
            issued: claims.issued().map(|time| UnixTime::from_seconds(time.seconds())),
            // The leeway of an issuer is for its token, not for what is had for it.
            expires: UnixTime::from_seconds(claims.expires().min(claims.ends()).seconds()),
            confirmation: claims.confirmation(),
            details,
        })
    }

    /// The feed of an issuer, of which nothing was read, and the issuer's place; `None` where it is not followed.
    fn feed(&self, issuer: &str) -> Option<(usize, Feed)> {
        let config = GateConfig::build(self.issuers.config.clone()).ok()?;
        let place = self
            .issuers
            .config
            .issuers
            .iter()
            .position(|one| one.issuer == issuer)?;
        Some((place, poll::follow(&config, place, true)?))
    }

    /// The keys of an issuer, unless they are missing or too old.
    fn keys(&mut self, place: usize, now: kerbridge_gate::UnixTime) -> Option<&KeySet> {
        self.refresh(now).ok()?;
        self.snapshot.as_ref()?.issuer_keys(place, now)
    }

    /// Takes in the keys that were published since.
    fn refresh(&mut self, now: kerbridge_gate::UnixTime) -> Result<(), Reason> {
        let mut snapshot = match self.snapshot.take() {
            Some(snapshot) => snapshot,
            None => {
                let config = GateConfig::build(self.issuers.config.clone()).map_err(|_| Reason::Internal)?;
                // Whatever the last one had, this one has not.
                self.seen.fill(None);
                Snapshot::new(Rc::new(config), now)
            }
        };
        for (place, (seen, keys)) in self.seen.iter_mut().zip(self.issuers.published()).enumerate() {
            let Some(keys) = keys else { continue };
            let as_of = kerbridge_gate::UnixTime::from_seconds(keys.as_of.seconds()).unwrap_or(now);
            snapshot = match seen {
                Some(seen) if Arc::ptr_eq(&seen.text, &keys.text) => snapshot.with_keys_confirmed(place, as_of),
                // It was read when it was published, and by the same rules.
                Some(_) | None => snapshot
                    .with_keys(place, &keys.text, as_of)
                    .map_err(|NotAKeySet| Reason::Internal)?,
            };
            *seen = Some(keys);
        }
        self.snapshot = Some(snapshot);
        Ok(())
    }
}

/// The place of one of [`CLAIMS`].
fn place_of(claim: &str) -> Option<usize> {
    CLAIMS.iter().position(|name| *name == claim)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
