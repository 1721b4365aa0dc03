//! Finds what cannot be meant and yet does no harm: lines of the policy that nothing ever uses.

use kerbridge_wire::policy as raw;

use super::{Policy, grants};
use crate::problem::Problems;

impl Policy {
    /// What of its file is of no use, each with its field. The file is that which the policy was built from.
    pub fn doubts(&self, file: &raw::Policy) -> Problems {
        let mut doubts = Problems::default();
        for (index, audience) in self.audiences.iter().enumerate() {
            if !self.reach.is_had(&audience.name) {
                let traded = self.exchanges.iter().any(|line| *line.to == *audience.name);
                let traded = if traded {
                    ", and nobody has a token that is traded for it"
                } else {
                    ""
                };
                doubts.note(
                    format!("audience[{index}]"),
                    format!(
                        "no grant gives {:?} and no issuer vouches for it{traded}, so that nobody gets it",
                        audience.name
                    ),
                    "add a [[grant]], or remove it",
                );
            }
        }
        self.doubt_trades(&mut doubts);
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

    /// Trades that nobody can make, and scopes that none of them leaves.
    fn doubt_trades(&self, doubts: &mut Problems) {
        for (index, line) in self.exchanges.iter().enumerate() {
            let (from, to) = (&*line.from, &*line.to);
            if self.audience(to).is_some_and(|to| !to.demands.are_met_by_a_token(true)) {
                doubts.note(
                    format!("exchange[{index}].to"),
                    format!("{to:?} demands enctypes, which a token does not say of its ticket, so that none is traded for it"),
                    "remove the line, or write enctypes in the audience's grants in place of the audience",
                );
            } else if !self.reach.is_tradable(from) {
                doubts.note(
                    format!("exchange[{index}].from"),
                    format!("nobody has a token of {from:?} that could be traded, so that the line never matters"),
                    "add a [[grant]] of it, or remove the line",
                );
            } else {
                let lost = line
                    .scopes
                    .iter()
                    .filter(|scope| !self.reach.is_tradable_with(from, scope));
                let lost: Vec<&str> = lost.map(String::as_str).collect();
                if !lost.is_empty() {
                    doubts.note(
                        format!("exchange[{index}].scopes"),
                        format!("no token of {from:?} has {}, and a trade adds nothing", lost.join(", ")),
                        format!("add it to a [[grant]] of {from:?}, or remove it here"),
                    );
                }
            }
        }
    }

    /// Names of clients that look like patterns, and are the one client whose certificate has that name.
    pub fn no_patterns(file: &raw::Policy) -> Problems {
        let exchanges = file.exchange.iter().map(|line| ("exchange", &line.clients));
        let introspections = file.introspection.iter().map(|line| ("introspection", &line.clients));
        let delegations = file.delegation.iter();
        let delegations = delegations.map(|line| ("delegation", line.clients.as_ref()));
        let delegations = delegations.filter_map(|(list, clients)| Some((list, clients?)));
        let mut cautions = Problems::default();
        for lists in [
            exchanges.enumerate().collect::<Vec<_>>(),
            introspections.enumerate().collect(),
            delegations.enumerate().collect(),
        ] {
            for (index, (list, clients)) in lists {
                for (at, name) in clients.iter().enumerate().filter(|(_, name)| name.starts_with("*.")) {
                    cautions.note(
                        format!("{list}[{index}].clients[{at}]"),
                        format!("{name:?} is no pattern: it is the client whose certificate has that very name"),
                        "name each client, unless that is meant",
                    );
                }
            }
        }
        cautions
    }

    /// Whether another issuer may vouch for this audience: its scopes and groups are that issuer's business.
    pub(super) fn is_vouched_for(file: &raw::Policy, audience: &str) -> bool {
        file.issuer.iter().any(|issuer| issuer.audiences.contains_key(audience))
    }
}

#[cfg(test)]
mod tests;
