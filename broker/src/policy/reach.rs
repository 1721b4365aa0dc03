//! Finds out what can be had at all: tickets and other issuers' tokens begin with something, and each trade leaves less of it, from
//! audience to audience, as often as a token may be traded.

use std::collections::{BTreeMap, BTreeSet};

use kerbridge_wire::policy as raw;

use super::{Audience, Policy, Scopes};
use crate::subject_token::Actors;

/// What somebody can have, by audience.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Had<'p>(BTreeMap<&'p str, Tokens<'p>>);

/// The tokens for one audience that can be had, all together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens<'p> {
    /// Longest life of one, in seconds.
    longest: u32,
    /// The scopes that one has, with the longest life of one that has it.
    scopes: BTreeMap<&'p str, u32>,
    /// Whether one may have scopes that are not known here: another issuer says them.
    any: bool,
}

/// One trade that is allowed.
#[derive(Clone, Debug)]
pub(super) struct Edge<'p> {
    pub(super) from: &'p str,
    pub(super) to: &'p Audience,
    pub(super) scopes: Vec<&'p str>,
}

impl<'p> Tokens<'p> {
    /// Those with these scopes, which live so long.
    pub(super) fn with(scopes: impl IntoIterator<Item = &'p str>, longest: u32) -> Self {
        Self {
            longest,
            scopes: scopes.into_iter().map(|scope| (scope, longest)).collect(),
            any: false,
        }
    }

    /// Those with scopes that nobody here knows.
    const fn of_others(longest: u32) -> Self {
        Self {
            longest,
            scopes: BTreeMap::new(),
            any: true,
        }
    }

    fn join(&mut self, other: Self) {
        self.longest = self.longest.max(other.longest);
        self.any |= other.any;
        for (scope, life) in other.scopes {
            let known = self.scopes.entry(scope).or_default();
            *known = life.max(*known);
        }
    }

    /// The longest life of one that has this scope; nothing where none has.
    fn life_with(&self, scope: &str) -> Option<u32> {
        self.scopes
            .get(scope)
            .copied()
            .or_else(|| self.any.then_some(self.longest))
    }

    /// What a trade leaves of them.
    pub(super) fn after(&self, edge: &Edge<'p>) -> Self {
        let most = edge.to.ttl_seconds;
        let kept = edge.scopes.iter();
        Self {
            longest: self.longest.min(most),
            scopes: kept
                .filter_map(|scope| Some((*scope, self.life_with(scope)?.min(most))))
                .collect(),
            any: false,
        }
    }

    /// The scopes that are known, in order.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &'p str> {
        self.scopes.keys().copied()
    }

    /// The life of a token that has all of them, at most.
    pub(super) fn life(&self) -> u32 {
        self.scopes.values().copied().min().unwrap_or(self.longest)
    }
}

impl<'p> Had<'p> {
    /// Takes in more.
    pub(super) fn join(&mut self, audience: &'p str, tokens: Tokens<'p>) {
        match self.0.get_mut(audience) {
            Some(known) => known.join(tokens),
            None => {
                self.0.insert(audience, tokens);
            }
        }
    }

    fn and(mut self, other: Self) -> Self {
        for (audience, tokens) in other.0 {
            self.join(audience, tokens);
        }
        self
    }

    /// What there is of an audience.
    pub(super) fn of(&self, audience: &str) -> Option<&Tokens<'p>> {
        self.0.get(audience)
    }

    /// The same with all that so many trades make of it, one after the other. `bound` is whether tickets behind it are bound to
    /// their channel.
    pub(super) fn traded(mut self, edges: &[Edge<'p>], bound: bool, times: usize) -> Self {
        for _ in 0..times {
            let mut next = self.clone();
            for edge in edges {
                if let Some(tokens) = self.of(edge.from)
                    && edge.to.demands.are_met_by_a_token(bound)
                {
                    next.join(&edge.to.name, tokens.after(edge));
                }
            }
            if next == self {
                break;
            }
            self = next;
        }
        self
    }
}

/// What anybody can have, of a policy whose names exist; kept with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// After all trades.
    had: BTreeMap<Box<str>, Reached>,
    /// With one trade less: what can still be traded.
    tradable: BTreeMap<Box<str>, Reached>,
}

#[derive(Clone, Debug, Default)]
struct Reached {
    scopes: BTreeSet<Box<str>>,
    any: bool,
}

impl Reach {
    /// Of the file as it is written, so that a line which cannot be read has no consequences.
    pub(super) fn of_anybody(file: &raw::Policy, policy: &Policy) -> Self {
        let audiences: BTreeMap<&str, &Audience> = policy
            .audiences
            .iter()
            .map(|audience| (audience.name.as_str(), audience))
            .collect();
        let edges: Vec<Edge<'_>> = file
            .exchange
            .iter()
            .filter_map(|line| {
                Some(Edge {
                    from: &line.from,
                    to: audiences.get(line.to.as_str())?,
                    scopes: line.scopes.iter().map(String::as_str).collect(),
                })
            })
            .collect();
        let mut tickets = Had::default();
        for line in &file.grant {
            let Some(audience) = audiences.get(line.audience.as_str()) else {
                continue;
            };
            let life = line
                .ttl
                .map_or(audience.ttl_seconds, |ttl| ttl.seconds().min(audience.ttl_seconds));
            tickets.join(
                &audience.name,
                match Scopes::from_list(&line.scopes) {
                    Ok(_) => Tokens::with(line.scopes.iter().map(String::as_str), life),
                    Err(_) => Tokens::of_others(life),
                },
            );
        }
        // Where the file grants nothing, tokens are another broker's to give.
        if file.grant.is_empty() {
            for audience in &policy.audiences {
                tickets.join(&audience.name, Tokens::of_others(audience.ttl_seconds));
            }
        }
        // Only what is traced to a principal is traded.
        let (mut traced, mut shown) = (Had::default(), Had::default());
        for issuer in &file.issuer {
            let is_traced = file.subject.iter().any(|rule| rule.issuer == issuer.issuer);
            let had = if is_traced { &mut traced } else { &mut shown };
            for audience in issuer.audiences.keys() {
                had.join(audience, Tokens::of_others(u32::MAX));
            }
        }
        let after = |times: usize| {
            let others = traced.clone().traded(&edges, false, times);
            tickets.clone().traded(&edges, true, times).and(others)
        };
        Self {
            had: kept(after(Actors::MOST).and(shown)),
            tradable: kept(after(Actors::MOST.saturating_sub(1))),
        }
    }

    /// Whether anybody can have a token for this audience.
    pub(super) fn is_had(&self, audience: &str) -> bool {
        self.had.contains_key(audience)
    }

    /// Whether anybody can have a token for this audience with this scope, as far as can be known.
    pub(super) fn gives(&self, audience: &str, scope: &str) -> bool {
        self.had.get(audience).is_some_and(|reached| reached.gives(scope))
    }

    /// The scopes of an audience that are known, in order.
    pub(super) fn scopes(&self, audience: &str) -> impl Iterator<Item = &str> {
        let reached = self.had.get(audience);
        reached
            .into_iter()
            .flat_map(|reached| &reached.scopes)
            .map(AsRef::as_ref)
    }

    /// Whether there can be a token for this audience that may still be traded.
    pub(super) fn is_tradable(&self, audience: &str) -> bool {
        self.tradable.contains_key(audience)
    }

    /// Whether such a token can have this scope, as far as can be known.
    pub(super) fn is_tradable_with(&self, audience: &str, scope: &str) -> bool {
        self.tradable.get(audience).is_some_and(|reached| reached.gives(scope))
    }
}

impl Reached {
    fn gives(&self, scope: &str) -> bool {
        self.any || self.scopes.contains(scope)
    }
}

fn kept(had: Had<'_>) -> BTreeMap<Box<str>, Reached> {
    let tokens = had.0.into_iter();
    tokens
        .map(|(audience, tokens)| {
            let reached = Reached {
                scopes: tokens.scopes().map(Into::into).collect(),
                any: tokens.any,
            };
            (audience.into(), reached)
        })
        .collect()
}

#[cfg(test)]
mod tests;
