//! Remembers verified tokens within bounds, so that showing one again costs a look-up and no signature check.
//!
//! What stays is decided as by S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), save
//! that a token is promoted when it is hit and not when its time is over, so that no insertion has many to promote. A new
//! token enters a queue on probation that has a tenth of the bounds; the first hit moves it to the main queue. Tokens that
//! each come once therefore displace one another and nothing else, however many they are. What went without a hit is
//! remembered by a fingerprint: if it comes again soon, it enters the main queue.
//!
//! Only the caller puts tokens in, and only verified ones; what is kept with a token is its own business, such as the
//! policy under which it was judged.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

use crate::time::UnixTime;

/// Tokens of the main queue looked at, at most, to find one that can go; bounds the work of an insertion.
const LOOKS: usize = 32;
/// Hits that count for a token of the main queue; each lets it pass the end once more.
const MOST_HITS: u8 = 3;
/// The part of the bounds that is for tokens on probation.
const PROBATION: usize = 10;
/// Bytes that an allocator spends on the block of one token.
const BLOCK: usize = 16;
/// No place: no list of entries is as long.
const NOWHERE: usize = usize::MAX;

/// How much a cache may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Tokens; 0 switches the cache off.
    pub entries: usize,
    /// Bytes of tokens, of what is kept of each, and of the cache's own tables.
    pub bytes: usize,
}

/// Verified tokens and a value of each. Keys are whole tokens, so two tokens are never taken for one.
///
/// The tables grow with use: an empty cache holds no memory. A hit allocates nothing, and moves its token once.
pub struct TokenCache<V, S = RandomState> {
    bounds: Bounds,
    /// Keyed at random, so that nobody can choose tokens that share a chain.
    hasher: S,
    /// For each bucket, the first entry of its chain. A power of two, or empty.
    heads: Vec<usize>,
    entries: Vec<Option<Entry<V>>>,
    /// Places of `entries` that are free.
    free: Vec<usize>,
    probation: Queue,
    main: Queue,
    /// Fingerprints of tokens that left probation without a hit, each at the place that its hash chooses; 0 is none.
    departed: Vec<u32>,
}

struct Entry<V> {
    token: Box<[u8]>,
    value: V,
    hash: u64,
    expires: UnixTime,
    /// All that it counts for.
    bytes: usize,
    /// The next of its chain.
    chained: usize,
    newer: usize,
    older: usize,
    lane: Lane,
    hits: u8,
}

/// The queue in which an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Probation,
    Main,
}

/// Both ends of a queue that is linked through its entries.
struct Queue {
    newest: usize,
    oldest: usize,
    entries: usize,
    bytes: usize,
}

impl Queue {
    const EMPTY: Self = Self {
        newest: NOWHERE,
        oldest: NOWHERE,
        entries: 0,
        bytes: 0,
    };
}

impl<V, S: BuildHasher> TokenCache<V, S> {
    /// An empty cache. `hasher` is to be keyed at random; [`RandomState::new`] is.
    pub const fn new(bounds: Bounds, hasher: S) -> Self {
        Self {
            bounds,
            hasher,
            heads: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            probation: Queue::EMPTY,
            main: Queue::EMPTY,
            departed: Vec::new(),
        }
    }

    /// The value of this token, unless it has expired at `now`: an expired one is forgotten here.
    ///
    /// Tokens are compared byte by byte with an early end. The time that takes tells nothing: the bytes are looked at
    /// only where 64 bits of a keyed hash agree, which a guess that is not the token itself cannot bring about.
    pub fn get(&mut self, token: &[u8], now: UnixTime) -> Option<&V> {
        if self.heads.is_empty() {
            return None;
        }
        let at = self.find(token, self.hasher.hash_one(token))?;
        if self.entry(at)?.expires <= now {
            self.take(at);
            return None;
        }
        match self.entry_mut(at)? {
            entry if entry.lane == Lane::Main => entry.hits = entry.hits.saturating_add(1).min(MOST_HITS),
            _ => {
                self.dequeue(at);
                self.enqueue(at, Lane::Main);
            }
        }
        self.entry(at).map(|entry| &entry.value)
    }

    /// Remembers a token until `expires` at the latest, making room for it. `bytes` is what the value holds on the heap.
    ///
    /// A token that is there already gets the new value and keeps its standing. One that has expired at `now`, or is
    /// larger than all of the bounds, is not kept.
    pub fn insert(&mut self, token: &[u8], expires: UnixTime, bytes: usize, value: V, now: UnixTime) {
        let hash = self.hasher.hash_one(token);
        let known = self.find(token, hash).and_then(|at| self.take(at));
        let bytes = bytes.saturating_add(token.len()).saturating_add(Self::OVERHEAD);
        if self.bounds.entries == 0 || bytes > self.bounds.bytes || expires <= now {
            return;
        }
        let (lane, hits) = match known {
            Some(entry) => (entry.lane, entry.hits),
            None if self.departed_lately(hash) => (Lane::Main, 0),
            None => (Lane::Probation, 0),
        };
        while self.len() >= self.bounds.entries || self.bytes().saturating_add(bytes) > self.bounds.bytes {
            if !self.evict(now, lane, bytes) {
                return;
            }
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len().saturating_sub(1)
        });
        if let Some(place) = self.entries.get_mut(at) {
            *place = Some(Entry {
                token: token.into(),
                value,
                hash,
                expires,
                bytes,
                chained: NOWHERE,
                newer: NOWHERE,
                older: NOWHERE,
                lane,
                hits,
            });
        }
        self.chain(at, hash);
        self.enqueue(at, lane);
        self.grow();
    }

    /// Forgets a token; returns the value that it had.
    pub fn remove(&mut self, token: &[u8]) -> Option<V> {
        let at = self.find(token, self.hasher.hash_one(token))?;
        self.take(at).map(|entry| entry.value)
    }

    /// Forgets all tokens and gives the memory back.
    pub fn clear(&mut self) {
        self.heads = Vec::new();
        self.entries = Vec::new();
        self.free = Vec::new();
        self.departed = Vec::new();
        self.probation = Queue::EMPTY;
        self.main = Queue::EMPTY;
    }

    /// Tokens held, expired ones that nobody asked for included.
    pub const fn len(&self) -> usize {
        self.probation.entries.saturating_add(self.main.entries)
    }

    /// Whether no token is held.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that count against [`Bounds::bytes`].
    pub const fn bytes(&self) -> usize {
        self.probation.bytes.saturating_add(self.main.bytes)
    }

    /// What an entry costs besides its token and what its value holds: its place in each table, where tables that
    /// double may be half empty.
    const OVERHEAD: usize = BLOCK.saturating_add(
        size_of::<Option<Entry<V>>>()
            .saturating_add(size_of::<usize>())
            .saturating_add(size_of::<usize>())
            .saturating_add(size_of::<u32>())
            .saturating_mul(2),
    );

    fn entry(&self, at: usize) -> Option<&Entry<V>> {
        self.entries.get(at)?.as_ref()
    }

    fn entry_mut(&mut self, at: usize) -> Option<&mut Entry<V>> {
        self.entries.get_mut(at)?.as_mut()
    }

    const fn queue(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Probation => &mut self.probation,
            Lane::Main => &mut self.main,
        }
    }

    // ---- look-up: chains through the entries ----

    fn find(&self, token: &[u8], hash: u64) -> Option<usize> {
        let mut at = *self.heads.get(place(hash, self.heads.len())?)?;
        while let Some(entry) = self.entry(at) {
            if entry.hash == hash && *entry.token == *token {
                return Some(at);
            }
            at = entry.chained;
        }
        None
    }

    /// Puts an entry at the head of its chain.
    fn chain(&mut self, at: usize, hash: u64) {
        let Some(head) = place(hash, self.heads.len()).and_then(|bucket| self.heads.get_mut(bucket)) else {
            return;
        };
        let next = std::mem::replace(head, at);
        if let Some(entry) = self.entry_mut(at) {
            entry.chained = next;
        }
    }

    fn unchain(&mut self, at: usize, hash: u64, chained: usize) {
        let Some(bucket) = place(hash, self.heads.len()) else {
            return;
        };
        match self.heads.get_mut(bucket) {
            Some(head) if *head == at => *head = chained,
            Some(head) => {
                let mut before = *head;
                while let Some(entry) = self.entry_mut(before) {
                    if entry.chained == at {
                        entry.chained = chained;
                        return;
                    }
                    before = entry.chained;
                }
            }
            None => {}
        }
    }

    /// Keeps the buckets as many as the entries, doubling them.
    fn grow(&mut self) {
        if self.entries.len() <= self.heads.len() {
            return;
        }
        let buckets = self.entries.len().next_power_of_two().max(16);
        self.heads = vec![NOWHERE; buckets];
        self.departed = vec![0; buckets];
        for at in 0..self.entries.len() {
            if let Some(hash) = self.entry(at).map(|entry| entry.hash) {
                self.chain(at, hash);
            }
        }
    }

    // ---- what stays ----

    fn enqueue(&mut self, at: usize, lane: Lane) {
        let older = self.queue(lane).newest;
        let Some(entry) = self.entry_mut(at) else { return };
        entry.lane = lane;
        entry.newer = NOWHERE;
        entry.older = older;
        let bytes = entry.bytes;
        if let Some(older) = self.entry_mut(older) {
            older.newer = at;
        }
        let queue = self.queue(lane);
        if older == NOWHERE {
            queue.oldest = at;
        }
        queue.newest = at;
        queue.entries = queue.entries.saturating_add(1);
        queue.bytes = queue.bytes.saturating_add(bytes);
    }

    fn dequeue(&mut self, at: usize) {
        let Some(entry) = self.entry(at) else { return };
        let (lane, newer, older, bytes) = (entry.lane, entry.newer, entry.older, entry.bytes);
        match self.entry_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.queue(lane).newest = older,
        }
        match self.entry_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.queue(lane).oldest = newer,
        }
        let queue = self.queue(lane);
        queue.entries = queue.entries.saturating_sub(1);
        queue.bytes = queue.bytes.saturating_sub(bytes);
    }

    /// Takes an entry out of everything.
    fn take(&mut self, at: usize) -> Option<Entry<V>> {
        self.dequeue(at);
        let entry = self.entries.get_mut(at)?.take()?;
        self.unchain(at, entry.hash, entry.chained);
        self.free.push(at);
        Some(entry)
    }

    /// Drops one entry to make room in `lane` for one of so many bytes. Whether there was one.
    fn evict(&mut self, now: UnixTime, lane: Lane, bytes: usize) -> bool {
        if self.is_probation_full(lane, bytes) {
            let Some(entry) = self.take(self.probation.oldest) else {
                return false;
            };
            if let Some(mark) = place(entry.hash, self.departed.len()).and_then(|at| self.departed.get_mut(at)) {
                *mark = fingerprint(entry.hash);
            }
            return true;
        }
        for _ in 0..LOOKS {
            let at = self.main.oldest;
            let Some(entry) = self.entry_mut(at) else { break };
            if entry.hits == 0 || entry.expires <= now {
                break;
            }
            entry.hits = entry.hits.saturating_sub(1);
            self.dequeue(at);
            self.enqueue(at, Lane::Main);
        }
        self.take(self.main.oldest).is_some()
    }

    /// Whether those on probation, with what comes to them, have more than their part, or are all that there is.
    fn is_probation_full(&self, lane: Lane, bytes: usize) -> bool {
        let (entries, bytes) = match lane {
            Lane::Probation => (1, bytes),
            Lane::Main => (0, 0),
        };
        let held = &self.probation;
        let most = (self.bounds.entries / PROBATION).max(1);
        held.entries > 0
            && (self.main.entries == 0
                || held.entries.saturating_add(entries) > most
                || held.bytes.saturating_add(bytes) > self.bounds.bytes / PROBATION)
    }

    /// Whether this token was the last of its place to leave probation without a hit; asked once.
    fn departed_lately(&mut self, hash: u64) -> bool {
        let mark = place(hash, self.departed.len()).and_then(|at| self.departed.get_mut(at));
        mark.is_some_and(|mark| *mark == fingerprint(hash) && std::mem::take(mark) != 0)
    }
}

/// Shows how much is held; tokens are secret.
impl<V, S: BuildHasher> fmt::Debug for TokenCache<V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("bounds", &self.bounds)
            .field("entries", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// The place that a hash chooses in a table of so many; `None` in one of none.
fn place(hash: u64, places: usize) -> Option<usize> {
    let last = u64::try_from(places.checked_sub(1)?).ok()?;
    usize::try_from(hash & last).ok()
}

/// The half of a hash that does not choose the place, never 0.
fn fingerprint(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default() | 1
}

#[cfg(test)]
mod tests;
