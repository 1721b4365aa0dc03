//! Translates `GET /v1/revocations` to a question about the feed, and its answer to HTTP.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use kerbridge_wire::Span;
use kerbridge_wire::feed::MEDIA_TYPE;
use kerbridge_wire::feed_query::FeedQuery;

use super::Broker;

pub(super) async fn get(State(broker): State<Arc<Broker>>, uri: Uri) -> Response {
    let Some(direction) = &broker.exchange.to_token else {
        // Who makes no tokens revokes none.
        return StatusCode::NOT_FOUND.into_response();
    };
    let query = FeedQuery::parse(uri.query().unwrap_or_default());
    match direction.revocations.page(query, &direction.keyring.signing()).await {
        Ok(page) => ([(CONTENT_TYPE, MEDIA_TYPE), (CACHE_CONTROL, "no-store")], page).into_response(),
        Err(error) => {
            tracing::warn!(%error, "a page of the revocation feed could not be made");
            let retry_after = HeaderValue::from(Span::FIVE_SECONDS.seconds());
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, retry_after)]).into_response()
        }
    }
}
