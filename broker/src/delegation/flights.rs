//! Keeps answers that are dear, so that many who wait for one ask once, and a refusal is not asked for again at once.
//!
//! A table of keys. Each is being asked about, known, or was refused a moment ago. It is bounded: a refusal makes room, or else a
//! known answer, the one that was used longest ago first; what is being asked about does not. Who makes room is known without a
//! look at all others, since everybody waits for that look. Time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::time::UnixTime;

/// What came of a question.
pub(super) type Answer<V, E> = Result<Arc<V>, E>;

/// The table.
#[derive(Debug)]
pub(super) struct Flights<K, V, E> {
    table: Arc<Mutex<Table<K, V, E>>>,
    most: usize,
    /// How long a refusal is remembered.
    refusals_kept: Duration,
}

#[derive(Debug)]
struct Table<K, V, E> {
    slots: HashMap<Arc<K>, Slot<V, E>>,
    /// The keys of what was refused, and of what is known, in the order in which they make room: by their slots' turns.
    refused: BTreeMap<u64, Arc<K>>,
    known: BTreeMap<u64, Arc<K>>,
    /// The last turn that was given.
    turn: u64,
}

#[derive(Debug)]
enum Slot<V, E> {
    Asking(Waiting<V, E>),
    Known { value: Arc<V>, wanted: UnixTime, turn: u64 },
    Refused { why: E, until: Instant, turn: u64 },
}

/// A question that is on its way.
#[derive(Debug)]
pub(super) struct Waiting<V, E> {
    answer: watch::Receiver<Option<Answer<V, E>>>,
    begun: Arc<AtomicBool>,
}

impl<V, E> Clone for Waiting<V, E> {
    fn clone(&self) -> Self {
        Self {
            answer: self.answer.clone(),
            begun: Arc::clone(&self.begun),
        }
    }
}

/// What the table says of a key.
#[derive(Debug)]
pub(super) enum Look<K: Eq + Hash, V, E> {
    /// It is known.
    Known(Arc<V>),
    /// It was refused a moment ago.
    Refused(E),
    /// Somebody else has asked.
    Join(Waiting<V, E>),
    /// Nobody has asked: to be asked now, by whoever gets this.
    Ask(Question<K, V, E>, Waiting<V, E>),
    /// There is no room.
    Full,
}

/// The duty to ask, and to [settle](Flights::settle) what came of it. Who drops it has failed to ask, and those who wait are
/// told.
#[derive(Debug)]
pub(super) struct Question<K: Eq + Hash, V, E> {
    key: Arc<K>,
    answer: watch::Sender<Option<Answer<V, E>>>,
    begun: Arc<AtomicBool>,
    table: Arc<Mutex<Table<K, V, E>>>,
}

impl<K: Eq + Hash, V, E> Question<K, V, E> {
    /// The answer is being worked on.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Whether somebody waits for the answer, beside the table.
    pub(super) fn is_wanted(&self) -> bool {
        self.answer.receiver_count() > 1
    }
}

impl<K: Eq + Hash, V, E> Drop for Question<K, V, E> {
    /// Whoever looks next asks anew; nothing is left of a question that was settled.
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        if table.is_open(&self.key, &self.answer) {
            table.slots.remove(&self.key);
        }
    }
}

/// Why a wait brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It took too long; whether it was being worked on.
    Late {
        /// It was.
        begun: bool,
    },
    /// Whoever asked has failed to.
    Abandoned,
}

impl<V, E: Clone> Waiting<V, E> {
    /// The answer, if it comes before the deadline.
    pub(super) async fn answer(mut self, deadline: Instant) -> Result<Answer<V, E>, NoAnswer> {
        let begun = Arc::clone(&self.begun);
        match tokio::time::timeout_at(deadline, self.answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().ok_or(NoAnswer::Abandoned),
            Ok(Err(_)) => Err(NoAnswer::Abandoned),
            Err(_) => Err(NoAnswer::Late {
                begun: begun.load(Ordering::Acquire),
            }),
        }
    }
}

impl<K: Clone + Eq + Hash, V, E: Clone> Flights<K, V, E> {
    /// An empty table with so much room.
    pub(super) fn new(most: usize, refusals_kept: Duration) -> Self {
        let table = Table {
            slots: HashMap::new(),
            refused: BTreeMap::new(),
            known: BTreeMap::new(),
            turn: 0,
        };
        Self {
            table: Arc::new(Mutex::new(table)),
            most,
            refusals_kept,
        }
    }

    /// What is known of a key, for somebody who wants it until `wanted`. A known value that is not `good` is asked for anew.
    pub(super) fn look(&self, key: &K, good: impl Fn(&V) -> bool, wanted: UnixTime, now: Instant) -> Look<K, V, E> {
        let mut table = lock(&self.table);
        let turn = table.next_turn();
        let Table { slots, known, .. } = &mut *table;
        let is_there = match slots.get_mut(key) {
            Some(Slot::Asking(waiting)) => return Look::Join(waiting.clone()),
            Some(Slot::Known {
                value,
                wanted: until,
                turn: place,
            }) if good(value) => {
                *until = wanted.max(*until);
                if let Some(key) = known.remove(place) {
                    known.insert(turn, key);
                }
                *place = turn;
                return Look::Known(Arc::clone(value));
            }
            Some(Slot::Refused { why, until, .. }) if now < *until => return Look::Refused(why.clone()),
            Some(Slot::Known { .. } | Slot::Refused { .. }) => true,
            None => false,
        };
        let evicted = if !is_there && table.slots.len() >= self.most {
            let Some(evicted) = table.make_room() else {
                return Look::Full;
            };
            Some(evicted)
        } else {
            None
        };
        let (sender, receiver) = watch::channel(None);
        let waiting = Waiting {
            answer: receiver,
            begun: Arc::default(),
        };
        let question = Question {
            key: Arc::new(key.clone()),
            answer: sender,
            begun: Arc::clone(&waiting.begun),
            table: Arc::clone(&self.table),
        };
        let replaced = table.put(&question.key, Slot::Asking(waiting.clone()));
        drop(table);
        // While nobody waits for it.
        drop((evicted, replaced));
        Look::Ask(question, waiting)
    }

    /// Notes what came of a question and tells all who wait; nothing is noted where there is no answer. A value is wanted until
    /// `wanted`, or as long as those who come to wait want it.
    pub(super) fn settle(&self, question: Question<K, V, E>, outcome: Settled<V, E>, wanted: UnixTime, now: Instant) {
        let told = {
            let mut table = lock(&self.table);
            let turn = table.next_turn();
            let (slot, told) = match outcome {
                Settled::Known(value) => {
                    let value = Arc::new(value);
                    let known = Slot::Known {
                        value: Arc::clone(&value),
                        wanted,
                        turn,
                    };
                    (Some(known), Some(Ok(value)))
                }
                Settled::Refused(why) => {
                    let until = now.checked_add(self.refusals_kept).unwrap_or(now);
                    let refused = Slot::Refused {
                        why: why.clone(),
                        until,
                        turn,
                    };
                    (Some(refused), Some(Err(why)))
                }
                Settled::Failed(why) => (None, Some(Err(why))),
                Settled::Abandoned => (None, None),
            };
            // It may have been forgotten meanwhile. Where there is nothing to note, the question goes with its slot.
            if table.is_open(&question.key, &question.answer) {
                drop(slot.and_then(|slot| table.put(&question.key, slot)));
            }
            told
        };
        question.answer.send_replace(told);
        drop(question);
    }

    /// Forgets a value that turned out to be bad, unless it was replaced meanwhile.
    pub(super) fn forget(&self, key: &K, value: &Arc<V>) {
        let mut table = lock(&self.table);
        if matches!(table.slots.get(key), Some(Slot::Known { value: known, .. }) if Arc::ptr_eq(known, value))
            && let Some(slot) = table.slots.remove(key)
        {
            table.strike(&slot);
        }
    }

    /// Forgets what nobody wants any more, what is no longer `good`, and refusals that are over; how many keys are left.
    pub(super) fn sweep(&self, good: impl Fn(&V) -> bool, now: UnixTime, moment: Instant) -> usize {
        let mut table = lock(&self.table);
        let is_over = |_: &Arc<K>, slot: &mut Slot<V, E>| match slot {
            Slot::Asking(_) => false,
            Slot::Known { value, wanted, .. } => *wanted <= now || !good(value),
            Slot::Refused { until, .. } => *until <= moment,
        };
        let gone: Vec<_> = table.slots.extract_if(is_over).collect();
        for (_, slot) in &gone {
            table.strike(slot);
        }
        let left = table.slots.len();
        drop(table);
        drop(gone);
        left
    }
}

impl<K: Eq + Hash, V, E> Table<K, V, E> {
    fn next_turn(&mut self) -> u64 {
        self.turn = self.turn.wrapping_add(1);
        self.turn
    }

    /// Whether this question is the one that the table waits for.
    fn is_open(&self, key: &K, answer: &watch::Sender<Option<Answer<V, E>>>) -> bool {
        matches!(self.slots.get(key), Some(Slot::Asking(waiting)) if waiting.answer.same_channel(&answer.subscribe()))
    }

    /// Puts a slot in the place of another, if there is one, which is given back.
    fn put(&mut self, key: &Arc<K>, slot: Slot<V, E>) -> Option<Slot<V, E>> {
        match slot {
            Slot::Asking(_) => {}
            Slot::Known { turn, .. } => drop(self.known.insert(turn, Arc::clone(key))),
            Slot::Refused { turn, .. } => drop(self.refused.insert(turn, Arc::clone(key))),
        }
        let before = self.slots.insert(Arc::clone(key), slot);
        if let Some(slot) = &before {
            self.strike(slot);
        }
        before
    }

    /// A slot that is not there any more makes no room.
    fn strike(&mut self, slot: &Slot<V, E>) {
        match slot {
            Slot::Asking(_) => {}
            Slot::Known { turn, .. } => drop(self.known.remove(turn)),
            Slot::Refused { turn, .. } => drop(self.refused.remove(turn)),
        }
    }

    /// Takes out what is worth least, which is given back; `None` where all is being asked about.
    fn make_room(&mut self) -> Option<Slot<V, E>> {
        let (_, key) = self.refused.pop_first().or_else(|| self.known.pop_first())?;
        self.slots.remove(&key)
    }
}

fn lock<K, V, E>(table: &Mutex<Table<K, V, E>>) -> MutexGuard<'_, Table<K, V, E>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a question ended.
#[derive(Debug)]
pub(super) enum Settled<V, E> {
    /// This is the answer.
    Known(V),
    /// It was refused, and will be for a moment.
    Refused(E),
    /// It failed, and may not the next time.
    Failed(E),
    /// Nobody waited for it, and it was not asked.
    Abandoned,
}

#[cfg(test)]
mod tests {
    use super::*;

    type Few = Flights<&'static str, u32, &'static str>;

    const KEPT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn table(most: usize) -> Few {
        Flights::new(most, KEPT)
    }

    fn ask(table: &Few, key: &'static str, now: Instant) -> Question<&'static str, u32, &'static str> {
        let Look::Ask(question, _) = table.look(&key, |_| true, at(100), now) else {
            panic!()
        };
        question
    }

    #[tokio::test]
    async fn many_who_want_one_thing_ask_once() {
        let (table, now) = (table(8), Instant::now());
        let Look::Ask(question, first) = table.look(&"a", |_| true, at(100), now) else {
            panic!()
        };
        let mut waiting = vec![first];
        for _ in 0..20 {
            let Look::Join(joined) = table.look(&"a", |_| true, at(100), now) else {
                panic!()
            };
            waiting.push(joined);
        }
        assert!(question.is_wanted());
        table.settle(question, Settled::Known(7), at(100), now);
        for one in waiting {
            let deadline = now.checked_add(KEPT).unwrap();
            assert_eq!(one.answer(deadline).await.unwrap().map(|value| *value), Ok(7));
        }
        assert!(matches!(table.look(&"a", |_| true, at(100), now), Look::Known(value) if *value == 7));
        assert!(matches!(table.look(&"b", |_| true, at(100), now), Look::Ask(..)));
    }

    #[tokio::test]
    async fn a_refusal_is_told_for_a_while_and_a_failure_is_not() {
        let (table, now) = (table(8), Instant::now());
        table.settle(ask(&table, "a", now), Settled::Refused("no"), at(100), now);
        let later = |seconds| now.checked_add(Duration::from_secs(seconds)).unwrap();
        assert!(matches!(
            table.look(&"a", |_| true, at(100), later(4)),
            Look::Refused("no")
        ));
        assert!(matches!(table.look(&"a", |_| true, at(100), later(5)), Look::Ask(..)));
        let Look::Ask(question, waiting) = table.look(&"b", |_| true, at(100), now) else {
            panic!()
        };
        table.settle(question, Settled::Failed("full"), at(100), now);
        assert_eq!(waiting.answer(later(1)).await, Ok(Err("full")));
        assert!(matches!(table.look(&"b", |_| true, at(100), now), Look::Ask(..)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_learns_whether_it_was_being_worked_on() {
        let (table, now) = (table(8), Instant::now());
        let Look::Ask(question, waiting) = table.look(&"a", |_| true, at(100), now) else {
            panic!()
        };
        let deadline = now.checked_add(KEPT).unwrap();
        assert_eq!(
            waiting.clone().answer(deadline).await,
            Err(NoAnswer::Late { begun: false })
        );
        question.begin();
        assert_eq!(
            waiting.clone().answer(deadline).await,
            Err(NoAnswer::Late { begun: true })
        );
        drop(waiting);
        assert!(!question.is_wanted());
        let Look::Join(waiting) = table.look(&"a", |_| true, at(100), now) else {
            panic!()
        };
        drop(question);
        assert_eq!(waiting.answer(deadline).await, Err(NoAnswer::Abandoned));
        assert!(matches!(table.look(&"a", |_| true, at(100), now), Look::Ask(..)));
    }

    #[test]
    fn a_value_goes_when_it_is_no_longer_good_or_nobody_wants_it() {
        let (table, now) = (table(8), Instant::now());
        for key in ["a", "b", "c"] {
            table.settle(ask(&table, key, now), Settled::Known(1), at(100), now);
        }
        // Wanted for longer by somebody else.
        assert!(matches!(table.look(&"b", |_| true, at(200), now), Look::Known(_)));
        assert!(matches!(table.look(&"c", |_| false, at(200), now), Look::Ask(..)));
        assert_eq!(table.sweep(|_| true, at(99), now), 2);
        assert_eq!(table.sweep(|_| true, at(100), now), 1);
        assert!(matches!(table.look(&"b", |_| true, at(200), now), Look::Known(_)));
        assert_eq!(table.sweep(|_| false, at(100), now), 0);
    }

    #[test]
    fn a_full_table_drops_what_was_used_longest_ago_and_never_a_question() {
        let (table, now) = (table(2), Instant::now());
        let later = |seconds| now.checked_add(Duration::from_secs(seconds)).unwrap();
        table.settle(ask(&table, "a", now), Settled::Known(1), at(100), now);
        table.settle(ask(&table, "b", later(1)), Settled::Known(2), at(100), later(1));
        assert!(matches!(table.look(&"a", |_| true, at(100), later(2)), Look::Known(_)));
        let c = ask(&table, "c", later(3));
        assert!(matches!(table.look(&"a", |_| true, at(100), later(3)), Look::Known(_)));
        let d = ask(&table, "d", later(4));
        assert!(matches!(table.look(&"e", |_| true, at(100), later(5)), Look::Full));
        table.settle(c, Settled::Refused("no"), at(100), later(5));
        table.settle(d, Settled::Known(4), at(100), later(5));
        let e = ask(&table, "e", later(6));
        assert!(matches!(table.look(&"d", |_| true, at(100), later(6)), Look::Known(_)));
        // A question that nobody asks makes room as well.
        drop(e);
        drop(ask(&table, "f", later(7)));
        assert!(matches!(table.look(&"d", |_| true, at(100), later(7)), Look::Known(_)));
        assert_eq!(table.sweep(|_| true, at(50), later(7)), 1);
    }

    /// Everybody waits for whoever makes room. A look at all keys each time would take minutes here.
    #[test]
    fn a_table_that_is_full_makes_room_without_a_look_at_all_of_it() {
        const MOST: u32 = 100_000;
        let (table, now) = (Flights::<u32, (), &str>::new(MOST as usize, KEPT), Instant::now());
        let settle = |key: u32, refused: bool| {
            let Look::Ask(question, _) = table.look(&key, |()| true, at(100), now) else {
                panic!()
            };
            let outcome = if refused {
                Settled::Refused("no")
            } else {
                Settled::Known(())
            };
            table.settle(question, outcome, at(100), now);
        };
        for key in 0..MOST {
            settle(key, false);
        }
        let began = Instant::now();
        for key in MOST..2 * MOST {
            settle(key, key % 2 == 0);
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        // A refusal made room for the next key each time.
        assert_eq!(table.sweep(|()| true, at(50), now), MOST as usize);
        assert!(matches!(
            table.look(&(2 * MOST - 1), |()| true, at(100), now),
            Look::Known(_)
        ));
        assert!(matches!(
            table.look(&(2 * MOST - 2), |()| true, at(100), now),
            Look::Ask(..)
        ));
    }

    #[test]
    fn what_makes_room_is_what_is_there() {
        let (table, now) = (table(3), Instant::now());
        let later = |seconds| now.checked_add(Duration::from_secs(seconds)).unwrap();
        table.settle(ask(&table, "a", now), Settled::Refused("no"), at(100), now);
        // Asked for anew, known, forgotten and swept: each leaves nothing of what it was before.
        table.settle(ask(&table, "a", later(6)), Settled::Known(1), at(100), now);
        table.settle(ask(&table, "b", now), Settled::Known(2), at(100), now);
        let Look::Known(b) = table.look(&"b", |_| true, at(100), now) else {
            panic!()
        };
        table.forget(&"b", &b);
        table.settle(ask(&table, "c", now), Settled::Known(3), at(10), now);
        assert_eq!(table.sweep(|_| true, at(50), now), 1);
        table.settle(ask(&table, "d", now), Settled::Known(4), at(100), now);
        table.settle(ask(&table, "e", now), Settled::Known(5), at(100), now);
        table.settle(ask(&table, "f", now), Settled::Known(6), at(100), now);
        for (key, is_known) in [("d", true), ("e", true), ("f", true), ("a", false)] {
            assert_eq!(
                matches!(table.look(&key, |_| true, at(100), now), Look::Known(_)),
                is_known,
                "{key}"
            );
        }
    }

    #[test]
    fn a_bad_value_is_forgotten_but_not_the_one_that_took_its_place() {
        let (table, now) = (table(8), Instant::now());
        table.settle(ask(&table, "a", now), Settled::Known(1), at(100), now);
        let Look::Known(first) = table.look(&"a", |_| true, at(100), now) else {
            panic!()
        };
        table.forget(&"a", &first);
        table.settle(ask(&table, "a", now), Settled::Known(2), at(100), now);
        table.forget(&"a", &first);
        assert!(matches!(table.look(&"a", |_| true, at(100), now), Look::Known(value) if *value == 2));
    }
}
