//! Decides whether the broker can act for users as configured: its own account, its keys, towards whom, and how much at once.

mod issuers;
mod targets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kerbridge_gss::Principal;
use kerbridge_wire::policy as wire_policy;

use self::issuers::{check_feeds, check_followed, check_issuers};
pub(super) use self::issuers::{check_issuer_feeds, check_issuer_keys};
use self::targets::{check_targets, open_bindings};
use super::kerberos::{check_keytab_file, check_principal_held};
use super::key_source::{self, KeySource, Published};
use super::{Address, KerberosConfig, ListenerConfig, PolicyOfFile, prefix_of, raw};
use crate::channel_bindings::CertificateFile;
use crate::principal;
use crate::problem::Problems;

/// How the broker acts for users.
#[derive(Debug)]
pub struct DelegationConfig {
    /// Who it is towards the KDC. In Active Directory the account, not a service principal name of it.
    pub principal: Principal,
    /// The keytab with its keys.
    pub keytab: PathBuf,
    /// Services that are never acted towards, whatever the policy says: those of other brokers.
    pub refused_targets: Vec<Principal>,
    /// How much at once.
    pub limits: DelegationLimits,
    /// Where keys of issuers come from.
    pub keys: Vec<KeySource>,
    /// Where revocations of issuers come from that are not in a store of this broker's own.
    pub feeds: Vec<KeySource>,
    /// The certificates that tickets are bound to.
    pub bindings: Vec<TargetBinding>,
}

impl DelegationConfig {
    /// The principals of this broker, each with the keytab that has its keys: acceptors, and the account that acts.
    pub fn own_keys(&self, kerberos: &KerberosConfig) -> Vec<(Principal, PathBuf)> {
        let acceptors = kerberos.acceptors.iter();
        let acceptors = acceptors.map(|acceptor| (acceptor.principal.as_principal().clone(), acceptor.keytab.clone()));
        let itself = (self.principal.clone(), self.keytab.clone());
        acceptors.chain(std::iter::once(itself)).collect()
    }
}

/// How much is done at once, kept and given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelegationLimits {
    /// Threads that ask the KDC, 1 to 64.
    pub workers: usize,
    /// Questions that may wait for a thread, 1 to 65,536.
    pub queue: usize,
    /// Users' tickets that are kept, each for one target, 1 to 1,000,000.
    pub entries: usize,
    /// Tickets that one user may have in a minute, 0 for no limit.
    pub user_per_minute: u32,
    /// Tickets that there may be towards one target in a minute, 0 for no limit.
    pub target_per_minute: u32,
}

/// A certificate that tickets for a target are bound to.
#[derive(Clone, Debug)]
pub struct TargetBinding {
    /// The target.
    pub target: String,
    /// The certificate.
    pub file: Arc<CertificateFile>,
}

/// What else of the configuration it has to fit.
pub(super) struct Beside<'a> {
    /// This broker does nothing else: it has no keys of its own to verify tokens by.
    pub(super) only: bool,
    pub(super) issuer: Option<&'a str>,
    pub(super) kerberos: Option<&'a KerberosConfig>,
    pub(super) mesh: Option<&'a ListenerConfig>,
    pub(super) policy: Option<&'a PolicyOfFile>,
}

const WORKERS: usize = 4;
const QUEUE: usize = 256;
const ENTRIES: usize = 10_000;
/// A hundred a second: a page with many parts loads in seconds, and one user does not keep the broker busy.
const USER_PER_MINUTE: u32 = 6000;
const MOST_PER_MINUTE: u32 = 100_000_000;

pub(super) fn check(
    delegation: raw::Delegation,
    folder: &Path,
    beside: &Beside<'_>,
    problems: &mut Problems,
) -> Option<DelegationConfig> {
    let raw::Delegation {
        principal,
        keytab,
        refused_targets,
        workers,
        queue,
        entries,
        user_tickets_per_minute,
        target_tickets_per_minute,
        keys,
        follow_revocations,
        feeds,
    } = delegation;
    let principal = check_principal(principal.as_deref(), beside.kerberos, problems);
    let keytab = check_keytab(keytab, folder, principal.as_ref(), beside.kerberos, problems);
    let refused_targets = check_refused_targets(refused_targets, beside.only, problems);
    let mut bounded = |field: &str, value: Option<i64>, default: usize, least: usize, most: usize| {
        let Some(value) = value else { return Some(default) };
        let good = usize::try_from(value)
            .ok()
            .filter(|value| (least..=most).contains(value));
        if good.is_none() {
            problems.note(
                format!("delegation.{field}"),
                format!("{value} is not {least} to {most}"),
                "correct it",
            );
        }
        good
    };
    let small = |value: Option<usize>| value.and_then(|value| u32::try_from(value).ok());
    let [user, most] = [USER_PER_MINUTE, MOST_PER_MINUTE].map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let workers = bounded("workers", workers, WORKERS, 1, 64);
    let queue = bounded("queue", queue, QUEUE, 1, 65_536);
    let entries = bounded("entries", entries, ENTRIES, 1, 1_000_000);
    let user_per_minute = small(bounded(
        "user_tickets_per_minute",
        user_tickets_per_minute,
        user,
        0,
        most,
    ));
    let target_per_minute = small(bounded(
        "target_tickets_per_minute",
        target_tickets_per_minute,
        0,
        0,
        most,
    ));
    let keys = key_source::check(Published::Keys, keys, "delegation.keys", folder, problems);
    let feeds = key_source::check(Published::Feeds, feeds, "delegation.feeds", folder, problems);
    if let Some(Address::Clear { .. }) = beside.mesh.map(|mesh| &mesh.address) {
        problems.note(
            "listen.mesh",
            "is in the clear, so that anybody on this machine could ask for tickets in others' names",
            "use a Unix socket, or TLS with client certificates",
        );
    }
    let PolicyOfFile { file, policy, path, .. } = beside.policy?;
    check_issuers(&keys, file, policy, beside, problems);
    check_feeds(&feeds, follow_revocations, policy, beside, problems);
    check_followed((&keys, &feeds), "delegation.feeds", file, policy, problems);
    if policy.delegation_targets().next().is_none() {
        problems.note(
            "delegation",
            "the policy has no [[delegation]], so that nobody gets a ticket",
            "add one there, or remove [delegation] here",
        );
    }
    let mut found = Problems::default();
    if let Some(principal) = &principal {
        let refused = refused_targets.as_deref().unwrap_or_default();
        check_targets(policy, principal, beside.kerberos, refused, &mut found);
    }
    let bindings = open_bindings(policy, path.parent().unwrap_or(Path::new("")), &mut found);
    problems.absorb(&prefix_of(path), found);
    Some(DelegationConfig {
        principal: principal?,
        keytab: keytab?,
        refused_targets: refused_targets?,
        limits: DelegationLimits {
            workers: workers?,
            queue: queue?,
            entries: entries?,
            user_per_minute: user_per_minute?,
            target_per_minute: target_per_minute?,
        },
        keys,
        feeds,
        bindings,
    })
}

/// Where the policy sends its filter's questions for tickets to this broker, this broker must be able to get them.
pub(super) fn check_absent(policy: &wire_policy::Policy, problems: &mut Problems) {
    let asked = policy.filter.delegation.cluster.is_none();
    let upstreams = policy.route.iter().enumerate();
    let mut upstreams = upstreams.filter_map(|(index, route)| Some((index, &route.upstream.as_ref()?.kerberos.spn)));
    if let Some((index, spn)) = upstreams.next().filter(|_| asked) {
        problems.missing(
            "delegation",
            &format!(
                "route[{index}] of the policy leads to {spn}, and its filter asks this broker for the tickets: add [delegation], or \
                 name the cluster of the process that has it under [filter] there: delegation = {{ cluster = \
                 \"kerbridge_delegation\" }}"
            ),
        );
    }
}

fn check_principal(
    text: Option<&str>,
    kerberos: Option<&KerberosConfig>,
    problems: &mut Problems,
) -> Option<Principal> {
    const FIELD: &str = "delegation.principal";
    let Some(text) = text else {
        problems.missing(
            FIELD,
            "name the account that the KDC lets act for users, such as \"kerbridge/host.example.com@EXAMPLE.COM\", in Active \
             Directory \"svc-kerbridge@EXAMPLE.COM\"",
        );
        return None;
    };
    let principal = match principal::canonical(text) {
        Ok(principal) => principal,
        Err(error) => {
            problems.note(FIELD, format!("{text:?}: {error}"), "write the account with its realm");
            return None;
        }
    };
    if kerberos.is_some_and(|kerberos| !kerberos.realms.iter().any(|realm| realm == principal.realm())) {
        problems.note(
            FIELD,
            format!("realm {:?} is not in kerberos.realms", principal.realm()),
            "add the realm there, or correct the principal",
        );
    }
    Some(principal)
}

fn check_keytab(
    keytab: Option<PathBuf>,
    folder: &Path,
    principal: Option<&Principal>,
    kerberos: Option<&KerberosConfig>,
    problems: &mut Problems,
) -> Option<PathBuf> {
    const FIELD: &str = "delegation.keytab";
    let Some(path) = keytab.map(|path| folder.join(path)) else {
        problems.missing(FIELD, "name the keytab with the account's keys");
        return None;
    };
    let held = check_keytab_file(&path, FIELD, problems)?;
    if let (Some(principal), Some(kerberos)) = (principal, kerberos) {
        check_principal_held(&held, &path, principal, &kerberos.weak_enctypes, "delegation", problems);
    }
    Some(path)
}

/// A ticket to a broker is a token of anybody's whom we may act for, so that a broker is nobody's target. One that does nothing else
/// than to act for users does not know the others by itself.
fn check_refused_targets(list: Option<Vec<String>>, only: bool, problems: &mut Problems) -> Option<Vec<Principal>> {
    const FIELD: &str = "delegation.refused_targets";
    if list.is_none() && only {
        problems.missing(
            FIELD,
            "list the principals of kerberos.acceptor of the broker that makes the tokens, so that no ticket to it is ever got",
        );
        return None;
    }
    let mut refused = Vec::new();
    let mut is_good = true;
    for (at, text) in list.unwrap_or_default().iter().enumerate() {
        match principal::canonical(text) {
            Ok(principal) => refused.push(principal),
            Err(error) => {
                problems.note(
                    format!("{FIELD}[{at}]"),
                    format!("{text:?}: {error}"),
                    "write the service principal with its realm, such as \"HTTP/api.example.com@EXAMPLE.COM\"",
                );
                is_good = false;
            }
        }
    }
    is_good.then_some(refused)
}
