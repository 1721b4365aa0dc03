//! A long run of all kinds of requests at once, good ones and bad ones, over HTTP/1.1 and HTTP/2: nobody is ever taken for somebody
//! else, neither Envoy nor the broker grows, and no credential stands in anything that they print.
//!
//! `make test` runs it for 20,000 requests, `make soak` for a million (`SOAK_REQUESTS`).

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a helper that fails in a test ends the test"
)]

mod clients;
mod mix;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::bench::processor::resident_kib;
use kerbridge_tests::shipped;
use kerbridge_tests::wait::{Deadline, wait_until};
use kerbridge_tests::world::REALM;
use serde_json::json;

use crate::mix::{Mix, Tally};

/// Requests of the run that is part of the tests.
const SHORT: usize = 20_000;
/// Clients at once; every second one speaks HTTP/2.
const CLIENTS: usize = 4;
/// Requests of one client before memory is looked at.
const ROUND: usize = 200;
/// How much of the run fills the caches, in percent: 10,000 tokens a worker, a ticket for each user, threads and buffers.
const WARM: usize = 30;
/// How much more either process may hold at the end than when the caches are full, in KiB.
const GROWTH: u64 = 16 * 1024;
/// Looks at memory of which the median is taken.
const LOOKS: usize = 5;

fn requests() -> usize {
    let given = std::env::var("SOAK_REQUESTS").ok();
    given.map_or(SHORT, |given| given.replace('_', "").parse().unwrap())
}

fn world() -> World {
    let policy = shipped::policy("localhost", REALM).unwrap();
    // Both may be acted for, so that they could be mixed up.
    let (before, delegation) = policy.split_once("[[delegation]]").unwrap();
    let alone = format!("principals = [\"alice@{REALM}\"]");
    let both = format!("principals = [\"alice@{REALM}\", \"bob@{REALM}\"]");
    assert!(delegation.contains(&alone));
    let policy = format!("{before}[[delegation]]{}", delegation.replacen(&alone, &both, 1));
    World::builder()
        .policy(&policy)
        .delegating()
        .lab_issuer()
        .concurrency(2)
        .filter(|filter| {
            for route in filter["routes"].as_array_mut().unwrap() {
                if route["audience"] == "orders" {
                    route["accept"] = json!(["negotiate", "bearer", "cookie"]);
                }
            }
        })
        .start()
        .unwrap()
}

fn say(line: &str) {
    // For whoever watches a run of minutes; libtest keeps what is printed.
    writeln!(std::io::stderr(), "{line}").unwrap_or(());
}

/// What both hold, in KiB.
#[derive(Clone, Copy, Debug)]
struct Held {
    requests: usize,
    envoy: u64,
    broker: u64,
}

fn median(looks: &[Held], of: impl Fn(&Held) -> u64) -> u64 {
    let mut values: Vec<u64> = looks.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
fn in_a_long_mixed_run_nobody_is_crossed_and_nothing_grows() {
    let requests = requests();
    let mut world = world();
    let (envoy, broker) = (world.envoy().process().pid(), world.broker().pid().unwrap());
    let mix = Mix::new(&mut world);
    wait_until("the revocations at both workers", Duration::from_secs(20), || {
        (0..20).all(|_| mix.revoked_is_refused(&world))
    })
    .unwrap();

    let (done, running) = (AtomicUsize::new(0), AtomicUsize::new(CLIENTS));
    let (mut looks, mut tally) = (Vec::new(), Tally::default());
    let clock = Deadline::after(Duration::ZERO);
    let shared = &world;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (mix, done, running) = (&mix, &done, &running);
                scope.spawn(move || {
                    let ends = clients::Ends(running);
                    let told = clients::run(shared, mix, number, requests / CLIENTS, ROUND, done);
                    drop(ends);
                    told
                })
            })
            .collect();
        // A look for each hundredth of the run, and not more than one in the time of a round.
        let mut next = 0;
        while running.load(Ordering::SeqCst) > 0 {
            let now = done.load(Ordering::SeqCst);
            if now >= next {
                next = now + (requests / 100).max(ROUND);
                shared.upstream().forget();
                let look = Held {
                    requests: now,
                    envoy: resident_kib(envoy).unwrap(),
                    broker: resident_kib(broker).unwrap(),
                };
                looks.push(look);
                if looks.len() % 10 == 1 {
                    say(&format!("{look:?} after {:.0?}", clock.elapsed()));
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for client in clients {
            tally.add(&client.join().unwrap());
        }
    });
    say(&format!("{requests} requests in {:.0?}: {tally}", clock.elapsed()));

    assert_eq!(tally.total(), requests / CLIENTS * CLIENTS);
    tally.has_all_kinds();
    let warm: Vec<Held> = looks
        .iter()
        .filter(|look| look.requests >= requests * WARM / 100)
        .take(LOOKS)
        .copied()
        .collect();
    let last = &looks[looks.len().saturating_sub(LOOKS)..];
    for (name, of) in [
        ("Envoy", (|held: &Held| held.envoy) as fn(&Held) -> u64),
        ("the broker", |held| held.broker),
    ] {
        let (then, now) = (median(&warm, of), median(last, of));
        say(&format!("{name}: {then} KiB when warm, {now} KiB at the end"));
        assert!(now <= then + GROWTH, "{name} grew from {then} KiB to {now} KiB");
    }
    assert_eq!(world.reloads(), Some(0));
    // What both printed is searched for credentials as they end.
    world.envoy().stop().unwrap();
    world.broker().stop().unwrap();
}
