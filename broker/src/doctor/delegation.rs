//! Says whether the KDC lets the broker act for users towards each target, by trying, and which right is missing where not.
//!
//! KDCs refuse in few words: an account that may not act for those who showed it no ticket, a user who is protected, and a
//! target that is not on the list are one error. The ticket of the user to the broker tells the last from the others: it is
//! forwardable or not. The first two are told apart by a second user who is not protected: one who was named, or one of the policy's.

mod remedies;
mod sources;

use std::path::Path;

use kerbridge_gss::{
    ChannelBindings, DelegationError, DelegationErrorKind as Kind, DelegationTarget, Delegator, Principal,
    UserCredential,
};
use kerbridge_wire::{Reason, Span};

use super::finding::Finding;
use crate::config::{Config, DelegationConfig};
use crate::delegation::kdc::reason_of;
use crate::time::{Clock, UnixTime};

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
type Outcome<'a> = (&'a DelegationTarget, Result<UnixTime, DelegationError>);

/// What the KDC gave of one user.
struct Acting<'a> {
    user: &'a Principal,
    is_tradable: bool,
    outcomes: Vec<Outcome<'a>>,
}

impl Acting<'_> {
    /// Whoever its target names may trade a ticket that is not forwardable.
    fn is_let_in_by_targets(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|(_, outcome)| outcome.is_ok())
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
        let outcome = delegator.impersonate(user);
        // The broker looks there for the account.
        let outcome = outcome.and_then(|credential| delegator.logon_info(&credential).map(|_| credential));
        match outcome {
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

/// What is said where the KDC owes an answer for too long, after these findings.
pub fn unanswered(account: &Principal, within: Span, known: &[Finding]) -> Finding {
    let is_logged_in = known.iter().any(|finding| finding.check == ACCOUNT);
    let check = if is_logged_in { USER } else { ACCOUNT };
    let found = format!(
        "no KDC of its realm has answered within {within}: it hangs, or what is sent to it gets lost; what is not said here \
         was not tried (--deadline)"
    );
    Finding::bad(check, account.as_str(), Reason::KdcUnreachable, found)
        .mended_by([remedies::name_the_kdc(account.realm())])
}

/// Asks for a ticket to each target. Where no KDC answers, the rest is not waited for.
fn ask<'a>(credential: &UserCredential, trial: &Trial<'a>) -> Vec<Outcome<'a>> {
    let mut outcomes: Vec<Outcome<'a>> = Vec::new();
    for (target, bindings) in &trial.targets {
        let unreachable = outcomes.iter().find_map(|(_, outcome)| {
            let error = outcome.as_ref().err()?;
            (error.kind() == Kind::KdcUnreachable).then(|| error.clone())
        });
        let outcome = match unreachable {
            Some(error) => Err(error),
            None => credential
                .token(target, bindings.as_ref())
                .map(|token| UnixTime::from_seconds(token.ticket_end)),
        };
        outcomes.push((target, outcome));
    }
    outcomes
}

/// A target towards which there is nobody to act for.
fn untried(target: &DelegationTarget, user: &Principal, account: &Principal) -> Finding {
    let found = format!(
        "whether {account} may act towards it was not tried for {user}: there is no ticket of theirs; another --user shows it"
    );
    Finding::skipped(TARGET, target.service().as_str(), found)
}

fn no_account(error: &DelegationError, trial: &Trial<'_>) -> Finding {
    let (account, keytab) = (trial.account, trial.keytab);
    let bad = |found: &str| {
        Finding::bad(
            ACCOUNT,
            account.as_str(),
            reason_of(error.kind()),
            format!("{found}: {error}"),
        )
    };
    if error.kind() == Kind::KdcUnreachable {
        bad("no KDC of its realm answers").mended_by([remedies::name_the_kdc(account.realm())])
    } else if error.kind() == Kind::ClockSkew {
        bad("the clocks differ").mended_by([remedies::set_clock()])
    } else if error.kind() == Kind::KeytabUnavailable {
        bad("there is no key to log in with").mended_by(remedies::keytab(account, keytab))
    } else {
        bad("the KDC does not let it log in")
            .mended_by(remedies::keytab(account, keytab))
            .mended_by(remedies::unlock_account(account))
    }
}

fn no_user(error: &DelegationError, user: &Principal, trial: &Trial<'_>) -> Finding {
    let Trial { account, keytab, .. } = *trial;
    let bad = |found: &str| {
        Finding::bad(
            USER,
            user.as_str(),
            reason_of(error.kind()),
            format!("{found}: {error}"),
        )
    };
    match error.kind() {
        Kind::UserUnknown => bad("the KDC does not know this user").mended_by(remedies::look_up(user)),
        Kind::UserRevoked => bad("the account is disabled, locked or has ended").mended_by(remedies::unlock_user(user)),
        // Samba says of a closed account that its policy rejects it, and of one without such a name that it is no service.
        Kind::NotAllowed => bad(&format!(
            "the KDC gives {account} no ticket of this user: the user's account is closed, or, in Active Directory, \
                 {account} has no service principal name"
        ))
        .mended_by(remedies::unlock_user(user))
        .mended_by(remedies::give_a_service_name(account)),
        Kind::KdcUnreachable => bad("no KDC answers for this user").mended_by([remedies::name_the_kdc(user.realm())]),
        Kind::KeytabUnavailable => bad(&format!(
            "{} has no key for the ticket that the KDC gives {account} of this user: it needs all of the account's keys",
            keytab.display()
        ))
        .mended_by(remedies::keytab(account, keytab)),
        Kind::LogInRefused
        | Kind::UnusableName
        | Kind::TargetUnknown
        | Kind::EvidenceNotForwardable
        | Kind::EnctypeUnsupported
        | Kind::ClockSkew
        | Kind::TicketExpired
        | Kind::Other => bad("nobody can act for this user"),
    }
}

fn judge_user(acting: &Acting<'_>, account: &Principal, shown: Shown) -> Finding {
    let user = acting.user;
    if acting.is_tradable {
        let found = format!("{account} may act for users who showed it no ticket of theirs");
        return Finding::good(USER, user.as_str(), found);
    }
    if acting.is_let_in_by_targets() {
        let found = format!("each target lets {account} in by itself (resource-based delegation)");
        return Finding::good(USER, user.as_str(), found);
    }
    let bad = |found: String| Finding::bad(USER, user.as_str(), Reason::EvidenceNotForwardable, found);
    match shown {
        Shown::Right => bad(format!(
            "the KDC protects this user, and {account} may not act for them: -allow_forwardable; in Active Directory \
             \"account is sensitive and cannot be delegated\", or a member of Protected Users. Leave it so if that was meant"
        ))
        .mended_by(remedies::unprotect(user)),
        Shown::NoRight { of } => bad(format!(
            "{account} may not act for users who showed it no ticket of theirs (protocol transition): none of {of} users' \
             tickets may be traded, which is so otherwise only where the KDC protects each of them"
        ))
        .mended_by(remedies::allow_protocol_transition(account)),
        Shown::Nothing => bad(format!(
            "{account} may not act for users who showed it no ticket of theirs (protocol transition), or the KDC protects \
             this user: one more --user who is not protected tells the two apart"
        ))
        .mended_by(remedies::allow_protocol_transition(account))
        .mended_by(remedies::unprotect(user)),
    }
}

fn judge_target(
    target: &DelegationTarget,
    outcome: Result<&UnixTime, &DelegationError>,
    user: &Principal,
    account: &Principal,
    now: UnixTime,
) -> Finding {
    let service = target.service();
    let error = match outcome {
        Ok(end) => {
            let found = format!(
                "{account} gets a ticket of {user}'s, good for {} minutes",
                now.until(*end) / 60
            );
            return Finding::good(TARGET, service.as_str(), found);
        }
        Err(error) => error,
    };
    let bad = |found: &str| {
        Finding::bad(
            TARGET,
            service.as_str(),
            reason_of(error.kind()),
            format!("{found}: {error}"),
        )
    };
    match error.kind() {
        Kind::EvidenceNotForwardable => Finding::skipped(
            TARGET,
            service.as_str(),
            format!("whether {account} may act towards it shows once its ticket of {user} may be traded"),
        ),
        Kind::NotAllowed => bad(
            "it is not among those towards which the account may act (a realm in a file cannot hold them: that takes \
             a directory)",
        )
        .mended_by(remedies::allow_target(account, service)),
        Kind::TargetUnknown => {
            bad("the KDC does not know it, or its account is closed").mended_by(remedies::create_target(service))
        }
        Kind::EnctypeUnsupported => bad("it and the KDC share no encryption type").mended_by(remedies::rekey(service)),
        Kind::KdcUnreachable => bad("no KDC answers for it").mended_by([remedies::name_the_kdc(service.realm())]),
        Kind::ClockSkew => bad("the clocks differ").mended_by([remedies::set_clock()]),
        Kind::KeytabUnavailable
        | Kind::LogInRefused
        | Kind::UserUnknown
        | Kind::UserRevoked
        | Kind::UnusableName
        | Kind::TicketExpired
        | Kind::Other => bad("there is no ticket to it"),
    }
}
