//! One VM of an Envoy process fetches keys for all; a key that nobody knows is looked for once; a rotation costs nobody a
//! request.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::issuer::{ISSUER, Issuer, KEYS};
use kerbridge_tests::shipped;
use kerbridge_tests::token::{self, LabKey, alter_claims, claims, unsigned, with};
use kerbridge_tests::wait::{Clock, Deadline, wait_until};
use serde_json::{Value, json};

/// A world of two workers in which the test is an issuer, whose keys are fetched each `poll`.
fn world(issuer: &Issuer, poll: &str) -> World {
    let jwks = json!({"jwks": {"poll": poll, "max_staleness": "1h"}});
    let builder = issuer.join(World::builder().broker_stopped(), jwks).concurrency(2);
    let world = builder.start().unwrap();
    let taken = "wasmcustom.kerbridge.key_sets_taken.issuer.id";
    wait_until(
        "keys in both workers and the main thread",
        Duration::from_secs(10),
        || world.stat(taken).is_some_and(|taken| taken >= 3),
    )
    .unwrap();
    world
}

fn bearer(token: &str) -> Request {
    Request::get("/orders/1").header("authorization", format!("Bearer {token}"))
}

#[test]
fn one_vm_polls_for_the_whole_process() {
    let issuer = Issuer::start().unwrap();
    let world = world(&issuer, "1s");
    let (before, began) = (issuer.asked(KEYS).len(), Deadline::after(Duration::from_secs(60)));
    let polls = || issuer.asked(KEYS).len() - before;
    wait_until("eight polls", Duration::from_secs(20), || polls() >= 8).unwrap();
    // Three VMs that poll for themselves would be there in less than three seconds.
    let allowed = began.elapsed().as_secs() + 2;
    assert!(
        u64::try_from(polls()).unwrap() <= allowed,
        "{} in {:?}",
        polls(),
        began.elapsed()
    );
    // What it fetches reaches the others.
    issuer.publish_key().unwrap();
    issuer.sign_with_newest();
    let taken = "wasmcustom.kerbridge.key_sets_taken.issuer.id";
    wait_until("the new set in three VMs", Duration::from_secs(10), || {
        world.stat(taken).is_some_and(|taken| taken >= 6)
    })
    .unwrap();
    for _ in 0..20 {
        let token = issuer.token(&json!({})).unwrap();
        assert_eq!(world.send(&bearer(&token)).unwrap().status, 200);
    }
}

#[test]
fn ten_thousand_random_key_names_cause_at_most_one_fetch_in_thirty_seconds() {
    let issuer = Issuer::start().unwrap();
    let world = world(&issuer, "30m");
    let good = issuer.token(&json!({})).unwrap();
    let before = issuer.asked(KEYS).len();
    let began = Deadline::after(Duration::from_secs(600));
    let stranger = LabKey::generate().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (world, stranger) = (&world, &stranger);
            scope.spawn(move || {
                let mut connection = world.connect().unwrap();
                for number in 0..2500 {
                    let header = with(stranger.header(), "kid", json!(format!("{thread}-{number}")));
                    let token = stranger
                        .sign(&header, &claims(ISSUER, "mallory", "orders", "orders:read"))
                        .unwrap();
                    let answer = connection.exchange(&bearer(&token)).unwrap();
                    assert_eq!(answer.status, 401, "{}", answer.text());
                }
            });
        }
    });
    let fetches = u64::try_from(issuer.asked(KEYS).len() - before).unwrap();
    let allowed = 1 + began.elapsed().as_secs() / 30;
    assert!((1..=allowed).contains(&fetches), "{fetches} in {:?}", began.elapsed());
    let unknown = "wasmcustom.kerbridge.requests.reason.unknown_key.issuer.id";
    assert_eq!(world.stat(unknown), Some(10_000));
    assert_eq!(world.send(&bearer(&good)).unwrap().status, 200);
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn while_an_issuer_is_away_a_token_of_its_new_key_is_503_and_not_called_invalid() {
    let issuer = Issuer::start().unwrap();
    let world = world(&issuer, "1s");
    let old = issuer.token(&json!({})).unwrap();
    issuer.go_away(true);
    issuer.publish_key().unwrap();
    issuer.sign_with_newest();
    let new = issuer.token(&json!({})).unwrap();
    // The first waits for the fetch that fails, the next comes while there is no other.
    for _ in 0..4 {
        let answer = world.send(&bearer(&new)).unwrap();
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!((refusal.status, refusal.reason.as_str()), (503, "keys_unavailable"));
    }
    assert_eq!(world.send(&bearer(&old)).unwrap().status, 200);
    issuer.go_away(false);
    wait_until("the new key", Duration::from_secs(10), || {
        world.send(&bearer(&new)).unwrap().status == 200
    })
    .unwrap();
}

#[test]
fn an_issuer_that_is_back_answers_for_unknown_keys_with_its_next_regular_poll() {
    let issuer = Issuer::start().unwrap();
    let world = world(&issuer, "1s");
    let stranger = LabKey::generate().unwrap();
    let unknown = stranger
        .sign(&stranger.header(), &claims(ISSUER, "mallory", "orders", "orders:read"))
        .unwrap();
    let ask = || {
        let answer = world.send(&bearer(&unknown)).unwrap();
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        (refusal.status, refusal.reason)
    };
    issuer.go_away(true);
    assert_eq!(ask(), (503, "keys_unavailable".to_owned()));
    issuer.go_away(false);
    // Much sooner than the next fetch for the sake of unknown keys.
    wait_until("an answer", Duration::from_secs(10), || {
        ask() == (401, "unknown_key".to_owned())
    })
    .unwrap();
}

/// Stops the clients when it goes.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sends requests on three connections, each with a fresh token, until `stop`; the statuses that were not 200.
fn under_load(world: &World, issuer: &Issuer, work: impl FnOnce()) -> Vec<Value> {
    let stop = AtomicBool::new(false);
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut wrong = Vec::new();
                    let mut connection = world.connect().unwrap();
                    for number in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        let token = issuer.token(&json!({"jti": format!("{number}")})).unwrap();
                        let answer = connection.exchange(&bearer(&token)).unwrap();
                        if answer.status != 200 {
                            wrong.push(json!([answer.status, answer.text()]));
                        }
                    }
                    wrong
                })
            })
            .collect();
        // Also where `work` fails: the clients must not outlive the test.
        let stopping = Stopping(&stop);
        work();
        drop(stopping);
        for client in clients {
            wrong.extend(client.join().unwrap());
        }
    });
    wrong
}

#[test]
fn a_key_that_was_not_announced_costs_nobody_a_request() {
    let issuer = Issuer::start().unwrap();
    let world = world(&issuer, "30m");
    let before = issuer.asked(KEYS).len();
    let arrived = || world.upstream().requests().len();
    let wrong = under_load(&world, &issuer, || {
        wait_until("requests with the old key", Duration::from_secs(10), || arrived() > 100).unwrap();
        issuer.publish_key().unwrap();
        issuer.sign_with_newest();
        let then = arrived();
        wait_until("requests with the new key", Duration::from_secs(10), || {
            arrived() > then + 200
        })
        .unwrap();
    });
    assert!(wrong.is_empty(), "{}: {wrong:?}", wrong.len());
    assert_eq!(issuer.asked(KEYS).len() - before, 1);
}

#[test]
fn keys_that_are_announced_come_and_go_under_load_without_a_refusal() {
    let issuer = Issuer::start().unwrap();
    let world = world(&issuer, "1s");
    let old = issuer.token(&json!({})).unwrap();
    let sets = |at_least: u64| {
        wait_until("the set in three VMs", Duration::from_secs(10), || {
            world
                .stat("wasmcustom.kerbridge.key_sets_taken.issuer.id")
                .is_some_and(|taken| taken >= at_least)
        })
        .unwrap();
    };
    let wrong = under_load(&world, &issuer, || {
        for round in 1..=2 {
            issuer.publish_key().unwrap();
            sets(round * 6);
            issuer.sign_with_newest();
            // Who still holds a token of the old key when it goes is refused, as it should be: here nobody does by then.
            let then = world.upstream().requests().len();
            wait_until("requests with the new key", Duration::from_secs(10), || {
                world.upstream().requests().len() > then + 50
            })
            .unwrap();
            issuer.retire_old_keys();
            sets(round * 6 + 3);
        }
    });
    assert!(wrong.is_empty(), "{}: {wrong:?}", wrong.len());
    let answer = world.send(&bearer(&old)).unwrap();
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    assert_eq!(
        refusal.reason, "unknown_key",
        "a key that was taken back opens nothing, though the token was seen before"
    );
}

/// How long the broker's keys are replaced under load, in seconds: 20, or what this says.
const SECONDS: &str = "KERBRIDGE_ROTATION_SECONDS";
/// So much longer where a machine that has much to do has not made enough requests by then.
const MORE: Duration = Duration::from_secs(120);
/// `limits.deadline` of a broker.
const DEADLINE_MS: u64 = 1_500;

/// Good tokens of a broker, the newest last.
#[derive(Default)]
struct Tokens(Mutex<Vec<String>>);

impl Tokens {
    fn add(&self, token: String) {
        let mut tokens = self.0.lock().unwrap();
        tokens.push(token);
        if tokens.len() > 200 {
            tokens.remove(0);
        }
    }

    /// One that lives long enough for a request.
    fn any(&self, number: usize) -> Option<String> {
        let tokens = self.0.lock().unwrap();
        let living: Vec<&String> = tokens.iter().filter(|token| left(token) > 1).collect();
        (!living.is_empty()).then(|| living[number.checked_rem(living.len()).unwrap()].clone())
    }
}

/// Seconds that a token has left.
fn left(token: &str) -> u64 {
    let ends = token::decode(token).unwrap().claims["exp"].as_u64().unwrap();
    ends.saturating_sub(token::now())
}

/// What looks like this token and is not: other claims under its signature, none, another key under its key's name.
fn forged(token: &str, stranger: &LabKey) -> [String; 3] {
    let original = token::decode(token).unwrap();
    let foreign = stranger.sign(&original.header, &original.claims).unwrap();
    let altered = alter_claims(token, |claims| with(claims, "sub", json!("mallory@LAB.TEST"))).unwrap();
    [altered, unsigned(token).unwrap(), foreign]
}

#[test]
fn the_brokers_keys_are_replaced_every_few_seconds_under_load_and_no_good_token_is_refused_and_no_bad_one_taken() {
    let seconds = std::env::var(SECONDS).map_or(20, |text| text.parse().unwrap());
    let policy = shipped::policy_of_a_minter("localhost", "LAB.TEST").unwrap();
    // Keys overlap for as long as tokens live, and no more than sixty are published.
    let policy = ["15m", "5m"].iter().fold(policy, |policy, ttl| {
        policy.replace(&format!("ttl = {ttl:?}"), "ttl = \"10s\"")
    });
    let mut world = World::builder()
        .policy(&policy)
        .filter(|config| config["issuers"][0]["jwks"]["poll"] = json!("1s"))
        .broker_stopped()
        .concurrency(2)
        .start()
        .unwrap();
    let rotation = "[keys]\nrotate_every = \"5s\"\npublish_lead = \"4s\"\n";
    world.broker().configure("[keys]\n", rotation).unwrap();
    world.broker().start().unwrap();
    let world = world;
    wait_until("a token", Duration::from_secs(20), || {
        world.token("alice", "/orders/1").is_ok()
    })
    .unwrap();
    let (tokens, stranger) = (Tokens::default(), LabKey::generate().unwrap());
    let (stop, passed, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut kids = BTreeSet::new();
    let (mut wrong, began) = (Vec::new(), Deadline::after(Duration::from_secs(seconds)));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3_usize)
            .map(|client| {
                let (world, tokens, stranger, stop) = (&world, &tokens, &stranger, &stop);
                let (passed, refused) = (&passed, &refused);
                scope.spawn(move || {
                    let mut wrong = Vec::new();
                    let mut connection = world.connect().unwrap();
                    for number in client.. {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        let Some(good) = tokens.any(number) else {
                            std::thread::yield_now();
                            continue;
                        };
                        let answer = connection.exchange(&bearer(&good)).unwrap();
                        // A key goes with the last of its tokens: one that has ended before its answer was there was none that is good.
                        if answer.status == 200 {
                            passed.fetch_add(1, Ordering::SeqCst);
                        } else if left(&good) > 0 {
                            wrong.push(json!(["good", answer.status, answer.text()]));
                        }
                        if number % 7 != 0 {
                            continue;
                        }
                        for bad in forged(&good, stranger) {
                            let answer = connection.exchange(&bearer(&bad)).unwrap();
                            if answer.status == 401 {
                                refused.fetch_add(1, Ordering::SeqCst);
                            } else {
                                wrong.push(json!(["bad", answer.status, answer.text()]));
                            }
                        }
                    }
                    wrong
                })
            })
            .collect();
        // Also where minting fails: the clients must not outlive the test.
        let stopping = Stopping(&stop);
        let is_enough = |kids: &BTreeSet<String>| {
            let counts = [&passed, &refused].map(|count| count.load(Ordering::SeqCst));
            // One key each five seconds; a machine that has much to do makes fewer.
            counts[0] > 500 && counts[1] > 100 && kids.len() as u64 >= seconds / 10
        };
        let limit = Deadline::after(Duration::from_secs(seconds) + MORE);
        while !began.passed() || !(is_enough(&kids) || limit.passed()) {
            for user in ["alice", "bob"] {
                let clock = Clock::start();
                let answer = world.curl_as(user, "/orders/1").send().unwrap();
                let Some(token) = answer.header("x-kerbridge-token") else {
                    // Refused is one that waited for as long as a broker may take, and no other.
                    assert!(clock.ms() >= DEADLINE_MS, "{}: {}", answer.status, answer.text());
                    continue;
                };
                kids.insert(token::decode(token).unwrap().header["kid"].to_string());
                tokens.add(token.to_owned());
            }
        }
        drop(stopping);
        for client in clients {
            wrong.extend(client.join().unwrap());
        }
    });
    let (passed, refused) = (passed.into_inner(), refused.into_inner());
    println!("{passed} passed, {refused} refused, {} keys in {seconds} s", kids.len());
    assert!(wrong.is_empty(), "{} of {passed}: {:?}", wrong.len(), wrong.first());
    assert!(passed > 500 && refused > 100, "{passed} {refused}");
    assert!(kids.len() as u64 >= seconds / 10, "{kids:?}");
}

#[test]
fn a_key_that_is_retired_in_an_emergency_opens_nothing_within_a_poll_and_another_signs_at_once() {
    let mut world = World::builder().concurrency(2).start().unwrap();
    let old = world.token("alice", "/orders/1").unwrap();
    let send = |world: &World, token: &str| world.send(&bearer(token)).unwrap().status;
    assert_eq!(send(&world, &old), 200);
    let kid = token::decode(&old).unwrap().header["kid"].as_str().unwrap().to_owned();
    let began = Deadline::after(Duration::from_secs(60));
    let left = world.broker().administer(&["keys", "retire"], &[&kid]).unwrap();
    assert_eq!(left["keys"].as_array().unwrap().len(), 1);
    assert_ne!(left["keys"][0]["kid"], kid.as_str());
    // On connections of their own, so that each worker gets some.
    wait_until("a refusal by each worker", Duration::from_secs(10), || {
        (0..12).all(|_| send(&world, &old) == 401)
    })
    .unwrap();
    println!("refused by each worker after {:?}", began.elapsed());
    let answer = world.send(&bearer(&old)).unwrap();
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    assert_eq!(refusal.reason, "unknown_key");
    let new = world.token("alice", "/orders/1").unwrap();
    assert_eq!(send(&world, &new), 200);
    // And it stays so: a restart does not bring it back.
    world.broker().stop().unwrap();
    world.broker().start().unwrap();
    let listed = world.broker().administer(&["keys", "list"], &[]).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert_eq!((send(&world, &old), send(&world, &new)), (401, 200));
}

#[test]
fn the_broker_goes_over_to_another_algorithm_and_tokens_of_the_one_before_stay_good() {
    let policy = shipped::policy_of_a_minter("localhost", "LAB.TEST").unwrap();
    let settings = "[filter]\nalgorithms = [\"ES256\", \"RS256\", \"EdDSA\"]\n";
    let policy = policy.replace("[filter]\n", settings);
    let mut world = World::builder().policy(&policy).start().unwrap();
    world
        .broker()
        .configure("[keys]\n", "[keys]\nalgorithm = \"ES256\"\npublish_lead = \"6s\"\n")
        .unwrap();
    let mut tokens = vec![world.token("alice", "/orders/1").unwrap()];
    for (before, algorithm) in [("ES256", "RS256"), ("RS256", "EdDSA")] {
        let line = |algorithm: &str| format!("algorithm = {algorithm:?}\n");
        world.broker().configure(&line(before), &line(algorithm)).unwrap();
        world.broker().stop().unwrap();
        world.broker().start().unwrap();
        wait_until(algorithm, Duration::from_secs(60), || {
            let token = world.token("alice", "/orders/1").unwrap();
            let is_there = token::decode(&token).unwrap().header["alg"] == algorithm;
            tokens.push(token);
            is_there
        })
        .unwrap();
        for token in &tokens {
            assert_eq!(world.send(&bearer(token)).unwrap().status, 200);
        }
    }
    let algorithms: BTreeSet<String> = tokens
        .iter()
        .map(|token| token::decode(token).unwrap().header["alg"].to_string())
        .collect();
    assert_eq!(algorithms.len(), 3);
}
