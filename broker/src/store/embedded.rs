//! Keeps the store in one file of the state directory.

mod file;
mod offline;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

pub use self::offline::{Checked, begin_file, check_file, export_file, import_file, place_without_store};

use self::file::StoreFile;
use super::StoreError;
use super::job::{Applied, Batch};
use super::keeper::{KeptStore, Place};
use crate::keyring;
use crate::problem::Problem;

/// Name of the file in the state directory.
pub const FILE: &str = "store.redb";

/// The file's place.
#[derive(Debug)]
struct Embedded(PathBuf);

impl Place for Embedded {
    const IS_SHARED: bool = false;

    type Opened = StoreFile;

    /// A file that is gone is not made anew: what was revoked would be forgotten.
    fn reopen(&mut self) -> Result<StoreFile, StoreError> {
        StoreFile::open_existing(&self.0).map_err(|error| StoreError::Broken(error.to_string()))
    }

    /// redb refuses everything after an error of the disk, until the file is opened anew.
    fn apply(&mut self, file: &mut StoreFile, batch: &Batch) -> Result<Applied, StoreError> {
        file.apply(batch)
    }
}

impl KeptStore {
    /// Opens one broker's store, in the file of a state directory, or makes it, mode 0600, where there are no keys yet. `queue` is
    /// how many calls may wait, `deadline` how long each may take; `commits` is told how many seconds each commit took.
    pub fn in_file(state_dir: &Path, queue: usize, deadline: Duration, commits: Histogram) -> Result<Self, Problem> {
        not_lost(state_dir)?;
        let path = state_dir.join(FILE);
        let opened = StoreFile::open(&path).map_err(|error| error.problem(&path))?;
        Self::start(Embedded(path.clone()), opened, queue, deadline, commits).map_err(|error| Problem {
            field: "state_dir".into(),
            problem: format!("{}: {error}", path.display()),
            remedy: "let the broker start one thread more".into(),
        })
    }
}

/// Refuses a state directory that has keys and no store. A broker makes its store before its keys, so that this one is lost, and what
/// was revoked with it, while every token of before is good: whether that is to be is not for a program to say.
pub fn not_lost(state_dir: &Path) -> Result<(), Problem> {
    let (keys, path) = (state_dir.join(keyring::FILE), state_dir.join(FILE));
    let is_gone = |path: &Path| {
        path.symlink_metadata()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    if is_gone(&keys) || !is_gone(&path) {
        return Ok(());
    }
    Err(Problem {
        field: "state_dir".into(),
        problem: format!(
            "{} is gone, and {} is there: what was revoked would be forgotten, and the tokens be good",
            path.display(),
            keys.display()
        ),
        remedy: "bring in the last export (kerbridge store import FILE); where there is none, kerbridge store begin ends every token \
                 and begins a store that knows of nothing"
            .into(),
    })
}

#[cfg(test)]
mod tests;
