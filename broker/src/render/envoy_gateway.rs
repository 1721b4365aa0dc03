//! Manifests for Envoy Gateway: the filter as an `EnvoyExtensionPolicy`, the listener's settings as a `ClientTrafficPolicy`, and the
//! clusters of the brokers in the bootstrap of an `EnvoyProxy`.

use serde_json::{Value, json};

use super::manifests::{
    CERTIFICATES, Code, Manifests, NAME, Target, Unrenderable, cluster, gateway_reference, stats_tags,
};
use super::yaml;

const VERSION: &str = "gateway.envoyproxy.io/v1alpha1";

/// The manifests, as YAML.
///
/// # Errors
///
/// [`Unrenderable`] where they could not be true.
pub fn envoy_gateway(manifests: &Manifests<'_>) -> Result<String, Unrenderable> {
    let Target::Gateway(gateway) = manifests.target else {
        return Err(Unrenderable::NeedsGateway);
    };
    if let Some(spn) = manifests.upstreams.keys().next() {
        return Err(Unrenderable::NoUpstreams(spn.clone()));
    }
    let code = match manifests.code {
        Code::File(_) => return Err(Unrenderable::NeedsImage),
        Code::Https(url) => {
            let sha256 = manifests.sha256.ok_or(Unrenderable::NeedsDigest)?;
            json!({"type": "HTTP", "http": {"url": url, "sha256": sha256}})
        }
        Code::Image { name, digest } => {
            json!({"type": "Image", "image": {"url": format!("{name}@sha256:{digest}"), "sha256": digest}})
        }
    };
    let target = gateway_reference(gateway);
    let object = |kind: &str, spec: Value| json!({"apiVersion": VERSION, "kind": kind, "metadata": manifests.metadata(NAME), "spec": spec});
    let extension = object(
        "EnvoyExtensionPolicy",
        json!({
            "targetRefs": target,
            "wasm": [{
                "name": NAME,
                "rootID": NAME,
                "code": code,
                "config": manifests.config,
                // A module that cannot run must answer 503, not let requests pass.
                "failOpen": false,
            }],
        }),
    );
    let traffic = object(
        "ClientTrafficPolicy",
        json!({
            "targetRefs": target,
            "path": {"escapedSlashesAction": "RejectRequest", "disableMergeSlashes": false},
            "headers": {"withUnderscoresAction": "RejectRequest"},
            "timeout": {"http": {"requestReceivedTimeout": "30s", "streamIdleTimeout": "30s"}},
        }),
    );
    Ok(yaml::documents(&[
        extension,
        traffic,
        object("EnvoyProxy", proxy(manifests)?),
    ]))
}

/// What the proxies themselves need: brokers to call, certificates to show them, words in statistics. The Secret is mounted where
/// the clusters read it.
fn proxy(manifests: &Manifests<'_>) -> Result<Value, Unrenderable> {
    let clusters: Vec<Value> = manifests.places()?.into_iter().map(cluster).collect();
    let bootstrap = json!({
        "stats_config": {"stats_tags": stats_tags()},
        "static_resources": {"clusters": clusters},
    });
    let name = "kerbridge-mesh";
    Ok(json!({
        "bootstrap": {"type": "Merge", "value": yaml::document(&bootstrap)},
        "provider": {
            "type": "Kubernetes",
            "kubernetes": {"envoyDeployment": {
                "container": {"volumeMounts": [{"name": name, "mountPath": CERTIFICATES, "readOnly": true}]},
                "pod": {"volumes": [{"name": name, "secret": {"secretName": name}}]},
            }},
        },
    }))
}
