//! Says how somebody can have an audience by trades: which lines lead there, from which other audience, by which client, and what is left
//! then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kerbridge_wire::Reason;
use kerbridge_wire::policy as raw;

use super::exchange::Shown;
use super::reach::{Edge, Had, Tokens};
use super::{Claimant, Denial, Given, Policy, Scopes, TradeDenial, Verdict};
use crate::subject_token::Actors;

/// Which other issuers' tokens can be traded, by the audience that they vouch for.
#[derive(Clone, Debug, Default)]
pub(super) struct Vouched(BTreeMap<Box<str>, BTreeSet<Box<str>>>);

impl Vouched {
    pub(super) fn of(file: &raw::Policy) -> Self {
        let mut vouched = BTreeMap::<Box<str>, BTreeSet<Box<str>>>::new();
        for issuer in &file.issuer {
            // Only what is traced to a principal is traded.
            if file.subject.iter().any(|rule| rule.issuer == issuer.issuer) {
                for audience in issuer.audiences.keys() {
                    let issuers = vouched.entry(audience.as_str().into()).or_default();
                    issuers.insert(issuer.issuer.as_str().into());
                }
            }
        }
        Self(vouched)
    }
}

/// What one `[[exchange]]` line does for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way<'p> {
    /// The line's place among them.
    pub line: usize,
    /// Who may trade.
    pub clients: Vec<&'p str>,
    /// Tokens of this audience.
    pub from: &'p str,
    /// For tokens of that one.
    pub to: &'p str,
    /// What is left, at most, of a token that their ticket begins.
    pub outcome: Result<Given, NoWay>,
    /// Other issuers whose tokens of them are traded by it, too.
    pub issuers: Vec<&'p str>,
    /// What it lets through.
    pub lets_through: &'p Scopes,
}

/// Why a line does nothing for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// Their ticket gets no token that it is about.
    NoToken,
    /// The audience that it leads to demands a ticket of which a token does not say that it was such a one.
    Demand(Verdict),
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("their ticket gets no token that could be traded so"),
            Self::Demand(unmet) => write!(f, "the audience {unmet}"),
        }
    }
}

/// A trade with all that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeExplanation {
    /// What each grant says of the token that is to be traded, in the order of the file.
    pub grants: Vec<Verdict>,
    /// What each `[[exchange]]` line says of the trade, in the order of the file.
    pub lines: Vec<TradeVerdict>,
    /// What comes of it.
    pub outcome: Result<Given, Untraded>,
}

/// What one `[[exchange]]` line says of a trade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TradeVerdict {
    /// It leaves these.
    Leaves(Scopes),
    /// It leads to another audience.
    To,
    /// It is about tokens of another audience.
    From,
    /// It does not name this client.
    Client,
}

impl fmt::Display for TradeVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaves(_) => "leaves",
            Self::To => "leads to another audience",
            Self::From => "is about tokens of another audience",
            Self::Client => "does not name this client",
        })
    }
}

/// Why nothing is had by a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untraded {
    /// The ticket gets no token that could be traded.
    NoToken(Denial),
    /// It does, and is not traded.
    Denied(TradeDenial),
}

impl Untraded {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::NoToken(denial) => denial.reason(),
            Self::Denied(denial) => denial.reason(),
        }
    }
}

impl Policy {
    /// The lines that lead to an audience, those that lead to where they begin, and so on; nearest first, each once. A token that another
    /// issuer made is nobody's but in a trade, and what it says is not known here.
    pub fn ways(&self, claimant: &Claimant<'_>, audience: &str) -> Vec<Way<'_>> {
        let mut begun = Had::default();
        for line in &self.grants {
            if line.verdict(&line.audience, claimant) == Verdict::Gives {
                let tokens = Tokens::with(line.scopes.iter().map(String::as_str), line.ttl_seconds);
                begun.join(&line.audience, tokens);
            }
        }
        let edges: Vec<Option<Edge<'_>>> = self
            .exchanges
            .iter()
            .map(|line| {
                Some(Edge {
                    from: &line.from,
                    to: self.audience(&line.to)?,
                    scopes: line.scopes.iter().map(String::as_str).collect(),
                })
            })
            .collect();
        let usable: Vec<Edge<'_>> = edges.iter().flatten().cloned().collect();
        let tradable = begun.traded(&usable, claimant.channel_bound, Actors::MOST.saturating_sub(1));
        let of_token = Claimant {
            enctype: None,
            ..*claimant
        };
        self.lines_towards(audience)
            .into_iter()
            .filter_map(|index| {
                let (line, edge) = (self.exchanges.get(index)?, edges.get(index)?.as_ref()?);
                let outcome = match (edge.to.demands.unmet(&of_token), tradable.of(edge.from)) {
                    (Some(unmet), _) => Err(NoWay::Demand(unmet)),
                    (None, None) => Err(NoWay::NoToken),
                    (None, Some(tokens)) => {
                        let left = tokens.after(edge);
                        Ok(Given {
                            scopes: left.scopes().map(str::to_owned).collect(),
                            ttl_seconds: left.life(),
                        })
                    }
                };
                let issuers = self.vouched.0.get(edge.from).into_iter().flatten();
                Some(Way {
                    line: index,
                    clients: line.clients.iter().map(AsRef::as_ref).collect(),
                    from: edge.from,
                    to: &edge.to.name,
                    outcome,
                    // Nobody knows of theirs whether a ticket was bound.
                    issuers: issuers
                        .filter(|_| edge.to.demands.are_met_by_a_token(false))
                        .map(AsRef::as_ref)
                        .collect(),
                    lets_through: &line.scopes,
                })
            })
            .collect()
    }

    fn lines_towards(&self, audience: &str) -> Vec<usize> {
        let (mut lines, mut seen) = (Vec::new(), BTreeSet::new());
        let mut targets = BTreeSet::from([audience]);
        for _ in 0..Actors::MOST {
            let found: Vec<usize> = (0..)
                .zip(&self.exchanges)
                .filter(|(index, line)| targets.contains(&*line.to) && seen.insert(*index))
                .map(|(index, _)| index)
                .collect();
            if found.is_empty() {
                break;
            }
            targets = found
                .iter()
                .filter_map(|index| self.exchanges.get(*index))
                .map(|line| &*line.from)
                .collect();
            lines.extend(found);
        }
        lines
    }

    /// What a client gets for an audience that trades what somebody's ticket gets for another, with what each line says.
    pub fn explain_trade(
        &self,
        claimant: &Claimant<'_>,
        from: &str,
        client: &str,
        audience: &str,
        requested: Option<&Scopes>,
    ) -> TradeExplanation {
        let begun = self.explain(claimant, from, None);
        let had: Vec<String> = match &begun.outcome {
            Ok(given) => given.scopes.iter().cloned().collect(),
            Err(_) => Vec::new(),
        };
        let shown = Shown {
            claimant: Claimant {
                enctype: None,
                ..*claimant
            },
            scopes: &had,
            is_for: |named: &str| named == from,
        };
        let lines = self.exchanges.iter().map(|line| {
            if *line.to != *audience {
                TradeVerdict::To
            } else if *line.from != *from {
                TradeVerdict::From
            } else if !line.clients.contains(client) {
                TradeVerdict::Client
            } else {
                let left = had.iter().filter(|scope| line.scopes.contains(scope));
                TradeVerdict::Leaves(left.cloned().collect())
            }
        });
        let outcome = match (self.audience(audience), &begun.outcome) {
            (None, _) => Err(Untraded::Denied(TradeDenial::UnknownAudience)),
            (Some(_), Err(denial)) => Err(Untraded::NoToken(*denial)),
            (Some(to), Ok(given)) => self
                .weigh_trade(&shown, client, to, requested)
                .map(|scopes| Given {
                    scopes,
                    ttl_seconds: given.ttl_seconds.min(to.ttl_seconds),
                })
                .map_err(Untraded::Denied),
        };
        TradeExplanation {
            grants: begun.lines,
            lines: lines.collect(),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests;
