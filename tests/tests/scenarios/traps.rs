//! The module traps while exchanges wait in it: each is ended by the listener's time-outs, and the next ticket passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::scripted_server::Reply;
use kerbridge_tests::shipped::{TRAP_HEADER, module_that_traps};
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::{Deadline, wait_until};
use kerbridge_tests::world::SERVICE;
use serde_json::json;

/// What the two time-outs of 30 s in the shipped file are here. Three requests and the trap must fit in.
const LIMIT: Duration = Duration::from_secs(5);

/// Counts the exchanges that wait for a broker that does not answer; once it is no longer silent, the real one does.
#[derive(Default)]
struct Broker {
    asked: AtomicUsize,
    answers: AtomicBool,
}

/// The shipped configuration with the module that can trap, its time-outs shortened.
fn world(broker: &Arc<Broker>) -> World {
    let broker = Arc::clone(broker);
    World::builder()
        .intercept(move |call| {
            if target(call) != "/oauth2/token" || broker.answers.load(Ordering::SeqCst) {
                return None;
            }
            broker.asked.fetch_add(1, Ordering::SeqCst);
            Some(Reply::Never)
        })
        // So that nothing but the listener can end those that wait.
        .filter(|filter| filter["broker"]["timeout"] = json!("20s"))
        .yaml(|yaml| {
            yaml.set_module(&module_that_traps()?)?;
            for limit in ["request_timeout", "stream_idle_timeout"] {
                yaml.replace(&format!("{limit}: 30s"), &format!("{limit}: {}s", LIMIT.as_secs()))?;
            }
            Ok(())
        })
        .start()
        .unwrap()
}

#[test]
fn exchanges_that_wait_when_the_module_traps_are_503_within_the_listeners_limits_and_the_next_ticket_passes() {
    let broker = Arc::new(Broker::default());
    let world = world(&broker);
    let mut requests = vec![
        (Request::get("/orders/1"), "alice"),
        (Request::post("/orders/2", "a body"), "bob"),
        (Request::get("/reports/3"), "alice"),
    ];
    for (request, user) in &mut requests {
        let ticket = world.negotiate_token(user, SERVICE).unwrap();
        *request = request
            .clone()
            .host("localhost")
            .header("authorization", format!("Negotiate {ticket}"));
    }
    let mut waiting = Vec::new();
    for (request, _) in &requests {
        let mut connection = world.connect().unwrap();
        connection.send_raw(&request.encode()).unwrap();
        waiting.push(connection);
    }
    wait_until("three exchanges that wait", Duration::from_secs(10), || {
        broker.asked.load(Ordering::SeqCst) == 3
    })
    .unwrap();

    let trapped = Deadline::after(LIMIT * 2);
    let trap = world
        .curl("/healthz")
        .header(&format!("{TRAP_HEADER}: 1"))
        .send()
        .unwrap();
    assert_eq!(trap.status, 503, "{}", trap.text());
    for (connection, (_, user)) in waiting.iter_mut().zip(&requests) {
        let answer = connection.read_response().unwrap();
        assert_eq!(answer.status, 503, "{user}: {}", answer.text());
    }
    assert!(trapped.elapsed() < LIMIT * 2, "{:?}", trapped.elapsed());
    // Had the module lived, the listener would have said 504.
    wait_until("four lines of the access log", Duration::from_secs(10), || {
        let lines = world.access_lines();
        lines
            .iter()
            .filter(|line| line["details"] == "wasm_fail_stream")
            .count()
            == 4
    })
    .unwrap();
    assert_eq!(world.upstream().requests().len(), 0, "an undecided request arrived");

    broker.answers.store(true, Ordering::SeqCst);
    let next = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(next.status, 200, "{}", next.text());
    assert_eq!(world.upstream().requests().len(), 1);
    assert_eq!(world.reloads(), Some(1));
}
