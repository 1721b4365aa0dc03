//! Finds what cannot be meant and yet does no harm: lines of the policy that nothing ever uses.

use kerbridge_wire::policy as raw;

use super::{Policy, grants};
use crate::problem::Problems;

impl Policy {
    /// What of its file is of no use, each with its field. The file is that which the policy was built from.
    pub fn doubts(&self, file: &raw::Policy) -> Problems {
        let mut doubts = Problems::default();
        for (index, audience) in self.audiences.iter().enumerate() {
            if !Self::is_had(file, &audience.name) {
                doubts.note(
                    format!("audience[{index}]"),
                    format!(
                        "no grant gives {:?} and no issuer vouches for it, so that nobody gets it",
                        audience.name
                    ),
                    "add a [[grant]], or remove it",
                );
            }
        }
        for (index, line) in self.grants.iter().enumerate() {
            let mut earlier = self.grants.iter().take(index);
            let mut later = self.grants.iter().enumerate().skip(index.saturating_add(1));
            let covered = earlier.position(|other| other.covers(line)).or_else(|| {
                // Of two that give the same, the first is of use.
                let better = |(_, other): &(usize, &grants::Line)| other.covers(line) && !line.covers(other);
                later.find(better).map(|(at, _)| at)
            });
            if let Some(other) = covered {
                doubts.note(
                    format!("grant[{index}]"),
                    format!("gives nothing that grant[{other}] does not give to the same, so that it never matters"),
                    "remove it, or correct it",
                );
            }
        }
        for (index, line) in file.delegation.iter().enumerate() {
            let leads_there = |route: &raw::Route| {
                let spn = route.upstream.as_ref().map(|upstream| &upstream.kerberos.spn);
                spn == Some(&line.target) && route.audience.as_ref() == Some(&line.audience)
            };
            if !file.route.iter().any(leads_there) {
                doubts.note(
                    format!("delegation[{index}].target"),
                    format!("no route of {:?} leads to {}", line.audience, line.target),
                    "give a [[route]] upstream = { kerberos = { spn } }, or remove the line",
                );
            }
        }
        doubts
    }

    /// Whether anybody can have a token for this audience: by a grant or a trade, or of an issuer that may vouch for it. Where the file
    /// grants nothing, tokens are another broker's to give.
    pub(super) fn is_had(file: &raw::Policy, audience: &str) -> bool {
        let is_granted = file.grant.iter().any(|line| line.audience == audience);
        let is_traded = file.exchange.iter().any(|line| line.to == audience);
        is_granted || is_traded || file.grant.is_empty() || Self::is_vouched_for(file, audience)
    }

    /// Whether another issuer may vouch for this audience: its scopes and groups are that issuer's business.
    pub(super) fn is_vouched_for(file: &raw::Policy, audience: &str) -> bool {
        file.issuer.iter().any(|issuer| issuer.audiences.contains_key(audience))
    }
}

#[cfg(test)]
mod tests;
