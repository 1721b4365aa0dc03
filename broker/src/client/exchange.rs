//! Asks the broker for a token, by a ticket (RFC 8693), and has one taken back (RFC 7009).

use std::fmt;

use kerbridge_gss::Principal;
use kerbridge_wire::exchange::{
    ACCESS_TOKEN_TYPE, ExchangeError, ExchangeReply, GRANT_TYPE, NEGOTIATE_TOKEN_TYPE, OauthError, parameter,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::address::Address;
use super::https::{Answer, Https, Question, form};
use super::ticket::{Service, Tickets};
use super::trouble::{Kind, Trouble};
use crate::channel_bindings::bindings_of;

/// An access token, which only itself shows: of the characters that RFC 6750 §2.1 gives it, so that it is whole in a header.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// Longest that is taken, in bytes.
    const LONGEST: usize = 64 * 1024;

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BearerToken {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if text.is_empty() || text.len() > Self::LONGEST || !text.bytes().all(is_plain) {
            return Err("not a bearer token");
        }
        Ok(Self(Zeroizing::new(text)))
    }
}

impl From<BearerToken> for String {
    fn from(token: BearerToken) -> Self {
        token.0.as_str().to_owned()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken([redacted])")
    }
}

/// For which service, in the broker's words.
pub(super) enum For<'a> {
    /// By its address (RFC 8707).
    Resource(&'a str),
    /// By its name.
    Audience(&'a str),
}

impl For<'_> {
    const fn field(&self) -> (&'static str, &str) {
        match self {
            Self::Resource(name) => (parameter::RESOURCE, name),
            Self::Audience(name) => (parameter::AUDIENCE, name),
        }
    }
}

/// What is asked for.
pub(super) struct Wish<'a> {
    pub(super) service: &'a Service,
    pub(super) target: For<'a>,
    /// None: all that the policy gives.
    pub(super) scopes: &'a [String],
    /// Whether the ticket is good on this connection only.
    pub(super) bound: bool,
}

/// What was given.
pub(super) struct Given {
    pub(super) token: BearerToken,
    pub(super) seconds: u64,
    pub(super) scope: String,
}

/// Shows a ticket, and takes the token of the answer once the broker has proven itself as well.
pub(super) fn ask(https: &Https, at: &Address, tickets: &Tickets, wish: &Wish<'_>) -> Result<Given, Trouble> {
    let connection = https.connect(at)?;
    // Certificates that name no hash function bind to nothing (RFC 5929 §4.1).
    let bindings = wish.bound.then(|| bindings_of(connection.certificate()).ok()).flatten();
    let is_bound = bindings.is_some();
    let proof = tickets.prove(wish.service, at, bindings)?;
    let scope = wish.scopes.join(" ");
    let (name, target) = wish.target.field();
    let mut fields = vec![
        (parameter::GRANT_TYPE, GRANT_TYPE),
        (parameter::SUBJECT_TOKEN_TYPE, NEGOTIATE_TOKEN_TYPE),
        (parameter::REQUESTED_TOKEN_TYPE, ACCESS_TOKEN_TYPE),
        (name, target),
        (parameter::SUBJECT_TOKEN, proof.token.as_str()),
    ];
    if !scope.is_empty() {
        fields.push((parameter::SCOPE, scope.as_str()));
    }
    let question = Question::Post {
        form: form(&fields),
        bearer: None,
    };
    let answer = connection.ask(&question)?;
    if answer.status != 200 {
        return Err(refused(&answer, at, tickets.principal(), target, is_bound));
    }
    let reply: ExchangeReply =
        serde_json::from_slice(&answer.body).map_err(|error| not_understood(at, &error.to_string()))?;
    let ExchangeReply {
        access_token,
        issued_token_type: _,
        token_type,
        expires_in,
        scope,
        negotiate,
    } = reply;
    if !token_type.eq_ignore_ascii_case("bearer") {
        return Err(not_understood(at, "the token is no bearer token"));
    }
    if !is_scope(&scope) {
        return Err(not_understood(at, "its scopes are none"));
    }
    let token = BearerToken::try_from(access_token).map_err(|error| not_understood(at, error))?;
    if !proof.answered_by(negotiate.as_deref()) {
        return Err(Trouble::new(
            Kind::ServerNotProven,
            format!("{at} did not prove that it has the service's key: its token is thrown away"),
            "tell whoever runs it: something between you and the broker answers for it",
        ));
    }
    Ok(Given {
        token,
        seconds: expires_in,
        scope,
    })
}

/// Whether a text is scopes (RFC 6749 §3.3), which are shown on a terminal; empty where there is none.
fn is_scope(text: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte);
    text.bytes().all(is_plain)
}

/// Has a token taken back by showing it.
pub(super) fn revoke(https: &Https, at: &Address, token: &BearerToken) -> Result<(), Trouble> {
    let question = Question::Post {
        form: form(&[("token", token.as_str())]),
        bearer: Some(token.as_str()),
    };
    taken_back(https.connect(at)?.ask(&question)?.status, at)
}

/// A token that was taken back before, or has ended, is answered as one that is now (RFC 7009 §2.2).
fn taken_back(status: u16, at: &Address) -> Result<(), Trouble> {
    if status == 200 {
        return Ok(());
    }
    Err(Trouble::new(
        Kind::NotRevoked,
        format!("{at} did not take the token back: the answer is {status}"),
        "it ends by itself; kerbridge revoke at the broker ends it now",
    ))
}

fn not_understood(at: &Address, why: &str) -> Trouble {
    Trouble::new(
        Kind::AnswerNotUnderstood,
        format!("the answer of {at} is not understood: {why}"),
        "check the address: it is to be a kerbridge broker's listen.public",
    )
}

fn refused(answer: &Answer, at: &Address, who: &Principal, target: &str, bound: bool) -> Trouble {
    let Ok(said) = serde_json::from_slice::<ExchangeError>(&answer.body) else {
        let problem = format!("{at} answers {}, and not as a broker does", answer.status);
        let kind = if answer.status >= 500 {
            Kind::BrokerUnavailable
        } else {
            Kind::AnswerNotUnderstood
        };
        return Trouble::new(kind, problem, "check the address, and the broker's log");
    };
    let advice = said
        .error_description
        .map(|advice| format!(" ({advice})"))
        .unwrap_or_default();
    match said.error {
        OauthError::InvalidTarget => Trouble::new(
            Kind::Denied,
            format!("the broker gives {who} no token for {target}: there is no such service, or no grant{advice}"),
            "ask whoever runs it for a grant; kerbridge policy explain at the broker says what is missing",
        ),
        OauthError::InvalidScope => Trouble::new(
            Kind::Denied,
            format!("the broker gives {who} not all of these scopes for {target}{advice}"),
            "ask for fewer with --scope, or leave it out to get all that are granted",
        ),
        OauthError::TemporarilyUnavailable => {
            let when = answer.retry_after.as_ref();
            let when = when.map_or_else(String::new, |seconds| format!(" in {seconds} s"));
            Trouble::new(
                Kind::BrokerUnavailable,
                format!("the broker cannot give a token now{advice}"),
                format!("try again{when}"),
            )
        }
        OauthError::InvalidRequest | OauthError::InvalidGrant => Trouble::new(
            Kind::TicketRefused,
            format!("the broker does not take the ticket of {who}{advice}"),
            format!(
                "the broker's log says why: its realm is not accepted, the ticket is about to end, a clock is wrong{}",
                if bound {
                    ", or something between takes TLS off (then --no-channel-binding)"
                } else {
                    ""
                }
            ),
        ),
        OauthError::InvalidClient | OauthError::UnauthorizedClient | OauthError::UnsupportedGrantType => Trouble::new(
            Kind::Denied,
            format!("the broker gives nothing for a ticket alone{advice}"),
            "ask whoever runs it how clients get tokens there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(status: u16, body: &str) -> Trouble {
        let answer = Answer {
            status,
            challenges: Vec::new(),
            retry_after: Some("3".to_owned()),
            body: body.into(),
        };
        let at = Address::parse("https://broker.example.com/oauth2/token").unwrap();
        let alice = Principal::parse("alice@LAB.TEST").unwrap();
        refused(&answer, &at, &alice, "orders", true)
    }

    #[test]
    fn each_error_of_the_broker_has_a_line_with_a_remedy() {
        for (status, error, kind, words) in [
            (400, "invalid_target", Kind::Denied, "policy explain"),
            (400, "invalid_scope", Kind::Denied, "--scope"),
            (400, "invalid_request", Kind::TicketRefused, "--no-channel-binding"),
            (401, "invalid_client", Kind::Denied, "ask whoever runs it"),
            (503, "temporarily_unavailable", Kind::BrokerUnavailable, "again in 3 s"),
            (429, "temporarily_unavailable", Kind::BrokerUnavailable, "again in 3 s"),
        ] {
            let trouble = trouble(status, &format!(r#"{{"error":"{error}"}}"#));
            assert_eq!(trouble.kind, kind, "{error}");
            assert!(trouble.remedy.contains(words), "{trouble}");
        }
        for (status, body, kind) in [
            (502, "<html>", Kind::BrokerUnavailable),
            (404, "", Kind::AnswerNotUnderstood),
        ] {
            let trouble = trouble(status, body);
            assert_eq!(trouble.kind, kind, "{body}");
            assert!(trouble.remedy.contains("check the address"), "{trouble}");
        }
    }

    #[test]
    fn a_token_is_taken_back_where_the_broker_says_so_alone() {
        let at = Address::parse("https://broker.example.com/oauth2/revoke").unwrap();
        assert!(taken_back(200, &at).is_ok());
        for status in [204, 302, 401, 404, 503] {
            assert_eq!(taken_back(status, &at).unwrap_err().kind, Kind::NotRevoked, "{status}");
        }
    }

    #[test]
    fn scopes_move_no_cursor() {
        for (text, good) in [
            ("", true),
            ("orders:read a/b", true),
            ("a\u{1b}[2J", false),
            ("a\nb", false),
            ("\u{e6}", false),
        ] {
            assert_eq!(is_scope(text), good, "{text:?}");
        }
    }

    #[test]
    fn a_token_is_whole_in_a_header_and_does_not_show_itself() {
        let token = BearerToken::try_from("aA0-._~+/=".to_owned()).unwrap();
        assert_eq!(token.as_str(), "aA0-._~+/=");
        assert_eq!(format!("{token:?}"), "BearerToken([redacted])");
        for text in ["", "a b", "a\nb", "a\"b", "a\\b", "\u{e6}"] {
            assert!(BearerToken::try_from(text.to_owned()).is_err(), "{text:?}");
        }
        assert!(BearerToken::try_from("a".repeat(BearerToken::LONGEST + 1)).is_err());
    }
}
