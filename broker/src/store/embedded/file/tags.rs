//! Keeps the used tags, in the order in which they end. An entry holds the tags of one commit that end in one second, so that a
//! commit adds one entry or two, however many share it.
//!
//! The table is appended to, never searched: tags are random, and to search for them on disk would touch a page of the file
//! for each. All of them are in memory too, 128 bits each, and read from the file when it is opened.

use std::collections::{BTreeMap, HashSet};

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use crate::store::{Consumed, ReplayTag};
use crate::time::UnixTime;

/// From the second in which tags end, and a number that tells those of one second apart, to the tags, one behind the other.
const REPLAY: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("replay");
/// Bytes of a tag.
const TAG: usize = 32;

/// As much of a tag as is kept in memory.
type Short = [u8; 16];

/// The tags of the file, as of the last commit.
pub(super) struct Tags {
    used: HashSet<Short>,
    next: u64,
}

/// What a transaction that is not yet committed does to them.
pub(super) struct Staged {
    consumed: Vec<Consumed>,
    fresh: HashSet<Short>,
    entries: u64,
    gone: Vec<Short>,
}

impl Tags {
    /// Makes the table, of tags by the second in which they end.
    pub(super) fn create(transaction: &WriteTransaction, tags: &BTreeMap<u64, Vec<u8>>) -> Result<(), redb::Error> {
        let mut table = transaction.open_table(REPLAY)?;
        for ((until, tags), number) in tags.iter().zip(0..) {
            table.insert((*until, number), tags.as_slice())?;
        }
        Ok(())
    }

    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        let (mut used, mut next) = (HashSet::new(), 0);
        for entry in transaction.open_table(REPLAY)?.iter()? {
            let (key, tags) = entry?;
            used.extend(shorts(tags.value()));
            next = next.max(key.value().1.saturating_add(1));
        }
        Ok(Self { used, next })
    }

    /// All of them, and when each ends.
    pub(super) fn all(transaction: &ReadTransaction) -> Result<Vec<(ReplayTag, UnixTime)>, redb::Error> {
        let mut all = Vec::new();
        for entry in transaction.open_table(REPLAY)?.iter()? {
            let (key, tags) = entry?;
            let until = UnixTime::from_seconds(key.value().0);
            all.extend(
                tags.value()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|tag| (ReplayTag::from_bytes(*tag), until)),
            );
            if !tags.value().as_chunks::<TAG>().1.is_empty() {
                return Err(redb::Error::Corrupted("a used ticket is cut off".into()));
            }
        }
        Ok(all)
    }

    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        consume: &[(ReplayTag, UnixTime)],
        sweep: Option<UnixTime>,
    ) -> Result<Staged, redb::Error> {
        let mut table = transaction.open_table(REPLAY)?;
        let mut staged = Staged {
            consumed: Vec::with_capacity(consume.len()),
            fresh: HashSet::new(),
            entries: 0,
            gone: Vec::new(),
        };
        if let Some(now) = sweep {
            table.retain_in(..=(now.seconds(), u64::MAX), |_, tags| {
                staged.gone.extend(shorts(tags));
                false
            })?;
        }
        let mut by_end = BTreeMap::<u64, Vec<u8>>::new();
        for (tag, until) in consume {
            let short = short(tag.as_bytes());
            let is_first = !self.used.contains(&short) && staged.fresh.insert(short);
            staged
                .consumed
                .push(if is_first { Consumed::First } else { Consumed::Again });
            if is_first {
                by_end.entry(until.seconds()).or_default().extend(tag.as_bytes());
            }
        }
        for ((until, tags), number) in by_end.iter().zip(self.next..) {
            table.insert((*until, number), tags.as_slice())?;
        }
        staged.entries = by_end.len() as u64;
        Ok(staged)
    }

    /// Takes over what the disk has now. Says which tags were new, and how many were forgotten.
    pub(super) fn committed(&mut self, staged: Staged) -> (Vec<Consumed>, u64) {
        let Staged {
            consumed,
            fresh,
            entries,
            gone,
        } = staged;
        self.next = self.next.saturating_add(entries);
        self.used.extend(fresh);
        for short in &gone {
            self.used.remove(short);
        }
        if self.used.len() < self.used.capacity() / 8 {
            self.used.shrink_to(self.used.len().saturating_mul(2));
        }
        (consumed, gone.len() as u64)
    }

    /// What is said of tags none of which is new, so that nothing is to be written.
    pub(super) fn all_again(&self, consume: &[(ReplayTag, UnixTime)]) -> Option<Vec<Consumed>> {
        let is_used = |(tag, _): &(ReplayTag, UnixTime)| self.used.contains(&short(tag.as_bytes()));
        consume
            .iter()
            .all(is_used)
            .then(|| vec![Consumed::Again; consume.len()])
    }
}

fn short(tag: &[u8; TAG]) -> Short {
    let [short @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *tag;
    short
}

/// Of the tags of an entry.
fn shorts(tags: &[u8]) -> impl Iterator<Item = Short> {
    tags.as_chunks().0.iter().map(short)
}
