//! The broker is stopped, frozen, killed, late or not configured: tokens pass, tickets get 503, nothing opens.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::broker::Broker;
use kerbridge_tests::curl::Answer;
use kerbridge_tests::shipped::ISSUER;
use kerbridge_tests::token::{LabKey, claims};
use kerbridge_tests::wait::{Deadline, wait_until};
use serde_json::{Value, json};

/// A refusal that is our fault: 503, to be tried again.
fn assert_ours(world: &World, answer: &Answer, reason: &str) {
    assert_eq!(world.reason(answer).unwrap(), (503, reason.to_owned()));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(answer.all("www-authenticate"), Vec::<&str>::new());
}

#[test]
fn without_the_broker_a_token_passes_and_a_ticket_gets_503_with_retry_after() {
    let mut world = World::start().unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    world.broker().stop().unwrap();
    let arrived = world.upstream().requests().len();
    for http2 in [false, true] {
        let mut ticket = world.curl_as("alice", "/orders/1");
        if http2 {
            ticket = ticket.http2();
        }
        assert_ours(&world, &ticket.send().unwrap(), "broker_unavailable");
    }
    assert_eq!(world.upstream().requests().len(), arrived);
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    // What is the client's fault stays the client's fault.
    let anonymous = world.curl("/orders/1").send().unwrap();
    assert_eq!(world.reason(&anonymous).unwrap(), (401, "no_credentials".to_owned()));

    world.broker().start().unwrap();
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
}

#[test]
fn a_killed_broker_comes_back_with_its_keys() {
    let mut world = World::start().unwrap();
    let before = world.token("alice", "/orders/1").unwrap();
    world.broker().kill().unwrap();
    world.broker().start().unwrap();
    let after = world.token("alice", "/orders/1").unwrap();
    for token in [&before, &after] {
        assert_eq!(world.curl("/orders/1").bearer(token).send().unwrap().status, 200);
    }
    world.restart_envoy(|_| Ok(())).unwrap();
    wait_until("keys", Duration::from_secs(10), || {
        world.curl("/orders/1").bearer(&before).send().unwrap().status == 200
    })
    .unwrap();
}

#[test]
fn a_frozen_broker_costs_a_ticket_two_seconds_and_a_token_nothing() {
    let mut world = World::start().unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    world.broker().freeze().unwrap();
    let arrived = world.upstream().requests().len();
    let waited = Deadline::after(Duration::from_secs(10));
    assert_ours(
        &world,
        &world.curl_as("alice", "/orders/1").send().unwrap(),
        "broker_unavailable",
    );
    let elapsed = waited.elapsed();
    assert!((1900..4000).contains(&elapsed.as_millis()), "{elapsed:?}");
    assert_eq!(world.upstream().requests().len(), arrived);
    let waited = Deadline::after(Duration::from_secs(10));
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    assert!(waited.elapsed() < Duration::from_secs(1), "{:?}", waited.elapsed());
    world.broker().thaw().unwrap();
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
}

#[test]
fn a_missing_broker_cluster_is_503_for_tickets_only() {
    let world = World::builder()
        .filter(|filter| filter["broker"]["cluster"] = json!("nowhere"))
        .lab_issuer()
        .start()
        .unwrap();
    assert_ours(
        &world,
        &world.curl_as("alice", "/orders/1").send().unwrap(),
        "broker_unavailable",
    );
    let key = world.lab_key().unwrap();
    let claims = claims(
        kerbridge_tests::world::LAB_ISSUER,
        "carol@LAB.TEST",
        "orders",
        "orders:read",
    );
    let token = key.sign(&key.header(), &claims).unwrap();
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    assert_eq!(world.upstream().requests().len(), 1);
}

#[test]
fn before_the_first_keys_everything_protected_is_503_and_then_all_is_well() {
    let mut world = World::builder().broker_stopped().start().unwrap();
    let key = LabKey::generate().unwrap();
    let claims = claims(ISSUER, "alice@LAB.TEST", "orders", "orders:read");
    let unknown = key.sign(&key.header(), &claims).unwrap();
    let token = |world: &World| world.curl("/orders/1").bearer(&unknown).send().unwrap();
    assert_ours(&world, &token(&world), "keys_unavailable");
    assert_ours(
        &world,
        &world.curl_as("alice", "/orders/1").send().unwrap(),
        "keys_unavailable",
    );
    assert_eq!(world.upstream().requests().len(), 0);
    assert_eq!(world.curl("/healthz").send().unwrap().status, 200);

    world.broker().start().unwrap();
    wait_until("a ticket that passes", Duration::from_secs(5), || {
        world.curl_as("alice", "/orders/1").send().unwrap().status == 200
    })
    .unwrap();
    let refused = token(&world);
    assert_eq!(world.reason(&refused).unwrap(), (401, "unknown_key".to_owned()));
}

/// What `policy render --inline-keys` puts into the filter's configuration.
fn inline(world: &mut World) -> (Value, Value) {
    let broker = world.broker();
    let config = broker.config();
    let arguments = ["policy", "render", "--inline-keys", "--format", "json", "--config"];
    let all = [&arguments[..], &[config.to_str().unwrap()]].concat();
    let (status, printed) = Broker::run(config.parent().unwrap(), &all).unwrap();
    assert!(status.success(), "{printed}");
    let rendered: Value = serde_json::from_str(&printed).unwrap();
    let own = &rendered["issuers"][0];
    (own["jwks"]["inline"].clone(), own["feed"]["inline"].clone())
}

#[test]
fn a_fresh_envoy_starts_from_inline_keys_and_revocations_while_the_broker_is_away() {
    let mut world = World::start().unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    let revoked = world.token("bob", "/orders/1").unwrap();
    let claims: Value = kerbridge_tests::token::decode(&revoked).unwrap().claims;
    let jti = claims["jti"].as_str().unwrap();
    world.broker().revoke(&["--jti", jti]).unwrap();
    // From the broker, and from its store.
    for runs in [true, false] {
        if !runs {
            world.broker().stop().unwrap();
        }
        let (keys, feed) = inline(&mut world);
        if runs {
            world.broker().stop().unwrap();
        }
        world
            .restart_envoy(|yaml| {
                yaml.edit_filter_configuration(|filter| {
                    let own = &mut filter["issuers"][0];
                    (own["jwks"]["inline"], own["feed"]["inline"]) = (keys, feed);
                })
            })
            .unwrap();
        assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
        let refused = world.curl("/orders/1").bearer(&revoked).send().unwrap();
        assert_eq!(world.reason(&refused).unwrap(), (401, "revoked".to_owned()), "{runs}");
        assert_ours(
            &world,
            &world.curl_as("alice", "/orders/1").send().unwrap(),
            "broker_unavailable",
        );
        if runs {
            world.broker().start().unwrap();
        }
    }

    world
        .restart_envoy(|yaml| {
            yaml.edit_filter_configuration(|filter| filter["issuers"][0]["jwks"]["inline"] = Value::Null)
        })
        .unwrap();
    assert_ours(
        &world,
        &world.curl("/orders/1").bearer(&token).send().unwrap(),
        "keys_unavailable",
    );
}

#[test]
fn keys_older_than_the_bound_are_no_longer_trusted_until_the_broker_is_back() {
    let mut world = World::builder()
        .filter(|filter| {
            filter["issuers"][0]["jwks"]["poll"] = json!("1s");
            filter["issuers"][0]["jwks"]["max_staleness"] = json!("3s");
        })
        .start()
        .unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    let status = |world: &World| world.curl("/orders/1").bearer(&token).send().unwrap().status;
    world.broker().stop().unwrap();
    assert_eq!(status(&world), 200);
    wait_until("the end of the bound", Duration::from_secs(10), || {
        status(&world) == 503
    })
    .unwrap();
    let answer = world.curl("/orders/1").bearer(&token).send().unwrap();
    assert_ours(&world, &answer, "keys_unavailable");
    world.broker().start().unwrap();
    wait_until("fresh keys", Duration::from_secs(10), || status(&world) == 200).unwrap();
}
