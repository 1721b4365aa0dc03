//! Shared data: what compare and swap promises, across workers and a VM that was reloaded.

use std::collections::BTreeSet;
use std::time::Duration;

use kerbridge_tests::envoy::Envoy;
use kerbridge_tests::http::Request;
use kerbridge_tests::wait::wait_until;
use serde_json::json;

use crate::bootstrap::{Bootstrap, ask, direct, probe, said, scripted};

fn threads(envoy: &Envoy, from: usize) -> BTreeSet<u32> {
    said(envoy).into_iter().skip(from).map(|line| line.thread).collect()
}

#[test]
fn compare_and_swap_compares_only_where_there_is_a_value_and_zero_never_compares() {
    let envoy = scripted().start();
    let script = "shared k; share k a 7; shared k; share k b 99; share k c 1; share k d 1; share k e 0; shared k; \
        share other x 0; shared other; answer";
    let expected = [
        "shared k -> none cas=None",
        "share k -> 0", // absent: created, whatever the number
        "shared k -> \"a\" cas=Some(1)",
        "share k -> 8", // another number: CasMismatch
        "share k -> 0",
        "share k -> 8", // a number once used is stale
        "share k -> 0", // zero: written without a comparison
        "shared k -> \"e\" cas=Some(3)",
        "share other -> 0",
        "shared other -> \"x\" cas=Some(4)", // one row of numbers for all keys
    ];
    assert_eq!(ask(&envoy, script).text().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn no_increment_of_three_racing_vms_is_lost() {
    let config = "period=1\nconfigure=share n 0 0\ntick=bump n 5000; bump n 5000; bump n 5000; bump n 5000; bump n 5000\n\
        headers=shared n; answer";
    let envoy = Bootstrap::default()
        .listener("front", &[probe(config)], &direct(418), &json!({}))
        .start_with(2);
    let shown = || envoy.send("front", &Request::get("/")).unwrap().text();
    wait_until("five thousand increments", Duration::from_secs(30), || {
        shown().contains("\"5000\"")
    })
    .unwrap();
    // A VM that is configured late starts the count again: what was won before is won twice.
    let won = envoy.stat("wasmcustom.probe_bump_won").unwrap();
    assert!((5000..5100).contains(&won), "{won} increments were said to be done");
}

#[test]
fn the_main_thread_and_every_worker_tick() {
    let config = "period=20\ntick=ticks";
    let mut envoy = Bootstrap::default()
        .listener("front", &[probe(config)], &direct(418), &json!({}))
        .start_with(2);
    wait_until("ticks of three threads", Duration::from_secs(10), || {
        threads(&envoy, 0).len() == 3
    })
    .unwrap();
    let main = envoy.process().pid();
    assert!(threads(&envoy, 0).contains(&main));
    let first_of_main = said(&envoy)
        .iter()
        .filter(|line| line.thread == main && line.text == "tick ticks=1")
        .count();
    assert_eq!(
        first_of_main, 1,
        "the base VM, which lives on the main thread too, does not tick"
    );
}

#[test]
fn after_a_trap_shared_data_is_there_and_the_vm_ticks_only_after_its_next_request() {
    let front = probe("period=20\ntick=ticks");
    let mut envoy = Bootstrap::default()
        .listener("front", &[front], &direct(418), &json!({}))
        .start();
    let main = envoy.process().pid();
    let ticks = |envoy: &Envoy, thread: &dyn Fn(u32) -> bool, from: usize| {
        said(envoy)
            .iter()
            .skip(from)
            .filter(|line| thread(line.thread) && line.text.starts_with("tick"))
            .count()
    };
    let worker = |thread: u32| thread != main;
    assert!(ask(&envoy, "share k survivor 0; answer").text().ends_with("-> 0\n"));
    // Old enough that Envoy reloads it at once: younger ones wait for the back-off.
    wait_until("an old VM", Duration::from_secs(20), || ticks(&envoy, &worker, 0) > 150).unwrap();
    assert_eq!(ask(&envoy, "panic").status, 503);
    let from = said(&envoy).len();
    wait_until("main thread's ticks", Duration::from_secs(10), || {
        ticks(&envoy, &|t| t == main, from) > 50
    })
    .unwrap();
    assert_eq!(ticks(&envoy, &worker, from), 0);
    assert_eq!(
        ask(&envoy, "shared k; answer").text(),
        "shared k -> \"survivor\" cas=Some(1)\n"
    );
    wait_until("the worker's ticks", Duration::from_secs(10), || {
        ticks(&envoy, &worker, from) > 0
    })
    .unwrap();
}
