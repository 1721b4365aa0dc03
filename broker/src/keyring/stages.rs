//! Decides which signing key signs, which are published, and for how long: a table of stages that only these steps change.
//!
//! A key is published before it signs, so that whoever verifies has it by then; it stays published after another has taken
//! its place, until the last token that it signed has ended. Keys are anything here: no cryptography, no clock, no file.

use super::RotateError;
use crate::time::UnixTime;

/// Most keys that are published at once: who verifies reads 64 at most.
pub const MOST_KEYS: usize = 60;

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is published and signs nothing yet.
    Next,
    /// It signs.
    Signing {
        /// Since then.
        since: UnixTime,
    },
    /// Another signs; it is published for the tokens that it signed.
    Old {
        /// It signed until then.
        stopped: UnixTime,
        /// The last second in which a token of its could be valid.
        kept_until: UnixTime,
    },
}

impl Stage {
    /// The names of all, in the order in which a key goes through them.
    pub const NAMES: [&'static str; 3] = ["next", "signing", "old"];

    /// The word for it: on the command line, on the admin socket, in metrics.
    pub const fn name(&self) -> &'static str {
        let [next, signing, old] = Self::NAMES;
        match self {
            Self::Next => next,
            Self::Signing { .. } => signing,
            Self::Old { .. } => old,
        }
    }
}

/// A key, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<K> {
    /// The key.
    pub(super) key: K,
    /// When it was published first.
    pub(super) published: UnixTime,
    /// Where it stands.
    pub(super) stage: Stage,
}

/// The keys of one issuer: one that signs, one that will at most, and those that did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ring<K> {
    next: Option<(K, UnixTime)>,
    current: Current<K>,
    /// The oldest stands first.
    old: Vec<Old<K>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Current<K> {
    key: K,
    published: UnixTime,
    since: UnixTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Old<K> {
    key: K,
    published: UnixTime,
    stopped: UnixTime,
    kept_until: UnixTime,
}

/// The entries cannot be those of a ring: not exactly one signs, or more than one will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotARing;

/// What was taken out of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// A key that did not sign, or not any more.
    Idle,
    /// The key that signed; the one that was to be next does now.
    Signing,
}

impl<K: Clone> Ring<K> {
    /// A ring whose first key signs at once: nobody has a token yet, and whoever verifies asks for keys first.
    pub(super) const fn new(key: K, now: UnixTime) -> Self {
        Self {
            next: None,
            current: Current {
                key,
                published: now,
                since: now,
            },
            old: Vec::new(),
        }
    }

    /// The ring of entries in any order.
    pub(super) fn from_entries(entries: Vec<Entry<K>>) -> Result<Self, NotARing> {
        let (mut next, mut current, mut old) = (None, None, Vec::new());
        for Entry { key, published, stage } in entries {
            let is_second = match stage {
                Stage::Next => next.replace((key, published)).is_some(),
                Stage::Signing { since } => current.replace(Current { key, published, since }).is_some(),
                Stage::Old { stopped, kept_until } => {
                    old.push(Old {
                        key,
                        published,
                        stopped,
                        kept_until,
                    });
                    false
                }
            };
            if is_second {
                return Err(NotARing);
            }
        }
        // Those of one second stand in the file as they are told: the newest first.
        old.reverse();
        old.sort_by_key(|old| old.stopped);
        Ok(Self {
            next,
            current: current.ok_or(NotARing)?,
            old,
        })
    }

    /// All keys that are published: the one that signs, the next, then those that did, the newest first.
    pub(super) fn entries(&self) -> Vec<Entry<K>> {
        let current = std::iter::once(Entry {
            key: self.current.key.clone(),
            published: self.current.published,
            stage: Stage::Signing {
                since: self.current.since,
            },
        });
        let next = self.next.iter().map(|(key, published)| Entry {
            key: key.clone(),
            published: *published,
            stage: Stage::Next,
        });
        let old = self.old.iter().rev().map(|old| Entry {
            key: old.key.clone(),
            published: old.published,
            stage: Stage::Old {
                stopped: old.stopped,
                kept_until: old.kept_until,
            },
        });
        current.chain(next).chain(old).collect()
    }

    /// Whether there is such a key among them.
    pub(super) fn has(&self, is_it: impl Fn(&K) -> bool) -> bool {
        let next = self.next.iter().map(|(key, _)| key);
        let old = self.old.iter().map(|old| &old.key);
        std::iter::once(&self.current.key).chain(next).chain(old).any(is_it)
    }

    /// The key that signs.
    pub(super) const fn signing(&self) -> &K {
        &self.current.key
    }

    /// Since when it does.
    pub(super) const fn signing_since(&self) -> UnixTime {
        self.current.since
    }

    /// Since when the next is published, where there is one.
    pub(super) fn next_published(&self) -> Option<UnixTime> {
        self.next.as_ref().map(|(_, published)| *published)
    }

    /// How many are published.
    pub(super) fn count(&self) -> usize {
        let next = usize::from(self.next.is_some());
        self.old.len().saturating_add(next).saturating_add(1)
    }

    /// Whether there is a key to be forgotten.
    pub(super) fn has_ended(&self, now: UnixTime) -> bool {
        self.old.iter().any(|old| old.kept_until < now)
    }

    /// Whether another key may be published.
    pub(super) fn may_publish(&self) -> Result<(), RotateError> {
        if self.next.is_some() {
            return Err(RotateError::AlreadyPublished);
        }
        if self.count() >= MOST_KEYS {
            return Err(RotateError::TooMany);
        }
        Ok(())
    }

    /// Publishes the next key.
    pub(super) fn publish(&mut self, key: K, now: UnixTime) -> Result<(), RotateError> {
        self.may_publish()?;
        self.next = Some((key, now));
        Ok(())
    }

    /// Lets the next key sign; the one that did is kept for its tokens. Nothing where there is no next one.
    pub(super) fn switch(&mut self, now: UnixTime, kept_until: UnixTime) -> bool {
        let Some((key, published)) = self.next.take() else {
            return false;
        };
        let next = Current {
            key,
            published,
            since: now,
        };
        let Current { key, published, .. } = std::mem::replace(&mut self.current, next);
        self.old.push(Old {
            key,
            published,
            stopped: now,
            kept_until,
        });
        true
    }

    /// Forgets the keys of which no token can be valid, and says which.
    pub(super) fn forget(&mut self, now: UnixTime) -> Vec<K> {
        let (kept, gone) = std::mem::take(&mut self.old)
            .into_iter()
            .partition(|old| old.kept_until >= now);
        self.old = kept;
        gone.into_iter().map(|old: Old<K>| old.key).collect()
    }

    /// Takes the key out that signs and lets another sign at once, where no other is published for that.
    pub(super) fn remove_then_publish(
        &mut self,
        is_it: impl Fn(&K) -> bool,
        other: K,
        now: UnixTime,
    ) -> Result<Removed, RotateError> {
        if self.next.is_none() && is_it(&self.current.key) {
            self.next = Some((other, now));
        }
        self.remove(is_it, now)
    }

    /// Takes a key out at once, whatever it signed. The one that signs is taken out where another can sign: the next one
    /// does then, however short it was published.
    pub(super) fn remove(&mut self, is_it: impl Fn(&K) -> bool, now: UnixTime) -> Result<Removed, RotateError> {
        if is_it(&self.current.key) {
            if !self.switch(now, now) {
                return Err(RotateError::NoOther);
            }
            self.old.pop();
            return Ok(Removed::Signing);
        }
        if self.next.as_ref().is_some_and(|(key, _)| is_it(key)) {
            self.next = None;
            return Ok(Removed::Idle);
        }
        let before = self.old.len();
        self.old.retain(|old| !is_it(&old.key));
        if self.old.len() == before {
            Err(RotateError::Unknown)
        } else {
            Ok(Removed::Idle)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAD: u64 = 10;
    const LIFE: u64 = 50;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    #[test]
    fn a_key_is_published_then_signs_and_stays_for_its_tokens() {
        let mut ring = Ring::new(1, at(0));
        assert!(!ring.switch(at(1), at(1)), "there is no other");
        ring.publish(2, at(100)).unwrap();
        assert_eq!(ring.publish(3, at(100)), Err(RotateError::AlreadyPublished));
        assert_eq!((*ring.signing(), ring.count()), (1, 2));
        assert!(ring.switch(at(110), at(160)));
        assert_eq!((*ring.signing(), ring.signing_since()), (2, at(110)));
        assert!(!ring.has_ended(at(160)));
        assert_eq!(ring.forget(at(160)), [] as [i32; 0]);
        assert!(ring.has_ended(at(161)));
        assert_eq!(ring.forget(at(161)), [1]);
        assert_eq!(ring.count(), 1);
    }

    #[test]
    fn a_ring_is_that_of_its_entries_and_nothing_else_is_one() {
        let mut ring = Ring::new(1, at(0));
        for key in 2..=4 {
            ring.publish(key, at(u64::from(key * 100_u32))).unwrap();
            ring.switch(at(u64::from(key * 100)), at(9999));
        }
        ring.publish(5, at(500)).unwrap();
        let mut entries = ring.entries();
        let order: Vec<u32> = entries.iter().map(|entry| entry.key).collect();
        assert_eq!(order, [4, 5, 3, 2, 1]);
        assert_eq!(Ring::from_entries(entries.clone()), Ok(ring.clone()));
        entries.reverse();
        assert_eq!(Ring::from_entries(entries.clone()), Ok(ring));
        let mut at_once = Ring::new(1, at(0));
        for key in 2..=4 {
            at_once.publish(key, at(7)).unwrap();
            at_once.switch(at(7), at(9999));
        }
        assert_eq!(Ring::from_entries(at_once.entries()), Ok(at_once));
        let none: Vec<_> = entries.iter().filter(|entry| entry.key != 4).cloned().collect();
        assert_eq!(Ring::from_entries(none), Err(NotARing));
        for twice in [4, 5] {
            let mut more = entries.clone();
            more.extend(entries.iter().filter(|entry| entry.key == twice).cloned());
            assert_eq!(Ring::from_entries(more), Err(NotARing), "{twice}");
        }
    }

    #[test]
    fn more_keys_than_anybody_reads_are_not_published() {
        let mut ring = Ring::new(0, at(0));
        for key in 1..MOST_KEYS {
            ring.publish(key, at(1)).unwrap();
            ring.switch(at(1), at(9999));
        }
        assert_eq!(ring.count(), MOST_KEYS);
        assert_eq!(ring.publish(MOST_KEYS, at(1)), Err(RotateError::TooMany));
    }

    #[test]
    fn a_key_that_is_taken_out_is_gone_at_once_and_another_signs() {
        let mut ring = Ring::new(1, at(0));
        assert_eq!(ring.remove(|key| *key == 1, at(1)), Err(RotateError::NoOther));
        assert_eq!(ring.remove(|key| *key == 7, at(1)), Err(RotateError::Unknown));
        ring.publish(2, at(5)).unwrap();
        assert_eq!(ring.remove(|key| *key == 1, at(6)), Ok(Removed::Signing));
        assert_eq!((*ring.signing(), ring.signing_since(), ring.count()), (2, at(6), 1));
        ring.publish(3, at(7)).unwrap();
        assert_eq!(ring.remove(|key| *key == 3, at(8)), Ok(Removed::Idle));
        ring.publish(4, at(9)).unwrap();
        ring.switch(at(20), at(70));
        assert_eq!(ring.remove(|key| *key == 2, at(21)), Ok(Removed::Idle));
        assert_eq!((*ring.signing(), ring.count()), (4, 1));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Wait(u64),
        Publish,
        Switch,
        Forget,
        Mint,
        Remove(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..30_u64).prop_map(Event::Wait),
            2 => Just(Event::Publish),
            2 => Just(Event::Switch),
            2 => Just(Event::Forget),
            4 => Just(Event::Mint),
            1 => (0..4_usize).prop_map(Event::Remove),
        ]
    }

    fn later(seconds: u64, by: u64) -> u64 {
        seconds.saturating_add(by)
    }

    proptest! {
        /// As the keeper uses it: a token is good until its end if its key was not taken out, and no key that was comes back.
        #[test]
        fn no_token_outlives_its_key_and_no_key_its_removal(events in prop::collection::vec(event(), 0..200)) {
            let (mut ring, mut now, mut newest) = (Ring::new(0_u64, at(0)), 0_u64, 0_u64);
            let (mut tokens, mut removed) = (Vec::new(), Vec::new());
            for event in events {
                match event {
                    Event::Wait(seconds) => now = later(now, seconds),
                    Event::Publish => {
                        if ring.publish(later(newest, 1), at(now)).is_ok() {
                            newest = later(newest, 1);
                        }
                    }
                    Event::Switch => {
                        if ring.next_published().is_some_and(|published| later(published.seconds(), LEAD) <= now) {
                            prop_assert!(ring.switch(at(now), at(later(now, LIFE))));
                        }
                    }
                    Event::Forget => drop(ring.forget(at(now))),
                    Event::Mint => tokens.push((*ring.signing(), later(now, LIFE))),
                    Event::Remove(which) => {
                        if let Some(entry) = ring.entries().get(which)
                            && ring.remove(|key| *key == entry.key, at(now)).is_ok()
                        {
                            removed.push(entry.key);
                        }
                    }
                }
                let published: Vec<u64> = ring.entries().iter().map(|entry| entry.key).collect();
                for (key, ends) in &tokens {
                    prop_assert!(*ends < now || published.contains(key) || removed.contains(key));
                }
                for key in &removed {
                    prop_assert!(!published.contains(key));
                }
                prop_assert_eq!(Ring::from_entries(ring.entries()), Ok(ring.clone()));
            }
        }
    }
}
