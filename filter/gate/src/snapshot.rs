//! Holds what one request is judged against: the configuration, each issuer's keys and its revocations. Swapped whole, never
//! changed.

use std::rc::Rc;

use kerbridge_wire::Reason;

use crate::config::{Config, Source};
use crate::feed::Known as KnownRevocations;
use crate::jwk::{KeySet, NotAKeySet};
use crate::revocation::RevocationKeys;
use crate::time::UnixTime;

/// The configuration, the keys and the revocations of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    config: Option<Rc<Config>>,
    /// One for each issuer, in the configuration's order.
    issuers: Vec<Known>,
}

/// What is known of one issuer.
#[derive(Clone, Debug, Default)]
struct Known {
    keys: Option<AsOf<KeySet>>,
    revocations: Option<KnownRevocations>,
}

/// What was true at a time, and for all that is known still is.
#[derive(Debug)]
struct AsOf<T> {
    what: Rc<T>,
    as_of: UnixTime,
}

impl<T> Clone for AsOf<T> {
    fn clone(&self) -> Self {
        Self {
            what: Rc::clone(&self.what),
            as_of: self.as_of,
        }
    }
}

impl Snapshot {
    /// The snapshot that refuses everything: before a configuration is there, and behind a bad one.
    pub const fn closed() -> Self {
        Self {
            config: None,
            issuers: Vec::new(),
        }
    }

    /// A snapshot with a configuration and its inline keys only, which count as fetched `now`.
    pub fn new(config: Rc<Config>, now: UnixTime) -> Self {
        let inline = |keys: &KeySet| AsOf {
            what: Rc::new(keys.clone()),
            as_of: now,
        };
        let issuers = config
            .issuers()
            .iter()
            .map(|issuer| Known {
                keys: issuer.inline_keys.as_ref().map(inline),
                revocations: None,
            })
            .collect();
        Self {
            config: Some(config),
            issuers,
        }
    }

    /// The same with a fetched key set for one issuer, as of the time when the fetch began. A set that cannot be read
    /// changes nothing.
    ///
    /// # Errors
    /// [`NotAKeySet`] if the text is none, or there is no such issuer.
    pub fn with_keys(&self, issuer: usize, text: &[u8], as_of: UnixTime) -> Result<Self, NotAKeySet> {
        let algorithms = &self
            .config
            .as_ref()
            .and_then(|config| config.issuers().get(issuer))
            .ok_or(NotAKeySet)?
            .algorithms;
        let set = KeySet::parse(text, algorithms)?;
        let mut next = self.clone();
        let known = next.issuers.get_mut(issuer).ok_or(NotAKeySet)?;
        // The same keys again share their memory: what was verified with them need not look its key up again.
        let what = match known.keys.take() {
            Some(old) if *old.what == set => old.what,
            Some(_) | None => Rc::new(set),
        };
        known.keys = Some(AsOf { what, as_of });
        Ok(next)
    }

    /// The same where a fetch that began then brought the keys that are there.
    #[must_use]
    pub fn with_keys_confirmed(&self, issuer: usize, as_of: UnixTime) -> Self {
        let mut next = self.clone();
        if let Some(keys) = next.issuers.get_mut(issuer).and_then(|known| known.keys.as_mut()) {
            keys.as_of = as_of;
        }
        next
    }

    /// The same with what is known of one issuer's revocations.
    #[must_use]
    pub fn with_revocations(&self, issuer: usize, revocations: KnownRevocations) -> Self {
        let mut next = self.clone();
        if let Some(known) = next.issuers.get_mut(issuer) {
            known.revocations = Some(revocations);
        }
        next
    }

    /// The configuration, unless this is the closed snapshot.
    pub fn config(&self) -> Option<&Rc<Config>> {
        self.config.as_ref()
    }

    /// Seconds since an issuer's keys were last fetched; `None` while there are none, and where they are never fetched.
    pub fn key_age(&self, issuer: usize, now: UnixTime) -> Option<u64> {
        self.issuer_source(issuer, |issuer| issuer.keys.as_ref())?;
        Some(now.since(self.issuers.get(issuer)?.keys.as_ref()?.as_of))
    }

    /// Seconds since an issuer last vouched for its revocations; `None` while there are none.
    pub fn feed_age(&self, issuer: usize, now: UnixTime) -> Option<u64> {
        Some(self.issuers.get(issuer)?.revocations.as_ref()?.freshness.age(now))
    }

    /// Whether nothing at all is known of some feed's revocations: its issuer's tokens are refused until then.
    pub fn lacks_revocations(&self) -> bool {
        let Some(config) = &self.config else { return false };
        let mut all = config.issuers().iter().zip(&self.issuers);
        all.any(|(issuer, known)| issuer.feed.is_some() && known.revocations.is_none())
    }

    /// The keys of an issuer, if they are there and not too old. Inline keys of an issuer without a source never are.
    ///
    /// # Errors
    /// `keys_unavailable`: that is our fault, never the client's.
    pub(crate) fn fresh_keys(&self, issuer: usize, now: UnixTime) -> Result<&Rc<KeySet>, Reason> {
        let source = self.issuer_source(issuer, |issuer| issuer.keys.as_ref());
        match self.issuers.get(issuer).and_then(|known| known.keys.as_ref()) {
            Some(keys) if keys.is_fresh(source, now) => Ok(&keys.what),
            Some(_) | None => Err(Reason::KeysUnavailable),
        }
    }

    /// When the fetch began that brought an issuer's keys; long ago where there are none.
    pub(crate) fn keys_as_of(&self, issuer: usize) -> UnixTime {
        let known = self.issuers.get(issuer).and_then(|known| known.keys.as_ref());
        known.map(|keys| keys.as_of).unwrap_or_default()
    }

    /// Whether a token is not revoked by what its issuer's feed says; issuers without a feed revoke nothing.
    ///
    /// # Errors
    /// `revoked`; `feed_stale` where there is nothing to tell by, or it is too old.
    pub(crate) fn check_revocation(
        &self,
        issuer: usize,
        keys: &RevocationKeys,
        issued: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<(), Reason> {
        if self.issuer_source(issuer, |issuer| issuer.feed.as_ref()).is_none() {
            return Ok(());
        }
        let known = self.issuers.get(issuer).and_then(|known| known.revocations.as_ref());
        // A token without `iat` is older than any revocation.
        known.map_or(Err(Reason::FeedStale), |known| {
            known.check(keys, issued.unwrap_or_default(), now)
        })
    }

    /// The keys of an issuer, to check what else it signs than tokens; `None` where they are missing or too old.
    pub fn issuer_keys(&self, issuer: usize, now: UnixTime) -> Option<&KeySet> {
        self.fresh_keys(issuer, now).ok().map(|keys| &**keys)
    }

    fn issuer_source(
        &self,
        issuer: usize,
        source: impl FnOnce(&crate::config::Issuer) -> Option<&Source>,
    ) -> Option<&Source> {
        source(self.config.as_ref()?.issuers().get(issuer)?)
    }
}

impl<T> AsOf<T> {
    fn is_fresh(&self, source: Option<&Source>, now: UnixTime) -> bool {
        source.is_none_or(|source| now.since(self.as_of) <= u64::from(source.max_staleness))
    }
}
