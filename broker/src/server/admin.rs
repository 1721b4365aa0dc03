//! Translates what an administrator asks for to revocations, and their outcome to HTTP. Whoever may open the socket may do all
//! of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use kerbridge_wire::{Reason, Span};

use super::Broker;
use crate::admin::keys::Keys;
use crate::admin::{AdminError, FeedStatus, LiftRequest, Outcome, RevokeRequest, Status, TokenStatus};
use crate::exchange::Caller;
use crate::identity::IdentityRules;
use crate::principal;
use crate::revocation::By;
use crate::store::{Kind, StoreError};

pub(super) async fn revoke(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    request: Result<Json<RevokeRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return unread(&rejection),
    };
    let Some(direction) = &broker.exchange.to_token else {
        return no_tokens();
    };
    let order = match request.order(broker.clock.now()) {
        Ok(order) => order,
        Err(error) => return (StatusCode::BAD_REQUEST, Json(error)).into_response(),
    };
    if request.kind == Kind::Subject
        && let Some(error) = misnamed(&request.value, &direction.rules)
    {
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    match direction.revocations.revoke(order, &by(&caller), broker.clock).await {
        Ok(revoked) => Json(Outcome::revoked(&revoked, &request)).into_response(),
        Err(error) => unavailable(&error),
    }
}

pub(super) async fn lift(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    request: Result<Json<LiftRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return unread(&rejection),
    };
    let target = match request.target() {
        Ok(target) => target,
        Err(error) => return (StatusCode::BAD_REQUEST, Json(error)).into_response(),
    };
    let Some(direction) = &broker.exchange.to_token else {
        return no_tokens();
    };
    match direction.revocations.lift(&target, &by(&caller), broker.clock).await {
        Ok(Some(position)) => Json(Outcome::lifted(&target, position)).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, Json(AdminError::not_revoked(&target))).into_response(),
        Err(error) => unavailable(&error),
    }
}

pub(super) async fn status(State(broker): State<Arc<Broker>>) -> Json<Status> {
    let tokens = broker.exchange.to_token.as_ref().map(|direction| TokenStatus {
        issuer: direction.issuer.clone(),
        kid: direction.keyring.signing().id().to_owned(),
        keys: Keys::of(&direction.keyring),
        feed: direction
            .revocations
            .stand()
            .map(|(position, entries, as_of)| FeedStatus {
                epoch: position.epoch,
                version: position.version,
                entries,
                as_of: as_of.seconds(),
            }),
    });
    let metrics = &broker.exchange.metrics;
    Json(Status {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        ready: broker.ready().map_or_else(|problem| problem, |()| "ready".into()),
        tokens,
        replicas: broker.replicas.as_ref().map(|replicas| replicas.seen().into()),
        exchanges: came(|reason| metrics.exchanges(reason)),
        delegations: came(|reason| metrics.delegation().delegations(reason)),
    })
}

/// The reasons that came at all, and how often.
fn came(count: impl Fn(Reason) -> u64) -> BTreeMap<String, u64> {
    let counted = Reason::ALL
        .iter()
        .map(|&reason| (reason.as_str().to_owned(), count(reason)));
    counted.filter(|(_, count)| *count > 0).collect()
}

fn by(caller: &Caller) -> By<'static> {
    By::Administrator { uid: caller.peer.uid }
}

/// Why no token can have this `sub`: a revocation of it would look like one, and take nothing.
fn misnamed(value: &str, rules: &IdentityRules) -> Option<AdminError> {
    let names = &rules.names;
    let gives_names = !names.rules.is_empty() || names.auth_to_local || names.stripped_realm.is_some();
    if !value.contains('@') {
        return (!gives_names).then(|| AdminError {
            problem: format!(
                "no token has the subject {value:?}: [names] gives none, so that each has a full principal"
            ),
            remedy: "write the realm, too, such as alice@EXAMPLE.COM".into(),
        });
    }
    let Ok(principal) = principal::canonical(value) else {
        return (!gives_names).then(|| AdminError {
            problem: format!("no token has the subject {value:?}: it is no principal"),
            remedy: "write it as it stands in the token, such as alice@EXAMPLE.COM".into(),
        });
    };
    if let Some(realm) = meant(principal.realm(), &rules.realms) {
        return Some(AdminError {
            problem: format!("no token has the subject {value:?}: its realm is written {realm}"),
            remedy: format!("write the realm so, {realm}"),
        });
    }
    let subject = names.subject_of(&principal)?;
    (subject.as_str() != value).then(|| AdminError {
        problem: format!("tokens of {value} have another subject"),
        remedy: format!("write {:?}", subject.as_str()),
    })
}

/// The realm of the list that was meant, where another was written: realms differ by case (RFC 4120 §6.1). One that is like none of the
/// list may be another broker's that has the same store.
fn meant<'r>(written: &str, realms: &'r [String]) -> Option<&'r str> {
    let is_like = |realm: &&String| realm.eq_ignore_ascii_case(written.trim());
    let like = realms.iter().find(is_like).map(String::as_str);
    like.filter(|_| !realms.iter().any(|realm| realm == written))
}

pub(super) fn no_tokens() -> Response {
    let error = AdminError {
        problem: "this broker makes no tokens: it has no keys and revokes none".into(),
        remedy: "ask the one that does".into(),
    };
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}

pub(super) fn unread(rejection: &JsonRejection) -> Response {
    let error = AdminError {
        problem: rejection.body_text(),
        remedy: "use the kerbridge of the broker's own release".into(),
    };
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}

pub(super) fn unavailable(error: &StoreError) -> Response {
    not_now(error.into())
}

pub(super) fn not_now(error: AdminError) -> Response {
    let retry_after = HeaderValue::from(Span::FIVE_SECONDS.seconds());
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(RETRY_AFTER, retry_after)],
        Json(error),
    )
        .into_response()
}
