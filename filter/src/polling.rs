//! Carries out the polling that [`kerbridge_gate::poll`] decides: reads and writes the VMs' shared data, calls out, and
//! takes over what was published.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use kerbridge_gate::config::Issuer;
use kerbridge_gate::feed::PAGE_LIMIT;
use kerbridge_gate::poll::{self, Board, Brought, Fetch, Holder, Keys, Names, Pages, Poller, Refetch};
use kerbridge_gate::{Config, Gate, UnixTime, jwk};
use proxy_wasm::types::MapType;

use crate::feeds::{Follower, Publication};
use crate::host;
use crate::metrics::Metrics;
use crate::native::Native;

/// Longest wait for an answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a change of the board is tried again when another VM wrote in between.
const ATTEMPTS: usize = 32;
/// Seconds after the configuration in which missing keys are worth a faster tick.
const START: u64 = 5;

/// One VM's part in the polling, and what it has taken over.
pub(crate) struct Polling {
    names: Names,
    config: Rc<Config>,
    poller: Poller,
    callouts: HashMap<u32, (Fetch, UnixTime)>,
    /// By issuer.
    taken: Vec<Taken>,
    /// By issuer; `None` for those without a feed.
    followers: Vec<Option<Follower>>,
    /// This VM serves requests: it keeps tables of what was revoked.
    serves: bool,
    /// Fetches that failed last time, so that a broker that is away is logged once and not each second.
    failing: Vec<Fetch>,
    began: Option<UnixTime>,
    /// When ages were shown last.
    shown: Option<UnixTime>,
    metrics: Rc<Metrics>,
}

#[derive(Clone, Copy, Default)]
struct Taken {
    keys: Option<Keys>,
    refetch: Option<Refetch>,
}

impl Polling {
    pub(crate) fn new(configuration: &[u8], config: Rc<Config>, holder: u64, metrics: Rc<Metrics>) -> Self {
        let issuers = config.issuers().len();
        Self {
            names: Names::new(configuration),
            poller: Poller::new(issuers, Holder(holder)),
            callouts: HashMap::new(),
            taken: vec![Taken::default(); issuers],
            followers: (0..issuers)
                .map(|issuer| Follower::new(issuer, &config, &metrics, false))
                .collect(),
            serves: false,
            config,
            failing: Vec::new(),
            began: None,
            shown: None,
            metrics,
        }
    }

    /// The board and the number to compare and swap by; an empty one where none is written yet.
    fn read_board(&self) -> Result<(Board, u32), host::HostError> {
        let issuers = self.config.issuers().len();
        Ok(match host::shared_data(&self.names.board())? {
            Some((bytes, cas)) => (Board::read(&bytes, issuers), cas),
            None => (Board::empty(issuers), 0),
        })
    }

    /// Changes the board, however many others do. `change` says whether there is something to write.
    fn change_board(&self, mut change: impl FnMut(&mut Board) -> bool) -> Result<(), host::HostError> {
        for _ in 0..ATTEMPTS {
            let (mut board, cas) = self.read_board()?;
            if !change(&mut board) || host::set_shared_data(&self.names.board(), &board.write(), cas)? {
                return Ok(());
            }
        }
        Err(host::HostError)
    }

    /// Takes over what the others published. Whether requests that wait may go on now.
    pub(crate) fn take_over(&mut self, gate: &mut Gate) -> bool {
        self.read_board().is_ok_and(|(board, _)| self.take(&board, gate))
    }

    /// Replaces an issuer's keys by a set that it did not have before.
    fn set_keys(&mut self, issuer: usize, text: &[u8], keys: Keys, gate: &mut Gate) -> Result<(), jwk::NotAKeySet> {
        let next = gate.snapshot().with_keys(issuer, text, keys.as_of)?;
        gate.replace(Rc::new(next));
        if let Some(taken) = self.taken.get_mut(issuer) {
            taken.keys = Some(keys);
        }
        if let Some(issuer) = self.config.issuers().get(issuer) {
            self.metrics.key_set_taken(&issuer.name);
        }
        Ok(())
    }

    fn confirm_keys(&mut self, issuer: usize, keys: Keys, gate: &mut Gate) {
        let next = gate.snapshot().with_keys_confirmed(issuer, keys.as_of);
        gate.replace(Rc::new(next));
        if let Some(taken) = self.taken.get_mut(issuer) {
            taken.keys = Some(keys);
        }
    }

    fn has_keys(&self, issuer: usize) -> Option<Keys> {
        self.taken.get(issuer).and_then(|taken| taken.keys)
    }

    fn take(&mut self, board: &Board, gate: &mut Gate) -> bool {
        let mut news = false;
        for issuer in 0..self.taken.len() {
            let published = board.issuer(issuer);
            news |= published.keys.is_some_and(|keys| self.take_keys(issuer, keys, gate));
            news |= published
                .refetch
                .is_some_and(|refetch| self.take_refetch(issuer, refetch, gate));
        }
        news
    }

    fn take_keys(&mut self, issuer: usize, keys: Keys, gate: &mut Gate) -> bool {
        match self.has_keys(issuer) {
            Some(own) if own == keys || !poll::supersedes(keys.as_of, own.as_of) => false,
            Some(own) if own.digest == keys.digest => {
                self.confirm_keys(issuer, keys, gate);
                false
            }
            Some(_) | None => {
                let text = match host::shared_data(&self.names.keys(issuer)) {
                    // Another set is being written at this moment: its line on the board comes next.
                    Ok(Some((text, _))) if poll::digest(&text) == keys.digest => text,
                    Ok(_) | Err(host::HostError) => return false,
                };
                self.set_keys(issuer, &text, keys, gate).is_ok()
            }
        }
    }

    fn take_refetch(&mut self, issuer: usize, refetch: Refetch, gate: &mut Gate) -> bool {
        let Some(taken) = self.taken.get_mut(issuer).map(|taken| &mut taken.refetch) else {
            return false;
        };
        if taken.replace(refetch) == Some(refetch) {
            return false;
        }
        gate.demand().began(issuer, refetch.began);
        match refetch.ended {
            Some(brought) => {
                gate.demand().ended(issuer, refetch.began, brought);
                true
            }
            None => false,
        }
    }

    /// Takes over what is new, and fetches what is this VM's to fetch. Whether requests that wait may go on now.
    pub(crate) fn tick(&mut self, now: UnixTime, gate: &mut Gate, native: &Native) -> bool {
        self.began = self.began.or(Some(now));
        let Ok((mut board, cas)) = self.read_board() else {
            return false;
        };
        let mut news = self.take(&board, gate);
        let plan = self.poller.plan(now, &self.config, &mut board, &gate.demand().wanted());
        // Another VM wrote in between: what it did is seen at the next tick.
        if plan.write && host::set_shared_data(&self.names.board(), &board.write(), cas) != Ok(true) {
            return news;
        }
        for fetch in plan.fetch {
            if !matches!(fetch, Fetch::Feed(_)) || self.may_ask_feed(fetch.issuer(), &board) {
                self.fetch(fetch, now, gate);
            }
        }
        if plan.polls || self.serves {
            news |= self.follow(plan.polls, now, &board, gate, native);
        }
        if plan.polls {
            self.fetch_next_pages(now, gate);
            // Ages are in seconds; ticks may come faster.
            if self.shown.replace(now) != Some(now) {
                self.show_ages(now, &board);
            }
        }
        news
    }

    /// Whether all that is published of a feed was read: a question from an older position would bring it once more.
    fn may_ask_feed(&self, issuer: usize, board: &Board) -> bool {
        let follower = self.followers.get(issuer).and_then(Option::as_ref);
        follower.is_some_and(|follower| follower.is_idle(board.issuer(issuer).feed))
    }

    /// Reads on in the feeds. Whether the gate learned something.
    fn follow(&mut self, polls: bool, now: UnixTime, board: &Board, gate: &mut Gate, native: &Native) -> bool {
        let before = Rc::clone(gate.snapshot());
        for issuer in 0..self.followers.len() {
            let Some(Some(follower)) = self.followers.get_mut(issuer) else {
                continue;
            };
            let published = board.issuer(issuer);
            match (
                follower.follow(published, now, gate, native, &self.names),
                published.feed,
            ) {
                (Some(publication), _) => self.publish(issuer, &publication),
                (None, Some(published)) => self.give_up(issuer, published, polls, now, gate),
                (None, None) => {}
            }
        }
        !Rc::ptr_eq(&before, gate.snapshot())
    }

    /// Says on the board that those who come later are not to begin with what is published, where that is so; where this VM
    /// polls, and somebody said so, it fetches all of it anew.
    fn give_up(&mut self, issuer: usize, published: Pages, polls: bool, now: UnixTime, gate: &Gate) {
        let Some(Some(follower)) = self.followers.get_mut(issuer) else {
            return;
        };
        if polls && published.is_void {
            follower.renew(published);
        } else if follower.gives_up(published, polls, gate, now) {
            let name = self.config.issuers().get(issuer).map_or("-", |issuer| &issuer.name);
            log::warn!("published revocations cannot be read any more, they are fetched anew issuer={name}");
            if self
                .change_board(|board| board.void_feed(issuer, published.series))
                .is_err()
            {
                log::warn!("the board cannot be written issuer={name}");
            }
        }
    }

    /// Fetches the pages that belong to what is being read: a snapshot of many pages does not wait for the next poll.
    fn fetch_next_pages(&mut self, now: UnixTime, gate: &mut Gate) {
        if !self.followers.iter().flatten().any(Follower::is_in_the_middle) {
            return;
        }
        let Ok((board, _)) = self.read_board() else { return };
        for issuer in 0..self.followers.len() {
            let fetch = Fetch::Feed(issuer);
            let is_in_the_middle = self
                .followers
                .get(issuer)
                .and_then(Option::as_ref)
                .is_some_and(Follower::is_in_the_middle);
            let is_under_way = self.callouts.values().any(|(other, _)| *other == fetch);
            if is_in_the_middle && !is_under_way && !self.failing.contains(&fetch) && self.may_ask_feed(issuer, &board)
            {
                self.fetch(fetch, now, gate);
            }
        }
    }

    /// Puts a page where the others find it, unless one of them was there first.
    fn publish(&mut self, issuer: usize, publication: &Publication) {
        let Publication {
            key,
            page,
            digest,
            on,
            brought,
            began,
            signer: _,
        } = publication;
        let mut is_next = false;
        let is_free = self
            .read_board()
            .is_ok_and(|(mut board, _)| board.end_feed(issuer, *on, *began, *brought, *digest));
        if is_free && (*brought == Brought::Nothing || host::set_shared_data(key, page, 0) == Ok(true)) {
            let written = self.change_board(|board| {
                is_next = board.end_feed(issuer, *on, *began, *brought, *digest);
                is_next
            });
            is_next &= written.is_ok();
        }
        if let Some(Some(follower)) = self.followers.get_mut(issuer) {
            follower.published(publication, is_next);
        }
    }

    /// This VM has got a request: from now on it keeps tables.
    pub(crate) fn serve(&mut self) {
        self.serves = true;
        self.followers.iter_mut().flatten().for_each(Follower::keep_table);
    }

    fn fetch(&mut self, fetch: Fetch, now: UnixTime, gate: &mut Gate) {
        let issuer = self.config.issuers().get(fetch.issuer());
        let source = issuer.and_then(|issuer| match fetch {
            Fetch::Keys(_) | Fetch::UnknownKeys(_) => issuer.keys.as_ref(),
            Fetch::Feed(_) => issuer.feed.as_ref(),
        });
        let Some(source) = source else { return };
        self.poller.began(fetch, now);
        if matches!(fetch, Fetch::UnknownKeys(_)) {
            gate.demand().began(fetch.issuer(), now);
        }
        let follower = self.followers.get(fetch.issuer()).and_then(Option::as_ref);
        let path = match (fetch, follower) {
            (Fetch::Feed(_), Some(follower)) => follower.question().target(&source.path),
            (Fetch::Keys(_) | Fetch::UnknownKeys(_) | Fetch::Feed(_), _) => source.path.to_string(),
        };
        let (cluster, authority) = (&source.cluster, &source.authority);
        match host::call(cluster, "GET", authority, &path, None, FETCH_TIMEOUT) {
            Ok(callout) => {
                self.callouts.insert(callout, (fetch, now));
            }
            Err(host::HostError) => {
                self.poller.ended(fetch);
                self.end_fetch(fetch, now, Err("the cluster cannot be called"), gate);
            }
        }
    }

    /// Reads the answer to a callout. Whether requests that wait may go on now.
    pub(crate) fn answered(
        &mut self,
        callout: u32,
        has_head: bool,
        now: UnixTime,
        gate: &mut Gate,
        native: &Native,
    ) -> bool {
        let Some((fetch, began)) = self.callouts.remove(&callout) else {
            return false;
        };
        self.poller.ended(fetch);
        let limit = match fetch {
            Fetch::Keys(_) | Fetch::UnknownKeys(_) => jwk::SET_LIMIT,
            Fetch::Feed(_) => PAGE_LIMIT,
        };
        let answer = if has_head { read_answer(limit) } else { Err("no answer") };
        match (fetch, answer) {
            (Fetch::Feed(issuer), Ok(page)) => {
                self.note(fetch, Ok(()));
                self.take_page(issuer, page, began, now, gate, native)
            }
            (Fetch::Feed(_) | Fetch::Keys(_) | Fetch::UnknownKeys(_), answer) => {
                self.end_fetch(fetch, began, answer, gate)
            }
        }
    }

    /// Takes a fetched page of a feed.
    fn take_page(
        &mut self,
        issuer: usize,
        page: Vec<u8>,
        began: UnixTime,
        now: UnixTime,
        gate: &mut Gate,
        native: &Native,
    ) -> bool {
        let Some(Some(follower)) = self.followers.get_mut(issuer) else {
            return false;
        };
        let taken = follower.fetched(page, began, now, gate, native, &self.names);
        follower.note(taken.as_ref().map(|_| ()).map_err(|error| *error));
        match taken {
            Ok(Some(publication)) => {
                self.publish(issuer, &publication);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Notes how a fetch of keys ended, and that a page did not come.
    fn end_fetch(
        &mut self,
        fetch: Fetch,
        began: UnixTime,
        answer: Result<Vec<u8>, &'static str>,
        gate: &mut Gate,
    ) -> bool {
        let issuer = fetch.issuer();
        let outcome = match fetch {
            Fetch::Keys(_) | Fetch::UnknownKeys(_) => {
                answer.and_then(|text| self.publish_keys(issuer, began, &text, gate))
            }
            Fetch::Feed(_) => {
                self.note(fetch, answer.map(drop));
                return false;
            }
        };
        let is_refetch = matches!(fetch, Fetch::UnknownKeys(_));
        let noted = self.change_board(|board| board.end_keys(issuer, began, outcome.ok(), is_refetch));
        if noted.is_err() {
            log::warn!("what was fetched is not published, the other workers fetch it themselves");
        }
        if is_refetch {
            gate.demand().ended(issuer, began, outcome.is_ok());
        }
        self.note(fetch, outcome.map(drop));
        is_refetch || outcome.is_ok()
    }

    /// Takes a set that was fetched, and puts it where the others find it.
    fn publish_keys(
        &mut self,
        issuer: usize,
        began: UnixTime,
        text: &[u8],
        gate: &mut Gate,
    ) -> Result<poll::Digest, &'static str> {
        let keys = Keys {
            digest: poll::digest(text),
            as_of: began,
        };
        if self.has_keys(issuer).is_some_and(|own| own.digest == keys.digest) {
            self.confirm_keys(issuer, keys, gate);
        } else {
            self.set_keys(issuer, text, keys, gate)
                .map_err(|jwk::NotAKeySet| "the answer is no key set")?;
            if host::set_shared_data(&self.names.keys(issuer), text, 0).is_err() {
                log::warn!("keys are not published, the other workers fetch them themselves");
            }
        }
        Ok(keys.digest)
    }

    /// Counts a page that did not come, and logs a change between good and bad, and nothing in between.
    fn note(&mut self, fetch: Fetch, outcome: Result<(), &'static str>) {
        let name = self
            .config
            .issuers()
            .get(fetch.issuer())
            .map_or("-", |issuer| &issuer.name);
        let what = match fetch {
            Fetch::Keys(_) | Fetch::UnknownKeys(_) => "keys",
            Fetch::Feed(_) => "revocations",
        };
        if outcome.is_err() && matches!(fetch, Fetch::Feed(_)) {
            self.metrics.feed_page_refused("not_fetched", name);
        }
        let was_failing = self.failing.contains(&fetch);
        match (outcome, was_failing) {
            (Ok(()), true) => {
                log::info!("{what} fetched again issuer={name}");
                self.failing.retain(|other| *other != fetch);
            }
            (Err(problem), false) => {
                log::warn!("{what} not fetched, the last good ones stay problem=\"{problem}\" issuer={name}");
                self.failing.push(fetch);
            }
            (Ok(()), false) | (Err(_), true) => {}
        }
    }

    fn show_ages(&self, now: UnixTime, board: &Board) {
        for (at, issuer) in self.config.issuers().iter().enumerate() {
            let published = board.issuer(at);
            if let Some(keys) = published.keys.filter(|_| issuer.keys.is_some()) {
                self.metrics.keys_age(&issuer.name, now.since(keys.as_of));
            }
            if let Some(feed) = published.feed {
                self.metrics.feed_age(&issuer.name, now.since(feed.as_of));
            }
        }
    }

    /// Whether the next tick is worth coming sooner: the VM has just started and lacks keys, or it is reading revocations.
    pub(crate) fn is_loading(&self, now: UnixTime) -> bool {
        let is_young = self.began.is_none_or(|began| now.since(began) < START);
        let lacks_keys = |(issuer, taken): (&Issuer, &Taken)| issuer.keys.is_some() && taken.keys.is_none();
        (is_young && self.config.issuers().iter().zip(&self.taken).any(lacks_keys))
            || self.followers.iter().flatten().any(Follower::is_busy)
    }
}

fn read_answer(limit: usize) -> Result<Vec<u8>, &'static str> {
    let head = host::header_map(MapType::HttpCallResponseHeaders).map_err(|host::HostError| "no answer")?;
    if head.first(b":status") != Some(b"200") {
        return Err("the answer is not 200");
    }
    // One byte over the limit shows an answer that is too large; more of it is not copied.
    host::callout_body(limit.saturating_add(1)).map_err(|host::HostError| "no answer")
}
