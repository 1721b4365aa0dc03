//! Builds the configurations in which Envoy is asked.

use std::path::{Path, PathBuf};

use kerbridge_tests::envoy::{Envoy, EnvoyOptions};
use kerbridge_tests::http::{Request, Response};
use serde_json::{Value, json};

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// The probe module: named by `KERBRIDGE_PROBE_WASM`, else where cargo puts it.
pub(crate) fn module() -> PathBuf {
    let path = std::env::var_os("KERBRIDGE_PROBE_WASM")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/wasm32-wasip1/release/kerbridge_probe.wasm")
        });
    assert!(
        path.is_file(),
        "{} does not exist: build kerbridge-probe for wasm32-wasip1",
        path.display()
    );
    path
}

/// The probe as an HTTP filter, told by `config` what to do in its callbacks.
pub(crate) fn probe(config: &str) -> Value {
    probe_with(config, &json!({}))
}

/// The probe with more fields of Envoy's `PluginConfig`.
pub(crate) fn probe_with(config: &str, plugin: &Value) -> Value {
    let mut settings = json!({
        "name": "probe",
        "root_id": "probe",
        "failure_policy": "FAIL_RELOAD",
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": config},
        "vm_config": {
            "vm_id": "probe",
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module()}},
        },
    });
    merge(&mut settings, plugin);
    json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": settings},
    })
}

/// A bootstrap under construction.
#[derive(Default)]
pub(crate) struct Bootstrap {
    listeners: Vec<Value>,
    clusters: Vec<Value>,
}

impl Bootstrap {
    /// A listener on a free port: these filters before the router, these routes, and more fields of the HTTP
    /// connection manager.
    pub(crate) fn listener(self, name: &str, filters: &[Value], routes: &Value, manager: &Value) -> Self {
        self.listener_with_router(name, filters, routes, manager, &router(&[]))
    }

    /// A listener whose last filter is this router.
    pub(crate) fn listener_with_router(
        mut self,
        name: &str,
        filters: &[Value],
        routes: &Value,
        manager: &Value,
        router: &Value,
    ) -> Self {
        let mut chain = filters.to_vec();
        chain.push(router.clone());
        let mut settings = json!({
            "@type": HCM,
            "stat_prefix": name,
            "http_filters": chain,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        });
        merge(&mut settings, manager);
        self.listeners.push(json!({
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{"name": "hcm", "typed_config": settings}]}],
        }));
        self
    }

    /// Adds fields to the filter chain of the last listener.
    pub(crate) fn chain(mut self, fields: &Value) -> Self {
        merge(
            self.listeners
                .last_mut()
                .unwrap()
                .pointer_mut("/filter_chains/0")
                .unwrap(),
            fields,
        );
        self
    }

    /// Adds fields to the last listener.
    pub(crate) fn last_listener(mut self, fields: &Value) -> Self {
        merge(self.listeners.last_mut().unwrap(), fields);
        self
    }

    /// A cluster of one endpoint on a port of 127.0.0.1, with more fields of its own.
    pub(crate) fn cluster(self, name: &str, port: u16, fields: &Value) -> Self {
        self.endpoint(
            name,
            &json!({"socket_address": {"address": "127.0.0.1", "port_value": port}}),
            fields,
        )
    }

    /// A cluster of one Unix socket.
    pub(crate) fn unix_cluster(self, name: &str, path: &Path) -> Self {
        self.endpoint(name, &json!({"pipe": {"path": path}}), &json!({}))
    }

    fn endpoint(mut self, name: &str, address: &Value, fields: &Value) -> Self {
        let mut cluster = json!({
            "name": name,
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        });
        merge(&mut cluster, fields);
        self.clusters.push(cluster);
        self
    }

    /// The bootstrap as text; JSON is YAML.
    pub(crate) fn text(&self) -> String {
        json!({"static_resources": {"listeners": self.listeners, "clusters": self.clusters}}).to_string()
    }

    /// Runs it with one worker.
    pub(crate) fn start(&self) -> Envoy {
        self.start_with(1)
    }

    /// Runs it with this many workers.
    pub(crate) fn start_with(&self, concurrency: u32) -> Envoy {
        // The access log is a buffered file; its usual ten seconds are longer than any of these tests.
        let args = ["--file-flush-interval-msec", "20"].map(Into::into).to_vec();
        Envoy::start(
            &self.text(),
            &EnvoyOptions {
                concurrency,
                args,
                ..EnvoyOptions::default()
            },
        )
        .unwrap()
    }
}

/// Every request to this cluster.
pub(crate) fn route_to(cluster: &str) -> Value {
    json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster}}])
}

/// Every request is answered by Envoy with this status and `direct`.
pub(crate) fn direct(status: u16) -> Value {
    json!([{"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": "direct"}}}])
}

/// An access log on stdout, which is in Envoy's log: `access: ` and this format.
pub(crate) fn access_log(format: &str) -> Value {
    json!({"access_log": [{
        "name": "stdout",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"text_format_source": {"inline_string": format!("access: {format}\n")}},
        },
    }]})
}

/// One listener `front` that runs scripts from the header `x-probe` and answers 418 where a script does not.
pub(crate) fn scripted() -> Bootstrap {
    Bootstrap::default().listener("front", &[probe("")], &direct(418), &json!({}))
}

/// Sends a script to `front` and returns the answer.
pub(crate) fn ask(envoy: &Envoy, script: &str) -> Response {
    envoy
        .send("front", &Request::get("/").header("x-probe", script))
        .unwrap()
}

/// A line that the module printed.
#[derive(Debug)]
pub(crate) struct Said {
    /// The thread that ran the module; the main thread's number is the process's.
    pub(crate) thread: u32,
    /// The line.
    pub(crate) text: String,
}

/// The lines that the module printed so far.
pub(crate) fn said(envoy: &Envoy) -> Vec<Said> {
    let log = envoy.log();
    let said = log.lines().filter_map(|line| {
        let (head, text) = line.split_once(": probe: ")?;
        let thread = head.split(']').nth(1)?.trim_start_matches('[').parse().ok()?;
        Some(Said {
            thread,
            text: text.to_owned(),
        })
    });
    said.collect()
}

/// The router filter, with these upstream HTTP filters.
pub(crate) fn router(upstream: &[Value]) -> Value {
    let mut settings = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"});
    if !upstream.is_empty() {
        merge(&mut settings, &json!({"upstream_http_filters": with_codec(upstream)}));
    }
    json!({"name": "router", "typed_config": settings})
}

/// The fields of a cluster with these upstream HTTP filters.
pub(crate) fn upstream_filters(filters: &[Value]) -> Value {
    json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {}},
        "http_filters": with_codec(filters),
    }}})
}

fn with_codec(filters: &[Value]) -> Vec<Value> {
    let codec = "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
    let mut chain = filters.to_vec();
    chain.push(json!({"name": "codec", "typed_config": {"@type": codec}}));
    chain
}

/// A filter that lets all pass, and needs the route for that.
pub(crate) fn allow_all() -> Value {
    let policy = json!({"permissions": [{"any": true}], "principals": [{"any": true}]});
    json!({"name": "rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {"all": policy}},
    }})
}

/// Puts every field of `more` into `base`, objects field by field, lists end to end.
pub(crate) fn merge(base: &mut Value, more: &Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (name, value) in more {
                merge(base.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(more)) => base.extend(more.iter().cloned()),
        (base, more) => *base = more.clone(),
    }
}
