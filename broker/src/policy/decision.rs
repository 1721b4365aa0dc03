//! Decides what all grants together give to somebody, and says of each line what it had to say.

use std::collections::BTreeMap;

use super::grants::{Claimant, Verdict};
use super::{Audience, Denial, Policy, Scopes};

/// What the grants give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// With which scopes; may be none.
    pub scopes: Scopes,
    /// Longest life of a token, in seconds: of its scopes none lives longer than a line says that gives it.
    pub ttl_seconds: u32,
}

/// A decision with all that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What each line says, in the order of the file; nothing where the audience is not in the policy.
    pub lines: Vec<Verdict>,
    /// What comes of it.
    pub outcome: Result<Given, Denial>,
}

impl Policy {
    /// What the grants give to somebody, with what each line says.
    pub fn explain(&self, claimant: &Claimant<'_>, audience: &str, requested: Option<&Scopes>) -> Explanation {
        let mut lines = Vec::new();
        let outcome = self.weigh(claimant, audience, requested, |verdict| lines.push(verdict));
        Explanation {
            lines,
            outcome: outcome.map(|(_, given)| given),
        }
    }

    /// Decides, and shows each verdict to who wants to know.
    pub(super) fn weigh(
        &self,
        claimant: &Claimant<'_>,
        audience: &str,
        requested: Option<&Scopes>,
        mut show: impl FnMut(Verdict),
    ) -> Result<(&Audience, Given), Denial> {
        let audience = self.audience(audience).ok_or(Denial::UnknownAudience)?;
        // The longest life of a token by any line, and with each scope; and what is not given for a demand alone.
        let mut longest = None;
        let mut scopes: BTreeMap<&str, u32> = BTreeMap::new();
        let mut unmet: Vec<(Denial, &Scopes)> = Vec::new();
        for line in &self.grants {
            let verdict = line.verdict(&audience.name, claimant);
            show(verdict);
            match verdict {
                Verdict::Gives => {
                    longest = longest.max(Some(line.ttl_seconds));
                    for scope in line.scopes.iter() {
                        let life = scopes.entry(scope).or_default();
                        *life = line.ttl_seconds.max(*life);
                    }
                }
                Verdict::Unbound => unmet.push((Denial::Unbound, &line.scopes)),
                Verdict::Enctype(enctype) => unmet.push((Denial::Enctype(enctype), &line.scopes)),
                Verdict::Audience | Verdict::Principal | Verdict::Group => {}
            }
        }
        let Some(longest) = longest else {
            return Err(first_of(unmet.iter().map(|(denial, _)| *denial)).unwrap_or(Denial::NoGrant));
        };
        if let Some(requested) = requested {
            let missing = requested.iter().filter(|scope| !scopes.contains_key(scope.as_str()));
            let why = missing.map(|scope| {
                let withheld = unmet.iter().filter(|(_, scopes)| scopes.contains(scope));
                first_of(withheld.map(|(denial, _)| *denial)).unwrap_or(Denial::ScopeNotGranted)
            });
            // What no line gives is said before what another ticket would get.
            if let Some(denial) = why.min_by_key(|denial| *denial != Denial::ScopeNotGranted) {
                return Err(denial);
            }
            scopes.retain(|scope, _| requested.contains(scope));
        }
        let given = Given {
            ttl_seconds: scopes.values().copied().min().unwrap_or(longest),
            scopes: scopes.keys().map(|scope| (*scope).to_owned()).collect(),
        };
        Ok((audience, given))
    }
}

/// Of demands that are not met, the one that the caller can do something about.
fn first_of(demands: impl Iterator<Item = Denial>) -> Option<Denial> {
    demands.min_by_key(|denial| *denial != Denial::Unbound)
}

#[cfg(test)]
mod tests;
