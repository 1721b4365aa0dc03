//! Decides which groups matter for an audience: those that its grants or its routes name, and no others.

use std::collections::BTreeSet;
use std::sync::Arc;

use kerbridge_wire::policy as raw;

use super::Policy;
use crate::groups::{GroupSet, LONGEST_NAME};
use crate::problem::Problems;

const REMEDY: &str = "write the group's name as groups.source gives it";

/// The groups that the tokens of one audience say. A caller's other groups are nobody's business there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needed(Arc<BTreeSet<Box<str>>>);

impl Needed {
    /// Those that the file names for this audience.
    pub(super) fn of(file: &raw::Policy, audience: &str) -> Self {
        let grants = file.grant.iter().filter(|grant| grant.audience == audience);
        let routes = file
            .route
            .iter()
            .filter(|route| route.audience.as_deref() == Some(audience));
        let delegations = file.delegation.iter().filter(|line| line.audience == audience);
        let names = grants
            .flat_map(|grant| &grant.groups)
            .chain(routes.flat_map(|route| &route.groups))
            .chain(delegations.flat_map(|line| &line.groups));
        Self(Arc::new(names.map(|name| name.as_str().into()).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> &BTreeSet<Box<str>> {
        &self.0
    }

    /// Those of them that somebody is in, in order.
    pub(super) fn among(&self, groups: &GroupSet) -> Vec<Box<str>> {
        self.0.iter().filter(|name| groups.contains(name)).cloned().collect()
    }
}

impl<'a> FromIterator<&'a Self> for Needed {
    /// The groups of several audiences.
    fn from_iter<I: IntoIterator<Item = &'a Self>>(needed: I) -> Self {
        let names = needed.into_iter().flat_map(|one| one.0.iter().cloned());
        Self(Arc::new(names.collect()))
    }
}

/// The groups of a grant, or notes those that are no names.
pub(super) fn check(names: &[String], field: &str, problems: &mut Problems) -> Vec<Box<str>> {
    for (at, name) in names.iter().enumerate() {
        if let Some(problem) = no_name(name) {
            problems.note(format!("{field}[{at}]"), format!("{name:?} {problem}"), REMEDY);
        }
    }
    names.iter().map(|name| name.as_str().into()).collect()
}

/// Why a text is no group's name: a name goes into tokens and headers.
pub fn no_name(name: &str) -> Option<String> {
    let good = !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
    (!good).then(|| format!("is not 1 to {LONGEST_NAME} bytes without control characters"))
}

impl Policy {
    /// Groups that grants and routes name, each with its field, for a comparison with those that anybody can be in. Those of
    /// routes are left out where tokens of other issuers come too: their groups are the issuers' business.
    pub fn groups(file: &raw::Policy) -> impl Iterator<Item = (String, &str)> {
        let grants = file.grant.iter().enumerate().flat_map(|(line, grant)| {
            let field = move |at| format!("grant[{line}].groups[{at}]");
            let names = grant.groups.iter().enumerate();
            names.map(move |(at, name)| (field(at), name.as_str()))
        });
        let ours_alone = file.issuer.is_empty();
        let routes = file
            .route
            .iter()
            .enumerate()
            .filter(move |_| ours_alone)
            .flat_map(|(line, route)| {
                let field = move |at| format!("route[{line}].groups[{at}]");
                let names = route.groups.iter().enumerate();
                names.map(move |(at, name)| (field(at), name.as_str()))
            });
        grants.chain(routes)
    }
}
