//! What the broker does not take: more than it can work on, and what comes from a source that failed too often.

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::{self, Request};
use kerbridge_tests::port;
use kerbridge_tests::shipped;
use kerbridge_tests::wait::wait_until;
use rustix::fs::{FlockOperation, fcntl_lock};

/// Whether somebody waits for a lock on this file (proc_locks(5)).
fn is_waited_for(inode: u64) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let file = format!(":{inode} ");
    locks.lines().any(|line| line.contains("-> ") && line.contains(&file))
}

#[test]
fn more_than_the_broker_can_queue_is_503_at_once_and_the_next_ticket_passes() {
    let metrics = port::free_tcp().unwrap();
    let table = format!(
        "[limits]\nthreads = 1\nqueue = 1\ndeadline = \"20s\"\n\
         [listen.observe]\ntcp = \"127.0.0.1:{metrics}\"\nclear_text = true"
    );
    let policy = shipped::policy_of_a_minter("localhost", "LAB.TEST").unwrap();
    let mut world = World::builder()
        .policy(&policy.replace("[filter]\n", "[filter]\ntimeout = \"30s\"\n"))
        .broker_table(&table)
        .start()
        .unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    let shows = |line: &str| http::get(metrics, "/metrics").unwrap().text().contains(line);
    // MIT waits for the lock on its replay cache without end, and with it the only thread.
    let replay = world.folder().join("state/replay");
    let held = OpenOptions::new().read(true).write(true).open(replay).unwrap();
    fcntl_lock(&held, FlockOperation::LockExclusive).unwrap();
    let inode = held.metadata().unwrap().ino();
    std::thread::scope(|scope| {
        let world = &world;
        let ask = || world.curl_as("alice", "/orders/1").send().unwrap();
        let first = scope.spawn(ask);
        wait_until("a thread that waits for the lock", Duration::from_secs(15), || {
            is_waited_for(inode)
        })
        .unwrap();
        let second = scope.spawn(ask);
        wait_until("a full queue", Duration::from_secs(15), || {
            shows("kerbridge_accept_queue_depth 1")
        })
        .unwrap();
        let refused = ask();
        assert_eq!(world.reason(&refused).unwrap(), (503, "broker_overloaded".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("5"));
        // Whoever has a token does not notice.
        assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
        fcntl_lock(&held, FlockOperation::Unlock).unwrap();
        for waiting in [first, second] {
            assert_eq!(waiting.join().unwrap().status, 200);
        }
        assert_eq!(ask().status, 200);
    });
    let said = "the queue is full";
    assert!(world.broker().logged(said).contains(said));
}

#[test]
fn a_source_that_failed_too_often_is_429_and_others_are_served() {
    let world = World::builder()
        .broker_table("[limits]\nfailures_per_minute = 3")
        .record()
        .start()
        .unwrap();
    let token = world.token("alice", "/orders/1").unwrap();
    // Well-formed enough for the filter, and no ticket.
    let bad = Request::get("/orders/1").header("authorization", "Negotiate YIIBAAAA");
    for _ in 0..3 {
        let answer = world.send(&bad).unwrap();
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(refusal.reason, "malformed_credentials");
    }
    // A good ticket of that source waits too: which it is cannot be known before the work is done.
    let refused = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (429, "rate_limited".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.header("www-authenticate"), None);
    // A token needs no broker, and another address has not failed.
    assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 200);
    let from_elsewhere = world.curl_as("alice", "/orders/1").arg("--interface").arg("127.0.0.2");
    assert_eq!(from_elsewhere.send().unwrap().status, 200);
}
