//! Follows the issuers' revocation feeds: reads published pages, verifies them in slices, hands tables to the gate; and in the
//! VM that polls, publishes what it fetched.
//!
//! Every VM verifies for itself. A VM that has seen no request (the main thread's) keeps no table; where it polls, it checks
//! pages without one before it publishes them. The first request of a VM makes it read what is published.

use std::rc::Rc;

use kerbridge_gate::feed::{Accepted, Feed, FeedError, Origin, Progress, UnverifiedPage, VerifiedPage};
use kerbridge_gate::poll::{Brought, Names, Pages, follow};
use kerbridge_gate::{Config, Gate, UnixTime};
use kerbridge_wire::feed_query::FeedQuery;

use crate::host;
use crate::metrics::Metrics;
use crate::native::Native;

/// Nanoseconds of a tick that reading may take: Envoy's worker serves nobody meanwhile.
const BUDGET: u64 = 3_000_000;
/// Pages of deltas after which a full snapshot is fetched, so that a VM that starts has not too many to read.
const DELTA_LIMIT: u32 = 512;
/// Seconds after which a VM that cannot go on reads all that is published once more.
const AGAIN: u64 = 5;

/// One issuer's feed, as this VM has followed it.
pub(crate) struct Follower {
    issuer: usize,
    config: Rc<Config>,
    metrics: Rc<Metrics>,
    feed: Feed,
    with_table: bool,
    /// What of the published pages was read.
    taken: Pages,
    /// Pages of the snapshot that the series began with.
    snapshot_pages: u32,
    /// How many of the configuration's pages were read.
    inline: usize,
    /// The body of an accepted page is being read.
    is_reading: bool,
    /// The fetched page that is being read, to be published once it is found whole.
    publishing: Option<Publishing>,
    /// The version that the delta which is being read builds on.
    base: Option<u64>,
    /// The next question is for a full snapshot, whatever is known.
    wants_snapshot: bool,
    /// Since when it cannot go on.
    stuck: Option<UnixTime>,
    failure: Option<FeedError>,
}

struct Publishing {
    page: Vec<u8>,
    brought: Brought,
    began: UnixTime,
}

/// A page that is to be put where the others find it, and what it builds on.
pub(crate) struct Publication {
    pub(crate) key: String,
    pub(crate) page: Vec<u8>,
    pub(crate) on: Option<Pages>,
    pub(crate) brought: Brought,
    pub(crate) began: UnixTime,
}

impl Follower {
    /// `None` for an issuer without a feed.
    pub(crate) fn new(issuer: usize, config: &Rc<Config>, metrics: &Rc<Metrics>, with_table: bool) -> Option<Self> {
        Some(Self {
            issuer,
            feed: follow(config, issuer, with_table)?,
            config: Rc::clone(config),
            metrics: Rc::clone(metrics),
            with_table,
            taken: Pages::default(),
            snapshot_pages: 0,
            inline: 0,
            is_reading: false,
            publishing: None,
            base: None,
            wants_snapshot: false,
            stuck: None,
            failure: None,
        })
    }

    /// Begins anew, with a table from now on.
    pub(crate) fn keep_table(&mut self) {
        if !self.with_table {
            self.with_table = true;
            self.begin_again();
        }
    }

    fn begin_again(&mut self) {
        if let Some(fresh) = Self::new(self.issuer, &self.config, &self.metrics, self.with_table) {
            *self = fresh;
        }
    }

    /// Whether there is nothing to read but what is published after this.
    pub(crate) fn is_idle(&self, published: Option<Pages>) -> bool {
        let (series, count) = published.map_or((0, 0), |pages| (pages.series, pages.count));
        !self.is_reading && self.publishing.is_none() && (self.taken.series, self.taken.count) == (series, count)
    }

    /// Whether a page, or a snapshot of several, is being read.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_reading || self.publishing.is_some() || (self.is_in_the_middle() && self.stuck.is_none())
    }

    /// Whether the next page belongs to what is being read, so that it is fetched without delay.
    pub(crate) fn is_in_the_middle(&self) -> bool {
        self.feed.wants().is_some() && !self.wants_snapshot
    }

    /// What to ask the issuer for.
    pub(crate) fn question(&self) -> FeedQuery {
        match (self.feed.wants(), self.feed.position()) {
            _ if self.wants_snapshot => FeedQuery::Snapshot,
            (Some((position, page)), _) => FeedQuery::Page {
                epoch: position.epoch,
                version: position.version,
                base: self.base,
                page,
            },
            (None, Some(position)) => FeedQuery::Since {
                epoch: position.epoch,
                version: position.version,
            },
            (None, None) => FeedQuery::Snapshot,
        }
    }

    /// Takes a fetched page. What is to be published of it at once, if anything is.
    pub(crate) fn fetched(
        &mut self,
        page: Vec<u8>,
        began: UnixTime,
        now: UnixTime,
        gate: &mut Gate,
        native: &Native,
        names: &Names,
    ) -> Result<Option<Publication>, FeedError> {
        self.wants_snapshot = false;
        let verified = self.verify(page.clone(), now, gate, native)?;
        let claims = verified.claims();
        let (begins, base) = (claims.base.is_none() && claims.page == 0, claims.base);
        let pages = claims.pages;
        let accepted = self.feed.accept(verified, Origin::Fetched, now).inspect_err(|error| {
            // Where the issuer's answers lead nowhere, all of it leads somewhere; an older copy of the store does not.
            self.wants_snapshot = !matches!(
                error,
                FeedError::GoesBack | FeedError::FromTheFuture | FeedError::OtherIssuer
            );
        })?;
        let brought = match accepted {
            Accepted::Reading => {
                self.is_reading = true;
                self.base = base;
                if begins {
                    self.snapshot_pages = pages;
                }
                let brought = if begins { Brought::Snapshot } else { Brought::Page };
                self.publishing = Some(Publishing { page, brought, began });
                return Ok(None);
            }
            Accepted::Refreshed => {
                self.hand_over(gate);
                Brought::Newest
            }
            Accepted::Known => Brought::Nothing,
        };
        Ok(Some(self.publication(Publishing { page, brought, began }, names)))
    }

    fn publication(&self, publishing: Publishing, names: &Names) -> Publication {
        let Publishing { page, brought, began } = publishing;
        let after = self.taken.after(brought);
        let key = match brought {
            Brought::Snapshot | Brought::Page => names.page(self.issuer, after.series, after.count.saturating_sub(1)),
            Brought::Newest | Brought::Nothing => names.newest(self.issuer),
        };
        let on = (self.taken.count > 0).then_some(self.taken);
        Publication {
            key,
            page,
            on,
            brought,
            began,
        }
    }

    /// Notes that a publication is on the board, or that another VM was there first: then this one follows it.
    pub(crate) fn published(&mut self, brought: Brought, is_done: bool) {
        if !is_done {
            if matches!(brought, Brought::Snapshot | Brought::Page) {
                self.begin_again();
            }
            return;
        }
        self.taken = self.taken.after(brought);
        if self.taken.count > self.snapshot_pages.saturating_add(DELTA_LIMIT) {
            // The gate keeps the table that it has until the next one is read.
            let taken = self.taken;
            self.begin_again();
            self.taken = taken;
        }
    }

    /// Reads on for a part of a tick. What is to be published, if a page came to its end.
    pub(crate) fn follow(
        &mut self,
        published: Option<Pages>,
        now: UnixTime,
        gate: &mut Gate,
        native: &Native,
        names: &Names,
    ) -> Option<Publication> {
        let began = host::nanoseconds().unwrap_or_default();
        loop {
            let progress = self.feed.step(now);
            match progress {
                Ok(Progress::Working) => {}
                Ok(Progress::Published) => {
                    self.hand_over(gate);
                    // The rest are tables from which nobody but the clock took anything.
                    if std::mem::take(&mut self.is_reading) && self.with_table {
                        self.metrics.revocation_table_taken(self.name());
                    }
                }
                Ok(Progress::Idle) => self.is_reading = false,
                Err(error) => {
                    self.is_reading = false;
                    self.publishing = None;
                    self.wants_snapshot = true;
                    self.note(Err(error));
                }
            }
            if !self.is_reading {
                if let Some(publishing) = self.publishing.take() {
                    return Some(self.publication(publishing, names));
                }
                if !self.read_next(published, now, gate, native, names) {
                    return None;
                }
            }
            // Without a clock, one part at a tick.
            if host::nanoseconds().map_or(u64::MAX, |now| now.saturating_sub(began)) > BUDGET {
                return None;
            }
        }
    }

    /// Reads the next page, of the configuration's or of the published ones. Whether there is more to do.
    fn read_next(
        &mut self,
        published: Option<Pages>,
        now: UnixTime,
        gate: &mut Gate,
        native: &Native,
        names: &Names,
    ) -> bool {
        if self.stuck.is_some_and(|stuck| now.since(stuck) < AGAIN) {
            return false;
        }
        if self.stuck.is_some() {
            self.begin_again();
        }
        let Some(pages) = published else {
            let page = self
                .config
                .issuers()
                .get(self.issuer)
                .and_then(|issuer| issuer.inline_feed.get(self.inline));
            let Some(page) = page.cloned() else { return false };
            self.inline = self.inline.saturating_add(1);
            let read = self.read_page(page, Origin::Configured, now, gate, native);
            self.note(read);
            return true;
        };
        if pages.series != self.taken.series {
            self.taken = Pages {
                series: pages.series,
                count: 0,
                ..self.taken
            };
        }
        let key = if self.taken.count < pages.count {
            names.page(self.issuer, pages.series, self.taken.count)
        } else if self.taken.newest != pages.newest {
            names.newest(self.issuer)
        } else {
            return false;
        };
        let Ok(Some((page, _))) = host::shared_data(&key) else {
            self.stuck = Some(now);
            return false;
        };
        let read = self.read_page(page, Origin::Fetched, now, gate, native);
        match read {
            // What is older than what is known was read before, from another series.
            Ok(()) | Err(FeedError::GoesBack) => {
                if self.taken.count < pages.count {
                    self.taken.count = self.taken.count.saturating_add(1);
                } else {
                    self.taken.newest = pages.newest;
                }
                self.note(Ok(()));
                true
            }
            Err(error) => {
                self.stuck = Some(now);
                self.note(Err(error));
                false
            }
        }
    }

    fn read_page(
        &mut self,
        page: Vec<u8>,
        origin: Origin,
        now: UnixTime,
        gate: &mut Gate,
        native: &Native,
    ) -> Result<(), FeedError> {
        let verified = self.verify(page, now, gate, native)?;
        let claims = verified.claims();
        self.base = claims.base;
        if claims.base.is_none() && claims.page == 0 {
            self.snapshot_pages = claims.pages;
        }
        match self.feed.accept(verified, origin, now)? {
            Accepted::Reading => self.is_reading = true,
            Accepted::Refreshed => self.hand_over(gate),
            Accepted::Known => {}
        }
        Ok(())
    }

    fn verify(&self, page: Vec<u8>, now: UnixTime, gate: &Gate, native: &Native) -> Result<VerifiedPage, FeedError> {
        let keys = gate
            .snapshot()
            .issuer_keys(self.issuer, now)
            .ok_or(FeedError::Signature(kerbridge_gate::Reason::KeysUnavailable))?;
        let unverified = UnverifiedPage::read(page, keys)?;
        let is_good = native.verify(unverified.signature());
        unverified.resume(is_good)
    }

    /// What statistics and the log call the issuer.
    fn name(&self) -> &str {
        self.config
            .issuers()
            .get(self.issuer)
            .map_or("-", |issuer| &issuer.name)
    }

    /// Gives the gate what is known.
    fn hand_over(&self, gate: &mut Gate) {
        if let Some(known) = self.feed.known() {
            let next = gate.snapshot().with_revocations(self.issuer, known);
            gate.replace(Rc::new(next));
        }
    }

    /// Logs a change between good and bad, and nothing in between.
    pub(crate) fn note(&mut self, outcome: Result<(), FeedError>) {
        let failure = outcome.err();
        if failure != self.failure {
            let name = self.name();
            match failure {
                Some(error) => {
                    log::warn!("revocations not taken, the last good ones stay problem=\"{error}\" issuer={name}")
                }
                None => log::info!("revocations taken again issuer={name}"),
            }
        }
        self.failure = failure;
    }
}
