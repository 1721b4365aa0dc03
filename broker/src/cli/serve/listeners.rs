//! Stops listeners together: those that exchange first, and the one that says so when they are done.

use std::time::Duration;

use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::server::{Listening, Room, Shutdown, serve};

/// Listeners that are told to stop at the same time.
pub(super) struct Listeners {
    stop: watch::Sender<bool>,
    shutdown: Shutdown,
    drain: Duration,
    running: JoinSet<()>,
}

impl Listeners {
    /// None yet; once told to stop, they wait for requests in flight as long as `drain`.
    pub(super) fn new(drain: Duration) -> Self {
        let (stop, shutdown) = Shutdown::channel();
        Self {
            stop,
            shutdown,
            drain,
            running: JoinSet::new(),
        }
    }

    /// Serves one more.
    pub(super) fn serve(&mut self, listening: Listening, router: Router, room: Room) {
        let serving = serve(listening, router, room, self.shutdown.clone(), self.drain);
        self.running.spawn(serving);
    }

    /// Returns when one of them has ended; where there is none, never.
    pub(super) async fn one_ended(&mut self) {
        if self.running.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Tells them to stop, and waits until all have.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        while self.running.join_next().await.is_some() {}
    }
}
