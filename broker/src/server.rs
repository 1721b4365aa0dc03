//! Answers requests on the broker's listeners and stops without losing one.

mod admin;
mod bind;
mod connection;
mod feed;
mod health;
mod introspection;
mod jwks;
mod keys;
mod logout;
mod metadata;
mod metrics;
mod openapi;
mod revocation;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use kerbridge_wire::clients::PROTECTED_RESOURCE_PATH;
use kerbridge_wire::exchange::{FEED_PATH, INTROSPECTION_PATH, JWKS_PATH, LOGOUT_PATH, REVOCATION_PATH, TOKEN_PATH};

pub use bind::{Bound, bind, look};
pub use connection::{Listening, Room, Shutdown, SourceShare, serve};
pub use metadata::ClientAuthentication;

use crate::admin::keys::{KEYS_PATH, RETIRE_PATH, REWRAP_PATH, ROTATE_PATH};
use crate::admin::{LIFT_PATH, REVOKE_PATH, STATUS_PATH};
use crate::config::ListenerName;
use crate::exchange::Exchange;
use crate::readiness::{self, Readiness};
use crate::store::Replicas;
use crate::time::Clock;
use crate::trace::Tracer;

/// What all endpoints share.
#[derive(Debug)]
pub struct Broker {
    /// Decides exchanges.
    pub exchange: Exchange,
    /// Where the time comes from.
    pub clock: Clock,
    readiness: Readiness,
    authentication: ClientAuthentication,
    tracer: Tracer,
    replicas: Option<Arc<Replicas>>,
    draining: AtomicBool,
}

impl Broker {
    /// A broker that wants requests as long as it is ready.
    pub fn new(exchange: Exchange, clock: Clock, readiness: Readiness, authentication: ClientAuthentication) -> Self {
        Self {
            exchange,
            clock,
            readiness,
            authentication,
            tracer: Tracer::default(),
            replicas: None,
            draining: AtomicBool::new(false),
        }
    }

    /// The same, whose requests are recorded here.
    #[must_use]
    pub fn traced_by(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// The same, which shares a database with these.
    #[must_use]
    pub fn beside(self, replicas: Option<Arc<Replicas>>) -> Self {
        Self { replicas, ..self }
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

/// A path, and what answers there.
type Route = (String, MethodRouter<Arc<Broker>>);

/// The endpoints for OAuth clients, and the documents by which they find their way. The place of the server's metadata is formed
/// from the issuer's path.
fn exchange(broker: &Broker) -> Vec<Route> {
    let metadata = format!("{}{}", metadata::AUTHORIZATION_SERVER, broker.exchange.issuer_path());
    vec![
        (TOKEN_PATH.into(), post(token::post)),
        (INTROSPECTION_PATH.into(), post(introspection::post)),
        (REVOCATION_PATH.into(), post(revocation::post)),
        (JWKS_PATH.into(), get(jwks::get)),
        (metadata, get(metadata::authorization_server)),
        (metadata::OPENID.into(), get(metadata::openid)),
        (PROTECTED_RESOURCE_PATH.into(), get(metadata::protected_resource)),
        (
            format!("{PROTECTED_RESOURCE_PATH}/{{*path}}"),
            get(metadata::protected_resource),
        ),
    ]
}

/// The paths of one listener. What stands under `public` is described in `server/openapi.json`.
fn routes(listener: ListenerName, broker: &Broker) -> Vec<Route> {
    let health = [
        ("/healthz".into(), get(health::healthz)),
        ("/readyz".into(), get(health::readyz)),
    ];
    let feed = [(FEED_PATH.into(), get(feed::get))];
    match listener {
        ListenerName::Mesh => {
            let logout = [(LOGOUT_PATH.into(), post(logout::post))];
            let own = health.into_iter().chain(feed).chain(logout);
            exchange(broker).into_iter().chain(own).collect()
        }
        ListenerName::Public => {
            let description = [(openapi::PATH.into(), get(openapi::get))];
            exchange(broker).into_iter().chain(description).collect()
        }
        ListenerName::Observe => {
            let metrics = [("/metrics".into(), get(metrics::get))];
            health.into_iter().chain(metrics).collect()
        }
        ListenerName::Admin => {
            let commands = [
                (REVOKE_PATH.into(), post(admin::revoke)),
                (LIFT_PATH.into(), post(admin::lift)),
                (STATUS_PATH.into(), get(admin::status)),
                (KEYS_PATH.into(), get(keys::list)),
                (ROTATE_PATH.into(), post(keys::rotate)),
                (RETIRE_PATH.into(), post(keys::retire)),
                (REWRAP_PATH.into(), post(keys::rewrap)),
            ];
            commands.into_iter().chain(feed).collect()
        }
    }
}

/// The endpoints of one listener. Each request must carry its [`Caller`](crate::exchange::Caller) as an extension.
pub fn router(listener: ListenerName, broker: Arc<Broker>) -> Router {
    let routes = routes(listener, &broker).into_iter();
    routes
        .fold(Router::new(), |router, (path, methods)| router.route(&path, methods))
        .with_state(broker)
}

#[cfg(test)]
pub(crate) mod tests;
