//! Says whose tokens are taken, for which audiences and by which keys, which are replaced while the broker runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use kerbridge_gate::jwk::{KeySet, NotAKeySet};
use kerbridge_gate::pointer::Pointer;
use kerbridge_gate::{Config as GateConfig, ConfigErrors};
use kerbridge_wire::Span;
use kerbridge_wire::exchange::{FEED_PATH, PRINCIPAL_CLAIM};
use kerbridge_wire::filter_config::{FeedConfig, FilterConfig, IssuerConfig};
use kerbridge_wire::policy::Policy as RawPolicy;

use crate::policy::Policy;
use crate::render::{Inline, filter_config};
use crate::time::UnixTime;

/// Stands for a cluster of Envoy's.
pub(super) const NOT_ENVOY: &str = "none";

/// Whose tokens are taken, for which audiences, and by which keys.
#[derive(Debug)]
pub struct Issuers {
    pub(super) config: FilterConfig,
    /// By issuer: where in its tokens stands who they are about.
    pub(super) claims: Vec<Option<Pointer>>,
    /// The audiences that are asked about.
    pub(super) audiences: Vec<Box<str>>,
    /// By issuer: the last keys that came from outside the configuration.
    pub(super) keys: Mutex<Vec<Option<Keys>>>,
}

/// Keys that were published, and when they were there.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) text: Arc<[u8]>,
    pub(super) as_of: UnixTime,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} bytes as of {})", self.text.len(), self.as_of.seconds())
    }
}

/// How the keys of an issuer are followed, when they do not only stand in the policy; its revocations, likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// The issuer.
    pub issuer: String,
    /// How often they are looked at.
    pub poll: Span,
    /// How old the last good answer may be before tokens are refused for want of one.
    pub max_staleness: Span,
}

impl Issuers {
    /// Whose tokens are taken: ours, and those of the issuers that a `[[subject]]` names. `own_keys` are ours, where this
    /// broker has them; `terms` are of all issuers whose keys are [published](Self::publish), `feeds` of those whose
    /// revocations are [followed](super::Feeds).
    pub fn new(
        issuer: &str,
        file: &RawPolicy,
        policy: &Policy,
        own_keys: Option<String>,
        terms: &[KeyTerms],
        feeds: &[KeyTerms],
    ) -> Result<Self, ConfigErrors> {
        let inline = Inline {
            keys: own_keys,
            feed: Vec::new(),
        };
        let rendered = filter_config(issuer, file, inline);
        let subjects = policy.subjects();
        let traced = |one: &IssuerConfig| subjects.claim_of(&one.issuer);
        let (mut issuers, mut claims) = (Vec::new(), Vec::new());
        for (place, mut one) in rendered.issuers.into_iter().enumerate() {
            // As the filter calls it, whoever is left out here: two must not be called the same.
            if place > 0 {
                one.name.get_or_insert_with(|| format!("issuer-{place}"));
            }
            let claim = if one.issuer == issuer {
                Some(PRINCIPAL_CLAIM)
            } else {
                traced(&one)
            };
            let Some(claim) = claim else { continue };
            claims.push(Pointer::parse(claim));
            match terms.iter().find(|terms| terms.issuer == one.issuer) {
                Some(KeyTerms {
                    poll, max_staleness, ..
                }) => {
                    // Not Envoy fetches them, but they grow stale as if it did.
                    one.jwks.cluster = Some(NOT_ENVOY.to_owned());
                    (one.jwks.poll, one.jwks.max_staleness) = (*poll, *max_staleness);
                }
                // Nobody could verify its tokens, so that it is as unknown as any other.
                None if one.jwks.inline.is_none() => {
                    claims.pop();
                    continue;
                }
                None => one.jwks.cluster = None,
            }
            // What is not fetched here says nothing.
            let feed = feeds.iter().find(|terms| terms.issuer == one.issuer);
            one.feed = feed.map(|feed| FeedConfig {
                cluster: NOT_ENVOY.to_owned(),
                authority: NOT_ENVOY.to_owned(),
                path: FEED_PATH.to_owned(),
                poll: feed.poll,
                max_staleness: feed.max_staleness,
                inline: Vec::new(),
            });
            issuers.push(one);
        }
        let config = FilterConfig { issuers, ..rendered };
        GateConfig::build(config.clone())?;
        Ok(Self {
            keys: Mutex::new(vec![None; claims.len()]),
            config,
            claims,
            audiences: policy.audiences_asked_about().into_iter().map(Into::into).collect(),
        })
    }

    /// Takes keys of an issuer that were there at a time. What is no key set changes nothing.
    pub fn publish(&self, issuer: &str, text: &[u8], as_of: UnixTime) -> Result<(), NotAKeySet> {
        let mut issuers = self.config.issuers.iter();
        let place = issuers.position(|known| known.issuer == issuer).ok_or(NotAKeySet)?;
        let algorithms = self.config.issuers.get(place).map(|issuer| &*issuer.algorithms);
        KeySet::parse(text, algorithms.unwrap_or_default())?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get_mut(place) {
            // The same text shares its memory, so that nobody reads it again.
            Some(Some(known)) if *known.text == *text => known.as_of = as_of,
            Some(slot) => {
                let text = text.into();
                *slot = Some(Keys { text, as_of });
            }
            None => {}
        }
        Ok(())
    }

    /// Ours, whether this process mints its tokens or only takes them.
    pub fn our_issuer(&self) -> Option<&str> {
        self.config.broker.as_ref().map(|broker| broker.issuer.as_str())
    }

    /// An issuer whose keys have never been there.
    pub fn unheard_of(&self) -> Option<&str> {
        let issuers = self.config.issuers.iter().zip(self.published());
        let mut unheard = issuers.filter(|(issuer, keys)| issuer.jwks.inline.is_none() && keys.is_none());
        unheard.next().map(|(issuer, _)| issuer.issuer.as_str())
    }

    /// By issuer: the keys that were published last.
    pub(super) fn published(&self) -> Vec<Option<Keys>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
