//! Answers requests on the broker's listeners and stops without losing one.

mod admin;
mod bind;
mod connection;
mod feed;
mod health;
mod introspection;
mod jwks;
mod keys;
mod metadata;
mod metrics;
mod revocation;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::routing::{get, post};
use kerbridge_wire::clients::PROTECTED_RESOURCE_PATH;
use kerbridge_wire::exchange::{FEED_PATH, INTROSPECTION_PATH, JWKS_PATH, REVOCATION_PATH, TOKEN_PATH};

pub use bind::{Bound, bind, look};
pub use connection::{Listening, Shutdown, serve};

use crate::admin::keys::{KEYS_PATH, RETIRE_PATH, REWRAP_PATH, ROTATE_PATH};
use crate::admin::{LIFT_PATH, REVOKE_PATH, STATUS_PATH};
use crate::config::ListenerName;
use crate::exchange::Exchange;
use crate::readiness::{self, Readiness};
use crate::time::Clock;

/// What all endpoints share.
#[derive(Debug)]
pub struct Broker {
    /// Decides exchanges.
    pub exchange: Exchange,
    /// Where the time comes from.
    pub clock: Clock,
    readiness: Readiness,
    draining: AtomicBool,
}

impl Broker {
    /// A broker that wants requests as long as it is ready.
    pub fn new(exchange: Exchange, clock: Clock, readiness: Readiness) -> Self {
        Self {
            exchange,
            clock,
            readiness,
            draining: AtomicBool::new(false),
        }
    }

    /// From now on `/readyz` says 503, so that whoever balances load looks elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    fn ready(&self) -> readiness::Outcome {
        if self.draining.load(Ordering::Acquire) {
            return Err("draining".into());
        }
        self.readiness.now()?;
        self.exchange.ready()
    }
}

/// The documents by which clients find their way. A client forms their places from the issuer's path.
fn metadata(broker: &Broker) -> Router<Arc<Broker>> {
    let path = broker.exchange.issuer_path();
    Router::new()
        .route(
            &format!("{}{path}", metadata::AUTHORIZATION_SERVER),
            get(metadata::authorization_server),
        )
        .route(metadata::OPENID, get(metadata::openid))
        .route(PROTECTED_RESOURCE_PATH, get(metadata::protected_resource))
        .route(
            &format!("{PROTECTED_RESOURCE_PATH}/{{*path}}"),
            get(metadata::protected_resource),
        )
}

/// The endpoints of one listener. Each request must carry its [`Caller`](crate::exchange::Caller) as an extension.
pub fn router(listener: ListenerName, broker: Arc<Broker>) -> Router {
    let exchange = || {
        Router::new()
            .route(TOKEN_PATH, post(token::post))
            .route(INTROSPECTION_PATH, post(introspection::post))
            .route(REVOCATION_PATH, post(revocation::post))
            .route(JWKS_PATH, get(jwks::get))
            .merge(metadata(&broker))
    };
    let health = || {
        Router::new()
            .route("/healthz", get(health::healthz))
            .route("/readyz", get(health::readyz))
    };
    match listener {
        ListenerName::Mesh => exchange().merge(health()).route(FEED_PATH, get(feed::get)),
        ListenerName::Public => exchange(),
        ListenerName::Observe => health().route("/metrics", get(metrics::get)),
        ListenerName::Admin => Router::new()
            .route(REVOKE_PATH, post(admin::revoke))
            .route(LIFT_PATH, post(admin::lift))
            .route(STATUS_PATH, get(admin::status))
            .route(KEYS_PATH, get(keys::list))
            .route(ROTATE_PATH, post(keys::rotate))
            .route(RETIRE_PATH, post(keys::retire))
            .route(REWRAP_PATH, post(keys::rewrap))
            .route(FEED_PATH, get(feed::get)),
    }
    .with_state(broker)
}

#[cfg(test)]
pub(crate) mod tests;
