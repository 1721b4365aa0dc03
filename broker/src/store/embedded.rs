//! Keeps the store in one file of the state directory.

mod file;
mod offline;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

pub use self::offline::{Checked, begin_file, check_file, export_file, import_file, place_without_store};

use self::file::{StoreFile, unfinished_import};
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
        forget_import(&path)?;
        Self::start(Embedded(path.clone()), opened, queue, deadline, commits).map_err(|error| Problem {
            field: "state_dir".into(),
            problem: format!("{}: {error}", path.display()),
            remedy: "let the broker start one thread more".into(),
        })
    }
}

/// Refuses a state directory that has keys and no store. A broker makes its store before its keys, so that this one is lost, and what
/// was revoked with it, while every token of before is good: whether that is to be is not for a program to say.
///
/// Nor is one begun where somebody meant another's to be brought in: what was revoked there would be forgotten.
pub fn not_lost(state_dir: &Path) -> Result<(), Problem> {
    let (keys, path) = (state_dir.join(keyring::FILE), state_dir.join(FILE));
    if !is_gone(&path) {
        return Ok(());
    }
    if let Some(unfinished) = import_left(state_dir) {
        return Err(Problem {
            field: "state_dir".into(),
            problem: format!(
                "{} is not there, and {} is: an import did not come to its end, and what it was to bring in would be forgotten",
                path.display(),
                unfinished.display()
            ),
            remedy: "do it again (kerbridge store import FILE), which begins from the export; where nothing is to be brought in any \
                     more, remove what it left"
                .into(),
        });
    }
    if is_gone(&keys) {
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

/// What an import left in a state directory that did not come to its end, where there is no store; the next one begins anew.
pub fn import_left(state_dir: &Path) -> Option<PathBuf> {
    let path = state_dir.join(FILE);
    let unfinished = unfinished_import(&path);
    (is_gone(&path) && !is_gone(&unfinished)).then_some(unfinished)
}

/// An import's own name for a store that is there under its proper one is of no use any more: its last step was not done, or a later
/// one has brought in what it did not.
fn forget_import(path: &Path) -> Result<(), Problem> {
    let unfinished = unfinished_import(path);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Problem {
            field: "state_dir".into(),
            problem: format!("{}, which an import left: {error}", unfinished.display()),
            remedy: "remove it: the store is there".into(),
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_gone(path: &Path) -> bool {
    path.symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests;
