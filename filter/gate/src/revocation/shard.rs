//! Finds a revocation in at most two buckets of four, however many there are: bucketised cuckoo hashing.
//!
//! A key has two buckets. It stands in the second only if the first is full, and a bucket that was full stays full, so that
//! a vacant place ends a search. Keys are hashes already; who could choose them (an issuer that signs what it likes) can
//! make an insertion fail, which refuses the page, but no search longer.

use kerbridge_wire::feed::{EVER, Entry, RevocationKey};

use super::LEEWAY;
use crate::time::UnixTime;

/// Places of a bucket.
const PLACES: usize = 4;
/// How often an insertion moves another entry before it gives up; with nine places of ten taken a few are enough.
const MOVES: u32 = 128;
/// Most buckets for each entry that the shard should hold before it is called crowded.
const SPARSEST: usize = 8;

/// One entry as it stands in memory. A vacant place is one that was needed until 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) high: u64,
    low: u64,
    needed_until: u32,
    issued_at_or_before: u32,
}

impl Slot {
    /// Whether a token that it names could still be valid.
    pub(super) fn is_live(&self, now: UnixTime) -> bool {
        match self.needed_until {
            0 => false,
            EVER => true,
            until => now.seconds() <= u64::from(until).saturating_add(LEEWAY),
        }
    }

    /// Whether it names tokens that were issued then.
    pub(super) fn covers(&self, issued: UnixTime) -> bool {
        self.issued_at_or_before == EVER || issued.seconds() <= u64::from(self.issued_at_or_before)
    }

    fn is_vacant(&self) -> bool {
        self.needed_until == 0
    }

    fn is_of(&self, high: u64, low: u64) -> bool {
        self.high == high && self.low == low
    }
}

impl From<&Entry> for Slot {
    fn from(entry: &Entry) -> Self {
        let Entry {
            key,
            needed_until,
            issued_at_or_before,
        } = *entry;
        let (high, low) = halves(&key);
        Self {
            high,
            low,
            needed_until,
            issued_at_or_before,
        }
    }
}

/// A key as two numbers: the first chooses the shard, the second the buckets.
pub(super) fn halves(key: &RevocationKey) -> (u64, u64) {
    let [h0, h1, h2, h3, h4, h5, h6, h7, l0, l1, l2, l3, l4, l5, l6, l7] = key.0;
    (
        u64::from_be_bytes([h0, h1, h2, h3, h4, h5, h6, h7]),
        u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]),
    )
}

type Bucket = [Slot; PLACES];

/// A part of the table that is small enough to be copied within one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    buckets: Vec<Bucket>,
    /// How many to begin with.
    planned: usize,
    /// Places that are not vacant.
    len: usize,
    /// No entry's `needed_until` is earlier.
    earliest: u32,
    /// How many leading bits of `high` its keys share.
    pub(super) depth: u32,
    /// Which place of a full bucket moves next.
    turn: usize,
}

/// More entries with neighbouring keys than hashes ever have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

impl Shard {
    /// An empty shard for about so many entries. It takes no memory before the first.
    pub(super) const fn new(depth: u32, expected: usize) -> Self {
        Self {
            buckets: Vec::new(),
            planned: Self::buckets_for(expected),
            len: 0,
            earliest: EVER,
            depth,
            turn: 0,
        }
    }

    /// Nine places of ten taken, and a few spare buckets, so that small shards do not fail by bad luck.
    const fn buckets_for(entries: usize) -> usize {
        // 5/18 is 1 / (4 · 0.9).
        entries.saturating_mul(5).div_ceil(18).saturating_add(4)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.buckets
            .capacity()
            .saturating_mul(size_of::<Bucket>())
            .saturating_add(size_of::<Self>())
    }

    /// How much work it is to copy, or to make for the first entry, in buckets.
    pub(super) fn size(&self) -> usize {
        if self.buckets.is_empty() {
            self.planned
        } else {
            self.buckets.len()
        }
    }

    /// Whether its memory is still to be taken.
    pub(super) fn is_unmade(&self) -> bool {
        self.buckets.is_empty()
    }

    #[inline]
    pub(super) fn find(&self, high: u64, low: u64) -> Option<&Slot> {
        for place in self.places(low) {
            let bucket = self.buckets.get(place)?;
            if let Some(slot) = bucket.iter().find(|slot| slot.is_of(high, low)) {
                return Some(slot);
            }
            if bucket.last().is_some_and(Slot::is_vacant) {
                return None;
            }
        }
        None
    }

    /// The two buckets of a key: each half of `low` as a fraction of all buckets.
    #[inline]
    fn places(&self, low: u64) -> [usize; 2] {
        let scale = |half: u64| {
            let product = half.wrapping_mul(self.buckets.len() as u64);
            usize::try_from(product >> 32).unwrap_or(usize::MAX)
        };
        [scale(low & 0xffff_ffff), scale(low >> 32)]
    }

    /// Puts an entry in, or makes the one of its key stricter. Entries that are no longer needed give way.
    ///
    /// # Errors
    /// Some entry, not always this one, that finds no place: the shard must become larger, and the entry must be put in again.
    pub(super) fn insert(&mut self, slot: Slot, now: UnixTime) -> Result<(), Slot> {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); self.planned];
        }
        self.earliest = self.earliest.min(slot.needed_until);
        let places = self.places(slot.low);
        for place in places {
            let Some(bucket) = self.buckets.get_mut(place) else {
                continue;
            };
            if let Some(known) = bucket.iter_mut().find(|known| known.is_of(slot.high, slot.low)) {
                // What is over has no say any more, whether or not it was swept.
                if known.is_live(now) {
                    known.needed_until = known.needed_until.max(slot.needed_until);
                    known.issued_at_or_before = known.issued_at_or_before.max(slot.issued_at_or_before);
                } else {
                    *known = slot;
                }
                return Ok(());
            }
        }
        let [first, second] = places;
        if self.put(first, slot, now) || self.put(second, slot, now) {
            return Ok(());
        }
        let (mut homeless, mut place) = (slot, second);
        for _ in 0..MOVES {
            self.turn = self.turn.wrapping_add(1) % PLACES;
            let Some(victim) = self.buckets.get_mut(place).and_then(|bucket| bucket.get_mut(self.turn)) else {
                return Err(homeless);
            };
            std::mem::swap(victim, &mut homeless);
            let [first, second] = self.places(homeless.low);
            place = if place == first { second } else { first };
            if self.put(place, homeless, now) {
                return Ok(());
            }
        }
        Err(homeless)
    }

    /// Puts an entry into a bucket that has a place which is vacant or no longer needed.
    fn put(&mut self, place: usize, slot: Slot, now: UnixTime) -> bool {
        let Some(bucket) = self.buckets.get_mut(place) else {
            return false;
        };
        let Some(free) = bucket.iter_mut().find(|known| !known.is_live(now)) else {
            return false;
        };
        self.len = self.len.saturating_add(usize::from(free.is_vacant()));
        *free = slot;
        true
    }

    /// Entries that may still be needed.
    pub(super) fn live(&self, now: UnixTime) -> impl Iterator<Item = Slot> + '_ {
        self.buckets
            .iter()
            .flatten()
            .filter(move |slot| slot.is_live(now))
            .copied()
    }

    /// The same with room for more, without what is no longer needed.
    ///
    /// # Errors
    /// [`Crowded`] if there is room enough already.
    pub(super) fn grown(&self, now: UnixTime) -> Result<Self, Crowded> {
        let mut buckets = self.buckets.len();
        loop {
            // By an eighth, so that little of it stays vacant.
            buckets = buckets.saturating_add(buckets >> 3).saturating_add(1);
            if buckets > Self::buckets_for(self.len.saturating_mul(SPARSEST)) {
                return Err(Crowded);
            }
            if let Some(grown) = Self::of(self.live(now), self.depth, buckets, now) {
                return Ok(grown);
            }
        }
    }

    /// A shard of these entries, if so many buckets are enough.
    fn of(slots: impl Iterator<Item = Slot>, depth: u32, buckets: usize, now: UnixTime) -> Option<Self> {
        let mut shard = Self::new(depth, 0);
        shard.planned = buckets;
        for slot in slots {
            shard.insert(slot, now).ok()?;
        }
        Some(shard)
    }

    /// The two halves of it: the keys with a 0 and those with a 1 behind the bits that they share.
    ///
    /// # Errors
    /// [`Crowded`]
    pub(super) fn split(&self, now: UnixTime) -> Result<[Self; 2], Crowded> {
        let depth = self.depth.saturating_add(1);
        let bit = |slot: &Slot| slot.high.wrapping_shr(63_u32.saturating_sub(self.depth)) & 1;
        let half = |wanted: u64| {
            let slots = || self.live(now).filter(|slot| bit(slot) == wanted);
            let buckets = Self::buckets_for(slots().count());
            match Self::of(slots(), depth, buckets, now) {
                Some(half) => Ok(half),
                // The old size holds them all, if not in the same order of arrival.
                None => Self::of(slots(), depth, buckets.saturating_mul(2), now).ok_or(Crowded),
            }
        };
        Ok([half(0)?, half(1)?])
    }

    /// The same without what is no longer needed, where that is at least an eighth of it.
    pub(super) fn swept(&self, now: UnixTime) -> Option<Self> {
        if self.earliest == EVER || now.seconds() <= u64::from(self.earliest).saturating_add(LEEWAY) {
            return None;
        }
        let live = self.live(now).count();
        let dead = self.len.saturating_sub(live);
        if dead == 0 || dead < self.len >> 3 {
            return None;
        }
        Self::of(self.live(now), self.depth, Self::buckets_for(live), now)
    }
}
