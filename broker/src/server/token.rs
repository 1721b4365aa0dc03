//! Translates `POST /oauth2/token` to an exchange and its outcome to HTTP (RFC 6749 §5, RFC 8693 §2.2).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use kerbridge_wire::exchange::{ExchangeReply, FORM, NEGOTIATE_LIMIT, OauthError};
use kerbridge_wire::{Reason, Span};
use zeroize::{Zeroize as _, Zeroizing};

use super::Broker;
use crate::exchange::{Caller, Refusal};

/// The largest token with every character escaped, and the other parameters.
const LARGEST_BODY: usize = NEGOTIATE_LIMIT.saturating_mul(3).saturating_add(8 * 1024);
/// As much of a body as is read at all, in bytes.
const LARGEST_DRAINED: usize = 1024 * 1024;
/// What its spans are called.
const ROUTE: &str = "POST /oauth2/token";
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

pub(super) async fn post(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let outcome = match read(&headers, body).await {
            Ok(body) => broker.exchange.answer(&body, &caller, broker.clock).await,
            Err(refusal) => Err(broker.exchange.refuse(refusal, &caller)),
        };
        answered(outcome.map(given), &caller)
    };
    broker.tracer.serve(ROUTE, &headers, &caller, answer).await
}

/// What comes of a request to one of the endpoints, told to be nobody's to keep (RFC 6749 §5.1).
pub(super) fn answered(outcome: Result<Response, Refusal>, caller: &Caller) -> Response {
    let mut response = outcome.unwrap_or_else(|refusal| refused(refusal, caller));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let is_form = match (types.next(), types.next()) {
        (Some(one), None) => one
            .to_str()
            .ok()
            .and_then(|text| text.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM)),
        (Some(_), Some(_)) | (None, _) => false,
    };
    let kept = if is_form { LARGEST_BODY } else { 0 };
    let read = tokio::time::timeout(BODY_TIME, collect(body, kept)).await;
    if tries_basic(headers) {
        return Err(Refusal::unauthenticated(
            "no client has a secret: authenticate by certificate or private_key_jwt",
        ));
    }
    if !is_form {
        return Err(Refusal::invalid_request(
            "content-type is application/x-www-form-urlencoded",
        ));
    }
    match read {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(Refusal::too_large()),
        Ok(Err(_)) => Err(Refusal::invalid_request("send the whole body")),
        Err(_) => Err(Refusal::invalid_request("send the body within ten seconds")),
    }
}

/// The body, or nothing where it has more than `most` bytes. The rest of such a body is read and thrown away, up to a
/// bound: whoever is still sending when the connection closes sees a broken pipe in place of the answer.
async fn collect(mut body: Body, most: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut kept = Some(Vec::new());
    let mut left = LARGEST_DRAINED;
    while let Some(frame) = body.frame().await {
        // Trailers say nothing that we want to know.
        let Ok(data) = frame?.into_data() else { continue };
        left = match left.checked_sub(data.len()) {
            Some(left) => left,
            None => return Ok(None),
        };
        kept = kept.filter(|kept: &Vec<u8>| kept.len().saturating_add(data.len()) <= most);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&data);
        }
    }
    Ok(kept)
}

/// The answer with what was given. It is a credential: no memory of it is left behind here once it was sent.
fn given(mut reply: ExchangeReply) -> Response {
    let room = reply
        .access_token
        .len()
        .saturating_add(reply.negotiate.as_ref().map_or(0, String::len));
    // With room for all of it, so that none of it is moved.
    let mut body = Zeroizing::new(Vec::with_capacity(room.saturating_add(1024)));
    let written = serde_json::to_writer(&mut *body, &reply);
    reply.access_token.zeroize();
    reply.negotiate.zeroize();
    match written {
        Ok(()) => {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (headers, Bytes::from_owner(body)).into_response()
        }
        // Texts and numbers can always be written.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// An error as the RFC has it.
pub(super) fn refused(refusal: Refusal, caller: &Caller) -> Response {
    let reason = refusal.reason;
    let error = refusal.for_listener(caller.listener);
    let status = match (reason, error.error) {
        (Reason::RateLimited, _) => StatusCode::TOO_MANY_REQUESTS,
        (_, OauthError::TemporarilyUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
        (_, OauthError::InvalidClient) => StatusCode::UNAUTHORIZED,
        (
            _,
            OauthError::InvalidRequest
            | OauthError::InvalidGrant
            | OauthError::UnauthorizedClient
            | OauthError::UnsupportedGrantType
            | OauthError::InvalidScope
            | OauthError::InvalidTarget,
        ) => StatusCode::BAD_REQUEST,
    };
    let mut response = (status, Json(error)).into_response();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let seconds = HeaderValue::from(Span::FIVE_SECONDS.seconds());
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    // RFC 9110 §15.5.2 wants a challenge whatever was tried. What clients have here, certificates and signatures, has no scheme; the
    // one that OAuth clients try (RFC 6749 §2.3.1) is told what to do instead.
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"kerbridge\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Whether a client came with a secret in a header. None has one.
pub(super) fn tries_basic(headers: &HeaderMap) -> bool {
    let mut tried = headers.get_all(AUTHORIZATION).iter();
    tried.any(|value| {
        let scheme = value.as_bytes().get(..6).unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"basic ")
    })
}
