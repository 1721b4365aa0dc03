//! Filter state: who may write it, and who can read it.

use kerbridge_tests::http::Request;
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::wait::wait_for;
use serde_json::{Value, json};
use std::time::Duration;

use crate::bootstrap::{Bootstrap, access_log, probe_with, route_to, said, upstream_filters};

/// `declare_property` of `kerbridge.x`: read-only, a string, living as long as the request.
const DECLARE: &str = "foreign declare_property 0a0b6b65726272696467652e78100118012801";

fn rbac(exact: &str) -> Value {
    let principal = json!({"filter_state": {"key": "wasm.kerbridge.x", "string_match": {"exact": exact}}});
    json!({"name": "rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {"one": {"permissions": [{"any": true}], "principals": [principal]}}},
    }})
}

#[test]
fn a_property_declared_read_only_in_the_root_is_written_once_and_read_by_all() {
    let upstream = ScriptedServer::tcp(|_, _| Reply::ok("up")).unwrap();
    let filters =
        |config: &str, name: &str| probe_with(config, &json!({"root_id": name, "vm_config": {"vm_id": name}}));
    let declared = format!("configure={DECLARE}; {DECLARE}\nheaders=put kerbridge.x alice; put kerbridge.x bob; log");
    let in_stream = format!("headers={DECLARE}; put kerbridge.x alice; put kerbridge.x bob; log");
    let undeclared = "headers=put kerbridge.x alice; put kerbridge.x bob; log";
    let ticket = "headers=property filter_state/wasm.kerbridge.x; property kerbridge.x; put kerbridge.x mallory; log";
    let log = access_log("%RESPONSE_CODE% %FILTER_STATE(wasm.kerbridge.x:PLAIN)%");
    let envoy = Bootstrap::default()
        .cluster("up", upstream.port(), &upstream_filters(&[filters(ticket, "upstream")]))
        .listener(
            "declared",
            &[filters(&declared, "declared"), rbac("alice")],
            &route_to("up"),
            &log,
        )
        .listener(
            "in_stream",
            &[filters(&in_stream, "in_stream"), rbac("bob")],
            &route_to("up"),
            &json!({}),
        )
        .listener(
            "undeclared",
            &[filters(undeclared, "undeclared"), rbac("bob")],
            &route_to("up"),
            &json!({}),
        )
        .listener(
            "other",
            &[filters(&declared, "declared"), rbac("bob")],
            &route_to("up"),
            &json!({}),
        )
        .start();
    let lines = |listener: &str, expected_status: u16| {
        let before = said(&envoy).len();
        assert_eq!(
            envoy.send(listener, &Request::get("/")).unwrap().status,
            expected_status,
            "{listener}"
        );
        said(&envoy)
            .into_iter()
            .skip(before)
            .map(|line| line.text)
            .collect::<Vec<_>>()
    };

    let configured: Vec<_> = said(&envoy).into_iter().map(|line| line.text).take(2).collect();
    assert_eq!(
        configured,
        [
            "configure foreign declare_property -> none",
            "configure foreign declare_property -> Err(BadArgument)"
        ]
    );
    let seen_upstream = [
        "property filter_state/wasm.kerbridge.x -> \"alice\"",
        "property kerbridge.x -> \"alice\"",
        "put kerbridge.x -> 2",
    ];
    let mut expected = vec!["put kerbridge.x -> 0", "put kerbridge.x -> 2"];
    expected.extend(seen_upstream);
    assert_eq!(lines("declared", 200), expected);
    assert_eq!(lines("other", 403), ["put kerbridge.x -> 0", "put kerbridge.x -> 2"]);
    wait_for("the access log", Duration::from_secs(5), || {
        envoy.log().contains("access: 200 alice").then_some(())
    })
    .unwrap();

    let second_write = |lines: Vec<String>| lines.iter().filter(|line| *line == "put kerbridge.x -> 0").count();
    assert_eq!(
        second_write(lines("in_stream", 200)),
        3,
        "declared by a stream: two writes, and one of the upstream's"
    );
    assert_eq!(
        second_write(lines("undeclared", 200)),
        3,
        "not declared: anybody writes"
    );
}
