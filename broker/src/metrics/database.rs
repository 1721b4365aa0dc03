//! Says whether the database that brokers share is there, and counts what went wrong with it, by kind.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type KindLabel = [(&'static str, &'static str); 1];

/// The part of the metrics that is about `[store.postgres]`.
#[derive(Clone, Debug, Default)]
pub struct DatabaseMetrics {
    connected: Gauge,
    connections: Counter,
    waiting: Gauge,
    failures: Family<KindLabel, Counter>,
}

impl DatabaseMetrics {
    /// What can go wrong, as [`failed`](Self::failed) is told.
    pub(crate) const KINDS: [&'static str; 8] = [
        "away",
        "lost",
        "contended",
        "unknown",
        "gone",
        "format",
        "corrupt",
        "refused",
    ];

    pub(super) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register(
            "database_connected",
            "1 while the store has its connection to the database of [store.postgres], as of its last use",
            own.connected.clone(),
        );
        registry.register(
            "database_connections",
            "Connections of the store to that database that were opened",
            own.connections.clone(),
        );
        registry.register(
            "database_calls_waiting",
            "Calls of the store that wait for that database",
            own.waiting.clone(),
        );
        registry.register(
            "database_failures",
            "Attempts at connecting to that database, and at a transaction there, that failed, by kind",
            own.failures.clone(),
        );
        // A series that begins with its first failure hides that failure from rate().
        for kind in Self::KINDS {
            drop(own.failures.get_or_create(&[("kind", kind)]));
        }
        own
    }

    /// A connection was opened, and is good.
    pub fn connected(&self) {
        self.connections.inc();
        self.connected.set(1);
    }

    /// What was tried has failed, and the connection was given up.
    pub fn failed(&self, kind: &'static str) {
        self.failures.get_or_create(&[("kind", kind)]).inc();
        self.connected.set(0);
    }

    /// The gauge of calls that wait.
    pub fn waiting(&self) -> Gauge {
        self.waiting.clone()
    }

    /// Whether there is a connection, how many were opened, how many calls wait.
    #[cfg(test)]
    pub(crate) fn now(&self) -> (i64, u64, i64) {
        (self.connected.get(), self.connections.get(), self.waiting.get())
    }

    /// How often something failed so.
    #[cfg(test)]
    pub(crate) fn failures(&self, kind: &'static str) -> u64 {
        self.failures.get_or_create(&[("kind", kind)]).get()
    }
}
