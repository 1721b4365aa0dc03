//! Which pages are taken, and which are not and why.

mod freshness;
mod order;
mod refused;

use kerbridge_gate::Reason;
use kerbridge_gate::feed::{Accepted, Feed, FeedError, Origin, PAGE_LIMIT, Progress, UnverifiedPage};
use kerbridge_wire::feed::{
    BODY_LIMIT, ENTRIES_LIMIT, ENTRY_BYTES, Entry, Hex, JWS_LIMIT, PAGE_ENTRIES, PAGES_LIMIT, PageClaims, TYPE,
    body_hash, join_page,
};
use proptest::prelude::*;

use crate::issuer::{Given, Issuer, NAME, NOW, SKEW, STALENESS, at, claims, entry, feed, token_of};

fn entries(numbers: std::ops::Range<u64>) -> Vec<Entry> {
    numbers.map(|number| entry(number, NOW + 1000, None)).collect()
}

fn revoked(feed: &Feed, number: u64) -> bool {
    feed.known()
        .is_some_and(|known| known.revocations.revokes(&token_of(number), at(NOW), at(NOW)))
}

/// A feed that has read version 5 with subjects 0 to 9.
fn at_five(issuer: &Issuer) -> Feed {
    let mut feed = feed();
    let claims = PageClaims { version: 5, ..claims() };
    issuer.give_all(&mut feed, &issuer.pages(&claims, &entries(0..10), 4), NOW);
    feed
}

#[test]
fn a_snapshot_and_a_delta_on_it_are_read() {
    let issuer = Issuer::new();
    let mut feed = at_five(&issuer);
    assert!((0..10).all(|number| revoked(&feed, number)) && !revoked(&feed, 10));
    let before = feed.known().unwrap();
    let delta = PageClaims {
        version: 7,
        base: Some(5),
        iat: NOW + 1,
        ..claims()
    };
    issuer.give_all(&mut feed, &issuer.pages(&delta, &entries(10..12), 1), NOW + 1);
    assert!((0..12).all(|number| revoked(&feed, number)) && !revoked(&feed, 12));
    assert!(
        !before.revocations.revokes(&token_of(10), at(NOW), at(NOW)),
        "who holds the old table sees the old table"
    );
    let position = feed.position().unwrap();
    assert_eq!((position.epoch, position.version), (Hex([1; 16]), 7));
}

#[test]
fn a_page_is_verified_by_pure_rust_as_well() {
    let issuer = Issuer::new();
    let page = issuer.pages(&claims(), &entries(0..3), 3).remove(0);
    let page = UnverifiedPage::read(page, &issuer.keys).unwrap();
    assert!(page.signature().verify());
    let stranger = Issuer::new().pages(&claims(), &entries(0..3), 3).remove(0);
    let page = UnverifiedPage::read(stranger, &issuer.keys).unwrap();
    assert!(!page.signature().verify());
    assert_eq!(
        page.resume(false).unwrap_err(),
        FeedError::Signature(Reason::BadSignature)
    );
}

#[test]
fn a_page_is_read_in_slices_and_seen_whole() {
    let issuer = Issuer::new();
    let mut feed = feed();
    let all = entries(0..PAGE_ENTRIES as u64);
    let page = issuer.pages(&claims(), &all, PAGE_ENTRIES).remove(0);
    assert_eq!(
        feed.accept(issuer.verify(&page).unwrap(), Origin::Fetched, at(NOW)),
        Ok(Accepted::Reading)
    );
    let mut steps = 1;
    while feed.step(at(NOW)).unwrap() == Progress::Working {
        assert_eq!(feed.known(), None);
        steps += 1;
    }
    assert!(steps >= PAGE_ENTRIES / 2048, "{steps} steps");
    assert_eq!(feed.known().unwrap().revocations.len(), PAGE_ENTRIES);
    assert!((0..1000).all(|number| revoked(&feed, number * 43)));
    assert_eq!(feed.step(at(NOW)), Ok(Progress::Idle));
}

#[test]
fn a_step_takes_no_more_memory_than_it_does_work() {
    let issuer = Issuer::new();
    let mut feed = feed();
    // Its entries fall everywhere in a table for a million, of which each step may make a small part only.
    let all = entries(0..PAGE_ENTRIES as u64);
    let body: Vec<u8> = all.iter().flat_map(|entry| entry.to_bytes()).collect();
    let first = PageClaims {
        pages: 23,
        entries: 1_000_000,
        sha256: body_hash(&body),
        sha256_of_pages: Some(body_hash(b"of all")),
        ..claims()
    };
    let page = issuer.verify(&issuer.page_as_said(&first, &body)).unwrap();
    assert_eq!(feed.accept(page, Origin::Fetched, at(NOW)), Ok(Accepted::Reading));
    let mut steps = 1;
    while feed.step(at(NOW)).unwrap() == Progress::Working {
        steps += 1;
    }
    assert!(steps > 100, "{steps} steps");
}

#[test]
fn the_next_page_waits_until_the_last_one_is_read() {
    let issuer = Issuer::new();
    let mut feed = feed();
    let pages = issuer.pages(&claims(), &entries(0..10_000), 5000);
    let accept =
        |feed: &mut Feed, page: usize| feed.accept(issuer.verify(&pages[page]).unwrap(), Origin::Fetched, at(NOW));
    assert_eq!(accept(&mut feed, 0), Ok(Accepted::Reading));
    assert_eq!(feed.step(at(NOW)), Ok(Progress::Working));
    assert_eq!((accept(&mut feed, 1), feed.wants()), (Err(FeedError::Busy), None));
    while feed.step(at(NOW)).unwrap() == Progress::Working {}
    assert_eq!(accept(&mut feed, 1), Ok(Accepted::Reading));
    while feed.step(at(NOW)).unwrap() != Progress::Published {}
    assert!((0..10_000).all(|number| revoked(&feed, number)));
}

#[test]
fn who_only_passes_pages_on_takes_the_same_and_never_says_that_nobody_is_revoked() {
    let issuer = Issuer::new();
    let mut feed = Feed::without_table(NAME.into(), SKEW, STALENESS);
    issuer.give_all(&mut feed, &issuer.pages(&claims(), &entries(0..5000), 3000), NOW);
    assert_eq!(
        (feed.position().map(|position| position.version), feed.known()),
        (Some(1), None)
    );
    let mut bad = issuer
        .pages(
            &PageClaims {
                version: 2,
                base: Some(1),
                ..claims()
            },
            &entries(0..1),
            1,
        )
        .remove(0);
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(issuer.give(&mut feed, &bad, NOW), Err(FeedError::WrongBody));
    assert_eq!(feed.position().map(|position| position.version), Some(1));
}

#[test]
fn idle_steps_sweep_what_nobody_needs() {
    let issuer = Issuer::new();
    let mut feed = feed();
    let all: Vec<Entry> = (0..40_000)
        .map(|number| entry(number, NOW + if number < 100 { 90_000 } else { 10 }, None))
        .collect();
    issuer.give_all(&mut feed, &issuer.pages(&claims(), &all, PAGE_ENTRIES), NOW);
    let full = feed.known().unwrap().revocations.bytes();
    let later = at(NOW + 80_000);
    for _ in 0..100 {
        feed.step(later).unwrap();
    }
    let known = feed.known().unwrap().revocations;
    assert_eq!(known.len(), 100);
    assert!(known.bytes() < full / 20, "{} of {full}", known.bytes());
    assert!((0..100).all(|number| known.revokes(&token_of(number), at(NOW), later)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_page_panics(bytes: Vec<u8>, cut in 0..200_usize, flip in 0..400_usize) {
        let issuer = Issuer::new();
        drop(issuer.verify(&bytes));
        let mut page = issuer.pages(&claims(), &entries(0..3), 3).remove(0);
        drop(issuer.verify(&page[..page.len() - cut]));
        let place = flip.min(page.len() - 1);
        page[place] ^= 1;
        let mut feed = feed();
        prop_assert!(issuer.give(&mut feed, &page, NOW).is_err() , "byte {place}");
        prop_assert_eq!(feed.known(), None);
    }
}
