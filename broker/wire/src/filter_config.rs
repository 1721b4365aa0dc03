//! Gives the filter's configuration its shape: the JSON inside Envoy's `google.protobuf.StringValue`.
//!
//! It is rendered from the policy file by `kerbridge policy render`; written by hand it works as well. The gate turns
//! it into a configuration that cannot be wrong, or says all that is wrong with it.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use std::collections::BTreeMap;

use crate::policy::{Route, Upstream, broker_cluster, five_minutes, is_default, sixty, two_seconds};
use crate::span::Span;

/// The whole configuration of one filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// Whose tokens are taken; 1 to 100.
    pub issuers: Vec<IssuerConfig>,
    /// Where tickets are exchanged; absent where no route accepts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerConfig>,
    /// What requests must show, first match decides; 1 to 10,000.
    pub routes: Vec<Route>,
    /// Names of the headers that tell the upstream who calls.
    #[serde(default)]
    pub identity_headers: IdentityHeaders,
    /// A header in which tokens are taken too, by routes that accept `header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_header: Option<TokenHeader>,
    /// Bounds of each worker's memory of verified tokens.
    #[serde(default, skip_serializing_if = "is_default")]
    pub token_cache: TokenCacheConfig,
    /// Whether the outcome is written to filter state, for RBAC and access logs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filter_state: bool,
    /// Says that the listener refuses header names with underscores (`headers_with_underscores_action: REJECT_REQUEST`), so
    /// that a header that an upstream could read as one of ours cannot come. Known tokens are then passed without reading
    /// every header.
    #[serde(default, skip_serializing_if = "is_default")]
    pub underscores_rejected: bool,
    /// Who may ask for the decision in a response header; nobody where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<ExplainConfig>,
    /// By audience: the address of its service, for clients that look for where its tokens come from (RFC 9728).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, String>,
    /// Where browsers log out and in again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub logout: LogoutConfig,
    /// Whether clients' certificates are looked at, so that tokens which are bound to one (RFC 8705) can be taken. Where they are
    /// not, such tokens are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub certificate_bound: bool,
    /// `Retry-After` of our own faults.
    #[serde(default = "five_seconds")]
    pub retry_after: Span,
}

impl FilterConfig {
    /// Reads it from JSON, strictly: an unknown or ill-typed member is an error at its line and column.
    ///
    /// # Errors
    /// The reader's, for the first place where the text departs from the shape.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }
}

/// The configuration of the filter of one cluster, which is a Kerberos service. What else it needs it has from the filter that
/// let the request through, in the same VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamFilterConfig {
    /// The service, in the words of the routes that lead to it.
    pub upstream: Upstream,
}

impl UpstreamFilterConfig {
    /// Reads it from JSON, strictly.
    ///
    /// # Errors
    /// The reader's, for the first place where the text departs from the shape.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }
}

/// Signature algorithms that an issuer may be pinned to (RFC 7518 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSASSA-PSS with SHA-256 and MGF1.
    #[serde(rename = "PS256")]
    Ps256,
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every algorithm, in the order of the documents.
    pub const ALL: &'static [Self] = &[
        Self::Es256,
        Self::Es384,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::EdDsa,
    ];

    /// The `alg` of a token (RFC 7518 §3.1, RFC 8037 §3.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// One issuer of tokens. The first that the broker is, or one of somebody else's, such as an OpenID provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Exactly the `iss` of its tokens.
    pub issuer: String,
    /// What statistics call it: 1 to 64 of letters, digits, `_`, `-`; `issuer-N` by position where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which audiences of the routes it may vouch for, each with the `aud` values that stand for it; itself where the list
    /// is empty. The broker's issuer vouches for every audience under its own name and needs none here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub audiences: BTreeMap<String, Vec<String>>,
    /// Algorithms taken from it; a key's own type must agree.
    #[serde(default = "es256")]
    pub algorithms: Vec<Algorithm>,
    /// Values of `typ` that its tokens may have, in any case; `""` stands for none. An OpenID provider's `JWT` does not
    /// tell access tokens from identity tokens: then the audience must.
    #[serde(default = "access_token_type", skip_serializing_if = "is_default_types")]
    pub types: Vec<String>,
    /// Where its keys are.
    pub jwks: JwksConfig,
    /// Where its revocations are; without it none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<FeedConfig>,
    /// How far in the future `nbf` and `iat` may lie, 0 to 300 s.
    #[serde(default = "sixty")]
    pub clock_skew_seconds: u32,
    /// How long after `exp` a token is still taken, 0 to 300 s; 0 for the broker's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expiry_skew_seconds: u32,
    /// Longest time from `iat` to `exp`; unbounded where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Span>,
    /// The claim with the scopes, a text or a list: its name or a JSON pointer (RFC 6901).
    #[serde(default = "scope_claim", skip_serializing_if = "is_default_scope_claim")]
    pub scope_claim: String,
    /// The claim with the groups, a list: its name or a JSON pointer (RFC 6901).
    #[serde(default = "groups_claim", skip_serializing_if = "is_default_groups_claim")]
    pub groups_claim: String,
}

/// Where an issuer's keys come from: a cluster, or this configuration, or this configuration until the cluster answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwksConfig {
    /// Envoy cluster to fetch them from; without one the inline keys are all there is, and never grow stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// `:authority` of the fetch.
    #[serde(default = "authority")]
    pub authority: String,
    /// Path of the fetch.
    #[serde(default = "jwks_path")]
    pub path: String,
    /// How often they are fetched.
    #[serde(default = "two_seconds")]
    pub poll: Span,
    /// How old the last good answer may be before this issuer's tokens are refused with 503.
    #[serde(default = "five_minutes")]
    pub max_staleness: Span,
    /// A key set to start with while the cluster is away, as JSON text (RFC 7517 §5). It counts as fetched when the
    /// filter was configured.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "key_set_text")]
    pub inline: Option<String>,
}

/// Where an issuer's signed revocations come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// Envoy cluster to fetch them from.
    pub cluster: String,
    /// `:authority` of the fetch.
    #[serde(default = "authority")]
    pub authority: String,
    /// Path of the fetch.
    #[serde(default = "feed_path")]
    pub path: String,
    /// How often they are fetched.
    #[serde(default = "two_seconds")]
    pub poll: Span,
    /// How old the last good page may be before this issuer's tokens are refused with 503.
    #[serde(default = "five_minutes")]
    pub max_staleness: Span,
    /// Pages to start with while the cluster is away, each in base64, signed like those that are fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inline: Vec<String>,
}

/// A header in which tokens are taken, besides `Authorization`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenHeader {
    /// Its lower-case name.
    pub name: String,
    /// What stands before the token, a space included where there is one; nothing where absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// Bounds of one worker's memory of verified tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCacheConfig {
    /// Most tokens, 0 to 1,000,000; 0 verifies every token anew.
    #[serde(default = "ten_thousand")]
    pub entries: u32,
    /// Most bytes, tokens and what is kept of them, in MiB, 1 to 512.
    #[serde(default = "sixteen")]
    pub mebibytes: u32,
}

impl Default for TokenCacheConfig {
    fn default() -> Self {
        Self {
            entries: ten_thousand(),
            mebibytes: sixteen(),
        }
    }
}

/// Who may ask for the decision in a response header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainConfig {
    /// The header, on requests that ask and on their responses. Listeners remove what begins with `x-kerbridge-`.
    #[serde(default = "explain_header")]
    pub header: String,
    /// Addresses that may ask (`10.1.2.0/24`), as Envoy trusts the client's.
    pub sources: Vec<String>,
}

/// The paths of the filter's own, on which a browser ends its session and begins another one. They are there where a route takes
/// cookies and there is a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogoutConfig {
    /// Whether there are any.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What they begin with, on every host: `/logout` and `/login` follow. Nothing below it goes upstream.
    #[serde(default = "logout_path")]
    pub path: String,
    /// For how long after a logout that browser is not logged in by its ticket, unless its user wants that; 1 second to 1 day.
    #[serde(default = "five_minutes")]
    pub stay_out: Span,
}

impl Default for LogoutConfig {
    fn default() -> Self {
        Self {
            enabled: yes(),
            path: logout_path(),
            stay_out: five_minutes(),
        }
    }
}

/// Where tickets are exchanged for tokens, and tokens for tickets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// Envoy cluster of the broker's mesh listener.
    #[serde(default = "broker_cluster")]
    pub cluster: String,
    /// `:authority` of the call.
    #[serde(default = "authority")]
    pub authority: String,
    /// How long to wait for the answer.
    #[serde(default = "two_seconds")]
    pub timeout: Span,
    /// Which of the issuers the broker is: the `iss` that its minted tokens must have.
    pub issuer: String,
    /// Where tokens are exchanged for tickets, where that is another broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<DelegationConfig>,
}

/// The broker that acts for users, where it is a process of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelegationConfig {
    /// Envoy cluster of its mesh listener.
    pub cluster: String,
    /// `:authority` of the call.
    #[serde(default = "authority")]
    pub authority: String,
    /// How long to wait for the answer.
    #[serde(default = "two_seconds")]
    pub timeout: Span,
}

/// Headers that tell the upstream who calls. They are deleted from every request before they are set; an empty name leaves
/// one out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityHeaders {
    /// The subject (`sub`), visible ASCII, all else percent-encoded.
    #[serde(default = "subject_header")]
    pub subject: String,
    /// The issuer (`iss`): a subject is somebody only together with who says so.
    #[serde(default = "issuer_header")]
    pub issuer: String,
    /// The scopes, separated by spaces.
    #[serde(default = "scope_header")]
    pub scope: String,
    /// The groups, as a JSON list; left out unless named.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub groups: String,
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            subject: subject_header(),
            issuer: issuer_header(),
            scope: scope_header(),
            groups: String::new(),
        }
    }
}

pub(crate) fn es256() -> Vec<Algorithm> {
    vec![Algorithm::Es256]
}
fn access_token_type() -> Vec<String> {
    vec!["at+jwt".into()]
}
fn is_default_types(types: &[String]) -> bool {
    types == access_token_type()
}
fn is_default_scope_claim(claim: &str) -> bool {
    claim == scope_claim()
}
fn is_default_groups_claim(claim: &str) -> bool {
    claim == groups_claim()
}
fn authority() -> String {
    "kerbridge".into()
}
fn jwks_path() -> String {
    crate::exchange::JWKS_PATH.into()
}
fn feed_path() -> String {
    crate::exchange::FEED_PATH.into()
}
fn scope_claim() -> String {
    "scope".into()
}
fn groups_claim() -> String {
    "groups".into()
}
/// Text, or none. Who writes the key set itself in its place is told how it is written.
fn key_set_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct KeySetText;

    impl<'de> Visitor<'de> for KeySetText {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(r#"the key set (RFC 7517 §5) as JSON in a string, such as '{"keys": [...]}'"#)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }
    }

    deserializer.deserialize_option(KeySetText)
}
fn subject_header() -> String {
    "x-kerbridge-subject".into()
}
fn issuer_header() -> String {
    "x-kerbridge-issuer".into()
}
fn scope_header() -> String {
    "x-kerbridge-scope".into()
}
const fn yes() -> bool {
    true
}
fn logout_path() -> String {
    "/.kerbridge".into()
}
fn explain_header() -> String {
    "x-explain-kerbridge".into()
}
const fn ten_thousand() -> u32 {
    10_000
}
const fn sixteen() -> u32 {
    16
}
const fn five_seconds() -> Span {
    Span::FIVE_SECONDS
}
