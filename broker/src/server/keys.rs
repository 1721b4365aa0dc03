//! Translates what an administrator asks of the signing keys, and what came of it, to HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::Broker;
use super::admin::{no_tokens, not_now, unavailable, unread};
use crate::admin::AdminError;
use crate::admin::keys::{Keys, RetireRequest, RewrapRequest, RotateRequest};
use crate::config::read_kek;
use crate::exchange::Caller;
use crate::keyring::{By, ChangeError, KeyRing, RotateError};

type Asked<T> = Result<Json<T>, JsonRejection>;

pub(super) async fn list(State(broker): State<Arc<Broker>>) -> Response {
    match &broker.exchange.to_token {
        Some(direction) => Json(Keys::of(&direction.keyring)).into_response(),
        None => no_tokens(),
    }
}

pub(super) async fn rotate(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    request: Asked<RotateRequest>,
) -> Response {
    let RotateRequest { now: at_once } = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return unread(&rejection),
    };
    let Some(direction) = &broker.exchange.to_token else {
        return no_tokens();
    };
    let (now, by) = (broker.clock.now(), by(&caller));
    if !at_once {
        return changed(&direction.keyring, move |keys| keys.publish(now, by).map(drop)).await;
    }
    match direction.revocations.tokens_end(now).await {
        Ok(kept_until) => {
            changed(&direction.keyring, move |keys| {
                keys.switch_now(now, kept_until, by).map(drop)
            })
            .await
        }
        Err(error) => unavailable(&error),
    }
}

pub(super) async fn retire(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    request: Asked<RetireRequest>,
) -> Response {
    let RetireRequest { kid } = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return unread(&rejection),
    };
    let Some(direction) = &broker.exchange.to_token else {
        return no_tokens();
    };
    let (now, by) = (broker.clock.now(), by(&caller));
    changed(&direction.keyring, move |keys| keys.retire(&kid, now, by).map(drop)).await
}

pub(super) async fn rewrap(
    State(broker): State<Arc<Broker>>,
    Extension(caller): Extension<Caller>,
    request: Asked<RewrapRequest>,
) -> Response {
    let RewrapRequest { file, only } = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return unread(&rejection),
    };
    let Some(direction) = &broker.exchange.to_token else {
        return no_tokens();
    };
    // A file that is named here can be one that takes long to open.
    let key = match tokio::task::spawn_blocking(move || read_kek(&file)).await {
        Ok(Ok(key)) => key,
        Ok(Err(problem)) => {
            let error = AdminError {
                problem: problem.problem,
                remedy: problem.remedy,
            };
            return (StatusCode::BAD_REQUEST, Json(error)).into_response();
        }
        Err(_) => return failed_inside(),
    };
    let by = by(&caller);
    let work = move |keys: &KeyRing| {
        if only {
            keys.only_kek(&key, by)
        } else {
            keys.add_kek(&key, by)
        }
    };
    changed(&direction.keyring, work).await
}

fn by(caller: &Caller) -> By {
    By::Administrator { uid: caller.peer.uid }
}

/// Changes the keys off the threads that serve, and says how they stand then.
async fn changed(keys: &KeyRing, work: impl FnOnce(&KeyRing) -> Result<(), ChangeError> + Send + 'static) -> Response {
    let ring = keys.clone();
    let done = tokio::task::spawn_blocking(move || work(&ring)).await;
    let error = match done {
        Ok(Ok(())) => return Json(Keys::of(keys)).into_response(),
        Ok(Err(error)) => error,
        Err(_) => return failed_inside(),
    };
    let said = AdminError::unchanged(&error);
    match error {
        ChangeError::Refused(RotateError::Unknown) => (StatusCode::NOT_FOUND, Json(said)).into_response(),
        ChangeError::Refused(_) => (StatusCode::CONFLICT, Json(said)).into_response(),
        ChangeError::Failed(_) => not_now(said),
    }
}

fn failed_inside() -> Response {
    not_now(AdminError {
        problem: "the broker failed inside".into(),
        remedy: "see its log".into(),
    })
}
