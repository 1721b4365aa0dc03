//! Whether a header that the module edits moves the request to another route.

use kerbridge_tests::http::Request;
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use serde_json::{Value, json};

use crate::bootstrap::{Bootstrap, allow_all, probe, probe_with, said};

/// What the module must be allowed to call so that it runs at all; no foreign function is among them.
const CAPABILITIES: [&str; 17] = [
    "_initialize",
    "malloc",
    "proxy_on_memory_allocate",
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_request_headers",
    "proxy_on_done",
    "proxy_on_log",
    "proxy_on_delete",
    "proxy_log",
    "proxy_get_buffer_bytes",
    "proxy_get_property",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_get_header_map_value",
    "proxy_get_log_level",
];

fn routes() -> Value {
    let direct = |status: u16, body: &str| json!({"status": status, "body": {"inline_string": body}});
    let marked = json!({"prefix": "/", "headers": [{"name": "x-kb", "string_match": {"exact": "1"}}]});
    json!([
        {"name": "marked", "match": marked, "direct_response": direct(201, "marked")},
        {"name": "plain", "match": {"prefix": "/"}, "direct_response": direct(202, "plain")},
    ])
}

#[test]
fn every_edit_of_a_matched_header_moves_the_request_at_any_time() {
    let oracle = ScriptedServer::tcp(|_, _| Reply::ok("1")).unwrap();
    let look = "property xds/route_name";
    let cases = [
        ("nothing", format!("headers={look}"), "plain", "marked"),
        ("unrelated", format!("headers={look}; set x-other 1"), "plain", "marked"),
        ("set", format!("headers={look}; set x-kb 1"), "marked", "marked"),
        (
            "set_without_a_look",
            "headers=set x-kb 1".to_owned(),
            "marked",
            "marked",
        ),
        ("remove", format!("headers={look}; remove x-kb"), "plain", "plain"),
        (
            "set_whole_map",
            format!("headers={look}; remove x-kb; whole x-kb 1"),
            "marked",
            "marked",
        ),
        (
            "set_and_back",
            format!("headers={look}; set x-kb 1; set x-kb 0"),
            "plain",
            "plain",
        ),
        (
            "asked_for",
            format!("headers={look}; set x-kb 1; foreign clear_route_cache"),
            "marked",
            "marked",
        ),
        (
            "set_later",
            format!("headers={look}; call oracle 1000\nreply=take x-kb; resume"),
            "marked",
            "marked",
        ),
        (
            "remove_later",
            format!("headers={look}; call oracle 1000\nreply=remove x-kb; resume"),
            "plain",
            "plain",
        ),
    ];
    let mut bootstrap = Bootstrap::default().cluster("oracle", oracle.port(), &json!({}));
    for (name, config, ..) in &cases {
        bootstrap = bootstrap.listener(name, &[probe(config)], &routes(), &json!({}));
    }
    let envoy = bootstrap.start();
    for (name, _, unmarked, marked) in cases {
        let routed = |value: &str| {
            envoy
                .send(name, &Request::get("/").header("x-kb", value))
                .unwrap()
                .text()
        };
        assert_eq!(
            (routed("0").as_str(), routed("1").as_str()),
            (unmarked, marked),
            "{name}"
        );
    }
}

#[test]
fn restricting_the_modules_capabilities_does_not_keep_the_route() {
    let allowed: Value = CAPABILITIES
        .iter()
        .map(|name| ((*name).to_owned(), json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let plugin = json!({"capability_restriction_config": {"allowed_capabilities": allowed}});
    let config = "headers=set x-kb 1; foreign clear_route_cache; log";
    let envoy = Bootstrap::default()
        .listener("front", &[probe_with(config, &plugin)], &routes(), &json!({}))
        .start();
    assert_eq!(envoy.send("front", &Request::get("/")).unwrap().text(), "marked");
    let lines: Vec<_> = said(&envoy).into_iter().map(|line| line.text).collect();
    assert_eq!(
        lines,
        [
            "set x-kb -> Ok(())",
            "foreign clear_route_cache -> Err(InternalFailure)"
        ]
    );
}

#[test]
fn the_route_name_is_the_old_one_until_a_later_filter_needs_the_route() {
    let look = "property xds/route_name; log";
    let first = || probe(&format!("headers=property xds/route_name; set x-kb 1; {look}"));
    let second = || probe_with(&format!("headers={look}"), &json!({"root_id": "second"}));
    let envoy = Bootstrap::default()
        .listener("directly", &[first(), second()], &routes(), &json!({}))
        .listener("behind_rbac", &[first(), allow_all(), second()], &routes(), &json!({}))
        .start();
    let names = |listener: &str| {
        let before = said(&envoy).len();
        assert_eq!(envoy.send(listener, &Request::get("/")).unwrap().text(), "marked");
        let lines = said(&envoy).into_iter().skip(before).map(|line| line.text);
        lines
            .filter_map(|line| Some(line.strip_prefix("property xds/route_name -> ")?.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("directly"), ["\"plain\"", "\"plain\"", "\"plain\""]);
    assert_eq!(names("behind_rbac"), ["\"plain\"", "\"plain\"", "\"marked\""]);
}
