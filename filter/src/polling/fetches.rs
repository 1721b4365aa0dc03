//! Carries out fetches: calls out for keys and pages, and brings each answer to whom it is for.

use std::time::Duration;

use kerbridge_gate::feed::PAGE_LIMIT;
use kerbridge_gate::poll::Fetch;
use kerbridge_gate::{Gate, UnixTime, jwk};
use proxy_wasm::types::MapType;

use super::Polling;
use crate::feeds::Follower;
use crate::host;
use crate::native::Native;

/// Longest wait for an answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

impl Polling {
    /// Fetches the pages that belong to what is being read: a snapshot of many pages does not wait for the next poll.
    pub(super) fn fetch_next_pages(&mut self, now: UnixTime, gate: &mut Gate) {
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

    pub(super) fn fetch(&mut self, fetch: Fetch, now: UnixTime, gate: &mut Gate) {
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
        match host::call(cluster, "GET", authority, &path, None, &[], FETCH_TIMEOUT) {
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
}

fn read_answer(limit: usize) -> Result<Vec<u8>, &'static str> {
    let head = host::header_map(MapType::HttpCallResponseHeaders).map_err(|host::HostError| "no answer")?;
    if head.first(b":status") != Some(b"200") {
        return Err("the answer is not 200");
    }
    // One byte over the limit shows an answer that is too large; more of it is not copied.
    host::callout_body(limit.saturating_add(1)).map_err(|host::HostError| "no answer")
}
