//! Reads what a ticket's authorization data says of its client, and whether the KDC stands behind it (RFC 6680).

#![expect(unsafe_code, reason = "calls GSSAPI's name attribute functions")]

use std::fmt;

use crate::buffer::{OwnedBuffer, borrowed};
use crate::name::Name;
use crate::status::{RoutineError, StatusText};
use crate::sys;

/// Longest logon information that is read, in bytes: 4,096 groups of foreign domains. A whole token has 128 KiB.
pub const LONGEST_LOGON_INFO: usize = 192 * 1024;

/// MIT's name for the buffer `KERB_VALIDATION_INFO` of a PAC (MS-PAC §2.5).
const LOGON_INFO: &[u8] = b"urn:mspac:logon-info";

/// What the ticket's PAC says of the client's groups. It does not show itself in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum LogonInfo {
    /// It was not asked for: see [`AcceptorCredential::reading_logon_info`](crate::AcceptorCredential::reading_logon_info).
    NotRead,
    /// The ticket has no PAC, or one without it, as those of MIT's KDC since 1.20.
    Absent,
    /// It is there, and its signatures were not verified: it proves nothing.
    Unverified,
    /// It is longer than [`LONGEST_LOGON_INFO`].
    TooLong,
    /// `KERB_VALIDATION_INFO` in NDR, of a PAC whose signatures were verified.
    Verified(Vec<u8>),
}

impl fmt::Debug for LogonInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRead => f.write_str("NotRead"),
            Self::Absent => f.write_str("Absent"),
            Self::Unverified => f.write_str("Unverified"),
            Self::TooLong => f.write_str("TooLong"),
            Self::Verified(bytes) => write!(f, "Verified({} bytes)", bytes.len()),
        }
    }
}

impl Name {
    /// The logon information of an initiator's name.
    pub(crate) fn logon_info(&self) -> Result<LogonInfo, StatusText> {
        if self.is_null() {
            return Ok(LogonInfo::Absent);
        }
        let mut attribute = borrowed(LOGON_INFO);
        let (mut value, mut shown) = (OwnedBuffer::empty(), OwnedBuffer::empty());
        let (mut minor, mut authenticated, mut complete) = (0, 0, 0);
        // Minus one asks for the first value; a PAC has one such buffer at most.
        let mut more = -1;
        // SAFETY: the name is not null and owned; the attribute's name is only read and outlives the call; both buffers are
        // empty; the out pointers are valid.
        let major = unsafe {
            sys::gss_get_name_attribute(
                &raw mut minor,
                self.as_ptr(),
                &raw mut attribute,
                &raw mut authenticated,
                &raw mut complete,
                value.as_mut_ptr(),
                shown.as_mut_ptr(),
                &raw mut more,
            )
        };
        match StatusText::check(major, minor) {
            Ok(()) => Ok(LogonInfo::of(value.as_bytes(), authenticated != 0)),
            Err(detail) if detail.routine() == RoutineError::Unavailable => Ok(LogonInfo::Absent),
            Err(detail) => Err(detail),
        }
    }
}

impl LogonInfo {
    fn of(bytes: &[u8], authenticated: bool) -> Self {
        if !authenticated {
            Self::Unverified
        } else if bytes.len() > LONGEST_LOGON_INFO {
            Self::TooLong
        } else {
            Self::Verified(bytes.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Principal;

    #[test]
    fn a_name_without_a_ticket_has_no_logon_information() {
        let name = Name::import(&Principal::parse("alice@LAB.TEST").unwrap()).unwrap();
        assert_eq!(name.logon_info().unwrap(), LogonInfo::Absent);
        assert_eq!(Name::null().logon_info().unwrap(), LogonInfo::Absent);
    }

    #[test]
    fn what_was_not_verified_or_is_too_long_is_not_handed_out() {
        assert_eq!(LogonInfo::of(b"ndr", false), LogonInfo::Unverified);
        assert_eq!(LogonInfo::of(b"ndr", true), LogonInfo::Verified(b"ndr".to_vec()));
        assert_eq!(
            LogonInfo::of(&vec![0; LONGEST_LOGON_INFO + 1], true),
            LogonInfo::TooLong
        );
        assert_eq!(
            format!("{:?}", LogonInfo::Verified(b"secret".to_vec())),
            "Verified(6 bytes)"
        );
    }
}
