//! Says how many signing keys stand where, when the next begins to sign, and whether they can be replaced.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::keyring::{KeyState, Stage};
use crate::time::UnixTime;

type StageLabel = [(&'static str, &'static str); 1];

/// The part of the metrics that is about signing keys.
#[derive(Clone, Debug)]
pub struct KeyMetrics {
    keys: Family<StageLabel, Gauge>,
    next: Gauge,
    switched: Counter,
    failing: Gauge,
}

impl KeyMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let keys = Family::<StageLabel, Gauge>::default();
        registry.register(
            "signing_keys",
            "Signing keys that are published, by where they stand",
            keys.clone(),
        );
        let (next, switched, failing) = (Gauge::default(), Counter::default(), Gauge::default());
        // A moment and no span: whoever reads it later than it was written would read too long a one.
        registry.register_with_unit(
            "signing_key_next_switch",
            "When the next key begins to sign, Unix time: this less time() is how long that is; 0 where none is planned",
            Unit::Seconds,
            next.clone(),
        );
        registry.register(
            "signing_key_switches",
            "How often a key took the place of the one that signed, by the schedule",
            switched.clone(),
        );
        registry.register(
            "signing_key_replacement_failing",
            "1 while keys cannot be replaced though it is time; those in use go on",
            failing.clone(),
        );
        for stage in STAGES {
            drop(keys.get_or_create(&[("stage", stage)]));
        }
        Self {
            keys,
            next,
            switched,
            failing,
        }
    }

    /// Notes where the keys stand.
    pub fn stand(&self, keys: &[KeyState], next: Option<UnixTime>, is_failing: bool) {
        for stage in STAGES {
            let count = keys.iter().filter(|key| key.stage.name() == stage).count();
            let gauge = self.keys.get_or_create(&[("stage", stage)]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let next = next.map_or(0, UnixTime::seconds);
        self.next.set(i64::try_from(next).unwrap_or(i64::MAX));
        self.failing.set(i64::from(is_failing));
    }

    /// Counts one key that took another's place.
    pub fn switched(&self) {
        self.switched.inc();
    }
}

const STAGES: [&str; 3] = Stage::NAMES;
