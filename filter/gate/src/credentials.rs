//! Finds the one credential of a request, or says what is wrong with what was shown (RFC 9110 §11.6.2, RFC 6750 §2).

use kerbridge_wire::Reason;
use kerbridge_wire::exchange::NEGOTIATE_LIMIT;
use kerbridge_wire::policy::Scheme;

use crate::config::TokenHeader;
use crate::jwt::compact::TOKEN_LIMIT;
use crate::request::{RequestHead, has_token_in_query};
use crate::rule::Rule;

/// The one credential of a request. Only the gate reads one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// Nothing that this route accepts.
    None,
    /// A token from `Authorization: Bearer`, at most 16 KiB of token68.
    Bearer(&'a [u8]),
    /// The base64 of `Authorization: Negotiate`, at most 64 KiB of token68.
    Negotiate(&'a [u8]),
    /// A token from our cookie for the route's audience.
    Cookie(&'a [u8]),
    /// A token from the header that the configuration names.
    Header(&'a [u8]),
}

impl<'a> Credentials<'a> {
    /// Reads the credential that `rule` accepts. A header decides over our cookie; two headers are one too many.
    ///
    /// # Errors
    /// The reason of the closed list: a token in the query, several credentials, a value that is no credential, one
    /// over its limit, NTLM.
    pub(crate) fn read(
        head: &RequestHead<'a>,
        rule: &Rule,
        token_header: Option<&TokenHeader>,
    ) -> Result<Self, Reason> {
        if has_token_in_query(head.path()) {
            return Err(Reason::TokenInQuery);
        }
        let token_header = token_header.filter(|_| rule.accepts(Scheme::Header));
        let mut own = token_header
            .into_iter()
            .flat_map(|header| head.headers.values_of(&header.name).map(move |value| (header, value)));
        let mut lines = head.headers.values(b"authorization");
        match (lines.next(), lines.next(), own.next(), own.next()) {
            (Some(_), Some(_), _, _) | (Some(_), _, Some(_), _) | (_, _, Some(_), Some(_)) => {
                Err(Reason::MultipleCredentials)
            }
            (Some(line), None, None, _) => Self::from_authorization(line, rule),
            (None, _, Some((header, value)), None) => match value.strip_prefix(&*header.prefix) {
                Some(token) => token68(token, TOKEN_LIMIT).map(Self::Header),
                None => Err(Reason::MalformedCredentials),
            },
            (None, _, None, _) => Self::from_cookie(head, rule),
        }
    }

    fn from_authorization(line: &'a [u8], rule: &Rule) -> Result<Self, Reason> {
        let (scheme, value) = split_scheme(line);
        if scheme.is_empty() || !scheme.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Reason::MalformedCredentials);
        }
        if scheme.eq_ignore_ascii_case(b"bearer") {
            let token = token68(value, TOKEN_LIMIT)?;
            Ok(if rule.accepts(Scheme::Bearer) {
                Self::Bearer(token)
            } else {
                Self::None
            })
        } else if scheme.eq_ignore_ascii_case(b"negotiate") {
            let token = token68(value, NEGOTIATE_LIMIT)?;
            Ok(if rule.accepts(Scheme::Negotiate) {
                Self::Negotiate(token)
            } else {
                Self::None
            })
        } else if scheme.eq_ignore_ascii_case(b"ntlm") {
            Err(Reason::NtlmToken)
        } else if value.is_empty() {
            // A bare token without its scheme: to call it "no credentials" would hide the mistake.
            Err(Reason::MalformedCredentials)
        } else if names_ours_behind_a_comma(value) {
            Err(Reason::MultipleCredentials)
        } else {
            Ok(Self::None)
        }
    }

    fn from_cookie(head: &RequestHead<'a>, rule: &Rule) -> Result<Self, Reason> {
        let Some(name) = rule.cookie() else {
            return Ok(Self::None);
        };
        let mut values = head
            .our_cookies()
            .filter(|(n, _)| *n == name.as_bytes())
            .map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => Ok(Self::None),
            (Some(_), Some(_)) => Err(Reason::MultipleCredentials),
            (Some(value), None) => token68(value, TOKEN_LIMIT).map(Self::Cookie),
        }
    }

    /// How the caller proved who it is, if it did.
    pub const fn scheme(&self) -> Option<Scheme> {
        match self {
            Self::None => None,
            Self::Bearer(_) => Some(Scheme::Bearer),
            Self::Negotiate(_) => Some(Scheme::Negotiate),
            Self::Cookie(_) => Some(Scheme::Cookie),
            Self::Header(_) => Some(Scheme::Header),
        }
    }
}

/// The token in a header of a request to log out, whatever a route would take: by `Bearer`, or in the header that the
/// configuration names. Other schemes show no session.
///
/// # Errors
/// As [`Credentials::read`].
pub(crate) fn token_in_headers<'a>(
    head: &RequestHead<'a>,
    token_header: Option<&TokenHeader>,
) -> Result<Option<&'a [u8]>, Reason> {
    let mut own = token_header
        .into_iter()
        .flat_map(|header| head.headers.values_of(&header.name).map(move |value| (header, value)));
    let mut lines = head.headers.values(b"authorization");
    match (lines.next(), lines.next(), own.next(), own.next()) {
        (_, Some(_), _, _) | (Some(_), _, Some(_), _) | (_, _, _, Some(_)) => Err(Reason::MultipleCredentials),
        (Some(line), None, None, None) => match split_scheme(line) {
            (scheme, value) if scheme.eq_ignore_ascii_case(b"bearer") => token68(value, TOKEN_LIMIT).map(Some),
            _ => Ok(None),
        },
        (None, None, Some((header, value)), None) => match value.strip_prefix(&*header.prefix) {
            Some(token) => token68(token, TOKEN_LIMIT).map(Some),
            None => Err(Reason::MalformedCredentials),
        },
        (None, None, None, None) => Ok(None),
    }
}

/// Whether a cookie's value may be a token at all.
pub(crate) fn is_session_token(value: &[u8]) -> bool {
    token68(value, TOKEN_LIMIT).is_ok()
}

/// Whether a value of another scheme goes on with one of ours, as where a proxy joined two lines.
fn names_ours_behind_a_comma(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').skip(1).any(|part| {
        let (scheme, _) = split_scheme(part);
        [b"bearer".as_slice(), b"negotiate"]
            .iter()
            .any(|ours| scheme.eq_ignore_ascii_case(ours))
    })
}

/// What stands behind `Bearer` in an `Authorization`, whatever it is: only to look for a token that was verified before, which
/// is no other's bytes.
pub(crate) fn unverified_bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, value) = split_scheme(authorization);
    scheme.eq_ignore_ascii_case(b"bearer").then_some(value)
}

fn split_scheme(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (scheme, value) = line.split_at_checked(end).unwrap_or((line, b""));
    (scheme, value.trim_ascii_start())
}

/// `token68` of RFC 9110 §11.2, not empty, within its limit.
fn token68(value: &[u8], limit: usize) -> Result<&[u8], Reason> {
    if value.contains(&b',') {
        return Err(Reason::MultipleCredentials);
    }
    if value.len() > limit {
        return Err(Reason::TokenTooLarge);
    }
    if is_token68(value) {
        Ok(value)
    } else {
        Err(Reason::MalformedCredentials)
    }
}

/// Whether these bytes are a `token68`: letters, digits, `-._~+/`, then `=` only at the end; at least one character.
pub fn is_token68(value: &[u8]) -> bool {
    let padding = value.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = value.get(..value.len().saturating_sub(padding)).unwrap_or_default();
    !body.is_empty() && body.iter().all(|byte| TOKEN68.get(usize::from(*byte)) == Some(&true))
}

/// For each byte, whether it may stand in a `token68` before its padding. A table: this is asked for each byte of a token.
const TOKEN68: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/";
    while let [first, more @ ..] = rest {
        #[expect(
            clippy::as_conversions,
            clippy::indexing_slicing,
            reason = "a byte is within 256, and this is computed at compile time"
        )]
        {
            table[*first as usize] = true;
        }
        rest = more;
    }
    table
};

/// `tchar` of RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
