//! Judges a token against what is known of revocations, and by how old that is.

use std::rc::Rc;

use kerbridge_wire::Reason;

use crate::revocation::{RevocationKeys, Revocations};
use crate::time::UnixTime;

/// How old what is known of an issuer's revocations may be, and is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    as_of: UnixTime,
    max_staleness: u32,
}

impl Freshness {
    pub(super) const fn new(as_of: UnixTime, max_staleness: u32) -> Self {
        Self { as_of, max_staleness }
    }

    /// The time up to which all revocations are known.
    pub const fn as_of(&self) -> UnixTime {
        self.as_of
    }

    /// Seconds since then.
    pub const fn age(&self, now: UnixTime) -> u64 {
        now.since(self.as_of)
    }

    /// Whether that is not too long ago.
    pub fn is_fresh(&self, now: UnixTime) -> bool {
        self.age(now) <= u64::from(self.max_staleness)
    }
}

/// What is known of an issuer's revocations at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The table.
    pub revocations: Rc<Revocations>,
    /// Its age.
    pub freshness: Freshness,
}

impl Known {
    /// Whether a token with these keys and this `iat` ([`UnixTime::default`] where it has none) may pass.
    ///
    /// # Errors
    /// `revoked`, which no later page takes back; `feed_stale` if it is not, as far as is known, but that is too little.
    pub fn check(&self, keys: &RevocationKeys, issued: UnixTime, now: UnixTime) -> Result<(), Reason> {
        if self.revocations.revokes(keys, issued, now) {
            return Err(Reason::Revoked);
        }
        if !self.freshness.is_fresh(now) {
            return Err(Reason::FeedStale);
        }
        Ok(())
    }
}
