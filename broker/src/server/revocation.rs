//! Translates `POST /oauth2/revoke` to a request to take a token back, and what came of it to HTTP (RFC 7009 §2).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::Broker;
use super::token::{answered, read, tries_basic};
use crate::exchange::{Caller, Hints, Shown};

pub(super) async fn post(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let shown = shown(&headers);
    let outcome = match read(&headers, body).await {
        Ok(body) => broker.exchange.revoke(&body, shown, &caller, broker.clock).await,
        Err(refusal) => Err(broker.exchange.refuse_revocation(refusal, &caller, &Hints::default())),
    };
    let mut response = answered(outcome.map(|()| StatusCode::OK.into_response()), &caller);
    // By the scheme that is taken here, whichever was tried. An error is told to who tried that one (RFC 6750 §3.1).
    if response.status() == StatusCode::UNAUTHORIZED && !tries_basic(&headers) {
        let challenge = HeaderValue::from_static(match shown {
            Shown::Bearer(_) => "Bearer realm=\"kerbridge\", error=\"invalid_token\"",
            Shown::Nothing | Shown::Other => "Bearer realm=\"kerbridge\"",
        });
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// What the header says, read strictly: one line, one token.
fn shown(headers: &HeaderMap) -> Shown<'_> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Shown::Nothing,
        (Some(line), None) => line.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    match line.and_then(|line| line.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Shown::Bearer(token.trim()),
        Some(_) | None => Shown::Other,
    }
}
