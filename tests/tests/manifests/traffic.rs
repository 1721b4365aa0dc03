//! What is rendered for Istio and Envoy Gateway, put together as these do it, before a real broker over mTLS: tickets and tokens open what
//! the policy opens, and nothing else.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::broker::Broker;
use kerbridge_tests::certificates::{CLIENT, Certificates};
use kerbridge_tests::port::free_tcp;
use kerbridge_tests::shipped::{self, ShippedYaml};
use kerbridge_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::istio::{add_cluster, add_filter, merge, only, patch, translated};
use crate::tools::{documents, module};

/// Until the filter has the broker's keys.
const KEYS: Duration = Duration::from_secs(30);

/// A gateway before anything of ours: its listener ends TLS, and all goes to one service.
fn gateway(world: &World) -> Value {
    let Certificates {
        certificate,
        private_key,
        ..
    } = world.certificates();
    json!({"static_resources": {
        "listeners": [{
            "name": "https",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "common_tls_context": {
                        "alpn_protocols": ["h2", "http/1.1"],
                        "tls_certificates": [{
                            "certificate_chain": {"filename": certificate},
                            "private_key": {"filename": private_key},
                        }],
                    },
                }},
                "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "gateway",
                        "use_remote_address": true,
                        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                            {"match": {"prefix": "/"}, "route": {"cluster": "orders"}}]}]},
                        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
                    },
                }],
            }],
        }],
        "clusters": [{"name": "orders", "type": "STATIC", "load_assignment": {"cluster_name": "orders", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": {"socket_address":
                {"address": "127.0.0.1", "port_value": world.upstream().port()}}}}]}]}}],
    }})
}

/// Envoy Gateway's own translation of the plugin in an `EnvoyExtensionPolicy`, with the module's file in place of what it fetches.
fn extension(policy: &Value) -> Value {
    let plugin = &policy["spec"]["wasm"][0];
    let name = &plugin["name"];
    json!({"name": "envoy.filters.http.wasm", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": name,
            "root_id": plugin["rootID"].as_str().or(name.as_str()),
            "failure_policy": if plugin["failOpen"] == false { "FAIL_CLOSED" } else { "FAIL_OPEN" },
            "vm_config": {"vm_id": name, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module()}}},
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": plugin["config"].to_string(),
            },
        },
    }})
}

/// The lab's policy without the route to a Kerberos service, which Envoy Gateway cannot have.
fn policy() -> String {
    let policy = shipped::policy("localhost", "LAB.TEST").unwrap();
    let lines: Vec<&str> = policy.lines().filter(|line| !line.starts_with("upstream = ")).collect();
    assert_ne!(lines.len(), policy.lines().count());
    lines.join("\n")
}

fn rendered(world: &mut World, format: &str, port: u16) -> Vec<Value> {
    let config = world.broker().config();
    let place = format!("kerbridge_broker=localhost:{port}");
    let url = if format == "envoy-gateway" {
        format!("oci://registry.example.com/m@sha256:{}", "0".repeat(64))
    } else {
        format!("file://{}", module())
    };
    let arguments = [
        "policy",
        "render",
        "--config",
        config.to_str().unwrap(),
        "--format",
        format,
        "--namespace",
        "istio-ingress",
        "--gateway",
        "public",
        "--cluster",
        &place,
        "--module-url",
        &url,
    ];
    let (status, printed) = Broker::run(world.folder(), &arguments).unwrap();
    assert!(status.success(), "{printed}");
    documents(&printed)
}

#[test]
fn tickets_and_tokens_open_what_they_should_through_each_kind_of_manifest() {
    let mut world = World::builder().broker_stopped().start().unwrap();
    let port = free_tcp().unwrap();
    world.broker().set_policy(&policy()).unwrap();
    world.listen_over_tls(port, CLIENT).unwrap();
    let mut mounted = world.certificates().clone();
    mounted.certificate.clone_from(&mounted.client_certificate);
    mounted.private_key.clone_from(&mounted.client_private_key);
    for format in ["istio-envoy-filter", "istio", "envoy-gateway"] {
        let documents = rendered(&mut world, format, port);
        let mut bootstrap = gateway(&world);
        match format {
            "envoy-gateway" => {
                let own = &only(&documents, "EnvoyProxy")["spec"]["bootstrap"]["value"];
                let own = crate::tools::documents(own.as_str().unwrap());
                merge(&mut bootstrap, &json!({"stats_config": own[0]["stats_config"]}));
                for cluster in own[0]["static_resources"]["clusters"].as_array().unwrap() {
                    add_cluster(&mut bootstrap, cluster, &mounted);
                }
                add_filter(&mut bootstrap, extension(only(&documents, "EnvoyExtensionPolicy")));
            }
            "istio" => {
                bootstrap = patch(bootstrap, &documents, &mounted);
                add_filter(&mut bootstrap, translated(only(&documents, "WasmPlugin")));
            }
            _ => bootstrap = patch(bootstrap, &documents, &mounted),
        }
        // The broker of the test has one address of the two that its name has here.
        for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().unwrap() {
            if cluster["type"] == "STRICT_DNS" {
                cluster["dns_lookup_family"] = json!("V4_ONLY");
            }
        }
        let text = bootstrap.to_string();
        world
            .restart_envoy(|yaml| {
                *yaml = ShippedYaml::from_text(text);
                Ok(())
            })
            .unwrap();
        wait_until("keys by way of mTLS", KEYS, || {
            world.curl_as("alice", "/orders/1").send().unwrap().status == 200
        })
        .unwrap();
        let token = world.token("alice", "/orders/1").unwrap();
        let status = |path: &str| world.curl(path).bearer(&token).send().unwrap().status;
        assert_eq!(status("/orders/1"), 200, "{format}");
        // Another audience's, and a path that no route has.
        assert_eq!((status("/reports/1"), status("/nowhere")), (401, 403), "{format}");
        let arrived = world.upstream().requests().len();
        let challenge = world.curl("/orders/1").send().unwrap();
        assert_eq!(challenge.status, 401, "{format}");
        assert!(challenge.all("www-authenticate").contains(&"Negotiate"), "{format}");
        let forged = world
            .curl("/orders/1")
            .bearer("eyJhbGciOiJub25lIn0.e30.")
            .send()
            .unwrap();
        assert_eq!(forged.status, 401, "{format}");
        if format != "envoy-gateway" {
            // The listener's own settings came with the patches.
            let slashes = world.curl("/orders%2F1").bearer(&token).send().unwrap();
            assert_eq!(slashes.status, 400, "{format}");
        }
        assert_eq!(world.upstream().requests().len(), arrived, "{format}");
    }
}
