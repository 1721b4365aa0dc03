//! What the admin interface of an Envoy tells that is set up as the shipped example has it, and what the doctor finds in that.

use serde_json::json;

use super::super::super::finding::Verdict;
use super::super::*;

pub(super) const ISSUER: &str = "https://broker.test";
pub(super) const PUBLISHED: &str = r#"{"keys":[{"kid":"a","x":"1"},{"kid":"b","x":"2"}]}"#;

pub(super) fn policy() -> Policy {
    let text = r#"
        [[audience]]
        name = "orders"
        [[route]]
        name = "orders"
        path_prefix = "/orders"
        accept = ["negotiate", "bearer"]
        audience = "orders"
        scopes_all = ["orders:read"]
        [[route]]
        name = "legacy"
        path_prefix = "/legacy"
        accept = ["bearer"]
        audience = "orders"
        upstream = { kerberos = { spn = "HTTP/legacy.test@R.TEST" } }
    "#;
    crate::strict_toml::read(text, &mut crate::problem::Problems::default()).unwrap()
}

pub(super) fn plugin_of(name: &str, configuration: &Value) -> Value {
    json!({"name": name, "typed_config": {"@type": "t/envoy.extensions.filters.http.wasm.v3.Wasm", "config": {
        "name": name, "root_id": name, "failure_policy": "FAIL_RELOAD",
        "vm_config": {"vm_id": "kerbridge", "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": "k.wasm"}}},
        "configuration": {"@type": "t/google.protobuf.StringValue", "value": configuration.to_string()}}}})
}

pub(super) fn router() -> Value {
    json!({"name": "router", "typed_config": {"@type": "t/envoy.extensions.filters.http.router.v3.Router"}})
}

pub(super) fn listener(name: &str, address: &Value, manager: &Value) -> Value {
    let mut listener = json!({"@type": "t/envoy.config.listener.v3.Listener", "name": name,
        "filter_chains": [{"filters": [{"typed_config": manager}]}]});
    for (member, value) in address.as_object().unwrap() {
        listener[member] = value.clone();
    }
    json!({ "listener": listener })
}

pub(super) fn at(address: &str) -> Value {
    json!({"address": {"socket_address": {"address": address, "port_value": 443}}})
}

pub(super) fn routes(cluster: &str) -> Value {
    json!({"virtual_hosts": [{"name": "all", "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]})
}

pub(super) fn bare_manager(cluster: &str) -> Value {
    json!({
        "@type": "t/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare", "route_config": routes(cluster), "http_filters": [router()]})
}

/// As the shipped example has it.
pub(super) fn dump() -> Value {
    let configuration = serde_json::to_value(render::filter_config(ISSUER, &policy(), Inline::default())).unwrap();
    let manager = json!({
        "@type": "t/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "https",
        "normalize_path": true,
        "merge_slashes": true,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "max_request_headers_kb": 96,
        "request_timeout": "30s",
        "stream_idle_timeout": "30s",
        "use_remote_address": true,
        "early_header_mutation_extensions": [{"typed_config": {"mutations": [
            {"remove_on_match": {"key_matcher": {"prefix": "x-kerbridge-"}}}]}}],
        "route_config": routes("upstream"),
        "http_filters": [plugin_of("kerbridge", &configuration), router()],
    });
    let cluster = |name: &str, options: Value, address: Value| {
        json!({"cluster": {"@type": "t/envoy.config.cluster.v3.Cluster", "name": name,
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
            "load_assignment": {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}}})
    };
    let here = at("127.0.0.1")["address"].clone();
    let service = json!({"upstream": {"kerberos": {"spn": "HTTP/legacy.test@R.TEST"}}});
    json!({"configs": [
        {"@type": "t/envoy.admin.v3.ClustersConfigDump", "static_clusters": [
            cluster("kerbridge_broker", json!({"common_http_protocol_options": {"idle_timeout": "30s"}}),
                json!({"pipe": {"path": "/run/mesh.sock"}})),
            cluster("upstream", json!({}), here.clone()),
            cluster("legacy", json!({"http_filters": [plugin_of("kerbridge_upstream", &service)]}), here),
        ]},
        {"@type": "t/envoy.admin.v3.ListenersConfigDump",
            "static_listeners": [listener("https", &at("0.0.0.0"), &manager)]},
    ]})
}

pub(super) const MANAGER: &str = "/configs/1/static_listeners/0/listener/filter_chains/0/filters/0/typed_config";
pub(super) const PLUGIN: &str = "/http_filters/0/typed_config/config";
pub(super) const SERVICES: &str = "/configs/0/static_clusters/2/cluster/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/http_filters/0/typed_config/config";
pub(super) const BROKERS: &str = "/configs/0/static_clusters/0/cluster";

pub(super) fn judged_by(dump: &Value, policy: &Policy) -> Vec<Finding> {
    let expected = Expected {
        issuer: ISSUER,
        rendered: Some(render::filter_config(ISSUER, policy, Inline::default())),
        services: render::kerberos_upstreams(policy),
        published: Some(PUBLISHED.to_owned()),
    };
    judge(
        "admin",
        &json!({"version": "abc/1.40.0/Clean/RELEASE/BoringSSL"}),
        dump,
        &expected,
    )
}

pub(super) fn judged(dump: &Value) -> Vec<Finding> {
    judged_by(dump, &policy())
}

/// What is not good, as its verdict and its words.
pub(super) fn ill(dump: &Value) -> Vec<(Verdict, String)> {
    let findings = judged(dump).into_iter();
    let ill = findings.filter(|finding| finding.verdict > Verdict::Skipped);
    ill.map(|finding| {
        assert!(!finding.remedies.is_empty(), "{finding:?}");
        (finding.verdict, finding.found)
    })
    .collect()
}

/// The same dump with one value set, or taken away.
pub(super) fn with(pointer: &str, value: &Value) -> Value {
    let mut dump = dump();
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let parent = dump.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    if let Some(items) = parent.as_array_mut() {
        items[member.parse::<usize>().unwrap()] = value.clone();
    } else if value.is_null() {
        parent.as_object_mut().unwrap().remove(member);
    } else {
        parent[member] = value.clone();
    }
    dump
}
