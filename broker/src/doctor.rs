//! Decides what is wrong between this broker, its KDC and its Envoy, before a client finds out, and what mends it.
//!
//! Each check looks at one thing, says what it found, which reason a client would be refused under, and the exact command
//! for MIT, Active Directory and FreeIPA where they differ. Nothing is changed anywhere. [`finding`] is what comes out;
//! [`keytab`], [`ticket`], [`user`], [`directory`], [`mod@delegation`], [`hosts`], [`state`], [`keys`], [`revocations`], [`listener`] and
//! [`envoy`] look, in that order.

mod address;
mod collector;
pub mod deadline;
pub mod delegation;
pub mod directory;
pub mod envoy;
mod feed_page;
pub mod finding;
pub mod hosts;
pub mod keys;
pub mod keytab;
pub mod listener;
pub mod revocations;
mod shell;
pub mod state;
pub mod store;
pub mod ticket;
pub mod user;

use std::path::PathBuf;
use std::sync::Arc;

use kerbridge_gss::Principal;
use kerbridge_wire::{Reason, policy as wire_policy};

pub use finding::{Finding, Remedy, Verdict};

use self::deadline::{Deadline, End};
use crate::config::{AcceptorConfig, Config};
use crate::time::Clock;

/// Where else to look.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// A user's tickets, for a realm in which a service cannot log in by its own name.
    pub ccache: Option<PathBuf>,
    /// An account to look up in the directory of groups.
    pub account: Option<String>,
    /// Envoy's admin address, `127.0.0.1:9901`.
    pub envoy_admin: Option<String>,
    /// Envoy's TLS listener, `127.0.0.1:8443`.
    pub envoy_listener: Option<String>,
}

/// Looks at everything, in order of what a ticket meets. libkrb5 must read the broker's own krb5.conf already. KDCs are asked until
/// the deadline; all else has time-outs of its own.
pub fn examine(
    config: &Arc<Config>,
    policy: &wire_policy::Policy,
    places: &Places,
    clock: Clock,
    deadline: Deadline,
) -> Vec<Finding> {
    let kerberos = config.kerberos();
    let mut findings = Vec::new();
    for acceptor in &kerberos.acceptors {
        let look = keytab::look(acceptor, kerberos);
        let is_usable = look.iter().all(|finding| finding.verdict != Verdict::Bad);
        findings.extend(look);
        findings.extend(if is_usable {
            ask_for_a_ticket(acceptor, config, places, clock, deadline)
        } else {
            let unasked = "no ticket is asked for: the keytab could not open it";
            vec![Finding::skipped("ticket", acceptor.principal.as_str(), unasked)]
        });
    }
    if let Some(ccache) = places.ccache.as_deref().filter(|_| kerberos.acceptors.is_empty()) {
        let unasked = "--ccache is for a ticket to the broker, and this one takes none: no [[kerberos.acceptor]]";
        findings.push(Finding::skipped("ticket", ccache.display().to_string(), unasked));
    }
    findings.extend(directory::look(config, places.account.as_deref(), clock.now()));
    if let Some(account) = config.delegation().map(|delegation| &delegation.principal) {
        findings.extend(act_for_users(account, config, clock, deadline));
    }
    findings.extend(hosts::look(&kerberos.acceptors, policy, &hosts::System));
    findings.extend(state::look(config.state_dir()));
    let keys = config
        .keys()
        .map(|keys| keys::look(&config.keyring_place(), keys, clock.now()));
    let (of_keys, published) = keys.unwrap_or_default();
    findings.extend(of_keys);
    if let Some(database) = config.database() {
        findings.extend(store::look(database, || clock.now()));
    }
    findings.extend(revocations::look(config, clock.now()));
    findings.extend(config.tracing().map(collector::look));
    findings.extend(listener::look(
        config.channel_bindings(),
        places.envoy_listener.as_deref(),
    ));
    let expected = envoy::Expected::of(config, policy, published);
    findings.extend(envoy::look(places.envoy_admin.as_deref(), &expected));
    findings
}

fn ask_for_a_ticket(
    acceptor: &AcceptorConfig,
    config: &Arc<Config>,
    places: &Places,
    clock: Clock,
    deadline: Deadline,
) -> Vec<Finding> {
    let principal = &acceptor.principal;
    let (own, ccache, shared) = (acceptor.clone(), places.ccache.clone(), Arc::clone(config));
    let (mut findings, end) = deadline.look(move |found| {
        let findings = ticket::look(&own, ccache.as_deref(), &shared, clock);
        findings.into_iter().for_each(found);
    });
    findings.extend(match end {
        End::Done => None,
        End::NotBegun => Some(Finding::skipped("ticket", principal.as_str(), NOT_BEGUN)),
        End::Late => Some(ticket::unanswered(principal, deadline.within())),
        End::Failed => Some(Finding::bad("ticket", principal.as_str(), Reason::Internal, FAILED)),
    });
    findings
}

fn act_for_users(account: &Principal, config: &Arc<Config>, clock: Clock, deadline: Deadline) -> Vec<Finding> {
    let shared = Arc::clone(config);
    let (mut findings, end) = deadline.look(move |found| {
        if let Some(delegation) = shared.delegation() {
            let trial = delegation::Trial::of(delegation, &shared, Vec::new(), clock.now());
            delegation::look_at_all(delegation, &shared, &trial, clock, found);
        }
    });
    let last = match end {
        End::Done => None,
        End::NotBegun => Some(Finding::skipped("delegation_account", account.as_str(), NOT_BEGUN)),
        End::Late => Some(delegation::unanswered(account, deadline.within(), &findings)),
        End::Failed => Some(Finding::bad(
            "delegation_account",
            account.as_str(),
            Reason::Internal,
            FAILED,
        )),
    };
    findings.extend(last);
    findings
}

const NOT_BEGUN: &str = "no KDC is asked: another question was not answered before the deadline (--deadline)";
const FAILED: &str = "the look at it ended without a word, which is a fault of this program";
