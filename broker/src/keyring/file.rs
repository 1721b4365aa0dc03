//! Reads and writes the key file: format number, owner and mode checked, written whole or not at all.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::fs::OFlags;

use super::content::{self, FORMAT, Unopened};
use super::hardware::HardwareError;
use super::{CryptoError, KekId, format_1, random};
use crate::problem::Problem;

/// Sixty RSA keys take some 150 KB.
const LARGEST: u64 = 1024 * 1024;

/// Why the keys cannot be had or written down. On disk is what was there, or all of what was to be there.
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
    /// It is for other key-encryption keys than the one at hand.
    AnotherKey {
        /// The file.
        path: PathBuf,
        /// What opens it; nothing where that is not known.
        opened_by: Vec<KekId>,
        /// What was tried.
        tried: KekId,
    },
    /// Its bytes were changed since they were sealed.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A key of it is in a PKCS#11 token that cannot be used.
    Hardware {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        problem: String,
    },
    /// The database that holds them does not do it.
    Database {
        /// What holds them.
        path: PathBuf,
        /// What it said.
        problem: String,
    },
    /// Another broker changed them at the same time.
    Meanwhile {
        /// What holds them.
        path: PathBuf,
    },
    /// The system's cryptography failed.
    Crypto(CryptoError),
}

impl KeyringError {
    /// It as a problem of the state directory, where the keys are.
    pub fn problem(&self) -> Problem {
        Problem {
            field: match self {
                Self::Database { .. } | Self::Meanwhile { .. } => "store.postgres",
                Self::Io { .. }
                | Self::Exposed { .. }
                | Self::Format { .. }
                | Self::Corrupt { .. }
                | Self::AnotherKey { .. }
                | Self::Changed { .. }
                | Self::Hardware { .. }
                | Self::Crypto(_) => "state_dir",
            }
            .into(),
            problem: self.to_string(),
            remedy: self.remedy().into(),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io { .. } => "let the broker's user own the state directory, mode 0700",
            Self::Exposed { .. } => {
                "run this as the broker's user, as in runuser -u kerbridge -- kerbridge doctor, or chown it to that user; chmod \
                 it 0600"
            }
            Self::Format { .. } => "run the release that wrote it, or a newer one",
            Self::Corrupt { .. } | Self::AnotherKey { .. } | Self::Changed { .. } => {
                "restore the file and the key-encryption key that belongs to it from a backup; or move the file away: \
                 the next start makes new keys, and all tokens and sessions of the old ones end"
            }
            Self::Hardware { .. } => "see that the token is there, and that [keys.pkcs11] names module, token and PIN",
            Self::Database { .. } => "see what kerbridge doctor says of store.postgres",
            Self::Meanwhile { .. } => "look at kerbridge keys list, and do it again",
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
            Self::AnotherKey { path, opened_by, tried } => {
                let path = path.display();
                write!(f, "{path} does not open under this key-encryption key ({tried})")?;
                for (kek, word) in opened_by
                    .iter()
                    .zip(std::iter::once(": it is sealed under ").chain(std::iter::repeat(", ")))
                {
                    write!(f, "{word}{kek}")?;
                }
                Ok(())
            }
            Self::Changed { path } => {
                write!(
                    f,
                    "{} does not open: its bytes were changed since they were sealed",
                    path.display()
                )
            }
            Self::Meanwhile { path } => write!(f, "{} was changed by another broker at the same time", path.display()),
            Self::Database { path, problem } | Self::Hardware { path, problem } => {
                write!(f, "{}: {problem}", path.display())
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

impl KeyringError {
    /// Why the file at a path does not open under a key.
    pub(super) fn unopened(path: &Path, why: Unopened, tried: &KekId) -> Self {
        let path = path.to_owned();
        match why {
            Unopened::AnotherKey(opened_by) => Self::AnotherKey {
                path,
                opened_by,
                tried: tried.clone(),
            },
            Unopened::Seal => Self::Changed { path },
            Unopened::Content(what) => Self::Corrupt { path, what },
            Unopened::Hardware(problem) => Self::Hardware { path, problem },
        }
    }

    pub(super) fn hardware(path: &Path, error: &HardwareError) -> Self {
        Self::Hardware {
            path: path.to_owned(),
            problem: error.to_string(),
        }
    }
}

/// A file of one of the formats that this release reads.
pub(super) enum KeyFile {
    One(format_1::KeyFile),
    Two(content::KeyFile),
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
pub(super) fn create(path: &Path, content: &content::KeyFile) -> Result<(), KeyringError> {
    let suffix = URL_SAFE_NO_PAD.encode(random::<8>()?.as_ref());
    let temporary = path.with_extension(format!("{suffix}.tmp"));
    let written = write(&temporary, content).and_then(|()| {
        // Unlike a rename, a link never replaces: two first starts at once agree on the first one's keys.
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    });
    let removed = fs::remove_file(&temporary);
    written.and(removed).map_err(io_error(path))?;
    sync_folder(path)
}

/// Writes the file in place of the one that is there: after a crash there is the one or the other, whole. Whoever does it must be
/// the only one.
pub(super) fn replace(path: &Path, content: &content::KeyFile) -> Result<(), KeyringError> {
    let temporary = path.with_extension("json.tmp");
    // Of a process that was killed.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&temporary)(error)),
        Ok(()) | Err(_) => {}
    }
    write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(io_error(path))?;
    sync_folder(path)
}

/// Where a file of an earlier format is kept.
fn aside(path: &Path, format: u32) -> PathBuf {
    path.with_extension(format!("json.format-{format}"))
}

/// Removes the files that were kept.
pub(super) fn forget_aside(path: &Path) -> Result<(), KeyringError> {
    for format in 1..content::FORMAT {
        let aside = aside(path, format);
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&aside)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    sync_folder(path)
}

/// Keeps a file of an earlier format for the release that wrote it.
pub(super) fn keep_aside(path: &Path, format: u32) -> Result<(), KeyringError> {
    let aside = aside(path, format);
    match fs::hard_link(path, &aside) {
        Ok(()) => {}
        // Of a start that went no further.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error(&aside)(error)),
    }
    sync_folder(path)
}

fn write(path: &Path, content: &content::KeyFile) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(content)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&text)?;
    file.sync_all()
}

/// A name that is lost with the power is a file of before, or none.
fn sync_folder(path: &Path) -> Result<(), KeyringError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error(folder))
}

pub(super) fn read(path: &Path) -> Result<KeyFile, KeyringError> {
    let corrupt = |what| KeyringError::Corrupt {
        path: path.to_owned(),
        what,
    };
    // Without waiting: a pipe would keep us until somebody writes.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(io_error(path))?;
    let metadata = file.metadata().map_err(io_error(path))?;
    if !metadata.is_file() {
        return Err(corrupt("it is no regular file"));
    }
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 || uid != rustix::process::geteuid().as_raw() {
        return Err(KeyringError::Exposed {
            path: path.to_owned(),
            mode,
            uid,
        });
    }
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).map_err(io_error(path))?;
    parse(path, &text)
}

/// What a text of one of the formats holds.
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<KeyFile, KeyringError> {
    let corrupt = |what| KeyringError::Corrupt {
        path: path.to_owned(),
        what,
    };
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|_| corrupt("it is not JSON"))?;
    let members = |_| corrupt("its members are not those of its format");
    match value.get("format").and_then(serde_json::Value::as_u64) {
        None => Err(corrupt("it has no format number")),
        Some(1) => serde_json::from_value(value).map(KeyFile::One).map_err(members),
        Some(2) => serde_json::from_value(value).map(KeyFile::Two).map_err(members),
        Some(format) => Err(KeyringError::Format {
            path: path.to_owned(),
            format,
        }),
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> KeyringError + use<> {
    let path = path.to_owned();
    move |error| KeyringError::Io {
        path: path.clone(),
        error,
    }
}
