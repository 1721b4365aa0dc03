//! Asks the policy what somebody gets, as an exchange would, for the commands that show and test it.

mod trades;

use std::fmt;

use kerbridge_gss::{Enctype, Principal};
use kerbridge_wire::{Reason, Span};
use serde::Serialize;

use crate::config::PolicyConfig;
use crate::groups::GroupSet;
use crate::policy::{Audience, Claimant, Denial, Given, Scopes, Verdict};

pub(super) use self::trades::Trade;

/// What tickets of today are encrypted by, where nothing else is said: aes256-cts-hmac-sha1-96.
pub(super) const USUAL_ENCTYPE: i32 = 18;

/// What somebody asks for, and with what.
pub(super) struct Question {
    pub(super) principal: Principal,
    /// Those of `groups.static_file` where absent, else none.
    pub(super) groups: Option<GroupSet>,
    pub(super) channel_bound: bool,
    pub(super) enctype: Enctype,
    pub(super) audience: String,
    /// How it is to be had, where not by the ticket itself.
    pub(super) trade: Option<Trade>,
    /// All that there is where absent.
    pub(super) requested: Option<Scopes>,
}

/// What comes of it.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    principal: String,
    audience: String,
    /// Of which audience the token is that is traded for it; absent where the ticket is asked about.
    from: Option<String>,
    /// Who trades it.
    client: Option<String>,
    /// The groups that they are taken to be in.
    groups: Vec<String>,
    /// The word of the closed list.
    reason: &'static str,
    /// Why nothing is given.
    detail: Option<String>,
    /// The scopes of a token; absent where there is none.
    scopes: Option<Vec<String>>,
    /// Longest life of a token, in seconds; it ends with its ticket all the same.
    ttl_seconds: Option<u32>,
    /// Whether a token is given only to a client that shows a certificate, to which it is bound.
    certificate_bound: bool,
    /// What each line says about the audience that the ticket is for.
    lines: Vec<Line>,
    /// Grants of other audiences.
    other_lines: usize,
    /// By which trades the audience can be had; where one is asked about, what each line says of it.
    trades: Vec<trades::Line>,
}

/// What one grant says.
#[derive(Debug, Serialize)]
struct Line {
    field: String,
    /// File and line.
    place: String,
    verdict: &'static str,
    /// The same for people.
    detail: String,
    /// The scopes that it gives, or would.
    scopes: Vec<String>,
}

impl Question {
    /// Asks.
    pub(super) fn ask(&self, config: &PolicyConfig) -> Answer {
        let groups = match &self.groups {
            Some(groups) => groups.clone(),
            None => config.groups_of(&self.principal).unwrap_or_default(),
        };
        let claimant = Claimant {
            principal: &self.principal,
            groups: &groups,
            channel_bound: self.channel_bound,
            enctype: Some(self.enctype),
        };
        let is_of_realm = config.realms().iter().any(|realm| realm == self.principal.realm());
        let (verdicts, trades, outcome) = match &self.trade {
            None => {
                let explanation = config
                    .policy()
                    .explain(&claimant, &self.audience, self.requested.as_ref());
                let outcome = explanation.outcome;
                (
                    explanation.lines,
                    // Nobody else's tickets are taken, and with them begins everything.
                    is_of_realm.then(|| trades::towards(config, &claimant, &self.audience)),
                    outcome.map_err(|denial| (denial.reason(), explained(denial))),
                )
            }
            Some(trade) => {
                let (grants, lines, outcome) = trade.ask(config, &claimant, &self.audience, self.requested.as_ref());
                (grants, Some(lines), outcome)
            }
        };
        let (reason, detail, given) = match outcome {
            // Before any grant is looked at.
            _ if !is_of_realm => (
                Reason::RealmNotAllowed,
                Some(format!(
                    "kerberos.realms: {:?} is not on the list",
                    self.principal.realm()
                )),
                None,
            ),
            Ok(given) => (Reason::Ok, None, Some(given)),
            Err((reason, detail)) => (reason, Some(detail), None),
        };
        self.answer(
            config,
            &groups,
            &verdicts,
            trades.unwrap_or_default(),
            (reason, detail, given),
        )
    }

    fn answer(
        &self,
        config: &PolicyConfig,
        groups: &GroupSet,
        verdicts: &[Verdict],
        trades: Vec<trades::Line>,
        (reason, detail, given): (Reason, Option<String>, Option<Given>),
    ) -> Answer {
        let policy = config.policy();
        let words = |scopes: &Scopes| scopes.iter().cloned().collect::<Vec<_>>();
        let places = config.grant_places();
        let about_others = verdicts.iter().filter(|verdict| **verdict == Verdict::Audience);
        Answer {
            principal: self.principal.to_string(),
            audience: self.audience.clone(),
            from: self.trade.as_ref().map(|trade| trade.from.clone()),
            client: self.trade.as_ref().map(|trade| trade.client.clone()),
            groups: groups.iter().map(str::to_owned).collect(),
            reason: reason.as_str(),
            detail,
            scopes: given.as_ref().map(|given| words(&given.scopes)),
            ttl_seconds: given.as_ref().map(|given: &Given| given.ttl_seconds),
            certificate_bound: policy
                .audience(&self.audience)
                .is_some_and(Audience::is_certificate_bound),
            other_lines: about_others.count(),
            lines: verdicts
                .iter()
                .zip(policy.scopes_of_lines())
                .enumerate()
                .filter(|(_, (verdict, _))| **verdict != Verdict::Audience)
                .map(|(index, (verdict, scopes))| Line {
                    field: format!("grant[{index}]"),
                    place: places.get(index).cloned().unwrap_or_default(),
                    verdict: word(*verdict),
                    detail: if *verdict == Verdict::Gives {
                        format!("gives {}", listed(&words(scopes)))
                    } else {
                        verdict.to_string()
                    },
                    scopes: words(scopes),
                })
                .collect(),
            trades,
        }
    }
}

/// A denial with what an administrator can do about it.
fn explained(denial: Denial) -> String {
    let remedy = match denial {
        Denial::UnknownAudience => "correct the name or add the [[audience]]",
        Denial::NoGrant => "a [[grant]] for it would have to name them, or a group of theirs",
        Denial::ScopeNotGranted => "ask for less, or add it to a [[grant]]",
        Denial::NoCertificate => "show a certificate",
        Denial::Unbound => "see --channel-bound",
        Denial::Enctype(_) => "see --enctype",
    };
    format!("{denial}; {remedy}")
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Gives => "gives",
        Verdict::Audience => "audience",
        Verdict::Principal => "principal",
        Verdict::Group => "group",
        Verdict::Unbound => "channel_bound",
        Verdict::Enctype(_) => "enctype",
    }
}

fn listed(scopes: &[String]) -> String {
    if scopes.is_empty() {
        "no scope".to_owned()
    } else {
        scopes.join(" ")
    }
}

impl Answer {
    /// Whether a token is had.
    pub(super) fn is_given(&self) -> bool {
        self.scopes.is_some()
    }

    /// The scopes of the token.
    pub(super) fn scopes(&self) -> Option<&[String]> {
        self.scopes.as_deref()
    }

    /// The word of the closed list.
    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }

    /// Longest life of a token.
    pub(super) fn ttl(&self) -> Option<Span> {
        self.ttl_seconds.and_then(Span::from_seconds)
    }

    /// What comes of it, in a few words.
    pub(super) fn outcome(&self) -> String {
        match (&self.scopes, self.ttl()) {
            (Some(scopes), Some(ttl)) => format!("{} for {ttl}", listed(scopes)),
            (Some(_) | None, _) => {
                let detail = self.detail.as_deref().unwrap_or_default();
                format!("{}: {detail}", self.reason)
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            principal, audience, ..
        } = self;
        let verb = if self.is_given() { "gets" } else { "does not get" };
        write!(f, "{principal} {verb} {audience:?}")?;
        if let (Some(from), Some(client)) = (&self.from, &self.client) {
            write!(f, " by {client}, for a token of {from:?}")?;
        }
        writeln!(f, ": {}", self.outcome())?;
        if self.is_given() && self.certificate_bound {
            writeln!(f, "  bound to the client's certificate: who shows none gets none")?;
        }
        if !self.groups.is_empty() {
            writeln!(f, "  in the groups {}", self.groups.join(", "))?;
        }
        for Line {
            field, place, detail, ..
        } in &self.lines
        {
            writeln!(f, "  {field} ({place}) {detail}")?;
        }
        match self.other_lines {
            0 => {}
            1 => writeln!(f, "  one other grant is about another audience")?,
            more => writeln!(f, "  {more} other grants are about other audiences")?,
        }
        self.trades.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
