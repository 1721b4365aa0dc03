//! Gives the filter's configuration its shape: the JSON inside Envoy's `google.protobuf.StringValue`.
//!
//! It is rendered from the policy file by `kerbridge policy render`; written by hand it works as well. The gate turns
//! it into a configuration that cannot be wrong, or says all that is wrong with it.

use serde::{Deserialize, Serialize};

use crate::policy::{Route, broker_cluster, five_minutes, scope_header, sixty, subject_header, two_seconds};
use crate::span::Span;

/// The whole configuration of one filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// Whose tokens are taken; 1 to 100.
    pub issuers: Vec<IssuerConfig>,
    /// Where tickets are exchanged.
    pub broker: BrokerConfig,
    /// What requests must show, first match decides; 1 to 10,000.
    pub routes: Vec<Route>,
    /// Names of the headers that tell the upstream who calls.
    #[serde(default)]
    pub identity_headers: IdentityHeaders,
    /// `Retry-After` of our own faults.
    #[serde(default = "five_seconds")]
    pub retry_after: Span,
}

/// Signature algorithms that an issuer may be pinned to (RFC 7518 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

/// One issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Exactly the `iss` of its tokens.
    pub issuer: String,
    /// Algorithms taken from it; a key's own type must agree.
    #[serde(default = "es256")]
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are.
    pub jwks: JwksConfig,
    /// How far in the future `nbf` and `iat` may lie, 0 to 300 s. `exp` gets no leeway.
    #[serde(default = "sixty")]
    pub clock_skew_seconds: u32,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwksConfig {
    /// Envoy cluster to fetch them from.
    pub cluster: String,
    /// `:authority` of the fetch.
    #[serde(default = "authority")]
    pub authority: String,
    /// Path of the fetch.
    #[serde(default = "jwks_path")]
    pub path: String,
    /// How often each worker fetches them.
    #[serde(default = "two_seconds")]
    pub poll: Span,
    /// How old the last good answer may be before this issuer's tokens are refused with 503.
    #[serde(default = "five_minutes")]
    pub max_staleness: Span,
    /// A key set to start with while the cluster is away, as JSON text (RFC 7517 §5). It counts as fetched when the
    /// filter was configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
}

/// Where tickets are exchanged for tokens.
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
}

/// Headers that tell the upstream who calls. They are deleted from every request before they are set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityHeaders {
    /// The subject (`sub`), visible ASCII, all else percent-encoded.
    #[serde(default = "subject_header")]
    pub subject: String,
    /// The scopes, separated by spaces.
    #[serde(default = "scope_header")]
    pub scope: String,
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            subject: subject_header(),
            scope: scope_header(),
        }
    }
}

fn es256() -> Vec<Algorithm> {
    vec![Algorithm::Es256]
}
fn authority() -> String {
    "kerbridge".into()
}
fn jwks_path() -> String {
    crate::exchange::JWKS_PATH.into()
}
const fn five_seconds() -> Span {
    Span::FIVE_SECONDS
}
