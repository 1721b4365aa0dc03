//! Says whether the KDC lets the broker act for users towards each target, by trying, and which right is missing where not.
//!
//! KDCs refuse in few words: an account that may not act for those who showed it no ticket, a user who is protected, and a
//! target that is not on the list are one error. The ticket of the user to the broker tells the last from the others: it is
//! forwardable or not. The first two are told apart by a second user who is not protected: one who was named, or one of the policy's.

mod remedies;
mod sources;
mod verdicts;

use std::path::{Path, PathBuf};

use kerbridge_gss::{
    ChannelBindings, DelegationError, DelegationErrorKind as Kind, DelegationTarget, Delegator, Principal,
    UserCredential,
};
use kerbridge_wire::Reason;

use self::verdicts::{judge_target, judge_user, no_account, no_user, untried};
use super::finding::Finding;
use crate::config::{Config, DelegationConfig};
use crate::delegation::kdc::{is_whom_was_asked_for, whose};
use crate::time::{Clock, UnixTime};

pub use self::verdicts::unanswered;

const ACCOUNT: &str = "delegation_account";
const USER: &str = "delegation_user";
const TARGET: &str = "delegation_target";
/// How many users of the policy are tried where nobody is named, and how many more where none of these can be acted for: two
/// tell a protected one from a right that is missing.
const MOST_USERS: usize = 4;

/// Who acts, for whom, and towards which services it is tried.
#[derive(Debug)]
pub struct Trial<'a> {
    /// The broker, as it logs in.
    pub account: &'a Principal,
    /// Its keys.
    pub keytab: &'a Path,
    /// All principals of the broker with their keytabs: no ticket that one of their keys opens would leave it.
    pub own: Vec<(Principal, PathBuf)>,
    /// For whom. Nobody but the account logs in where there are none.
    pub users: Vec<Principal>,
    /// Who else may be tried where the KDC lets nobody's ticket be traded, since a user who is protected looks like an account
    /// without the right. They are not reported.
    pub witnesses: Vec<Principal>,
    /// The services, each with what its tickets are bound to.
    pub targets: Vec<(&'a DelegationTarget, Option<ChannelBindings>)>,
}

impl<'a> Trial<'a> {
    /// As configured: towards every target of the policy, for these users, or else for those whom its lines name one by one.
    pub fn of(delegation: &'a DelegationConfig, config: &'a Config, users: Vec<Principal>, now: UnixTime) -> Self {
        let mut targets: Vec<(&DelegationTarget, Option<ChannelBindings>)> = Vec::new();
        for (_, target, _) in config.policy().delegation_targets() {
            if targets.iter().all(|(known, _)| *known != target) {
                targets.push((target, binding(delegation, target, now)));
            }
        }
        let mut known = named(config);
        let (users, witnesses) = if users.is_empty() {
            let others = known.split_off(known.len().min(MOST_USERS));
            (known, others)
        } else {
            known.retain(|one| !users.contains(one));
            (users, known)
        };
        Self {
            account: &delegation.principal,
            keytab: &delegation.keytab,
            own: delegation.own_keys(config.kerberos()),
            users,
            witnesses: witnesses.into_iter().take(MOST_USERS).collect(),
            targets,
        }
    }
}

/// What a target's tickets are bound to now.
fn binding(delegation: &DelegationConfig, target: &DelegationTarget, now: UnixTime) -> Option<ChannelBindings> {
    let name = target.to_string();
    let bound = delegation.bindings.iter().find(|bound| bound.target == name)?;
    let mut bindings = Vec::new();
    bound.file.bindings(now, &mut bindings);
    bindings.into_iter().next()
}

/// Who stands in the policy's lines by full name.
fn named(config: &Config) -> Vec<Principal> {
    let lines = config.policy_file().delegation.iter();
    let patterns = lines.flat_map(|line| &line.principals);
    let mut users: Vec<Principal> = patterns
        .filter(|pattern| !pattern.contains('*'))
        .filter_map(|name| Principal::parse(name).ok())
        .collect();
    users.sort_unstable();
    users.dedup();
    users
}

/// What became of one target for one user.
type Outcome<'a> = (&'a DelegationTarget, Result<UnixTime, NoTicket>);

/// Why the broker would have no ticket to give out.
#[derive(Clone, Debug)]
enum NoTicket {
    /// The KDC gives none.
    Kdc(DelegationError),
    /// It is to the broker itself, by another name of this principal's.
    Ours(Principal),
}

/// Why nobody can be acted for.
#[derive(Clone, Debug)]
enum NoUser {
    /// The KDC gives no ticket of theirs.
    Kdc(DelegationError),
    /// It gives one of somebody else's, in these words.
    Another(String),
}

impl From<DelegationError> for NoTicket {
    fn from(error: DelegationError) -> Self {
        Self::Kdc(error)
    }
}

impl From<DelegationError> for NoUser {
    fn from(error: DelegationError) -> Self {
        Self::Kdc(error)
    }
}

/// What the KDC gave of one user.
struct Acting<'a> {
    user: &'a Principal,
    is_tradable: bool,
    outcomes: Vec<Outcome<'a>>,
}

impl Acting<'_> {
    /// Whoever its target names may trade a ticket that is not forwardable.
    fn is_let_in_by_targets(&self) -> bool {
        let is_let_in = |(_, outcome): &Outcome<'_>| !matches!(outcome, Err(NoTicket::Kdc(_)));
        !self.outcomes.is_empty() && self.outcomes.iter().all(is_let_in)
    }
}

/// Looks at what the broker is told by others, where it is, and then tries everything at the KDC; each finding is said as soon as
/// it is known.
pub fn look_at_all(
    delegation: &DelegationConfig,
    config: &Config,
    trial: &Trial<'_>,
    clock: Clock,
    found: &mut dyn FnMut(Finding),
) {
    sources::look(delegation, config, clock.now())
        .into_iter()
        .for_each(&mut *found);
    look(trial, clock, found);
}

/// Tries everything; each finding is said as soon as it is known, since the KDC may never answer the next question. Each question
/// stands in the KDC's log; no ticket leaves this process.
pub fn look(trial: &Trial<'_>, clock: Clock, found: &mut dyn FnMut(Finding)) {
    let account = trial.account.as_str();
    let mut delegator = match Delegator::new(trial.account, trial.keytab) {
        Ok(delegator) => delegator,
        Err(error) => return found(Finding::bad(ACCOUNT, account, Reason::Internal, error.to_string())),
    };
    if let Err(error) = delegator.log_in() {
        return found(no_account(&error, trial));
    }
    found(Finding::good(ACCOUNT, account, "the keytab logs it in"));
    if trial.users.is_empty() {
        let unasked = "the rights are tried with somebody to act for: name one with --user";
        return found(Finding::skipped(USER, account, unasked));
    }
    let mut acted = Vec::new();
    for user in &trial.users {
        match impersonate(&mut delegator, user) {
            Ok(credential) => acted.push(Acting {
                user,
                is_tradable: credential.evidence_is_forwardable() == Some(true),
                outcomes: ask(&credential, trial),
            }),
            Err(error) => {
                found(no_user(&error, user, trial));
                for (target, _) in &trial.targets {
                    found(untried(target, user, trial.account));
                }
            }
        }
    }
    let shown = shown(&acted, trial, &mut delegator);
    for acting in &acted {
        found(judge_user(acting, trial.account, shown));
        let judge = |(target, outcome): &Outcome<'_>| {
            judge_target(target, outcome.as_ref(), acting.user, trial.account, clock.now())
        };
        acting.outcomes.iter().map(judge).for_each(&mut *found);
    }
}

/// Gets what the broker would act with, and looks at it as the broker does.
fn impersonate(delegator: &mut Delegator, user: &Principal) -> Result<UserCredential, NoUser> {
    let credential = delegator.impersonate(user)?;
    let logon_info = delegator.logon_info(&credential)?;
    is_whom_was_asked_for(user, credential.user(), &logon_info).map_err(NoUser::Another)?;
    Ok(credential)
}

/// What all users together show of the account.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// It may act for one of them.
    Right,
    /// It may act for none of several.
    NoRight { of: usize },
    /// There is one user alone, for whom it may not.
    Nothing,
}

fn shown(acted: &[Acting<'_>], trial: &Trial<'_>, delegator: &mut Delegator) -> Shown {
    if acted.iter().any(|acting| acting.is_tradable) {
        return Shown::Right;
    }
    let mut of = acted.len();
    // Nobody is asked for where nobody is in doubt.
    if acted.iter().any(|acting| !acting.is_let_in_by_targets()) {
        for witness in &trial.witnesses {
            let Ok(credential) = delegator.impersonate(witness) else {
                continue;
            };
            if credential.evidence_is_forwardable() == Some(true) {
                return Shown::Right;
            }
            of = of.saturating_add(1);
        }
    }
    if of > 1 { Shown::NoRight { of } } else { Shown::Nothing }
}

/// Asks for a ticket to each target. Where no KDC answers, the rest is not waited for.
fn ask<'a>(credential: &UserCredential, trial: &Trial<'a>) -> Vec<Outcome<'a>> {
    let mut outcomes: Vec<Outcome<'a>> = Vec::new();
    for (target, bindings) in &trial.targets {
        let unreachable = outcomes.iter().find_map(|(_, outcome)| match outcome {
            Err(NoTicket::Kdc(error)) if error.kind() == Kind::KdcUnreachable => Some(error.clone()),
            Ok(_) | Err(_) => None,
        });
        let outcome = match unreachable {
            Some(error) => Err(error.into()),
            None => ticket(credential, target, bindings.as_ref(), trial),
        };
        outcomes.push((target, outcome));
    }
    outcomes
}

/// When the ticket ends that the broker would give out.
fn ticket(
    credential: &UserCredential,
    target: &DelegationTarget,
    bindings: Option<&ChannelBindings>,
    trial: &Trial<'_>,
) -> Result<UnixTime, NoTicket> {
    let ticket = credential.token(target, bindings)?;
    match whose(&ticket, &trial.own)? {
        Some(own) => Err(NoTicket::Ours(own.clone())),
        None => Ok(UnixTime::from_seconds(ticket.ticket_end)),
    }
}
