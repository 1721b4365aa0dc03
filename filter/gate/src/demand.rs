//! Decides whether a request that names an unknown key waits for the issuer's keys to be fetched, or is refused, and whose
//! fault that is.
//!
//! Anybody can name keys that do not exist, so what a stranger can set off is bounded: one fetch for an issuer in
//! [`BUDGET`] seconds in the whole Envoy process (the board of [`crate::poll`] keeps count), [`WAITING_LIMIT`] requests
//! that wait for it, and a key that such a fetch did not bring is not asked for again for [`REMEMBERED`] seconds. The
//! regular poll has no share in this: it goes on as configured, and a key that it brings is found before anybody asks here.
//!
//! That there is no such key is said only after a fetch that brought a set, be it one of these or the regular poll's. Where
//! the last one of these brought none, and the poll none since, nobody knows.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use crate::poll::supersedes;
use crate::time::UnixTime;

/// Seconds between two fetches of one issuer's keys for the sake of unknown keys.
pub const BUDGET: u64 = 30;
/// Seconds that a request waits for keys, at most.
pub const PATIENCE: u64 = 2;
/// Seconds for which a key is known not to exist after a fetch that did not bring it.
pub const REMEMBERED: u64 = 300;
/// Most requests of one worker that wait for one issuer's keys.
pub const WAITING_LIMIT: usize = 1000;
/// Most names of keys that one worker remembers as asked for.
pub const NAMES_LIMIT: usize = 1000;

/// What happens to a request that names an unknown key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is refused: the key does not exist, as far as an issuer that answers was asked of late.
    Refuse,
    /// It is refused, and that is our fault: the issuer did not answer, or too many wait for it to.
    Unavailable,
    /// It waits: the keys are being fetched, or will be at once.
    Wait,
}

/// Whether a request asks for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It does.
    First,
    /// It has waited, and is counted among those who do.
    Again,
}

/// The unknown keys that requests of one worker named, by issuer.
#[derive(Debug, Default)]
pub struct KeyDemand {
    issuers: BTreeMap<usize, Issuer>,
    names: Names,
}

/// Where the fetch for one issuer's unknown keys stands.
#[derive(Debug, Default)]
struct Issuer {
    /// Somebody waits, and nobody fetches yet.
    wanted: bool,
    /// When the last fetch began, in this process.
    began: Option<UnixTime>,
    /// It has come to its end: whether it brought a set.
    brought: Option<bool>,
    /// When the last fetch began that brought a set.
    answered: Option<UnixTime>,
    /// Requests that were told to wait since a fetch was last wanted, began or came to its end.
    waiting: usize,
}

impl Issuer {
    /// Whether a fetch runs whose answer comes before those who wait give up.
    fn is_under_way(&self, now: UnixTime) -> bool {
        self.brought.is_none() && self.began.is_some_and(|began| now.since(began) <= PATIENCE)
    }

    fn may_begin(&self, now: UnixTime) -> bool {
        // What began in the future began before the clock was set back.
        self.began.is_none_or(|began| began > now || now.since(began) >= BUDGET)
    }
}

impl KeyDemand {
    /// Judges a request that names a key which the issuer's set lacks, a set that a fetch brought which began at `as_of`. To be
    /// asked at every judgement: after a fetch that did not bring the key the answer is to refuse.
    pub fn ask(&mut self, issuer: usize, kid: &str, as_of: UnixTime, now: UnixTime, turn: Turn) -> Demand {
        let state = self.issuers.entry(issuer).or_default();
        let asked = self.names.asked(issuer, kid, now);
        // Only a fetch that began after the name was asked for shows that there is no such key; a second is too coarse to
        // tell which came first within it.
        let lacks_since =
            |time: UnixTime| (time < as_of && as_of <= now) || state.answered.is_some_and(|answered| time < answered);
        if asked.is_some_and(lacks_since) {
            return Demand::Refuse;
        }
        if !state.wanted && !state.is_under_way(now) {
            if !state.may_begin(now) {
                let is_answered = state.brought == Some(true) || state.began.is_some_and(lacks_since);
                return if is_answered {
                    Demand::Refuse
                } else {
                    Demand::Unavailable
                };
            }
            state.wanted = true;
            state.waiting = 0;
        }
        match turn {
            Turn::First if state.waiting >= WAITING_LIMIT => return Demand::Unavailable,
            Turn::First => state.waiting = state.waiting.saturating_add(1),
            Turn::Again => {}
        }
        if asked.is_none() {
            self.names.remember(issuer, kid, now);
        }
        Demand::Wait
    }

    /// The issuers whose keys somebody waits for and nobody fetches.
    pub fn wanted(&self) -> Vec<usize> {
        let wanted = self.issuers.iter().filter(|(_, state)| state.wanted);
        wanted.map(|(issuer, _)| *issuer).collect()
    }

    /// A fetch for unknown keys of this issuer began at this time, here or in another VM of the process.
    pub fn began(&mut self, issuer: usize, at: UnixTime) {
        let state = self.issuers.entry(issuer).or_default();
        state.wanted = false;
        if state.began.is_none_or(|known| known != at && supersedes(at, known)) {
            state.began = Some(at);
            state.brought = None;
            state.waiting = 0;
        }
    }

    /// The fetch that began then is over, and its set, where it brought one, is what requests are judged by from now on.
    pub fn ended(&mut self, issuer: usize, began: UnixTime, brought: bool) {
        let state = self.issuers.entry(issuer).or_default();
        if state.began.is_some_and(|known| !supersedes(began, known)) {
            return;
        }
        state.began = Some(began);
        state.brought = Some(brought);
        state.wanted = false;
        state.waiting = 0;
        if brought {
            state.answered = Some(began);
        }
    }

    /// Whether nothing is awaited for this issuer, so that its requests are judged with the keys that are there.
    pub fn is_settled(&self, issuer: usize, now: UnixTime) -> bool {
        let state = self.issuers.get(&issuer);
        state.is_none_or(|state| !state.wanted && !state.is_under_way(now))
    }
}

/// Names of keys and when each was first asked for; the oldest goes first.
#[derive(Debug, Default)]
struct Names {
    order: VecDeque<Name>,
    asked: HashMap<Name, UnixTime>,
}

type Name = (usize, Rc<str>);

impl Names {
    fn asked(&mut self, issuer: usize, kid: &str, now: UnixTime) -> Option<UnixTime> {
        while let Some(oldest) = self.order.front()
            && self
                .asked
                .get(oldest)
                .is_none_or(|asked| now.since(*asked) >= REMEMBERED)
        {
            self.asked.remove(oldest);
            self.order.pop_front();
        }
        self.asked.get(&(issuer, Rc::from(kid))).copied()
    }

    fn remember(&mut self, issuer: usize, kid: &str, now: UnixTime) {
        if self.order.len() >= NAMES_LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.asked.remove(&oldest);
        }
        let name: Name = (issuer, Rc::from(kid));
        self.order.push_back(name.clone());
        self.asked.insert(name, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(1_000_000_u64.saturating_add(seconds)).unwrap()
    }

    /// What becomes of a request for a key that a set of long ago lacks.
    fn ask(demand: &mut KeyDemand, issuer: usize, kid: &str, now: UnixTime, turn: Turn) -> Demand {
        demand.ask(issuer, kid, UnixTime::default(), now, turn)
    }

    fn first(demand: &mut KeyDemand, issuer: usize, kid: &str, now: UnixTime) -> Demand {
        ask(demand, issuer, kid, now, Turn::First)
    }

    #[test]
    fn those_who_name_an_unknown_key_wait_for_one_fetch() {
        let mut demand = KeyDemand::default();
        assert!(demand.is_settled(0, at(0)));
        for kid in ["a", "b", "a"] {
            assert_eq!(first(&mut demand, 0, kid, at(0)), Demand::Wait);
        }
        assert_eq!(demand.wanted(), [0]);
        assert!(!demand.is_settled(0, at(0)));
        assert!(demand.is_settled(1, at(0)));
        demand.began(0, at(0));
        assert_eq!(demand.wanted(), [0; 0]);
        assert_eq!(
            first(&mut demand, 0, "c", at(1)),
            Demand::Wait,
            "the fetch under way may bring it"
        );
        assert!(!demand.is_settled(0, at(1)));
        demand.ended(0, at(0), true);
        assert!(demand.is_settled(0, at(1)));
        assert_eq!(first(&mut demand, 0, "a", at(1)), Demand::Refuse);
    }

    #[test]
    fn an_issuer_is_asked_at_most_once_in_the_budgets_time_and_others_have_their_own() {
        let mut demand = KeyDemand::default();
        assert_eq!(first(&mut demand, 0, "a", at(0)), Demand::Wait);
        demand.began(0, at(0));
        demand.ended(0, at(0), false);
        for second in 1..BUDGET {
            let answer = first(&mut demand, 0, &format!("{second}"), at(second));
            assert_eq!(answer, Demand::Unavailable, "a fetch that failed shows nothing");
        }
        assert_eq!(first(&mut demand, 1, "a", at(1)), Demand::Wait);
        assert_eq!(
            first(&mut demand, 0, "a", at(BUDGET)),
            Demand::Wait,
            "a fetch that failed shows nothing"
        );
        assert_eq!(demand.wanted(), [0, 1]);
    }

    #[test]
    fn a_fetch_of_another_vm_counts_as_ones_own() {
        let mut demand = KeyDemand::default();
        assert_eq!(first(&mut demand, 0, "a", at(9)), Demand::Wait);
        demand.began(0, at(8));
        assert_eq!(first(&mut demand, 0, "b", at(9)), Demand::Wait);
        assert_eq!(
            first(&mut demand, 0, "c", at(8 + PATIENCE + 1)),
            Demand::Unavailable,
            "it takes too long"
        );
        assert!(demand.is_settled(0, at(8 + PATIENCE + 1)));
        demand.began(0, at(40));
        demand.ended(0, at(8), true);
        assert!(!demand.is_settled(0, at(41)), "an earlier one's end is not its end");
    }

    #[test]
    fn that_there_is_no_such_key_is_said_only_after_a_fetch_that_brought_a_set() {
        let mut demand = KeyDemand::default();
        let asked = |demand: &mut KeyDemand, turn, second| ask(demand, 0, "new", at(second), turn);
        assert_eq!(asked(&mut demand, Turn::First, 0), Demand::Wait);
        demand.began(0, at(0));
        demand.ended(0, at(0), false);
        assert_eq!(asked(&mut demand, Turn::Again, 0), Demand::Unavailable);
        assert_eq!(asked(&mut demand, Turn::First, BUDGET - 1), Demand::Unavailable);
        assert_eq!(asked(&mut demand, Turn::First, BUDGET), Demand::Wait);
        demand.began(0, at(BUDGET));
        demand.ended(0, at(BUDGET), true);
        assert_eq!(asked(&mut demand, Turn::Again, BUDGET), Demand::Refuse);
        assert_eq!(first(&mut demand, 0, "other", at(BUDGET + 9)), Demand::Refuse);
        // What was shown once stays shown, though the next fetch fails.
        assert_eq!(first(&mut demand, 0, "other", at(2 * BUDGET)), Demand::Wait);
        demand.began(0, at(2 * BUDGET));
        demand.ended(0, at(2 * BUDGET), false);
        assert_eq!(asked(&mut demand, Turn::First, 2 * BUDGET + 1), Demand::Refuse);
        assert_eq!(first(&mut demand, 0, "other", at(2 * BUDGET + 1)), Demand::Unavailable);
    }

    #[test]
    fn what_the_regular_poll_brings_answers_where_a_fetch_failed() {
        let mut demand = KeyDemand::default();
        assert_eq!(first(&mut demand, 0, "new", at(0)), Demand::Wait);
        demand.began(0, at(1));
        demand.ended(0, at(1), false);
        let mut asked = |kid, as_of, turn| demand.ask(0, kid, at(as_of), at(4), turn);
        for (as_of, answer) in [(0, Demand::Unavailable), (1, Demand::Unavailable), (2, Demand::Refuse)] {
            assert_eq!(asked("other", as_of, Turn::First), answer, "a set as of {as_of}");
        }
        assert_eq!(asked("new", 0, Turn::Again), Demand::Unavailable);
        assert_eq!(
            asked("new", 1, Turn::Again),
            Demand::Refuse,
            "it was asked for before that"
        );
    }

    #[test]
    fn whoever_waits_is_counted_once_and_not_beyond_the_fetch_that_is_waited_for() {
        let mut demand = KeyDemand::default();
        for _ in 0..200 {
            assert_eq!(first(&mut demand, 0, "new", at(0)), Demand::Wait);
        }
        // Each news is a reason to ask again.
        for _ in 0..20 {
            for _ in 0..200 {
                assert_eq!(ask(&mut demand, 0, "new", at(0), Turn::Again), Demand::Wait);
            }
        }
        for _ in 200..WAITING_LIMIT {
            assert_eq!(first(&mut demand, 0, "new", at(0)), Demand::Wait);
        }
        assert_eq!(first(&mut demand, 0, "new", at(0)), Demand::Unavailable);
        assert_eq!(
            ask(&mut demand, 0, "new", at(0), Turn::Again),
            Demand::Wait,
            "it is one of them"
        );
        // The fetch begins, and its end is never heard of: those who come later are not refused for it.
        demand.began(0, at(0));
        for _ in 0..WAITING_LIMIT {
            assert_eq!(first(&mut demand, 0, "new", at(1)), Demand::Wait);
        }
        assert_eq!(first(&mut demand, 0, "new", at(1)), Demand::Unavailable);
        assert_eq!(first(&mut demand, 0, "new", at(BUDGET)), Demand::Wait);
        assert_eq!(demand.wanted(), [0]);
    }

    #[test]
    fn a_key_that_a_later_fetch_did_not_bring_is_not_asked_for_again_until_it_is_forgotten() {
        let mut demand = KeyDemand::default();
        assert_eq!(first(&mut demand, 0, "gone", at(0)), Demand::Wait);
        demand.began(0, at(1));
        demand.ended(0, at(1), true);
        assert_eq!(first(&mut demand, 0, "gone", at(BUDGET + 1)), Demand::Refuse);
        assert_eq!(demand.wanted(), [0; 0]);
        assert_eq!(first(&mut demand, 0, "gone", at(REMEMBERED)), Demand::Wait);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_keep_keys_from_being_fetched() {
        let mut demand = KeyDemand::default();
        assert_eq!(first(&mut demand, 0, "a", at(3600)), Demand::Wait);
        demand.began(0, at(3600));
        demand.ended(0, at(3600), true);
        assert_eq!(first(&mut demand, 0, "b", at(0)), Demand::Wait);
        demand.began(0, at(0));
        assert_eq!(first(&mut demand, 0, "c", at(1)), Demand::Wait);
        demand.ended(0, at(0), true);
        assert_eq!(first(&mut demand, 0, "b", at(2)), Demand::Refuse);
    }

    #[test]
    fn who_waits_and_what_is_remembered_is_bounded() {
        let mut demand = KeyDemand::default();
        let mut waiting = 0;
        for kid in 0..20_000 {
            if first(&mut demand, 0, &format!("{kid}"), at(0)) == Demand::Wait {
                waiting += 1;
            }
        }
        assert_eq!(waiting, WAITING_LIMIT);
        for issuer in 1..10 {
            for kid in 0..WAITING_LIMIT {
                assert_eq!(first(&mut demand, issuer, &format!("{kid}"), at(0)), Demand::Wait);
            }
        }
        assert_eq!(
            (demand.names.order.len(), demand.names.asked.len()),
            (NAMES_LIMIT, NAMES_LIMIT)
        );
    }

    #[derive(Clone, Debug)]
    enum Event {
        Ask(usize, u8),
        Begin,
        End(usize, bool),
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..2_usize, any::<u8>()).prop_map(|(issuer, kid)| Event::Ask(issuer, kid)),
            1 => Just(Event::Begin),
            1 => (0..2_usize, any::<bool>()).prop_map(|(issuer, brought)| Event::End(issuer, brought)),
            2 => (0..20_u64).prop_map(Event::Pass),
        ]
    }

    proptest! {
        /// Whatever is asked in whatever order, two fetches of one issuer lie at least the budget apart, and everybody who
        /// waits is let go.
        #[test]
        fn fetches_keep_their_distance_and_nobody_waits_for_ever(events in proptest::collection::vec(event(), 1..200)) {
            let mut demand = KeyDemand::default();
            let mut now = at(0);
            let mut last: [Option<UnixTime>; 2] = [None; 2];
            for event in events {
                match event {
                    Event::Ask(issuer, kid) => {
                        if first(&mut demand, issuer, &format!("{kid}"), now) == Demand::Wait {
                            prop_assert!(!demand.is_settled(issuer, now));
                        }
                    }
                    Event::Begin => for issuer in demand.wanted() {
                        if let Some(last) = last[issuer] {
                            prop_assert!(now.since(last) >= BUDGET);
                        }
                        last[issuer] = Some(now);
                        demand.began(issuer, now);
                        prop_assert!(demand.is_settled(issuer, now.plus(PATIENCE + 1)));
                    },
                    Event::End(issuer, brought) => if let Some(began) = last[issuer] {
                        demand.ended(issuer, began, brought);
                    },
                    Event::Pass(seconds) => now = now.plus(seconds),
                }
            }
        }
    }
}
