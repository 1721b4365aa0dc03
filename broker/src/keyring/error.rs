//! Says why keys do not change as asked.

use std::fmt;

use super::file::KeyringError;
use super::stages::MOST_KEYS;

/// The operating system's source of randomness failed, or ring refused a key that it made itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptoError;

/// Why the keys do not change as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotateError {
    /// The next key is published already.
    AlreadyPublished,
    /// As many keys are published as anybody reads.
    TooMany,
    /// There is no other key that could sign.
    NoOther,
    /// No key has this identifier.
    Unknown,
    /// Without this key-encryption key nothing would open them any more.
    NotSealedUnder,
    /// A newer key-encryption key opens them, which would be dropped.
    NewerKek,
}

/// Why the keys did not change. What is in use is as before; what is on disk too, unless the disk failed while it was written.
#[derive(Debug)]
pub enum ChangeError {
    /// It cannot be meant so.
    Refused(RotateError),
    /// The file or the hardware does not do it.
    Failed(KeyringError),
}

impl fmt::Display for CryptoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system's cryptography failed")
    }
}

impl std::error::Error for CryptoError {}

impl From<RotateError> for ChangeError {
    fn from(error: RotateError) -> Self {
        Self::Refused(error)
    }
}

impl From<KeyringError> for ChangeError {
    fn from(error: KeyringError) -> Self {
        Self::Failed(error)
    }
}

impl From<CryptoError> for ChangeError {
    fn from(error: CryptoError) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for RotateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyPublished => f.write_str("the next key is published already"),
            Self::TooMany => write!(f, "{MOST_KEYS} keys are published, as many as anybody reads"),
            Self::NoOther => f.write_str("there is no other key that could sign"),
            Self::Unknown => f.write_str("no key has this identifier"),
            Self::NotSealedUnder => f.write_str("the keys do not open under that key-encryption key"),
            Self::NewerKek => f.write_str("that is the older one of the key-encryption keys that open the keys"),
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RotateError {}

impl std::error::Error for ChangeError {}
