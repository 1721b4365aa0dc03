//! Says where the sealed keys are kept: in a file of one broker's state directory, or in the database that several share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{self, KeyFile};
use super::{FILE, KeyringError, content};
use crate::store::{KeyringRow, PostgresConfig};

/// Where keys are kept.
#[derive(Clone, Debug)]
pub enum KeyringPlace {
    /// In a file of this folder.
    Folder(PathBuf),
    /// In this database.
    Database(PostgresConfig),
}

impl<P: AsRef<Path>> From<P> for KeyringPlace {
    fn from(folder: P) -> Self {
        Self::Folder(folder.as_ref().to_owned())
    }
}

impl fmt::Display for KeyringPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.join(FILE).display()),
            Self::Database(config) => write!(f, "the keyring of database {}", config.database),
        }
    }
}

/// A place that is in use.
#[derive(Clone)]
pub(super) enum Place {
    File(PathBuf),
    Row(Arc<KeyringRow>, PathBuf),
}

/// Which change of a row was read; a file has one writer and needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(i64);

impl Place {
    pub(super) fn of(place: &KeyringPlace) -> Self {
        match place {
            KeyringPlace::Folder(folder) => Self::File(folder.join(FILE)),
            KeyringPlace::Database(config) => Self::Row(Arc::new(KeyringRow::new(config)), place.to_string().into()),
        }
    }

    /// What it is called in messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Row(_, path) => path,
        }
    }

    /// Whether other brokers have the same keys.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self, Self::Row(..))
    }

    pub(super) fn exists(&self) -> Result<bool, KeyringError> {
        match self {
            Self::File(path) => file::exists(path),
            Self::Row(row, _) => Ok(row.read().map_err(self.in_database())?.is_some()),
        }
    }

    pub(super) fn read(&self) -> Result<(KeyFile, Stamp), KeyringError> {
        match self {
            Self::File(path) => Ok((file::read(path)?, Stamp(0))),
            Self::Row(row, path) => {
                let (stamp, text) = row
                    .read()
                    .map_err(self.in_database())?
                    .ok_or_else(|| KeyringError::Corrupt {
                        path: path.clone(),
                        what: "there are no keys in it",
                    })?;
                Ok((file::parse(path, text.as_bytes())?, Stamp(stamp)))
            }
        }
    }

    /// What is there, where somebody else has changed it since.
    pub(super) fn read_newer(&self, than: Stamp) -> Result<Option<(KeyFile, Stamp)>, KeyringError> {
        match self {
            Self::File(_) => Ok(None),
            Self::Row(row, path) => match row.read_newer(than.0).map_err(self.in_database())? {
                Some((stamp, text)) => Ok(Some((file::parse(path, text.as_bytes())?, Stamp(stamp)))),
                None => Ok(None),
            },
        }
    }

    /// Writes where there is nothing; of two at once the first one's is there afterwards.
    pub(super) fn create(&self, content: &content::KeyFile) -> Result<(), KeyringError> {
        match self {
            Self::File(path) => file::create(path, content),
            Self::Row(row, _) => row.create(&self.text(content)?).map_err(self.in_database()),
        }
    }

    /// Writes in place of what was read with this stamp.
    pub(super) fn replace(&self, content: &content::KeyFile, stamp: Stamp) -> Result<Stamp, KeyringError> {
        match self {
            Self::File(path) => file::replace(path, content).map(|()| stamp),
            Self::Row(row, path) => {
                let replaced = row.replace(stamp.0, &self.text(content)?).map_err(self.in_database())?;
                replaced
                    .map(Stamp)
                    .ok_or_else(|| KeyringError::Meanwhile { path: path.clone() })
            }
        }
    }

    /// Keeps one of an earlier format for the release that wrote it; a database has none.
    pub(super) fn keep_aside(&self, format: u32) -> Result<(), KeyringError> {
        match self {
            Self::File(path) => file::keep_aside(path, format),
            Self::Row(_, _) => Ok(()),
        }
    }

    /// Removes those that were kept.
    pub(super) fn forget_aside(&self) -> Result<(), KeyringError> {
        match self {
            Self::File(path) => file::forget_aside(path),
            Self::Row(_, _) => Ok(()),
        }
    }

    fn text(&self, content: &content::KeyFile) -> Result<String, KeyringError> {
        serde_json::to_string(content).map_err(|error| self.in_database()(error.to_string()))
    }

    fn in_database(&self) -> impl Fn(String) -> KeyringError + use<> {
        let path = self.path().to_owned();
        move |problem| KeyringError::Database {
            path: path.clone(),
            problem,
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().fmt(f)
    }
}
