//! Counts the connections that were ended so that others could come.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The part of the metrics that is about connections.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    refused: Counter,
    made_way: Counter,
}

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register(
            "connections_refused",
            "Connections to listen.public that were closed at once: their source had as many as it may",
            own.refused.clone(),
        );
        registry.register(
            "connections_made_way",
            "Idle connections to listen.public that were ended, since there was no room for one that waited",
            own.made_way.clone(),
        );
        own
    }

    /// Counts one that was closed for the sake of other sources.
    pub fn source_full(&self) {
        self.refused.inc();
    }

    /// Counts one that made way.
    pub fn made_way(&self) {
        self.made_way.inc();
    }

    /// How many of each.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.refused.get(), self.made_way.get())
    }
}
