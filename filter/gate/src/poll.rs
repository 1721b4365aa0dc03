//! Decides which VM of an Envoy process fetches, what it publishes for the others, and what a VM takes over.
//!
//! Envoy runs the module in a VM for each worker and one on the main thread. One of them fetches for all: it holds a lease
//! on the [`Board`], a small entry of the VMs' shared data that also says what was published and when. Each VM reads the
//! board at every tick and takes over what is new; keys and pages themselves stand in entries of their own. Whoever changes
//! the board compares and swaps, but creating it cannot be compared: two VMs may poll for a tick then, and later for one
//! lease where a clock jumps. The lease saves work; nothing is wrong where it fails. A VM that was reloaded finds everything
//! as it was.
//!
//! The board is as trustworthy as Envoy's own configuration: only modules with the same `vm_id` write there, and the
//! shipped YAML gives this one its own. Revocations are signed and verified by each VM all the same.

mod board;
mod reader;
#[cfg(test)]
mod tests;

use std::rc::Rc;

pub use board::{Board, Brought, Holder, Keys, LEASE, Pages, Published, Refetch, supersedes};
use kerbridge_wire::feed::jws_length;
pub use reader::{Next, Reader};

use crate::config::Config;
use crate::feed::Feed;
use crate::time::UnixTime;

/// Seconds between two attempts where the last one failed and nothing is there yet.
const RETRY: u64 = 1;

/// First 16 bytes of a SHA-256.
pub type Digest = [u8; 16];

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    let mut short = Digest::default();
    for (to, from) in short.iter_mut().zip(hmac_sha256::Hash::hash(bytes)) {
        *to = from;
    }
    short
}

/// The digest by which the board names a page of a feed: of what is signed of it, which has the hash of the rest.
pub fn page_digest(page: &[u8]) -> Digest {
    let signed = jws_length(page).and_then(|length| page.get(..length));
    digest(signed.unwrap_or_default())
}

/// Names of the entries of one configuration: another configuration reads and writes others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// The names for a plugin configuration, as its bytes came.
    pub fn new(configuration: &[u8]) -> Self {
        let digest = digest(configuration);
        let prefix = digest
            .iter()
            .fold(String::from("kerbridge."), |name, byte| format!("{name}{byte:02x}"));
        Self { prefix }
    }

    /// The board.
    pub fn board(&self) -> String {
        format!("{}.board", self.prefix)
    }

    /// An issuer's key set, as it was fetched.
    pub fn keys(&self, issuer: usize) -> String {
        format!("{}.keys.{issuer}", self.prefix)
    }

    /// A page of a series of an issuer's revocations, as it was fetched. Two series have room beside each other: who reads the
    /// last one while the next is written reads what belongs together.
    pub fn page(&self, issuer: usize, series: u64, page: u32) -> String {
        let side = if series.is_multiple_of(2) { "even" } else { "odd" };
        format!("{}.feed.{issuer}.{side}.{page}", self.prefix)
    }

    /// The page by which an issuer said last that nothing was revoked since.
    pub fn newest(&self, issuer: usize) -> String {
        format!("{}.feed.{issuer}.newest", self.prefix)
    }
}

/// The feed of an issuer, of which nothing was read yet; `None` where it has none.
pub fn follow(config: &Config, issuer: usize, with_table: bool) -> Option<Feed> {
    let issuer = config.issuers().get(issuer)?;
    let max_staleness = issuer.feed.as_ref()?.max_staleness;
    let feed = if with_table { Feed::new } else { Feed::without_table };
    Some(feed(Rc::clone(&issuer.issuer), issuer.clock_skew, max_staleness))
}

/// What is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fetch {
    /// An issuer's keys, because it is time.
    Keys(usize),
    /// An issuer's keys, because requests name some that its set lacks.
    UnknownKeys(usize),
    /// An issuer's revocations.
    Feed(usize),
}

impl Fetch {
    /// The issuer.
    pub const fn issuer(self) -> usize {
        match self {
            Self::Keys(issuer) | Self::UnknownKeys(issuer) | Self::Feed(issuer) => issuer,
        }
    }
}

/// What one VM does at a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// This VM polls for all.
    pub polls: bool,
    /// The board was changed: it is to be written by compare and swap, and nothing is fetched unless that succeeds.
    pub write: bool,
    /// What is to be fetched then.
    pub fetch: Vec<Fetch>,
}

/// One VM's part in the polling.
#[derive(Debug)]
pub struct Poller {
    me: Holder,
    /// By issuer: when its keys and its feed were last asked for by this VM.
    asked: Vec<Asked>,
    under_way: Vec<Fetch>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    keys: Option<UnixTime>,
    feed: Option<UnixTime>,
}

impl Poller {
    /// A VM that has asked for nothing yet.
    pub fn new(issuers: usize, me: Holder) -> Self {
        Self {
            me,
            asked: vec![Asked::default(); issuers],
            under_way: Vec::new(),
        }
    }

    /// Decides what this VM does now: hold the lease and fetch what is due, and fetch keys for those of its requests that
    /// name unknown ones (`wanted`, issuers), lease or no lease.
    pub fn plan(&self, now: UnixTime, config: &Config, board: &mut Board, wanted: &[usize]) -> Plan {
        let mut plan = Plan::default();
        for &issuer in wanted {
            let has_source = config.issuers().get(issuer).is_some_and(|issuer| issuer.keys.is_some());
            if has_source && board.begin_refetch(issuer, now) {
                plan.write = true;
                plan.fetch.push(Fetch::UnknownKeys(issuer));
            }
        }
        let Some(writes) = board.contend(self.me, now) else {
            return plan;
        };
        plan.polls = true;
        plan.write |= writes;
        for (at, issuer) in config.issuers().iter().enumerate() {
            let published = board.issuer(at);
            let asked = self.asked.get(at).copied().unwrap_or_default();
            if let Some(source) = &issuer.keys {
                let as_of = published.keys.map(|keys| keys.as_of);
                if is_due(now, as_of, asked.keys, source.poll) && !self.is_under_way(Fetch::Keys(at)) {
                    plan.fetch.push(Fetch::Keys(at));
                }
            }
            if let Some(source) = &issuer.feed {
                // Void pages are as good as none.
                let as_of = published.feed.filter(|feed| !feed.is_void).map(|feed| feed.as_of);
                if is_due(now, as_of, asked.feed, source.poll) && !self.is_under_way(Fetch::Feed(at)) {
                    plan.fetch.push(Fetch::Feed(at));
                }
            }
        }
        plan
    }

    fn is_under_way(&self, fetch: Fetch) -> bool {
        self.under_way.contains(&fetch)
    }

    /// A fetch goes out.
    pub fn began(&mut self, fetch: Fetch, now: UnixTime) {
        self.under_way.push(fetch);
        let asked = self.asked.get_mut(fetch.issuer());
        match (fetch, asked) {
            (Fetch::Keys(_), Some(asked)) => asked.keys = Some(now),
            (Fetch::Feed(_), Some(asked)) => asked.feed = Some(now),
            (Fetch::UnknownKeys(_), _) | (_, None) => {}
        }
    }

    /// A fetch is over.
    pub fn ended(&mut self, fetch: Fetch) {
        self.under_way.retain(|other| *other != fetch);
    }
}

/// Whether it is time to ask again, by what is published and by when this VM asked last: each second where nothing is there
/// yet. A time in the future is a clock that was set back.
fn is_due(now: UnixTime, as_of: Option<UnixTime>, asked: Option<UnixTime>, poll: u32) -> bool {
    let poll = u64::from(poll);
    let pause = if as_of.is_some() { poll } else { RETRY.min(poll) };
    let over = |time: UnixTime, pause: u64| time > now || now.since(time) >= pause;
    asked.is_none_or(|asked| over(asked, pause)) && as_of.is_none_or(|as_of| over(as_of, poll))
}
