//! Decides when something has happened so often that it must wait, in a table that no flood of names makes grow.
//!
//! Each key has a moment at which all that it did will be forgiven (the generic cell rate algorithm: a bucket of so many that
//! fills again within a minute). What it does moves that moment on.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// In which something may happen so often.
const WINDOW: Duration = Duration::from_secs(60);
/// Keys that are remembered: SETS times WAYS.
const SETS: usize = 2048;
const WAYS: usize = 8;

/// Counts by key.
#[derive(Debug)]
pub struct RateLimit<K> {
    /// What one time costs; absent where nobody is limited.
    cost: Option<Duration>,
    /// Keyed, so that nobody can choose names that push one other out.
    keys: RandomState,
    sets: Mutex<Vec<Set<K>>>,
}

type Set<K> = [Option<Debt<K>>; WAYS];

#[derive(Clone, Copy, Debug)]
struct Debt<K> {
    key: K,
    forgiven: Instant,
}

impl<K: Copy + Eq + Hash> RateLimit<K> {
    /// Lets each key so often in a minute, 0 for no limit.
    pub fn new(per_minute: u32) -> Self {
        let cost = NonZeroU32::new(per_minute).and_then(|count| WINDOW.checked_div(count.get()));
        Self {
            cost,
            keys: RandomState::new(),
            sets: Mutex::new(vec![[None; WAYS]; if cost.is_some() { SETS } else { 0 }]),
        }
    }

    /// Whether a key has to wait.
    pub fn is_exceeded(&self, key: K, now: Instant) -> bool {
        let Some(cost) = self.cost else { return false };
        let debt = self.debts(key, |set| set.iter().flatten().find(|debt| debt.key == key).copied());
        // Less than the cost of one time is left.
        debt.is_some_and(|debt| debt.forgiven.saturating_duration_since(now).saturating_add(cost) > WINDOW)
    }

    /// Counts one time more.
    pub fn spend(&self, key: K, now: Instant) {
        let Some(cost) = self.cost else { return };
        self.debts(key, |set| {
            let known = set.iter().position(|slot| slot.is_some_and(|debt| debt.key == key));
            // A new key takes the place of the one that is forgiven first: whoever must wait keeps its place against all that
            // owe less.
            let at =
                known.or_else(|| (0..WAYS).min_by_key(|&at| set.get(at).copied().flatten().map(|debt| debt.forgiven)));
            if let Some(slot) = at.and_then(|at| set.get_mut(at)) {
                let owed = known.and(*slot).map_or(now, |debt| debt.forgiven.max(now));
                // No more is owed than a whole window, or those that were let in together would owe for long.
                let forgiven = owed.checked_add(cost).zip(now.checked_add(WINDOW));
                *slot = forgiven.map(|(forgiven, most)| Debt {
                    key,
                    forgiven: forgiven.min(most),
                });
            }
        });
    }

    fn debts<T: Default>(&self, key: K, look: impl FnOnce(&mut Set<K>) -> T) -> T {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = self.keys.hash_one(key);
        let at = usize::try_from(hash).unwrap_or(usize::MAX).checked_rem(sets.len());
        at.and_then(|at| sets.get_mut(at)).map(look).unwrap_or_default()
    }

    /// How many sets of keys there is room for.
    #[cfg(test)]
    pub(crate) fn sets(&self) -> usize {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_count_and_a_part_of_the_minute_gives_a_part_of_it_back() {
        let (limit, start) = (RateLimit::new(60), Instant::now());
        let after = |seconds| start.checked_add(Duration::from_secs(seconds)).unwrap();
        for _ in 0..60 {
            assert!(!limit.is_exceeded("a", start));
            limit.spend("a", start);
        }
        assert!(limit.is_exceeded("a", start));
        assert!(!limit.is_exceeded("b", start));
        assert!(!limit.is_exceeded("a", after(1)));
        limit.spend("a", after(1));
        assert!(limit.is_exceeded("a", after(1)));
    }

    #[test]
    fn zero_limits_nobody() {
        let (limit, now) = (RateLimit::new(0), Instant::now());
        for _ in 0..1000 {
            limit.spend("a", now);
        }
        assert!(!limit.is_exceeded("a", now));
        assert_eq!(limit.sets(), 0);
    }
}
