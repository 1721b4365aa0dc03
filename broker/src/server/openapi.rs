//! Describes the endpoints of `public` (OpenAPI 3.1), for tools that make clients of it or try what is described.
//!
//! The description is a file that people write; tests hold it to the routes, the parameters, the answers and the words of errors.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Broker;
use super::metadata::{self, kept};

/// Where it stands.
pub(super) const PATH: &str = "/.well-known/openapi.json";
/// It, for an issuer without a path.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn get(State(broker): State<Arc<Broker>>) -> Response {
    let Some(direction) = &broker.exchange.to_token else {
        // As for the metadata: who makes no tokens is no authorization server.
        return StatusCode::NOT_FOUND.into_response();
    };
    match description(&direction.issuer, broker.exchange.issuer_path()) {
        Some(description) => kept(description),
        // A file that is no JSON does not pass its test.
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The description of the endpoints of an issuer, with its path.
fn description(issuer: &str, path: &str) -> Option<Value> {
    let mut description: Value = serde_json::from_str(DOCUMENT).ok()?;
    let issuer = issuer.trim_end_matches('/');
    let server = description.pointer_mut("/servers/0/url")?;
    *server = issuer.into();
    if !path.is_empty() {
        // It stands at the host's own place, with the issuer's path behind it (RFC 8414 §3).
        let paths = description.pointer_mut("/paths")?.as_object_mut()?;
        let mut item = paths.remove(metadata::AUTHORIZATION_SERVER)?;
        let origin = issuer.strip_suffix(path).unwrap_or(issuer);
        item.as_object_mut()?
            .insert("servers".into(), json!([{ "url": origin }]));
        paths.insert(format!("{}{path}", metadata::AUTHORIZATION_SERVER), item);
    }
    Some(description)
}
