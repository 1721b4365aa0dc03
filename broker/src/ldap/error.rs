//! Says why a directory gave no answer, without anything that was secret in the question.

use std::fmt;
use std::io;

/// Longest text of the server's that is kept, in characters.
const LONGEST_DIAGNOSIS: usize = 200;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LdapError {
    /// No connection, or it broke; TLS included.
    Connection(String),
    /// What came is no answer to what was asked, or larger than what is read.
    Protocol(&'static str),
    /// The server refused.
    Refused {
        /// What was asked: `bind`, `search`, `starttls`.
        request: &'static str,
        /// `resultCode` (RFC 4511 §4.1.9).
        code: u32,
        /// `diagnosticMessage`, cut.
        diagnosis: String,
    },
}

impl LdapError {
    pub(super) fn refused(request: &'static str, code: u32, diagnosis: &[u8]) -> Self {
        let diagnosis = String::from_utf8_lossy(diagnosis);
        let diagnosis = diagnosis.trim_end_matches('\0').chars().filter(|c| !c.is_control());
        Self::Refused {
            request,
            code,
            diagnosis: diagnosis.take(LONGEST_DIAGNOSIS).collect(),
        }
    }
}

impl LdapError {
    /// Whether a refusal is of this server and this moment: `busy`, `unavailable` (RFC 4511 §4.1.9).
    pub(super) const fn is_for_now(&self) -> bool {
        matches!(self, Self::Refused { code: 51 | 52, .. })
    }
}

impl From<io::Error> for LdapError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

impl fmt::Display for LdapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "the directory cannot be reached: {error}"),
            Self::Protocol(what) => write!(f, "the directory's answer cannot be used: {what}"),
            Self::Refused {
                request,
                code,
                diagnosis,
            } => write!(f, "the directory refused the {request} with result {code}: {diagnosis}"),
        }
    }
}

impl std::error::Error for LdapError {}
