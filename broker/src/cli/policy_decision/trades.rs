//! Asks the policy by which trades somebody can have an audience, and what one of them leaves.

use std::fmt;

use kerbridge_wire::{Reason, Span};
use serde::Serialize;

use super::{explained, listed, word};
use crate::config::{PolicyConfig, unfit_client_of_policy};
use crate::policy::{
    Audience, Claimant, Given, NoWay, Policy, Scopes, TradeDenial, TradeExplanation, TradeVerdict, Untraded, Verdict,
    Way,
};

/// A trade that is asked about.
pub(in crate::cli) struct Trade {
    /// The audience of the token that is traded.
    pub(in crate::cli) from: String,
    /// Who trades.
    pub(in crate::cli) client: String,
}

/// What one `[[exchange]]` line does.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    field: String,
    /// File and line.
    place: String,
    from: String,
    to: String,
    clients: Vec<String>,
    verdict: &'static str,
    /// The same for people.
    detail: String,
    /// What it leaves, at most.
    scopes: Vec<String>,
    /// Longest life of what is had by it, in seconds.
    ttl_seconds: Option<u32>,
    /// Other issuers whose tokens of the audience are traded by it, too.
    issuers: Vec<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field, place, detail, ..
        } = self;
        write!(f, "{field} ({place}) {detail}")
    }
}

/// The lines that lead to an audience, and those that lead to where they begin.
pub(super) fn towards(config: &PolicyConfig, claimant: &Claimant<'_>, audience: &str) -> Vec<Line> {
    let policy = config.policy();
    let ways = policy.ways(claimant, audience).into_iter();
    ways.map(|way| of_way(&way, policy, config.exchange_places(), audience))
        .collect()
}

fn of_way(way: &Way<'_>, policy: &Policy, places: &[String], audience: &str) -> Line {
    let target = if way.to == audience {
        "it".to_owned()
    } else {
        format!("one of {:?}", way.to)
    };
    let lets_through = words(way.lets_through);
    let (verb, outcome, verdict, given) = match &way.outcome {
        Ok(given) => {
            let life = Span::from_seconds(given.ttl_seconds);
            let life = life.map_or_else(String::new, |life| format!(" for {life}"));
            let outcome = format!("{}{life} at most", listed(&words(&given.scopes)));
            ("trades", outcome, "leaves", Some(given))
        }
        Err(why @ NoWay::NoToken) => ("would trade", why.to_string(), "no_token", None),
        Err(why @ NoWay::Demand(unmet)) => ("would trade", why.to_string(), word(*unmet), None),
    };
    let clients = way.clients.join(", ");
    let mut detail = format!("{verb} a token of {:?} for {target}, by {clients}: {outcome}", way.from);
    if is_bound(policy, way.from) {
        detail.push_str("; it is bound to a certificate, whose holder alone can trade it");
    }
    for issuer in &way.issuers {
        detail.push_str(&format!(
            "; one of {issuer}, too: of its scopes {}",
            listed(&lets_through)
        ));
    }
    Line {
        clients: way.clients.iter().map(|&client| client.to_owned()).collect(),
        from: way.from.to_owned(),
        to: way.to.to_owned(),
        scopes: given.map(|given| words(&given.scopes)).unwrap_or_default(),
        ttl_seconds: given.map(|given| given.ttl_seconds),
        issuers: way.issuers.iter().map(|&issuer| issuer.to_owned()).collect(),
        ..Line::about(way.line, places, verdict, detail)
    }
}

impl Line {
    fn about(index: usize, places: &[String], verdict: &'static str, detail: String) -> Self {
        Self {
            field: format!("exchange[{index}]"),
            place: places.get(index).cloned().unwrap_or_default(),
            from: String::new(),
            to: String::new(),
            clients: Vec::new(),
            verdict,
            detail,
            scopes: Vec::new(),
            ttl_seconds: None,
            issuers: Vec::new(),
        }
    }
}

/// What each grant says of the token, what each line says of the trade, and what comes of it.
type Asked = (Vec<Verdict>, Vec<Line>, Result<Given, (Reason, String)>);

impl Trade {
    /// The client, where there can be none of that name, and why.
    pub(in crate::cli) fn nobody(&self) -> Option<(&str, impl fmt::Display + use<>)> {
        unfit_client_of_policy(&self.client).map(|why| (self.client.as_str(), why))
    }

    /// Asks.
    pub(super) fn ask(
        &self,
        config: &PolicyConfig,
        claimant: &Claimant<'_>,
        audience: &str,
        requested: Option<&Scopes>,
    ) -> Asked {
        let policy = config.policy();
        let TradeExplanation { grants, lines, outcome } =
            policy.explain_trade(claimant, &self.from, &self.client, audience, requested);
        let lines = lines.iter().zip(&config.policy_file().exchange).enumerate();
        let lines = lines.filter(|(_, (verdict, _))| **verdict != TradeVerdict::To);
        let lines = lines.map(|(index, (verdict, rule))| {
            let (name, scopes) = match verdict {
                TradeVerdict::Leaves(scopes) => ("leaves", words(scopes)),
                TradeVerdict::To => ("to", Vec::new()),
                TradeVerdict::From => ("from", Vec::new()),
                TradeVerdict::Client => ("client", Vec::new()),
            };
            let mut detail = match verdict {
                TradeVerdict::Leaves(_) => format!("leaves {}", listed(&scopes)),
                TradeVerdict::To | TradeVerdict::From | TradeVerdict::Client => verdict.to_string(),
            };
            if name == "leaves" && is_bound(policy, &rule.from) {
                detail.push_str("; the token is bound to a certificate, whose holder alone can trade it");
            }
            Line {
                from: rule.from.clone(),
                to: rule.to.clone(),
                clients: rule.clients.clone(),
                scopes,
                ..Line::about(index, config.exchange_places(), name, detail)
            }
        });
        let lines = lines.collect();
        let outcome = outcome.map_err(|untraded| (untraded.reason(), self.explained(untraded)));
        (grants, lines, outcome)
    }

    /// Why there is no trade, with what an administrator can do about it.
    fn explained(&self, untraded: Untraded) -> String {
        let denial = match untraded {
            Untraded::NoToken(denial) => return format!("no token of {:?}: {}", self.from, explained(denial)),
            Untraded::Denied(denial) => denial,
        };
        let remedy = match denial {
            TradeDenial::UnknownAudience => "correct the name or add the [[audience]]",
            TradeDenial::NoLine => "an [[exchange]] would have to name client, from and to",
            TradeDenial::Demand(_) => "tokens do not say what it demands; grant it, so that tickets get it",
            TradeDenial::ScopeNotLeft => "ask for less, or add it to an [[exchange]], and to a [[grant]] of from",
            TradeDenial::NotItsActor | TradeDenial::TooManyActors => "show another token",
        };
        format!("{denial}; {remedy}")
    }
}

fn is_bound(policy: &Policy, audience: &str) -> bool {
    policy.audience(audience).is_some_and(Audience::is_certificate_bound)
}

fn words(scopes: &Scopes) -> Vec<String> {
    scopes.iter().cloned().collect()
}
