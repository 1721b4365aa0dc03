//! Says whether the process lives, and whether it wants requests.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::Broker;

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(broker): State<Arc<Broker>>) -> (StatusCode, String) {
    match broker.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
    }
}
