//! Follows the issuers' revocation feeds: reads published pages, verifies them in slices, hands tables to the gate; and in the
//! VM that polls, publishes what it fetched.
//!
//! Every VM verifies for itself. A VM that has seen no request (the main thread's) keeps no table; where it polls, it checks
//! pages without one before it publishes them. The first request of a VM makes it read what is published.

use std::rc::Rc;

use kerbridge_gate::feed::{Accepted, Feed, FeedError, Origin, Progress, UnverifiedPage, VerifiedPage};
use kerbridge_gate::poll::{Brought, Digest, Names, Next, Pages, Published, Reader, follow, page_digest};
use kerbridge_gate::{Config, Gate, UnixTime};
use kerbridge_wire::feed_query::FeedQuery;

use crate::host;
use crate::metrics::Metrics;
use crate::native::Native;

/// Nanoseconds of a tick that reading may take: Envoy's worker serves nobody meanwhile.
const BUDGET: u64 = 3_000_000;
/// Pages of deltas after which a full snapshot is fetched, so that a VM that starts has not too many to read.
const DELTA_LIMIT: u32 = 512;

/// One issuer's feed, as this VM has followed it.
pub(crate) struct Follower {
    issuer: usize,
    config: Rc<Config>,
    metrics: Rc<Metrics>,
    feed: Feed,
    with_table: bool,
    /// What of the published pages was read.
    reader: Reader,
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
    failure: Option<FeedError>,
}

struct Publishing {
    page: Vec<u8>,
    signer: Rc<str>,
    brought: Brought,
    began: UnixTime,
}

/// A page that is to be put where the others find it, and what it builds on.
pub(crate) struct Publication {
    pub(crate) key: String,
    pub(crate) page: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) signer: Rc<str>,
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
            reader: Reader::default(),
            snapshot_pages: 0,
            inline: 0,
            is_reading: false,
            publishing: None,
            base: None,
            wants_snapshot: false,
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
            let (mut reader, failure) = (std::mem::take(&mut self.reader), self.failure);
            reader.restart();
            *self = fresh;
            (self.reader, self.failure) = (reader, failure);
        }
    }

    /// Makes the next question one for all of it, to be published as a new series: what is published is of no use to those who
    /// come later. The gate keeps the table that it has until the next one is read.
    pub(crate) fn renew(&mut self, published: Pages) {
        let is_under_way = self.is_reading || self.publishing.is_some();
        if is_under_way || (self.wants_snapshot && self.is_idle(Some(published))) {
            return;
        }
        self.begin_again();
        self.reader.skip_to(published);
        self.wants_snapshot = true;
    }

    /// Whether nobody who comes later is to begin with what is published: this VM cannot read it, or a key is gone that
    /// signed a page of it.
    pub(crate) fn gives_up(&self, published: Pages, polls: bool, gate: &Gate, now: UnixTime) -> bool {
        let has_lost_a_signer = || {
            let keys = gate.snapshot().issuer_keys(self.issuer, now);
            keys.is_some_and(|keys| self.reader.has_lost_a_signer(|kid| keys.has(kid)))
        };
        // Whoever polls need not try twice: what it fetches is there for it to read.
        let is_to_renew = || !published.is_void && (self.reader.is_stuck() || has_lost_a_signer());
        self.reader.gives_up(published) || (polls && is_to_renew())
    }

    /// Whether there is nothing to read but what is published after this.
    pub(crate) fn is_idle(&self, published: Option<Pages>) -> bool {
        let (series, count) = published.map_or((0, 0), |pages| (pages.series, pages.count));
        let read = self.reader.read();
        !self.is_reading && self.publishing.is_none() && (read.series, read.count) == (series, count)
    }

    /// Whether a page, or a snapshot of several, is being read.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_reading || self.publishing.is_some() || (self.is_in_the_middle() && !self.reader.is_stuck())
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
                at: self.feed.began(),
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
        let signer = Rc::clone(verified.signer());
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
                self.publishing = Some(Publishing {
                    page,
                    signer,
                    brought,
                    began,
                });
                return Ok(None);
            }
            Accepted::Refreshed => {
                self.hand_over(gate);
                Brought::Newest
            }
            Accepted::Known => Brought::Nothing,
        };
        let publishing = Publishing {
            page,
            signer,
            brought,
            began,
        };
        Ok(Some(self.publication(publishing, names)))
    }

    fn publication(&self, publishing: Publishing, names: &Names) -> Publication {
        let Publishing {
            page,
            signer,
            brought,
            began,
        } = publishing;
        let read = self.reader.read();
        let after = read.after(brought);
        let key = match brought {
            Brought::Snapshot | Brought::Page => names.page(self.issuer, after.series, after.count.saturating_sub(1)),
            Brought::Newest | Brought::Nothing => names.newest(self.issuer),
        };
        let on = (read.count > 0).then_some(read);
        Publication {
            key,
            digest: page_digest(&page),
            page,
            signer,
            on,
            brought,
            began,
        }
    }

    /// Notes that a publication is on the board, or that another VM was there first: then this one follows it.
    pub(crate) fn published(&mut self, publication: &Publication, is_done: bool) {
        if !is_done {
            if matches!(publication.brought, Brought::Snapshot | Brought::Page) {
                self.begin_again();
            }
            return;
        }
        let read = self.reader.read().after(publication.brought);
        self.reader.published(read, Rc::clone(&publication.signer));
        if read.count > self.snapshot_pages.saturating_add(DELTA_LIMIT) {
            self.renew(read);
        }
    }

    /// Reads on for a part of a tick. What is to be published, if a page came to its end.
    pub(crate) fn follow(
        &mut self,
        published: &Published,
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
        published: &Published,
        now: UnixTime,
        gate: &mut Gate,
        native: &Native,
        names: &Names,
    ) -> bool {
        // Without keys nothing can be verified, and no page is to blame.
        let has_keys = gate.snapshot().issuer_keys(self.issuer, now).is_some();
        if !has_keys || !self.reader.may_read(published.feed, now) {
            return false;
        }
        if self.reader.is_stuck() {
            self.begin_again();
        }
        let Some(pages) = published.feed else {
            let page = self
                .config
                .issuers()
                .get(self.issuer)
                .and_then(|issuer| issuer.inline_feed.get(self.inline));
            let Some(page) = page.cloned() else { return false };
            self.inline = self.inline.saturating_add(1);
            let read = self
                .verify(page, now, gate, native)
                .and_then(|page| self.read_page(page, Origin::Configured, now, gate));
            self.note(read);
            return true;
        };
        let next = self.reader.next(pages);
        let key = match next {
            Next::Nothing => return false,
            Next::Page(page) => names.page(self.issuer, pages.series, page),
            Next::Newest => names.newest(self.issuer),
        };
        let page = match host::shared_data(&key) {
            Ok(Some((page, _))) if published.names(next, page_digest(&page)) => page,
            // A VM that came too late for the board has written over it. The next one comes with the next poll.
            Ok(_) | Err(host::HostError) if next == Next::Newest => {
                self.reader.took(next, pages, None);
                return true;
            }
            Ok(_) | Err(host::HostError) => {
                self.reader.failed(pages, now);
                return false;
            }
        };
        let verified = self.verify(page, now, gate, native);
        let signer = verified.as_ref().ok().map(|page| Rc::clone(page.signer()));
        match verified.and_then(|page| self.read_page(page, Origin::Fetched, now, gate)) {
            // What is older than what is known was read before, from another series.
            Ok(()) | Err(FeedError::GoesBack) => {
                self.reader.took(next, pages, signer);
                self.note(Ok(()));
                true
            }
            // The next one comes with the next poll, and nothing builds on this one.
            Err(error @ FeedError::Signature(_)) if next == Next::Newest => {
                self.reader.took(next, pages, None);
                self.note(Err(error));
                true
            }
            Err(error) => {
                self.reader.failed(pages, now);
                self.note(Err(error));
                false
            }
        }
    }

    fn read_page(
        &mut self,
        verified: VerifiedPage,
        origin: Origin,
        now: UnixTime,
        gate: &mut Gate,
    ) -> Result<(), FeedError> {
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

    /// Counts what is bad, and logs a change between good and bad, and nothing in between.
    pub(crate) fn note(&mut self, outcome: Result<(), FeedError>) {
        let failure = outcome.err();
        if let Some(error) = failure {
            self.metrics.feed_page_refused(error.as_str(), self.name());
        }
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
