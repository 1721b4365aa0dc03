//! Asks the KDC to act for users, and maps every way in which it says no to one reason.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kerbridge_gss::{
    ChannelBindings, DelegatedUser, DelegationError, DelegationErrorKind, DelegationStep, DelegationTarget, Delegator,
    Identified, LogonInfo, MechToken, Principal, ServiceToken, UserCredential,
};
use kerbridge_wire::Reason;

use super::log_in::LogIn;
use crate::groups::pac::LogonGroups;
use crate::metrics::DelegationMetrics;
use crate::policy::same_but_for_case;
use crate::principal;
use crate::time::UnixTime;

/// Acts for users, by the KDC's leave. Calls block; each thread has one of its own.
pub trait Kdc {
    /// The principal that the KDC knows by this name.
    fn resolve(&mut self, user: &DelegatedUser) -> Result<Principal, Failed>;

    /// What acts for a user towards a target, with the ticket that it needs.
    fn act(&mut self, user: &Principal, target: &DelegationTarget) -> Result<Acting, Failed>;
}

/// A question that did not bring what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The KDC has said no, or something of no use.
    Answered(NoTicket),
    /// Nothing was heard of the user's KDC: it does not answer, or we did not come as far as to ask it.
    Unanswered(NoTicket),
}

/// What makes tokens of one user's for one target. The KDC is not asked while its ticket lasts.
pub trait Credential: Send {
    /// One more token.
    fn token(&self, target: &DelegationTarget, bindings: Option<&ChannelBindings>) -> Result<Made, NoTicket>;
}

/// A token that was made.
#[derive(Debug)]
pub struct Made {
    /// What to send.
    pub token: MechToken,
    /// When its ticket ends, exactly.
    pub ticket_end: UnixTime,
}

/// A credential with a ticket, and how long that lasts.
pub struct Acting {
    credential: Mutex<Box<dyn Credential>>,
    ticket_end: UnixTime,
}

/// Why there is no ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoTicket {
    /// The word of the closed list.
    pub reason: Reason,
    /// More about it, for the log.
    pub detail: String,
}

impl NoTicket {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

impl Failed {
    /// Why there is no ticket.
    pub fn into_why(self) -> NoTicket {
        match self {
            Self::Answered(why) | Self::Unanswered(why) => why,
        }
    }
}

impl From<DelegationError> for Failed {
    fn from(error: DelegationError) -> Self {
        let why = no_ticket(&error);
        // Our own log-in is an affair of our keytab and our own KDC, whoever the user is.
        if error.step() == DelegationStep::LogIn || error.kind() == DelegationErrorKind::KdcUnreachable {
            Self::Unanswered(why)
        } else {
            Self::Answered(why)
        }
    }
}

impl Acting {
    /// A credential whose ticket ends then.
    pub fn new(credential: Box<dyn Credential>, ticket_end: UnixTime) -> Self {
        Self {
            credential: Mutex::new(credential),
            ticket_end,
        }
    }

    /// When its ticket ends.
    pub(super) fn ticket_end(&self) -> UnixTime {
        self.ticket_end
    }

    /// One token. Those who want one of the same user at the same time wait for each other.
    pub(super) fn token(
        &self,
        target: &DelegationTarget,
        bindings: Option<&ChannelBindings>,
    ) -> Result<Made, NoTicket> {
        // A token that panicked leaves nothing half-changed: each is made of the same ticket anew.
        let credential = self.credential.lock().unwrap_or_else(PoisonError::into_inner);
        credential.token(target, bindings)
    }
}

impl fmt::Debug for Acting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acting")
            .field("ticket_end", &self.ticket_end)
            .finish_non_exhaustive()
    }
}

/// The KDC as the system's GSSAPI finds it.
#[derive(Debug)]
pub struct GssKdc {
    delegator: Delegator,
    /// This broker's principals with their keytabs: no ticket that one of their keys opens leaves.
    own: Arc<[(Principal, PathBuf)]>,
    log_in: Arc<LogIn>,
    metrics: DelegationMetrics,
}

impl GssKdc {
    /// Asks as this service. Failed log-ins are counted together with those of other threads.
    pub fn new(
        delegator: Delegator,
        own: Arc<[(Principal, PathBuf)]>,
        log_in: Arc<LogIn>,
        metrics: DelegationMetrics,
    ) -> Self {
        Self {
            delegator,
            own,
            log_in,
            metrics,
        }
    }

    fn impersonate<T>(&mut self, ask: impl FnOnce(&mut Delegator) -> Result<T, DelegationError>) -> Result<T, Failed> {
        self.log_in()?;
        let outcome = ask(&mut self.delegator);
        self.count(DelegationStep::Impersonate, &outcome);
        self.judge(&outcome);
        Ok(outcome?)
    }

    /// Logs in on this thread where nobody knows whether our KDC lets us in, one thread after the other. The question comes after
    /// it: the KDC of a user's realm, which may hang, keeps nobody else from asking theirs.
    fn log_in(&mut self) -> Result<(), Failed> {
        let log_in = Arc::clone(&self.log_in);
        let turn = log_in.turn();
        log_in.may_be_tried().map_err(Failed::Unanswered)?;
        if turn.is_none() {
            return Ok(());
        }
        let outcome = self.delegator.log_in();
        // One that is let in is part of the question.
        if outcome.is_err() {
            self.count(DelegationStep::LogIn, &outcome);
        }
        self.judge(&outcome);
        Ok(outcome?)
    }

    /// What an outcome says of our log-in.
    fn judge<T>(&self, outcome: &Result<T, DelegationError>) {
        match outcome {
            Err(error) if error.kind() == DelegationErrorKind::LogInRefused => self.log_in.failed(&no_ticket(error)),
            // Nobody was asked, or nobody answered.
            Err(error) if error.step() == DelegationStep::LogIn => {}
            Ok(_) | Err(_) => self.log_in.succeeded(),
        }
    }

    fn count<T>(&self, step: DelegationStep, outcome: &Result<T, DelegationError>) {
        match outcome {
            Ok(_) => self.metrics.asked(step, None),
            Err(error) => self.metrics.asked(error.step(), Some(error.kind())),
        }
    }
}

impl Kdc for GssKdc {
    fn resolve(&mut self, user: &DelegatedUser) -> Result<Principal, Failed> {
        let identified = self.impersonate(|delegator| delegator.identify(user))?;
        principal_of(identified).ok_or_else(|| not_mapped("the KDC does not say which account that is"))
    }

    fn act(&mut self, user: &Principal, target: &DelegationTarget) -> Result<Acting, Failed> {
        let (credential, logon_info) = self.impersonate(|delegator| {
            let credential = delegator.impersonate(user)?;
            let logon_info = delegator.logon_info(&credential)?;
            Ok((credential, logon_info))
        })?;
        is_whom_was_asked_for(user, credential.user(), &logon_info).map_err(not_mapped)?;
        let ticket = credential.token(target, None);
        self.count(DelegationStep::Proxy, &ticket);
        let ticket = ticket?;
        if let Some(own) = whose(&ticket, &self.own)? {
            let detail = format!("{target} is this broker itself, by another name of {own}");
            return Err(Failed::Answered(NoTicket::new(Reason::DelegationDenied, detail)));
        }
        let ticket_end = UnixTime::from_seconds(ticket.ticket_end);
        Ok(Acting::new(Box::new(credential), ticket_end))
    }
}

impl Credential for UserCredential {
    fn token(&self, target: &DelegationTarget, bindings: Option<&ChannelBindings>) -> Result<Made, NoTicket> {
        let ServiceToken { token, ticket_end, .. } =
            Self::token(self, target, bindings).map_err(|error| no_ticket(&error))?;
        Ok(Made {
            token,
            ticket_end: UnixTime::from_seconds(ticket_end),
        })
    }
}

/// In a domain the account's name is the principal's, and what the ticket says may be another that was asked for. Anything
/// but a PAC that was verified and read says nothing.
fn principal_of(identified: Identified) -> Option<Principal> {
    match identified.logon_info {
        LogonInfo::Verified(bytes) => {
            let account = LogonGroups::read(&bytes).ok()?.account;
            principal::of_account(&account, &identified.realm)
        }
        LogonInfo::Absent => identified.principal,
        LogonInfo::NotRead | LogonInfo::Unverified | LogonInfo::TooLong => None,
    }
}

/// Whether the account whose ticket we have is the one that was asked for, or else what is wrong with it.
pub fn is_whom_was_asked_for(user: &Principal, known_as: &Principal, logon_info: &LogonInfo) -> Result<(), String> {
    // A KDC with aliases may give a ticket of another name: whom the service then sees was granted nothing.
    if !same_but_for_case(user, known_as) {
        return Err(format!("the KDC knows {user} as {known_as}"));
    }
    // Or of the name that was asked, for an account of another.
    if !may_be(user, logon_info) {
        return Err(format!("the account that the KDC has for {user} has another name"));
    }
    Ok(())
}

/// Which of our own principals a ticket is to, whatever name it was asked for by: one of its keys opens it.
pub fn whose<'a>(
    ticket: &ServiceToken,
    own: &'a [(Principal, PathBuf)],
) -> Result<Option<&'a Principal>, DelegationError> {
    for (principal, keytab) in own {
        if ticket.is_opened_by(principal, keytab)? {
            return Ok(Some(principal));
        }
    }
    Ok(None)
}

/// Whether what a ticket says besides its name lets its user be this principal. A domain finds a machine's account without its
/// `$`, and one of people in whatever case its letters are, those beyond ASCII too: the policy, the limits and the revocations
/// have judged the name, and the service may go by the account. What is there and cannot be read is nobody's.
fn may_be(user: &Principal, logon_info: &LogonInfo) -> bool {
    match logon_info {
        LogonInfo::Verified(bytes) => LogonGroups::read(bytes).is_ok_and(|logon| {
            let parts = principal::parts(user);
            matches!(parts.as_slice(), [name] if name.eq_ignore_ascii_case(&logon.account))
        }),
        LogonInfo::Absent => true,
        LogonInfo::NotRead | LogonInfo::Unverified | LogonInfo::TooLong => false,
    }
}

fn not_mapped(detail: impl Into<String>) -> Failed {
    Failed::Answered(NoTicket::new(Reason::PrincipalNotMapped, detail))
}

fn no_ticket(error: &DelegationError) -> NoTicket {
    NoTicket::new(reason_of(error.kind()), error.to_string())
}

/// The word of the closed list for what the KDC or the library refused.
pub const fn reason_of(kind: DelegationErrorKind) -> Reason {
    use DelegationErrorKind as Kind;
    match kind {
        Kind::UserUnknown | Kind::UserRevoked | Kind::NotAllowed => Reason::DelegationDenied,
        Kind::EvidenceNotForwardable => Reason::EvidenceNotForwardable,
        Kind::UnusableName => Reason::PrincipalNotMapped,
        Kind::TargetUnknown => Reason::InvalidTarget,
        Kind::KdcUnreachable => Reason::KdcUnreachable,
        // About us, and nothing that a client or a user can do anything about.
        Kind::KeytabUnavailable
        | Kind::LogInRefused
        | Kind::TicketExpired
        | Kind::EnctypeUnsupported
        | Kind::ClockSkew
        | Kind::Other => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// alice's, of a Samba domain.
    const PAC: &[u8] = include_bytes!("../groups/pac/samba.ndr");

    #[test]
    fn a_log_in_that_cannot_be_tried_says_nothing_of_the_users_kdc() {
        let folder = tempfile::tempdir().unwrap();
        let keytab = folder.path().join("keytab");
        let log_in = Arc::new(LogIn::new(keytab.clone()));
        let delegator = Delegator::new(&Principal::parse("bridge@A.TEST").unwrap(), &keytab).unwrap();
        let metrics = crate::metrics::Metrics::new().delegation().clone();
        let mut kdc = GssKdc::new(delegator, Arc::from([]), Arc::clone(&log_in), metrics);
        let user = Principal::parse("alice@B.TEST").unwrap();
        let target = kerbridge_gss::ServicePrincipal::parse("HTTP/legacy.test@A.TEST").unwrap();
        let target = DelegationTarget::new(target).unwrap();

        let without_a_key = kdc.act(&user, &target).map(drop).unwrap_err();
        assert!(
            matches!(&without_a_key, Failed::Unanswered(why) if why.reason == Reason::Internal),
            "{without_a_key:?}"
        );
        let why = NoTicket::new(Reason::Internal, "scripted");
        log_in.failed(&why);
        assert_eq!(kdc.act(&user, &target).map(drop), Err(Failed::Unanswered(why.clone())));
        let named = DelegatedUser::Principal(user);
        assert_eq!(kdc.resolve(&named), Err(Failed::Unanswered(why)));
    }

    #[test]
    fn a_user_is_the_account_of_the_pac_but_for_the_case_of_ascii_letters() {
        let alice = LogonInfo::Verified(PAC.to_vec());
        for (user, is_so) in [
            ("alice@A.TEST", true),
            ("ALICE@A.TEST", true),
            ("alice$@A.TEST", false),
            ("alic@A.TEST", false),
            ("alicé@A.TEST", false),
            ("alice/admin@A.TEST", false),
            (r"alice\/admin@A.TEST", false),
        ] {
            let user = Principal::parse(user).unwrap();
            assert_eq!(may_be(&user, &alice), is_so, "{user}");
            // MIT's KDC has no accounts beside principals.
            assert!(may_be(&user, &LogonInfo::Absent));
        }
        let user = Principal::parse("alice@A.TEST").unwrap();
        for unreadable in [
            LogonInfo::Unverified,
            LogonInfo::NotRead,
            LogonInfo::TooLong,
            LogonInfo::Verified(Vec::new()),
        ] {
            assert!(!may_be(&user, &unreadable), "{unreadable:?}");
        }
    }

    #[test]
    fn an_account_is_what_a_verified_pac_says_and_what_was_not_verified_says_nothing() {
        let of = |principal: Option<&str>, logon_info| {
            let identified = Identified {
                principal: principal.map(|name| Principal::parse(name).unwrap()),
                realm: "A.TEST".into(),
                logon_info,
            };
            principal_of(identified).map(|principal| principal.as_str().to_owned())
        };
        let alice = Some("alice@A.TEST".to_owned());
        assert_eq!(of(None, LogonInfo::Verified(PAC.to_vec())), alice);
        // The ticket may have the name that was asked for.
        assert_eq!(of(Some("al@A.TEST"), LogonInfo::Verified(PAC.to_vec())), alice);
        assert_eq!(of(Some("alice@A.TEST"), LogonInfo::Absent), alice);
        assert_eq!(of(None, LogonInfo::Absent), None);
        for nothing in [
            LogonInfo::Unverified,
            LogonInfo::NotRead,
            LogonInfo::TooLong,
            LogonInfo::Verified(Vec::new()),
        ] {
            assert_eq!(of(Some("alice@A.TEST"), nothing), None);
        }
    }
}
