//! The cache against a map that never forgets, and against floods.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

use super::*;
use proptest::prelude::*;

/// The same hashes on every run: a test must not depend on luck.
type Fixed = BuildHasherDefault<DefaultHasher>;

/// Every token shares a chain and a fingerprint.
#[derive(Default)]
struct Colliding;

impl Hasher for Colliding {
    fn finish(&self) -> u64 {
        7
    }

    fn write(&mut self, _bytes: &[u8]) {}
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds).unwrap()
}

fn token(number: usize) -> Vec<u8> {
    format!("eyJhbGciOiJFUzI1NiJ9.payload-{number:08}.signature").into()
}

fn cache(entries: usize, bytes: usize) -> TokenCache<usize, Fixed> {
    TokenCache::new(Bounds { entries, bytes }, Fixed::default())
}

/// A cache of so many entries with no bound on bytes that matters.
fn wide(entries: usize) -> TokenCache<usize, Fixed> {
    cache(entries, usize::MAX)
}

/// Shows a token as a request would: looked up, and verified and put in where it was not found.
fn show(cache: &mut TokenCache<usize, Fixed>, number: usize) -> bool {
    let found = cache.get(&token(number), at(100)) == Some(&number);
    if !found {
        cache.insert(&token(number), at(1000), 0, number, at(100));
    }
    found
}

fn is_held<S: BuildHasher>(cache: &TokenCache<usize, S>, number: usize) -> bool {
    cache
        .find(&token(number), cache.hasher.hash_one(token(number).as_slice()))
        .is_some()
}

impl<V, S: BuildHasher> TokenCache<V, S> {
    /// Links, counts and chains agree, and the bounds hold.
    fn check(&self) {
        let held = self.entries.iter().flatten().count();
        assert_eq!(held, self.len());
        assert_eq!(
            self.entries.iter().filter(|entry| entry.is_none()).count(),
            self.free.len()
        );
        assert!(self.len() <= self.bounds.entries && self.bytes() <= self.bounds.bytes);
        for (lane, queue) in [(Lane::Probation, &self.probation), (Lane::Main, &self.main)] {
            let (mut at, mut newer, mut sizes) = (queue.newest, NOWHERE, Vec::new());
            while let Some(entry) = self.entry(at) {
                assert_eq!((entry.lane, entry.newer), (lane, newer));
                sizes.push(entry.bytes);
                (newer, at) = (at, entry.older);
            }
            assert_eq!((at, newer), (NOWHERE, queue.oldest));
            assert_eq!((sizes.len(), sizes.iter().sum()), (queue.entries, queue.bytes));
        }
        for (at, entry) in self.entries.iter().enumerate() {
            if let Some(entry) = entry {
                assert_eq!(entry.hash, self.hasher.hash_one(&*entry.token));
                assert_eq!(self.find(&entry.token, entry.hash), Some(at));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Doing {
    Get(usize),
    Insert { token: usize, life: u64, bytes: usize },
    Remove(usize),
    Wait(u64),
    Clear,
}

fn doings() -> impl Strategy<Value = Vec<Doing>> {
    let doing = prop_oneof![
        8 => (0..60_usize).prop_map(Doing::Get),
        8 => (0..60_usize, 0..40_u64, 0..900_usize)
            .prop_map(|(token, life, bytes)| Doing::Insert { token, life, bytes }),
        2 => (0..60_usize).prop_map(Doing::Remove),
        2 => (0..20_u64).prop_map(Doing::Wait),
        1 => Just(Doing::Clear),
    ];
    proptest::collection::vec(doing, 0..300)
}

/// Does all of it to a cache and to a map that never forgets. What the cache answers, the map answers too; where
/// `nothing_goes`, the other way round as well.
fn compare<S: BuildHasher>(doings: &[Doing], mut cache: TokenCache<usize, S>, nothing_goes: bool) {
    let mut model: HashMap<usize, (usize, UnixTime)> = HashMap::new();
    let mut now = at(100);
    for (step, doing) in doings.iter().enumerate() {
        match *doing {
            Doing::Get(number) => {
                let known = model.get(&number).filter(|(_, expires)| now < *expires);
                let found = cache.get(&token(number), now).copied();
                if nothing_goes || found.is_some() {
                    assert_eq!(found, known.map(|(value, _)| *value));
                }
            }
            Doing::Insert {
                token: number,
                life,
                bytes,
            } => {
                cache.insert(&token(number), now.plus(life), bytes, step, now);
                model.insert(number, (step, now.plus(life)));
            }
            Doing::Remove(number) => {
                let known = model.remove(&number).map(|(value, _)| value);
                let removed = cache.remove(&token(number));
                assert!(removed.is_none() || removed == known);
                assert!(!is_held(&cache, number));
            }
            Doing::Wait(seconds) => now = now.plus(seconds),
            Doing::Clear => {
                cache.clear();
                model.clear();
                assert!(cache.is_empty() && cache.bytes() == 0);
            }
        }
        cache.check();
    }
}

proptest! {
    #[test]
    fn a_cache_that_nothing_fills_answers_as_a_map_does(doings in doings()) {
        compare(&doings, wide(1000), true);
    }

    #[test]
    fn a_full_cache_never_answers_what_the_map_does_not(doings in doings(), entries in 0..12_usize, bytes in 0..8000_usize) {
        compare(&doings, cache(entries, usize::MAX), false);
        compare(&doings, cache(1000, bytes), false);
        compare(&doings, cache(entries, bytes), false);
    }

    #[test]
    fn tokens_that_share_one_hash_are_told_apart(doings in doings(), entries in 1..12_usize) {
        let bounds = |entries| Bounds { entries, bytes: usize::MAX };
        let hasher = BuildHasherDefault::<Colliding>::default;
        compare(&doings, TokenCache::new(bounds(1000), hasher()), true);
        compare(&doings, TokenCache::new(bounds(entries), hasher()), false);
    }
}

#[test]
fn no_flood_of_tokens_that_come_once_displaces_those_that_were_hit() {
    for flooded_before in [0, 5000] {
        let mut cache = wide(1000);
        for number in 0..flooded_before {
            assert!(!show(&mut cache, 1_000_000 + number));
        }
        for number in 0..900 {
            assert!(!show(&mut cache, number));
            assert!(show(&mut cache, number));
        }
        for number in 0..50_000 {
            assert!(!show(&mut cache, 2_000_000 + number));
        }
        cache.check();
        assert!((0..900).all(|number| is_held(&cache, number)), "{flooded_before}");
    }
}

#[test]
fn no_flood_of_large_tokens_displaces_those_that_were_hit() {
    let large = 20_000;
    let mut cache = cache(100_000, 4 * 1024 * 1024);
    for number in 0..5000 {
        show(&mut cache, number);
        show(&mut cache, number);
    }
    let held = (0..5000).filter(|number| is_held(&cache, *number)).count();
    assert_eq!(held, 5000);
    for number in 0..10_000 {
        cache.insert(&token(1_000_000 + number), at(1000), large, number, at(100));
    }
    cache.check();
    assert!((0..5000).all(|number| is_held(&cache, number)));
}

#[test]
fn a_token_that_comes_again_soon_after_it_went_stays() {
    let mut cache = wide(1000);
    for number in 0..1000 {
        show(&mut cache, number);
    }
    // Token 0 is the first to go.
    show(&mut cache, 1000);
    assert!(!is_held(&cache, 0) && is_held(&cache, 1));
    show(&mut cache, 0);
    for number in 0..50_000 {
        show(&mut cache, 2_000_000 + number);
    }
    assert!(is_held(&cache, 0));
    assert!(!is_held(&cache, 1));
}

#[test]
fn where_all_were_hit_a_new_one_still_finds_room() {
    let mut cache = wide(1000);
    for number in 0..3000 {
        show(&mut cache, number);
        for _ in 0..5 {
            assert!(show(&mut cache, number));
        }
    }
    cache.check();
    assert_eq!(cache.len(), 1000);
}

#[test]
fn expired_tokens_give_way_before_live_ones_that_were_hit_as_often() {
    let mut cache = wide(100);
    for number in 0..50 {
        cache.insert(&token(number), at(200), 0, number, at(100));
        cache.insert(&token(1000 + number), at(1000), 0, number, at(100));
        for _ in 0..2 {
            cache.get(&token(number), at(100));
            cache.get(&token(1000 + number), at(100));
        }
    }
    for number in 0..40 {
        cache.insert(&token(2000 + number), at(1000), 0, number, at(200));
        cache.get(&token(2000 + number), at(200));
    }
    assert!((0..50).all(|number| is_held(&cache, 1000 + number)));
}

#[test]
fn a_token_is_forgotten_at_its_end() {
    let mut cache = wide(10);
    cache.insert(&token(1), at(200), 0, 1, at(100));
    assert_eq!(cache.get(&token(1), at(199)), Some(&1));
    assert_eq!(cache.get(&token(1), at(200)), None);
    assert_eq!(cache.len(), 0);
    assert_eq!(
        cache.get(&token(1), at(100)),
        None,
        "a clock that goes back brings nothing back"
    );
    cache.insert(&token(1), at(200), 0, 1, at(200));
    assert!(cache.is_empty());
    cache.insert(&token(1), at(300), 0, 1, at(200));
    cache.insert(&token(1), at(200), 0, 1, at(200));
    assert!(cache.is_empty(), "an expired renewal takes the old value with it");
}

#[test]
fn a_cache_of_none_holds_nothing() {
    let mut cache = wide(0);
    assert!(!show(&mut cache, 1) && !show(&mut cache, 1));
    assert!(cache.is_empty() && cache.entries.capacity() == 0);
}

#[test]
fn a_token_over_the_bound_is_not_kept_and_displaces_nothing() {
    let mut cache = cache(10, 2000);
    show(&mut cache, 1);
    cache.insert(&token(2), at(1000), 2000, 2, at(100));
    assert!(is_held(&cache, 1) && !is_held(&cache, 2));
}

#[test]
fn a_new_value_replaces_the_old_one_and_keeps_its_standing() {
    let mut cache = wide(1000);
    show(&mut cache, 1);
    show(&mut cache, 1);
    cache.insert(&token(1), at(1000), 100, 7, at(100));
    cache.check();
    for number in 0..10_000 {
        show(&mut cache, 2_000_000 + number);
    }
    assert_eq!(cache.get(&token(1), at(100)), Some(&7));
}

#[test]
fn what_it_shows_holds_no_token() {
    let mut cache = wide(10);
    show(&mut cache, 1);
    let shown = format!("{cache:?}");
    assert!(shown.contains("entries: 1") && !shown.contains("eyJ"), "{shown}");
}
