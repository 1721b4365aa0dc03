//! Looks at a store's file, takes all out of it, and makes one of what was taken out, while no broker has it open.

use std::path::{Path, PathBuf};

use super::file::{FORMAT, OpenError, StoreFile, sensibly};
use super::{FILE, forget_import};
use crate::problem::Problem;
use crate::store::{Exported, Position, StoreError};
use crate::time::UnixTime;

/// What a look at a store's file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Of the file.
    pub format: u32,
    /// Where it stands.
    pub position: Position,
    /// Until when any token may be valid that was minted so far.
    pub tokens_end: UnixTime,
    /// How many revocations it holds.
    pub revoked: usize,
    /// How many used tickets it holds.
    pub used: usize,
}

/// Reads every page and every row of the file. One of an earlier format is brought up to this one.
pub fn check_file(path: &Path) -> Result<Checked, Problem> {
    let read = sensibly(|| {
        let mut file = StoreFile::open_existing(path)?;
        file.verify().map_err(|error| damaged(&error))?;
        file.export().map_err(|error| damaged(&error))
    });
    let Exported {
        position,
        tokens_end,
        revoked,
        used,
    } = read.map_err(|error| error.problem(path))?;
    Ok(Checked {
        format: FORMAT,
        position,
        tokens_end,
        revoked: revoked.len(),
        used: used.len(),
    })
}

/// All that the file holds.
pub fn export_file(path: &Path) -> Result<Exported, Problem> {
    let read = sensibly(|| {
        StoreFile::open_existing(path)?
            .export()
            .map_err(|error| damaged(&error))
    });
    read.map_err(|error| error.problem(path))
}

/// Makes the store of a state directory, which must have none, of what another held; it is a new epoch.
pub fn import_file(state_dir: &Path, exported: &Exported) -> Result<Position, Problem> {
    let path = place_without_store(state_dir)?;
    StoreFile::import(&path, exported).map_err(|error| error.problem(&path))
}

/// Makes the store of a state directory, which must have none, though there are keys; it knows of nothing.
pub fn begin_file(state_dir: &Path) -> Result<Position, Problem> {
    let path = place_without_store(state_dir)?;
    let begun = StoreFile::open(&path).map_err(|error| error.problem(&path))?;
    forget_import(&path)?;
    Ok(begun.position())
}

/// Where the store of a state directory is to be, which has none.
pub fn place_without_store(state_dir: &Path) -> Result<PathBuf, Problem> {
    let path = state_dir.join(FILE);
    if path.symlink_metadata().is_ok() {
        return Err(Problem {
            field: "state_dir".into(),
            problem: format!("{} is there, and is not overwritten", path.display()),
            remedy: "export it if it may hold what the other does not, then move it away".into(),
        });
    }
    Ok(path)
}

fn damaged(error: &StoreError) -> OpenError {
    OpenError::Damaged(error.to_string())
}
