//! Which pages are refused, whoever sent them.

use super::*;

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
