//! Counts revocations, and says where the feed stands and how old it is.

use kerbridge_wire::Reason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::store::{Kind, Position};
use crate::time::UnixTime;

type KindLabel = [(&'static str, &'static str); 1];
type ReasonLabel = [(&'static str, &'static str); 1];

/// How a request to take a token back may be answered.
const ANSWERS: &[Reason] = &[
    Reason::Ok,
    Reason::InvalidRequest,
    Reason::ClientUnauthenticated,
    Reason::DeniedByPolicy,
    Reason::StoreUnavailable,
];

/// The part of the metrics that is about revocations.
#[derive(Clone, Debug)]
pub struct RevocationMetrics {
    revoked: Family<KindLabel, Counter>,
    asked: Family<ReasonLabel, Counter>,
    logouts: Family<ReasonLabel, Counter>,
    version: Gauge,
    entries: Gauge,
    as_of: Gauge,
}

impl RevocationMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let revoked = Family::<KindLabel, Counter>::default();
        registry.register(
            "revocations",
            "Revocations that this broker took in, by what they name",
            revoked.clone(),
        );
        let asked = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "revocation_requests",
            "Requests to take one token back, by how they were answered: ok where it was, and where there was nothing to take back",
            asked.clone(),
        );
        let logouts = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "logouts",
            "Browsers that were logged out, by how that was answered: ok where their sessions were ended, and where there was none",
            logouts.clone(),
        );
        let (version, entries, as_of) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register(
            "revocation_feed_version",
            "Version of the newest revocation that the feed has",
            version.clone(),
        );
        registry.register("revocation_feed_entries", "Revocations in the feed", entries.clone());
        // A moment and no age: whoever reads it later than it was written would read too small an age.
        registry.register_with_unit(
            "revocation_feed_as_of",
            "When the feed had last all that the store has, Unix time: time() less this is its age",
            Unit::Seconds,
            as_of.clone(),
        );
        for &kind in Kind::ALL {
            drop(revoked.get_or_create(&label(kind)));
        }
        for &reason in ANSWERS {
            drop(asked.get_or_create(&[("reason", reason.as_str())]));
        }
        for reason in [Reason::Ok, Reason::StoreUnavailable] {
            drop(logouts.get_or_create(&[("reason", reason.as_str())]));
        }
        Self {
            revoked,
            asked,
            logouts,
            version,
            entries,
            as_of,
        }
    }

    /// Counts one revocation.
    pub fn revoked(&self, kind: Kind) {
        self.revoked.get_or_create(&label(kind)).inc();
    }

    /// Counts one answered request to take a token back.
    pub fn answered(&self, reason: Reason) {
        self.asked.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// Counts one answered request to end sessions.
    pub fn logged_out(&self, reason: Reason) {
        self.logouts.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// How many were answered so.
    pub fn answers(&self, reason: Reason) -> u64 {
        self.asked.get_or_create(&[("reason", reason.as_str())]).get()
    }

    /// Notes where the feed stands.
    pub fn stand(&self, newest: Position, entries: usize, as_of: UnixTime) {
        self.version.set(i64::try_from(newest.version).unwrap_or(i64::MAX));
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.as_of.set(i64::try_from(as_of.seconds()).unwrap_or(i64::MAX));
    }
}

const fn label(kind: Kind) -> KindLabel {
    [("kind", kind.as_str())]
}
