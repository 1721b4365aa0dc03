//! Manifests for Istio: the filter as a `WasmPlugin` or in an `EnvoyFilter`, and in an `EnvoyFilter` what a `WasmPlugin` cannot say:
//! the listener's settings, the clusters of the brokers, the filter of a Kerberos service's cluster.

use kerbridge_wire::Spn;
use kerbridge_wire::filter_config::UpstreamFilterConfig;
use serde_json::{Value, json};

use super::manifests::{Code, Manifests, NAME, Target, Unrenderable, cluster, gateway_reference, plugin};
use super::{json as config_json, yaml};

/// How the filter gets into the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// By a `WasmPlugin`: Istio fetches the module. It can say neither a VM's name nor what the module may ask for.
    WasmPlugin,
    /// By the `EnvoyFilter` too, from a file, with both.
    EnvoyFilter,
}

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// The manifests, as YAML.
///
/// # Errors
///
/// [`Unrenderable`] where they could not be true.
pub fn istio(manifests: &Manifests<'_>, chain: Chain) -> Result<String, Unrenderable> {
    let mut documents = Vec::new();
    let mut patches = vec![settings()];
    for place in manifests.places()? {
        patches.push(json!({
            "applyTo": "CLUSTER",
            "match": {"context": "GATEWAY"},
            "patch": {"operation": "ADD", "value": cluster(place)},
        }));
    }
    match chain {
        Chain::WasmPlugin => documents.push(wasm_plugin(manifests)?),
        Chain::EnvoyFilter => patches.push(filter(manifests)?),
    }
    for (spn, config) in manifests.upstreams {
        patches.push(upstream(manifests, chain, spn, config)?);
    }
    let mut spec = json!({"configPatches": patches});
    attach(&mut spec, manifests.target, "workloadSelector", "labels");
    documents.push(json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": manifests.metadata(NAME),
        "spec": spec,
    }));
    Ok(yaml::documents(&documents))
}

/// Says for which gateways an object is.
fn attach(spec: &mut Value, target: &Target, selector: &str, labels: &str) {
    let (name, value) = match target {
        Target::Gateway(name) => ("targetRefs", gateway_reference(name)),
        Target::Labels(all) => (selector, json!({ labels: all })),
    };
    if let Value::Object(members) = spec {
        members.insert(name.to_owned(), value);
    }
}

fn wasm_plugin(manifests: &Manifests<'_>) -> Result<Value, Unrenderable> {
    let (url, sha256) = match manifests.code {
        Code::File(path) => (format!("file://{path}"), None),
        Code::Https(url) => (url.clone(), Some(manifests.sha256.ok_or(Unrenderable::NeedsDigest)?)),
        // By its digest in the name: what is fetched cannot be another.
        Code::Image { name, digest } => (format!("oci://{name}@sha256:{digest}"), None),
    };
    let mut spec = json!({
        "url": url,
        "pluginName": NAME,
        "phase": "AUTHN",
        // A module that cannot run answers 503 in each of its two closed forms; in this one it is loaded anew.
        "failStrategy": "FAIL_RELOAD",
        "pluginConfig": manifests.config,
    });
    if let (Some(sha256), Value::Object(members)) = (sha256, &mut spec) {
        members.insert("sha256".to_owned(), json!(sha256));
    }
    attach(&mut spec, manifests.target, "selector", "matchLabels");
    Ok(json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": manifests.metadata(NAME),
        "spec": spec,
    }))
}

/// The filter before all others of the chain.
fn filter(manifests: &Manifests<'_>) -> Result<Value, Unrenderable> {
    let Code::File(path) = manifests.code else {
        return Err(Unrenderable::NeedsFile("an EnvoyFilter has nobody who fetches it"));
    };
    let configuration = config_json(manifests.config)?;
    Ok(json!({
        "applyTo": "HTTP_FILTER",
        "match": {
            "context": "GATEWAY",
            "listener": {"filterChain": {"filter": {"name": CONNECTION_MANAGER}}},
        },
        "patch": {
            "operation": "INSERT_FIRST",
            "value": {"name": NAME, "typed_config": plugin(NAME, Some(NAME), path, &configuration)},
        },
    }))
}

/// What the listener must do before anything decides: the settings of an Envoy that is configured by hand.
fn settings() -> Value {
    json!({
        "applyTo": "NETWORK_FILTER",
        "match": {
            "context": "GATEWAY",
            "listener": {"filterChain": {"filter": {"name": CONNECTION_MANAGER}}},
        },
        "patch": {
            "operation": "MERGE",
            "value": {
                "name": CONNECTION_MANAGER,
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "normalize_path": true,
                    "merge_slashes": true,
                    "path_with_escaped_slashes_action": "REJECT_REQUEST",
                    "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
                    "early_header_mutation_extensions": [{
                        "name": "envoy.http.early_header_mutation.header_mutation",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                            "mutations": [{"remove_on_match": {"key_matcher": {"prefix": "x-kerbridge-"}}}],
                        },
                    }],
                    "max_request_headers_kb": 96,
                    "request_headers_timeout": "10s",
                    "request_timeout": "30s",
                    "stream_idle_timeout": "30s",
                },
            },
        },
    })
}

/// The filter of a Kerberos service's cluster, in the VM of the chain's. The service is known to the mesh by the host of its
/// principal.
fn upstream(
    manifests: &Manifests<'_>,
    chain: Chain,
    spn: &Spn,
    config: &UpstreamFilterConfig,
) -> Result<Value, Unrenderable> {
    let Code::File(path) = manifests.code else {
        return Err(Unrenderable::NeedsFile(
            "a route leads to a Kerberos service with tickets, and both of its filters must be of the same bytes in one VM",
        ));
    };
    // A VM is known by its name and its code: a WasmPlugin's has no name.
    let vm = match chain {
        Chain::WasmPlugin => None,
        Chain::EnvoyFilter => Some(NAME),
    };
    let name = "kerbridge_upstream";
    let configuration = serde_json::to_string(config)?;
    let mut plugin = plugin(name, vm, path, &configuration);
    // The first of the two plugins makes the VM for both: this one may not narrow what the other did not.
    if chain == Chain::WasmPlugin
        && let Some(config) = plugin.pointer_mut("/config").and_then(Value::as_object_mut)
    {
        config.remove("capability_restriction_config");
    }
    Ok(json!({
        "applyTo": "CLUSTER",
        "match": {"context": "GATEWAY", "cluster": {"service": spn.host()}},
        "patch": {
            "operation": "MERGE",
            "value": {"typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http_protocol_options": {}},
                    "http_filters": [
                        {"name": name, "typed_config": plugin},
                        {
                            "name": "envoy.filters.http.upstream_codec",
                            "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
                            },
                        },
                    ],
                },
            }},
        },
    }))
}
