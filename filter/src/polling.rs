//! Carries out the polling that [`kerbridge_gate::poll`] decides: reads and writes the VMs' shared data, calls out, and
//! takes over what was published.

mod fetches;
mod keys;

use std::collections::HashMap;
use std::rc::Rc;

use kerbridge_gate::config::Issuer;
use kerbridge_gate::poll::{Board, Brought, Fetch, Holder, Keys, Names, Pages, Poller, Refetch};
use kerbridge_gate::{Config, Gate, UnixTime};

use crate::feeds::{Follower, Publication};
use crate::host;
use crate::metrics::Metrics;
use crate::native::Native;

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
