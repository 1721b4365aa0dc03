//! Decides which client may trade a user's token for one of another audience, and how little of it is left then: what no line
//! allows is denied, and nothing is ever added.

use std::collections::BTreeSet;
use std::fmt;

use kerbridge_gate::certificate::Confirmation;
use kerbridge_wire::Reason;
use kerbridge_wire::clients::{ExchangeRule, metadata_url};
use kerbridge_wire::policy as raw;

use super::{Audience, Claimant, Given, Grant, Policy, SCOPE_REMEDY, Scopes, Verdict, numbered};
use crate::config::unfit_client_of_policy;
use crate::identity::Identity;
use crate::problem::Problems;
use crate::subject_token::{Actors, VerifiedToken};

/// The address of an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) address: Box<str>,
    /// Host and path of its metadata.
    described_at: Box<str>,
}

/// One `[[exchange]]` line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) clients: BTreeSet<Box<str>>,
    pub(super) from: Box<str>,
    pub(super) to: Box<str>,
    pub(super) scopes: Scopes,
}

/// A token that is to be traded, as far as lines are about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'t, F> {
    /// Whose it is, by the ticket behind it.
    pub(super) claimant: Claimant<'t>,
    pub(super) scopes: &'t [String],
    /// Whether it is for an audience.
    pub(super) is_for: F,
}

/// Why the policy lets nobody trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeDenial {
    /// The audience is not in the policy.
    UnknownAudience,
    /// The token names who may act with it, and it is somebody else than this client.
    NotItsActor,
    /// The token went through as many hands as it may.
    TooManyActors,
    /// No line lets this client trade tokens for any of the token's audiences for this one.
    NoLine,
    /// The audience demands a ticket of which the token does not say that it was such a one.
    Demand(Verdict),
    /// A scope was asked for that the token has not, or that no line lets through.
    ScopeNotLeft,
}

impl TradeDenial {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::UnknownAudience => Reason::InvalidTarget,
            Self::NotItsActor | Self::TooManyActors | Self::NoLine | Self::Demand(_) => Reason::DeniedByPolicy,
            Self::ScopeNotLeft => Reason::InvalidScope,
        }
    }
}

impl fmt::Display for TradeDenial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAudience => f.write_str("the audience is not in the policy"),
            Self::NotItsActor => f.write_str("may_act of the token names another client"),
            Self::TooManyActors => write!(f, "the token has {} actors already", Actors::MOST),
            Self::NoLine => f.write_str("no exchange line lets this client trade this token for that audience"),
            Self::Demand(unmet) => write!(f, "the audience {unmet}"),
            Self::ScopeNotLeft => {
                f.write_str("a scope was asked for that the token has not, or that no exchange line lets through")
            }
        }
    }
}

impl Policy {
    /// The audience that has this address (RFC 8707 §2), compared byte by byte.
    pub fn audience_at(&self, resource: &str) -> Option<&Audience> {
        let mut audiences = self.audiences.iter();
        audiences.find(|audience| audience.resource() == Some(resource))
    }

    /// The audience whose metadata are at this host and path (RFC 9728 §3), whatever the scheme: a proxy before us may have taken
    /// TLS off.
    pub fn audience_described_at(&self, host_and_path: &str) -> Option<&Audience> {
        let mut audiences = self.audiences.iter();
        audiences.find(|audience| {
            let resource = audience.resource.as_ref();
            resource.is_some_and(|resource| *resource.described_at == *host_and_path)
        })
    }

    /// The scopes that somebody can have for an audience, each once, in order; those of other issuers are theirs to say.
    pub fn scopes_of(&self, audience: &Audience) -> BTreeSet<&str> {
        self.reach.scopes(&audience.name).collect()
    }

    /// The audiences whose tokens may be traded, each once.
    pub fn traded_audiences(&self) -> BTreeSet<&str> {
        self.exchanges.iter().map(|line| &*line.from).collect()
    }

    /// What is left of a token, whose subject is this identity, when this client trades it: of the token's scopes those that
    /// a line lets through, or of these just those that were asked for.
    pub fn trade(
        &self,
        identity: Identity,
        token: &VerifiedToken,
        client: &str,
        audience: &str,
        requested: Option<&Scopes>,
    ) -> Result<Grant, TradeDenial> {
        let audience = self.audience(audience).ok_or(TradeDenial::UnknownAudience)?;
        if !token.may_be_used_by(client) {
            return Err(TradeDenial::NotItsActor);
        }
        let shown = Shown {
            claimant: Claimant::of(&identity),
            scopes: token.scopes(),
            is_for: |from: &str| token.is_for(from),
        };
        let scopes = self.weigh_trade(&shown, client, audience, requested)?;
        let actors = token.actors().and(client).ok_or(TradeDenial::TooManyActors)?;
        Ok(Grant {
            identity,
            audience: audience.clone(),
            given: Given {
                scopes,
                ttl_seconds: audience.ttl_seconds,
            },
            actors,
            bound_to: match token.confirmation() {
                Confirmation::Certificate(digest) => Some(digest),
                Confirmation::Bearer | Confirmation::Unknown => None,
            },
        })
    }

    /// What all lines together leave of a token.
    pub(super) fn weigh_trade(
        &self,
        shown: &Shown<'_, impl Fn(&str) -> bool>,
        client: &str,
        audience: &Audience,
        requested: Option<&Scopes>,
    ) -> Result<Scopes, TradeDenial> {
        let lines: Vec<&Line> = self
            .exchanges
            .iter()
            .filter(|line| *line.to == *audience.name && line.clients.contains(client) && (shown.is_for)(&line.from))
            .collect();
        if lines.is_empty() {
            return Err(TradeDenial::NoLine);
        }
        if let Some(unmet) = audience.demands.unmet(&shown.claimant) {
            return Err(TradeDenial::Demand(unmet));
        }
        let let_through = |scope: &&String| lines.iter().any(|line| line.scopes.contains(scope));
        let left: Scopes = shown.scopes.iter().filter(let_through).cloned().collect();
        match requested {
            Some(requested) if !requested.is_subset(&left) => Err(TradeDenial::ScopeNotLeft),
            Some(requested) => Ok(requested.clone()),
            None => Ok(left),
        }
    }
}

/// The lines, or notes all that is wrong with them.
pub(super) fn build(file: &raw::Policy, audiences: &[Audience], problems: &mut Problems) -> Vec<Line> {
    numbered(&file.exchange, "exchange", "name several clients in a line", problems)
        .filter_map(|(index, line)| check(line, &format!("exchange[{index}]"), audiences, problems))
        .collect()
}

fn check(line: &ExchangeRule, field: &str, audiences: &[Audience], problems: &mut Problems) -> Option<Line> {
    let ExchangeRule {
        clients,
        from,
        to,
        scopes,
    } = line;
    check_clients(clients, &format!("{field}.clients"), problems);
    for (name, audience) in [("from", from), ("to", to)] {
        if !audiences.iter().any(|known| known.name == *audience) {
            problems.note(
                format!("{field}.{name}"),
                format!("{audience:?} is no audience of this file"),
                "correct the name or add the [[audience]]",
            );
        }
    }
    if from == to {
        problems.note(
            format!("{field}.to"),
            format!("{to:?} is from, too: whoever was sent a token for itself would have another for it"),
            "name the audience of the service that the clients call, or remove the line",
        );
    }
    match Scopes::from_list(scopes) {
        Ok(scopes) => Some(Line {
            clients: clients.iter().map(|name| name.as_str().into()).collect(),
            from: from.as_str().into(),
            to: to.as_str().into(),
            scopes,
        }),
        Err(error) => {
            problems.note(format!("{field}.scopes"), error.to_string(), SCOPE_REMEDY);
            None
        }
    }
}

/// Notes what can be no client's name. Unlike a `[[delegation]]`, none of these lines is for every client.
pub(super) fn check_clients(clients: &[String], field: &str, problems: &mut Problems) {
    if clients.is_empty() {
        problems.note(field, "names nobody", "name clients, as they authenticate");
    }
    for (at, name) in clients.iter().enumerate() {
        if let Some(why) = unfit_client_of_policy(name) {
            problems.note(
                format!("{field}[{at}]"),
                format!("{name:?} {why}"),
                "write the name in the client's certificate, or client_name of the mesh listener",
            );
        }
    }
}

/// The address of an audience, or notes why it is none: it is compared as text, and stands in documents that clients read.
pub(super) fn check_resource(
    resource: Option<&String>,
    field: &str,
    earlier: &[Audience],
    problems: &mut Problems,
) -> Option<Resource> {
    let resource = resource?;
    let url = metadata_url(resource).filter(|_| resource.len() <= super::LONGEST_AUDIENCE);
    let Some((_, described_at)) = url.as_ref().and_then(|url| url.split_once("://")) else {
        problems.note(
            field,
            format!("{resource:?} is no address of a service"),
            "write an absolute URI without query and fragment, such as \"https://api.example.com/orders\"",
        );
        return None;
    };
    if earlier.iter().any(|other| other.resource() == Some(resource)) {
        problems.note(
            field,
            format!("{resource:?} stands here twice"),
            "give each audience its own",
        );
        return None;
    }
    Some(Resource {
        address: resource.as_str().into(),
        described_at: described_at.into(),
    })
}

#[cfg(test)]
mod tests;
