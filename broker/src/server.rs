//! Answers requests on the broker's listeners and stops without losing one.

mod bind;
mod connection;
mod health;
mod jwks;
mod metrics;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::routing::{get, post};
use kerbridge_wire::exchange::{JWKS_PATH, TOKEN_PATH};

pub use bind::{Bound, bind};
pub use connection::{Shutdown, serve};

use crate::config::ListenerName;
use crate::exchange::Exchange;
use crate::time::Clock;

/// What all endpoints share.
#[derive(Debug)]
pub struct Broker {
    /// Decides exchanges.
    pub exchange: Exchange,
    /// Where the time comes from.
    pub clock: Clock,
    ready: AtomicBool,
}

impl Broker {
    /// A broker that is ready.
    pub fn new(exchange: Exchange, clock: Clock) -> Self {
        Self {
            exchange,
            clock,
            ready: AtomicBool::new(true),
        }
    }

    /// From now on `/readyz` says 503, so that whoever balances load looks elsewhere.
    pub fn drain(&self) {
        self.ready.store(false, Ordering::Release);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// The endpoints of one listener. Each request must carry its [`Caller`](crate::exchange::Caller) as an extension.
pub fn router(listener: ListenerName, broker: Arc<Broker>) -> Router {
    let exchange = || {
        Router::new()
            .route(TOKEN_PATH, post(token::post))
            .route(JWKS_PATH, get(jwks::get))
    };
    let health = || {
        Router::new()
            .route("/healthz", get(health::healthz))
            .route("/readyz", get(health::readyz))
    };
    match listener {
        ListenerName::Mesh => exchange().merge(health()),
        ListenerName::Public => exchange(),
        ListenerName::Observe => health().route("/metrics", get(metrics::get)),
    }
    .with_state(broker)
}

#[cfg(test)]
mod tests;
