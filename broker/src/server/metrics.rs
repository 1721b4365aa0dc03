//! Shows the metrics to whoever may reach the observe listener.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Broker;
use crate::metrics::MEDIA_TYPE;

pub(super) async fn get(State(broker): State<Arc<Broker>>) -> Response {
    match broker.exchange.metrics.exposition() {
        Some(text) => ([(CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
