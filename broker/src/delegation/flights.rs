//! Keeps answers that are dear, so that many who wait for one ask once, and a refusal is not asked for again at once.
//!
//! A table of keys. Each is being asked about, known, or was refused a moment ago. It is bounded: a known answer makes room, the
//! one that was used longest ago first; what is being asked about does not. Time is an argument.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
    slots: Mutex<HashMap<K, Slot<V, E>>>,
    most: usize,
    /// How long a refusal is remembered.
    refusals_kept: Duration,
}

#[derive(Debug)]
enum Slot<V, E> {
    Asking(Waiting<V, E>),
    Known {
        value: Arc<V>,
        wanted: UnixTime,
        used: Instant,
    },
    Refused {
        why: E,
        until: Instant,
    },
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
pub(super) enum Look<K, V, E> {
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
pub(super) struct Question<K, V, E> {
    key: K,
    answer: watch::Sender<Option<Answer<V, E>>>,
    begun: Arc<AtomicBool>,
}

impl<K, V, E> Question<K, V, E> {
    /// The answer is being worked on.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Whether somebody waits for the answer, beside the table.
    pub(super) fn is_wanted(&self) -> bool {
        self.answer.receiver_count() > 1
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

impl<V, E> Waiting<V, E> {
    /// Whether whoever had the duty to ask has gone without an answer.
    fn is_abandoned(&self) -> bool {
        self.answer.has_changed().is_err()
    }
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
        Self {
            slots: Mutex::default(),
            most,
            refusals_kept,
        }
    }

    /// What is known of a key, for somebody who wants it until `wanted`. A known value that is not `good` is asked for anew.
    pub(super) fn look(&self, key: &K, good: impl Fn(&V) -> bool, wanted: UnixTime, now: Instant) -> Look<K, V, E> {
        let mut slots = self.slots();
        let is_there = match slots.get_mut(key) {
            Some(Slot::Asking(waiting)) if !waiting.is_abandoned() => return Look::Join(waiting.clone()),
            Some(Slot::Known {
                value,
                wanted: until,
                used,
            }) if good(value) => {
                *until = wanted.max(*until);
                *used = now;
                return Look::Known(Arc::clone(value));
            }
            Some(Slot::Refused { why, until }) if now < *until => return Look::Refused(why.clone()),
            Some(Slot::Asking(_) | Slot::Known { .. } | Slot::Refused { .. }) => true,
            None => false,
        };
        if !is_there && slots.len() >= self.most {
            match least_worth(&slots) {
                Some(least) => drop(slots.remove(&least)),
                None => return Look::Full,
            }
        }
        let (sender, receiver) = watch::channel(None);
        let waiting = Waiting {
            answer: receiver,
            begun: Arc::default(),
        };
        let question = Question {
            key: key.clone(),
            answer: sender,
            begun: Arc::clone(&waiting.begun),
        };
        slots.insert(key.clone(), Slot::Asking(waiting.clone()));
        Look::Ask(question, waiting)
    }

    /// Notes what came of a question and tells all who wait; nothing is noted where there is no answer. A value is wanted until
    /// `wanted`, or as long as those who come to wait want it.
    pub(super) fn settle(&self, question: Question<K, V, E>, outcome: Settled<V, E>, wanted: UnixTime, now: Instant) {
        let Question { key, answer, begun: _ } = question;
        let (slot, told) = match outcome {
            Settled::Known(value) => {
                let value = Arc::new(value);
                let known = Slot::Known {
                    value: Arc::clone(&value),
                    wanted,
                    used: now,
                };
                (Some(known), Some(Ok(value)))
            }
            Settled::Refused(why) => {
                let until = now.checked_add(self.refusals_kept).unwrap_or(now);
                let refused = Slot::Refused {
                    why: why.clone(),
                    until,
                };
                (Some(refused), Some(Err(why)))
            }
            Settled::Failed(why) => (None, Some(Err(why))),
            Settled::Abandoned => (None, None),
        };
        {
            let mut slots = self.slots();
            // It may have been forgotten meanwhile.
            if let Entry::Occupied(mut entry) = slots.entry(key)
                && matches!(entry.get(), Slot::Asking(waiting) if waiting.answer.same_channel(&answer.subscribe()))
            {
                match slot {
                    Some(slot) => drop(entry.insert(slot)),
                    None => drop(entry.remove()),
                }
            }
        }
        answer.send_replace(told);
    }

    /// Forgets a value that turned out to be bad, unless it was replaced meanwhile.
    pub(super) fn forget(&self, key: &K, value: &Arc<V>) {
        let mut slots = self.slots();
        if matches!(slots.get(key), Some(Slot::Known { value: known, .. }) if Arc::ptr_eq(known, value)) {
            slots.remove(key);
        }
    }

    /// Forgets what nobody wants any more, what is no longer `good`, and refusals that are over; how many keys are left.
    pub(super) fn sweep(&self, good: impl Fn(&V) -> bool, now: UnixTime, moment: Instant) -> usize {
        let mut slots = self.slots();
        slots.retain(|_, slot| match slot {
            Slot::Asking(waiting) => !waiting.is_abandoned(),
            Slot::Known { value, wanted, .. } => now < *wanted && good(value),
            Slot::Refused { until, .. } => moment < *until,
        });
        slots.len()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<K, Slot<V, E>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key that makes room for another: one that was refused or abandoned, else the one that was used longest ago.
fn least_worth<K: Clone, V, E>(slots: &HashMap<K, Slot<V, E>>) -> Option<K> {
    let refused = slots.iter().find(|(_, slot)| match slot {
        Slot::Refused { .. } => true,
        Slot::Asking(waiting) => waiting.is_abandoned(),
        Slot::Known { .. } => false,
    });
    let used = |slot: &Slot<V, E>| match slot {
        Slot::Known { used, .. } => Some(*used),
        Slot::Asking(_) | Slot::Refused { .. } => None,
    };
    let known = slots.iter().filter_map(|(key, slot)| Some((used(slot)?, key)));
    refused
        .map(|(key, _)| key)
        .or_else(|| known.min_by_key(|(used, _)| *used).map(|(_, key)| key))
        .cloned()
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

    type Table = Flights<&'static str, u32, &'static str>;

    const KEPT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn table(most: usize) -> Table {
        Flights::new(most, KEPT)
    }

    fn ask(table: &Table, key: &'static str, now: Instant) -> Question<&'static str, u32, &'static str> {
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
