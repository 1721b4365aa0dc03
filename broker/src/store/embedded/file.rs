//! Writes and reads the store's one file: its format, and a table of used tags in the order in which they end. An entry holds
//! the tags of one commit that end in one second, so that a commit adds one entry or two, however many share it.
//!
//! The table is appended to, never searched: tags are random, and to search for them on disk would touch a page of the file
//! for each. All of them are in memory too, 128 bits each, and read from the file when it is opened.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::{Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Applied, Batch};
use crate::problem::Problem;
use crate::store::{Consumed, StoreError};
use crate::time::UnixTime;

/// What this release reads and writes.
const FORMAT: u32 = 2;
/// Pages of the file that are kept in memory, in bytes; only the table's ends are worked on.
const CACHE: usize = 4 * 1024 * 1024;

const ABOUT: TableDefinition<'_, &str, u32> = TableDefinition::new("about");
const ABOUT_FORMAT: &str = "format";
/// From the second in which tags end, and a number that tells those of one second apart, to the tags, one behind the other.
const REPLAY: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("replay");
/// Bytes of a tag.
const TAG: usize = 32;

/// As much of a tag as is kept in memory.
type Short = [u8; 16];

/// The file and what is in it.
pub(super) struct StoreFile {
    database: Database,
    used: HashSet<Short>,
    next: u64,
}

/// Why a file cannot be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Another release's, with this format.
    Format(u32),
    /// The system or redb refuses.
    Refused(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(found) => write!(f, "it has format {found}, and this release knows {FORMAT}"),
            Self::Refused(problem) => f.write_str(problem),
        }
    }
}

impl OpenError {
    pub(super) fn problem(&self, path: &Path) -> Problem {
        Problem {
            field: "state_dir".into(),
            problem: format!("{}: {self}", path.display()),
            remedy: match self {
                Self::Format(_) => "run the release that wrote it, or a newer one".into(),
                Self::Refused(_) => {
                    "let the broker's user own the state directory, mode 0700, on a disk with room".into()
                }
            },
        }
    }
}

impl StoreFile {
    /// Opens the file, or makes it; after a crash redb checks it first.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        make(path).map_err(refused)?;
        let database = Builder::new().set_cache_size(CACHE).create(path).map_err(refused)?;
        check_format(&database)?;
        let (mut used, mut next) = (HashSet::new(), 0);
        let read = || -> Result<_, redb::Error> { Ok(database.begin_read()?.open_table(REPLAY)?) };
        let table = read().map_err(refused)?;
        for entry in table.iter().map_err(refused)? {
            let (key, tags) = entry.map_err(refused)?;
            used.extend(shorts(tags.value()));
            next = next.max(key.value().1.saturating_add(1));
        }
        drop(table);
        Ok(Self { database, used, next })
    }

    /// Does all of it in one durable transaction, or nothing.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<Applied, StoreError> {
        let mut applied = Applied::default();
        let mut fresh = BTreeMap::<u64, Vec<u8>>::new();
        let mut here = HashSet::new();
        for (tag, until) in &batch.consume {
            let short = short(tag.as_bytes());
            let is_first = !self.used.contains(&short) && here.insert(short);
            applied
                .consumed
                .push(if is_first { Consumed::First } else { Consumed::Again });
            if is_first {
                fresh.entry(until.seconds()).or_default().extend(tag.as_bytes());
            }
        }
        let mut gone = Vec::new();
        if !fresh.is_empty() || batch.sweep.is_some() {
            self.write(&fresh, batch.sweep, &mut gone)
                .map_err(|error| StoreError::Broken(error.to_string()))?;
        }
        // Only now, when the disk has it.
        self.next = self.next.saturating_add(fresh.len() as u64);
        self.used.extend(here);
        for short in &gone {
            self.used.remove(short);
        }
        if self.used.len() < self.used.capacity() / 8 {
            self.used.shrink_to(self.used.len().saturating_mul(2));
        }
        applied.swept = gone.len() as u64;
        Ok(applied)
    }

    fn write(
        &self,
        fresh: &BTreeMap<u64, Vec<u8>>,
        sweep: Option<UnixTime>,
        gone: &mut Vec<Short>,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(REPLAY)?;
            if let Some(now) = sweep {
                table.retain_in(..=(now.seconds(), u64::MAX), |_, tags| {
                    gone.extend(shorts(tags));
                    false
                })?;
            }
            for ((until, tags), number) in fresh.iter().zip(self.next..) {
                table.insert((*until, number), tags.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// The file under its name with nobody else's rights to it, before redb fills it.
fn make(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all()?;
            // A file whose name is lost with the power is a store that has forgotten everything.
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The format, written into a new file.
fn check_format(database: &Database) -> Result<(), OpenError> {
    let look = || -> Result<u32, redb::Error> {
        let transaction = database.begin_write()?;
        let found = {
            let mut about = transaction.open_table(ABOUT)?;
            let found = about.get(ABOUT_FORMAT)?.map(|format| format.value());
            if found.is_none() {
                about.insert(ABOUT_FORMAT, FORMAT)?;
                transaction.open_table(REPLAY)?;
            }
            found
        };
        if found.is_none() {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(found.unwrap_or(FORMAT))
    };
    match look().map_err(refused)? {
        FORMAT => Ok(()),
        other => Err(OpenError::Format(other)),
    }
}

fn refused(error: impl fmt::Display) -> OpenError {
    OpenError::Refused(error.to_string())
}

fn short(tag: &[u8; TAG]) -> Short {
    let [short @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *tag;
    short
}

/// Of the tags of an entry.
fn shorts(tags: &[u8]) -> impl Iterator<Item = Short> {
    tags.as_chunks().0.iter().map(short)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes another format into a store's file.
    pub(in super::super) fn set_format(path: &Path, format: u32) {
        let database = Database::create(path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(ABOUT)
            .unwrap()
            .insert(ABOUT_FORMAT, format)
            .unwrap();
        transaction.commit().unwrap();
    }
}
