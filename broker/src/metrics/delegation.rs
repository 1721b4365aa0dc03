//! Counts what was done in users' names: tickets by reason, questions to the KDC, and how often none was needed.

use kerbridge_gss::{DelegationErrorKind as Kind, DelegationStep as Step};
use kerbridge_wire::Reason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type ReasonLabel = [(&'static str, &'static str); 1];
type AskedLabel = [(&'static str, &'static str); 2];
type FoundLabel = [(&'static str, &'static str); 1];

/// How a ticket was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was there.
    Kept,
    /// The KDC was asked.
    Asked,
    /// Somebody else had asked already.
    Joined,
    /// It had been refused a moment ago.
    Refused,
}

impl Found {
    const ALL: [Self; 4] = [Self::Kept, Self::Asked, Self::Joined, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "hit",
            Self::Asked => "miss",
            Self::Joined => "joined",
            Self::Refused => "refused",
        }
    }
}

/// From a ticket that is there to the default deadline.
#[derive(Clone, Debug)]
struct Durations(Histogram);

impl Default for Durations {
    fn default() -> Self {
        Self(Histogram::new([
            0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
        ]))
    }
}

/// The metrics of acting for users. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DelegationMetrics {
    delegations: Family<ReasonLabel, Counter>,
    duration: Durations,
    asked: Family<AskedLabel, Counter>,
    found: Family<FoundLabel, Counter>,
    kept: Gauge,
    kdc_queue: Gauge,
    token_queue: Gauge,
}

impl DelegationMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self {
            delegations,
            duration: Durations(duration),
            asked,
            found,
            kept,
            kdc_queue,
            token_queue,
        } = &metrics;
        registry.register(
            "delegations",
            "Requests for a ticket in a user's name by the reason of their answer",
            delegations.clone(),
        );
        registry.register_with_unit(
            "delegation_duration",
            "Time from the whole request for a ticket in a user's name to its answer",
            Unit::Seconds,
            duration.clone(),
        );
        registry.register(
            "kdc_requests",
            "Questions to the KDC for tickets in users' names, by which it was and what came of it",
            asked.clone(),
        );
        registry.register(
            "delegation_tickets",
            "How tickets in users' names were come by",
            found.clone(),
        );
        registry.register(
            "delegation_tickets_kept",
            "Tickets in users' names that are kept, and refusals of the last seconds",
            kept.clone(),
        );
        registry.register("kdc_queue_depth", "Questions that wait for a thread", kdc_queue.clone());
        registry.register(
            "delegation_queue_depth",
            "Tokens to verify or to make that wait for a thread",
            token_queue.clone(),
        );
        // A series that begins with its first event hides that event from rate().
        for &reason in Reason::ALL {
            drop(delegations.get_or_create(&[("reason", reason.as_str())]));
        }
        for step in [Step::Impersonate, Step::Proxy] {
            drop(asked.get_or_create(&asked_label(step, None)));
        }
        for way in Found::ALL {
            drop(found.get_or_create(&[("outcome", way.as_str())]));
        }
        metrics
    }

    /// How many requests for a ticket were answered so.
    pub fn delegations(&self, reason: Reason) -> u64 {
        self.delegations.get_or_create(&[("reason", reason.as_str())]).get()
    }

    /// Counts one answered request; `seconds` is how long it took.
    pub fn delegated(&self, reason: Reason, seconds: f64) {
        self.delegations.get_or_create(&[("reason", reason.as_str())]).inc();
        self.duration.0.observe(seconds);
    }

    /// Counts one question to the KDC, and what was wrong where it said no.
    pub fn asked(&self, step: Step, refused: Option<Kind>) {
        self.asked.get_or_create(&asked_label(step, refused)).inc();
    }

    /// Counts how one ticket was come by.
    pub fn found(&self, way: Found) {
        self.found.get_or_create(&[("outcome", way.as_str())]).inc();
    }

    /// Shows how many are kept.
    pub fn keeps(&self, count: usize) {
        self.kept.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The gauge of questions that wait.
    pub fn kdc_queue(&self) -> Gauge {
        self.kdc_queue.clone()
    }

    /// The gauge of tokens that wait.
    pub fn token_queue(&self) -> Gauge {
        self.token_queue.clone()
    }
}

const fn asked_label(step: Step, refused: Option<Kind>) -> AskedLabel {
    let question = match step {
        Step::LogIn => "log_in",
        Step::Impersonate => "s4u2self",
        Step::Proxy => "s4u2proxy",
    };
    let outcome = match refused {
        None => "ok",
        Some(Kind::KeytabUnavailable) => "keytab_unavailable",
        Some(Kind::LogInRefused) => "log_in_refused",
        Some(Kind::UserUnknown) => "user_unknown",
        Some(Kind::UserRevoked) => "user_revoked",
        Some(Kind::UnusableName) => "unusable_name",
        Some(Kind::TargetUnknown) => "target_unknown",
        Some(Kind::NotAllowed) => "not_allowed",
        Some(Kind::EvidenceNotForwardable) => "evidence_not_forwardable",
        Some(Kind::EnctypeUnsupported) => "enctype_unsupported",
        Some(Kind::ClockSkew) => "clock_skew",
        Some(Kind::TicketExpired) => "ticket_expired",
        Some(Kind::KdcUnreachable) => "kdc_unreachable",
        Some(Kind::Other) => "other",
    };
    [("question", question), ("outcome", outcome)]
}
