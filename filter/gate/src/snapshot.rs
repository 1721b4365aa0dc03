//! Holds what one request is judged against: the configuration and each issuer's keys. Swapped whole, never changed.

use std::rc::Rc;

use kerbridge_wire::Reason;

use crate::config::Config;
use crate::jwk::{KeySet, NotAKeySet};
use crate::jwt::signature::VerifyingKey;
use crate::time::UnixTime;

/// The configuration and the keys of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    config: Option<Rc<Config>>,
    /// One for each issuer, in the configuration's order.
    keys: Vec<Option<IssuerKeys>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct IssuerKeys {
    set: Rc<KeySet>,
    fetched: UnixTime,
}

impl Snapshot {
    /// The snapshot that refuses everything: before a configuration is there, and behind a bad one.
    pub const fn closed() -> Self {
        Self {
            config: None,
            keys: Vec::new(),
        }
    }

    /// A snapshot with a configuration and its inline keys only, which count as fetched `now`.
    pub fn new(config: Rc<Config>, now: UnixTime) -> Self {
        let inline = |keys: &KeySet| IssuerKeys {
            set: Rc::new(keys.clone()),
            fetched: now,
        };
        let keys = config
            .issuers()
            .iter()
            .map(|issuer| issuer.keys.inline.as_ref().map(inline))
            .collect();
        Self {
            config: Some(config),
            keys,
        }
    }

    /// The same with a freshly fetched key set for one issuer. A set that cannot be read changes nothing.
    ///
    /// # Errors
    /// [`NotAKeySet`] if the text is none, or there is no such issuer.
    pub fn with_keys(&self, issuer: usize, text: &[u8], now: UnixTime) -> Result<Self, NotAKeySet> {
        let algorithms = &self
            .config
            .as_ref()
            .and_then(|config| config.issuers.get(issuer))
            .ok_or(NotAKeySet)?
            .algorithms;
        let set = KeySet::parse(text, algorithms)?;
        let mut next = self.clone();
        let place = next.keys.get_mut(issuer).ok_or(NotAKeySet)?;
        // The same keys again share their memory: a poll every other second must not make garbage for each request.
        let set = match place.take() {
            Some(old) if *old.set == set => old.set,
            Some(_) | None => Rc::new(set),
        };
        *place = Some(IssuerKeys { set, fetched: now });
        Ok(next)
    }

    /// The configuration, unless this is the closed snapshot.
    pub fn config(&self) -> Option<&Rc<Config>> {
        self.config.as_ref()
    }

    /// Seconds since an issuer's keys were last fetched; `None` while there are none.
    pub fn key_age(&self, issuer: usize, now: UnixTime) -> Option<u64> {
        self.keys.get(issuer)?.as_ref().map(|keys| now.since(keys.fetched))
    }

    /// The keys of an issuer, if they are there and not too old.
    ///
    /// # Errors
    /// `keys_unavailable`: that is our fault, never the client's.
    pub(crate) fn fresh_keys(&self, issuer: usize, now: UnixTime) -> Result<&KeySet, Reason> {
        let bound = self
            .config
            .as_ref()
            .and_then(|config| config.issuers.get(issuer))
            .map(|i| i.keys.max_staleness);
        match (self.keys.get(issuer), bound) {
            (Some(Some(keys)), Some(bound)) if now.since(keys.fetched) <= u64::from(bound) => Ok(&keys.set),
            _ => Err(Reason::KeysUnavailable),
        }
    }

    /// The key of that name in an issuer's set.
    ///
    /// # Errors
    /// `keys_unavailable`, `unknown_key`.
    pub(crate) fn key(&self, issuer: usize, kid: Option<&str>, now: UnixTime) -> Result<&VerifyingKey, Reason> {
        let keys = self.fresh_keys(issuer, now)?;
        kid.and_then(|kid| keys.find(kid)).ok_or(Reason::UnknownKey)
    }
}
