//! Words of the one exchange endpoint, `POST /oauth2/token` (RFC 8693): request parameters, reply, error.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// Path of the exchange endpoint.
pub const TOKEN_PATH: &str = "/oauth2/token";
/// Path of the endpoint that says what a token says (RFC 7662).
pub const INTROSPECTION_PATH: &str = "/oauth2/introspect";
/// Path of the endpoint that takes one token back (RFC 7009).
pub const REVOCATION_PATH: &str = "/oauth2/revoke";
/// The scope of a token whose holder may take back anybody's.
pub const ADMIN_SCOPE: &str = "kerbridge:admin";
/// Path of the endpoint that ends the sessions of tokens; `mesh` only.
pub const LOGOUT_PATH: &str = "/v1/logout";
/// Most tokens whose sessions are ended at once: more than a browser keeps cookies of a host.
pub const LOGOUT_TOKENS: usize = 256;
/// Path of the published signing keys (RFC 7517 §5).
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
/// Path of the signed revocations.
pub const FEED_PATH: &str = "/v1/revocations";
/// Header line of the filter's calls with the client's address, as in [`parameter::SOURCE`]. The broker does not read it: Envoy may
/// choose by it which of several brokers is asked, so that both legs of a handshake come to one.
pub const SOURCE_HEADER: &str = "x-kerbridge-source";
/// The one grant type of the endpoint (RFC 8693 §2.1).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Token type of our JWTs (RFC 8693 §3).
pub const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Token type of a SPNEGO or Kerberos token in base64. The namespace is ours and not registered.
pub const NEGOTIATE_TOKEN_TYPE: &str = "urn:kerbridge:token-type:negotiate";
/// Any JWT, whoever issued it (RFC 8693 §3). Taken as a subject token only.
pub const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
/// An identity token of an OpenID provider (RFC 8693 §3). Taken as a subject token only.
pub const ID_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:id_token";
/// Claim of our tokens with the full principal, where `sub` is another name and a `[[delegation]]` or `[[exchange]]`
/// line is about the token's audience. A private name (RFC 7519 §4.3).
pub const PRINCIPAL_CLAIM: &str = "kerbridge_principal";
/// `token_type` of what is no access token (RFC 8693 §2.2.1).
pub const NO_TOKEN_TYPE: &str = "N_A";
/// Media type of the request body (RFC 6749 §4.4.2).
pub const FORM: &str = "application/x-www-form-urlencoded";
/// Media type of reply and error.
pub const JSON: &str = "application/json";
/// Media type of the key set (RFC 7517 §8.5.1).
pub const JWK_SET: &str = "application/jwk-set+json";
/// Longest Negotiate token taken, in characters of base64; a PAC-bearing ticket stays below it.
pub const NEGOTIATE_LIMIT: usize = 64 * 1024;

/// Names of the form parameters of the exchange, and of a logout. Those of the second group are `mesh` only: on `public` they are `invalid_request`.
pub mod parameter {
    /// [`super::GRANT_TYPE`].
    pub const GRANT_TYPE: &str = "grant_type";
    /// The credential to exchange.
    pub const SUBJECT_TOKEN: &str = "subject_token";
    /// What `subject_token` is.
    pub const SUBJECT_TOKEN_TYPE: &str = "subject_token_type";
    /// What is wanted; an access token where absent.
    pub const REQUESTED_TOKEN_TYPE: &str = "requested_token_type";
    /// The service for which it is wanted.
    pub const AUDIENCE: &str = "audience";
    /// Its address, in place of the audience or beside it (RFC 8707).
    pub const RESOURCE: &str = "resource";
    /// Scopes wanted, separated by spaces; all that the grants give where absent.
    pub const SCOPE: &str = "scope";

    /// At [`super::LOGOUT_PATH`]: the tokens whose sessions are to end, separated by single spaces.
    pub const TOKENS: &str = "tokens";

    /// Mesh only: the client's address, as Envoy trusts it.
    pub const SOURCE: &str = "source";
    /// Mesh only: the name by TLS server name indication, for channel binding.
    pub const SERVER_NAME: &str = "server_name";
    /// Mesh only: Envoy's request identifier.
    pub const REQUEST_ID: &str = "request_id";
    /// Mesh only: the name of the route that asked.
    pub const ROUTE: &str = "route";
    /// Mesh only: the client's certificate, as `x5t#S256` names it (RFC 8705 §3.1).
    pub const CERTIFICATE: &str = "certificate";
    /// Mesh only: [`super::ExchangeError::continuation`] of the first leg, with the second.
    pub const CONTINUATION: &str = "continuation";
}

/// Reply of a successful exchange (RFC 8693 §2.2.1). Unknown members are ignored.
#[derive(Clone, Serialize, Deserialize)]
pub struct ExchangeReply {
    /// The issued token.
    pub access_token: String,
    /// [`ACCESS_TOKEN_TYPE`] or [`NEGOTIATE_TOKEN_TYPE`].
    pub issued_token_type: String,
    /// `Bearer`, or `N_A` for a ticket.
    pub token_type: String,
    /// Life left, in seconds.
    pub expires_in: u64,
    /// Scopes granted, separated by spaces; empty where none. An empty one is not written (RFC 6749 §3.3).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The acceptor's reply token in base64, for mutual authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiate: Option<String>,
}

impl fmt::Debug for ExchangeReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            access_token: _,
            issued_token_type,
            token_type,
            expires_in,
            scope,
            negotiate,
        } = self;
        f.debug_struct("ExchangeReply")
            .field("access_token", &"[redacted]")
            .field("issued_token_type", issued_token_type)
            .field("token_type", token_type)
            .field("expires_in", expires_in)
            .field("scope", scope)
            .field("negotiate", &negotiate.as_ref().map(|_| "[redacted]"))
            .finish()
    }
}

/// Reply of a successful logout. Unknown members are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoutReply {
    /// How many sessions were ended; none where no token was one of this issuer that stands.
    pub sessions: u32,
}

/// `error` of an [`ExchangeError`] (RFC 6749 §5.2, RFC 8693 §2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OauthError {
    /// A parameter is missing, repeated, unknown or malformed.
    InvalidRequest,
    /// The caller did not authenticate.
    InvalidClient,
    /// The subject token is no good.
    InvalidGrant,
    /// The caller may not use this grant.
    UnauthorizedClient,
    /// Another grant type.
    UnsupportedGrantType,
    /// A scope that does not exist, or more than is granted.
    InvalidScope,
    /// An audience that does not exist or is not for this subject.
    InvalidTarget,
    /// The broker cannot at the moment (RFC 6749 §4.1.2.1 has the word).
    TemporarilyUnavailable,
}

/// Longest [`ExchangeError::continuation`] taken, in characters; ours have 22.
pub const CONTINUATION_LIMIT: usize = 64;

/// An error reply. All but the RFC's own members are on `mesh` only: on `public` they would be an oracle.
#[derive(Clone, Serialize, Deserialize)]
pub struct ExchangeError {
    /// The RFC's word.
    pub error: OauthError,
    /// What to do about it, for people; never what is inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
    /// The reason of the closed list. A word that this release does not know reads as `None`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_reason")]
    pub reason: Option<Reason>,
    /// The acceptor's error token in base64; with [`Reason::ContinueNeeded`] the token that the client is to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiate: Option<String>,
    /// With [`Reason::ContinueNeeded`]: the handle that the second leg is to bring back, to this broker, once, within 10 s.
    /// Base64url. Who has it can go on with the handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<String>,
}

fn known_reason<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Reason>, D::Error> {
    let word = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    Ok(word.and_then(|word| Reason::from_word(&word)))
}

impl fmt::Debug for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            error,
            error_description,
            reason,
            negotiate,
            continuation,
        } = self;
        f.debug_struct("ExchangeError")
            .field("error", error)
            .field("error_description", error_description)
            .field("reason", reason)
            .field("negotiate", &negotiate.as_ref().map(|_| "[redacted]"))
            .field("continuation", &continuation.as_ref().map(|_| "[redacted]"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_a_newer_broker_is_read() {
        let reply: ExchangeReply = serde_json::from_str(
            r#"{"access_token":"t","issued_token_type":"x","token_type":"Bearer","expires_in":5,"later":[1]}"#,
        )
        .unwrap();
        assert_eq!(reply.expires_in, 5);
        assert_eq!(reply.scope, "");
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            serde_json::json!({"access_token":"t","issued_token_type":"x","token_type":"Bearer","expires_in":5})
        );
        let error: ExchangeError =
            serde_json::from_str(r#"{"error":"invalid_grant","reason":"word_of_a_later_release"}"#).unwrap();
        assert_eq!(error.reason, None);
    }

    #[test]
    fn tokens_do_not_show_in_debug_output() {
        let reply = ExchangeReply {
            access_token: "canary-a".into(),
            issued_token_type: ACCESS_TOKEN_TYPE.into(),
            token_type: "Bearer".into(),
            expires_in: 1,
            scope: String::new(),
            negotiate: Some("canary-b".into()),
        };
        let error = ExchangeError {
            error: OauthError::InvalidGrant,
            error_description: None,
            reason: Some(Reason::Replay),
            negotiate: Some("canary-c".into()),
            continuation: Some("canary-d".into()),
        };
        assert!(!format!("{reply:?}{error:?}").contains("canary"));
    }
}
