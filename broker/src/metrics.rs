//! Counts what the broker did, in labels of closed lists only.

mod connections;
mod database;
mod delegation;
mod keys;
mod revocations;
mod traces;

use kerbridge_gss::Enctype;
use kerbridge_wire::Reason;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use connections::ConnectionMetrics;
pub use database::DatabaseMetrics;
pub use delegation::{DelegationMetrics, Found};
pub use keys::KeyMetrics;
pub use revocations::RevocationMetrics;
pub use traces::TraceMetrics;

use crate::groups::directory::DirectoryCounters;

/// Media type of the exposition (OpenMetrics 1.0).
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type ReasonLabel = [(&'static str, &'static str); 1];
type BoundLabel = [(&'static str, &'static str); 1];
type EnctypeLabel = [(&'static str, String); 1];

/// All of the broker's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    exchanges: Family<ReasonLabel, Counter>,
    duration: Histogram,
    introspections: Family<ReasonLabel, Counter>,
    accepted: Family<BoundLabel, Counter>,
    bad_certificates: Gauge,
    bad_listener_certificates: Gauge,
    bad_keytabs: Gauge,
    weak_tickets: Family<EnctypeLabel, Counter>,
    queue_depth: Gauge,
    verify_queue: Gauge,
    half_open: Gauge,
    pushed_out: Counter,
    log_lines_lost: Counter,
    audit_events_lost: Counter,
    store_commits: Histogram,
    directory: DirectoryCounters,
    connections: ConnectionMetrics,
    database: DatabaseMetrics,
    delegation: DelegationMetrics,
    revocations: RevocationMetrics,
    keys: KeyMetrics,
    traces: TraceMetrics,
}

impl Metrics {
    /// Metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("kerbridge");
        let exchanges = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "exchanges",
            "Exchange requests by the reason of their answer",
            exchanges.clone(),
        );
        // From a cached key table on a quiet machine to the default deadline.
        let duration = Histogram::new([
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
        ]);
        registry.register_with_unit(
            "exchange_duration",
            "Time from the whole request to its answer",
            Unit::Seconds,
            duration.clone(),
        );
        let introspections = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "introspections",
            "Questions what a token says: ok where that was said, otherwise by the reason why not",
            introspections.clone(),
        );
        let accepted = Family::<BoundLabel, Counter>::default();
        registry.register(
            "accepted_tickets",
            "Tickets that GSSAPI accepted, by whether they were bound to the TLS channel",
            accepted.clone(),
        );
        let bad_certificates = Gauge::default();
        registry.register(
            "channel_binding_certificates_bad",
            "Certificate files whose last content was bad, so that the one before is in force",
            bad_certificates.clone(),
        );
        let bad_listener_certificates = Gauge::default();
        registry.register(
            "listener_certificates_bad",
            "TLS listeners whose certificate, key or client_ca was last bad, so that those before are in use",
            bad_listener_certificates.clone(),
        );
        let bad_keytabs = Gauge::default();
        registry.register(
            "keytabs_bad",
            "Acceptors whose keytab is missing, broken, open to others or without a usable key; each is still used",
            bad_keytabs.clone(),
        );
        let weak_tickets = Family::<EnctypeLabel, Counter>::default();
        registry.register(
            "weak_tickets",
            "Tickets taken although their encryption type is weak",
            weak_tickets.clone(),
        );
        let queue_depth = Gauge::default();
        registry.register(
            "accept_queue_depth",
            "Tokens that wait for a thread",
            queue_depth.clone(),
        );
        let store_commits = Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]);
        registry.register_with_unit(
            "store_commit_duration",
            "Time from the beginning of a commit of the store until the disk has it",
            Unit::Seconds,
            store_commits.clone(),
        );
        let revocations = RevocationMetrics::register(&mut registry);
        let verify_queue = Gauge::default();
        registry.register(
            "verify_queue_depth",
            "Tokens shown in place of tickets that wait for a thread",
            verify_queue.clone(),
        );
        let keys = KeyMetrics::register(&mut registry);
        let half_open = Gauge::default();
        registry.register(
            "handshakes_half_open",
            "Handshakes that wait for their second leg, as of the last of them",
            half_open.clone(),
        );
        let pushed_out = Counter::default();
        registry.register(
            "handshakes_pushed_out",
            "Handshakes that had to make room before their second leg came: their source began too many",
            pushed_out.clone(),
        );
        let log_lines_lost = Counter::default();
        registry.register(
            "log_lines_lost",
            "Log lines for which there was no room, since nobody read them",
            log_lines_lost.clone(),
        );
        let audit_events_lost = Counter::default();
        registry.register(
            "audit_events_lost",
            "Audit events for which there was no room, since they could not be written",
            audit_events_lost.clone(),
        );
        let directory = DirectoryCounters::registered(&mut registry);
        let connections = ConnectionMetrics::register(&mut registry);
        let database = DatabaseMetrics::register(&mut registry);
        let delegation = DelegationMetrics::register(&mut registry);
        let traces = TraceMetrics::register(&mut registry);
        // A series that begins with its first event hides that event from rate().
        for &reason in Reason::ALL {
            drop(exchanges.get_or_create(&label(reason)));
            drop(introspections.get_or_create(&label(reason)));
        }
        for bound in [true, false] {
            drop(accepted.get_or_create(&bound_label(bound)));
        }
        Self {
            registry,
            exchanges,
            duration,
            introspections,
            accepted,
            bad_certificates,
            bad_listener_certificates,
            bad_keytabs,
            weak_tickets,
            queue_depth,
            verify_queue,
            half_open,
            pushed_out,
            log_lines_lost,
            audit_events_lost,
            store_commits,
            directory,
            connections,
            database,
            delegation,
            revocations,
            keys,
            traces,
        }
    }

    /// Those of acting for users.
    pub fn delegation(&self) -> &DelegationMetrics {
        &self.delegation
    }

    /// Counts one answered exchange; `seconds` is how long it took.
    pub fn exchanged(&self, reason: Reason, seconds: f64) {
        self.exchanges.get_or_create(&label(reason)).inc();
        self.duration.observe(seconds);
    }

    /// Counts one answered question what a token says.
    pub fn introspected(&self, reason: Reason) {
        self.introspections.get_or_create(&label(reason)).inc();
    }

    /// How many such questions were answered so.
    pub fn introspections(&self, reason: Reason) -> u64 {
        self.introspections.get_or_create(&label(reason)).get()
    }

    /// Counts a ticket that was taken, where its encryption type is a weak one. Only those of the configuration are ever
    /// taken, so that the labels are of a closed list.
    pub fn ticket_taken(&self, enctype: Enctype) {
        if enctype.is_weak() {
            self.weak_tickets
                .get_or_create(&[("enctype", enctype.to_string())])
                .inc();
        }
    }

    /// How many exchanges were answered so.
    pub fn exchanges(&self, reason: Reason) -> u64 {
        self.exchanges.get_or_create(&label(reason)).get()
    }

    /// Counts one ticket that was accepted.
    pub fn accepted(&self, channel_bound: bool) {
        self.accepted.get_or_create(&bound_label(channel_bound)).inc();
    }

    /// The gauge of certificate files that are bad.
    pub fn bad_certificates(&self) -> Gauge {
        self.bad_certificates.clone()
    }

    /// The gauge of TLS listeners whose files are bad.
    pub fn bad_listener_certificates(&self) -> Gauge {
        self.bad_listener_certificates.clone()
    }

    /// The gauge of acceptors whose keytab is bad.
    pub fn bad_keytabs(&self) -> Gauge {
        self.bad_keytabs.clone()
    }

    /// The gauge of tokens that wait.
    pub fn queue_depth(&self) -> Gauge {
        self.queue_depth.clone()
    }

    /// How many tokens that are shown in place of tickets wait for a thread.
    pub fn verify_queue(&self) -> Gauge {
        self.verify_queue.clone()
    }

    /// The gauge of handshakes that wait for their second leg.
    pub fn half_open(&self) -> Gauge {
        self.half_open.clone()
    }

    /// The count of handshakes that made room for others.
    pub fn pushed_out(&self) -> Counter {
        self.pushed_out.clone()
    }

    /// The count of log lines that were dropped.
    pub fn log_lines_lost(&self) -> Counter {
        self.log_lines_lost.clone()
    }

    /// The count of audit events that were dropped.
    pub fn audit_events_lost(&self) -> Counter {
        self.audit_events_lost.clone()
    }

    /// The durations of the store's commits.
    pub fn store_commits(&self) -> Histogram {
        self.store_commits.clone()
    }

    /// The counts of a directory of groups.
    pub fn directory(&self) -> DirectoryCounters {
        self.directory.clone()
    }

    /// What is counted of the database that brokers share.
    pub fn database(&self) -> DatabaseMetrics {
        self.database.clone()
    }

    /// What is counted of connections.
    pub fn connections(&self) -> ConnectionMetrics {
        self.connections.clone()
    }

    /// What is said of signing keys.
    pub fn keys(&self) -> KeyMetrics {
        self.keys.clone()
    }

    /// What is counted of traces.
    pub fn traces(&self) -> TraceMetrics {
        self.traces.clone()
    }

    /// What is counted of revocations.
    pub fn revocations(&self) -> RevocationMetrics {
        self.revocations.clone()
    }

    /// The exposition, or `None` where it cannot be written.
    pub fn exposition(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).ok().map(|()| text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const fn label(reason: Reason) -> ReasonLabel {
    [("reason", reason.as_str())]
}

const fn bound_label(bound: bool) -> BoundLabel {
    [("channel_bound", if bound { "true" } else { "false" })]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_there_from_the_start_and_counts() {
        let metrics = Metrics::new();
        metrics.exchanged(Reason::Replay, 0.002);
        metrics.accepted(true);
        let text = metrics.exposition().unwrap();
        assert!(
            text.contains("kerbridge_exchanges_total{reason=\"replay\"} 1"),
            "{text}"
        );
        assert!(text.contains("kerbridge_exchanges_total{reason=\"ok\"} 0"), "{text}");
        for (bound, count) in [("true", 1), ("false", 0)] {
            let line = format!("kerbridge_accepted_tickets_total{{channel_bound=\"{bound}\"}} {count}");
            assert!(text.contains(&line), "{text}");
        }
        for gauge in [
            "channel_binding_certificates_bad",
            "listener_certificates_bad",
            "keytabs_bad",
        ] {
            assert!(text.contains(&format!("kerbridge_{gauge} 0")), "{text}");
        }
        assert!(text.contains("kerbridge_exchange_duration_seconds_count 1"), "{text}");
        assert!(text.contains("kerbridge_accept_queue_depth 0"), "{text}");
        assert!(text.contains("kerbridge_handshakes_half_open 0"), "{text}");
        assert!(text.contains("kerbridge_handshakes_pushed_out_total 0"), "{text}");
        assert!(text.contains("kerbridge_log_lines_lost_total 0"), "{text}");
        assert!(text.contains("kerbridge_audit_events_lost_total 0"), "{text}");
        for kind in ["jti", "sid", "subject"] {
            let line = format!("kerbridge_revocations_total{{kind=\"{kind}\"}} 0");
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("kerbridge_revocation_feed_as_of_seconds 0"), "{text}");
    }

    /// What stands in the first cell of the page's table, and its kind.
    fn documented() -> BTreeSet<(String, String)> {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).unwrap();
        let rows = page
            .lines()
            .skip_while(|line| !line.starts_with("| metric of the broker"));
        rows.skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())
            })
            .collect()
    }

    #[test]
    fn each_metric_has_its_row_in_the_documents_and_no_other_has() {
        let metrics = Metrics::new();
        // RC4: which types are weak and taken is up to the configuration, so that none is there from the start.
        metrics.ticket_taken(Enctype::from(23));
        let text = metrics.exposition().unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let exposed: BTreeSet<(String, String)> = types
            .map(|line| {
                let (name, kind) = line.split_once(' ').unwrap();
                let end = if kind == "counter" { "_total" } else { "" };
                (format!("{name}{end}"), kind.to_owned())
            })
            .collect();
        assert_eq!(documented(), exposed);
    }
}
