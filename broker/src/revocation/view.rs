//! Keeps in memory what is revoked, found by the key that names it and in the order in which it was revoked.

use std::collections::{BTreeMap, HashMap};

use kerbridge_wire::feed::{EVER, Entry, RevocationKey};
use tokio::time::Instant;

use crate::store::{KEPT_LONGER, Position};
use crate::time::UnixTime;

/// What is revoked, as of one look into the store.
#[derive(Debug, Default)]
pub(super) struct View {
    newest: Option<Position>,
    /// No delta may begin at an earlier version.
    oldest: u64,
    entries: BTreeMap<u64, Entry>,
    versions: HashMap<RevocationKey, u64>,
    as_of: UnixTime,
    read_at: Option<Instant>,
}

/// An entry that is still needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'v>(&'v Entry);

impl View {
    /// Takes in what a look has brought, which may be nothing new.
    pub(super) fn take(
        &mut self,
        read: impl IntoIterator<Item = (u64, Entry)>,
        newest: Position,
        oldest: u64,
        as_of: UnixTime,
        read_at: Instant,
    ) {
        for (version, entry) in read {
            if let Some(before) = self.versions.insert(entry.key, version) {
                self.entries.remove(&before);
            }
            self.entries.insert(version, entry);
        }
        self.newest = Some(newest);
        self.oldest = oldest;
        self.as_of = as_of;
        self.read_at = Some(read_at);
    }

    /// Forgets what nobody needs any more.
    pub(super) fn sweep(&mut self, now: UnixTime) {
        let Self { entries, versions, .. } = self;
        entries.retain(|_, entry| {
            let is_needed = is_needed(entry, now);
            if !is_needed {
                versions.remove(&entry.key);
            }
            is_needed
        });
    }

    pub(super) fn find(&self, key: &RevocationKey, now: UnixTime) -> Option<Found<'_>> {
        let entry = self.entries.get(self.versions.get(key)?)?;
        is_needed(entry, now).then_some(Found(entry))
    }

    /// Those of later versions, in order.
    pub(super) fn since(&self, version: u64) -> impl Iterator<Item = &Entry> {
        self.entries.range(version.saturating_add(1)..).map(|(_, entry)| entry)
    }

    pub(super) const fn newest(&self) -> Option<Position> {
        self.newest
    }

    pub(super) const fn oldest(&self) -> u64 {
        self.oldest
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When this was all that the store had.
    pub(super) const fn as_of(&self) -> UnixTime {
        self.as_of
    }

    pub(super) const fn read_at(&self) -> Option<Instant> {
        self.read_at
    }
}

impl Found<'_> {
    /// Whether it takes a token with this `iat`, or one without.
    pub(super) fn covers(self, issued: Option<UnixTime>) -> bool {
        match (self.up_to(), issued) {
            (Some(up_to), Some(issued)) => issued <= up_to,
            (None, _) | (_, None) => true,
        }
    }

    /// The last `iat` that it takes; `None` takes all.
    pub(super) fn up_to(self) -> Option<UnixTime> {
        let Self(entry) = self;
        (entry.issued_at_or_before != EVER).then(|| UnixTime::from_seconds(entry.issued_at_or_before.into()))
    }
}

fn is_needed(entry: &Entry, now: UnixTime) -> bool {
    entry.needed_until == EVER || u64::from(entry.needed_until).saturating_add(KEPT_LONGER) >= now.seconds()
}
