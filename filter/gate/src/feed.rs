//! Decides which pages of an issuer's revocation feed are taken, and turns them into a table, slice by slice.
//!
//! ```text
//! bytes ─▶ UnverifiedPage ─▶ VerifiedPage ─▶ Feed::accept ─▶ Feed::step … Feed::step ─▶ Feed::known
//! ```
//!
//! What is known only grows: within an epoch a lower version is refused, and another epoch is taken only as a full snapshot
//! with a later issue time. A table is seen by nobody before the last of its pages was read and found whole; until then,
//! and whenever a page is refused, the last good one stays. How old it may become is for [`Freshness`] to say.

mod error;
mod known;
mod page;

use std::rc::Rc;

use kerbridge_wire::feed::{BodyHash, BodyHasher, ENTRIES_LIMIT, ENTRY_BYTES, Entry, Epoch, PageClaims};

pub use error::FeedError;
pub use known::{Freshness, Known};
pub use page::{PAGE_LIMIT, UnverifiedPage, VerifiedPage};

use crate::revocation::Revocations;
use crate::time::UnixTime;
use page::Body;

/// Most work of one step, in entries put in or moved: well under a millisecond in the module.
const STEP_WORK: usize = 2048;
/// Most bytes of a body that one step reads, hash included.
const STEP_BYTES: usize = 2048 * ENTRY_BYTES;
/// Shards of the table that one idle step looks over for what nobody needs any more.
const STEP_PARTS: usize = 8;

/// The revocations of one issuer, as far as they are known and as far as they are being read.
#[derive(Debug)]
pub struct Feed {
    issuer: Rc<str>,
    clock_skew: u64,
    max_staleness: u32,
    with_table: bool,
    held: Option<Held>,
    loading: Option<Loading>,
    sweep_from: usize,
}

/// What was read to its end.
#[derive(Debug)]
struct Held {
    position: Position,
    /// Latest `iat` seen.
    issued: UnixTime,
    as_of: UnixTime,
    table: Rc<Revocations>,
}

/// A snapshot or delta that is being read.
#[derive(Debug)]
struct Loading {
    position: Position,
    base: Option<u64>,
    pages: u32,
    entries: u32,
    hash: Option<BodyHash>,
    /// Hash of the hashes of the pages so far.
    hasher: BodyHasher,
    /// The page that comes next.
    next: u32,
    /// Entries of the pages before it.
    counted: u32,
    /// `iat` of its first page.
    began: u64,
    /// The earliest of its pages.
    issued: UnixTime,
    as_of: UnixTime,
    table: Revocations,
    reading: Option<Reading>,
}

/// A page whose body is being read.
#[derive(Debug)]
struct Reading {
    body: Body,
    hasher: BodyHasher,
    hash: BodyHash,
}

/// What a feed has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The store's name.
    pub epoch: Epoch,
    /// The newest version that was read.
    pub version: u64,
}

/// Where a page comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Fetched: what it says was true at its `iat`.
    Fetched,
    /// From the configuration: it counts as said when it is taken, as keys from there do.
    Configured,
}

/// What an accepted page is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Its body is read by the next [`Feed::step`]s.
    Reading,
    /// Nothing was revoked up to a later time than was known.
    Refreshed,
    /// It says nothing that was not known.
    Known,
}

/// What a step has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing: there is nothing to do before the next page.
    Idle,
    /// A part: there is more to do.
    Working,
    /// The last part: [`Feed::known`] is new.
    Published,
}

impl Feed {
    /// A feed of which nothing was read. `clock_skew` in seconds says how far in the future an `iat` may lie,
    /// `max_staleness` in seconds how old what is known may become.
    pub const fn new(issuer: Rc<str>, clock_skew: u64, max_staleness: u32) -> Self {
        Self {
            issuer,
            clock_skew,
            max_staleness,
            with_table: true,
            held: None,
            loading: None,
            sweep_from: 0,
        }
    }

    /// The same for who only passes pages on: it takes and refuses the same pages and keeps no entry.
    pub const fn without_table(issuer: Rc<str>, clock_skew: u64, max_staleness: u32) -> Self {
        let mut feed = Self::new(issuer, clock_skew, max_staleness);
        feed.with_table = false;
        feed
    }

    /// What is known, once a snapshot was read; never anything where there is no table, for an empty one would revoke nobody.
    pub fn known(&self) -> Option<Known> {
        self.held.as_ref().filter(|_| self.with_table).map(|held| Known {
            revocations: Rc::clone(&held.table),
            freshness: Freshness::new(held.as_of, self.max_staleness),
        })
    }

    /// Where it stands, for whoever asks the issuer for more.
    pub fn position(&self) -> Option<Position> {
        self.held.as_ref().map(|held| held.position)
    }

    /// The page that continues what is being read, and of what; `None` where none is missing.
    pub fn wants(&self) -> Option<(Position, u32)> {
        let loading = self.loading.as_ref()?;
        loading.reading.is_none().then_some((loading.position, loading.next))
    }

    /// `iat` of the first page of what is being read: what was cut by it goes on from there.
    pub fn began(&self) -> Option<u64> {
        self.loading.as_ref().map(|loading| loading.began)
    }

    /// Takes a page, or says why not.
    ///
    /// # Errors
    /// Each of [`FeedError`] that is about more than the page alone. What is known, and what is being read, stays.
    pub fn accept(&mut self, page: VerifiedPage, origin: Origin, now: UnixTime) -> Result<Accepted, FeedError> {
        if page.claims.iss != *self.issuer {
            return Err(FeedError::OtherIssuer);
        }
        if page.issued > now.plus(self.clock_skew) {
            return Err(FeedError::FromTheFuture);
        }
        let as_of = match origin {
            Origin::Fetched => page.issued.min(now),
            Origin::Configured => now,
        };
        let position = page.position();
        if let Some(held) = self.held.as_mut().filter(|held| held.position.epoch == position.epoch) {
            if position.version < held.position.version {
                return Err(FeedError::GoesBack);
            }
            if position.version == held.position.version {
                held.issued = held.issued.max(page.issued);
                if as_of <= held.as_of {
                    return Ok(Accepted::Known);
                }
                held.as_of = as_of;
                return Ok(Accepted::Refreshed);
            }
        }
        match self.loading.as_mut() {
            Some(loading) if loading.is_continued_by(&page.claims) => {
                if page.claims.page < loading.next {
                    return Ok(Accepted::Known);
                }
                loading.go_on(page, as_of)?;
            }
            loading => {
                // Replayed pages must not throw away what is nearly there.
                if loading.is_some_and(|loading| {
                    loading.position.epoch == position.epoch && position.version < loading.position.version
                }) {
                    return Err(FeedError::GoesBack);
                }
                self.begin(page, as_of)?;
            }
        }
        Ok(Accepted::Reading)
    }

    /// Begins a snapshot or delta with its first page.
    fn begin(&mut self, page: VerifiedPage, as_of: UnixTime) -> Result<(), FeedError> {
        let position = page.position();
        let same_epoch = self.held.as_ref().filter(|held| held.position.epoch == position.epoch);
        match (page.claims.base, same_epoch) {
            (Some(_), None) => return Err(FeedError::NoSnapshot),
            (Some(base), Some(held)) if base > held.position.version => return Err(FeedError::Gap),
            (Some(_), Some(_)) => {}
            (None, _) => self.is_later(position, page.issued)?,
        }
        if page.claims.page != 0 {
            return Err(FeedError::OutOfOrder);
        }
        let table = match (page.claims.base, same_epoch) {
            _ if !self.with_table => Revocations::default(),
            // Shares everything until an entry is put in.
            (Some(_), Some(held)) => Revocations::clone(&held.table),
            (_, _) if page.claims.entries == 0 => Revocations::default(),
            (_, _) => Revocations::with_room_for(usize::try_from(page.claims.entries).unwrap_or(usize::MAX)),
        };
        let mut loading = Loading {
            position,
            base: page.claims.base,
            pages: page.claims.pages,
            entries: page.claims.entries,
            hash: page.claims.sha256_of_pages,
            hasher: BodyHasher::new(),
            next: 0,
            counted: 0,
            began: page.claims.iat,
            issued: page.issued,
            as_of,
            table,
            reading: None,
        };
        loading.go_on(page, as_of)?;
        self.loading = Some(loading);
        Ok(())
    }

    /// Another epoch must have been issued later than all that was seen of this one.
    fn is_later(&self, position: Position, issued: UnixTime) -> Result<(), FeedError> {
        match &self.held {
            Some(held) if held.position.epoch != position.epoch && issued <= held.issued => {
                Err(FeedError::EpochNotLater)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Does one slice of what there is to do: reads on in a page, or sweeps. Call it again while it is
    /// [`Progress::Working`], for as long as the tick may take.
    ///
    /// # Errors
    /// [`FeedError::WrongBody`], [`FeedError::TooManyEntries`], [`FeedError::Crowded`], [`FeedError::EpochNotLater`]: the
    /// snapshot or delta is given up, what is known stays.
    pub fn step(&mut self, now: UnixTime) -> Result<Progress, FeedError> {
        let Some(mut loading) = self.loading.take() else {
            return Ok(self.sweep(now));
        };
        let progress = loading.step(self.with_table, now)?;
        if loading.reading.is_some() || loading.next < loading.pages {
            self.loading = Some(loading);
            return Ok(progress);
        }
        self.is_later(loading.position, loading.issued)?;
        // A clock that two brokers do not agree on must not make what is known look older than it did.
        let (issued, as_of) = match &self.held {
            Some(held) if held.position.epoch == loading.position.epoch => {
                (held.issued.max(loading.issued), held.as_of.max(loading.as_of))
            }
            Some(_) | None => (loading.issued, loading.as_of),
        };
        self.held = Some(Held {
            position: loading.position,
            issued,
            as_of,
            table: Rc::new(loading.table),
        });
        Ok(Progress::Published)
    }

    /// Drops what nobody needs any more from a few parts of the table.
    fn sweep(&mut self, now: UnixTime) -> Progress {
        let Some(held) = self.held.as_mut() else {
            return Progress::Idle;
        };
        if self.sweep_from >= held.table.parts() {
            self.sweep_from = 0;
        }
        let to = self.sweep_from.saturating_add(STEP_PARTS);
        let swept = held.table.swept(self.sweep_from..to, now);
        self.sweep_from = to;
        match swept {
            Some(table) => {
                held.table = Rc::new(table);
                Progress::Published
            }
            None => Progress::Idle,
        }
    }
}

impl VerifiedPage {
    const fn position(&self) -> Position {
        Position {
            epoch: self.claims.epoch,
            version: self.claims.version,
        }
    }
}

impl Loading {
    fn is_continued_by(&self, claims: &PageClaims) -> bool {
        let PageClaims {
            format: _,
            iss: _,
            iat: _,
            epoch,
            version,
            base,
            page: _,
            pages,
            entries,
            sha256: _,
            sha256_of_pages,
        } = claims;
        self.position
            == (Position {
                epoch: *epoch,
                version: *version,
            })
            && (self.base, self.pages, self.entries, self.hash) == (*base, *pages, *entries, *sha256_of_pages)
    }

    /// Takes the next page.
    fn go_on(&mut self, page: VerifiedPage, as_of: UnixTime) -> Result<(), FeedError> {
        if self.reading.is_some() {
            return Err(FeedError::Busy);
        }
        if page.claims.page != self.next {
            return Err(FeedError::OutOfOrder);
        }
        let counted = self.counted.saturating_add(page.count());
        let next = self.next.saturating_add(1);
        let is_last = next == self.pages;
        if counted > self.entries || (is_last && counted != self.entries) {
            return Err(FeedError::CountsDisagree);
        }
        let mut hasher = self.hasher.clone();
        hasher.update(&page.claims.sha256.0);
        if is_last && self.hash.is_some_and(|hash| hasher.clone().finish() != hash) {
            return Err(FeedError::WrongBody);
        }
        self.hasher = hasher;
        self.counted = counted;
        self.next = next;
        self.issued = self.issued.min(page.issued);
        self.as_of = self.as_of.min(as_of);
        self.reading = Some(Reading {
            body: page.body,
            hasher: BodyHasher::new(),
            hash: page.claims.sha256,
        });
        Ok(())
    }

    fn step(&mut self, with_table: bool, now: UnixTime) -> Result<Progress, FeedError> {
        let Some(reading) = self.reading.as_mut() else {
            return Ok(Progress::Idle);
        };
        let rest = reading.body.rest();
        let slice = rest.get(..STEP_BYTES).unwrap_or(rest);
        let (mut read, mut work) = (0_usize, 0_usize);
        if with_table {
            for entry in slice.as_chunks().0 {
                work = work.saturating_add(self.table.insert(&Entry::from_bytes(entry), now)?);
                read = read.saturating_add(ENTRY_BYTES);
                if work >= STEP_WORK {
                    break;
                }
            }
        } else {
            read = slice.len();
        }
        reading.hasher.update(slice.get(..read).unwrap_or_default());
        let is_done = read == rest.len();
        reading.body.advance(read);
        if u64::try_from(self.table.len()).is_ok_and(|len| len > u64::from(ENTRIES_LIMIT)) {
            return Err(FeedError::TooManyEntries);
        }
        if !is_done {
            return Ok(Progress::Working);
        }
        if let Some(Reading { hasher, hash, .. }) = self.reading.take()
            && hasher.finish() != hash
        {
            return Err(FeedError::WrongBody);
        }
        Ok(Progress::Idle)
    }
}
