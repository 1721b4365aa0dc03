//! Publishes the public keys (RFC 7517 §5).

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use kerbridge_wire::exchange::JWK_SET;

use super::Broker;

pub(super) async fn get(State(broker): State<Arc<Broker>>) -> Response {
    match &broker.exchange.to_token {
        Some(direction) => ([(CONTENT_TYPE, JWK_SET)], direction.keyring.jwks()).into_response(),
        // Who makes no tokens has no keys.
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
