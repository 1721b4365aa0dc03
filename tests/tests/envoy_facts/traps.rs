//! What happens to requests that wait, and to the next ones, when the module traps.

use std::time::Duration;

use kerbridge_tests::http::{Connection, Request};
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::wait::{Deadline, wait_until};
use serde_json::{Value, json};

use crate::bootstrap::{Bootstrap, access_log, ask, direct, merge, probe, probe_with};

/// Lets three requests wait for a callout, then traps, or not; returns what each got within two seconds, and the
/// details in the access log.
fn three_waiting(limit: &Value, route_timeout: &str, trap: bool) -> (Vec<Option<u16>>, String) {
    let upstream = ScriptedServer::tcp(|_, _| Reply::ok("up")).unwrap();
    let oracle = ScriptedServer::tcp(|_, _| Reply::Never).unwrap();
    let mut manager = access_log("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%.");
    merge(&mut manager, limit);
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": route_timeout}}]);
    let envoy = Bootstrap::default()
        .cluster("up", upstream.port(), &json!({}))
        .cluster("oracle", oracle.port(), &json!({}))
        .listener("front", &[probe("body=pause")], &routes, &manager)
        .start();
    let port = envoy.listener_port("front").unwrap();
    let mut waiting: Vec<_> = [Request::get("/"), Request::post("/", "body"), Request::get("/")]
        .into_iter()
        .map(|request| {
            let mut connection = Connection::tcp(port).unwrap();
            connection
                .stream()
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            connection
                .send_raw(&request.header("x-probe", "call oracle 20000").encode())
                .unwrap();
            connection
        })
        .collect();
    wait_until("three callouts", Duration::from_secs(5), || {
        oracle.requests().len() == 3
    })
    .unwrap();
    if trap {
        assert_eq!(ask(&envoy, "panic").status, 503);
    }
    let statuses = waiting
        .iter_mut()
        .map(|connection| connection.read_response().ok().map(|response| response.status))
        .collect();
    assert_eq!(upstream.requests().len(), 0);
    drop(waiting);
    wait_until("the access log", Duration::from_secs(5), || {
        envoy.log().matches("access: ").count() >= 3
    })
    .unwrap();
    let log = envoy.log();
    let last = log
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("access: "))
        .unwrap_or_default()
        .to_owned();
    (statuses, last)
}

#[test]
fn a_trap_leaves_waiting_requests_unanswered_and_the_routes_timeout_does_not_count() {
    assert_eq!(three_waiting(&json!({}), "1s", true).0, [None, None, None]);
}

#[test]
fn three_limits_of_the_connection_manager_end_them_with_503_after_a_trap() {
    for limit in [
        json!({"stream_idle_timeout": "1s"}),
        json!({"request_timeout": "1s"}),
        json!({"common_http_protocol_options": {"max_stream_duration": "1s"}}),
    ] {
        let (statuses, details) = three_waiting(&limit, "0s", true);
        assert_eq!(statuses, [Some(503), Some(503), Some(503)], "{limit}");
        assert_eq!(details, "503 wasm_fail_stream.", "{limit}");
    }
}

#[test]
fn the_same_limits_end_a_slow_callouts_request_with_504() {
    for (limit, details) in [
        (json!({"stream_idle_timeout": "1s"}), "504 stream_idle_timeout."),
        (json!({"request_timeout": "1s"}), "504 request_overall_timeout."),
        (
            json!({"common_http_protocol_options": {"max_stream_duration": "1s"}}),
            "504 max_duration_timeout.",
        ),
    ] {
        let (statuses, last) = three_waiting(&limit, "0s", false);
        assert_eq!(statuses, [Some(504), Some(504), Some(504)], "{limit}");
        assert_eq!(last, details, "{limit}");
    }
}

#[test]
fn a_young_vm_that_traps_refuses_with_503_for_about_the_back_off_and_then_serves() {
    // Three seconds for the default one, so that a busy machine does not make the VM old before it traps.
    let plugin = json!({"reload_config": {"backoff": {"base_interval": "3s"}}});
    let front = probe_with("", &plugin);
    let envoy = Bootstrap::default()
        .listener("front", &[front], &direct(418), &json!({}))
        .start();
    assert_eq!(ask(&envoy, "panic").status, 503);
    let since = Deadline::after(Duration::from_secs(20));
    assert_eq!(ask(&envoy, "answer").status, 503);
    wait_until("a request that passes", since.within(), || {
        ask(&envoy, "answer").status == 200
    })
    .unwrap();
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    assert!(envoy.stat("wasm.probe.vm_reload_backoff").unwrap() >= 1);
    assert_eq!(envoy.stat("wasm.probe.vm_reload_success"), Some(1));
}
