//! Says which question a KDC answered with no, and why, in a closed list.

use std::fmt;

use crate::status::StatusText;
use crate::sys;

/// Which question it was that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DelegationStep {
    /// Our own log-in.
    LogIn,
    /// For a ticket of the user's to ourselves (S4U2Self).
    Impersonate,
    /// For the user's ticket to the target (S4U2Proxy).
    Proxy,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationError {
    step: DelegationStep,
    kind: DelegationErrorKind,
    detail: StatusText,
}

impl DelegationStep {
    const fn as_str(self) -> &'static str {
        match self {
            Self::LogIn => "our log-in",
            Self::Impersonate => "S4U2Self",
            Self::Proxy => "S4U2Proxy",
        }
    }
}

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DelegationErrorKind {
    /// The keytab has gone, cannot be read, or holds no key of ours.
    KeytabUnavailable,
    /// The KDC has another key of ours than the keytab, or our account is unknown or locked.
    LogInRefused,
    /// The KDC does not know the user.
    UserUnknown,
    /// The user's account is locked, disabled or has ended, or its password has.
    UserRevoked,
    /// The user's name cannot be represented ([`crate::PrincipalError`]).
    UnusableName,
    /// The KDC does not know the target, or its account is locked or has ended.
    TargetUnknown,
    /// The KDC does not let us act for users, or not towards this target.
    NotAllowed,
    /// The KDC does not let us act for this user: the ticket to ourselves is not forwardable. So it is for users who are
    /// protected from delegation, and for all users where our account may not do without their own ticket
    /// (`ok_to_auth_as_delegate`, "use any authentication protocol").
    EvidenceNotForwardable,
    /// The KDC and this side, or the target, share no encryption type.
    EnctypeUnsupported,
    /// The KDC's clock is too far from ours.
    ClockSkew,
    /// Our own ticket has ended, and a new one is not to be had.
    TicketExpired,
    /// No KDC answers, or none is known for a realm.
    KdcUnreachable,
    /// None of these; the detail says what.
    Other,
}

impl DelegationError {
    pub(super) fn of(step: DelegationStep, detail: StatusText) -> Self {
        let kind = kind_of(step, detail.code());
        Self { step, kind, detail }
    }

    /// The same failure, where more is known than its code says.
    pub(super) fn with_kind(self, kind: DelegationErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Which question failed.
    pub const fn step(&self) -> DelegationStep {
        self.step
    }

    /// What was wrong.
    pub const fn kind(&self) -> DelegationErrorKind {
        self.kind
    }

    /// What GSSAPI said.
    pub const fn detail(&self) -> &StatusText {
        &self.detail
    }
}

impl DelegationErrorKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::KeytabUnavailable => "the keytab cannot be read, or holds no key of ours",
            Self::LogInRefused => "the KDC does not take our key, or our account is unknown or locked",
            Self::UserUnknown => "the KDC does not know the user",
            Self::UserRevoked => "the user's account is locked or has ended",
            Self::UnusableName => "the user's name cannot be used",
            Self::TargetUnknown => "the KDC does not know the target, or it is locked or has ended",
            Self::NotAllowed => "the KDC does not let us act for users there",
            Self::EvidenceNotForwardable => "the user's ticket to us is not forwardable",
            Self::EnctypeUnsupported => "no encryption type is shared",
            Self::ClockSkew => "the KDC's clock is too far from ours",
            Self::TicketExpired => "our own ticket has ended",
            Self::KdcUnreachable => "no KDC answers",
            Self::Other => "the KDC or the library refuses",
        }
    }
}

impl fmt::Display for DelegationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.as_str(), self.kind.as_str())?;
        match (self.step, self.detail.code()) {
            // MIT keeps no words of its own for this step: what it shows are those of the last failure with the same code.
            (DelegationStep::Impersonate, Some(code)) => write!(f, " (krb5 error {})", code.cast_signed()),
            (DelegationStep::Impersonate | DelegationStep::LogIn | DelegationStep::Proxy, _) => {
                write!(f, ": {}", self.detail)
            }
        }
    }
}

impl std::error::Error for DelegationError {}

fn kind_of(step: DelegationStep, code: Option<u32>) -> DelegationErrorKind {
    use DelegationErrorKind as Kind;
    use DelegationStep as Step;
    match (step, code) {
        (
            _,
            Some(
                sys::KRB5_KDC_UNREACH
                | sys::KRB5_REALM_UNKNOWN
                | sys::KRB5_REALM_CANT_RESOLVE
                | sys::KRB5KDC_ERR_SVC_UNAVAILABLE,
            ),
        ) => Kind::KdcUnreachable,
        (_, Some(sys::KRB5KRB_AP_ERR_SKEW | sys::KRB5_KDCREP_SKEW)) => Kind::ClockSkew,
        // Whatever else it is, it is about us.
        (Step::LogIn, _) => Kind::LogInRefused,
        (_, Some(sys::KRB5KRB_AP_ERR_TKT_EXPIRED)) => Kind::TicketExpired,
        (_, Some(sys::KRB5KDC_ERR_ETYPE_NOSUPP)) => Kind::EnctypeUnsupported,
        (_, Some(sys::KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN | sys::KRB5KDC_ERR_WRONG_REALM)) => Kind::UserUnknown,
        (
            _,
            Some(
                sys::KRB5KDC_ERR_CLIENT_REVOKED
                | sys::KRB5KDC_ERR_NAME_EXP
                | sys::KRB5KDC_ERR_KEY_EXP
                | sys::KRB5KDC_ERR_CLIENT_NOTYET,
            ),
        ) => Kind::UserRevoked,
        (
            Step::Proxy,
            Some(
                sys::KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN | sys::KRB5KDC_ERR_SERVICE_REVOKED | sys::KRB5KDC_ERR_SERVICE_EXP,
            ),
        ) => Kind::TargetUnknown,
        // Of an account without a service principal name Active Directory says that it is no service.
        (Step::Impersonate, Some(sys::KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN | sys::KRB5KDC_ERR_MUST_USE_USER2USER)) => {
            Kind::NotAllowed
        }
        // A KDC that does not know S4U2Proxy gives a ticket of our own, which MIT calls modified.
        (
            _,
            Some(
                sys::KRB5KDC_ERR_BADOPTION
                | sys::KRB5KDC_ERR_POLICY
                | sys::KRB5KDC_ERR_PADATA_TYPE_NOSUPP
                | sys::KRB5_TKT_NOT_FORWARDABLE
                | sys::KRB5_KDCREP_MODIFIED,
            ),
        ) => Kind::NotAllowed,
        (_, Some(_) | None) => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_means_different_things_at_different_steps() {
        use DelegationErrorKind as Kind;
        use DelegationStep as Step;
        for (step, code, kind) in [
            (Step::LogIn, sys::KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN, Kind::LogInRefused),
            (
                Step::Impersonate,
                sys::KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN,
                Kind::UserUnknown,
            ),
            (
                Step::Impersonate,
                sys::KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN,
                Kind::NotAllowed,
            ),
            (Step::Proxy, sys::KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN, Kind::TargetUnknown),
            (Step::LogIn, sys::KRB5KDC_ERR_CLIENT_REVOKED, Kind::LogInRefused),
            (Step::Impersonate, sys::KRB5KDC_ERR_CLIENT_REVOKED, Kind::UserRevoked),
            (Step::Proxy, sys::KRB5KDC_ERR_BADOPTION, Kind::NotAllowed),
        ] {
            assert_eq!(kind_of(step, Some(code)), kind, "{step:?} {code}");
        }
        for step in [Step::LogIn, Step::Impersonate, Step::Proxy] {
            assert_eq!(kind_of(step, Some(sys::KRB5_KDC_UNREACH)), Kind::KdcUnreachable);
            assert_eq!(kind_of(step, Some(sys::KRB5KRB_AP_ERR_SKEW)), Kind::ClockSkew);
        }
        assert_eq!(kind_of(Step::Proxy, None), Kind::Other);
    }
}
