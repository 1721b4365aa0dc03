//! The broker signs in a PKCS#11 token, which SoftHSM plays: keys are made there, stay there, and are destroyed there.

mod token;

use std::fs;
use std::time::Duration;

use kerbridge_tests::http::Request;
use kerbridge_tests::token::decode;
use kerbridge_tests::wait::{Deadline, wait_until};
use kerbridge_tests::world::WorldBuilder;
use kerbridge_tests::{World, shipped};
use serde_json::Value;

use self::token::Token;

/// A lab whose broker signs in this token, with keys in the filter.
fn signing_in(hsm: &Token, world: WorldBuilder, algorithm: &str) -> World {
    let mut world = world.broker_table(&hsm.table()).broker_stopped().start().unwrap();
    world
        .broker()
        .configure("[keys]\n", &format!("[keys]\nalgorithm = {algorithm:?}\n"))
        .unwrap();
    world.broker().start_through(&["env", &hsm.environment()]);
    world.broker().start().unwrap();
    wait_until("keys in the filter", Duration::from_secs(20), || {
        world.token("alice", "/orders/1").is_ok()
    })
    .unwrap();
    world
}

#[test]
fn tokens_that_are_signed_in_a_pkcs11_token_pass_and_its_keys_are_replaced_and_destroyed() {
    let hsm = Token::new();
    let mut world = signing_in(&hsm, World::builder(), "ES256");
    let passes = |world: &World, token: &str| {
        let answer = world.curl("/orders/1").bearer(token).send().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let first = world.token("alice", "/orders/1").unwrap();
    passes(&world, &first);
    let listed = world.broker().administer(&["keys", "list"], &[]).unwrap();
    assert_eq!(listed["keys"][0]["in_hardware"], true, "{listed}");
    assert_eq!(listed["keys"][0]["kid"], decode(&first).unwrap().header["kid"]);
    assert_eq!(hsm.objects(), 2);
    // After a restart it is the same key.
    world.broker().stop().unwrap();
    world.broker().start().unwrap();
    passes(&world, &world.token("alice", "/orders/1").unwrap());
    assert_eq!(
        world.broker().administer(&["keys", "list"], &[]).unwrap()["keys"][0],
        listed["keys"][0]
    );
    // Another takes its place; a token of each is good.
    let switched = world.broker().administer(&["keys", "rotate"], &["--now"]).unwrap();
    let second = world.token("alice", "/orders/1").unwrap();
    assert_eq!(switched["keys"][0]["kid"], decode(&second).unwrap().header["kid"]);
    passes(&world, &second);
    passes(&world, &first);
    assert_eq!(hsm.objects(), 4);
    // What is retired is gone from the token, too.
    let old: &Value = &switched["keys"][1]["kid"];
    world
        .broker()
        .administer(&["keys", "retire"], &[old.as_str().unwrap()])
        .unwrap();
    assert_eq!(hsm.objects(), 2);
    // Without the token the broker does not start, and says why.
    world.broker().stop().unwrap();
    hsm.remove();
    let complaint = world.broker().start().unwrap_err().to_string();
    assert!(complaint.contains("keyring.json: "), "{complaint}");
}

#[test]
fn rsa_keys_of_a_pkcs11_token_sign_too() {
    let hsm = Token::new();
    let policy = shipped::policy_of_a_minter("localhost", "LAB.TEST").unwrap();
    let policy = policy.replace("[filter]\n", "[filter]\nalgorithms = [\"RS256\"]\n");
    let mut world = signing_in(&hsm, World::builder().policy(&policy), "RS256");
    let token = world.token("alice", "/orders/1").unwrap();
    assert_eq!(decode(&token).unwrap().header["alg"], "RS256");
    assert_eq!(decode(&token).unwrap().signature_bytes, 256);
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    let listed = world.broker().administer(&["keys", "list"], &[]).unwrap();
    assert_eq!(listed["keys"][0]["in_hardware"], true, "{listed}");
}

#[test]
fn a_token_that_hangs_costs_tickets_a_503_in_time_and_nothing_else_and_the_broker_still_ends() {
    let hsm = Token::new();
    let mut world = signing_in(&hsm, World::builder(), "ES256");
    let token = world.token("alice", "/orders/1").unwrap();
    let held = hsm.hang();
    // More at once than the broker has threads for requests.
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let began = Deadline::after(Duration::from_secs(60));
                let answer = world.curl_as("alice", "/orders/1").send().unwrap();
                assert_eq!(world.reason(&answer).unwrap(), (503, "broker_overloaded".to_owned()));
                assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            });
        }
    });
    // What needs no signature goes on.
    for path in ["/healthz", "/readyz", "/.well-known/jwks.json"] {
        assert_eq!(world.broker().ask(&Request::get(path)).unwrap().status, 200, "{path}");
    }
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    let listed = world.broker().administer(&["keys", "list"], &[]).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    // A page of the feed does: filters go on with the last one for `max_staleness`.
    assert_eq!(
        world.broker().ask(&Request::get("/v1/revocations")).unwrap().status,
        503
    );
    drop(held);
    wait_until("a token for a ticket", Duration::from_secs(20), || {
        world.curl_as("alice", "/orders/1").send().unwrap().status == 200
    })
    .unwrap();
    assert_eq!(
        world.broker().ask(&Request::get("/v1/revocations")).unwrap().status,
        200
    );
    let held = hsm.hang();
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 503);
    world.broker().stop().unwrap();
    drop(held);
}

#[test]
fn a_pin_that_was_changed_at_the_token_is_tried_once_and_not_with_each_signature() {
    let hsm = Token::misbehaving();
    let mut world = signing_in(&hsm, World::builder(), "ES256");
    // Where there are no keys yet, the token is opened as the configuration is read, and once more to make them.
    assert_eq!(hsm.log_ins(), 2);
    // Whoever changes the PIN does not end the sessions that there are.
    hsm.misbehave("pin-changed");
    world.token("alice", "/orders/1").unwrap();
    hsm.misbehave("session-lost");
    for _ in 0..6 {
        let answer = world.curl_as("alice", "/orders/1").send().unwrap();
        assert_eq!(world.reason(&answer).unwrap(), (503, "internal".to_owned()));
    }
    world.broker().administer(&["keys", "rotate"], &["--now"]).unwrap_err();
    assert_eq!(hsm.log_ins(), 3);
    let said = "which is not tried again until a restart";
    assert!(world.broker().logged(said).contains(said));
    // With the right PIN, after a restart.
    world.broker().stop().unwrap();
    hsm.behave("pin-changed");
    world.broker().start().unwrap();
    world.token("alice", "/orders/1").unwrap();
    // A session that is lost is opened anew.
    hsm.misbehave("session-lost");
    world.token("alice", "/orders/1").unwrap();
    assert!(!hsm.misbehaves("session-lost"));
}

#[test]
fn what_fails_on_the_way_to_a_key_leaves_none_in_the_token() {
    let hsm = Token::misbehaving();
    let mut world = signing_in(&hsm, World::builder(), "ES256");
    let rotate = |world: &mut World| world.broker().administer(&["keys", "rotate"], &[]);
    // The disk: something stands where the file is written.
    let in_the_way = world.broker().folder().join("state/keyring.json.tmp");
    fs::create_dir(&in_the_way).unwrap();
    for _ in 0..3 {
        rotate(&mut world).unwrap_err();
        assert_eq!(hsm.objects(), 4);
    }
    fs::remove_dir(&in_the_way).unwrap();
    let published = rotate(&mut world).unwrap();
    assert_eq!((published["keys"].as_array().unwrap().len(), hsm.objects()), (2, 4));
    // The device, which has made it all the same.
    world.broker().administer(&["keys", "rotate"], &["--now"]).unwrap();
    hsm.misbehave("made-and-failed");
    rotate(&mut world).unwrap();
    assert!(!hsm.misbehaves("made-and-failed"));
    assert_eq!(hsm.objects(), 6);
}

#[test]
fn a_private_key_that_is_not_the_public_keys_is_no_key() {
    let hsm = Token::misbehaving();
    let mut world = signing_in(&hsm, World::builder(), "ES256");
    hsm.misbehave("another-key");
    world.broker().administer(&["keys", "rotate"], &["--now"]).unwrap_err();
    world.broker().stop().unwrap();
    let complaint = world.broker().start().unwrap_err().to_string();
    assert!(complaint.contains("does not verify with its public key"), "{complaint}");
    hsm.behave("another-key");
    world.broker().start().unwrap();
    world.token("alice", "/orders/1").unwrap();
}
