//! How old what is known may become.

use super::*;

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
