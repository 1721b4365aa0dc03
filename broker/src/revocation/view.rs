//! Keeps in memory what is revoked, found by the key that names it and in the order in which it was revoked; and what stood in
//! the place of what was changed lately, so that it can be told as it was a moment ago.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use kerbridge_gate::revocation::LEEWAY;
use kerbridge_wire::feed::{EVER, Entry, RevocationKey};
use tokio::time::Instant;

use crate::store::{KEPT_LONGER, Position};
use crate::time::UnixTime;

/// How long what was changed is remembered. Reading a million revocations takes a filter seconds.
const REMEMBERED_FOR: Duration = Duration::from_secs(180);
/// As many of them as are remembered: a few megabytes.
const MOST_REMEMBERED: usize = 64 * 1024;
/// Seconds of which is remembered where the store stood.
const MOST_LOOKS: usize = 180;

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
    /// What stood there before, by its version.
    replaced: BTreeMap<u64, Replaced>,
    /// What stood at this version, or at a later one, is known whole.
    told_from: u64,
    /// The first look of each second, in their order: which version was the newest.
    looks: VecDeque<(u64, UnixTime)>,
}

#[derive(Debug)]
struct Replaced {
    entry: Entry,
    /// The version of what stands there instead.
    by: u64,
    seen: Instant,
}

/// An entry that is still needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'v>(&'v Entry);

impl View {
    /// Forgets what was read, but not when.
    pub(super) fn begin_anew(&mut self) {
        *self = Self {
            as_of: self.as_of,
            read_at: self.read_at,
            ..Self::default()
        };
    }

    /// Takes in what a look has brought, which may be nothing new; where it does not say as of when, it is as of no later than
    /// the last one that did.
    pub(super) fn take(
        &mut self,
        read: impl IntoIterator<Item = (u64, Entry)>,
        newest: Position,
        oldest: u64,
        as_of: Option<UnixTime>,
        read_at: Instant,
    ) {
        for (version, entry) in read {
            if let Some(before) = self.versions.insert(entry.key, version)
                && let Some(replaced) = self.entries.remove(&before)
            {
                self.remember(before, replaced, version, read_at);
            }
            self.entries.insert(version, entry);
        }
        if self.newest.is_none() {
            self.told_from = newest.version;
        }
        self.newest = Some(newest);
        self.oldest = oldest;
        self.read_at = Some(read_at);
        if let Some(as_of) = as_of {
            self.as_of = as_of;
            self.looked(newest.version, as_of);
        }
    }

    fn remember(&mut self, version: u64, entry: Entry, by: u64, seen: Instant) {
        self.replaced.insert(version, Replaced { entry, by, seen });
        if self.replaced.len() > MOST_REMEMBERED
            && let Some((_, forgotten)) = self.replaced.pop_first()
        {
            self.told_from = self.told_from.max(forgotten.by);
        }
    }

    fn looked(&mut self, version: u64, as_of: UnixTime) {
        match self.looks.back() {
            Some((_, last)) if *last == as_of => return,
            // The clock was set back.
            Some((_, last)) if *last > as_of => self.looks.clear(),
            Some(_) | None => {}
        }
        self.looks.push_back((version, as_of));
        if self.looks.len() > MOST_LOOKS {
            self.looks.pop_front();
        }
    }

    /// Forgets what nobody needs any more.
    pub(super) fn sweep(&mut self, now: UnixTime) {
        let Self {
            entries,
            versions,
            replaced,
            told_from,
            ..
        } = self;
        entries.retain(|_, entry| {
            let is_needed = is_needed(entry, now, KEPT_LONGER);
            if !is_needed {
                versions.remove(&entry.key);
            }
            is_needed
        });
        replaced.retain(|_, one| {
            let is_recent = one.seen.elapsed() <= REMEMBERED_FOR;
            if !is_recent {
                *told_from = (*told_from).max(one.by);
            }
            is_recent
        });
    }

    pub(super) fn find(&self, key: &RevocationKey, now: UnixTime) -> Option<Found<'_>> {
        let entry = self.entries.get(self.versions.get(key)?)?;
        is_needed(entry, now, LEEWAY).then_some(Found(entry))
    }

    /// Those of versions after `base`, in order, as they stood when `version` was the newest, that were needed at a time.
    pub(super) fn between(&self, base: u64, version: u64, time: UnixTime) -> impl Iterator<Item = &Entry> {
        let after = base.saturating_add(1);
        // A range must not end before it begins.
        let range = after..=version.max(after);
        let mut standing = self
            .entries
            .range(range.clone())
            .filter(move |(at, _)| **at <= version)
            .peekable();
        let mut replaced = self
            .replaced
            .range(range)
            .filter(move |(at, one)| **at <= version && one.by > version)
            .peekable();
        let entries = std::iter::from_fn(move || match (standing.peek(), replaced.peek()) {
            (Some((one, _)), Some((other, _))) if other < one => replaced.next().map(|(_, one)| &one.entry),
            (Some(_), _) => standing.next().map(|(_, entry)| entry),
            (None, _) => replaced.next().map(|(_, one)| &one.entry),
        });
        entries.filter(move |entry| is_needed(entry, time, LEEWAY))
    }

    /// When all that was revoked was told by what stood at this version: `None` where that is not known, or what stood.
    pub(super) fn told_as_of(&self, version: u64) -> Option<UnixTime> {
        let newest = self.newest?.version;
        if version == newest {
            return Some(self.as_of);
        }
        if !(self.told_from..newest).contains(&version) {
            return None;
        }
        let mut looks = self.looks.iter().rev();
        looks.find(|(seen, _)| *seen <= version).map(|(_, as_of)| *as_of)
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

    /// At most as many as stood at any version that can be told.
    pub(super) fn most(&self) -> usize {
        self.entries.len().saturating_add(self.replaced.len())
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

/// Whether somebody heeds it who does so for this many seconds after its `needed_until`; verifiers do for [`LEEWAY`].
fn is_needed(entry: &Entry, now: UnixTime, longer: u64) -> bool {
    entry.needed_until == EVER || u64::from(entry.needed_until).saturating_add(longer) >= now.seconds()
}
