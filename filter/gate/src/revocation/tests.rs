#![expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a failure of the test"
)]

use std::collections::HashMap;

use kerbridge_wire::feed::EVER;
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds).unwrap()
}

/// A key as hashes are: by a multiplication that mixes all bits (SplitMix64), so that a million are made at once.
fn key(number: u64) -> RevocationKey {
    let mix = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let (high, low) = (mix(number << 1), mix(number << 1 | 1));
    RevocationKey([high.to_be_bytes(), low.to_be_bytes()].concat().try_into().unwrap())
}

fn of(key: RevocationKey) -> RevocationKeys {
    RevocationKeys {
        token: None,
        session: None,
        subject: key,
    }
}

fn entry(number: u64) -> Entry {
    Entry::new(key(number), NOW + 1000, None)
}

fn filled(count: u64) -> Revocations {
    let mut table = Revocations::with_room_for(count.try_into().unwrap());
    for number in 0..count {
        table.insert(&entry(number), at(NOW)).unwrap();
    }
    table
}

fn finds(table: &Revocations, number: u64) -> bool {
    table.revokes(&of(key(number)), at(NOW), at(NOW))
}

#[test]
fn a_token_is_named_by_itself_its_session_or_its_subject() {
    let keys = RevocationKeys::new("https://i", Some("t"), Some("s"), "alice");
    let others = RevocationKeys::new("https://i", Some("t2"), None, "bob");
    for named in [
        RevocationKey::token("https://i", "t"),
        RevocationKey::session("https://i", "s"),
        RevocationKey::subject("https://i", "alice"),
    ] {
        let mut table = Revocations::default();
        table.insert(&Entry::new(named, NOW + 10, Some(NOW)), at(NOW)).unwrap();
        assert!(table.revokes(&keys, at(NOW), at(NOW)));
        assert!(
            !table.revokes(&keys, at(NOW + 1), at(NOW)),
            "issued after the revocation"
        );
        assert!(table.revokes(&keys, UnixTime::default(), at(NOW)), "without `iat`");
        assert!(!table.revokes(&others, at(NOW), at(NOW)));
        for other in [
            RevocationKeys::new("https://j", Some("t"), Some("s"), "alice"),
            RevocationKeys::new("https://i", Some("s"), Some("alice"), "t"),
        ] {
            assert!(!table.revokes(&other, at(NOW), at(NOW)));
        }
    }
}

#[test]
fn an_entry_counts_as_long_as_any_configuration_takes_the_token() {
    let mut table = Revocations::default();
    table.insert(&Entry::new(key(1), NOW, None), at(NOW - 1000)).unwrap();
    assert!(table.revokes(&of(key(1)), at(0), at(NOW + LEEWAY)));
    assert!(!table.revokes(&of(key(1)), at(0), at(NOW + LEEWAY + 1)));
}

#[test]
fn times_beyond_2106_do_not_wrap() {
    let far = u64::from(u32::MAX) + 1000;
    let mut table = Revocations::default();
    table.insert(&Entry::new(key(1), far, None), at(NOW)).unwrap();
    table.insert(&Entry::new(key(2), far, Some(far)), at(far)).unwrap();
    table
        .insert(&Entry::new(key(3), u64::from(EVER) - 1, Some(NOW)), at(NOW))
        .unwrap();
    for now in [NOW, far, far * 10] {
        assert!(table.revokes(&of(key(1)), at(far * 2), at(now)));
        assert!(table.revokes(&of(key(2)), at(far * 2), at(now)));
    }
    assert!(
        table.revokes(&of(key(3)), at(NOW), at(u64::from(EVER))),
        "leeway beyond the width"
    );
    assert!(!table.revokes(&of(key(3)), at(far), at(NOW)));
    assert!(!table.revokes(&of(key(3)), at(NOW), at(far)));
}

#[test]
fn nothing_costs_nothing_and_finds_nothing() {
    let table = Revocations::default();
    assert_eq!((table.bytes(), table.len(), table.is_empty()), (0, 0, true));
    assert!(!finds(&table, 1));
    // A vacant place looks like this key.
    let zero = of(RevocationKey([0; 16]));
    let mut table = filled(10);
    assert!(!table.revokes(&zero, at(0), at(0)) && !table.revokes(&zero, at(0), at(NOW)));
    table
        .insert(&Entry::new(RevocationKey([0; 16]), NOW, None), at(NOW))
        .unwrap();
    assert!(table.revokes(&zero, at(0), at(NOW)));
}

#[test]
fn many_entries_are_all_found_in_30_bytes_each() {
    const COUNT: u64 = 200_000;
    let table = filled(COUNT);
    assert_eq!(table.len() as u64, COUNT);
    assert!((0..COUNT).all(|number| finds(&table, number)));
    assert!(!(COUNT..2 * COUNT).any(|number| finds(&table, number)));
    let each = table.bytes() as f64 / COUNT as f64;
    assert!(each < 28.0, "{each} bytes");
}

#[test]
fn a_table_that_was_to_stay_small_grows_and_stays_dense() {
    const COUNT: u64 = 100_000;
    let mut table = Revocations::default();
    for number in 0..COUNT {
        table.insert(&entry(number), at(NOW)).unwrap();
    }
    assert_eq!(table.len() as u64, COUNT);
    assert!((0..COUNT).all(|number| finds(&table, number)));
    let each = table.bytes() as f64 / COUNT as f64;
    assert!(each < 34.0, "{each} bytes");
}

#[test]
fn a_table_that_others_see_does_not_change() {
    let before = filled(50_000);
    let mut after = before.clone();
    for number in 50_000..50_100 {
        after.insert(&entry(number), at(NOW)).unwrap();
    }
    assert!((50_000..50_100).all(|number| finds(&after, number) && !finds(&before, number)));
    assert_eq!((before.len(), after.len()), (50_000, 50_100));
    let shared = before
        .shards
        .iter()
        .zip(&after.shards)
        .filter(|(old, new)| Rc::ptr_eq(old, new))
        .count();
    assert!(shared > 0, "what did not change is shared");
    let mut one_more = before.clone();
    one_more.insert(&entry(60_000), at(NOW)).unwrap();
    let copied = before
        .shards
        .iter()
        .zip(&one_more.shards)
        .filter(|(old, new)| !Rc::ptr_eq(old, new))
        .count();
    assert_eq!(copied, 1);
}

#[test]
fn keys_that_are_no_hashes_are_refused_within_bounded_work() {
    // All in one shard; all in the same two buckets; all with the same everything but a few bits.
    let kinds: [fn(u64) -> [u64; 2]; 4] = [
        |n| [0, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)],
        |n| [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 7],
        |n| [n, n],
        |n| [n << 40, n << 40],
    ];
    for (kind, make) in kinds.iter().enumerate() {
        let mut table = Revocations::with_room_for(4_000_000);
        let (mut refused, mut most) = (false, 0);
        for number in 0..2_000_000 {
            let [high, low] = make(number);
            let key = RevocationKey([high.to_be_bytes(), low.to_be_bytes()].concat().try_into().unwrap());
            match table.insert(&Entry::new(key, NOW, None), at(NOW)) {
                Ok(work) => most = most.max(work),
                Err(Crowded) => {
                    refused = true;
                    break;
                }
            }
        }
        assert!(refused, "kind {kind}");
        assert!(most < 100_000, "kind {kind}: {most}");
        assert!(table.bytes() < 200_000_000, "kind {kind}: {} bytes", table.bytes());
    }
}

#[test]
fn no_insertion_is_much_work() {
    let mut table = filled(50_000);
    let mut most = 0;
    let mut total = 0;
    for number in 50_000..150_000 {
        // Somebody sees each table, so that each insertion copies.
        let seen = (number % 100 == 0).then(|| table.clone());
        let work = table.insert(&entry(number), at(NOW)).unwrap();
        most = most.max(work);
        total += work;
        drop(seen);
    }
    assert!(most < 8_000, "{most}");
    assert!(total / 100_000 < 50, "{total}");
}

#[test]
fn memory_that_is_taken_or_copied_counts_as_work() {
    let mut table = Revocations::with_room_for(1_000_000);
    let empty = table.bytes();
    let work: usize = (0..2048)
        .map(|number| table.insert(&entry(number), at(NOW)).unwrap())
        .sum();
    assert!(
        table.bytes() - empty <= work * 96,
        "{} bytes for {work}",
        table.bytes() - empty
    );
    assert!(table.bytes() - empty > 2048 * 96, "or nothing is shown");
    let mut copy = table.clone();
    let copied: usize = (0..2048)
        .map(|number| copy.insert(&entry(number), at(NOW)).unwrap())
        .sum();
    assert!(copied >= work, "{copied}");
}

#[test]
fn what_nobody_needs_is_swept_and_the_rest_stays() {
    let mut table = Revocations::with_room_for(100_000);
    for number in 0..100_000 {
        let until = if number % 10 == 0 { NOW + 10_000 } else { NOW + 10 };
        table.insert(&Entry::new(key(number), until, None), at(NOW)).unwrap();
    }
    assert_eq!(table.swept(0..table.parts(), at(NOW + 10 + LEEWAY)), None);
    let later = at(NOW + 11 + LEEWAY);
    let part = table.swept(0..1, later).unwrap();
    assert!(part.len() < table.len() && part.len() > 98_000);
    let swept = table.swept(0..table.parts(), later).unwrap();
    assert_eq!(swept.len(), 10_000);
    assert!((0..10_000).all(|number| swept.revokes(&of(key(number * 10)), at(0), later)));
    assert!(
        swept.bytes() * 5 < table.bytes(),
        "{} of {}",
        swept.bytes(),
        table.bytes()
    );
    assert_eq!(swept.swept(0..swept.parts(), later), None);
}

#[derive(Clone, Debug)]
enum Action {
    Insert {
        number: u64,
        until: u64,
        issued: Option<u64>,
    },
    Wait(u64),
    Sweep,
    Publish,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => (0..400_u64, 0..3000_u64, proptest::option::of(0..3000_u64))
            .prop_map(|(number, until, issued)| Action::Insert { number, until, issued }),
        2 => (0..400_u64).prop_map(Action::Wait),
        1 => Just(Action::Sweep),
        1 => Just(Action::Publish),
    ]
}

/// What a table should hold, in the plainest way.
#[derive(Clone, Default)]
struct Model(HashMap<u64, (u64, Option<u64>)>);

impl Model {
    fn insert(&mut self, number: u64, until: u64, issued: Option<u64>, now: u64) {
        if now > until + LEEWAY {
            return;
        }
        let known = self.0.entry(number).or_insert((until, issued));
        if now > known.0 + LEEWAY {
            *known = (until, issued);
        }
        known.0 = known.0.max(until);
        known.1 = known.1.zip(issued).map(|(old, new)| old.max(new));
    }

    fn revokes(&self, number: u64, issued: u64, now: u64) -> bool {
        self.0
            .get(&number)
            .is_some_and(|(until, upto)| now <= until + LEEWAY && upto.is_none_or(|upto| issued <= upto))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_table_agrees_with_a_map(room in 0..2000_usize, actions in proptest::collection::vec(action(), 0..1500)) {
        let (mut table, mut model, mut now) = (Revocations::with_room_for(room), Model::default(), 1000);
        let mut seen: Vec<(Revocations, Model)> = Vec::new();
        for action in actions {
            match action {
                Action::Insert { number, until, issued } => {
                    let entry = Entry::new(key(number), now + until, issued.map(|issued| now + issued - 1000));
                    table.insert(&entry, at(now)).unwrap();
                    model.insert(number, now + until, issued.map(|issued| now + issued - 1000), now);
                }
                Action::Wait(seconds) => now += seconds,
                Action::Sweep => table = table.swept(0..table.parts(), at(now)).unwrap_or(table),
                Action::Publish => seen.push((table.clone(), model.clone())),
            }
        }
        seen.push((table, model));
        for (table, model) in seen {
            for number in 0..410 {
                for issued in [0, now - 500, now, now + 1500] {
                    prop_assert_eq!(
                        table.revokes(&of(key(number)), at(issued), at(now)),
                        model.revokes(number, issued, now)
                    );
                }
            }
        }
    }
}
