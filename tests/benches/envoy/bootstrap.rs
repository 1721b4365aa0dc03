//! Builds the configurations of Envoy: the same listener for all, and the filters that differ.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::signer::{AUDIENCE, SCOPE, Signer};
use kerbridge_tests::shipped::{ISSUER, repository};
use serde_json::{Value, json};

/// The listener that is loaded.
pub(crate) const LISTENER: &str = "bench";
/// The cluster of [`crate::service`].
pub(crate) const SERVICE: &str = "service";
/// Headers for the responder; the claims that it looks up.
pub(crate) const LOOKED_UP: [(&str, &str); 4] = [
    ("x-claim-issuer", "iss"),
    ("x-claim-token", "jti"),
    ("x-claim-session", "sid"),
    ("x-claim-subject", "sub"),
];

const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";

/// A bootstrap: one listener whose requests pass these filters and are answered by Envoy.
pub(crate) fn bootstrap(filters: &[Value], service_port: u16) -> String {
    let mut chain = filters.to_vec();
    chain.push(json!({"name": "router", "typed_config": {"@type": format!("{TYPES}.http.router.v3.Router")}}));
    let manager = json!({
        "@type": format!("{TYPES}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        // As shipped: every setup pays for them.
        "normalize_path": true,
        "merge_slashes": true,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "http_filters": chain,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}},
        ]}]},
    });
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({"static_resources": {
        "listeners": [{
            "name": LISTENER,
            "address": address(0),
            "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
        }],
        "clusters": [{
            "name": SERVICE,
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": SERVICE, "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(service_port)}}]},
            ]},
        }],
    }})
    .to_string()
}

/// A module as a filter, in a VM of its own.
pub(crate) fn wasm(name: &str, module: &std::path::Path, configuration: &str) -> Value {
    json!({"name": name, "typed_config": {"@type": format!("{TYPES}.http.wasm.v3.Wasm"), "config": {
        "name": name,
        "root_id": name,
        "failure_policy": "FAIL_RELOAD",
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration},
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        },
    }}})
}

/// The probe as a module that does nothing: what any wasm filter costs.
pub(crate) fn empty_wasm() -> Result<Value, HarnessError> {
    let path = std::env::var_os("KERBRIDGE_PROBE_WASM").map_or_else(
        || repository().join("target/wasm32-wasip1/release/kerbridge_probe.wasm"),
        Into::into,
    );
    if path.is_file() {
        Ok(wasm("probe", &path, "empty=1"))
    } else {
        let remedy = "run `make bench`, or name the module in KERBRIDGE_PROBE_WASM";
        Err(HarnessError::FileMissing { path, remedy })
    }
}

/// Headers that kerbridge sets, and their claims.
const IDENTITY: [(&str, &str); 3] = [
    ("x-kerbridge-subject", "sub"),
    ("x-kerbridge-issuer", "iss"),
    ("x-kerbridge-scope", "scope"),
];

/// What jwt_authn hands on of the claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandsOn {
    /// The headers that kerbridge sets.
    Headers,
    /// These, and metadata for RBAC.
    Metadata,
    /// These, and the headers that the responder looks up.
    LookedUp,
}

/// jwt_authn for the signer's tokens. It caches so many of them, or none.
pub(crate) fn jwt_authn(signer: &Signer, cached: usize, hands_on: HandsOn) -> Value {
    let mut headers = IDENTITY.to_vec();
    if hands_on == HandsOn::LookedUp {
        headers.extend(LOOKED_UP);
    }
    let headers: Vec<Value> = headers
        .iter()
        .map(|(header, claim)| json!({"header_name": header, "claim_name": claim}))
        .collect();
    let mut provider = json!({
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": signer.key_set().to_string()},
        "claim_to_headers": headers,
    });
    if let Some(provider) = provider.as_object_mut() {
        if hands_on != HandsOn::Headers {
            provider.insert("payload_in_metadata".to_owned(), json!("claims"));
            let lists = json!({"space_delimited_claims": ["scope"]});
            provider.insert("normalize_payload_in_metadata".to_owned(), lists);
        }
        if cached > 0 {
            let cache = json!({"jwt_cache_size": cached, "jwt_max_token_size": 4096});
            provider.insert("jwt_cache_config".to_owned(), cache);
        }
    }
    json!({"name": "jwt_authn", "typed_config": {
        "@type": format!("{TYPES}.http.jwt_authn.v3.JwtAuthentication"),
        "providers": {"lab": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "lab"}}],
    }})
}

/// RBAC that wants the scope among those of the token.
pub(crate) fn rbac() -> Value {
    let has_scope = json!({"metadata": {
        // jwt_authn writes under its canonical name, whatever the filter is called.
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": "claims"}, {"key": "scope"}],
        "value": {"list_match": {"one_of": {"string_match": {"exact": SCOPE}}}},
    }});
    json!({"name": "rbac", "typed_config": {
        "@type": format!("{TYPES}.http.rbac.v3.RBAC"),
        "rules": {"action": "ALLOW", "policies": {"scope": {
            "permissions": [{"any": true}],
            "principals": [has_scope],
        }}},
    }})
}

/// ext_authz that shows the responder the claims.
pub(crate) fn ext_authz(service_port: u16) -> Value {
    let shown: Vec<Value> = LOOKED_UP.iter().map(|(header, _)| json!({"exact": header})).collect();
    json!({"name": "ext_authz", "typed_config": {
        "@type": format!("{TYPES}.http.ext_authz.v3.ExtAuthz"),
        "allowed_headers": {"patterns": shown},
        "http_service": {"server_uri": {
            "uri": format!("http://127.0.0.1:{service_port}"),
            "cluster": SERVICE,
            "timeout": "2s",
        }},
    }})
}
