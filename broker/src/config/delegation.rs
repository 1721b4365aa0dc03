//! Decides whether the broker can act for users as configured: its own account, its keys, towards whom, and how much at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kerbridge_gss::Principal;
use kerbridge_wire::filter_config::IssuerConfig;
use kerbridge_wire::policy as wire_policy;

use super::kerberos::{check_keytab_file, check_principal_held};
use super::key_source::{self, KeySource, Published};
use super::{Address, KerberosConfig, ListenerConfig, PolicyOfFile, prefix_of, raw};
use crate::channel_bindings::CertificateFile;
use crate::policy::{Policy, may_be_one_account};
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

/// Each issuer whose tokens are taken has keys from somewhere, and no others have.
fn check_issuers(
    keys: &[KeySource],
    file: &wire_policy::Policy,
    policy: &Policy,
    beside: &Beside<'_>,
    problems: &mut Problems,
) {
    let given = |issuer: &str| keys.iter().any(|source| source.terms.issuer == issuer);
    if let Some(own) = beside.issuer {
        if beside.only && !given(own) {
            problems.note(
                "delegation.keys",
                format!("has none for {own}, whose tokens are to be verified"),
                "add a [[delegation.keys]] with issuer and unix, the mesh socket of the broker that mints",
            );
        }
        if !beside.only && given(own) {
            problems.note(
                "delegation.keys",
                "has one for this broker's own issuer, whose keys it has itself",
                "remove it",
            );
        }
    }
    for (field, issuer) in policy.subjects().issuers() {
        let is_inline = |one: &wire_policy::Policy| {
            let mut issuers = one.issuer.iter();
            issuers.any(|known| known.issuer == issuer && known.jwks.inline.is_some())
        };
        if !given(issuer) && !is_inline(file) {
            problems.note(
                "delegation.keys",
                format!("has none for {issuer}, the {field} of the policy"),
                "add one with file, unix or url: what Envoy fetches for the filter is not for the broker",
            );
        }
    }
    check_traced(keys, "delegation.keys", policy, beside.issuer, problems);
}

/// Each of these issuers is one whose tokens are taken: we, or another that the policy traces.
fn check_traced(keys: &[KeySource], section: &str, policy: &Policy, ours: Option<&str>, problems: &mut Problems) {
    for (index, source) in keys.iter().enumerate() {
        let issuer = source.terms.issuer.as_str();
        if policy.subjects().claim_of(issuer).is_none() && ours != Some(issuer) {
            problems.note(
                format!("{section}[{index}].issuer"),
                format!("no [[subject]] of the policy is about {issuer:?}, so that its tokens are never taken"),
                "add one there, or remove this",
            );
        }
    }
}

/// Where keys of other issuers come from for a broker that trades their tokens and acts for nobody.
pub(super) fn check_issuer_keys(
    list: Vec<raw::KeySource>,
    folder: &Path,
    has_delegation: bool,
    policy: Option<&PolicyOfFile>,
    problems: &mut Problems,
) -> Vec<KeySource> {
    const SECTION: &str = "issuer_keys";
    if has_delegation && !list.is_empty() {
        problems.note(
            SECTION,
            "stands beside [delegation]",
            "write each as a [[delegation.keys]]",
        );
        return Vec::new();
    }
    let keys = key_source::check(Published::Keys, list, SECTION, folder, problems);
    if let Some(PolicyOfFile { policy, .. }) = policy {
        check_traced(&keys, SECTION, policy, None, problems);
    }
    keys
}

/// Where the revocations of other issuers come from for a broker that trades their tokens and acts for nobody.
pub(super) fn check_issuer_feeds(
    list: Vec<raw::KeySource>,
    folder: &Path,
    keys: &[KeySource],
    has_delegation: bool,
    policy: Option<&PolicyOfFile>,
    problems: &mut Problems,
) -> Vec<KeySource> {
    const SECTION: &str = "issuer_feeds";
    if has_delegation {
        if !list.is_empty() {
            problems.note(
                SECTION,
                "stands beside [delegation]",
                "write each as a [[delegation.feeds]]",
            );
        }
        return Vec::new();
    }
    let feeds = key_source::check(Published::Feeds, list, SECTION, folder, problems);
    if let Some(PolicyOfFile { file, policy, .. }) = policy {
        check_traced(&feeds, SECTION, policy, None, problems);
        check_followed((keys, &feeds), SECTION, file, policy, problems);
    }
    feeds
}

/// A token that its issuer has revoked is refused by the filter, which follows that issuer's feed. It must buy no token of ours
/// and no ticket, which that feed would never name.
fn check_followed(
    (keys, feeds): (&[KeySource], &[KeySource]),
    section: &str,
    file: &wire_policy::Policy,
    policy: &Policy,
    problems: &mut Problems,
) {
    let is_of = |sources: &[KeySource], issuer: &str| sources.iter().any(|source| source.terms.issuer == issuer);
    for (field, issuer) in policy.subjects().issuers() {
        // Whose keys this broker does not have, its tokens are not taken here.
        let is_taken =
            |known: &&IssuerConfig| known.issuer == issuer && (known.jwks.inline.is_some() || is_of(keys, issuer));
        let has_feed = file.issuer.iter().filter(is_taken).any(|known| known.feed.is_some());
        if has_feed && !is_of(feeds, issuer) {
            problems.note(
                section,
                format!("has none for {issuer}, the {field} of the policy, whose feed the filter follows: what it revokes would be taken here"),
                format!("add a [[{section}]] with issuer and unix or url: what Envoy fetches for the filter is not for the broker"),
            );
        }
    }
}

/// A revoked token gets no ticket: where this broker has no store of revocations it follows those of the broker that has.
fn check_feeds(
    feeds: &[KeySource],
    follows: Option<bool>,
    policy: &Policy,
    beside: &Beside<'_>,
    problems: &mut Problems,
) {
    const SWITCH: &str = "delegation.follow_revocations";
    let of_ours = beside
        .issuer
        .filter(|own| feeds.iter().any(|feed| feed.terms.issuer == **own));
    match (beside.only, follows, of_ours) {
        (true, None | Some(true), None) => problems.missing(
            "delegation.feeds",
            "add a [[delegation.feeds]] with issuer and unix, the mesh socket of the broker that mints, so that tokens that it revokes \
             get no tickets here; or say follow_revocations = false",
        ),
        (true, Some(false), Some(_)) => problems.note(
            SWITCH,
            "is false beside a [[delegation.feeds]] of the broker that mints",
            "remove one of the two",
        ),
        (false, Some(_), _) => problems.note(
            SWITCH,
            "is for a broker that does nothing else than to act for users",
            "remove it: what this broker revokes it knows",
        ),
        (false, None, Some(_)) => problems.note(
            "delegation.feeds",
            "has one for this broker's own issuer, whose revocations it knows",
            "remove it",
        ),
        (true, None | Some(true), Some(_)) | (true, Some(false), None) | (false, None, None) => {}
    }
    check_traced(feeds, "delegation.feeds", policy, beside.issuer, problems);
}

fn check_targets(
    policy: &Policy,
    own: &Principal,
    kerberos: Option<&KerberosConfig>,
    refused: &[Principal],
    problems: &mut Problems,
) {
    let acceptors = kerberos.iter().flat_map(|kerberos| &kerberos.acceptors);
    let ours: Vec<&Principal> = acceptors
        .map(|acceptor| acceptor.principal.as_principal())
        .chain(std::iter::once(own))
        .collect();
    for (index, target, _) in policy.delegation_targets() {
        let field = format!("delegation[{index}].target");
        let service = target.service().as_principal();
        // As a domain may read them.
        let named = |known: &Principal| {
            if known == service {
                String::new()
            } else {
                format!(", by another name of {known}")
            }
        };
        if let Some(own) = ours.iter().find(|own| may_be_one_account(own, service)) {
            problems.note(
                &field,
                format!("{service} is this broker itself{}", named(own)),
                "name the service behind Envoy",
            );
        }
        if let Some(other) = refused.iter().find(|other| may_be_one_account(other, service)) {
            problems.note(
                &field,
                format!("{service} stands in delegation.refused_targets{}", named(other)),
                "name the service behind Envoy",
            );
        }
        if service.realm() != own.realm() {
            problems.note(
                field,
                format!("{service} is of another realm than {own}, from which no ticket leads there"),
                "name a service of the broker's own realm",
            );
        }
    }
}

fn open_bindings(policy: &Policy, folder: &Path, problems: &mut Problems) -> Vec<TargetBinding> {
    let mut bindings: Vec<TargetBinding> = Vec::new();
    for (index, target, file) in policy.delegation_targets() {
        let (target, Some(file)) = (target.to_string(), file) else {
            continue;
        };
        if bindings.iter().any(|binding| binding.target == target) {
            continue;
        }
        match CertificateFile::open(folder.join(file), 0) {
            Ok(file) => bindings.push(TargetBinding {
                target,
                file: Arc::new(file),
            }),
            Err(problem) => problems.note(
                format!("delegation[{index}].channel_binding"),
                problem,
                "name the PEM file with the certificate that the service shows, first of its chain",
            ),
        }
    }
    bindings
}
