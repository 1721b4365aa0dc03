//! Publishes the public keys (RFC 7517 §5).

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use kerbridge_wire::Span;
use kerbridge_wire::exchange::JWK_SET;

use super::Broker;

pub(super) async fn get(State(broker): State<Arc<Broker>>) -> Response {
    match &broker.exchange.to_token {
        // Whoever verifies keeps what it has, or asks another broker.
        Some(direction) if !direction.keyring.is_current() => {
            let retry_after = HeaderValue::from(Span::FIVE_SECONDS.seconds());
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, retry_after)]).into_response()
        }
        Some(direction) => ([(CONTENT_TYPE, JWK_SET)], direction.keyring.jwks()).into_response(),
        // Who makes no tokens has no keys.
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
