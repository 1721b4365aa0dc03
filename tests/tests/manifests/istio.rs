//! Manifests for Istio and Envoy Gateway: by the CRDs, and what Envoy says of the configuration that comes of them.

use kerbridge_tests::certificates::Certificates;
use kerbridge_tests::envoy::validate;
use kerbridge_tests::shipped::repository;
use serde_json::{Value, json};

use crate::tools::{documents, istio_complaints, module, render, try_render, without_legacy};

const PLACE: &str = "kerbridge_broker=kerbridge.kerbridge.svc.cluster.local:8443";
const IMAGE: &str = concat!(
    "oci://registry.example.com/kerbridge-filter@sha256:",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
);
const AT: [&str; 4] = ["--namespace", "istio-ingress", "--cluster", PLACE];
const GATEWAY: [&str; 2] = ["--gateway", "public"];
const LABELS: [&str; 2] = ["--selector", "istio=ingressgateway"];

fn rendered(format: &str, more: &[&str]) -> Vec<Value> {
    let all = [&["--format", format], &AT[..], more].concat();
    let edit = |policy: &str| {
        if format == "envoy-gateway" || more.contains(&IMAGE) {
            without_legacy(policy)
        } else {
            policy.to_owned()
        }
    };
    documents(&render(edit, &all))
}

pub(crate) fn only<'d>(documents: &'d [Value], kind: &str) -> &'d Value {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        other => panic!("{kind}: {other:?}"),
    }
}

/// The values of the patches of an `EnvoyFilter` of this kind and operation.
fn patches<'d>(documents: &'d [Value], kind: &str, operation: &str) -> Vec<&'d Value> {
    let all = only(documents, "EnvoyFilter")["spec"]["configPatches"]
        .as_array()
        .unwrap();
    let wanted = |patch: &&Value| patch["applyTo"] == kind && patch["patch"]["operation"] == operation;
    all.iter()
        .filter(wanted)
        .map(|patch| &patch["patch"]["value"])
        .collect()
}

#[test]
fn the_manifests_for_istio_are_good_by_its_crds() {
    for format in ["istio", "istio-envoy-filter"] {
        for target in [GATEWAY, LABELS] {
            let mut documents = rendered(format, &target);
            assert_eq!(istio_complaints(&documents), [""; 0], "{format}");
            // The check can fail: a word that is none, a field that there is not.
            let spec = documents.last_mut().unwrap();
            spec["spec"]["configPatches"][0]["applyTo"] = json!("FILTERS");
            spec["spec"]["selektor"] = json!({});
            let complaints = istio_complaints(&documents).join("\n");
            assert!(
                complaints.contains("applyTo") && complaints.contains("selektor"),
                "{complaints}"
            );
        }
    }
    let plugin = rendered("istio", &[&GATEWAY[..], &["--module-url", IMAGE]].concat());
    assert_eq!(istio_complaints(&plugin), [""; 0]);
    assert_eq!(only(&plugin, "WasmPlugin")["spec"]["url"], IMAGE);
}

#[test]
fn the_plugin_runs_before_other_filters_and_never_lets_pass_what_it_did_not_see() {
    let documents = rendered("istio", &GATEWAY);
    let spec = &only(&documents, "WasmPlugin")["spec"];
    assert_eq!(
        (&spec["phase"], &spec["failStrategy"]),
        (&json!("AUTHN"), &json!("FAIL_RELOAD"))
    );
    let documents = rendered("envoy-gateway", &[&GATEWAY[..], &["--module-url", IMAGE]].concat());
    assert_eq!(
        only(&documents, "EnvoyExtensionPolicy")["spec"]["wasm"][0]["failOpen"],
        false
    );
}

#[test]
fn every_manifest_has_the_filters_configuration_of_the_policy() {
    let config: Value = serde_json::from_str(&render(without_legacy, &["--format", "json"])).unwrap();
    let image = [&GATEWAY[..], &["--module-url", IMAGE]].concat();
    let plugin = rendered("istio", &image);
    assert_eq!(only(&plugin, "WasmPlugin")["spec"]["pluginConfig"], config);
    let gateway = rendered("envoy-gateway", &image);
    assert_eq!(
        only(&gateway, "EnvoyExtensionPolicy")["spec"]["wasm"][0]["config"],
        config
    );
    let filter = documents(&render(
        without_legacy,
        &[&["--format", "istio-envoy-filter"], &AT[..], &GATEWAY[..]].concat(),
    ));
    let value = &patches(&filter, "HTTP_FILTER", "INSERT_FIRST")[0]["typed_config"]["config"]["configuration"]["value"];
    assert_eq!(serde_json::from_str::<Value>(value.as_str().unwrap()).unwrap(), config);
}

/// What there is before the patches: a listener with a router, the cluster of a service, that of the Kerberos service.
fn base() -> Value {
    let service = |name: &str| {
        json!({"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9}}}}]}]}})
    };
    json!({"static_resources": {
        "listeners": [{
            "name": "gateway",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "gateway",
                    "use_remote_address": true,
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "outbound|443||legacy.example.com"}}]}]},
                    "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
                },
            }]}],
        }],
        "clusters": [service("outbound|443||legacy.example.com")],
    }})
}

/// Puts one value into another, as Istio's MERGE does with messages of which no list is in both.
pub(crate) fn merge(into: &mut Value, value: &Value) {
    match (into, value) {
        (Value::Object(into), Value::Object(members)) => {
            for (name, member) in members {
                merge(into.entry(name.clone()).or_insert(Value::Null), member);
            }
        }
        (into, value) => *into = value.clone(),
    }
}

/// The connection manager of [`base`].
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0";

/// The bootstrap that comes of an `EnvoyFilter`'s patches, with certificates that exist.
fn patched(documents: &[Value], certificates: &Certificates) -> Value {
    patch(base(), documents, certificates)
}

/// The same of another one.
pub(crate) fn patch(mut bootstrap: Value, documents: &[Value], certificates: &Certificates) -> Value {
    for value in patches(documents, "NETWORK_FILTER", "MERGE") {
        merge(bootstrap.pointer_mut(MANAGER).unwrap(), value);
    }
    for value in patches(documents, "CLUSTER", "MERGE") {
        merge(bootstrap.pointer_mut("/static_resources/clusters/0").unwrap(), value);
    }
    for value in patches(documents, "CLUSTER", "ADD") {
        add_cluster(&mut bootstrap, value, certificates);
    }
    for value in patches(documents, "HTTP_FILTER", "INSERT_FIRST") {
        add_filter(&mut bootstrap, value.clone());
    }
    bootstrap
}

pub(crate) fn add_filter(bootstrap: &mut Value, filter: Value) {
    let filters = bootstrap
        .pointer_mut(&format!("{MANAGER}/typed_config/http_filters"))
        .unwrap();
    filters.as_array_mut().unwrap().insert(0, filter);
}

pub(crate) fn add_cluster(bootstrap: &mut Value, cluster: &Value, certificates: &Certificates) {
    let text = cluster.to_string();
    let text = text
        .replace(
            "/etc/kerbridge/mesh/tls.crt",
            certificates.certificate.to_str().unwrap(),
        )
        .replace(
            "/etc/kerbridge/mesh/tls.key",
            certificates.private_key.to_str().unwrap(),
        )
        .replace("/etc/kerbridge/mesh/ca.crt", certificates.authority.to_str().unwrap());
    assert!(!text.contains("/etc/kerbridge"), "{text}");
    let clusters = bootstrap.pointer_mut("/static_resources/clusters").unwrap();
    clusters
        .as_array_mut()
        .unwrap()
        .push(serde_json::from_str(&text).unwrap());
}

/// Istio's own translation of a `WasmPlugin`: the name is the root, the configuration is JSON in a string, the VM has no name.
pub(crate) fn translated(plugin: &Value) -> Value {
    let spec = &plugin["spec"];
    let file = spec["url"].as_str().unwrap().strip_prefix("file://").unwrap();
    json!({"name": "istio-ingress.kerbridge", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": "istio-ingress.kerbridge",
            "root_id": spec["pluginName"],
            "failure_policy": spec["failStrategy"],
            "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": file}}},
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": spec["pluginConfig"].to_string(),
            },
        },
    }})
}

/// Envoy's word on a bootstrap: JSON is YAML.
fn check(bootstrap: &Value) {
    validate(&bootstrap.to_string()).unwrap_or_else(|error| panic!("{error}\n{bootstrap:#}"));
}

#[test]
fn envoy_takes_what_comes_of_the_envoy_filter_with_the_module_and_both_roles() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path()).unwrap();
    let code = format!("file://{}", module());
    let documents = rendered("istio-envoy-filter", &[&LABELS[..], &["--module-url", &code]].concat());
    let bootstrap = patched(&documents, &certificates);
    check(&bootstrap);
    // The check can fail: what the module refuses, Envoy refuses.
    let wrong = bootstrap.to_string().replace("\\\"routes\\\"", "\\\"rutes\\\"");
    assert_ne!(wrong, bootstrap.to_string());
    assert!(validate(&wrong).is_err());
}

#[test]
fn envoy_takes_the_wasm_plugin_as_istio_hands_it_on() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path()).unwrap();
    let code = format!("file://{}", module());
    let documents = rendered("istio", &[&GATEWAY[..], &["--module-url", &code]].concat());
    let mut bootstrap = patched(&documents, &certificates);
    add_filter(&mut bootstrap, translated(only(&documents, "WasmPlugin")));
    check(&bootstrap);
}

#[test]
fn envoy_takes_the_clusters_and_labels_of_envoy_gateways_bootstrap() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path()).unwrap();
    let rendered = rendered("envoy-gateway", &[&GATEWAY[..], &["--module-url", IMAGE]].concat());
    let proxy = &only(&rendered, "EnvoyProxy")["spec"];
    assert_eq!(proxy["bootstrap"]["type"], "Merge");
    let own = documents(proxy["bootstrap"]["value"].as_str().unwrap());
    // The words in the names become the labels that they become in the shipped configuration.
    let shipped = documents(&std::fs::read_to_string(repository().join("envoy/envoy.yaml")).unwrap());
    assert_eq!(own[0]["stats_config"], shipped[0]["stats_config"]);
    let mut bootstrap = base();
    merge(&mut bootstrap, &json!({"stats_config": own[0]["stats_config"]}));
    let clusters = own[0]["static_resources"]["clusters"].as_array().unwrap();
    assert_eq!(clusters.len(), 1);
    add_cluster(&mut bootstrap, &clusters[0], &certificates);
    check(&bootstrap);
    // Where the clusters read certificates, the Secret is mounted.
    let pod = &proxy["provider"]["kubernetes"]["envoyDeployment"];
    let mount = &pod["container"]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/etc/kerbridge/mesh");
    assert_eq!(mount["name"], pod["pod"]["volumes"][0]["name"]);
}

#[test]
fn what_could_not_be_true_is_refused_with_the_remedy() {
    let legacy = str::to_owned;
    let bare = without_legacy;
    let image = ["--module-url", IMAGE];
    type Edit<'e> = &'e dyn Fn(&str) -> String;
    let cases: [(Edit<'_>, &[&str], &str); 12] = [
        (&bare, &["--format", "istio"], "--namespace: say where the gateway is"),
        (
            &bare,
            &["--format", "istio", "--namespace", "a"],
            "--gateway NAME or --selector",
        ),
        (
            &bare,
            &["--format", "istio", "--namespace", "a", "--gateway", "b"],
            "--cluster kerbridge_broker=HOST:PORT",
        ),
        (
            &bare,
            &[
                "--format",
                "istio",
                "--namespace",
                "a",
                "--gateway",
                "b",
                "--cluster",
                PLACE,
                "--cluster",
                "other=c:1",
            ],
            "the filter calls no broker by that name",
        ),
        (
            &legacy,
            &[&["--format", "istio"], &AT[..], &GATEWAY, &image].concat(),
            "a file is needed",
        ),
        (
            &bare,
            &[&["--format", "istio-envoy-filter"], &AT[..], &GATEWAY, &image].concat(),
            "a file is needed",
        ),
        (
            &bare,
            &[
                &["--format", "istio"],
                &AT[..],
                &GATEWAY,
                &["--module-url", "https://a.example.com/m.wasm"],
            ]
            .concat(),
            "with --module, so that its sha256",
        ),
        (
            &bare,
            &[
                &["--format", "istio"],
                &AT[..],
                &GATEWAY,
                &["--module-url", "oci://a.example.com/m:latest"],
            ]
            .concat(),
            "never by a tag",
        ),
        (
            &legacy,
            &[&["--format", "envoy-gateway"], &AT[..], &GATEWAY, &image].concat(),
            "gives each one of its own",
        ),
        (
            &bare,
            &[&["--format", "envoy-gateway"], &AT[..], &GATEWAY].concat(),
            "an image or an address is needed",
        ),
        (
            &bare,
            &[&["--format", "envoy-gateway"], &AT[..], &LABELS, &image].concat(),
            "say --gateway NAME",
        ),
        (
            &bare,
            &[&["--format", "istio", "--namespace", "Not_A_Name"], &GATEWAY[..]].concat(),
            "lower-case letters",
        ),
    ];
    for (edit, arguments, expected) in cases {
        let (done, printed) = try_render(edit, arguments);
        assert!(!done && printed.contains(expected), "{arguments:?}: {printed}");
    }
}
