//! Translates `POST /oauth2/introspect` to a question what a token says, and its answer to HTTP (RFC 7662 §2).

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};

use super::Broker;
use super::token::{answered, read};
use crate::exchange::Caller;

pub(super) async fn post(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let outcome = match read(&headers, body).await {
        Ok(body) => broker.exchange.introspect(&body, &caller, broker.clock.now()).await,
        Err(refusal) => Err(broker.exchange.refuse_introspection(refusal, &caller)),
    };
    answered(outcome.map(|said| Json(said).into_response()), &caller)
}
