//! Brings a file of an earlier format up to this one, and leaves a copy of what was there for the broker that wrote it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable as _, TableDefinition, WriteTransaction};

use super::revocations::Revocations;
use super::tags::Tags;
use super::{ABOUT, ABOUT_FORMAT, FORMAT, sync_folder};

/// The tags of format 1: each an entry of its own.
const REPLAY_1: TableDefinition<'_, (u64, u64), &[u8; 32]> = TableDefinition::new("replay");

/// Copies the file, which nobody may have open, to a name beside it. A copy of that name is of an earlier attempt, since
/// which the file has not changed its format but may hold more.
pub(super) fn copy(path: &Path, format: u32) -> io::Result<PathBuf> {
    let copy = path.with_extension(format!("redb.format-{format}"));
    let temporary = path.with_extension("redb.tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut to = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    io::copy(&mut File::open(path)?, &mut to)?;
    to.sync_all()?;
    fs::rename(&temporary, &copy)?;
    sync_folder(path)?;
    Ok(copy)
}

/// Does what is missing since that format, and says so, in one transaction.
pub(super) fn migrate(database: &Database, from: u32) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    if from == 1 {
        pack_tags(&transaction)?;
    }
    // Format 2 had used tags and nothing else.
    Revocations::create(&transaction)?;
    transaction.open_table(ABOUT)?.insert(ABOUT_FORMAT, FORMAT)?;
    Ok(transaction.commit()?)
}

fn pack_tags(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut tags = BTreeMap::<u64, Vec<u8>>::new();
    for entry in transaction.open_table(REPLAY_1)?.iter()? {
        let (key, tag) = entry?;
        tags.entry(key.value().0).or_default().extend(tag.value());
    }
    transaction.delete_table(REPLAY_1)?;
    Tags::create(transaction, &tags)
}
