//! Decides towards which Kerberos service, and in whose name, the broker may act: what no line allows is denied.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use kerbridge_gss::{DelegationTarget, Principal, ServicePrincipal};
use kerbridge_wire::delegation::{EACH_CLIENT, OURS};
use kerbridge_wire::policy::{Policy as RawPolicy, Route};
use kerbridge_wire::{Reason, delegation as raw};

use super::{Audience, Policy, PrincipalPattern, groups, numbered, patterns};
use crate::config::unfit_client_of_policy;
use crate::principal;
use crate::problem::Problems;
use crate::subject_token::{Author, VerifiedToken};

/// One `[[delegation]]` line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    target: DelegationTarget,
    audience: Box<str>,
    /// Whom it is for; everybody where there are none, but some groups.
    principals: Vec<PrincipalPattern>,
    groups: Vec<Box<str>>,
    issuers: Issuers,
    clients: Clients,
    /// Seconds.
    max_life: u64,
    channel_binding: Option<PathBuf>,
}

/// Whose tokens a line takes.
#[derive(Clone, Debug)]
enum Issuers {
    /// Those of everybody who can be traced to a principal.
    All,
    /// Those of these.
    Named { ours: bool, others: BTreeSet<Box<str>> },
}

/// Who may ask.
#[derive(Clone, Debug)]
enum Clients {
    /// Whoever is a client of the mesh.
    Each,
    /// These.
    Named(BTreeSet<Box<str>>),
}

/// The lines about one target.
#[derive(Clone, Debug)]
pub struct Towards<'p> {
    lines: Vec<&'p Line>,
}

/// The lines about one target that a token and its bearer fulfil, but for who its user is.
#[derive(Clone, Debug)]
pub struct Candidates<'p> {
    lines: Vec<&'p Line>,
}

/// Proof that the policy lets us act for a principal towards a target. Only [`Candidates::grant`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationGrant {
    user: Principal,
    target: DelegationTarget,
    audience: Box<str>,
    max_life: u64,
}

/// Why the policy does not let us act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelegationDenial {
    /// No line names the target.
    UnknownTarget,
    /// The token is for none of the audiences of the target's lines.
    WrongAudience,
    /// The token names who may act with it, and it is somebody else than this client.
    NotItsActor,
    /// No line for this audience lets this client ask.
    Client,
    /// No line that is left takes tokens of this issuer.
    Issuer,
    /// No line is for this user, or for a group that the token says they are in.
    User,
}

impl DelegationDenial {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::UnknownTarget => Reason::InvalidTarget,
            Self::WrongAudience => Reason::WrongAudience,
            Self::NotItsActor | Self::Client | Self::Issuer | Self::User => Reason::DeniedByPolicy,
        }
    }
}

impl fmt::Display for DelegationDenial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownTarget => "no delegation line names this target",
            Self::WrongAudience => "the token is for none of the audiences of the target's delegation lines",
            Self::NotItsActor => "may_act of the token names another client",
            Self::Client => "no delegation line lets this client ask for this target",
            Self::Issuer => "no delegation line for this target takes tokens of this issuer",
            Self::User => "no delegation line is for this user",
        })
    }
}

impl Policy {
    /// What the lines say about a target. Names are compared byte by byte.
    pub fn towards(&self, target: &str) -> Result<Towards<'_>, DelegationDenial> {
        let lines: Vec<&Line> = self
            .delegations
            .iter()
            .filter(|line| line.target.service().as_principal().as_str() == target)
            .collect();
        if lines.is_empty() {
            Err(DelegationDenial::UnknownTarget)
        } else {
            Ok(Towards { lines })
        }
    }

    /// The audiences that tokens may be for, each once.
    pub fn delegated_audiences(&self) -> BTreeSet<&str> {
        self.delegations.iter().map(|line| &*line.audience).collect()
    }

    /// The targets, each with its line's number and the certificate that its tickets are bound to.
    pub fn delegation_targets(&self) -> impl Iterator<Item = (usize, &DelegationTarget, Option<&Path>)> {
        self.delegations
            .iter()
            .enumerate()
            .map(|(index, line)| (index, &line.target, line.channel_binding.as_deref()))
    }

    /// Realms that delegation lines name, each with its field.
    pub(super) fn delegation_realms(&self) -> impl Iterator<Item = (String, &str)> {
        self.delegations.iter().enumerate().flat_map(|(index, line)| {
            let of_users = line.principals.iter().enumerate();
            let of_users =
                of_users.map(move |(at, one)| (format!("delegation[{index}].principals[{at}]"), one.realm()));
            let of_target = (format!("delegation[{index}].target"), line.target.service().realm());
            of_users.chain(std::iter::once(of_target))
        })
    }
}

impl<'p> Towards<'p> {
    /// The lines that a token fulfils in the hands of this client, but for who its user is.
    pub fn shown(self, token: &VerifiedToken, client: &str) -> Result<Candidates<'p>, DelegationDenial> {
        let kept = |lines: Vec<&'p Line>, keep: &dyn Fn(&Line) -> bool, otherwise| {
            let lines: Vec<&Line> = lines.into_iter().filter(|line| keep(line)).collect();
            if lines.is_empty() { Err(otherwise) } else { Ok(lines) }
        };
        let lines = kept(
            self.lines,
            &|line| token.is_for(&line.audience),
            DelegationDenial::WrongAudience,
        )?;
        if !token.may_be_used_by(client) {
            return Err(DelegationDenial::NotItsActor);
        }
        let lines = kept(lines, &|line| line.clients.include(client), DelegationDenial::Client)?;
        let lines = kept(
            lines,
            &|line| line.issuers.include(token.author()),
            DelegationDenial::Issuer,
        )?;
        let in_groups =
            |line: &Line| line.groups.is_empty() || line.groups.iter().any(|group| token.is_in_group(group));
        let lines = kept(lines, &in_groups, DelegationDenial::User)?;
        Ok(Candidates { lines })
    }
}

impl Candidates<'_> {
    /// What the first line that is for this user gives.
    pub fn grant(&self, user: &Principal) -> Result<DelegationGrant, DelegationDenial> {
        let line = self.lines.iter().find(|line| line.is_for(user));
        let line = line.ok_or(DelegationDenial::User)?;
        Ok(DelegationGrant {
            user: user.clone(),
            target: line.target.clone(),
            audience: line.audience.clone(),
            max_life: line.max_life,
        })
    }
}

impl Issuers {
    fn include(&self, author: &Author) -> bool {
        match (self, author) {
            (Self::All, _) => true,
            (Self::Named { ours, .. }, Author::Ours { .. }) => *ours,
            (Self::Named { others, .. }, Author::Another { issuer, .. }) => others.contains(issuer),
        }
    }
}

impl Clients {
    fn include(&self, client: &str) -> bool {
        match self {
            Self::Each => true,
            Self::Named(names) => names.contains(client),
        }
    }
}

impl Line {
    fn is_for(&self, user: &Principal) -> bool {
        if self.principals.is_empty() {
            // It is for a group, which was looked at: for the people in it. In a service's name nobody acts who is not named.
            principal::is_persons(user)
        } else {
            self.principals.iter().any(|pattern| pattern.matches_plainly(user))
        }
    }
}

impl DelegationGrant {
    /// For whom.
    pub fn user(&self) -> &Principal {
        &self.user
    }

    /// Towards which service.
    pub fn target(&self) -> &DelegationTarget {
        &self.target
    }

    /// The audience of the token that it was granted for.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// How long a ticket is used before the KDC is asked anew, in seconds.
    pub fn max_life(&self) -> u64 {
        self.max_life
    }
}

/// The lines, or notes all that is wrong with them.
pub(super) fn build(file: &RawPolicy, audiences: &[Audience], problems: &mut Problems) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (index, line) in numbered(&file.delegation, "delegation", "use patterns such as *@REALM", problems) {
        let Some(line) = check(line, &format!("delegation[{index}]"), file, audiences, problems) else {
            continue;
        };
        // One service shows one certificate.
        if let Some(other) = lines.iter().find(|other| other.target == line.target)
            && other.channel_binding != line.channel_binding
        {
            problems.note(
                format!("delegation[{index}].channel_binding"),
                format!("is another than an earlier line has for {}", line.target),
                "write the same in each line of a target",
            );
        }
        lines.push(line);
    }
    lines
}

/// Notes the routes that need a line and have none. The file must have all of its lines.
pub(super) fn check_routes(file: &RawPolicy, problems: &mut Problems) {
    for (index, route) in file.route.iter().enumerate() {
        check_route(route, index, file, problems);
    }
}

fn check(
    line: &raw::Delegation,
    field: &str,
    file: &RawPolicy,
    audiences: &[Audience],
    problems: &mut Problems,
) -> Option<Line> {
    let raw::Delegation {
        target,
        audience,
        principals,
        groups: names,
        issuers,
        clients,
        max_life,
        channel_binding,
    } = line;
    if principals.is_empty() && names.is_empty() {
        problems.note(
            format!("{field}.principals"),
            "names nobody",
            "name principals, such as \"alice@EXAMPLE.COM\" or \"*@EXAMPLE.COM\", or groups",
        );
    }
    if !audiences.iter().any(|known| known.name() == audience) {
        problems.note(
            format!("{field}.audience"),
            format!("{audience:?} is no audience of this file"),
            "correct the name or add the [[audience]]",
        );
    }
    // Every issuer says groups by its own lights: those of one must not open what was meant for another's.
    if issuers.is_none() && principals.is_empty() && !file.subject.is_empty() {
        problems.missing(
            &format!("{field}.issuers"),
            "the line names groups alone, and there are [[subject]] issuers: say whose groups are meant, such as [\"broker\"]",
        );
    }
    let issuers = check_issuers(issuers.as_deref(), &format!("{field}.issuers"), file, problems);
    let clients = check_clients(clients.as_deref(), &format!("{field}.clients"), problems);
    // The name itself was read strictly; this is the type that GSSAPI wants.
    let service = ServicePrincipal::parse(target.as_str()).ok();
    let target = service.and_then(|service| DelegationTarget::new(service).ok());
    if target.is_none() {
        problems.note(
            format!("{field}.target"),
            "is no service towards which one may act",
            "name the service behind Envoy, such as \"HTTP/legacy.example.com@EXAMPLE.COM\"",
        );
    }
    Some(Line {
        target: target?,
        audience: audience.as_str().into(),
        principals: patterns(principals, &format!("{field}.principals"), problems),
        groups: groups::check(names, &format!("{field}.groups"), problems),
        issuers,
        clients: clients?,
        max_life: max_life.seconds().into(),
        channel_binding: channel_binding.clone(),
    })
}

fn check_issuers(issuers: Option<&[String]>, field: &str, file: &RawPolicy, problems: &mut Problems) -> Issuers {
    let Some(issuers) = issuers else { return Issuers::All };
    if issuers.is_empty() {
        problems.note(
            field,
            "names nobody",
            "name issuers that have a [[subject]], or \"broker\" for the broker's own tokens",
        );
    }
    for (at, issuer) in issuers.iter().enumerate() {
        if issuer != OURS && !file.subject.iter().any(|rule| rule.issuer == *issuer) {
            problems.note(
                format!("{field}[{at}]"),
                format!("no [[subject]] is about {issuer:?}"),
                "correct it, add the [[subject]], or write \"broker\" for the broker's own tokens",
            );
        }
    }
    let others = issuers.iter().filter(|issuer| *issuer != OURS);
    Issuers::Named {
        ours: issuers.iter().any(|issuer| issuer == OURS),
        others: others.map(|issuer| issuer.as_str().into()).collect(),
    }
}

/// Whoever may ask turns each token that it was shown into a ticket, so it is said who may.
fn check_clients(clients: Option<&[String]>, field: &str, problems: &mut Problems) -> Option<Clients> {
    const REMEDY: &str = "name clients of the mesh listener: the name in a client's certificate, or client_name of the listener, \
                          \"mesh\" where it has none; [\"*\"] is every one of them";
    let Some(clients) = clients else {
        problems.missing(field, REMEDY);
        return None;
    };
    if clients.is_empty() {
        problems.note(field, "names nobody", REMEDY);
    }
    if let [only] = clients
        && only == EACH_CLIENT
    {
        return Some(Clients::Each);
    }
    for (at, name) in clients.iter().enumerate() {
        if name == EACH_CLIENT {
            problems.note(
                format!("{field}[{at}]"),
                "\"*\" is every client, and stands beside others",
                "write [\"*\"] alone, or take it out",
            );
        } else if let Some(why) = unfit_client_of_policy(name) {
            problems.note(format!("{field}[{at}]"), format!("{name:?} {why}"), REMEDY);
        }
    }
    Some(Clients::Named(
        clients.iter().map(|name| name.as_str().into()).collect(),
    ))
}

/// A route whose service wants tickets is no use without a line that lets the broker get them.
fn check_route(route: &Route, index: usize, file: &RawPolicy, problems: &mut Problems) {
    let (Some(upstream), Some(audience)) = (&route.upstream, &route.audience) else {
        return;
    };
    let spn = &upstream.kerberos.spn;
    let is_covered = |line: &raw::Delegation| line.target == *spn && line.audience == *audience;
    if !file.delegation.iter().any(is_covered) {
        problems.note(
            format!("route[{index}].upstream.kerberos.spn"),
            format!("no [[delegation]] is towards {spn} for the audience {audience:?}, so that nobody gets through"),
            "add one, or correct the name",
        );
    }
}

#[cfg(test)]
mod tests;
