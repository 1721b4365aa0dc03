//! Decides what each `[[grant]]` line says to somebody: it gives its scopes, or one thing is missing.

use std::collections::BTreeSet;
use std::fmt;

use kerbridge_gss::{Enctype, Principal};
use kerbridge_wire::policy as raw;

use super::{Audience, PrincipalPattern, SCOPE_REMEDY, Scopes, groups, numbered, patterns};
use crate::groups::GroupSet;
use crate::identity::Identity;
use crate::problem::Problems;

/// One `[[grant]]` line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Whom it is for; everybody where there are none, but some groups.
    principals: Vec<PrincipalPattern>,
    /// In one of which they must be; in any or none where there are none.
    groups: Vec<Box<str>>,
    pub(super) audience: String,
    pub(super) scopes: Scopes,
    /// Longest life of a token by this line, in seconds; never more than the audience's.
    pub(super) ttl_seconds: u32,
    /// As it says itself.
    pub(super) own_demands: Demands,
    /// Together with its audience's.
    demands: Demands,
}

/// What a ticket must be, whoever's it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    channel_bound: bool,
    /// Of which its encryption type must be one; any where absent.
    enctypes: Option<BTreeSet<Enctype>>,
}

/// Somebody, as far as grants are about them.
#[derive(Clone, Copy, Debug)]
pub struct Claimant<'a> {
    /// Who they are.
    pub principal: &'a Principal,
    /// In which groups.
    pub groups: &'a GroupSet,
    /// Whether their ticket is bound to the channel.
    pub channel_bound: bool,
    /// What their ticket is encrypted by, where that is known.
    pub enctype: Option<Enctype>,
}

/// What one line says to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It gives its scopes.
    Gives,
    /// It is about another audience.
    Audience,
    /// It does not name them.
    Principal,
    /// They are in none of its groups.
    Group,
    /// It demands a ticket of another encryption type than this.
    Enctype(Option<Enctype>),
    /// It demands a ticket that is bound to the channel, and nothing else is missing.
    Unbound,
}

impl<'a> Claimant<'a> {
    /// Somebody who has shown a ticket.
    pub fn of(identity: &'a Identity) -> Self {
        Self {
            principal: identity.principal(),
            groups: identity.groups(),
            channel_bound: identity.channel_bound(),
            enctype: identity.enctype(),
        }
    }
}

impl Line {
    /// What it says to somebody who wants this audience: the first thing that is missing, in the order of [`Verdict`].
    pub(super) fn verdict(&self, audience: &str, claimant: &Claimant<'_>) -> Verdict {
        let named = |pattern: &PrincipalPattern| pattern.matches(claimant.principal);
        if self.audience != audience {
            Verdict::Audience
        } else if !self.principals.is_empty() && !self.principals.iter().any(named) {
            Verdict::Principal
        } else if !self.groups.is_empty() && !self.groups.iter().any(|group| claimant.groups.contains(group)) {
            Verdict::Group
        } else {
            self.demands.unmet(claimant).unwrap_or(Verdict::Gives)
        }
    }

    /// Whether all that the other line gives to anybody is given by this one as well.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let named = |one: &PrincipalPattern| self.principals.iter().any(|own| own.covers(one));
        // Every line is held against every other: what costs the most to compare comes last.
        self.audience == other.audience
            && self.ttl_seconds >= other.ttl_seconds
            && other.scopes.is_subset(&self.scopes)
            && self.demands.are_met_where(&other.demands)
            && (self.groups.is_empty()
                || (!other.groups.is_empty() && other.groups.iter().all(|group| self.groups.contains(group))))
            && (self.principals.is_empty() || (!other.principals.is_empty() && other.principals.iter().all(named)))
    }

    /// Realms of its principals, each with its place.
    pub(super) fn realms(&self) -> impl Iterator<Item = (usize, &str)> {
        self.principals
            .iter()
            .enumerate()
            .map(|(at, pattern)| (at, pattern.realm()))
    }
}

impl Demands {
    /// Whether it is to be bound to the channel.
    pub fn channel_bound(&self) -> bool {
        self.channel_bound
    }

    /// The encryption types of which it must have one; none where any will do.
    pub fn enctypes(&self) -> impl Iterator<Item = Enctype> {
        self.enctypes.iter().flatten().copied()
    }

    /// What of it is missing.
    pub(super) fn unmet(&self, claimant: &Claimant<'_>) -> Option<Verdict> {
        let is_taken = |enctype: &Enctype, enctypes: &BTreeSet<Enctype>| enctypes.contains(enctype);
        let good = |enctypes| claimant.enctype.as_ref().is_some_and(|one| is_taken(one, enctypes));
        if !self.enctypes.as_ref().is_none_or(good) {
            return Some(Verdict::Enctype(claimant.enctype));
        }
        // Last: whoever is told so can bind the next ticket, and then it counts.
        (self.channel_bound && !claimant.channel_bound).then_some(Verdict::Unbound)
    }

    /// Whether a token can be one of a ticket that meets these, which never says how that was encrypted; `bound` is whether it was
    /// bound to the channel.
    pub(super) const fn are_met_by_a_token(&self, bound: bool) -> bool {
        self.enctypes.is_none() && (!self.channel_bound || bound)
    }

    /// Whether every ticket that meets the others meets these.
    fn are_met_where(&self, others: &Self) -> bool {
        let enctypes = match (&self.enctypes, &others.enctypes) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.is_subset(own),
        };
        enctypes && (!self.channel_bound || others.channel_bound)
    }

    /// Both of them.
    fn and(&self, other: &Self) -> Self {
        let enctypes = match (&self.enctypes, &other.enctypes) {
            (Some(one), Some(other)) => Some(one.intersection(other).copied().collect()),
            (Some(only), None) | (None, Some(only)) => Some(only.clone()),
            (None, None) => None,
        };
        Self {
            channel_bound: self.channel_bound || other.channel_bound,
            enctypes,
        }
    }

    /// As written, without the names that are no encryption types, which are noted.
    pub(super) fn read(channel_bound: bool, enctypes: &[String], field: &str, problems: &mut Problems) -> Self {
        let mut known = BTreeSet::new();
        for (at, name) in enctypes.iter().enumerate() {
            match name.parse() {
                Ok(enctype) => {
                    known.insert(enctype);
                }
                Err(error) => {
                    let all: Vec<String> = Enctype::ALL.iter().map(ToString::to_string).collect();
                    problems.note(
                        format!("{field}.enctypes[{at}]"),
                        format!("{name:?}: {error}"),
                        format!("write one of {}", all.join(", ")),
                    );
                }
            }
        }
        Self {
            channel_bound,
            enctypes: (!enctypes.is_empty()).then_some(known),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gives => f.write_str("gives"),
            Self::Audience => f.write_str("is about another audience"),
            Self::Principal => f.write_str("does not name this principal"),
            Self::Group => f.write_str("is for groups, and they are in none of them"),
            Self::Unbound => f.write_str("demands a ticket that is bound to the channel"),
            Self::Enctype(Some(enctype)) => write!(f, "demands a ticket of another encryption type than {enctype}"),
            Self::Enctype(None) => f.write_str("demands a ticket of an encryption type, which a token does not say"),
        }
    }
}

/// The lines, or notes all that is wrong with them.
pub(super) fn build(file: &[raw::Grant], audiences: &[Audience], problems: &mut Problems) -> Vec<Line> {
    numbered(file, "grant", "use patterns such as *@REALM", problems)
        .filter_map(|(index, line)| check(line, &format!("grant[{index}]"), audiences, problems))
        .collect()
}

fn check(line: &raw::Grant, field: &str, audiences: &[Audience], problems: &mut Problems) -> Option<Line> {
    let raw::Grant {
        principals,
        groups,
        audience: name,
        scopes,
        ttl,
        channel_bound,
        enctypes,
    } = line;
    if principals.is_empty() && groups.is_empty() {
        problems.note(
            format!("{field}.principals"),
            "names nobody",
            "name principals, such as \"alice@EXAMPLE.COM\" or \"*@EXAMPLE.COM\", or groups",
        );
    }
    let principals = patterns(principals, &format!("{field}.principals"), problems);
    let groups = groups::check(groups, &format!("{field}.groups"), problems);
    let own_demands = Demands::read(*channel_bound, enctypes, field, problems);
    let audience = audiences.iter().find(|known| known.name == *name);
    if audience.is_none() {
        problems.note(
            format!("{field}.audience"),
            format!("{name:?} is no audience of this file"),
            "correct the name or add the [[audience]]",
        );
    }
    if let (Some(audience), Some(ttl)) = (audience, ttl)
        && ttl.seconds() > audience.ttl_seconds
    {
        problems.note(
            format!("{field}.ttl"),
            format!("{ttl} is longer than the ttl of its audience, which counts"),
            "shorten it, or give the audience a longer one",
        );
    }
    let demands = match audience {
        Some(audience) => {
            let both = own_demands.and(&audience.demands);
            let left = |demands: &Demands| demands.enctypes.as_ref().is_none_or(|enctypes| !enctypes.is_empty());
            if left(&own_demands) && left(&audience.demands) && !left(&both) {
                problems.note(
                    format!("{field}.enctypes"),
                    "has none in common with its audience's, so that it gives nothing",
                    "correct one of the two",
                );
            }
            both
        }
        None => own_demands.clone(),
    };
    let scopes = Scopes::from_list(scopes)
        .map_err(|error| problems.note(format!("{field}.scopes"), error.to_string(), SCOPE_REMEDY))
        .ok()?;
    let longest = audience?.ttl_seconds;
    Some(Line {
        principals,
        groups,
        audience: name.clone(),
        scopes,
        ttl_seconds: ttl.map_or(longest, |ttl| ttl.seconds().min(longest)),
        own_demands,
        demands,
    })
}
