//! Gives the one policy file its shape: what may be had, who may have it, what a request must show.
//!
//! These are the raw forms, as written. What they must fulfil together (names that exist, prefixes that are paths) is
//! checked where they are used: the broker builds its grants from them, the gate its routes.

use serde::{Deserialize, Serialize};

use crate::span::Span;

/// The policy file (TOML).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What may be had.
    #[serde(default)]
    pub audience: Vec<Audience>,
    /// Who may have it, and how much. No grant, no token.
    #[serde(default)]
    pub grant: Vec<Grant>,
    /// What a request must show, first match decides. No route, 403.
    #[serde(default)]
    pub route: Vec<Route>,
    /// How the filter reaches the broker and hands identities on.
    #[serde(default)]
    pub filter: FilterSettings,
}

/// A service for which tokens are minted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    /// The `aud` of its tokens: 1 to 255 visible ASCII characters.
    pub name: String,
    /// Longest life of a token, 15 minutes where absent. It never outlives the ticket, whatever stands here.
    #[serde(default = "fifteen_minutes")]
    pub ttl: Span,
}

const fn fifteen_minutes() -> Span {
    Span::FIFTEEN_MINUTES
}

/// A line that lets some principals have an audience. Lines add up; nothing takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Full principals, `alice@EXAMPLE.COM`, or `*@EXAMPLE.COM` for every principal of one component in that realm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<String>,
    /// The audience, by name.
    pub audience: String,
    /// Scopes that it gives (RFC 6749 §3.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// How a caller may prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// A Kerberos ticket, `Authorization: Negotiate` (RFC 4559).
    Negotiate,
    /// A token, `Authorization: Bearer` (RFC 6750).
    Bearer,
    /// A token in our `__Host-` cookie.
    Cookie,
}

/// Whether a route wants a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A credential of an accepted scheme that verifies, or a refusal.
    #[default]
    Required,
    /// Anybody; credentials are neither read nor forwarded.
    Open,
}

/// How a token minted on the way is handed back to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deliver {
    /// Not at all.
    #[default]
    None,
    /// In `x-kerbridge-token` and `x-kerbridge-token-expires-in` of the response.
    Header,
    /// In the audience's `__Host-` cookie.
    Cookie,
}

/// What a request must show to get through, for one host and one part of its paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What logs and the broker call it; `route-N` by position where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The host, without port, in any case; every host where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// This path and all below it, by whole segments. Exactly one of `path_prefix` and `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// This path and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Methods that it is for; every method where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Whether it wants a credential.
    #[serde(default)]
    pub access: Access,
    /// The accepted proofs; at least one where access is required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<Scheme>,
    /// The audience that a token must be for, and for which a ticket is exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Scopes that the token must all have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes_all: Vec<String>,
    /// How a minted token is handed back.
    #[serde(default)]
    pub deliver: Deliver,
    /// Whether the verified token goes upstream as `Authorization: Bearer`, the minted one where a ticket came.
    #[serde(default)]
    pub forward: bool,
    /// Takes credentials without TLS: only behind a trusted terminator, or in a lab on loopback.
    #[serde(default)]
    pub allow_insecure: bool,
}

/// The filter's side of the policy: names that must agree with the Envoy configuration around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSettings {
    /// The Envoy cluster behind which the broker's mesh listener is.
    #[serde(default = "broker_cluster")]
    pub cluster: String,
    /// How long the filter waits for an exchange.
    #[serde(default = "two_seconds")]
    pub timeout: Span,
    /// How often each worker asks for the broker's keys.
    #[serde(default = "two_seconds")]
    pub poll: Span,
    /// How old the last answer may be before tokens are refused with 503.
    #[serde(default = "five_minutes")]
    pub max_staleness: Span,
    /// How far in the future `nbf` and `iat` may lie, in seconds; `exp` gets no leeway.
    #[serde(default = "sixty")]
    pub clock_skew_seconds: u32,
    /// Header that names the caller to the upstream.
    #[serde(default = "subject_header")]
    pub subject_header: String,
    /// Header that lists the caller's scopes, separated by spaces.
    #[serde(default = "scope_header")]
    pub scope_header: String,
}

impl Default for FilterSettings {
    fn default() -> Self {
        Self {
            cluster: broker_cluster(),
            timeout: two_seconds(),
            poll: two_seconds(),
            max_staleness: five_minutes(),
            clock_skew_seconds: sixty(),
            subject_header: subject_header(),
            scope_header: scope_header(),
        }
    }
}

pub(crate) fn broker_cluster() -> String {
    "kerbridge_broker".into()
}
pub(crate) const fn two_seconds() -> Span {
    Span::TWO_SECONDS
}
pub(crate) const fn five_minutes() -> Span {
    Span::FIVE_MINUTES
}
pub(crate) const fn sixty() -> u32 {
    60
}
pub(crate) fn subject_header() -> String {
    "x-kerbridge-subject".into()
}
pub(crate) fn scope_header() -> String {
    "x-kerbridge-scope".into()
}
