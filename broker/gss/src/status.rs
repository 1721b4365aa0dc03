//! Takes the text of a failure at once, on the thread that failed, and finds the Kerberos code behind a minor status.
//!
//! MIT keeps the texts of its mechanisms per thread, so a status formatted later or elsewhere says something else or
//! nothing. The numbers do not travel well either: a minor status that passed through SPNEGO is one that the library makes up
//! per process. [`StatusText`] therefore looks for the one known code whose text, on this thread and now, is the same.

#![expect(unsafe_code, reason = "calls gss_display_status")]

use std::fmt;
use std::ptr;

use crate::buffer::OwnedBuffer;
use crate::sys;

/// The routine error of a major status (RFC 2744 §3.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoutineError {
    /// An unsupported mechanism was requested.
    BadMech,
    /// An invalid name was supplied.
    BadName,
    /// A supplied name was of an unsupported type.
    BadNameType,
    /// Incorrect channel bindings were supplied.
    BadBindings,
    /// A token had an invalid MIC.
    BadMic,
    /// No credentials, or they were unavailable.
    NoCred,
    /// No context has been established.
    NoContext,
    /// A token was invalid.
    DefectiveToken,
    /// A credential was invalid.
    DefectiveCredential,
    /// The referenced credentials have expired.
    CredentialsExpired,
    /// The context has expired.
    ContextExpired,
    /// The mechanism failed; the minor status says how.
    Failure,
    /// Forbidden by local security policy.
    Unauthorized,
    /// The operation is unavailable.
    Unavailable,
    /// A calling error, or a routine error that none of the above is.
    Other,
}

impl RoutineError {
    const fn of(major: u32) -> Option<Self> {
        const CALLING_AND_ROUTINE: u32 = 0xffff_0000;
        Some(match major & CALLING_AND_ROUTINE {
            0 => return None,
            sys::GSS_S_BAD_MECH => Self::BadMech,
            sys::GSS_S_BAD_NAME => Self::BadName,
            sys::GSS_S_BAD_NAMETYPE => Self::BadNameType,
            sys::GSS_S_BAD_BINDINGS => Self::BadBindings,
            sys::GSS_S_BAD_MIC => Self::BadMic,
            sys::GSS_S_NO_CRED => Self::NoCred,
            sys::GSS_S_NO_CONTEXT => Self::NoContext,
            sys::GSS_S_DEFECTIVE_TOKEN => Self::DefectiveToken,
            sys::GSS_S_DEFECTIVE_CREDENTIAL => Self::DefectiveCredential,
            sys::GSS_S_CREDENTIALS_EXPIRED => Self::CredentialsExpired,
            sys::GSS_S_CONTEXT_EXPIRED => Self::ContextExpired,
            sys::GSS_S_FAILURE => Self::Failure,
            sys::GSS_S_UNAUTHORIZED => Self::Unauthorized,
            sys::GSS_S_UNAVAILABLE => Self::Unavailable,
            _ => Self::Other,
        })
    }
}

/// A failure as GSSAPI tells it: numbers and texts, owned. Texts hold names that a peer may have chosen; control characters
/// in them are replaced and they are cut at 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusText {
    major: u32,
    minor: u32,
    routine: RoutineError,
    code: Option<u32>,
    major_text: String,
    minor_text: String,
    has_reason: bool,
}

impl StatusText {
    const LONGEST: usize = 512;

    /// `Ok` unless `major` is an error. To be called on the thread of the failed call, before any other GSSAPI call.
    pub(crate) fn check(major: u32, minor: u32) -> Result<(), Self> {
        match RoutineError::of(major) {
            None => Ok(()),
            Some(routine) => Err(Self::read(major, minor, routine)),
        }
    }

    /// A failure that we find ourselves, in GSSAPI's words.
    pub(crate) fn of_our_own(major: u32) -> Self {
        Self::read(major, 0, RoutineError::of(major).unwrap_or(RoutineError::Other))
    }

    fn read(major: u32, minor: u32, routine: RoutineError) -> Self {
        let minor_text = if minor == 0 {
            String::new()
        } else {
            display(minor, sys::GSS_C_MECH_CODE)
        };
        let has_reason = minor != 0 && !is_success(&minor_text);
        // Code zero, which SPNEGO wraps in a number like any other: nobody is to read that a failure was a success.
        let minor_text = if has_reason { minor_text } else { String::new() };
        let code = known_codes()
            .find(|code| *code == minor)
            .or_else(|| known_codes().find(|code| !minor_text.is_empty() && says(*code, &minor_text)));
        Self {
            major,
            minor,
            routine,
            code,
            major_text: display(major, sys::GSS_C_GSS_CODE),
            minor_text,
            has_reason,
        }
    }

    /// The major status.
    pub const fn major(&self) -> u32 {
        self.major
    }

    /// The minor status as the library returned it; through SPNEGO it means nothing outside this process.
    pub const fn minor(&self) -> u32 {
        self.minor
    }

    /// The routine error in the major status.
    pub const fn routine(&self) -> RoutineError {
        self.routine
    }

    /// The code behind the minor status, if it is one that we know: of one of Kerberos's tables, or an `errno`.
    pub(crate) const fn code(&self) -> Option<u32> {
        self.code
    }

    /// Whether the mechanism failed without giving a reason.
    pub(crate) fn is_without_reason(&self) -> bool {
        self.routine == RoutineError::Failure && !self.has_reason
    }

    /// What the major status says.
    pub fn major_text(&self) -> &str {
        &self.major_text
    }

    /// What the minor status says: the mechanism's own words, often with names, kvno and enctype. Empty where it says that
    /// nothing went wrong.
    pub fn minor_text(&self) -> &str {
        &self.minor_text
    }
}

impl fmt::Display for StatusText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.minor_text.is_empty() {
            f.write_str(&self.major_text)
        } else {
            write!(f, "{}: {}", self.major_text, self.minor_text)
        }
    }
}

impl std::error::Error for StatusText {}

/// The codes that are told apart, in the order in which they are tried.
const KNOWN_CODES: &[u32] = &[
    sys::KRB5KRB_AP_ERR_TKT_EXPIRED,
    sys::KRB5KRB_AP_ERR_REPEAT,
    sys::KRB5KRB_AP_ERR_NOT_US,
    sys::KRB5KRB_AP_ERR_BADKEYVER,
    sys::KRB5KRB_AP_ERR_NOKEY,
    sys::KRB5KRB_AP_ERR_SKEW,
    sys::KRB5KRB_AP_ERR_TKT_NYV,
    sys::KRB5KRB_AP_ERR_TKT_INVALID,
    sys::KRB5KRB_AP_ERR_BAD_INTEGRITY,
    sys::KRB5KRB_AP_ERR_MODIFIED,
    sys::KRB5KRB_AP_ERR_BADMATCH,
    sys::KRB5KRB_AP_WRONG_PRINC,
    sys::KRB5KRB_AP_ERR_ILL_CR_TKT,
    sys::KRB5KRB_AP_ERR_MSG_TYPE,
    sys::KRB5KRB_AP_ERR_BADVERSION,
    sys::KRB5KRB_AP_ERR_MUT_FAIL,
    sys::KRB5_KT_NOTFOUND,
    sys::KRB5_KT_KVNONOTFOUND,
    sys::KRB5_BAD_ENCTYPE,
    sys::KRB5_NOPERM_ETYPE,
    sys::KRB5KDC_ERR_ETYPE_NOSUPP,
    sys::KRB5KDC_ERR_BADOPTION,
    sys::KRB5KDC_ERR_POLICY,
    sys::KRB5_TKT_NOT_FORWARDABLE,
    sys::KRB5KDC_ERR_NAME_EXP,
    sys::KRB5KDC_ERR_SERVICE_EXP,
    sys::KRB5KDC_ERR_KEY_EXP,
    sys::KRB5KDC_ERR_CLIENT_NOTYET,
    sys::KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN,
    sys::KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN,
    sys::KRB5KDC_ERR_CLIENT_REVOKED,
    sys::KRB5KDC_ERR_SERVICE_REVOKED,
    sys::KRB5KDC_ERR_PADATA_TYPE_NOSUPP,
    sys::KRB5KDC_ERR_MUST_USE_USER2USER,
    sys::KRB5KDC_ERR_SVC_UNAVAILABLE,
    sys::KRB5KDC_ERR_WRONG_REALM,
    sys::KRB5KRB_ERR_GENERIC,
    sys::KRB5_KDCREP_MODIFIED,
    sys::KRB5_KDCREP_SKEW,
    sys::KRB5KDC_ERR_PREAUTH_FAILED,
    sys::KRB5_KDC_UNREACH,
    sys::KRB5_REALM_UNKNOWN,
    sys::KRB5_REALM_CANT_RESOLVE,
    sys::KRB5_MUTUAL_FAILED,
    sys::G_WRONG_MECH,
    sys::G_BAD_TOK_HEADER,
    sys::G_TOK_TRUNC,
    sys::G_WRONG_TOKID,
    sys::KG_BAD_LENGTH,
    sys::ASN1_BAD_TIMEFORMAT,
    sys::ASN1_MISSING_FIELD,
    sys::ASN1_MISPLACED_FIELD,
    sys::ASN1_TYPE_MISMATCH,
    sys::ASN1_OVERFLOW,
    sys::ASN1_OVERRUN,
    sys::ASN1_BAD_ID,
    sys::ASN1_BAD_LENGTH,
    sys::ASN1_BAD_FORMAT,
    sys::ASN1_PARSE_ERROR,
    sys::ASN1_BAD_GMTIME,
    sys::ASN1_INDEF,
    sys::ASN1_MISSING_EOC,
    sys::ASN1_OMITTED,
];

/// The largest `errno` of Linux.
pub(crate) const LARGEST_ERRNO: u32 = 133;

fn known_codes() -> impl Iterator<Item = u32> {
    KNOWN_CODES.iter().copied().chain(1..=LARGEST_ERRNO)
}

/// Whether `code`, shown on this thread now, says `text`. The mechanism has shown `text` for the code inside the wrapped
/// status just before, so the right one says exactly this, in any language and with the names of this failure in it. A code
/// that the library has not met yet has no text and does not match.
fn says(code: u32, text: &str) -> bool {
    display(code, sys::GSS_C_MECH_CODE) == text
}

/// Whether this is what the library says of code zero, in the language of the process.
fn is_success(text: &str) -> bool {
    let success = std::io::Error::from_raw_os_error(0).to_string();
    success
        .strip_prefix(text)
        .is_some_and(|rest| rest.starts_with(" (os error"))
}

/// What the library says about a status; empty if it cannot say anything.
fn display(status: u32, status_type: u32) -> String {
    let mut text = String::new();
    let mut more = 0;
    // A major status may have several texts; more than a few mean that something else is wrong.
    for _ in 0..4 {
        let mut minor = 0;
        let mut line = OwnedBuffer::empty();
        // SAFETY: the out pointers are valid, the buffer is empty, and no mechanism (null) is allowed: the library keeps
        // which mechanism a minor status came from.
        let major = unsafe {
            sys::gss_display_status(
                &raw mut minor,
                status,
                status_type.cast_signed(),
                ptr::null_mut(),
                &raw mut more,
                line.as_mut_ptr(),
            )
        };
        if major != sys::GSS_S_COMPLETE {
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.extend(
            String::from_utf8_lossy(line.as_bytes())
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c }),
        );
        if more == 0 || text.len() >= StatusText::LONGEST {
            break;
        }
    }
    let mut end = text.len().min(StatusText::LONGEST);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_and_a_supplementary_bit_are_no_failure() {
        assert_eq!(StatusText::check(sys::GSS_S_COMPLETE, 0), Ok(()));
        assert_eq!(StatusText::check(sys::GSS_S_CONTINUE_NEEDED, 0), Ok(()));
    }

    #[test]
    fn a_routine_error_has_gssapis_words() {
        let status = StatusText::check(sys::GSS_S_DEFECTIVE_TOKEN, 0).unwrap_err();
        assert_eq!(status.routine(), RoutineError::DefectiveToken);
        assert_eq!(status.to_string(), "Invalid token was supplied");
    }

    #[test]
    fn what_the_library_says_of_no_error_is_no_reason() {
        assert!(is_success("Success"));
        for reason in ["", "Succ", "Ticket expired", "Successor"] {
            assert!(!is_success(reason), "{reason:?}");
        }
    }

    #[test]
    fn a_calling_error_is_other() {
        assert_eq!(
            StatusText::check(1 << 24, 0).unwrap_err().routine(),
            RoutineError::Other
        );
    }
}
