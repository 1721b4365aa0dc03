//! Whether a request that is held for a callout can slip past it.

use std::time::Duration;

use kerbridge_tests::http::{Connection, Request};
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::bootstrap::{Bootstrap, probe_with, route_to, said};

/// Sends a body in two chunks and a trailer while a callout is open that ends in a 403; returns the status, the number
/// of requests that reached the upstream, and the callbacks that the module got meanwhile.
fn hold(plugin: &Value, returned: &str) -> (u16, usize, Vec<String>) {
    let upstream = ScriptedServer::tcp(|_, _| Reply::ok("up")).unwrap();
    let oracle = ScriptedServer::tcp(|_, _| Reply::Never).unwrap();
    let config = format!("headers=call oracle 700\nbody={returned}\ntrailers={returned}\nreply=refuse 403 late");
    let envoy = Bootstrap::default()
        .cluster("up", upstream.port(), &json!({}))
        .cluster("oracle", oracle.port(), &json!({}))
        .listener(
            "front",
            &[probe_with(&config, plugin)],
            &route_to("up"),
            &json!({"http_protocol_options": {"enable_trailers": true}}),
        )
        .start();
    let mut connection = Connection::tcp(envoy.listener_port("front").unwrap()).unwrap();
    let request = Request::new("POST", "/").header("transfer-encoding", "chunked");
    connection.send_raw(&request.encode()).unwrap();
    wait_until("the callout", Duration::from_secs(5), || oracle.requests().len() == 1).unwrap();
    connection.send_raw(b"3\r\nabc\r\n0\r\nt: 1\r\n\r\n").unwrap();
    let status = connection.read_response().unwrap().status;
    let callbacks = said(&envoy)
        .into_iter()
        .map(|line| line.text)
        .filter(|text| text.contains("waiting"))
        .collect();
    (status, upstream.requests().len(), callbacks)
}

const CALLED: [&str; 2] = ["body size=3 end=false waiting=true", "trailers count=1 waiting=true"];

#[test]
fn by_default_neither_body_nor_trailers_come_while_the_headers_are_held() {
    for returned in ["pause", "continue"] {
        assert_eq!(hold(&json!({}), returned), (403, 0, Vec::new()));
        assert_eq!(
            hold(&json!({"allow_on_headers_stop_iteration": false}), returned),
            (403, 0, Vec::new())
        );
    }
}

#[test]
fn with_stop_iteration_they_come_and_pausing_them_holds_the_request() {
    let (status, upstream, callbacks) = hold(&json!({"allow_on_headers_stop_iteration": true}), "pause");
    assert_eq!((status, upstream), (403, 0));
    assert_eq!(callbacks, CALLED);
}

#[test]
fn with_stop_iteration_continuing_in_them_sends_the_request_upstream_undecided() {
    let (status, upstream, callbacks) = hold(&json!({"allow_on_headers_stop_iteration": true}), "continue");
    assert_eq!((status, upstream), (200, 1));
    assert_eq!(callbacks.first().map(String::as_str), CALLED.first().copied());
}
