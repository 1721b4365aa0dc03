//! What manifests of every kind say: where brokers are, which module, which gateway; and the parts that are Envoy's in all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use kerbridge_wire::Spn;
use kerbridge_wire::filter_config::{FilterConfig, UpstreamFilterConfig};
use serde_json::{Map, Value, json};

use super::capabilities;

/// Where the certificates for the brokers are in the gateway's container: those of a `kubernetes.io/tls` Secret with `ca.crt`.
pub(super) const CERTIFICATES: &str = "/etc/kerbridge/mesh";

/// What the two plugins, their root and their VM are called, as in an Envoy that is configured by hand.
pub(super) const NAME: &str = "kerbridge";

/// All that manifests are made from.
#[derive(Clone, Copy, Debug)]
pub struct Manifests<'a> {
    /// The filter's configuration.
    pub config: &'a FilterConfig,
    /// The Kerberos services to which routes lead, and what the filters of their clusters are told.
    pub upstreams: &'a BTreeMap<Spn, UpstreamFilterConfig>,
    /// Where the brokers are.
    pub clusters: &'a [Place],
    /// Where the module is.
    pub code: &'a Code,
    /// SHA-256 of the module, where it was at hand.
    pub sha256: Option<&'a str>,
    /// Which gateways get it.
    pub target: &'a Target,
    /// Where they are.
    pub namespace: &'a KubeName,
}

/// Why there are no such manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrenderable {
    /// Nobody said where the brokers of a cluster are.
    Unplaced(String),
    /// A cluster that the filter does not call.
    Uncalled(String),
    /// The module has to be a file of the gateway's container.
    NeedsFile(&'static str),
    /// The module cannot be a file there.
    NeedsImage,
    /// A module that is fetched by address has to be known by its digest.
    NeedsDigest,
    /// Gateways can be named only by their labels, or only by name.
    NeedsGateway,
    /// Envoy Gateway gives each filter a VM of its own name.
    NoUpstreams(Spn),
    /// The configuration has no form in JSON.
    Json(String),
}

impl fmt::Display for Unrenderable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unplaced(name) => write!(
                f,
                "the filter calls the cluster {name}: say where it is, --cluster {name}=HOST:PORT"
            ),
            Self::Uncalled(name) => write!(
                f,
                "--cluster {name}: the filter calls no broker by that name; see `cluster` in the policy's [filter]"
            ),
            Self::NeedsFile(why) => write!(
                f,
                "--module-url: a file is needed, such as file:///etc/envoy/kerbridge_filter.wasm: {why}"
            ),
            Self::NeedsImage => f.write_str(
                "--module-url: Envoy Gateway fetches the module: an image or an address is needed, oci://… or https://…",
            ),
            Self::NeedsDigest => f.write_str(
                "--module-url https://…: name the same file with --module, so that its sha256 can be demanded",
            ),
            Self::NeedsGateway => f.write_str("--selector: Envoy Gateway attaches policies by name, say --gateway NAME"),
            Self::NoUpstreams(spn) => write!(
                f,
                "a route leads to {spn} with tickets, which needs both filters in one VM: Envoy Gateway gives each one of its own. \
                 Take --format istio, or an Envoy that is configured by hand"
            ),
            Self::Json(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for Unrenderable {}

impl From<serde_json::Error> for Unrenderable {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

/// A name in Kubernetes, as namespaces, gateways and Secrets have it (RFC 1123).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeName(String);

impl KubeName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KubeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_host(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err("lower-case letters, digits, `-` and `.`, to 253 of them")
        }
    }
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A cluster of Envoy's, by name, and where its brokers are: `NAME=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    name: String,
    host: String,
    port: u16,
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "NAME=HOST:PORT, as in kerbridge_broker=kerbridge.kerbridge.svc.cluster.local:8443";
        let (name, address) = text.rsplit_once('=').ok_or(form)?;
        let (host, port) = address.rsplit_once(':').ok_or(form)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(form)?;
        if name.is_empty() || !is_host(host) {
            return Err(form);
        }
        Ok(Self {
            name: name.to_owned(),
            host: host.to_owned(),
            port,
        })
    }
}

/// Where the module comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// A file of the gateway's container.
    File(String),
    /// An address; whoever fetches it demands the digest.
    Https(String),
    /// An image, by its manifest's digest.
    Image {
        /// Registry and name, without tag.
        name: String,
        /// SHA-256 of the manifest, in hexadecimal.
        digest: String,
    },
}

impl FromStr for Code {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') && plain(path) {
                Ok(Self::File(path.to_owned()))
            } else {
                Err("an absolute path behind file://")
            };
        }
        if text.strip_prefix("https://").is_some_and(plain) {
            return Ok(Self::Https(text.to_owned()));
        }
        let image = text.strip_prefix("oci://").and_then(|rest| rest.split_once("@sha256:"));
        let is_digest = |digest: &str| {
            digest.len() == 64
                && digest
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        match image {
            Some((name, digest)) if plain(name) && is_digest(digest) => Ok(Self::Image {
                name: name.to_owned(),
                digest: digest.to_owned(),
            }),
            _ => Err(
                "file:///PATH, https://ADDRESS or oci://REGISTRY/NAME@sha256:DIGEST (an image by its digest, never by a tag)",
            ),
        }
    }
}

/// Which gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A `Gateway` of the Gateway API.
    Gateway(KubeName),
    /// Pods with these labels.
    Labels(BTreeMap<String, String>),
}

impl Manifests<'_> {
    /// Each cluster by which the filter calls a broker, and where it is.
    pub(super) fn places(&self) -> Result<Vec<&Place>, Unrenderable> {
        let broker = self.config.broker.iter();
        let mut called: BTreeSet<&str> = broker
            .flat_map(|broker| {
                let delegation = broker.delegation.iter().map(|delegation| delegation.cluster.as_str());
                delegation.chain([broker.cluster.as_str()])
            })
            .collect();
        // The first issuer is the broker itself; where the others' keys are is the mesh's to know.
        let own = self.config.issuers.first().into_iter();
        called.extend(own.flat_map(|own| {
            let feed = own.feed.iter().map(|feed| feed.cluster.as_str());
            feed.chain(own.jwks.cluster.as_deref())
        }));
        if let Some(other) = self.clusters.iter().find(|place| !called.contains(place.name.as_str())) {
            return Err(Unrenderable::Uncalled(other.name.clone()));
        }
        let place = |name: &&str| {
            let found = self.clusters.iter().find(|place| place.name == **name);
            found.ok_or_else(|| Unrenderable::Unplaced((**name).to_owned()))
        };
        called.iter().map(place).collect()
    }

    /// `metadata` of an object.
    pub(super) fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.namespace.as_str(),
            "labels": {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "gateway"},
        })
    }
}

/// The reference to a `Gateway` in `targetRefs`.
pub(super) fn gateway_reference(name: &KubeName) -> Value {
    json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name.as_str()}])
}

/// A plugin's `PluginConfig` around its configuration, in a VM from a file.
pub(super) fn plugin(name: &str, vm_id: Option<&str>, file: &str, configuration: &str) -> Value {
    let mut vm = json!({"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": file}}});
    if let (Some(id), Value::Object(vm)) = (vm_id, &mut vm) {
        vm.insert("vm_id".to_owned(), json!(id));
    }
    let allowed: Map<String, Value> = capabilities::allowed()
        .map(|name| (name.to_owned(), json!({})))
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": name,
            "root_id": name,
            "failure_policy": "FAIL_RELOAD",
            "capability_restriction_config": {"allowed_capabilities": allowed},
            "vm_config": vm,
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": configuration,
            },
        },
    })
}

/// `HttpProtocolOptions` of a broker's cluster: idle connections end below the broker's own 75 s, and nothing is repeated.
fn broker_options() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": "30s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }})
}

/// The cluster of brokers at a place: TLS 1.3, both sides show certificates, and the broker's name is checked.
pub(super) fn cluster(place: &Place) -> Value {
    let Place { name, host, port } = place;
    json!({
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        // One broker that is away costs one call, then the others answer; with one alone nobody is left out.
        "outlier_detection": {
            "split_external_local_origin_errors": true,
            "consecutive_local_origin_failure": 1,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_percent": 50,
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "common_tls_context": {
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_3",
                        "tls_maximum_protocol_version": "TLSv1_3",
                    },
                    "tls_certificates": [{
                        "certificate_chain": {"filename": format!("{CERTIFICATES}/tls.crt")},
                        "private_key": {"filename": format!("{CERTIFICATES}/tls.key")},
                    }],
                    "validation_context": {
                        "trusted_ca": {"filename": format!("{CERTIFICATES}/ca.crt")},
                        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
                    },
                },
            },
        },
        "typed_extension_protocol_options": broker_options(),
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{
                "endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}},
            }]}],
        },
    })
}

/// Makes labels of the words in the names of the filter's statistics, as the shipped `envoy.yaml` does.
pub(super) fn stats_tags() -> Value {
    json!([
        {"tag_name": "kerbridge_reason", "regex": r"^(?:cluster\..+\.)?wasmcustom\.kerbridge\.\w+(\.reason\.(\w+))"},
        {"tag_name": "kerbridge_issuer", "regex": r"^(?:cluster\..+\.)?wasmcustom\.kerbridge\..+?(\.issuer\.([\w-]+))$"},
        {"tag_name": "kerbridge_loaded_for", "regex": r"^(cluster\.(.+)\.)wasmcustom\.kerbridge\."},
    ])
}
