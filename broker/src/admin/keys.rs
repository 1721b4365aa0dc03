//! Says what is said on the admin socket about signing keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::AdminError;
use crate::keyring::{ChangeError, KekId, KeyRing, KeyState, KeyringError, RotateError, Stage};
use crate::time::UnixTime;

/// Path of [`Keys`].
pub const KEYS_PATH: &str = "/v1/keys";
/// Path of a rotation.
pub const ROTATE_PATH: &str = "/v1/keys/rotate";
/// Path of what takes a key out.
pub const RETIRE_PATH: &str = "/v1/keys/retire";
/// Path of what seals the keys under another key-encryption key.
pub const REWRAP_PATH: &str = "/v1/keys/rewrap";

/// A new key is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// It signs at once, and not only when it has been published for long enough.
    pub now: bool,
}

/// A key is to be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetireRequest {
    /// Which.
    pub kid: String,
}

/// The keys are to be sealed under another key-encryption key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewrapRequest {
    /// The file that holds it, as the broker finds it.
    pub file: PathBuf,
    /// It alone from now on; else it, too.
    pub only: bool,
}

/// The signing keys, and what is planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// The one that signs, the next, then those that did, the newest first.
    pub keys: Vec<Key>,
    /// When the next begins to sign, Unix time; null where none is planned.
    pub next_switch: Option<u64>,
    /// The names of the key-encryption keys that open the file; more than one while one takes the other's place.
    pub sealed_under: Vec<KekId>,
}

/// A signing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its identifier.
    pub kid: String,
    /// `alg` of what it signs.
    pub algorithm: String,
    /// `next`, `signing` or `old`.
    pub stage: String,
    /// When it was published first, Unix time.
    pub published: u64,
    /// Since when it signs; null where it does not.
    pub signing_since: Option<u64>,
    /// Until when it signed; null where it signs still, or does not yet.
    pub stopped: Option<u64>,
    /// How long it is published for the tokens that it signed; null where that is not known yet.
    pub kept_until: Option<u64>,
    /// Whether it is in a PKCS#11 token.
    pub in_hardware: bool,
}

impl Keys {
    /// Those of a ring.
    pub fn of(ring: &KeyRing) -> Self {
        Self {
            keys: ring.list().into_iter().map(Key::of).collect(),
            next_switch: ring.next_switch().map(UnixTime::seconds),
            sealed_under: ring.keks(),
        }
    }
}

impl Key {
    fn of(key: KeyState) -> Self {
        let KeyState {
            id,
            algorithm,
            published,
            stage,
            in_hardware,
        } = key;
        let (signing_since, stopped, kept_until) = match stage {
            Stage::Next => (None, None, None),
            Stage::Signing { since } => (Some(since), None, None),
            Stage::Old { stopped, kept_until } => (None, Some(stopped), Some(kept_until)),
        };
        Self {
            kid: id,
            algorithm: algorithm.name().to_owned(),
            stage: stage.name().to_owned(),
            published: published.seconds(),
            signing_since: signing_since.map(UnixTime::seconds),
            stopped: stopped.map(UnixTime::seconds),
            kept_until: kept_until.map(UnixTime::seconds),
            in_hardware,
        }
    }
}

impl AdminError {
    /// Why the keys are as before.
    pub fn unchanged(error: &ChangeError) -> Self {
        let remedy = match error {
            ChangeError::Refused(RotateError::AlreadyPublished) => {
                "wait until it signs (kerbridge keys list says when), or let it sign at once with --now"
            }
            ChangeError::Refused(RotateError::TooMany) => {
                "wait until the oldest are gone, or take one out with kerbridge keys retire"
            }
            ChangeError::Refused(RotateError::NoOther | RotateError::Unknown) => {
                "write an identifier as kerbridge keys list shows it"
            }
            ChangeError::Refused(RotateError::NotSealedUnder) => "seal them under it first, without --only",
            ChangeError::Refused(RotateError::NewerKek) => {
                "put the newer one in its place first, or say which is to stay: kerbridge keys rewrap --to FILE without --only, then with it"
            }
            ChangeError::Failed(error) => KeyringError::remedy(error),
        };
        Self {
            problem: error.to_string(),
            remedy: remedy.into(),
        }
    }
}
