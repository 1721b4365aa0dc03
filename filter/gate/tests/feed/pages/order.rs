//! Which page may come after which: nothing goes back, nothing is mixed, nothing is left out.

use super::*;

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
