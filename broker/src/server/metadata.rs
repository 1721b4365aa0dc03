//! Tells clients and verifiers where the endpoints are and what they take (RFC 8414, and as much of OpenID Connect Discovery as
//! finds the keys), and clients of a service where its tokens come from (RFC 9728).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use kerbridge_wire::exchange::{GRANT_TYPE, INTROSPECTION_PATH, JWKS_PATH, REVOCATION_PATH, TOKEN_PATH};
use kerbridge_wire::filter_config::Algorithm;
use serde_json::{Value, json};

use super::Broker;
use crate::exchange::TicketToToken;

/// Where RFC 8414 §3 has it, before the path of the issuer.
pub(super) const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";
/// Where OpenID Connect Discovery 1.0 §4 has it, behind the path of the issuer.
pub(super) const OPENID: &str = "/.well-known/openid-configuration";
/// Required (RFC 8414 §2), and must not be empty (§3.2), though there is no authorization endpoint: the registered word for
/// "nothing" (OAuth 2.0 Multiple Response Type Encoding Practices §4).
const RESPONSE_TYPES: [&str; 1] = ["none"];
/// Seconds for which a document may be kept: it changes when the configuration does.
const KEPT: HeaderValue = HeaderValue::from_static("max-age=300");

/// How clients may prove who they are to this broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAuthentication {
    /// By a certificate (`tls_client_auth`, RFC 8705 §2).
    pub by_certificate: bool,
    /// By a signature by one of these (`private_key_jwt`, OpenID Connect Core 1.0 §9); empty where no client has keys.
    pub by_signature: Vec<Algorithm>,
}

impl ClientAuthentication {
    /// The members of an endpoint that takes these proofs, and these methods. Of none there is no member (RFC 8414 §3.2).
    fn members(&self, endpoint: &str, more: &[&'static str]) -> impl Iterator<Item = (String, Value)> {
        let certificate = self.by_certificate.then_some("tls_client_auth");
        let signature = (!self.by_signature.is_empty()).then_some("private_key_jwt");
        let methods: Vec<_> = more.iter().copied().chain(certificate).chain(signature).collect();
        let algorithms = Algorithm::ALL.iter().filter(|one| self.by_signature.contains(one));
        let algorithms: Vec<_> = algorithms.map(|algorithm| algorithm.name()).collect();
        let members = [("methods", methods), ("signing_alg_values", algorithms)];
        let members = members.map(|(what, words)| {
            let name = format!("{endpoint}_endpoint_auth_{what}_supported");
            (!words.is_empty()).then(|| (name, json!(words)))
        });
        members.into_iter().flatten()
    }
}

/// The metadata of the authorization server.
pub(super) async fn authorization_server(State(broker): State<Arc<Broker>>) -> Response {
    document(&broker, |direction| {
        let endpoint = |path: &str| format!("{}{path}", direction.issuer);
        let mut document = json!({
            "issuer": direction.issuer,
            "token_endpoint": endpoint(TOKEN_PATH),
            "introspection_endpoint": endpoint(INTROSPECTION_PATH),
            "revocation_endpoint": endpoint(REVOCATION_PATH),
            "jwks_uri": endpoint(JWKS_PATH),
            "tls_client_certificate_bound_access_tokens": direction.policy.binds_certificates(),
            "grant_types_supported": [GRANT_TYPE],
            "response_types_supported": RESPONSE_TYPES,
        });
        if let Some(members) = document.as_object_mut() {
            for (endpoint, more) in [
                ("token", &["none"][..]),
                ("introspection", &[]),
                ("revocation", &["none"]),
            ] {
                members.extend(broker.authentication.members(endpoint, more));
            }
        }
        document
    })
}

/// As much as a verifier needs that finds keys this way. There are no identity tokens.
pub(super) async fn openid(State(broker): State<Arc<Broker>>) -> Response {
    document(&broker, |direction| {
        let keys = direction.keyring.list();
        let algorithms: BTreeSet<&str> = keys.iter().map(|key| key.algorithm.name()).collect();
        json!({
            "issuer": direction.issuer,
            "jwks_uri": format!("{}{JWKS_PATH}", direction.issuer),
            "token_endpoint": format!("{}{TOKEN_PATH}", direction.issuer),
            "response_types_supported": RESPONSE_TYPES,
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    })
}

/// The metadata of the service whose address is asked at.
pub(super) async fn protected_resource(State(broker): State<Arc<Broker>>, headers: HeaderMap, uri: Uri) -> Response {
    let Some(direction) = &broker.exchange.to_token else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // By HTTP/1.1 it is in the header, and a proxy before us leaves it there.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let address = host.map(|host| format!("{}{}", host.to_ascii_lowercase(), uri.path()));
    let Some(audience) = address.and_then(|address| direction.policy.audience_described_at(&address)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut document = json!({
        "resource": audience.resource(),
        "authorization_servers": [direction.issuer],
        "bearer_methods_supported": ["header"],
        "tls_client_certificate_bound_access_tokens": audience.is_certificate_bound(),
    });
    let scopes = direction.policy.scopes_of(audience);
    // What there is none of is left out (RFC 9728 §3.2).
    if let (false, Some(members)) = (scopes.is_empty(), document.as_object_mut()) {
        members.insert("scopes_supported".into(), json!(scopes));
    }
    kept(document)
}

fn document(broker: &Broker, write: impl FnOnce(&TicketToToken) -> Value) -> Response {
    match &broker.exchange.to_token {
        Some(direction) => kept(write(direction)),
        // Who makes no tokens is no authorization server.
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(super) fn kept(document: Value) -> Response {
    ([(CACHE_CONTROL, KEPT)], Json(document)).into_response()
}
