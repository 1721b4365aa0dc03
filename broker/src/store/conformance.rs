//! Holds every store to the same promises, so that brokers cannot tell one from another: plain functions over [`Store`].

pub(crate) mod revocations;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;

fn tag(number: u32) -> ReplayTag {
    ReplayTag::of(&number.to_be_bytes())
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

/// A tag is used up once, and one tag says nothing about another.
pub(crate) async fn a_tag_is_first_once(store: &dyn Store) {
    for number in 0..50 {
        assert_eq!(store.consume_once(tag(number), at(1000)).await, Ok(Consumed::First));
        for until in [0, 1000, 2000] {
            assert_eq!(store.consume_once(tag(number), at(until)).await, Ok(Consumed::Again));
        }
    }
}

/// Of many calls at the same time one is first.
pub(crate) async fn of_many_at_once_one_is_first(store: Arc<dyn Store>) {
    for number in 0..20 {
        let calls = (0..200).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.consume_once(tag(number), at(1000)).await })
        });
        let mut outcomes = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            outcomes.push(call.await.unwrap().unwrap());
        }
        assert_eq!(outcomes.len(), 200);
        assert_eq!(
            outcomes.iter().filter(|outcome| **outcome == Consumed::First).count(),
            1
        );
    }
}

/// Different tags at the same time are all first.
pub(crate) async fn many_tags_at_once_are_all_first(store: Arc<dyn Store>) {
    let calls = (0..200).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.consume_once(tag(number), at(1000)).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), Ok(Consumed::First));
    }
}

/// What has ended is forgotten, to the second, and nothing else; whoever is forgotten can be first again.
pub(crate) async fn sweeping_forgets_what_has_ended_and_nothing_else(store: &dyn Store) {
    for number in 0..100 {
        let until = at(1000 + u64::from(number));
        assert_eq!(store.consume_once(tag(number), until).await, Ok(Consumed::First));
    }
    let swept = async |now: u64| store.sweep(at(now)).await.map(|swept| swept.tags);
    assert_eq!(swept(999).await, Ok(0));
    assert_eq!(swept(1049).await, Ok(50));
    assert_eq!(swept(1049).await, Ok(0));
    let mut first = BTreeSet::new();
    for number in 0..100 {
        if store.consume_once(tag(number), at(5000)).await == Ok(Consumed::First) {
            first.insert(number);
        }
    }
    assert_eq!(first, (0..50).collect());
    assert_eq!(swept(1099).await, Ok(50));
    assert_eq!(swept(5000).await, Ok(50));
}

/// What was answered is there after the store was closed and opened again.
pub(crate) async fn what_was_used_up_stays_so_after_a_restart(open: impl Fn() -> Arc<dyn Store>) {
    for (known, fresh) in [(0..0, 0..30), (0..30, 30..60), (0..60, 60..90)] {
        let store = open();
        for number in known {
            assert_eq!(store.consume_once(tag(number), at(1000)).await, Ok(Consumed::Again));
        }
        for number in fresh {
            assert_eq!(store.consume_once(tag(number), at(1000)).await, Ok(Consumed::First));
        }
    }
    let store = open();
    assert_eq!(store.sweep(at(1000)).await.unwrap().tags, 90);
}
