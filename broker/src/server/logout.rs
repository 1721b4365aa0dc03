//! Translates `POST /v1/logout` to a request to end sessions, and what came of it to HTTP.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};

use super::Broker;
use super::token::{answered, read};
use crate::exchange::{Caller, Hints};

pub(super) async fn post(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let outcome = match read(&headers, body).await {
        Ok(body) => broker.exchange.log_out(&body, &caller, broker.clock).await,
        Err(refusal) => Err(broker.exchange.refuse_logout(refusal, &caller, &Hints::default())),
    };
    answered(outcome.map(|reply| Json(reply).into_response()), &caller)
}
