//! Says what must survive the broker or be shared between brokers, and keeps it: which authenticators were used, and what
//! was revoked.
//!
//! [`Store`] is what the rest of the broker knows; its methods say what is wanted, not how it is kept, so that one broker
//! can have a file and several a database. Signing keys have a file of their own ([`crate::keyring`]): they are to be kept in
//! another place than what is worth nothing without them.

mod embedded;
mod exported;
mod job;
mod keeper;
mod postgres;
mod revoked;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use ring::digest;

pub use embedded::{
    Checked, FILE, begin_file, check_file, export_file, import_file, import_left, not_lost, place_without_store,
};
pub use exported::{Exported, NotAnExport};
pub use keeper::KeptStore;
pub use postgres::{
    DatabaseLook, KeyringRow, PostgresConfig, PostgresHost, Replica, Replicas, ReplicasSeen, check_database,
    export_database, import_database, look_at_database,
};
pub use revoked::{Changes, Kind, Position, Recorded, Revocation, Revoked, Target, TargetError};

use crate::time::UnixTime;

/// What a store answers, later: it may have to wait for a disk or a network.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What survives a restart. What was answered has happened and is durable; after an error it may have happened.
pub trait Store: fmt::Debug + Send + Sync {
    /// Whether another process may change it meanwhile, so that what was read of it may be old by now.
    fn is_shared(&self) -> bool;

    /// Uses a tag up. Of all calls with one tag, at the same time or one after the other, exactly one is answered
    /// [`Consumed::First`], at least until a [`Store::sweep`] at or after `until`.
    fn consume_once(&self, tag: ReplayTag, until: UnixTime) -> Answer<'_, Consumed>;

    /// Revokes, and says what stands there now, at which version: a later one than any before, in the order in which
    /// revocations become durable. What was revoked before is merged with it ([`Revocation::merged`]); where that changes
    /// nothing, no version is used, and the newest is named.
    fn revoke(&self, revocation: Revocation, now: UnixTime) -> Answer<'_, Revoked> {
        Box::pin(async move {
            let mut revoked = self.revoke_all(vec![revocation], now).await?;
            revoked
                .pop()
                .ok_or_else(|| StoreError::Broken("an answer is missing".into()))
        })
    }

    /// The same of several, in their order and in one commit. After [`StoreError::TooMany`] those stand for which there was room.
    fn revoke_all(&self, revocations: Vec<Revocation>, now: UnixTime) -> Answer<'_, Vec<Revoked>>;

    /// Takes a revocation back, and says at which version; nothing where there is none of this target.
    fn lift(&self, target: Target) -> Answer<'_, Option<Position>>;

    /// The revocations of versions after this one, in their order, `most` at most.
    fn revoked_since(&self, version: u64, most: usize) -> Answer<'_, Changes>;

    /// Notes that tokens may be minted that are valid until then, and says until when any may be that was minted so far, by
    /// whatever broker: whoever revokes does not know how long tokens lived before the policy was changed.
    fn tokens_end(&self, at_least: UnixTime) -> Answer<'_, UnixTime>;

    /// Forgets the tags whose `until` is `now` or earlier, and the revocations that nobody has needed for
    /// [`KEPT_LONGER`] seconds, and says how many they were. Without it a store only grows.
    fn sweep(&self, now: UnixTime) -> Answer<'_, Swept>;
}

/// Seconds that a revocation is kept beyond its `needed_until`: clocks differ, a verifier may give a token five minutes of
/// leeway after its `exp`, and what is being read page by page must not change meanwhile.
pub const KEPT_LONGER: u64 = 600;

/// What a sweep forgot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Used tags.
    pub tags: u64,
    /// Revocations.
    pub revocations: u64,
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

    /// The tag of a client's assertion, by who made it and its `jti`. No authenticator has it: each text has its length before
    /// it, which no ciphertext of Kerberos has.
    pub fn of_assertion(client: &str, id: &str) -> Self {
        let mut named = Vec::new();
        for text in ["client assertion", client, id] {
            named.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            named.extend_from_slice(text.as_bytes());
        }
        Self::of(&named)
    }

    /// The tag of these bytes, as it stands in a store.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
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
    /// It holds as many revocations as a feed may have.
    TooMany,
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
            Self::TooMany => f.write_str("the store holds as many revocations as a feed may have"),
            Self::Broken(problem) => write!(f, "the store cannot be used: {problem}"),
            Self::Closed => f.write_str("the store is closed"),
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// What may be done about it, wherever the store is.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Full | Self::Late => {
                "try again; if it stays so, see whether the disk of the state folder, or the database of store.postgres, is fast \
                 enough"
            }
            Self::TooMany => {
                "wait until those make room whose tokens have all ended; what cannot wait ends with its signing key (kerbridge keys \
                 retire), as all of its tokens do"
            }
            Self::Broken(_) => {
                "see whether the disk of the state folder has room and works, or the database of store.postgres answers, and try \
                 again"
            }
            Self::Closed => "try again once the broker has started anew",
        }
    }
}

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod memory;
