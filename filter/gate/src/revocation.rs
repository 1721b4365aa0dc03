//! Decides whether a token was revoked: by itself, with its session, or with its subject.
//!
//! A table of one issuer's revocations is never changed once others see it. The next one shares with it all shards (parts
//! of about a thousand entries, chosen by the first bits of the key) in which nothing is new, so that a few revocations
//! more cost a few copies of a shard, not of a million entries. A million entries take 27 MB, none take nothing, and a
//! search costs the same in both (`examples/revocations.rs` prints it).

mod shard;
#[cfg(test)]
mod tests;

use std::fmt;
use std::rc::Rc;

use kerbridge_wire::feed::{Entry, RevocationKey};

pub use shard::Crowded;
use shard::{Shard, Slot, halves};

use crate::time::UnixTime;

/// Seconds that an entry is kept and heeded after its `needed_until`: the longest `expiry_skew_seconds` of a
/// configuration, of which an issuer knows nothing.
pub const LEEWAY: u64 = 300;
/// Entries of a shard, more or less, when the number of all is known beforehand.
const SHARD_LARGEST_MEAN: usize = 1536;
/// Entries from which on a shard is split rather than grown.
const SHARD_LIMIT: usize = 2048;
/// Most bits that choose a shard. Hashes need 12 for the four million entries that a feed may have.
const DEPTH_LIMIT: u32 = 16;

/// What an issuer's feed could name a token by. Worked out once for each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationKeys {
    token: Option<RevocationKey>,
    session: Option<RevocationKey>,
    subject: RevocationKey,
}

impl RevocationKeys {
    /// The keys for `iss`, `jti`, `sid` and `sub` of a token.
    pub fn new(issuer: &str, token_id: Option<&str>, session: Option<&str>, subject: &str) -> Self {
        Self {
            token: token_id.map(|token_id| RevocationKey::token(issuer, token_id)),
            session: session.map(|session| RevocationKey::session(issuer, session)),
            subject: RevocationKey::subject(issuer, subject),
        }
    }
}

/// The revocations of one issuer at one moment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// How many leading bits of a key are the index into `directory`.
    depth: u32,
    /// Indices into `shards`. A shard that is not split as far as others stands in several neighbouring places.
    directory: Vec<u32>,
    shards: Vec<Rc<Shard>>,
    len: usize,
}

impl Revocations {
    /// An empty table that is about to get so many entries.
    pub(crate) fn with_room_for(entries: usize) -> Self {
        let mut depth = 0;
        while depth < DEPTH_LIMIT && entries >> depth > SHARD_LARGEST_MEAN {
            depth = depth.saturating_add(1);
        }
        let shards = 1_u32 << depth;
        Self {
            depth,
            directory: (0..shards).collect(),
            shards: (0..shards)
                .map(|_| Rc::new(Shard::new(depth, entries >> depth)))
                .collect(),
            len: 0,
        }
    }

    /// Whether a token with these keys and this `iat` is revoked. Give [`UnixTime::default`] for one without an `iat`: then
    /// every entry that names it counts.
    pub fn revokes(&self, keys: &RevocationKeys, issued: UnixTime, now: UnixTime) -> bool {
        let RevocationKeys {
            token,
            session,
            subject,
        } = keys;
        self.names(subject, issued, now)
            || token.as_ref().is_some_and(|token| self.names(token, issued, now))
            || session.as_ref().is_some_and(|session| self.names(session, issued, now))
    }

    #[inline]
    fn names(&self, key: &RevocationKey, issued: UnixTime, now: UnixTime) -> bool {
        let (high, low) = halves(key);
        self.shard_of(high)
            .and_then(|at| self.shards.get(at)?.find(high, low))
            .is_some_and(|slot| slot.is_live(now) && slot.covers(issued))
    }

    #[inline]
    fn shard_of(&self, high: u64) -> Option<usize> {
        // In two shifts, for 64 at once are none.
        let index = (high >> 1).wrapping_shr(63_u32.saturating_sub(self.depth));
        let at = self.directory.get(usize::try_from(index).ok()?)?;
        usize::try_from(*at).ok()
    }

    /// Entries, those included that nobody needs any more and nobody has swept.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that it takes, those included that it shares with the tables before and after it.
    pub fn bytes(&self) -> usize {
        let lists = self.directory.capacity().saturating_mul(size_of::<u32>());
        let lists = lists.saturating_add(self.shards.capacity().saturating_mul(size_of::<Rc<Shard>>()));
        self.shards
            .iter()
            .map(|shard| shard.bytes())
            .fold(lists, usize::saturating_add)
    }

    /// Puts an entry in; of two with one key the later of both times counts. Says how much work it was: about 1, more where
    /// a shard had to be made, copied, grown or split, a few thousand at most.
    ///
    /// # Errors
    /// [`Crowded`]; then an entry may be lost and the table must not be used.
    pub(crate) fn insert(&mut self, entry: &Entry, now: UnixTime) -> Result<usize, Crowded> {
        let mut slot = Slot::from(entry);
        let mut work: usize = 1;
        if !slot.is_live(now) {
            return Ok(work);
        }
        if self.directory.is_empty() {
            *self = Self::with_room_for(0);
        }
        // Each turn but the last makes room, and room is bounded.
        loop {
            let at = self.shard_of(slot.high).ok_or(Crowded)?;
            let shard = self.shards.get_mut(at).ok_or(Crowded)?;
            if Rc::strong_count(shard) > 1 || shard.is_unmade() {
                work = work.saturating_add(shard.size());
            }
            let shard = Rc::make_mut(shard);
            let before = shard.len();
            match shard.insert(slot, now) {
                Ok(()) => {
                    self.len = self.len.saturating_add(shard.len()).saturating_sub(before);
                    return Ok(work);
                }
                Err(homeless) => slot = homeless,
            }
            work = work.saturating_add(before);
            if before < SHARD_LIMIT {
                *shard = shard.grown(now)?;
                self.len = self.len.saturating_add(shard.len()).saturating_sub(before);
            } else {
                self.split(at, now)?;
            }
        }
    }

    /// Splits a shard in two.
    fn split(&mut self, at: usize, now: UnixTime) -> Result<(), Crowded> {
        let shard = self.shards.get_mut(at).ok_or(Crowded)?;
        if shard.depth >= DEPTH_LIMIT {
            return Err(Crowded);
        }
        let before = shard.len();
        let [zero, one] = shard.split(now)?;
        let depth = zero.depth;
        self.len = self
            .len
            .saturating_add(zero.len())
            .saturating_add(one.len())
            .saturating_sub(before);
        *shard = Rc::new(zero);
        let (old, new) = (
            u32::try_from(at).map_err(|_| Crowded)?,
            u32::try_from(self.shards.len()).map_err(|_| Crowded)?,
        );
        self.shards.push(Rc::new(one));
        if depth > self.depth {
            self.directory = self.directory.iter().flat_map(|at| [*at, *at]).collect();
            self.depth = depth;
        }
        let bit = self.depth.saturating_sub(depth);
        for (index, at) in self.directory.iter_mut().enumerate() {
            if *at == old && index.wrapping_shr(bit) & 1 == 1 {
                *at = new;
            }
        }
        Ok(())
    }

    /// Parts that [`Revocations::swept`] looks at one by one.
    pub(crate) fn parts(&self) -> usize {
        self.shards.len()
    }

    /// The table without what is no longer needed in some of its parts; `None` where little or nothing would go.
    pub(crate) fn swept(&self, parts: std::ops::Range<usize>, now: UnixTime) -> Option<Self> {
        let mut next: Option<Self> = None;
        for (at, shard) in self.shards.iter().enumerate().take(parts.end).skip(parts.start) {
            let Some(swept) = shard.swept(now) else { continue };
            let table = next.get_or_insert_with(|| self.clone());
            table.len = table.len.saturating_add(swept.len()).saturating_sub(shard.len());
            if let Some(place) = table.shards.get_mut(at) {
                *place = Rc::new(swept);
            }
        }
        next
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
