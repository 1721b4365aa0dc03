//! Decides what is wrong between this broker, its KDC and its Envoy, before a client finds out, and what mends it.
//!
//! Each check looks at one thing, says what it found, which reason a client would be refused under, and the exact command
//! for MIT, Active Directory and FreeIPA where they differ. Nothing is changed anywhere. [`finding`] is what comes out;
//! [`keytab`], [`ticket`], [`user`], [`directory`], [`mod@delegation`], [`hosts`], [`state`], [`keys`], [`revocations`], [`listener`] and
//! [`envoy`] look, in that order.

mod address;
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
pub mod state;
pub mod store;
pub mod ticket;
pub mod user;

use std::path::PathBuf;

pub use finding::{Finding, Remedy, Verdict};

use crate::config::Config;
use crate::time::Clock;
use kerbridge_wire::policy as wire_policy;

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

/// Looks at everything, in order of what a ticket meets. libkrb5 must read the broker's own krb5.conf already.
pub fn examine(config: &Config, policy: &wire_policy::Policy, places: &Places, clock: Clock) -> Vec<Finding> {
    let kerberos = config.kerberos();
    let mut findings = Vec::new();
    for acceptor in &kerberos.acceptors {
        let look = keytab::look(acceptor, kerberos);
        let is_usable = look.iter().all(|finding| finding.verdict != Verdict::Bad);
        findings.extend(look);
        findings.extend(if is_usable {
            ticket::look(acceptor, places.ccache.as_deref(), config, clock)
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
    if let Some(delegation) = config.delegation() {
        let trial = delegation::Trial::of(delegation, config, Vec::new(), clock.now());
        findings.extend(delegation::look_as_configured(delegation, config, &trial, clock));
    }
    findings.extend(hosts::look(&kerberos.acceptors, policy, &hosts::System));
    findings.extend(state::look(config.state_dir()));
    if let Some(keys) = config.keys() {
        findings.extend(keys::look(&config.keyring_place(), keys, clock.now()));
    }
    if let Some(database) = config.database() {
        findings.extend(store::look(database, || clock.now()));
    }
    findings.extend(revocations::look(config, clock.now()));
    findings.extend(listener::look(
        config.channel_bindings(),
        places.envoy_listener.as_deref(),
    ));
    let expected = envoy::Expected::of(config, policy);
    findings.extend(envoy::look(places.envoy_admin.as_deref(), &expected));
    findings
}
