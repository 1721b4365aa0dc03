//! Reads a token request (RFC 8693 §2.1): every parameter once, each within its bound; one that nobody knows is ignored
//! (RFC 6749 §3.2), one that would change what is asked for is not.

mod error;
mod fields;

use kerbridge_wire::exchange::{
    ACCESS_TOKEN_TYPE, GRANT_TYPE, ID_TOKEN_TYPE, JWT_TYPE, LOGOUT_TOKENS, NEGOTIATE_TOKEN_TYPE, parameter,
};
use zeroize::Zeroizing;

pub use self::error::RequestError;
pub use self::fields::Hints;

use self::fields::{Form, bounded, read};
use super::target::Target;
use crate::client_assertion::ClientClaim;
use crate::config::ListenerName;
use crate::policy::Scopes;

/// A request that is well-formed. Its subject token is not yet looked at.
pub enum ExchangeRequest {
    /// A ticket for a token.
    ToToken(ToToken),
    /// A token for a ticket.
    ToTicket(ToTicket),
    /// A token for another token.
    Trade(Trade),
}

/// A request for a token.
pub struct ToToken {
    /// The base64 of the Negotiate header.
    pub(super) subject_token: Zeroizing<String>,
    /// The handle of the handshake whose second leg it is.
    pub(super) continuation: Option<Zeroizing<String>>,
    /// The service for which a token is wanted.
    pub(super) target: Target,
    /// The scopes wanted; all that are granted where absent.
    pub(super) scope: Option<Scopes>,
}

/// A request for a token of another audience.
pub struct Trade {
    /// The token that is shown.
    pub(super) subject_token: Zeroizing<String>,
    /// The service for which a token is wanted.
    pub(super) target: Target,
    /// The scopes wanted; all that are left where absent.
    pub(super) scope: Option<Scopes>,
}

/// A request for a ticket.
pub struct ToTicket {
    /// The token of who is to be acted for.
    pub(super) subject_token: Zeroizing<String>,
    /// The service, by its principal.
    pub(super) target: String,
}

/// A request to say what a token says (RFC 7662 §2.1).
pub(super) struct IntrospectionRequest {
    /// The token.
    pub(super) token: Zeroizing<String>,
}

/// A request to take a token back.
pub(super) struct RevocationRequest {
    pub(super) token: Zeroizing<String>,
}

/// A request to end sessions.
pub(super) struct LogoutRequest {
    /// Tokens of them, 1 to [`LOGOUT_TOKENS`].
    pub(super) tokens: Vec<Zeroizing<String>>,
}

impl ExchangeRequest {
    /// Reads a form body that came through this listener: what the mesh says of the client, what the client says of itself, and
    /// what it wants. The first two are there for a bad request too, unless it is no form.
    pub fn read(body: &[u8], listener: ListenerName) -> (Hints, ClientClaim, Result<Self, RequestError>) {
        read(body, listener, Self::build)
    }

    fn build(mut form: Form) -> Result<Self, RequestError> {
        match form.take(parameter::GRANT_TYPE)? {
            None => return Err(RequestError::NoGrantType),
            Some(grant_type) if *grant_type != GRANT_TYPE => return Err(RequestError::GrantType),
            Some(_) => {}
        }
        let shown = form.take(parameter::SUBJECT_TOKEN_TYPE)?;
        let wanted = form.take(parameter::REQUESTED_TOKEN_TYPE)?;
        let wanted = wanted.as_ref().map_or(ACCESS_TOKEN_TYPE, |kind| kind.as_str());
        match (shown.as_ref().map(|kind| kind.as_str()), wanted) {
            (Some(NEGOTIATE_TOKEN_TYPE), ACCESS_TOKEN_TYPE) => ToToken::build(form).map(Self::ToToken),
            (Some(ACCESS_TOKEN_TYPE), NEGOTIATE_TOKEN_TYPE) => ToTicket::build(form).map(Self::ToTicket),
            // What it is called changes nothing: `typ` decides, by what its issuer may write.
            (Some(ACCESS_TOKEN_TYPE | JWT_TYPE | ID_TOKEN_TYPE), ACCESS_TOKEN_TYPE) => {
                Trade::build(form).map(Self::Trade)
            }
            (Some(NEGOTIATE_TOKEN_TYPE | ACCESS_TOKEN_TYPE), _) => Err(RequestError::RequestedTokenType),
            (Some(_) | None, NEGOTIATE_TOKEN_TYPE) => Err(RequestError::SubjectTokenTypeOfTicket),
            (Some(_) | None, _) => Err(RequestError::SubjectTokenType),
        }
    }
}

impl ToToken {
    fn build(mut form: Form) -> Result<Self, RequestError> {
        let scope = form.take(parameter::SCOPE)?.map(|text| text.parse()).transpose();
        let subject_token = form.take(parameter::SUBJECT_TOKEN)?;
        let continuation = form.take(parameter::CONTINUATION)?;
        Ok(Self {
            subject_token: subject_token.ok_or(RequestError::NoSubjectToken)?,
            continuation,
            target: form.take_target()?,
            scope: scope.map_err(|_| RequestError::Scope)?,
        })
    }
}

impl Trade {
    fn build(mut form: Form) -> Result<Self, RequestError> {
        if form.has(parameter::CONTINUATION) {
            return Err(RequestError::NoHandshake);
        }
        let scope = form.take(parameter::SCOPE)?.map(|text| text.parse()).transpose();
        let subject_token = form.take(parameter::SUBJECT_TOKEN)?;
        Ok(Self {
            subject_token: subject_token.ok_or(RequestError::NoSubjectToken)?,
            target: form.take_target()?,
            scope: scope.map_err(|_| RequestError::Scope)?,
        })
    }
}

impl ToTicket {
    fn build(mut form: Form) -> Result<Self, RequestError> {
        if form.has(parameter::SCOPE) || form.has(parameter::CONTINUATION) {
            return Err(RequestError::NotForTickets);
        }
        if form.has(parameter::RESOURCE) {
            return Err(RequestError::Resource);
        }
        let subject_token = form.take(parameter::SUBJECT_TOKEN)?;
        let audience = form.take(parameter::AUDIENCE)?;
        Ok(Self {
            subject_token: subject_token.ok_or(RequestError::NoSubjectToken)?,
            target: bounded(audience)?.ok_or(RequestError::NoAudience)?,
        })
    }
}

impl IntrospectionRequest {
    /// Reads a form body that came through this listener. `token_type_hint` and what nobody knows are ignored.
    pub(super) fn read(body: &[u8], listener: ListenerName) -> (ClientClaim, Result<Self, RequestError>) {
        let (_, claim, token) = read(body, listener, token_of);
        (claim, token.map(|token| Self { token }))
    }
}

impl RevocationRequest {
    /// Reads a form body that came through this listener, as [`ExchangeRequest::read`] does. `token_type_hint` and what nobody
    /// knows are ignored (RFC 7009 §2.1).
    pub(super) fn read(body: &[u8], listener: ListenerName) -> (Hints, ClientClaim, Result<Self, RequestError>) {
        let (hints, claim, token) = read(body, listener, token_of);
        (hints, claim, token.map(|token| Self { token }))
    }
}

impl LogoutRequest {
    /// Reads a form body that came through this listener. Who asks is known by the connection.
    pub(super) fn read(body: &[u8], listener: ListenerName) -> (Hints, Result<Self, RequestError>) {
        let (hints, _, request) = read(body, listener, |mut form| {
            let tokens = form.take(parameter::TOKENS)?.ok_or(RequestError::Tokens)?;
            let tokens: Vec<_> = tokens
                .split(' ')
                .map(|token| Zeroizing::new(token.to_owned()))
                .collect();
            let fit = tokens.len() <= LOGOUT_TOKENS && tokens.iter().all(|token| !token.is_empty());
            if fit {
                Ok(Self { tokens })
            } else {
                Err(RequestError::Tokens)
            }
        });
        (hints, request)
    }
}

fn token_of(mut form: Form) -> Result<Zeroizing<String>, RequestError> {
    form.take("token")?.ok_or(RequestError::NoToken)
}

#[cfg(test)]
mod tests;
