//! Counts decisions and shows ages, under names that Envoy's stats show as `wasmcustom.kerbridge.…`; the shipped Envoy
//! configuration makes labels of the words behind `reason` and `issuer`.
//!
//! Each decision is counted at Envoy at once, one host call each: a count that is kept here until the next tick is lost when the
//! VM is, and does not show to whoever looks right after the answer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use kerbridge_gate::Reason;
use kerbridge_gate::step::Decision;
use proxy_wasm::types::MetricType;

use crate::host;

/// The counters of one VM; Envoy adds up those of all VMs by name.
#[derive(Default)]
pub(crate) struct Metrics {
    /// By family and reason: what each issuer has. A table is smaller than a map, and issuers are few.
    decisions: RefCell<Vec<Vec<Counter>>>,
    gauges: RefCell<HashMap<String, Option<u32>>>,
}

/// A counter that Envoy has given a number, or refused.
struct Counter {
    issuer: Option<Rc<str>>,
    id: Option<u32>,
}

#[derive(Clone, Copy)]
enum Family {
    /// A request was decided.
    Requests,
    /// A request went on whatever the verdict was, since its route only logs and counts.
    DryRuns,
    /// A request that had passed was ended later.
    StreamsEnded,
    /// A browser was logged out, or not.
    Logouts,
    /// An attempt at a Kerberos service got its ticket or not, or the service refused it.
    Tickets,
}

impl Family {
    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::DryRuns => "dry_runs",
            Self::StreamsEnded => "streams_ended",
            Self::Logouts => "logouts",
            Self::Tickets => "tickets",
        }
    }
}

impl Metrics {
    /// Counts one decision: `kerbridge.requests.reason.<reason>.issuer.<issuer>`, or `kerbridge.dry_runs.…` where the route
    /// only logs and counts, or `kerbridge.logouts.…` where it is about a logout.
    pub(crate) fn count(&self, decision: &Decision) {
        let family = if decision.dry_run {
            Family::DryRuns
        } else if decision.logout {
            Family::Logouts
        } else {
            Family::Requests
        };
        self.add(family, decision.reason, decision.issuer.as_ref());
    }

    /// Counts one stream that was ended for a reason that came up after it had passed: `kerbridge.streams_ended.…`.
    pub(crate) fn count_end(&self, reason: Reason, issuer: Option<&Rc<str>>) {
        self.add(Family::StreamsEnded, reason, issuer);
    }

    /// Counts the end of one attempt at a Kerberos service: `kerbridge.tickets.…`. Its reason is `ok` where it went there with a
    /// ticket.
    pub(crate) fn count_ticket(&self, decision: &Decision) {
        self.add(Family::Tickets, decision.reason, decision.issuer.as_ref());
    }

    /// Counts a request that was answered since the host failed it.
    pub(crate) fn count_failure(&self) {
        self.add(Family::Requests, Reason::Internal, None);
    }

    /// Counts a key set of an issuer that this VM did not have before: `kerbridge.key_sets_taken.issuer.<issuer>`. All VMs
    /// count, so that a worker that lags behind shows.
    pub(crate) fn key_set_taken(&self, issuer: &str) {
        self.taken("key_sets_taken", issuer);
    }

    /// Counts a table of an issuer's revocations that this VM did not have before:
    /// `kerbridge.revocation_tables_taken.issuer.<issuer>`. Only VMs that have got a request take one.
    pub(crate) fn revocation_table_taken(&self, issuer: &str) {
        self.taken("revocation_tables_taken", issuer);
    }

    /// Counts a page of revocations that was not taken: `kerbridge.feed_pages_refused.reason.<word>.issuer.<issuer>`. The words
    /// are those of [`FeedError`](kerbridge_gate::feed::FeedError), and `not_fetched`. Whoever reads a page counts it.
    pub(crate) fn feed_page_refused(&self, word: &str, issuer: &str) {
        self.taken(&format!("feed_pages_refused.reason.{word}"), issuer);
    }

    fn taken(&self, what: &str, issuer: &str) {
        let name = format!("kerbridge.{what}.issuer.{issuer}");
        if host::define_metric(MetricType::Counter, &name)
            .and_then(host::count)
            .is_err()
        {
            log::debug!("counter refused by the host counter={name}");
        }
    }

    fn add(&self, family: Family, reason: Reason, issuer: Option<&Rc<str>>) {
        let mut decisions = self.decisions.borrow_mut();
        let at = (family as usize)
            .saturating_mul(Reason::ALL.len())
            .saturating_add(reason as usize);
        if decisions.len() <= at {
            decisions.resize_with(at.saturating_add(1), Vec::new);
        }
        let Some(counters) = decisions.get_mut(at) else { return };
        let is_it = |one: &&Counter| one.issuer.as_ref() == issuer;
        let known = counters.iter().find(is_it).map(|one| one.id);
        let id = known.unwrap_or_else(|| {
            let name = issuer.map_or("-", |name| name);
            let name = format!("kerbridge.{}.reason.{reason}.issuer.{name}", family.name());
            let id = host::define_metric(MetricType::Counter, &name).ok();
            counters.push(Counter {
                issuer: issuer.cloned(),
                id,
            });
            id
        });
        // A counter that cannot be had is no reason to refuse anything.
        if id.map(host::count) == Some(Err(host::HostError)) {
            log::debug!("counter refused by the host reason={reason}");
        }
    }

    /// Shows how many routes only log and count: `kerbridge.dry_run_rules`.
    pub(crate) fn dry_run_rules(&self, count: usize) {
        self.show("kerbridge.dry_run_rules", u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Shows the age of an issuer's keys in seconds: `kerbridge.keys_age_seconds.issuer.<issuer>`. A gauge is one for all
    /// VMs: only the VM that polls shows ages.
    pub(crate) fn keys_age(&self, issuer: &str, seconds: u64) {
        self.show(&format!("kerbridge.keys_age_seconds.issuer.{issuer}"), seconds);
    }

    /// Shows the age of an issuer's revocations in seconds: `kerbridge.revocation_age_seconds.issuer.<issuer>`.
    pub(crate) fn feed_age(&self, issuer: &str, seconds: u64) {
        self.show(&format!("kerbridge.revocation_age_seconds.issuer.{issuer}"), seconds);
    }

    fn show(&self, name: &str, value: u64) {
        let known = self.gauges.borrow().get(name).copied();
        let id = known.unwrap_or_else(|| {
            let id = host::define_metric(MetricType::Gauge, name).ok();
            self.gauges.borrow_mut().insert(name.to_owned(), id);
            id
        });
        if id.map(|id| host::record(id, value)) == Some(Err(host::HostError)) {
            log::debug!("gauge refused by the host gauge={name}");
        }
    }
}
