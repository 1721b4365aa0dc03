//! Counts the spans that a collector took, and those that were lost.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

type CauseLabel = [(&'static str, &'static str); 1];

const QUEUE_FULL: CauseLabel = [("cause", "queue_full")];
const NOT_TAKEN: CauseLabel = [("cause", "not_taken")];

/// The part of the metrics that is about traces. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TraceMetrics {
    taken: Counter,
    lost: Family<CauseLabel, Counter>,
}

impl TraceMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let Self { taken, lost } = Self::default();
        registry.register("spans_exported", "Spans that the collector took", taken.clone());
        registry.register(
            "spans_lost",
            "Spans that were dropped: no room in the queue, or the collector did not take them",
            lost.clone(),
        );
        for cause in [QUEUE_FULL, NOT_TAKEN] {
            drop(lost.get_or_create(&cause));
        }
        Self { taken, lost }
    }

    /// So many arrived.
    pub fn taken(&self, count: usize) {
        self.taken.inc_by(number(count));
    }

    /// So many had no room.
    pub fn queue_full(&self, count: usize) {
        self.lost.get_or_create(&QUEUE_FULL).inc_by(number(count));
    }

    /// So many were not taken.
    pub fn not_taken(&self, count: usize) {
        self.lost.get_or_create(&NOT_TAKEN).inc_by(number(count));
    }

    /// How many arrived, and how many did not.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64) {
        let lost = |cause| self.lost.get_or_create(cause).get();
        (self.taken.get(), lost(&QUEUE_FULL).saturating_add(lost(&NOT_TAKEN)))
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
