//! Publishes the public keys (RFC 7517 §5).

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use kerbridge_wire::exchange::JWK_SET;

use super::Broker;

pub(super) async fn get(State(broker): State<Arc<Broker>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, JWK_SET)], broker.exchange.keyring.jwks())
}
