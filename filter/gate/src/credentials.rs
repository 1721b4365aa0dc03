//! Finds the one credential of a request, or says what is wrong with what was shown (RFC 9110 §11.6.2, RFC 6750 §2).

use kerbridge_wire::Reason;
use kerbridge_wire::exchange::NEGOTIATE_LIMIT;
use kerbridge_wire::policy::Scheme;

use crate::jwt::compact::TOKEN_LIMIT;
use crate::request::RequestHead;
use crate::route::Proof;

/// The one credential of a request. Only [`Credentials::read`] makes one.
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
}

impl<'a> Credentials<'a> {
    /// Reads the credential that `proof` accepts. A header decides over our cookie.
    ///
    /// # Errors
    /// The reason of the closed list: a token in the query, several credentials, a value that is no credential, one
    /// over its limit, NTLM.
    pub fn read(head: &RequestHead<'a>, proof: &Proof) -> Result<Self, Reason> {
        if has_token_in_query(head.path()) {
            return Err(Reason::TokenInQuery);
        }
        let mut lines = head.headers.values(b"authorization");
        match (lines.next(), lines.next()) {
            (Some(_), Some(_)) => Err(Reason::MultipleCredentials),
            (Some(line), None) => Self::from_authorization(line, proof),
            (None, _) => Self::from_cookie(head, proof),
        }
    }

    fn from_authorization(line: &'a [u8], proof: &Proof) -> Result<Self, Reason> {
        let line = line.trim_ascii();
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (scheme, value) = line.split_at_checked(end).unwrap_or((line, b""));
        let value = value.trim_ascii_start();
        if scheme.is_empty() || !scheme.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Reason::MalformedCredentials);
        }
        if scheme.eq_ignore_ascii_case(b"bearer") {
            let token = token68(value, TOKEN_LIMIT)?;
            Ok(if proof.accepts(Scheme::Bearer) {
                Self::Bearer(token)
            } else {
                Self::None
            })
        } else if scheme.eq_ignore_ascii_case(b"negotiate") {
            let token = token68(value, NEGOTIATE_LIMIT)?;
            Ok(if proof.accepts(Scheme::Negotiate) {
                Self::Negotiate(token)
            } else {
                Self::None
            })
        } else if scheme.eq_ignore_ascii_case(b"ntlm") {
            Err(Reason::NtlmToken)
        } else if value.is_empty() {
            // A bare token without its scheme: to call it "no credentials" would hide the mistake.
            Err(Reason::MalformedCredentials)
        } else {
            Ok(Self::None)
        }
    }

    fn from_cookie(head: &RequestHead<'a>, proof: &Proof) -> Result<Self, Reason> {
        let Some(name) = proof.cookie() else {
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
        }
    }
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
    !body.is_empty()
        && body
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte))
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether the query has a parameter `access_token` (RFC 6750 §2.3), its name percent-encoded or not.
fn has_token_in_query(path: &[u8]) -> bool {
    let Some(at) = path.iter().position(|byte| *byte == b'?') else {
        return false;
    };
    let query = path.get(at.saturating_add(1)..).unwrap_or_default();
    query.split(|byte| matches!(byte, b'&' | b';' | b'?')).any(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        percent_decoded(name).eq_ignore_ascii_case(b"access_token")
    })
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match (byte, tail) {
            (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| (h << 4 | l, after)),
            _ => None,
        };
        let (decoded, after) = escaped.unwrap_or((byte, tail));
        out.push(decoded);
        rest = after;
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
