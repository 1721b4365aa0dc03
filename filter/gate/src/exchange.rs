//! Asks the broker to exchange a ticket for a token or a token for a ticket, and reads its answer as if a stranger had given it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kerbridge_wire::exchange::{
    ACCESS_TOKEN_TYPE, CONTINUATION_LIMIT, ExchangeError, ExchangeReply, GRANT_TYPE, LOGOUT_PATH, LogoutReply,
    NEGOTIATE_LIMIT, NEGOTIATE_TOKEN_TYPE, NO_TOKEN_TYPE, OauthError, TOKEN_PATH, parameter,
};
use kerbridge_wire::reason::ChallengeRule;
use kerbridge_wire::{Reason, Spn};

use crate::certificate::CertificateDigest;
use crate::config::{Broker, Endpoint};
use crate::continuation::is_later_leg;
use crate::credentials::is_token68;
use crate::gate::{Gate, Origin, Requirements};
use crate::refusal::{Asked, Refusal};
use crate::response::Minted;
use crate::secret::Secret;
use crate::session::PendingLogout;
use crate::step::Step;
use crate::time::UnixTime;

/// Largest answer that is read, in bytes.
pub const REPLY_LIMIT: usize = 256 * 1024;

/// A call to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerCall {
    /// Envoy cluster.
    pub cluster: String,
    /// `:authority`
    pub authority: String,
    /// `:path`
    pub path: &'static str,
    /// Milliseconds.
    pub timeout: u64,
    /// The form, with the ticket in it.
    pub body: Secret,
    /// The ticket is the second leg of a handshake: the handle that is kept for its connection goes along.
    pub is_second_leg: bool,
}

/// What is known of a client's connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection<'a> {
    /// The client's address as Envoy trusts it.
    pub source: &'a [u8],
    /// The name by TLS server name indication.
    pub server_name: &'a [u8],
    /// The handle that was kept for it.
    pub continuation: Option<&'a Secret>,
}

/// A request that waits for the broker. Consumed by the answer.
#[derive(Debug)]
pub struct PendingExchange {
    pub(crate) asked: Asked,
    pub(crate) requirements: Requirements,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerReply<'a> {
    /// The call could not be made, was reset, or nothing came.
    Nothing,
    /// An HTTP response; Envoy's own 503 and 504 look like one.
    Response {
        /// `:status`, where there was one.
        status: Option<&'a [u8]>,
        /// `content-type`, where there was one.
        content_type: Option<&'a [u8]>,
        /// The body, up to [`REPLY_LIMIT`] bytes and one.
        body: &'a [u8],
    },
}

/// What is wanted of the broker, and for what.
pub(crate) enum Wanted<'a> {
    /// A token for an audience, for a client's ticket.
    Token { ticket: &'a [u8], audience: &'a str },
    /// A ticket for a service, for a verified token.
    Ticket { token: &'a [u8], spn: &'a Spn },
}

impl<'a> Connection<'a> {
    /// Its address as a header line can carry it; `None` where there is none.
    pub fn source_line(&self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.source).ok()?;
        let is_a_line = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_a_line.then_some(text)
    }
}

impl BrokerCall {
    pub(crate) fn new(broker: &Broker, asked: &Asked, wanted: &Wanted<'_>) -> Self {
        let (at, subject, kind, requested, audience) = match *wanted {
            // An access token is what is wanted where nothing is said.
            Wanted::Token { ticket, audience } => (&broker.tokens, ticket, NEGOTIATE_TOKEN_TYPE, "", audience),
            Wanted::Ticket { token, spn } => {
                let requested = NEGOTIATE_TOKEN_TYPE;
                (&broker.tickets, token, ACCESS_TOKEN_TYPE, requested, spn.as_str())
            }
        };
        let own = [
            (parameter::GRANT_TYPE, GRANT_TYPE.as_bytes()),
            (parameter::SUBJECT_TOKEN_TYPE, kind.as_bytes()),
            (parameter::SUBJECT_TOKEN, subject),
            (parameter::REQUESTED_TOKEN_TYPE, requested.as_bytes()),
            (parameter::AUDIENCE, audience.as_bytes()),
        ];
        Self {
            is_second_leg: matches!(wanted, Wanted::Token { ticket, .. } if is_later_leg(ticket)),
            ..Self::to(at, asked, TOKEN_PATH, &own)
        }
    }

    /// A call to end the sessions of these tokens.
    pub(crate) fn log_out(broker: &Broker, asked: &Asked, tokens: &[&[u8]]) -> Self {
        let tokens = tokens.join(b" ".as_slice());
        Self::to(&broker.tokens, asked, LOGOUT_PATH, &[(parameter::TOKENS, &tokens)])
    }

    fn to(at: &Endpoint, asked: &Asked, path: &'static str, own: &[(&str, &[u8])]) -> Self {
        let route = asked.route.as_ref().map_or("", |route| route.name());
        let certificate = asked.certificate.as_ref().map(CertificateDigest::to_string);
        let certificate = certificate.unwrap_or_default();
        let room = own
            .iter()
            .fold(512_usize, |room, (_, value)| room.saturating_add(value.len()));
        let mut form = Vec::with_capacity(room);
        let ours = [
            (parameter::REQUEST_ID, asked.request_id().as_bytes()),
            (parameter::ROUTE, route.as_bytes()),
            (parameter::CERTIFICATE, certificate.as_bytes()),
        ];
        for (name, value) in own.iter().chain(&ours) {
            add_parameter(&mut form, name, value);
        }
        Self {
            cluster: at.cluster.to_string(),
            authority: at.authority.to_string(),
            path,
            timeout: u64::from(at.timeout).saturating_mul(1000),
            body: Secret::new(form),
            is_second_leg: false,
        }
    }

    /// The form to send: the call's own and what is known of the connection. It is asked of the host here only: other requests
    /// need none of it.
    pub fn form(&self, connection: &Connection<'_>) -> Vec<u8> {
        let Connection {
            source,
            server_name,
            continuation,
        } = connection;
        let mut form = self.body.expose().to_vec();
        add_parameter(&mut form, parameter::SOURCE, source);
        add_parameter(&mut form, parameter::SERVER_NAME, server_name);
        if let Some(handle) = continuation.filter(|_| self.is_second_leg) {
            add_parameter(&mut form, parameter::CONTINUATION, handle.expose());
        }
        form
    }
}

/// Adds one parameter; an empty one says nothing and is left out.
fn add_parameter(form: &mut Vec<u8>, name: &str, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    if !form.is_empty() {
        form.push(b'&');
    }
    form.extend(name.as_bytes());
    form.push(b'=');
    form_encode(value, form);
}

/// `application/x-www-form-urlencoded`: what is not a letter, digit or `-._~` becomes `%XX`.
fn form_encode(value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// What waits for the broker. Consumed by its answer.
#[derive(Debug)]
pub enum PendingCall {
    /// A request that a ticket is to let through.
    Exchange(PendingExchange),
    /// A browser that logs out.
    Logout(PendingLogout),
}

impl PendingCall {
    /// Goes on with the broker's answer.
    pub fn resume(self, gate: &mut Gate, now: UnixTime, reply: BrokerReply<'_>) -> Step {
        match self {
            Self::Exchange(pending) => pending.resume(gate, now, reply),
            Self::Logout(pending) => pending.resume(reply),
        }
    }
}

impl PendingExchange {
    /// Goes on with the broker's answer. Its word alone opens nothing: a token is verified like any other.
    pub fn resume(self, gate: &mut Gate, now: UnixTime, reply: BrokerReply<'_>) -> Step {
        let asked = self.asked.by_ticket();
        match read_reply(reply) {
            Ok(minted) => gate.judge_token(asked, self.requirements, now, Origin::Exchanged(minted)),
            Err(refusal) => asked.refuse(refusal),
        }
    }
}

/// The token and the reply token of an answer; whatever is not the broker's is nobody's.
fn read_reply(reply: BrokerReply<'_>) -> Result<Minted, Refusal> {
    let reply = match read(reply, ACCESS_TOKEN_TYPE, "bearer")? {
        Ok(reply) => reply,
        Err(error) => {
            let reason = reason_of(&error, is_of_an_exchange);
            let secret = |text: String| Secret::new(text.into_bytes());
            let negotiate = error.negotiate.filter(|token| is_token68(token.as_bytes()));
            let continuation = error
                .continuation
                .filter(|handle| reason == Reason::ContinueNeeded && handle.len() <= CONTINUATION_LIMIT);
            return Err(Refusal {
                reason,
                because: None,
                negotiate: negotiate.map(secret),
                continuation: continuation.map(secret),
            });
        }
    };
    let negotiate = reply.negotiate.filter(|token| !token.is_empty());
    if !is_token68(reply.access_token.as_bytes()) || !negotiate.as_deref().is_none_or(|t| is_token68(t.as_bytes())) {
        return Err(Reason::BrokerUnavailable.into());
    }
    Ok(Minted {
        token: Secret::new(reply.access_token.into_bytes()),
        negotiate: negotiate.map(|token| Secret::new(token.into_bytes())),
    })
}

/// The ticket of an answer: the base64 of one finished GSSAPI token (RFC 2743 §3.1), as `Negotiate` takes it.
pub(crate) fn read_ticket(reply: BrokerReply<'_>) -> Result<Secret, Reason> {
    let ticket = match read(reply, NEGOTIATE_TOKEN_TYPE, NO_TOKEN_TYPE)? {
        Ok(reply) => reply.access_token.into_bytes(),
        Err(error) => return Err(reason_of(&error, is_of_a_delegation)),
    };
    let is_token = |token: Vec<u8>| token.first() == Some(&0x60);
    if ticket.len() <= NEGOTIATE_LIMIT && STANDARD.decode(&ticket).is_ok_and(is_token) {
        Ok(Secret::new(ticket))
    } else {
        Err(Reason::BrokerUnavailable)
    }
}

/// Whether the sessions of a logout were ended; otherwise a reason of which the fault is ours, or too many requests.
pub(crate) fn read_logout(reply: BrokerReply<'_>) -> Result<(), Reason> {
    match words(reply)? {
        Ok(body) => match serde_json::from_slice(body) {
            Ok(LogoutReply { sessions: _ }) => Ok(()),
            Err(_) => Err(Reason::BrokerUnavailable),
        },
        Err(error) => Err(Some(reason_of(&error, is_of_a_logout))
            .filter(|reason| is_of_a_logout(*reason))
            .unwrap_or(Reason::BrokerUnavailable)),
    }
}

/// The broker's words about an exchange, of a kind that was asked for.
fn read(reply: BrokerReply<'_>, issued: &str, kind: &str) -> Result<Result<ExchangeReply, ExchangeError>, Reason> {
    let nonsense = Reason::BrokerUnavailable;
    let body = match words(reply)? {
        Ok(body) => body,
        Err(error) => return Ok(Err(error)),
    };
    let reply: ExchangeReply = serde_json::from_slice(body).map_err(|_| nonsense)?;
    if reply.issued_token_type != issued || !reply.token_type.eq_ignore_ascii_case(kind) {
        return Err(nonsense);
    }
    Ok(Ok(reply))
}

/// The JSON of an answer of the broker's, or its error. What does not come from a broker is its absence.
fn words(reply: BrokerReply<'_>) -> Result<Result<&[u8], ExchangeError>, Reason> {
    let nonsense = Reason::BrokerUnavailable;
    let BrokerReply::Response {
        status: Some(status),
        content_type,
        body,
    } = reply
    else {
        return Err(nonsense);
    };
    if body.len() > REPLY_LIMIT || !content_type.is_some_and(is_json) {
        return Err(nonsense);
    }
    if status == b"200" {
        Ok(Ok(body))
    } else {
        serde_json::from_slice(body).map(Err).map_err(|_| nonsense)
    }
}

/// The reason to answer the client with. The broker's is taken where it is one that an exchange can have; a mistake in
/// what the filter asked is our own fault, and a reason of a later release is a refusal by policy.
fn reason_of(error: &ExchangeError, is_possible: fn(Reason) -> bool) -> Reason {
    match (error.error, error.reason) {
        (OauthError::InvalidGrant | OauthError::InvalidTarget | OauthError::TemporarilyUnavailable, Some(reason))
            if is_possible(reason) =>
        {
            reason
        }
        (OauthError::InvalidGrant, _) => Reason::DeniedByPolicy,
        (OauthError::TemporarilyUnavailable, _) => Reason::BrokerUnavailable,
        (
            OauthError::InvalidRequest
            | OauthError::InvalidClient
            | OauthError::UnauthorizedClient
            | OauthError::UnsupportedGrantType
            | OauthError::InvalidScope
            | OauthError::InvalidTarget,
            _,
        ) => Reason::Internal,
    }
}

fn is_of_an_exchange(reason: Reason) -> bool {
    match reason.challenge() {
        ChallengeRule::Others | ChallengeRule::Negotiate => true,
        ChallengeRule::None => matches!(reason.status(), 403 | 429 | 503) || reason == Reason::MalformedCredentials,
        // Of what is wrong with tokens only this can be wrong with a ticket, too.
        ChallengeRule::InvalidToken => reason == Reason::Revoked,
        ChallengeRule::Every | ChallengeRule::InsufficientScope => false,
    }
}

/// What can become of a token that is to be a ticket: it is no good any more, or no ticket is to be had.
fn is_of_a_delegation(reason: Reason) -> bool {
    match reason.challenge() {
        ChallengeRule::InvalidToken => true,
        ChallengeRule::None => matches!(reason.status(), 403 | 429 | 503),
        ChallengeRule::Every | ChallengeRule::InsufficientScope | ChallengeRule::Others | ChallengeRule::Negotiate => {
            false
        }
    }
}

/// What can become of a logout: it is done, or not now.
fn is_of_a_logout(reason: Reason) -> bool {
    matches!(reason.status(), 429 | 503)
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}
