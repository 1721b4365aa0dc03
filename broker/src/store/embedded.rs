//! Keeps the store in one file of the state directory.

mod file;
mod offline;

use std::path::{Path, PathBuf};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

pub use self::offline::{Checked, check_file, export_file, import_file};

use self::file::StoreFile;
use super::StoreError;
use super::job::{Applied, Batch};
use super::keeper::{KeptStore, Place};
use crate::problem::Problem;

/// Name of the file in the state directory.
pub const FILE: &str = "store.redb";

/// The file's place.
#[derive(Debug)]
struct Embedded(PathBuf);

impl Place for Embedded {
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
    /// Opens one broker's store, in the file of a state directory, or makes it, mode 0600. `queue` is how many calls may wait, `deadline` how long
    /// each may take; `commits` is told how many seconds each commit took.
    pub fn in_file(state_dir: &Path, queue: usize, deadline: Duration, commits: Histogram) -> Result<Self, Problem> {
        let path = state_dir.join(FILE);
        let opened = StoreFile::open(&path).map_err(|error| error.problem(&path))?;
        Self::start(Embedded(path.clone()), opened, queue, deadline, commits).map_err(|error| Problem {
            field: "state_dir".into(),
            problem: format!("{}: {error}", path.display()),
            remedy: "let the broker start one thread more".into(),
        })
    }
}

#[cfg(test)]
mod tests;
