//! Revocations reach every worker, and where they do not come, nothing passes that they could have revoked.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::issuer::{FEED, Issuer, session_entry, subject_entry, token_entry};
use kerbridge_tests::token::{claims, now};
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::{wait_for, wait_until};
use kerbridge_tests::world::{LAB_ISSUER, WorldBuilder};
use kerbridge_wire::feed::{EVER, Entry, RevocationKey};
use serde_json::{Value, json};

/// The part of an issuer's configuration that names its feed.
pub(crate) fn feed(poll: &str, max_staleness: &str) -> Value {
    json!({"jwks": {"poll": "1s", "max_staleness": "1h"},
        "feed": {"cluster": "id", "path": FEED, "poll": poll, "max_staleness": max_staleness}})
}

pub(crate) fn start(builder: WorldBuilder) -> World {
    let world = builder.start().unwrap();
    wait_until("keys in all VMs", Duration::from_secs(10), || {
        let taken = world.stat("wasmcustom.kerbridge.key_sets_taken.issuer.id");
        taken.is_some_and(|taken| taken >= 3)
    })
    .unwrap();
    world
}

fn world(issuer: &Issuer) -> World {
    start(
        issuer
            .join(World::builder().broker_stopped(), feed("1s", "1h"))
            .concurrency(2),
    )
}

/// Status and reason of a request with this token, on a connection of its own: the workers take turns.
pub(crate) fn ask(world: &World, token: &str) -> (u16, String) {
    let request = Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
    let mut answer = world.send(&request).unwrap();
    // A revocation that arrives in the milliseconds of a request ends it, as any that is open.
    if answer.text().contains("\"request_id\":\"\"") {
        answer = world.send(&request).unwrap();
    }
    if answer.status == 200 {
        return (200, "ok".to_owned());
    }
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    (refusal.status, refusal.reason)
}

/// Whether twenty requests in a row, over both workers, end so.
pub(crate) fn all_end_with(world: &World, token: &str, expected: (u16, &str)) -> bool {
    (0..20).all(|_| {
        let (status, reason) = ask(world, token);
        (status, reason.as_str()) == expected
    })
}

#[test]
fn a_revoked_token_is_refused_by_every_worker_though_it_was_known() {
    let issuer = Issuer::start().unwrap();
    let world = world(&issuer);
    let (one, other) = (
        issuer.token(&json!({"jti": "one"})).unwrap(),
        issuer.token(&json!({"jti": "other"})).unwrap(),
    );
    assert!(all_end_with(&world, &one, (200, "ok")) && all_end_with(&world, &other, (200, "ok")));
    issuer.revoke(&[token_entry("one")]);
    wait_until("the revocation", Duration::from_secs(10), || {
        all_end_with(&world, &one, (401, "revoked"))
    })
    .unwrap();
    assert!(all_end_with(&world, &other, (200, "ok")));
    // It was told what is new, and nothing twice.
    let queries: Vec<String> = issuer.asked(FEED).iter().map(|asked| asked.line.clone()).collect();
    assert!(
        queries.iter().skip(2).all(|line| line.contains("version=")),
        "{queries:?}"
    );
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn a_revocation_names_a_token_a_session_or_a_subject_up_to_a_time() {
    let issuer = Issuer::start().unwrap();
    let time = now();
    issuer.revoke(&[
        token_entry("t"),
        session_entry("s", time - 10),
        subject_entry("bob", time - 10),
    ]);
    issuer.revoke(&[subject_entry("eve", u64::from(EVER))]);
    let world = world(&issuer);
    for (members, expected) in [
        (json!({"jti": "t"}), "revoked"),
        (json!({"jti": "u"}), "ok"),
        (json!({"sid": "s", "iat": time - 10}), "revoked"),
        (json!({"sid": "s", "iat": time - 9}), "ok"),
        (json!({"sub": "bob", "iat": time - 20}), "revoked"),
        (json!({"sub": "bob", "iat": time}), "ok"),
        (json!({"sub": "eve", "iat": time}), "revoked"),
        // Another kind of name with the same letters.
        (json!({"sub": "s", "iat": time - 20}), "ok"),
        (json!({"jti": "bob", "iat": time - 20}), "ok"),
    ] {
        let token = issuer.token(&members).unwrap();
        assert_eq!(ask(&world, &token).1, expected, "{members}");
    }
}

#[test]
fn the_first_request_of_a_worker_waits_for_the_revocations_instead_of_failing() {
    let issuer = Issuer::start().unwrap();
    issuer.revoke(&[token_entry("gone")]);
    for _ in 0..3 {
        let world = world(&issuer);
        let (good, gone) = (
            issuer.token(&json!({})).unwrap(),
            issuer.token(&json!({"jti": "gone"})).unwrap(),
        );
        assert_eq!(ask(&world, &good).0, 200);
        for _ in 0..10 {
            assert_eq!(ask(&world, &gone), (401, "revoked".to_owned()));
            assert_eq!(ask(&world, &good).0, 200);
        }
    }
}

#[test]
fn what_shows_no_credential_waits_for_no_revocations() {
    let issuer = Issuer::start().unwrap();
    // Those of the broker, which is away, never come.
    let world = world(&issuer);
    let token = issuer.token(&json!({})).unwrap();
    let held = |answer: &Value| answer["duration_ms"].as_u64().unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| ask(&world, &token));
        wait_until("the first request", Duration::from_secs(10), || {
            world
                .stat("http.https.downstream_rq_total")
                .is_some_and(|total| total > 0)
        })
        .unwrap();
        for (path, status) in [("/healthz", 200), ("/orders/nobody", 401), ("/nowhere", 403)] {
            assert_eq!(world.curl(path).send().unwrap().status, status);
        }
        assert_eq!(waits.join().unwrap().0, 200);
    });
    let of = |path: &str| {
        let logged = || world.access_lines().into_iter().find(|line| line["path"] == path);
        wait_for("an access-log line", Duration::from_secs(10), logged).unwrap()
    };
    for path in ["/healthz", "/orders/nobody", "/nowhere"] {
        assert!(held(&of(path)) < 900, "{}", of(path));
    }
    assert!(held(&of("/orders/1")) > 900, "{}", of("/orders/1"));
}

#[test]
fn a_ticket_that_comes_while_the_revocations_are_read_is_exchanged_once_and_passes() {
    let issuer = Issuer::start().unwrap();
    let builder = World::builder().record().concurrency(2).filter(|filter| {
        // An answer that reaches nobody would come to light before curl gives up.
        filter["broker"]["timeout"] = json!("3s");
    });
    let world = start(issuer.join(builder, feed("1s", "1h")));
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("alice@LAB.TEST"));
    let exchanges = world.relay().unwrap().recorded();
    let exchanges = exchanges
        .iter()
        .filter(|recorded| target(&recorded.call) == "/oauth2/token");
    assert_eq!(exchanges.count(), 1);
    assert_eq!(world.curl_as("bob", "/orders/1").send().unwrap().status, 200);
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn a_worker_that_begins_after_the_keys_of_published_pages_are_gone_has_the_revocations() {
    let issuer = Issuer::start().unwrap();
    issuer.revoke(&[token_entry("gone")]);
    let world = start(
        issuer
            .join(World::builder().broker_stopped(), feed("1s", "1h"))
            .concurrency(2),
    );
    let polls = || issuer.asked(FEED).len();
    wait_until("published pages", Duration::from_secs(10), || polls() > 2).unwrap();
    issuer.publish_key().unwrap();
    issuer.sign_with_newest();
    issuer.retire_old_keys();
    wait_until("the new keys in three VMs", Duration::from_secs(10), || {
        let taken = world.stat("wasmcustom.kerbridge.key_sets_taken.issuer.id");
        taken.is_some_and(|taken| taken >= 6)
    })
    .unwrap();
    // Nobody has asked for anything yet: now both workers read what is published.
    let (good, gone) = (
        issuer.token(&json!({})).unwrap(),
        issuer.token(&json!({"jti": "gone"})).unwrap(),
    );
    wait_until("the revocations in both workers", Duration::from_secs(10), || {
        all_end_with(&world, &gone, (401, "revoked")) && all_end_with(&world, &good, (200, "ok"))
    })
    .unwrap();
    // And the feed goes on.
    issuer.revoke(&[token_entry("later")]);
    let later = issuer.token(&json!({"jti": "later"})).unwrap();
    wait_until("one more", Duration::from_secs(10), || {
        all_end_with(&world, &later, (401, "revoked"))
    })
    .unwrap();
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn without_a_fresh_feed_its_issuers_tokens_are_503_and_others_pass() {
    let issuer = Issuer::start().unwrap();
    let builder = World::builder().broker_stopped().lab_issuer().concurrency(2);
    let world = start(issuer.join(builder, feed("1s", "3s")));
    let token = issuer.token(&json!({})).unwrap();
    let lab = world.lab_key().unwrap();
    let others = lab
        .sign(&lab.header(), &claims(LAB_ISSUER, "carol", "orders", "orders:read"))
        .unwrap();
    assert!(all_end_with(&world, &token, (200, "ok")));
    issuer.go_away(true);
    assert!(
        all_end_with(&world, &token, (200, "ok")),
        "the last good page is fresh enough for a while"
    );
    wait_until("the end of the bound", Duration::from_secs(10), || {
        all_end_with(&world, &token, (503, "feed_stale"))
    })
    .unwrap();
    assert!(
        all_end_with(&world, &others, (200, "ok")),
        "an issuer without a feed is never stale"
    );
    issuer.go_away(false);
    wait_until("a fresh page", Duration::from_secs(10), || {
        all_end_with(&world, &token, (200, "ok"))
    })
    .unwrap();
}

#[test]
fn a_feed_that_is_not_the_issuers_is_no_feed() {
    let issuer = Issuer::start().unwrap();
    issuer.forge_feed(true).unwrap();
    let world = world(&issuer);
    let token = issuer.token(&json!({})).unwrap();
    assert_eq!(ask(&world, &token), (503, "feed_stale".to_owned()));
    issuer.forge_feed(false).unwrap();
    wait_until("a page of the issuer's", Duration::from_secs(10), || {
        all_end_with(&world, &token, (200, "ok"))
    })
    .unwrap();
    // And one that comes later says nothing against what is known.
    issuer.revoke(&[token_entry("one")]);
    let revoked = issuer.token(&json!({"jti": "one"})).unwrap();
    wait_until("the revocation", Duration::from_secs(10), || {
        all_end_with(&world, &revoked, (401, "revoked"))
    })
    .unwrap();
    issuer.forge_feed(true).unwrap();
    issuer.revoke(&[subject_entry("alice", u64::from(EVER))]);
    let polls = issuer.asked(FEED).len();
    wait_until("forged pages", Duration::from_secs(10), || {
        issuer.asked(FEED).len() > polls + 2
    })
    .unwrap();
    assert!(all_end_with(&world, &token, (200, "ok")) && all_end_with(&world, &revoked, (401, "revoked")));
}

#[test]
fn a_new_store_of_the_issuer_begins_anew() {
    let issuer = Issuer::start().unwrap();
    issuer.revoke(&[token_entry("one")]);
    issuer.revoke(&[token_entry("two")]);
    let world = world(&issuer);
    let token = |id: &str| issuer.token(&json!({"jti": id})).unwrap();
    assert_eq!(ask(&world, &token("two")).1, "revoked");
    issuer.forget_all(8);
    issuer.revoke(&[token_entry("three")]);
    wait_until("the other store's revocations", Duration::from_secs(10), || {
        all_end_with(&world, &token("three"), (401, "revoked")) && all_end_with(&world, &token("two"), (200, "ok"))
    })
    .unwrap();
}

#[test]
fn a_large_feed_of_several_pages_is_read_while_requests_are_served() {
    let issuer = Issuer::start().unwrap();
    let entries: Vec<Entry> = (0..150_000)
        .map(|number| {
            Entry::new(
                RevocationKey::token(kerbridge_tests::issuer::ISSUER, &format!("t{number}")),
                now() + 3600,
                None,
            )
        })
        .collect();
    issuer.revoke(&entries);
    let world = world(&issuer);
    // The first request makes its worker read; one that needs no revocations is not held by that for long.
    for id in ["t0", "t70000", "t149999"] {
        let token = issuer.token(&json!({"jti": id})).unwrap();
        wait_until("the table", Duration::from_secs(20), || {
            all_end_with(&world, &token, (401, "revoked"))
        })
        .unwrap();
    }
    let good = issuer.token(&json!({"jti": "t150000"})).unwrap();
    assert!(all_end_with(&world, &good, (200, "ok")));
    // Four pages, each fetched once by one VM, and then what is new.
    let lines: Vec<String> = issuer.asked(FEED).into_iter().map(|asked| asked.line).collect();
    for page in 1..4 {
        let asked = lines
            .iter()
            .filter(|line| line.contains(&format!("&page={page}&at=")))
            .count();
        assert!((1..=2).contains(&asked), "page {page}: {lines:?}");
    }
    issuer.revoke(&[token_entry("t150000")]);
    wait_until("one more", Duration::from_secs(10), || {
        all_end_with(&world, &good, (401, "revoked"))
    })
    .unwrap();
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn only_vms_that_serve_keep_a_table() {
    let issuer = Issuer::start().unwrap();
    issuer.revoke(&[token_entry("one")]);
    let builder = issuer.join(World::builder().broker_stopped(), feed("1s", "1h"));
    let world = builder.concurrency(2).start().unwrap();
    let polls = || issuer.asked(FEED).len();
    wait_until("some polls", Duration::from_secs(10), || polls() > 3).unwrap();
    let tables = || world.stat("wasmcustom.kerbridge.revocation_tables_taken.issuer.id");
    assert_eq!(tables(), None, "nobody asked for anything yet");
    let token = issuer.token(&json!({})).unwrap();
    let mut connection = world.connect().unwrap();
    let request = Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    // The one worker that serves this connection, not the other one, not the main thread, whoever polls.
    let then = polls();
    wait_until("two more polls", Duration::from_secs(10), || polls() > then + 2).unwrap();
    assert_eq!(tables(), Some(1));
    issuer.revoke(&[token_entry("two")]);
    wait_until("the delta", Duration::from_secs(10), || tables() == Some(2)).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
}

#[test]
fn inline_pages_start_a_worker_while_the_feed_is_away() {
    use base64::Engine as _;
    let issuer = Issuer::start().unwrap();
    issuer.revoke(&[token_entry("one")]);
    let world = world(&issuer);
    let revoked = issuer.token(&json!({"jti": "one"})).unwrap();
    assert_eq!(ask(&world, &revoked).1, "revoked");
    let page = kerbridge_tests::http::get(issuer.port(), FEED).unwrap().body;
    let keys = kerbridge_tests::http::get(issuer.port(), kerbridge_tests::issuer::KEYS)
        .unwrap()
        .text();
    drop(world);
    issuer.go_away(true);
    let mut inline = feed("1s", "1h");
    inline["jwks"]["inline"] = json!(keys);
    inline["feed"]["inline"] = json!([base64::engine::general_purpose::STANDARD.encode(page)]);
    let world = issuer.join(World::builder().broker_stopped(), inline).start().unwrap();
    let good = issuer.token(&json!({})).unwrap();
    assert_eq!(ask(&world, &good).0, 200);
    assert_eq!(ask(&world, &revoked).1, "revoked");
}
