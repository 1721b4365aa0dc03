//! Callouts before Envoy serves: at configuration and on the first tick.

use std::time::Duration;

use kerbridge_tests::envoy::{Envoy, find_envoy};
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::wait::wait_until;
use serde_json::json;

use crate::bootstrap::{Bootstrap, direct, probe, said};

/// How often a line was said, on the main thread and on workers.
fn count(envoy: &mut Envoy, text: &str) -> (usize, usize) {
    let main = envoy.process().pid();
    let (on_main, on_workers): (Vec<_>, Vec<_>) = said(envoy)
        .into_iter()
        .filter(|line| line.text == text)
        .partition(|line| line.thread == main);
    (on_main.len(), on_workers.len())
}

#[test]
fn a_callout_at_configuration_is_answered_on_every_thread_but_not_in_the_base_vm() {
    let server = ScriptedServer::tcp(|_, _| Reply::ok("fine")).unwrap();
    let config = "configure=call ok 1000; call missing 1000\nreply=say done";
    let mut envoy = Bootstrap::default()
        .cluster("ok", server.port(), &json!({}))
        .listener("front", &[probe(config)], &direct(418), &json!({}))
        .start_with(2);
    let answer = "reply reply headers=3 body=4 trailers=0 status=\"200\" fine";
    wait_until("three answers", Duration::from_secs(10), || {
        count(&mut envoy, answer) == (1, 2)
    })
    .unwrap();
    // The base VM is the second on the main thread: configured, its callout accepted and dropped.
    assert_eq!(count(&mut envoy, "configure call ok -> Ok"), (2, 2));
    assert_eq!(count(&mut envoy, "configure call missing -> Err(BadArgument)"), (2, 2));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_callout_on_the_first_tick_is_answered_on_every_thread() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let server = ScriptedServer::unix(&socket, |_, _| Reply::ok("fine")).unwrap();
    let config = "period=50\ntick=ticks; call unix 1000\nreply=ticks";
    let mut envoy = Bootstrap::default()
        .unix_cluster("unix", &socket)
        .listener("front", &[probe(config)], &direct(418), &json!({}))
        .start_with(2);
    wait_until("answers to the first ticks", Duration::from_secs(10), || {
        count(&mut envoy, "reply ticks=1") == (1, 2)
    })
    .unwrap();
    assert_eq!(count(&mut envoy, "tick ticks=1"), (1, 2));
    assert!(server.requests().len() >= 3);
}

#[test]
fn validate_mode_configures_the_module_and_refuses_every_callout() {
    let folder = tempfile::tempdir().unwrap();
    let text = Bootstrap::default()
        .cluster("ok", 9, &json!({}))
        .listener(
            "front",
            &[probe("configure=call ok 1000; call missing 1000")],
            &direct(418),
            &json!({}),
        )
        .text();
    let file = folder.path().join("envoy.yaml");
    std::fs::write(&file, text).unwrap();
    let spawn = Spawn::new(find_envoy().unwrap(), folder.path())
        .args(["--mode", "validate", "-c"])
        .arg(&file);
    let mut envoy = OwnedProcess::start(spawn).unwrap();
    assert!(envoy.wait_exit(Duration::from_secs(60)).unwrap().success());
    assert!(
        envoy.log().contains("configure call ok -> Err(BadArgument)"),
        "{}",
        envoy.log_tail()
    );
    assert!(
        envoy.log().contains("configure call missing -> Err(BadArgument)"),
        "{}",
        envoy.log_tail()
    );
}
