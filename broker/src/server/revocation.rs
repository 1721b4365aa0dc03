//! Translates `POST /oauth2/revoke` to a request to take a token back, and what came of it to HTTP (RFC 7009 §2).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::Broker;
use super::token::{read, refused, unkept};
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
    let mut response = match outcome {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refusal) => refused(refusal, &caller, &headers),
    };
    // RFC 6749 §5.2: by the scheme that was used.
    if response.status() == StatusCode::UNAUTHORIZED
        && !matches!(shown, Shown::Nothing)
        && !response.headers().contains_key(WWW_AUTHENTICATE)
    {
        let challenge = HeaderValue::from_static("Bearer realm=\"kerbridge\", error=\"invalid_token\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    unkept(response)
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
