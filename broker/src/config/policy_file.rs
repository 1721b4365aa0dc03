//! Reads the policy file, and holds what it says to the rest of the configuration.

use std::path::{Path, PathBuf};

use kerbridge_wire::policy as wire_policy;
use ring::digest::{SHA256, digest};

use super::demands::Tickets;
use super::{issuer, read_text};
use crate::groups::GroupSource;
use crate::hexadecimal;
use crate::policy::Policy;
use crate::problem::Problems;
use crate::strict_toml;

/// A policy as written, as it is in force, and where it stands.
#[derive(Debug)]
pub(super) struct PolicyOfFile {
    pub(super) file: wire_policy::Policy,
    pub(super) policy: Policy,
    pub(super) path: PathBuf,
    text: String,
}

impl PolicyOfFile {
    /// Where each element of a list stands: the file's name and the line.
    pub(super) fn places_of(&self, list: &str) -> Vec<String> {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        let lines = strict_toml::lines_of(&self.text, list).into_iter();
        lines.map(|line| format!("{}:{line}", name.to_string_lossy())).collect()
    }

    pub(super) fn digest(&self) -> String {
        let digest = digest(&SHA256, self.text.as_bytes());
        hexadecimal::digits(digest.as_ref())
    }
}

/// What the policy must agree with, as far as it could be read.
pub(super) struct BesidePolicy<'a> {
    pub(super) issuer: Option<&'a str>,
    pub(super) realms: Option<&'a [String]>,
    pub(super) groups: Option<&'a GroupSource>,
    pub(super) tickets: &'a Tickets,
}

pub(super) fn check(
    file: Option<PathBuf>,
    folder: &Path,
    beside: &BesidePolicy<'_>,
    problems: &mut Problems,
) -> Option<PolicyOfFile> {
    let BesidePolicy {
        issuer,
        realms,
        groups,
        tickets,
    } = *beside;
    let Some(path) = file.map(|path| folder.join(path)) else {
        problems.missing("policy_file", "name the policy file, such as \"policy.toml\"");
        return None;
    };
    let text = read_text(&path, "policy_file", problems)?;
    let mut found = Problems::default();
    let file = strict_toml::read::<wire_policy::Policy>(&text, &mut found);
    let policy = file.as_ref().and_then(|file| Policy::build(file, &mut found));
    if let (Some(file), Some(own)) = (&file, issuer) {
        check_issuers(file, own, &mut found);
    }
    if let (Some(policy), Some(realms)) = (&policy, realms) {
        for (field, realm) in policy.realms() {
            if !realms.iter().any(|known| known == realm) {
                found.note(
                    field,
                    format!("realm {realm:?} is not in kerberos.realms, so that it never matches"),
                    "add the realm there, or correct it here",
                );
            }
        }
    }
    if let Some(policy) = &policy {
        tickets.check(policy, &mut found);
    }
    if let (Some(file), Some(groups)) = (&file, groups) {
        for (field, group) in Policy::groups(file).filter(|(_, group)| !groups.may_give(group)) {
            found.note(
                field,
                format!("nobody can be in {group:?}: {}", groups.why_not()),
                "correct the name, or add it there",
            );
        }
    }
    problems.absorb(&prefix_of(&path), found);
    let (file, policy) = file.zip(policy)?;
    Some(PolicyOfFile {
        file,
        policy,
        path,
        text,
    })
}

/// The broker's own issuer stands first in what is rendered, and a token is of one issuer.
fn check_issuers(file: &wire_policy::Policy, own: &str, problems: &mut Problems) {
    for (index, other) in file.issuer.iter().enumerate() {
        let other = other.issuer.as_str();
        if !issuer::are_alike(own, other) {
            continue;
        }
        let how = if own == other { "" } else { ", written otherwise" };
        problems.note(
            format!("issuer[{index}].issuer"),
            format!("{other:?} is this broker's own issuer{how}"),
            "remove the [[issuer]]: the broker's own tokens need none",
        );
    }
}

/// What stands before the fields of a file.
pub(super) fn prefix_of(path: &Path) -> String {
    format!("{}: ", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}
