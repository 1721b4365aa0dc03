//! Which pages are taken, and which are not and why.

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
fn only_the_issuers_own_keys_sign_its_feed() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let mut feed = feed();
    let forged = stranger.pages(&claims(), &[], 1).remove(0);
    assert_eq!(
        issuer.give(&mut feed, &forged, NOW),
        Err(FeedError::Signature(Reason::BadSignature))
    );
    // Another issuer of the same filter, which may sign what it likes, but not in this one's name.
    let other = stranger
        .pages(
            &PageClaims {
                iss: "https://other.test".into(),
                ..claims()
            },
            &[],
            1,
        )
        .remove(0);
    assert_eq!(stranger.give(&mut feed, &other, NOW), Err(FeedError::OtherIssuer));
    assert_eq!(feed.known(), None);
}

#[test]
fn what_is_no_page_is_refused() {
    let issuer = Issuer::new();
    let payload = serde_json::to_string(&claims()).unwrap();
    let header = |more: &str| format!(r#"{{"alg":"ES256","typ":"{TYPE}"{more}}}"#);
    let jws = |header: &str, payload: &str| join_page(&issuer.sign(header, payload), b"");
    let good = header(r#","kid":"k""#);
    assert!(issuer.verify(&jws(&good, &payload)).is_ok());
    let long = format!(
        r#"{},"pad":"{}"}}"#,
        payload.trim_end_matches('}'),
        "x".repeat(JWS_LIMIT)
    );
    let cases = [
        (Vec::new(), FeedError::Malformed),
        (b"\n".to_vec(), FeedError::Malformed),
        (b"a.b.c\n".to_vec(), FeedError::Malformed),
        (issuer.sign(&good, &payload).into_bytes(), FeedError::Malformed),
        (
            join_page(&issuer.sign(&good, &payload), &[0; ENTRY_BYTES + 1]),
            FeedError::Malformed,
        ),
        (jws(&good, &long), FeedError::Malformed),
        (vec![b'\n'; PAGE_LIMIT + 1], FeedError::TooLarge),
        (
            join_page(&issuer.sign(&good, &payload), &vec![0; BODY_LIMIT + 1]),
            FeedError::TooLarge,
        ),
        (jws(&good.replace("feed", "food"), &payload), FeedError::WrongType),
        (jws(&good.replace(TYPE, "at+jwt"), &payload), FeedError::WrongType),
        (jws(r#"{"alg":"ES256","kid":"k"}"#, &payload), FeedError::WrongType),
        (jws(&header(""), &payload), FeedError::Signature(Reason::UnknownKey)),
        (
            jws(&header(r#","kid":"l""#), &payload),
            FeedError::Signature(Reason::UnknownKey),
        ),
        (
            jws(&good.replace("ES256", "RS256"), &payload),
            FeedError::Signature(Reason::AlgorithmNotAllowed),
        ),
        (
            jws(&good.replace("ES256", "none"), &payload),
            FeedError::Signature(Reason::AlgorithmNotAllowed),
        ),
        (jws(&good, "{}"), FeedError::Malformed),
        (jws(&good, r#"{"format":2,"iss":7}"#), FeedError::Format),
        (
            jws(&good, &payload.replace("\"version\":1", "\"version\":-1")),
            FeedError::Malformed,
        ),
        (
            jws(&good, &payload.replace("\"version\":1", "\"version\":1,\"version\":2")),
            FeedError::Malformed,
        ),
        (jws(&good, &payload.replace("\"base\":null,", "")), FeedError::Malformed),
        (
            jws(&good, &payload.replace("\"iat\":1", "\"iat\":999991")),
            FeedError::Malformed,
        ),
    ];
    for (place, (page, error)) in cases.iter().enumerate() {
        assert_eq!(issuer.verify(page).err(), Some(*error), "case {place}");
    }
}

#[test]
fn counts_that_cannot_be_true_are_refused_before_anything_is_kept() {
    let issuer = Issuer::new();
    let some = |entries: u64| vec![0; usize::try_from(entries).unwrap() * ENTRY_BYTES];
    // The second is the one without a hash of all pages.
    let cases: &[(PageClaims, u64, FeedError)] = &[
        (PageClaims { page: 1, ..claims() }, 0, FeedError::Malformed),
        (
            PageClaims {
                pages: 2,
                entries: 2,
                sha256_of_pages: None,
                ..claims()
            },
            1,
            FeedError::Malformed,
        ),
        (PageClaims { pages: 0, ..claims() }, 0, FeedError::Malformed),
        (
            PageClaims {
                base: Some(2),
                ..claims()
            },
            0,
            FeedError::Malformed,
        ),
        (
            PageClaims {
                entries: ENTRIES_LIMIT + 1,
                pages: 1000,
                ..claims()
            },
            1,
            FeedError::TooManyEntries,
        ),
        (
            PageClaims {
                entries: u32::MAX,
                pages: u32::MAX,
                ..claims()
            },
            1,
            FeedError::TooManyEntries,
        ),
        (
            PageClaims {
                entries: 4000,
                pages: PAGES_LIMIT + 1,
                ..claims()
            },
            1,
            FeedError::TooManyEntries,
        ),
        (
            PageClaims {
                entries: PAGE_ENTRIES as u32 + 1,
                ..claims()
            },
            1,
            FeedError::CountsDisagree,
        ),
        (PageClaims { entries: 1, ..claims() }, 2, FeedError::CountsDisagree),
        (PageClaims { entries: 0, ..claims() }, 1, FeedError::CountsDisagree),
        (
            PageClaims {
                entries: 0,
                pages: 2,
                ..claims()
            },
            0,
            FeedError::CountsDisagree,
        ),
        (
            PageClaims {
                entries: 2,
                pages: 3,
                ..claims()
            },
            1,
            FeedError::CountsDisagree,
        ),
        (
            PageClaims {
                entries: 2,
                pages: 2,
                ..claims()
            },
            0,
            FeedError::CountsDisagree,
        ),
    ];
    for (place, (claims, entries, error)) in cases.iter().enumerate() {
        let body = some(*entries);
        let of_pages = (place != 1).then(|| body_hash(b"others"));
        let claims = PageClaims {
            sha256: body_hash(&body),
            sha256_of_pages: of_pages,
            ..claims.clone()
        };
        let page = issuer.page_as_said(&claims, &body);
        assert_eq!(issuer.verify(&page).err(), Some(*error), "{claims:?}");
    }
}

#[test]
fn pages_that_do_not_add_up_are_refused() {
    let issuer = Issuer::new();
    let two = |page, body: &[u8]| {
        let claims = PageClaims {
            page,
            pages: 2,
            entries: 3,
            sha256: body_hash(body),
            sha256_of_pages: Some(body_hash(b"others")),
            ..claims()
        };
        issuer.page_as_said(&claims, body)
    };
    let one = vec![0; ENTRY_BYTES];
    let mut mixed = feed();
    assert_eq!(issuer.give(&mut mixed, &two(0, &one), NOW), Ok(Given::Part));
    let page = two(1, &[0; 2 * ENTRY_BYTES]);
    assert_eq!(
        issuer.give(&mut mixed, &page, NOW),
        Err(FeedError::WrongBody),
        "right counts, another hash of all pages"
    );
    for (first, second) in [(1, 1), (2, 2), (3, 1), (1, 3)] {
        let mut feed = feed();
        assert_eq!(
            issuer.give(&mut feed, &two(0, &vec![0; first * ENTRY_BYTES]), NOW),
            Ok(Given::Part)
        );
        let page = two(1, &vec![0; second * ENTRY_BYTES]);
        assert_eq!(
            issuer.give(&mut feed, &page, NOW),
            Err(FeedError::CountsDisagree),
            "{first} {second}"
        );
        assert_eq!(feed.known(), None);
    }
}

#[test]
fn another_body_is_refused_and_what_was_known_stays() {
    let issuer = Issuer::new();
    let mut feed = at_five(&issuer);
    let delta = PageClaims {
        version: 6,
        base: Some(5),
        ..claims()
    };
    let good = issuer.pages(&delta, &entries(10..12), 2).remove(0);
    for at in good.len() - 2 * ENTRY_BYTES..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(
            issuer.give(&mut feed, &bad, NOW),
            Err(FeedError::WrongBody),
            "byte {at}"
        );
        assert_eq!(feed.position().unwrap().version, 5);
        assert!(!revoked(&feed, 10) && !revoked(&feed, 11) && revoked(&feed, 9));
    }
    assert_eq!(issuer.give(&mut feed, &good, NOW), Ok(Given::Whole));
    assert!(revoked(&feed, 10));
}

#[test]
fn nothing_goes_back_within_an_epoch() {
    let issuer = Issuer::new();
    let mut feed = at_five(&issuer);
    for (version, base) in [(4, None), (0, None), (4, Some(3)), (4, Some(4))] {
        let old = PageClaims {
            version,
            base,
            iat: NOW + 50,
            ..claims()
        };
        let page = issuer.pages(&old, &entries(20..21), 1).remove(0);
        assert_eq!(
            issuer.give(&mut feed, &page, NOW + 50),
            Err(FeedError::GoesBack),
            "{version} {base:?}"
        );
    }
    assert!(revoked(&feed, 9) && !revoked(&feed, 20));
    assert_eq!(
        feed.known().unwrap().freshness.as_of(),
        at(NOW),
        "a page of the past does not make it fresher"
    );
}

#[test]
fn a_delta_needs_what_it_builds_on() {
    let issuer = Issuer::new();
    let delta = |base, epoch| PageClaims {
        version: 9,
        base: Some(base),
        epoch: Hex([epoch; 16]),
        iat: NOW + 1,
        ..claims()
    };
    let page = |claims: &PageClaims| issuer.pages(claims, &entries(20..21), 1).remove(0);
    assert_eq!(
        issuer.give(&mut feed(), &page(&delta(0, 1)), NOW),
        Err(FeedError::NoSnapshot)
    );
    let mut five = at_five(&issuer);
    assert_eq!(issuer.give(&mut five, &page(&delta(6, 1)), NOW), Err(FeedError::Gap));
    assert_eq!(
        issuer.give(&mut five, &page(&delta(5, 2)), NOW),
        Err(FeedError::NoSnapshot)
    );
    // One that begins earlier brings what is missing as well.
    assert_eq!(issuer.give(&mut five, &page(&delta(3, 1)), NOW), Ok(Given::Whole));
    assert!(revoked(&five, 20) && revoked(&five, 0));
}

#[test]
fn a_new_epoch_comes_only_as_a_later_snapshot() {
    let issuer = Issuer::new();
    let mut feed = at_five(&issuer);
    let new = |iat| PageClaims {
        epoch: Hex([2; 16]),
        version: 1,
        iat,
        ..claims()
    };
    let page = |iat| issuer.pages(&new(iat), &entries(20..21), 1).remove(0);
    for iat in [NOW - 1, NOW] {
        assert_eq!(
            issuer.give(&mut feed, &page(iat), NOW + 5),
            Err(FeedError::EpochNotLater),
            "{iat}"
        );
    }
    assert_eq!(issuer.give(&mut feed, &page(NOW + 1), NOW + 5), Ok(Given::Whole));
    assert!(revoked(&feed, 20) && !revoked(&feed, 0), "a snapshot is all there is");
    // The store of before, from a backup or from an attacker's drawer.
    let old = issuer
        .pages(
            &PageClaims {
                version: 99,
                ..claims()
            },
            &[],
            1,
        )
        .remove(0);
    assert_eq!(issuer.give(&mut feed, &old, NOW + 5), Err(FeedError::EpochNotLater));
    // What was heard of this epoch meanwhile counts, though it came while the other was being read.
    let slow = PageClaims {
        epoch: Hex([3; 16]),
        iat: NOW + 10,
        ..claims()
    };
    let slow = issuer.pages(&slow, &entries(0..2), 1);
    assert_eq!(issuer.give(&mut feed, &slow[0], NOW + 10), Ok(Given::Part));
    let still_here = issuer
        .pages(
            &PageClaims {
                base: Some(1),
                ..new(NOW + 11)
            },
            &[],
            1,
        )
        .remove(0);
    assert_eq!(
        issuer.give(&mut feed, &still_here, NOW + 11),
        Ok(Given::Nothing(Accepted::Refreshed))
    );
    assert_eq!(
        issuer.give(&mut feed, &slow[1], NOW + 11),
        Err(FeedError::EpochNotLater)
    );
    assert!(revoked(&feed, 20));
}

#[test]
fn pages_come_in_order_and_none_is_missing() {
    let issuer = Issuer::new();
    let mut feed = feed();
    let pages = issuer.pages(&claims(), &entries(0..4), 1);
    assert_eq!(issuer.give(&mut feed, &pages[1], NOW), Err(FeedError::OutOfOrder));
    assert_eq!(issuer.give(&mut feed, &pages[0], NOW), Ok(Given::Part));
    assert_eq!(
        feed.wants().map(|(position, page)| (position.version, page)),
        Some((1, 1))
    );
    assert_eq!(issuer.give(&mut feed, &pages[2], NOW), Err(FeedError::OutOfOrder));
    assert_eq!(
        issuer.give(&mut feed, &pages[0], NOW),
        Ok(Given::Nothing(Accepted::Known))
    );
    // A page of another snapshot does not continue this one, and does not end it.
    let other = issuer.pages(&PageClaims { version: 2, ..claims() }, &entries(0..4), 1);
    assert_eq!(issuer.give(&mut feed, &other[1], NOW), Err(FeedError::OutOfOrder));
    for page in &pages[1..3] {
        assert_eq!(issuer.give(&mut feed, page, NOW), Ok(Given::Part));
        assert_eq!(feed.known(), None, "nothing is seen before the last page");
    }
    assert_eq!(issuer.give(&mut feed, &pages[3], NOW), Ok(Given::Whole));
    assert_eq!((feed.wants(), feed.known().unwrap().revocations.len()), (None, 4));
}

#[test]
fn pages_that_were_cut_or_ordered_otherwise_are_not_mixed() {
    let issuer = Issuer::new();
    let mut feed = feed();
    // The same entries twice: four pages with one mixed in would count four, and one subject would be missing.
    let pages = issuer.pages(&claims(), &entries(0..4), 1);
    let mut turned = entries(0..4);
    turned.reverse();
    let turned = issuer.pages(&claims(), &turned, 1);
    assert_eq!(issuer.give(&mut feed, &pages[0], NOW), Ok(Given::Part));
    assert_eq!(issuer.give(&mut feed, &turned[1], NOW), Err(FeedError::OutOfOrder));
    issuer.give_all(&mut feed, &pages[1..], NOW);
    assert!((0..4).all(|number| revoked(&feed, number)));
}

#[test]
fn a_newer_snapshot_is_begun_anew_and_an_older_one_does_not_throw_it_away() {
    let issuer = Issuer::new();
    let mut feed = feed();
    let of = |version, numbers| issuer.pages(&PageClaims { version, ..claims() }, &entries(numbers), 1);
    let (one, two) = (of(1, 0..2), of(2, 10..12));
    assert_eq!(issuer.give(&mut feed, &one[0], NOW), Ok(Given::Part));
    assert_eq!(issuer.give(&mut feed, &two[0], NOW), Ok(Given::Part));
    assert_eq!(issuer.give(&mut feed, &one[0], NOW), Err(FeedError::GoesBack));
    assert_eq!(issuer.give(&mut feed, &two[1], NOW), Ok(Given::Whole));
    assert!(revoked(&feed, 10) && revoked(&feed, 11) && !revoked(&feed, 0));
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
fn freshness_is_that_of_the_last_good_page() {
    let issuer = Issuer::new();
    let mut feed = at_five(&issuer);
    let stale = NOW + u64::from(STALENESS) + 1;
    let check = |feed: &Feed, number, now| feed.known().unwrap().check(&token_of(number), at(NOW), at(now));
    assert_eq!(
        (check(&feed, 50, stale - 1), check(&feed, 50, stale)),
        (Ok(()), Err(Reason::FeedStale))
    );
    assert_eq!(
        check(&feed, 1, stale),
        Err(Reason::Revoked),
        "what is known to be revoked stays revoked"
    );
    let nothing_new = |iat| {
        issuer
            .pages(
                &PageClaims {
                    version: 5,
                    base: Some(5),
                    iat,
                    ..claims()
                },
                &[],
                1,
            )
            .remove(0)
    };
    assert_eq!(
        issuer.give(&mut feed, &nothing_new(NOW + 100), NOW + 110),
        Ok(Given::Nothing(Accepted::Refreshed))
    );
    assert_eq!(
        feed.known().unwrap().freshness.as_of(),
        at(NOW + 100),
        "as of its issue, not of its arrival"
    );
    // The same page again, or an older one, does not make it fresher: who can only repeat what was said cannot hide
    // that nothing new is said.
    for iat in [NOW + 100, NOW + 50] {
        assert_eq!(
            issuer.give(&mut feed, &nothing_new(iat), NOW + 200),
            Ok(Given::Nothing(Accepted::Known))
        );
    }
    assert_eq!(check(&feed, 50, stale + 99), Ok(()));
    assert_eq!(check(&feed, 50, stale + 100), Err(Reason::FeedStale));
    // A clock that is ahead within the skew does not buy time; one beyond it is not believed.
    assert_eq!(
        issuer.give(&mut feed, &nothing_new(NOW + 300 + SKEW), NOW + 300),
        Ok(Given::Nothing(Accepted::Refreshed))
    );
    assert_eq!(feed.known().unwrap().freshness.as_of(), at(NOW + 300));
    assert_eq!(
        issuer.give(&mut feed, &nothing_new(NOW + 301 + SKEW), NOW + 300),
        Err(FeedError::FromTheFuture)
    );
}

#[test]
fn several_pages_are_as_old_as_the_oldest() {
    let issuer = Issuer::new();
    let mut feed = feed();
    let page = |iat, page: usize| {
        issuer
            .pages(&PageClaims { iat, ..claims() }, &entries(0..3), 1)
            .remove(page)
    };
    for (iat, number, given) in [
        (NOW + 9, 0, Given::Part),
        (NOW + 2, 1, Given::Part),
        (NOW + 5, 2, Given::Whole),
    ] {
        assert_eq!(issuer.give(&mut feed, &page(iat, number), NOW + 10), Ok(given));
    }
    assert_eq!(feed.known().unwrap().freshness.as_of(), at(NOW + 2));
}

#[test]
fn a_page_of_the_configuration_counts_from_when_it_is_taken() {
    let issuer = Issuer::new();
    let mut feed = feed();
    let page = issuer.pages(&claims(), &entries(0..1), 1).remove(0);
    let day = NOW + 86_400;
    assert_eq!(
        feed.accept(issuer.verify(&page).unwrap(), Origin::Configured, at(day)),
        Ok(Accepted::Reading)
    );
    assert_eq!(feed.step(at(day)), Ok(Progress::Published));
    assert!(feed.known().unwrap().freshness.is_fresh(at(day)));
    // Its issue time stays what it was: another epoch need only be later than that.
    let new = PageClaims {
        epoch: Hex([2; 16]),
        iat: NOW + 1,
        ..claims()
    };
    assert_eq!(
        issuer.give(&mut feed, &issuer.pages(&new, &[], 1)[0], day),
        Ok(Given::Whole)
    );
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
