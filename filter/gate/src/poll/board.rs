//! Holds what all VMs of a process see of the polling: who does it, and what is published; and its layout in shared data.

use super::{Digest, Next};
use crate::demand::BUDGET;
use crate::time::UnixTime;

/// Seconds that a lease lasts without being renewed.
pub const LEASE: u64 = 3;
/// Seconds of life from which on a lease is renewed.
pub(super) const RENEW_AT: u64 = 2;
/// Seconds by which an answer may come late. What claims to be newer than another by more was written before the clock was
/// set back.
const LATENESS: u64 = 60;
/// First byte of a board; another number is another layout.
pub(super) const FORMAT: u8 = 3;

/// Who holds a lease: a random number that each VM draws for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(pub u64);

/// Whether what was true at `as_of` is to replace what was true at `known`.
pub fn supersedes(as_of: UnixTime, known: UnixTime) -> bool {
    as_of >= known || known.since(as_of) > LATENESS
}

/// What all VMs of a process see: who polls, and what is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    pub(super) lease: Option<(Holder, UnixTime)>,
    pub(super) issuers: Vec<Published>,
}

/// What is published of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Its keys.
    pub keys: Option<Keys>,
    /// The last fetch for the sake of unknown keys.
    pub refetch: Option<Refetch>,
    /// Its revocations.
    pub feed: Option<Pages>,
    /// Of each page of the series.
    pub(super) pages: Vec<Digest>,
    /// Of the newest page.
    pub(super) newest: Digest,
}

/// What is published of an issuer that is not there.
static NOTHING: Published = Published {
    keys: None,
    refetch: None,
    feed: None,
    pages: Vec::new(),
    newest: [0; 16],
};

impl Published {
    /// Whether the page with this digest ([`super::page_digest`]) is the one that the board names. Two VMs may write to one
    /// place: the board has room for one of them, the place may keep the other's.
    pub fn names(&self, next: Next, page: Digest) -> bool {
        match next {
            Next::Nothing => false,
            Next::Page(at) => usize::try_from(at).is_ok_and(|at| self.pages.get(at) == Some(&page)),
            Next::Newest => self.newest == page,
        }
    }
}

/// A published key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Of the bytes that were fetched.
    pub digest: Digest,
    /// When the fetch began that brought them last: they are at least as new as that.
    pub as_of: UnixTime,
}

/// A fetch for the sake of unknown keys, see [`crate::demand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refetch {
    /// When it began.
    pub began: UnixTime,
    /// Whether it is over, and brought a set.
    pub ended: Option<bool>,
}

/// Published pages of revocations: a series of those of one snapshot and those of the deltas on it, and beside it the newest
/// page that changed nothing but the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Grows with each snapshot: pages of another series are to be read from the first.
    pub series: u64,
    /// How many pages the series has so far.
    pub count: u32,
    /// Grows with each newest page.
    pub newest: u64,
    /// When the fetch began that brought the newest.
    pub as_of: UnixTime,
    /// Somebody cannot read the series, or nobody will be able to: all is to be fetched anew.
    pub is_void: bool,
}

/// What a fetched page of revocations is to the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// The first of another snapshot.
    Snapshot,
    /// The next.
    Page,
    /// It only says that nothing was revoked since.
    Newest,
    /// Nothing that was not known.
    Nothing,
}

impl Pages {
    /// What stands on the board once that page is published.
    #[must_use]
    pub const fn after(self, brought: Brought) -> Self {
        match brought {
            Brought::Snapshot => Self {
                series: self.series.wrapping_add(1),
                count: 1,
                is_void: false,
                ..self
            },
            Brought::Page => Self {
                count: self.count.saturating_add(1),
                ..self
            },
            Brought::Newest => Self {
                newest: self.newest.wrapping_add(1),
                ..self
            },
            Brought::Nothing => self,
        }
    }
}

/// The layout's width of one issuer without its pages: three options, each a byte and its fields.
const ISSUER_WIDTH: usize = (1 + 16 + 8) + (1 + 8) + (1 + 8 + 4 + 8 + 8 + 16);
const HEAD_WIDTH: usize = 1 + 1 + 8 + 8;

impl Board {
    /// A board on which nothing stands.
    pub fn empty(issuers: usize) -> Self {
        Self {
            lease: None,
            issuers: vec![Published::default(); issuers],
        }
    }

    /// Reads a board of so many issuers; bytes that are none are an empty one, which somebody fills again.
    pub fn read(bytes: &[u8], issuers: usize) -> Self {
        Self::parse(bytes, issuers).unwrap_or_else(|| Self::empty(issuers))
    }

    fn parse(bytes: &[u8], issuers: usize) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.byte()? != FORMAT {
            return None;
        }
        let has_lease = fields.byte()? != 0;
        let lease = (Holder(fields.number()?), fields.time()?);
        let mut all = Vec::with_capacity(issuers);
        for _ in 0..issuers {
            let has_keys = fields.byte()? != 0;
            let keys = Keys {
                digest: fields.take()?,
                as_of: fields.time()?,
            };
            let refetch_state = fields.byte()?;
            let refetch = Refetch {
                began: fields.time()?,
                ended: (refetch_state > 1).then_some(refetch_state == 3),
            };
            let feed_state = fields.byte()?;
            let feed = Pages {
                series: fields.number()?,
                count: u32::from_be_bytes(fields.take()?),
                newest: fields.number()?,
                as_of: fields.time()?,
                is_void: feed_state > 1,
            };
            let newest = fields.take()?;
            let mut pages = Vec::new();
            for _ in 0..feed.count {
                pages.push(fields.take()?);
            }
            all.push(Published {
                keys: has_keys.then_some(keys),
                refetch: (refetch_state > 0).then_some(refetch),
                feed: (feed_state > 0).then_some(feed),
                pages,
                newest,
            });
        }
        fields.0.is_empty().then_some(Self {
            lease: has_lease.then_some(lease),
            issuers: all,
        })
    }

    /// The bytes that [`Board::read`] reads.
    pub fn write(&self) -> Vec<u8> {
        let capacity = ISSUER_WIDTH
            .saturating_mul(self.issuers.len())
            .saturating_add(HEAD_WIDTH);
        let mut out = Vec::with_capacity(capacity);
        let time = |time: UnixTime| time.seconds().to_be_bytes();
        out.push(FORMAT);
        let (holder, until) = self.lease.unwrap_or((Holder(0), UnixTime::default()));
        out.push(u8::from(self.lease.is_some()));
        out.extend(holder.0.to_be_bytes());
        out.extend(time(until));
        for issuer in &self.issuers {
            let keys = issuer.keys.unwrap_or(Keys {
                digest: Digest::default(),
                as_of: UnixTime::default(),
            });
            out.push(u8::from(issuer.keys.is_some()));
            out.extend(keys.digest);
            out.extend(time(keys.as_of));
            let (state, began) = match issuer.refetch {
                None => (0, UnixTime::default()),
                Some(Refetch { began, ended: None }) => (1, began),
                Some(Refetch {
                    began,
                    ended: Some(brought),
                }) => (if brought { 3 } else { 2 }, began),
            };
            out.push(state);
            out.extend(time(began));
            let feed = issuer.feed.unwrap_or_default();
            out.push(match issuer.feed {
                None => 0,
                Some(Pages { is_void: false, .. }) => 1,
                Some(Pages { is_void: true, .. }) => 2,
            });
            out.extend(feed.series.to_be_bytes());
            out.extend(feed.count.to_be_bytes());
            out.extend(feed.newest.to_be_bytes());
            out.extend(time(feed.as_of));
            out.extend(issuer.newest);
            out.extend(issuer.pages.as_flattened());
        }
        out
    }

    /// What is published of an issuer.
    pub fn issuer(&self, issuer: usize) -> &Published {
        self.issuers.get(issuer).unwrap_or(&NOTHING)
    }

    /// Tries to hold the lease. `Some(true)`: it is held once this board is written; `Some(false)`: it is held as it
    /// stands; `None`: another VM holds it.
    pub(super) fn contend(&mut self, me: Holder, now: UnixTime) -> Option<bool> {
        let left = self.lease.map_or(0, |(_, until)| until.since(now));
        match self.lease {
            // A lease that lasts longer than any was written by a clock that has been set back since.
            Some((holder, _)) if holder != me && (1..=LEASE).contains(&left) => None,
            Some((holder, _)) if holder == me && left > RENEW_AT && left <= LEASE => Some(false),
            Some(_) | None => {
                self.lease = Some((me, now.plus(LEASE)));
                Some(true)
            }
        }
    }

    /// Notes that a fetch for unknown keys begins, if none began in the last [`BUDGET`] seconds.
    pub(super) fn begin_refetch(&mut self, issuer: usize, now: UnixTime) -> bool {
        let Some(published) = self.issuers.get_mut(issuer) else {
            return false;
        };
        let is_over = |refetch: Refetch| {
            // As above: what began in the future did not begin.
            now.since(refetch.began) >= BUDGET || refetch.began > now
        };
        let may_begin = published.refetch.is_none_or(is_over);
        if may_begin {
            published.refetch = Some(Refetch {
                began: now,
                ended: None,
            });
        }
        may_begin
    }

    /// Notes the end of a fetch of keys that began at `as_of`: `brought` is the digest of what it brought. Whether the board
    /// changed.
    pub fn end_keys(&mut self, issuer: usize, as_of: UnixTime, brought: Option<Digest>, was_refetch: bool) -> bool {
        let Some(published) = self.issuers.get_mut(issuer) else {
            return false;
        };
        let before = (published.keys, published.refetch);
        if let Some(digest) = brought
            && published.keys.is_none_or(|keys| supersedes(as_of, keys.as_of))
        {
            published.keys = Some(Keys { digest, as_of });
        }
        if was_refetch
            && let Some(refetch) = published.refetch.as_mut()
            && refetch.began == as_of
        {
            refetch.ended = Some(brought.is_some());
        }
        (published.keys, published.refetch) != before
    }

    /// Notes that a series of pages is of no use to those who come later. Whether the board changed.
    pub fn void_feed(&mut self, issuer: usize, series: u64) -> bool {
        let feed = self.issuers.get_mut(issuer).and_then(|issuer| issuer.feed.as_mut());
        let Some(feed) = feed.filter(|feed| feed.series == series && !feed.is_void) else {
            return false;
        };
        feed.is_void = true;
        true
    }

    /// Notes what became of a fetch of revocations that began at `as_of`, and the digest of its page. False, and nothing is
    /// noted, where another VM published something else meanwhile: `on` is what this VM's page builds on.
    pub fn end_feed(
        &mut self,
        issuer: usize,
        on: Option<Pages>,
        as_of: UnixTime,
        brought: Brought,
        page: Digest,
    ) -> bool {
        let Some(published) = self.issuers.get_mut(issuer) else {
            return false;
        };
        let place = |pages: Option<Pages>| pages.map(|pages| (pages.series, pages.count));
        if place(published.feed) != place(on) {
            return false;
        }
        let before = published.feed.unwrap_or_default();
        let as_of = if supersedes(as_of, before.as_of) {
            as_of
        } else {
            before.as_of
        };
        published.feed = Some(Pages {
            as_of,
            ..before.after(brought)
        });
        match brought {
            Brought::Snapshot => published.pages = vec![page],
            Brought::Page => published.pages.push(page),
            Brought::Newest => published.newest = page,
            Brought::Nothing => {}
        }
        true
    }
}

/// Reads fixed-width fields.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn time(&mut self) -> Option<UnixTime> {
        UnixTime::from_seconds(self.number()?)
    }
}
