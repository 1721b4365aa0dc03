//! Opens the store's one file, of this format or brought up to it, and does a batch in one durable transaction.

mod migrate;
mod revocations;
mod tags;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{UnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use self::revocations::Revocations;
use self::tags::Tags;
use crate::problem::Problem;
use crate::store::job::{Applied, Batch, Change};
use crate::store::{Exported, Position, StoreError, Swept};

/// What this release reads and writes.
pub(super) const FORMAT: u32 = 3;
/// Pages of the file that are kept in memory, in bytes; only the ends of its tables are worked on.
const CACHE: usize = 4 * 1024 * 1024;

/// As much of an import as is written in one transaction.
const IMPORTED_AT_ONCE: usize = 16 * 1024;

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
    /// It is damaged, or no store.
    Damaged(String),
    /// The system or redb refuses.
    Refused(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(found) => write!(f, "it has format {found}, and this release knows {FORMAT}"),
            Self::Damaged(problem) => write!(f, "it is damaged, or no store: {problem}"),
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
                Self::Format(_) => "run the release that wrote it, or a newer one",
                // As docs/store.md says at length.
                Self::Damaged(_) => {
                    "move it away and bring in the last export (kerbridge store import FILE); where there is none, what was \
                     revoked is forgotten: kerbridge store begin ends every token and begins a store that knows of nothing"
                }
                Self::Refused(_) => "let the broker's user own the state directory, mode 0700, on a disk with room",
            }
            .into(),
        }
    }
}

/// Reads what may make no sense: redb trusts a file that was closed in good order, and may panic on what was changed in it since.
pub(super) fn sensibly<T>(work: impl FnOnce() -> Result<T, OpenError> + UnwindSafe) -> Result<T, OpenError> {
    catch_unwind(work).unwrap_or_else(|_| Err(OpenError::Damaged("it makes no sense".into())))
}

impl StoreFile {
    /// Opens the file, or makes it; after a crash redb checks it first. One of an earlier format is copied, and then brought
    /// up to this one.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        make(path)?;
        Self::open_existing(path)
    }

    /// Opens the file that is there.
    pub(super) fn open_existing(path: &Path) -> Result<Self, OpenError> {
        sensibly(|| Self::open_trusting(path))
    }

    fn open_trusting(path: &Path) -> Result<Self, OpenError> {
        let mut database = open(path)?;
        match format(&database).map_err(|error| in_redb(&error))? {
            Some(FORMAT) => {}
            None => return Err(OpenError::Damaged("it has no format number".into())),
            Some(before @ (1 | 2)) => {
                drop(database);
                let copy = migrate::copy(path, before).map_err(refused)?;
                database = open(path)?;
                migrate::migrate(&database, before).map_err(|error| in_redb(&error))?;
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
        let (tags, revocations) = read().map_err(|error| in_redb(&error))?;
        Ok(Self {
            database,
            tags,
            revocations,
        })
    }

    /// Makes a store where there is none, with all that another held, in an epoch of its own. It is there whole or not at all.
    pub(super) fn import(path: &Path, exported: &Exported) -> Result<Position, OpenError> {
        let temporary = unfinished_import(path);
        let fill = || -> Result<Position, OpenError> {
            let mut file = Self::open_existing(&temporary)?;
            let mut batches = vec![Batch {
                tokens_end: Some(exported.tokens_end),
                ..Batch::default()
            }];
            batches.extend(exported.revoked.chunks(IMPORTED_AT_ONCE).map(|revoked| {
                Batch {
                    change: revoked
                        .iter()
                        .map(|(revocation, at)| Change::Revoke(revocation.clone(), *at))
                        .collect(),
                    ..Batch::default()
                }
            }));
            batches.extend(exported.used.chunks(IMPORTED_AT_ONCE).map(|used| Batch {
                consume: used.to_vec(),
                ..Batch::default()
            }));
            for batch in &batches {
                let applied = file.apply(batch).map_err(refused)?;
                for changed in applied.changed {
                    changed.map_err(refused)?;
                }
            }
            Ok(file.position())
        };
        create_new(&temporary)?;
        // A link never replaces what is there.
        let linked = fill().and_then(|position| {
            let linked = fs::hard_link(&temporary, path).and_then(|()| sync_folder(path));
            linked.map(|()| position).map_err(refused)
        });
        // Only of a process that was killed something is left; where the store is there by then, this is all that was missing.
        let removed = fs::remove_file(&temporary).map_err(refused);
        linked.and_then(|position| removed.map(|()| position))
    }

    /// Where it stands.
    pub(super) fn position(&self) -> Position {
        self.revocations.position()
    }

    /// All that it holds.
    pub(super) fn export(&self) -> Result<Exported, StoreError> {
        let broken = |error: redb::Error| StoreError::Broken(error.to_string());
        let transaction = self.database.begin_read().map_err(|error| broken(error.into()))?;
        let changes = self.revocations.since(&transaction, 0, usize::MAX)?;
        let recorded = changes.recorded.into_iter();
        Ok(Exported {
            position: changes.newest,
            tokens_end: self.revocations.tokens_end(),
            revoked: recorded.map(|one| (one.revocation, one.at)).collect(),
            used: Tags::all(&transaction).map_err(broken)?,
        })
    }

    /// Looks at every page and every row.
    pub(super) fn verify(&mut self) -> Result<(), StoreError> {
        let broken = |error: redb::Error| StoreError::Broken(error.to_string());
        match self.database.check_integrity() {
            Ok(true) => {}
            Ok(false) => {
                return Err(StoreError::Broken(
                    "it was not in order; what could be was mended now".into(),
                ));
            }
            Err(error) => return Err(broken(error.into())),
        }
        let transaction = self.database.begin_read().map_err(|error| broken(error.into()))?;
        self.revocations.verify(&transaction)
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

/// Where an import writes a store until it is whole.
pub(super) fn unfinished_import(path: &Path) -> PathBuf {
    path.with_extension("redb.import")
}

fn open(path: &Path) -> Result<Database, OpenError> {
    let opened = Builder::new().set_cache_size(CACHE).open(path);
    opened.map_err(|error| in_redb(&error.into()))
}

/// The file under its name, with all that a new one has, or nothing: what is found empty was emptied.
fn make(path: &Path) -> Result<(), OpenError> {
    // A dangling link is there, too.
    match fs::symlink_metadata(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
    }
    let temporary = path.with_extension("redb.new");
    create_new(&temporary)?;
    let linked = match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    let removed = fs::remove_file(&temporary);
    linked.and(removed).and_then(|()| sync_folder(path)).map_err(refused)
}

/// A new store under a name that is nobody's, nobody else with rights to it.
fn create_new(path: &Path) -> Result<(), OpenError> {
    // Of a process that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(refused)?;
    let database = Builder::new()
        .set_cache_size(CACHE)
        .create_with_backend(FileBackend::new(file).map_err(refused)?)
        .map_err(refused)?;
    create(&database).map_err(refused)
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

/// What redb found in a file that is there.
fn in_redb(error: &redb::Error) -> OpenError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list is long and grows; what is unknown is not to be trusted"
    )]
    let is_damage = match error {
        redb::Error::Io(error) => matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo => false,
        _ => true,
    };
    let text = error.to_string();
    if is_damage {
        OpenError::Damaged(text)
    } else {
        OpenError::Refused(text)
    }
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
