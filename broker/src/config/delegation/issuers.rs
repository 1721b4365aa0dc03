//! Decides whose tokens can be verified as configured, and whether what their issuers revoke is followed: no token is taken whose keys
//! nobody has, and none whose feed nobody reads.

use std::path::Path;

use kerbridge_wire::filter_config::IssuerConfig;
use kerbridge_wire::policy as wire_policy;

use super::Beside;
use crate::config::key_source::{self, KeySource, Published};
use crate::config::{PolicyOfFile, raw};
use crate::policy::Policy;
use crate::problem::Problems;

/// Each issuer whose tokens are taken has keys from somewhere, and no others have.
pub(super) fn check_issuers(
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
pub(in crate::config) fn check_issuer_keys(
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
pub(in crate::config) fn check_issuer_feeds(
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
pub(super) fn check_followed(
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
pub(super) fn check_feeds(
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
