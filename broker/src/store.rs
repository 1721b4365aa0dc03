//! Says what must survive the broker or be shared between brokers, and keeps it: which authenticators were used.
//!
//! [`Store`] is what the rest of the broker knows; its methods say what is wanted, not how it is kept, so that one broker
//! can have a file and several a database. Signing keys and revocations will join it as methods of their own.

mod embedded;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use ring::digest;

pub use embedded::{EmbeddedStore, FILE};

use crate::time::UnixTime;

/// What a store answers, later: it may have to wait for a disk or a network.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What survives a restart. What was answered has happened and is durable; after an error it may have happened.
pub trait Store: fmt::Debug + Send + Sync {
    /// Uses a tag up. Of all calls with one tag, at the same time or one after the other, exactly one is answered
    /// [`Consumed::First`], at least until a [`Store::sweep`] at or after `until`.
    fn consume_once(&self, tag: ReplayTag, until: UnixTime) -> Answer<'_, Consumed>;

    /// Forgets the tags whose `until` is `now` or earlier, and says how many they were. Without it a store only grows.
    fn sweep(&self, now: UnixTime) -> Answer<'_, u64>;
}

/// Names an authenticator: SHA-256 over its ciphertext, which nobody without the session key can change, and not over the
/// token around it, which anybody can wrap anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplayTag([u8; 32]);

impl ReplayTag {
    /// The tag of an AP-REQ's `authenticator.cipher` (RFC 4120 §5.5.1).
    pub fn of(authenticator: &[u8]) -> Self {
        let mut tag = [0; 32];
        for (to, from) in tag
            .iter_mut()
            .zip(digest::digest(&digest::SHA256, authenticator).as_ref())
        {
            *to = *from;
        }
        Self(tag)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ReplayTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayTag")
    }
}

/// Whether a tag was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// It was, and is used up now.
    First,
    /// It was used before.
    Again,
}

/// Why a store has no answer. Each of them is `store_unavailable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// More wait already than may.
    Full,
    /// No answer within the time allowed.
    Late,
    /// It cannot be read or written; the text says what the system said.
    Broken(String),
    /// It is being closed.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the store has too much to do"),
            Self::Late => f.write_str("the store did not answer in time"),
            Self::Broken(problem) => write!(f, "the store cannot be used: {problem}"),
            Self::Closed => f.write_str("the store is closed"),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
pub(crate) mod conformance;
