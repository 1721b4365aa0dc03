//! Reads and writes the key file: format number, owner and mode checked, written whole or not at all.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sealed::{KeyEncryptionKey, Purpose, SealedKey};
use super::{CryptoError, SigningKey, random};
use crate::problem::Problem;

const FORMAT: u32 = 1;
const LARGEST: u64 = 64 * 1024;

/// Why the keys cannot be had. Nothing was changed on disk.
#[derive(Debug)]
pub enum KeyringError {
    /// The file cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others than its owner may read or write it, or its owner is somebody else.
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// It has another format than ours.
    Format {
        /// The file.
        path: PathBuf,
        /// The number found.
        format: u64,
    },
    /// It is damaged, or not a key file.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The key-encryption key does not open it: another key, or changed bytes.
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// The system's cryptography failed.
    Crypto(CryptoError),
}

impl KeyringError {
    /// It as a problem of the state directory, where the keys are.
    pub fn problem(&self) -> Problem {
        Problem {
            field: "state_dir".into(),
            problem: self.to_string(),
            remedy: self.remedy().into(),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io { .. } => "let the broker's user own the state directory, mode 0700",
            Self::Exposed { .. } => "chown it to the broker's user and chmod it 0600",
            Self::Format { .. } => "run the release that wrote it, or a newer one",
            Self::Corrupt { .. } | Self::WrongKey { .. } => {
                "restore the file and the key-encryption key that belongs to it from a backup; or move the file away: \
                 the next start makes new keys, and all tokens and sessions of the old ones end"
            }
            Self::Crypto(_) => "see that the system has a source of randomness",
        }
    }
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Exposed { path, mode, uid } => {
                write!(
                    f,
                    "{} has mode {mode:04o} and owner {uid}, so that others can reach it",
                    path.display()
                )
            }
            Self::Format { path, format } => {
                write!(f, "{} has format {format}, this release knows {FORMAT}", path.display())
            }
            Self::Corrupt { path, what } => write!(f, "{} is damaged: {what}", path.display()),
            Self::WrongKey { path } => {
                write!(
                    f,
                    "{} does not open under this key-encryption key: another key, or changed bytes",
                    path.display()
                )
            }
            Self::Crypto(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for KeyringError {}

impl From<CryptoError> for KeyringError {
    fn from(error: CryptoError) -> Self {
        Self::Crypto(error)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFile {
    format: u32,
    keys: Vec<SealedKey>,
}

/// Both keys, new.
pub(super) fn fresh(key: &KeyEncryptionKey) -> Result<KeyFile, CryptoError> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| CryptoError)?;
    let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
    let signing = SigningKey::from_pkcs8(&pkcs8)?;
    let sessions_id = URL_SAFE_NO_PAD.encode(random::<16>()?.as_ref());
    Ok(KeyFile {
        format: FORMAT,
        keys: vec![
            SealedKey::seal(Purpose::Signing, signing.id(), &pkcs8, key)?,
            SealedKey::seal(Purpose::Sessions, &sessions_id, random::<32>()?.as_ref(), key)?,
        ],
    })
}

/// The one key for a purpose; none where there are two, since we would not know which.
pub(super) fn only(file: &KeyFile, purpose: Purpose) -> Option<&SealedKey> {
    let mut found = file.keys.iter().filter(|key| key.purpose() == purpose);
    match (found.next(), found.next()) {
        (Some(key), None) => Some(key),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

pub(super) fn exists(path: &Path) -> Result<bool, KeyringError> {
    // A dangling link is there: following it would write keys elsewhere.
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Writes the file where there is none: complete in a file of its own, then linked to its name.
pub(super) fn create(path: &Path, content: &KeyFile) -> Result<(), KeyringError> {
    let suffix = URL_SAFE_NO_PAD.encode(random::<8>()?.as_ref());
    let temporary = path.with_extension(format!("{suffix}.tmp"));
    let text = serde_json::to_vec_pretty(content).map_err(|_| CryptoError)?;
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        // Unlike a rename, a link never replaces: two first starts at once agree on the first one's keys.
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    let written = write();
    let removed = fs::remove_file(&temporary);
    written.and(removed).map_err(io_error(path))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error(directory))
}

pub(super) fn read(path: &Path) -> Result<KeyFile, KeyringError> {
    let file = File::open(path).map_err(io_error(path))?;
    let metadata = file.metadata().map_err(io_error(path))?;
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 || uid != rustix::process::geteuid().as_raw() {
        return Err(KeyringError::Exposed {
            path: path.to_owned(),
            mode,
            uid,
        });
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(io_error(path))?;
    let corrupt = |what| KeyringError::Corrupt {
        path: path.to_owned(),
        what,
    };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|_| corrupt("it is not JSON"))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        None => return Err(corrupt("it has no format number")),
        Some(format) if format != u64::from(FORMAT) => {
            return Err(KeyringError::Format {
                path: path.to_owned(),
                format,
            });
        }
        Some(_) => {}
    }
    serde_json::from_value(value).map_err(|_| corrupt("its members are not those of its format"))
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> KeyringError + use<> {
    let path = path.to_owned();
    move |error| KeyringError::Io {
        path: path.clone(),
        error,
    }
}
