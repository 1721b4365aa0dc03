//! Reads as much of the configuration as the policy needs: no keytab, no keys, no certificates.

use std::path::Path;

use kerbridge_gss::Principal;
use kerbridge_wire::policy as wire_policy;

use super::demands::Tickets;
use super::policy_file::{self, BesidePolicy, PolicyOfFile, prefix_of};
use super::{groups, issuer, raw, read_text};
use crate::groups::{GroupSet, GroupSource};
use crate::policy::Policy;
use crate::problem::Problems;
use crate::strict_toml;

/// As much of the configuration as the policy needs: no keytab, no keys, no certificates. Built by
/// [`PolicyConfig::load`] only.
#[derive(Debug)]
pub struct PolicyConfig {
    issuer: String,
    policy: PolicyOfFile,
    grant_places: Vec<String>,
    exchange_places: Vec<String>,
    realms: Vec<String>,
    groups: Option<GroupSource>,
}

impl PolicyConfig {
    /// Reads the configuration and the policy file, and checks issuer and policy.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let config = read_text(path, "--config", &mut problems)
            .and_then(|text| strict_toml::read::<raw::Config>(&text, &mut problems))
            .and_then(|file| {
                let delegates_only = file.delegates_only();
                let issuer = issuer::check(file.issuer, &mut problems);
                let folder = path.parent().unwrap_or(Path::new(""));
                let tickets = Tickets::of(&file.kerberos);
                let realms = file.kerberos.realms;
                let groups = groups::check_without_secrets(file.groups, folder, Some(&realms), &mut problems);
                let beside = BesidePolicy {
                    issuer: issuer.as_deref(),
                    realms: Some(&realms),
                    groups: groups.as_ref().filter(|_| !delegates_only),
                    tickets: &tickets,
                };
                let policy = policy_file::check(file.policy_file, folder, &beside, &mut problems)?;
                Some(Self {
                    issuer: issuer?,
                    grant_places: policy.places_of("grant"),
                    exchange_places: policy.places_of("exchange"),
                    policy,
                    realms,
                    groups,
                })
            });
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(problems),
        }
    }

    /// `iss` of every token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The policy file as written.
    pub fn policy_file(&self) -> &wire_policy::Policy {
        &self.policy.file
    }

    /// The policy as it is in force.
    pub fn policy(&self) -> &Policy {
        &self.policy.policy
    }

    /// Where each grant stands: the file's name and the line.
    pub fn grant_places(&self) -> &[String] {
        &self.grant_places
    }

    /// Where each `[[exchange]]` stands, likewise.
    pub fn exchange_places(&self) -> &[String] {
        &self.exchange_places
    }

    /// Lines of the policy that nothing ever uses.
    pub fn doubts(&self) -> Problems {
        let mut doubts = Problems::default();
        let found = self.policy.policy.doubts(&self.policy.file);
        doubts.absorb(&prefix_of(&self.policy.path), found);
        doubts
    }

    /// What of the policy gives up safety, and was said on purpose.
    pub fn cautions(&self) -> Problems {
        let mut cautions = Problems::default();
        if !self.policy.file.filter.follow_revocations {
            cautions.note(
                format!("{}filter.follow_revocations", prefix_of(&self.policy.path)),
                "REVOCATIONS ARE OFF: whatever is taken back, a token that was issued passes every Envoy with this policy until \
                 its end, after a logout too",
                "remove the line, unless every audience's ttl is a time for which that may be so",
            );
        }
        cautions.absorb(&prefix_of(&self.policy.path), Policy::no_patterns(&self.policy.file));
        cautions
    }

    /// Realms whose principals are taken.
    pub fn realms(&self) -> &[String] {
        &self.realms
    }

    /// The groups of a principal, where a file says them.
    pub fn groups_of(&self, principal: &Principal) -> Option<GroupSet> {
        match &self.groups {
            Some(GroupSource::Static(groups)) => Some(groups.of(principal)),
            Some(GroupSource::None | GroupSource::Pac(_) | GroupSource::Directory(_)) | None => None,
        }
    }
}
