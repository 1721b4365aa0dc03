use serde_json::json;

use super::super::finding::Verdict;
use super::*;

const ISSUER: &str = "https://broker.test";
const PUBLISHED: &str = r#"{"keys":[{"kid":"a","x":"1"},{"kid":"b","x":"2"}]}"#;

fn policy() -> Policy {
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

fn plugin_of(name: &str, configuration: &Value) -> Value {
    json!({"name": name, "typed_config": {"@type": "t/envoy.extensions.filters.http.wasm.v3.Wasm", "config": {
        "name": name, "root_id": name, "failure_policy": "FAIL_RELOAD",
        "vm_config": {"vm_id": "kerbridge", "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": "k.wasm"}}},
        "configuration": {"@type": "t/google.protobuf.StringValue", "value": configuration.to_string()}}}})
}

fn router() -> Value {
    json!({"name": "router", "typed_config": {"@type": "t/envoy.extensions.filters.http.router.v3.Router"}})
}

fn listener(name: &str, address: &Value, manager: &Value) -> Value {
    let mut listener = json!({"@type": "t/envoy.config.listener.v3.Listener", "name": name,
        "filter_chains": [{"filters": [{"typed_config": manager}]}]});
    for (member, value) in address.as_object().unwrap() {
        listener[member] = value.clone();
    }
    json!({ "listener": listener })
}

fn at(address: &str) -> Value {
    json!({"address": {"socket_address": {"address": address, "port_value": 443}}})
}

fn routes(cluster: &str) -> Value {
    json!({"virtual_hosts": [{"name": "all", "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]})
}

fn bare_manager(cluster: &str) -> Value {
    json!({
        "@type": "t/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare", "route_config": routes(cluster), "http_filters": [router()]})
}

/// As the shipped example has it.
fn dump() -> Value {
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

const MANAGER: &str = "/configs/1/static_listeners/0/listener/filter_chains/0/filters/0/typed_config";
const PLUGIN: &str = "/http_filters/0/typed_config/config";
const SERVICES: &str = "/configs/0/static_clusters/2/cluster/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/http_filters/0/typed_config/config";
const BROKERS: &str = "/configs/0/static_clusters/0/cluster";

fn judged_by(dump: &Value, policy: &Policy) -> Vec<Finding> {
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

fn judged(dump: &Value) -> Vec<Finding> {
    judged_by(dump, &policy())
}

/// What is not good, as its verdict and its words.
fn ill(dump: &Value) -> Vec<(Verdict, String)> {
    let findings = judged(dump).into_iter();
    let ill = findings.filter(|finding| finding.verdict > Verdict::Skipped);
    ill.map(|finding| {
        assert!(!finding.remedies.is_empty(), "{finding:?}");
        (finding.verdict, finding.found)
    })
    .collect()
}

/// The same dump with one value set, or taken away.
fn with(pointer: &str, value: &Value) -> Value {
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

#[test]
fn the_shipped_settings_are_good() {
    assert_eq!(ill(&dump()), []);
    assert!(judged(&dump()).iter().any(|finding| finding.check == "revocations"));
}

#[test]
fn each_setting_of_the_listener_that_is_weakened_is_named() {
    let bad = Verdict::Bad;
    let cases = [
        ("/normalize_path", json!(null), bad),
        ("/normalize_path", json!(false), bad),
        ("/merge_slashes", json!(null), bad),
        ("/path_with_escaped_slashes_action", json!(null), bad),
        ("/path_with_escaped_slashes_action", json!("KEEP_UNCHANGED"), bad),
        ("/path_with_escaped_slashes_action", json!("UNESCAPE_AND_FORWARD"), bad),
        (
            "/common_http_protocol_options/headers_with_underscores_action",
            json!(null),
            bad,
        ),
        (
            "/common_http_protocol_options/headers_with_underscores_action",
            json!("ALLOW"),
            bad,
        ),
        ("/request_timeout", json!(null), bad),
        ("/request_timeout", json!("0s"), bad),
        ("/stream_idle_timeout", json!("0s"), bad),
        ("/max_request_headers_kb", json!(null), Verdict::Warning),
        ("/use_remote_address", json!(null), Verdict::Warning),
        ("/early_header_mutation_extensions", json!(null), Verdict::Warning),
    ];
    for (setting, value, verdict) in cases {
        let found = ill(&with(&format!("{MANAGER}{setting}"), &value));
        let field = setting.rsplit('/').next().unwrap();
        assert_eq!(found.len(), 1, "{setting}: {found:?}");
        assert!(
            found[0].0 == verdict && found[0].1.starts_with(&format!("{field}: ")),
            "{found:?}"
        );
    }
    // Envoy's own is 5 minutes.
    assert_eq!(ill(&with(&format!("{MANAGER}/stream_idle_timeout"), &Value::Null)), []);
}

#[test]
fn a_filter_that_does_not_run_or_may_not_is_named_in_the_listener_and_in_a_cluster() {
    let but = |missing: &str| {
        let all = include_str!("capabilities.txt")
            .lines()
            .filter(|line| !line.starts_with('#'));
        let allowed: serde_json::Map<String, Value> = all
            .filter(|name| *name != missing)
            .map(|name| (name.to_owned(), json!({})))
            .collect();
        json!({ "allowed_capabilities": allowed })
    };
    for plugin in [&format!("{MANAGER}{PLUGIN}"), SERVICES] {
        for (member, value, start) in [
            ("failure_policy", json!(null), "failure_policy: not set"),
            ("failure_policy", json!("FAIL_OPEN"), "failure_policy: FAIL_OPEN"),
            (
                "capability_restriction_config",
                but("proxy_on_request_headers"),
                "capability_restriction_config: it lacks proxy_on_request_headers:",
            ),
            (
                "capability_restriction_config",
                but("proxy_on_request_body"),
                "capability_restriction_config: it lacks proxy_on_request_body:",
            ),
            ("vm_config/vm_id", json!(null), "vm_id: not set"),
            ("configuration/value", json!(null), "configuration: no JSON"),
        ] {
            let found = ill(&with(&format!("{plugin}/{member}"), &value));
            assert!(
                found
                    .iter()
                    .any(|(verdict, text)| *verdict == Verdict::Bad && text.starts_with(start)),
                "{member}: {found:?}"
            );
        }
        assert_eq!(
            ill(&with(&format!("{plugin}/capability_restriction_config"), &but(""))),
            []
        );
        let none = json!({"allowed_capabilities": {}});
        assert_eq!(
            ill(&with(&format!("{plugin}/capability_restriction_config"), &none)),
            []
        );
    }
    let found = ill(&with(&format!("{SERVICES}/vm_config/vm_id"), &json!("other")));
    assert!(found.len() == 1 && found[0].1.starts_with("vm_config: "), "{found:?}");
}

#[test]
fn a_module_with_the_same_vm_id_is_named() {
    let other = json!({"name": "other", "typed_config": {"@type": "t/envoy.extensions.filters.http.wasm.v3.Wasm", "config": {
        "name": "other", "vm_config": {"vm_id": "kerbridge", "code": {"local": {"filename": "other.wasm"}}}}}});
    let mut dump = dump();
    let filters = dump.pointer_mut(&format!("{MANAGER}/http_filters")).unwrap();
    filters.as_array_mut().unwrap().insert(0, other);
    let found = ill(&dump);
    assert!(
        !found.is_empty()
            && found
                .iter()
                .all(|(_, text)| text.starts_with("vm_id: kerbridge, which another")),
        "{found:?}"
    );
}

#[test]
fn what_stands_on_the_wrong_side_of_the_filter_is_named() {
    let placed = |kind: &str, place: usize| {
        let mut dump = dump();
        let filters = dump.pointer_mut(&format!("{MANAGER}/http_filters")).unwrap();
        let entry =
            json!({"name": "it", "typed_config": {"@type": format!("t/envoy.extensions.filters.http.x.v3.{kind}")}});
        filters.as_array_mut().unwrap().insert(place, entry);
        ill(&dump)
    };
    for (kind, wrong, right) in [
        ("CacheConfig", 0, 1),
        ("CacheV2Config", 0, 1),
        ("GrpcJsonTranscoder", 1, 0),
    ] {
        let found = placed(kind, wrong);
        assert!(
            found.len() == 1 && found[0].1.starts_with("http_filters: it stands "),
            "{kind}: {found:?}"
        );
        assert_eq!(placed(kind, right), [], "{kind}");
    }
}

#[test]
fn a_filter_that_is_switched_off_is_named_wherever_that_is_said() {
    let found = ill(&with(&format!("{MANAGER}/http_filters/0/disabled"), &json!(true)));
    assert!(
        found.len() == 1 && found[0].1.starts_with("disabled: true"),
        "{found:?}"
    );
    let off = json!({"kerbridge": {"@type": "t/envoy.config.route.v3.FilterConfig", "disabled": true}});
    for place in ["", "/virtual_hosts/0", "/virtual_hosts/0/routes/0"] {
        let found = ill(&with(
            &format!("{MANAGER}/route_config{place}/typed_per_filter_config"),
            &off,
        ));
        assert!(
            found.len() == 1 && found[0].1.starts_with("typed_per_filter_config: "),
            "{place}: {found:?}"
        );
    }
    // Routes that are fetched.
    let mut fetched = dump();
    let manager = fetched.pointer_mut(MANAGER).unwrap().as_object_mut().unwrap();
    let mut routes = manager.remove("route_config").unwrap();
    manager.insert("rds".into(), json!({"route_config_name": "r"}));
    routes["@type"] = json!("t/envoy.config.route.v3.RouteConfiguration");
    routes["name"] = json!("r");
    routes["typed_per_filter_config"] = off;
    let part =
        json!({"@type": "t/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [{"route_config": routes}]});
    fetched["configs"].as_array_mut().unwrap().push(part);
    let found = ill(&fetched);
    assert!(
        found.len() == 1 && found[0].1.starts_with("typed_per_filter_config: "),
        "{found:?}"
    );
}

#[test]
fn an_entry_that_is_kept_elsewhere_is_found() {
    let mut dump = dump();
    let entry = dump.pointer_mut(&format!("{MANAGER}/http_filters/0")).unwrap();
    let mut kept = entry.take();
    *entry = json!({"name": "ns.kerbridge", "config_discovery": {"config_source": {"ads": {}}}});
    kept["@type"] = json!("t/envoy.config.core.v3.TypedExtensionConfig");
    kept["name"] = json!("ns.kerbridge");
    kept["typed_config"]["config"]["failure_policy"] = json!("FAIL_OPEN");
    let part = json!({"@type": "t/envoy.admin.v3.EcdsConfigDump", "ecds_filters": [{"ecds_filter": kept}]});
    dump["configs"].as_array_mut().unwrap().push(part);
    let found = ill(&dump);
    assert!(
        found.len() == 1 && found[0].1.starts_with("failure_policy: FAIL_OPEN"),
        "{found:?}"
    );
}

#[test]
fn a_way_around_the_filter_is_named_and_what_was_refused_or_goes_away_is_not_looked_at() {
    let beside = |address: &Value, cluster: &str, state: &str| {
        let mut dump = dump();
        let other = listener("side", address, &bare_manager(cluster));
        let part = json!({"@type": "t/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [{ state: other }]});
        dump["configs"].as_array_mut().unwrap().push(part);
        ill(&dump)
    };
    let found = beside(&at("0.0.0.0"), "upstream", "active_state");
    assert!(
        found.len() == 1
            && found[0].0 == Verdict::Bad
            && found[0].1.starts_with("listener \"side\" leads to upstream without"),
        "{found:?}"
    );
    // Who is on the machine, or Envoy itself.
    for inside in [at("127.0.0.1"), at("::1"), json!({"internal_listener": {}})] {
        let found = beside(&inside, "upstream", "active_state");
        assert!(found.len() == 1 && found[0].0 == Verdict::Warning, "{found:?}");
    }
    assert_eq!(beside(&at("0.0.0.0"), "elsewhere", "active_state"), []);
    for state in ["draining_state", "error_state"] {
        assert_eq!(beside(&at("0.0.0.0"), "upstream", state), [], "{state}");
    }
    // Where each request says which cluster it is for, that may be one behind the filter.
    let chosen = [
        json!({"cluster_header": "x-cluster"}),
        json!({"weighted_clusters": {"clusters": [{"cluster_header": "x-cluster", "weight": 1}]}}),
        json!({"inline_cluster_specifier_plugin": {"extension": {"name": "x-cluster"}}}),
    ];
    for action in &chosen {
        let mut dump = dump();
        let mut manager = bare_manager("elsewhere");
        manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"] = action.clone();
        let part = json!({"@type": "t/envoy.admin.v3.ListenersConfigDump",
            "static_listeners": [listener("side", &at("0.0.0.0"), &manager)]});
        dump["configs"].as_array_mut().unwrap().push(part);
        let found = ill(&dump);
        assert!(
            found.len() == 1
                && found[0].0 == Verdict::Bad
                && found[0].1.starts_with("listener \"side\" leads to whatever cluster "),
            "{action}: {found:?}"
        );
    }
    let mut ours = with(
        &format!("{MANAGER}/route_config/virtual_hosts/0/routes/0/route"),
        &chosen[0],
    );
    let side = listener("side", &at("0.0.0.0"), &bare_manager("elsewhere"));
    let part = json!({"@type": "t/envoy.admin.v3.ListenersConfigDump", "static_listeners": [side]});
    ours["configs"].as_array_mut().unwrap().push(part);
    let found = ill(&ours);
    assert!(found.len() == 1 && found[0].0 == Verdict::Warning, "{found:?}");
    let mut tcp = dump();
    let proxy = json!({"@type": "t/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp",
        "weighted_clusters": {"clusters": [{"name": "upstream", "weight": 1}]}});
    let part = json!({"@type": "t/envoy.admin.v3.ListenersConfigDump", "static_listeners": [listener("raw", &at("0.0.0.0"), &proxy)]});
    tcp["configs"].as_array_mut().unwrap().push(part);
    assert!(
        ill(&tcp)[0].1.starts_with("listener \"raw\" leads to upstream"),
        "{:?}",
        ill(&tcp)
    );
}

#[test]
fn clusters_that_are_not_there_or_can_be_overheard_are_named() {
    let found = ill(&with(&format!("{BROKERS}/name"), &json!("renamed")));
    for field in [
        "broker.cluster: ",
        "issuers.0.jwks.cluster: ",
        "issuers.0.feed.cluster: ",
    ] {
        assert!(
            found.iter().any(|(_, text)| text.starts_with(field)),
            "{field}: {found:?}"
        );
    }
    let away = at("192.0.2.1")["address"].clone();
    let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
    let found = ill(&with(&format!("{BROKERS}{endpoint}"), &away));
    assert!(
        found.len() == 1 && found[0].0 == Verdict::Bad && found[0].1.starts_with("transport_socket: "),
        "{found:?}"
    );
    let found = ill(&with(&format!("/configs/0/static_clusters/2/cluster{endpoint}"), &away));
    assert!(
        found.len() == 1 && found[0].0 == Verdict::Warning && found[0].1.starts_with("transport_socket: "),
        "{found:?}"
    );
    let idle = format!(
        "{BROKERS}/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/common_http_protocol_options/idle_timeout"
    );
    for value in [json!(null), json!("0s"), json!("75s"), json!("3600s")] {
        let found = ill(&with(&idle, &value));
        assert!(
            found.len() == 1 && found[0].1.starts_with("idle_timeout: "),
            "{value}: {found:?}"
        );
    }
    let found = ill(&with(&format!("{SERVICES}/configuration/value"), &json!("{}")));
    assert!(
        found.len() == 1 && found[0].1.starts_with("no cluster has the filter of this service"),
        "{found:?}"
    );
}

#[test]
fn a_configuration_that_is_not_what_the_policy_makes_is_named_field_by_field() {
    let mut policy = policy();
    policy.route[0].scopes_all = vec!["orders:write".to_owned()];
    policy.filter.underscores_rejected = !policy.filter.underscores_rejected;
    let findings = judged_by(&dump(), &policy);
    let found = findings.iter().find(|finding| finding.verdict == Verdict::Bad).unwrap();
    assert!(
        found
            .found
            .contains(r#"routes[0].scopes_all is ["orders:read"], the policy has ["orders:write"]"#),
        "{found:?}"
    );
    assert!(found.found.contains("underscores_rejected is "), "{found:?}");
    // What an Envoy starts with while the broker is away is no difference, and another issuer's filter is none of ours.
    let inline = Inline {
        keys: Some(PUBLISHED.into()),
        feed: vec!["cGFnZQ==".into()],
    };
    let own = serde_json::to_string(&render::filter_config(ISSUER, &self::policy(), inline)).unwrap();
    assert_eq!(
        ill(&with(&format!("{MANAGER}{PLUGIN}/configuration/value"), &json!(own))),
        []
    );
    let others = own.replace(ISSUER, "https://other.test").replace("/orders", "/others");
    assert_eq!(
        ill(&with(&format!("{MANAGER}{PLUGIN}/configuration/value"), &json!(others))),
        []
    );
    let unknown = own.replacen("\"issuers\"", "\"isuers\"", 1);
    let found = ill(&with(
        &format!("{MANAGER}{PLUGIN}/configuration/value"),
        &json!(unknown),
    ));
    assert!(
        found.iter().any(|(_, text)| text.contains("unknown field `isuers`")),
        "{found:?}"
    );
}

#[test]
fn keys_in_the_configuration_that_are_not_those_that_are_published_are_named() {
    let found_with = |keys: &str| {
        let inline = Inline {
            keys: Some(keys.into()),
            feed: Vec::new(),
        };
        let own = serde_json::to_string(&render::filter_config(ISSUER, &policy(), inline)).unwrap();
        ill(&with(&format!("{MANAGER}{PLUGIN}/configuration/value"), &json!(own)))
    };
    assert_eq!(found_with(PUBLISHED), []);
    for (keys, has, lacks) in [
        (r#"{"keys":[{"kid":"a","x":"1"}]}"#, "", "it lacks b: "),
        (
            r#"{"keys":[{"kid":"a","x":"1"},{"x":"2","kid":"b"},{"kid":"c","x":"3"}]}"#,
            "it has c, ",
            "",
        ),
        (
            r#"{"keys":[{"kid":"a","x":"1"},{"kid":"b","x":"3"}]}"#,
            "it has b, ",
            "it lacks b: ",
        ),
        (r#"{"keys":[]}"#, "", "it lacks a, b: "),
    ] {
        let found = found_with(keys);
        assert!(
            found.len() == 1 && found[0].0 == Verdict::Warning && found[0].1.starts_with("jwks.inline: it "),
            "{keys}: {found:?}"
        );
        assert!(found[0].1.contains(has) && found[0].1.contains(lacks), "{found:?}");
        assert_eq!(found[0].1.contains("it has"), !has.is_empty(), "{found:?}");
        assert_eq!(found[0].1.contains("it lacks"), !lacks.is_empty(), "{found:?}");
    }
}

#[test]
fn identity_headers_may_be_removed_one_by_one() {
    let removed = |names: &[&str]| {
        let mutations: Vec<Value> = names.iter().map(|name| json!({ "remove": name })).collect();
        let extensions = json!([{"typed_config": {"mutations": mutations}}]);
        ill(&with(
            &format!("{MANAGER}/early_header_mutation_extensions"),
            &extensions,
        ))
    };
    assert_eq!(
        removed(&["x-kerbridge-subject", "X-Kerbridge-Issuer", "x-kerbridge-scope"]),
        []
    );
    let found = removed(&["x-kerbridge-subject"]);
    assert!(
        found[0]
            .1
            .contains("does not remove x-kerbridge-issuer, x-kerbridge-scope,"),
        "{found:?}"
    );
}

#[test]
fn a_filter_that_does_not_read_the_brokers_feed_is_named() {
    let mut own = serde_json::to_value(render::filter_config(ISSUER, &policy(), Inline::default())).unwrap();
    own["issuers"][0].as_object_mut().unwrap().remove("feed");
    let findings = judged(&with(
        &format!("{MANAGER}{PLUGIN}/configuration/value"),
        &json!(own.to_string()),
    ));
    let found = findings.iter().find(|finding| finding.check == "revocations").unwrap();
    assert_eq!(found.verdict, Verdict::Bad, "{found:?}");
}

#[test]
fn an_envoy_without_the_filter_or_too_old_is_said() {
    let without = with(&format!("{MANAGER}/http_filters"), &json!([router()]));
    let found = ill(&without);
    assert!(
        found
            .iter()
            .any(|(verdict, text)| *verdict == Verdict::Bad && text.starts_with("no connection manager")),
        "{found:?}"
    );
    for (text, verdict) in [
        ("a/1.36.0/Clean", Verdict::Good),
        ("a/1.35.9/Clean", Verdict::Warning),
        ("a/1.33.0/Clean", Verdict::Warning),
        ("a/1.32.9/Clean", Verdict::Bad),
        ("a/2.0.0", Verdict::Good),
        ("odd", Verdict::Warning),
    ] {
        assert_eq!(version("admin", text).verdict, verdict, "{text}");
    }
}
