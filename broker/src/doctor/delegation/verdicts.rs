//! Says what the broker would make of each outcome, under which reason, and which command mends it.

use kerbridge_gss::{DelegationError, DelegationErrorKind as Kind, DelegationTarget, Principal};
use kerbridge_wire::{Reason, Span};

use super::{ACCOUNT, Acting, NoTicket, NoUser, Shown, TARGET, Trial, USER, remedies};
use crate::delegation::kdc::reason_of;
use crate::doctor::finding::Finding;
use crate::time::UnixTime;

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

/// A target towards which there is nobody to act for.
pub(super) fn untried(target: &DelegationTarget, user: &Principal, account: &Principal) -> Finding {
    let found = format!(
        "whether {account} may act towards it was not tried for {user}: there is no ticket of theirs; another --user shows it"
    );
    Finding::skipped(TARGET, target.service().as_str(), found)
}

pub(super) fn no_account(error: &DelegationError, trial: &Trial<'_>) -> Finding {
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

pub(super) fn no_user(error: &NoUser, user: &Principal, trial: &Trial<'_>) -> Finding {
    let Trial { account, keytab, .. } = *trial;
    let error = match error {
        NoUser::Kdc(error) => error,
        NoUser::Another(why) => {
            let found = format!("{why}; nobody is acted for but by the account's own name");
            return Finding::bad(USER, user.as_str(), Reason::PrincipalNotMapped, found)
                .mended_by(remedies::look_up(user));
        }
    };
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

pub(super) fn judge_user(acting: &Acting<'_>, account: &Principal, shown: Shown) -> Finding {
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

pub(super) fn judge_target(
    target: &DelegationTarget,
    outcome: Result<&UnixTime, &NoTicket>,
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
        Err(NoTicket::Kdc(error)) => error,
        Err(NoTicket::Ours(own)) => {
            let found = format!("it is another name of {own}, which is this broker itself: nobody gets a ticket to it");
            return Finding::bad(TARGET, service.as_str(), Reason::DelegationDenied, found)
                .mended_by([remedies::name_the_service(service)]);
        }
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
