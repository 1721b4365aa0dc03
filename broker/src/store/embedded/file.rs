//! Opens the store's one file, of this format or brought up to it, and does a batch in one durable transaction.

mod migrate;
mod revocations;
mod tags;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::{Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use self::revocations::Revocations;
use self::tags::Tags;
use super::job::{Applied, Batch};
use crate::problem::Problem;
use crate::store::{StoreError, Swept};

/// What this release reads and writes.
const FORMAT: u32 = 3;
/// Pages of the file that are kept in memory, in bytes; only the ends of its tables are worked on.
const CACHE: usize = 4 * 1024 * 1024;

const ABOUT: TableDefinition<'_, &str, u32> = TableDefinition::new("about");
const ABOUT_FORMAT: &str = "format";

/// The file, and what of it is in memory.
pub(super) struct StoreFile {
    database: Database,
    tags: Tags,
    revocations: Revocations,
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
    /// Opens the file, or makes it; after a crash redb checks it first. One of an earlier format is copied, and then brought
    /// up to this one.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        make(path).map_err(refused)?;
        let mut database = open(path)?;
        match format(&database).map_err(refused)? {
            Some(FORMAT) => {}
            None => create(&database).map_err(refused)?,
            Some(before @ (1 | 2)) => {
                drop(database);
                let copy = migrate::copy(path, before).map_err(refused)?;
                database = open(path)?;
                migrate::migrate(&database, before).map_err(refused)?;
                tracing::info!(
                    from = before,
                    to = FORMAT,
                    copy = %copy.display(),
                    "the store was brought up to this release's format"
                );
            }
            Some(other) => return Err(OpenError::Format(other)),
        }
        let read = || -> Result<_, redb::Error> {
            let transaction = database.begin_read()?;
            Ok((Tags::read(&transaction)?, Revocations::read(&transaction)?))
        };
        let (tags, revocations) = read().map_err(refused)?;
        Ok(Self {
            database,
            tags,
            revocations,
        })
    }

    /// Does all of it in one durable transaction, or nothing.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<Applied, StoreError> {
        let broken = |error: redb::Error| StoreError::Broken(error.to_string());
        let mut applied = Applied {
            is_committed: false,
            consumed: Vec::new(),
            changed: Vec::new(),
            tokens_end: self.revocations.tokens_end(),
            swept: Swept::default(),
            read: Vec::with_capacity(batch.read.len()),
        };
        let is_news = batch.tokens_end.is_some_and(|end| end > applied.tokens_end);
        let is_written = is_news || batch.sweep.is_some() || !batch.change.is_empty();
        match self.tags.all_again(&batch.consume) {
            Some(consumed) if !is_written => applied.consumed = consumed,
            Some(_) | None => self.write(batch, &mut applied).map_err(broken)?,
        }
        if !batch.read.is_empty() {
            let transaction = self.database.begin_read().map_err(|error| broken(error.into()))?;
            for (version, most) in &batch.read {
                applied
                    .read
                    .push(self.revocations.since(&transaction, *version, *most)?);
            }
        }
        Ok(applied)
    }

    fn write(&mut self, batch: &Batch, applied: &mut Applied) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let tags = self.tags.write(&transaction, &batch.consume, batch.sweep)?;
        let revocations = self
            .revocations
            .write(&transaction, &batch.change, batch.tokens_end, batch.sweep)?;
        transaction.commit()?;
        // Only now, when the disk has it.
        (applied.consumed, applied.swept.tags) = self.tags.committed(tags);
        (applied.changed, applied.swept.revocations) = self.revocations.committed(revocations);
        applied.tokens_end = self.revocations.tokens_end();
        applied.is_committed = true;
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, OpenError> {
    Builder::new().set_cache_size(CACHE).create(path).map_err(refused)
}

/// The file under its name with nobody else's rights to it, before redb fills it.
fn make(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all()?;
            sync_folder(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A file whose name is lost with the power is a store that has forgotten everything.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The format; none in a new file.
fn format(database: &Database) -> Result<Option<u32>, redb::Error> {
    let transaction = database.begin_write()?;
    let format = transaction
        .open_table(ABOUT)?
        .get(ABOUT_FORMAT)?
        .map(|format| format.value());
    transaction.abort()?;
    Ok(format)
}

/// Everything that a new file has.
fn create(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ABOUT)?.insert(ABOUT_FORMAT, FORMAT)?;
    Tags::create(&transaction, &BTreeMap::new())?;
    Revocations::create(&transaction)?;
    Ok(transaction.commit()?)
}

fn refused(error: impl fmt::Display) -> OpenError {
    OpenError::Refused(error.to_string())
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

    const REPLAY_1: TableDefinition<'_, (u64, u64), &[u8; 32]> = TableDefinition::new("replay");
    const REPLAY_2: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("replay");

    /// The used tags of a file as an earlier release reads it.
    pub(in super::super) fn read_earlier(path: &Path, format: u32) -> Vec<[u8; 32]> {
        let database = Database::open(path).unwrap();
        let transaction = database.begin_read().unwrap();
        let about = transaction.open_table(ABOUT).unwrap();
        assert_eq!(about.get(ABOUT_FORMAT).unwrap().unwrap().value(), format);
        if format == 1 {
            let replay = transaction.open_table(REPLAY_1).unwrap();
            replay.iter().unwrap().map(|row| *row.unwrap().1.value()).collect()
        } else {
            let replay = transaction.open_table(REPLAY_2).unwrap();
            let rows = replay.iter().unwrap();
            rows.flat_map(|row| row.unwrap().1.value().as_chunks().0.to_vec())
                .collect()
        }
    }

    /// A file as an earlier release wrote it.
    pub(in super::super) fn write_earlier(path: &Path, format: u32, used: &[[u8; 32]], until: u64) {
        let database = Database::create(path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut about = transaction.open_table(ABOUT).unwrap();
        about.insert(ABOUT_FORMAT, format).unwrap();
        drop(about);
        if format == 1 {
            let mut replay = transaction.open_table(REPLAY_1).unwrap();
            for (number, tag) in (0..).zip(used) {
                replay.insert((until, number), tag).unwrap();
            }
        } else {
            let mut replay = transaction.open_table(REPLAY_2).unwrap();
            replay.insert((until, 0), used.concat().as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
}
