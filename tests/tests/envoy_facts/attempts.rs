//! The module as an upstream HTTP filter: what each of Envoy's attempts gets.

use kerbridge_tests::envoy::Envoy;
use kerbridge_tests::http::Request;
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use serde_json::{Value, json};

use crate::bootstrap::{Bootstrap, probe, router, said, upstream_filters};

const CONFIG: &str = "headers=first x-ticket; log; call oracle 1000\nreply=take x-ticket; resume";

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Two refused attempts and one accepted, each with what the module got from its callout.
fn check(bootstrap: impl FnOnce(Bootstrap, u16, &Value) -> Bootstrap) {
    let legacy = ScriptedServer::tcp(|n, _| if n < 2 { Reply::status(503, "") } else { Reply::ok("in") }).unwrap();
    let oracle = ScriptedServer::tcp(|n, _| Reply::ok(&format!("ticket-{n}"))).unwrap();
    let retry = json!({"cluster": "legacy", "retry_policy": {"retry_on": "5xx", "num_retries": 3}});
    let routes = json!([{"match": {"prefix": "/"}, "route": retry}]);
    let base = Bootstrap::default().cluster("oracle", oracle.port(), &json!({}));
    let envoy: Envoy = bootstrap(base, legacy.port(), &routes).start();
    let answer = envoy.send("front", &Request::post("/", "whole body")).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "in"));
    let seen: Vec<_> = legacy
        .requests()
        .into_iter()
        .map(|r| (r.all("x-ticket").map(text).collect(), text(&r.body)))
        .collect();
    let attempt = |ticket: &str| (vec![ticket.to_owned()], "whole body".to_owned());
    assert_eq!(seen, [attempt("ticket-0"), attempt("ticket-1"), attempt("ticket-2")]);
    let before: Vec<_> = said(&envoy)
        .into_iter()
        .map(|line| line.text)
        .filter(|text| text.starts_with("first"))
        .collect();
    let first = |value: &str| format!("first x-ticket -> {value}");
    assert_eq!(before, [first("none"), first("\"ticket-0\""), first("\"ticket-1\"")]);
}

#[test]
fn each_attempt_calls_out_anew_from_a_clusters_filters_and_finds_the_last_attempts_header() {
    check(|base, port, routes| {
        let filters = upstream_filters(&[probe(CONFIG)]);
        base.listener("front", &[], routes, &json!({}))
            .cluster("legacy", port, &filters)
    });
}

#[test]
fn each_attempt_calls_out_anew_from_the_routers_filters_and_finds_the_last_attempts_header() {
    check(|base, port, routes| {
        let listener = base.listener_with_router("front", &[], routes, &json!({}), &router(&[probe(CONFIG)]));
        listener.cluster("legacy", port, &json!({}))
    });
}
