mod agreement;
mod shipped;

use serde_json::json;

use self::shipped::{BROKERS, MANAGER, PLUGIN, SERVICES, at, bare_manager, dump, ill, judged, listener, router, with};
use super::super::finding::Verdict;
use super::*;

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
