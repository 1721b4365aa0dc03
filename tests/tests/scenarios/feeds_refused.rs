//! A feed that is rolled back, replayed, signed by somebody else, cut or huge is refused and counted; what was known stays, until
//! it is too old.

use std::time::Duration;

use kerbridge_gate::feed::PAGE_LIMIT;
use kerbridge_tests::World;
use kerbridge_tests::issuer::{Issuer, serve_page, token_entry};
use kerbridge_tests::scripted_server::Reply;
use kerbridge_tests::token::now;
use kerbridge_tests::wait::wait_until;
use kerbridge_wire::feed::Hex;
use serde_json::json;

use crate::feeds::{all_end_with, ask, feed, start};

const WITHIN: Duration = Duration::from_secs(20);

fn refused(world: &World, word: &str) -> u64 {
    let name = format!("wasmcustom.kerbridge.feed_pages_refused.reason.{word}.issuer.id");
    world.stat(&name).unwrap_or(0)
}

#[test]
fn a_bad_feed_is_refused_and_counted_and_the_last_good_one_stays_until_it_is_too_old() {
    let issuer = Issuer::start().unwrap();
    issuer.revoke(&[token_entry("zero")]);
    let old = issuer.changed_page(|_| ()).unwrap();
    issuer.revoke(&[token_entry("one")]);
    let world = start(
        issuer
            .join(World::builder().broker_stopped(), feed("1s", "10s"))
            .concurrency(2),
    );
    let token = |id: &str| issuer.token(&json!({"jti": id})).unwrap();
    let (good, revoked) = (token("good"), token("one"));
    let stands = || all_end_with(&world, &good, (200, "ok")) && all_end_with(&world, &revoked, (401, "revoked"));
    wait_until("the revocations", WITHIN, stands).unwrap();

    let page = issuer.changed_page(|_| ()).unwrap();
    let body_at = page.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let foreign = Issuer::start().unwrap();
    foreign.revoke(&[token_entry("zero")]);
    foreign.revoke(&[token_entry("good")]);
    let foreign = foreign.changed_page(|_| ()).unwrap();
    let dot = |page: &[u8]| page.iter().position(|byte| *byte == b'.').unwrap();
    // Under the name of the issuer's own key.
    let forged = [&page[..dot(&page)], &foreign[dot(&foreign)..]].concat();
    // Newer than all that is known, so that it is read to its end.
    let newer = issuer.changed_page(|claims| claims.version += 1000).unwrap();
    let claims_end = newer.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let altered = [&newer[..claims_end], &vec![7; newer.len() - claims_end][..]].concat();
    let changed = |change: fn(&mut kerbridge_wire::feed::PageClaims)| issuer.changed_page(change).unwrap();
    for (at, (what, reply, word)) in [
        ("rolled back", serve_page(&old), "goes_back"),
        (
            "of a store that was rolled back",
            serve_page(&changed(|claims| {
                claims.epoch = Hex([9; 16]);
                claims.iat = now() - 60;
            })),
            "epoch_not_later",
        ),
        ("signed by a stranger", serve_page(&foreign), "unknown_key"),
        ("forged", serve_page(&forged), "bad_signature"),
        (
            "another issuer's",
            serve_page(&changed(|claims| claims.iss.push('x'))),
            "other_issuer",
        ),
        (
            "from the future",
            serve_page(&changed(|claims| claims.iat = now() + 3600)),
            "from_the_future",
        ),
        ("cut in its claims", serve_page(&page[..body_at / 2]), "malformed"),
        ("cut in its entries", serve_page(&page[..page.len() - 7]), "malformed"),
        ("with other entries", serve_page(&altered), "wrong_body"),
        (
            "huge",
            serve_page(&[page.clone(), vec![0; PAGE_LIMIT]].concat()),
            "too_large",
        ),
        ("not to be had", Reply::status(500, "it broke"), "not_fetched"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = refused(&world, word);
        issuer.answer_instead(Some(reply));
        wait_until(
            &format!("a feed that is {what} to be counted as {word}"),
            WITHIN,
            || refused(&world, word) > before,
        )
        .unwrap();
        assert!(stands(), "{what}");
        // It is taken again as soon as it is right, and nothing of the bad ones is left. Each time would take long.
        if at % 3 != 1 {
            continue;
        }
        issuer.answer_instead(None);
        let after = format!("after-{word}-{}", now());
        issuer.revoke(&[token_entry(&after)]);
        let after = token(&after);
        wait_until(&format!("revocations after a feed that was {what}"), WITHIN, || {
            ask(&world, &after) == (401, "revoked".to_owned())
        })
        .unwrap();
    }

    // A good page that is shown again and again says nothing new, and grows old.
    let replayed = issuer.changed_page(|_| ()).unwrap();
    issuer.answer_instead(Some(serve_page(&replayed)));
    issuer.revoke(&[token_entry("good")]);
    assert!(stands());
    wait_until("the end of the bound", WITHIN, || {
        all_end_with(&world, &good, (503, "feed_stale"))
    })
    .unwrap();
    issuer.answer_instead(None);
    wait_until("the revocation that was kept from us", WITHIN, || {
        all_end_with(&world, &good, (401, "revoked"))
    })
    .unwrap();
    assert_eq!(world.reloads(), Some(0));
}
