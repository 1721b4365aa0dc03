//! Gives the one policy file its shape: what may be had, who may have it, what a request must show.
//!
//! These are the raw forms, as written. What they must fulfil together (names that exist, prefixes that are paths) is
//! checked where they are used: the broker builds its grants from them, the gate its routes.

use serde::{Deserialize, Serialize};

use crate::clients::{ExchangeRule, IntrospectionRule};
use crate::delegation::{Delegation, SubjectRule};
use crate::filter_config::{
    Algorithm, ExplainConfig, IdentityHeaders, IssuerConfig, LogoutConfig, TokenCacheConfig, TokenHeader, es256,
};
use crate::span::Span;
use crate::spn::Spn;

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
    /// Other issuers whose tokens the filter takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuer: Vec<IssuerConfig>,
    /// Towards which Kerberos services the broker may act for whom. No line, no ticket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegation: Vec<Delegation>,
    /// Which principals the other issuers' tokens are about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject: Vec<SubjectRule>,
    /// Which clients may trade users' tokens for one audience for tokens for another. No line, no trade.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchange: Vec<ExchangeRule>,
    /// Which clients may ask what tokens of which audiences say. No line, no answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub introspection: Vec<IntrospectionRule>,
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
    /// The address by which clients may name it, too (RFC 8707): an absolute URI without a fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Its tokens are bound to the certificate of the client that gets them (RFC 8705); who shows none gets none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub certificate_bound: bool,
    /// Demands of every grant of it a ticket that is bound to the TLS channel (RFC 5929).
    #[serde(default, skip_serializing_if = "is_default")]
    pub channel_bound: bool,
    /// Demands of every grant of it a ticket that is encrypted by one of these, by MIT's names. Empty demands nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enctypes: Vec<String>,
}

const fn fifteen_minutes() -> Span {
    Span::FIFTEEN_MINUTES
}

/// A line that lets some principals have an audience. Lines add up; nothing takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Full principals, `alice@EXAMPLE.COM`, or patterns: a `*` stands for one whole component that is no machine (`WS01$`).
    /// `*@EXAMPLE.COM` is everybody of one component in that realm, `*/admin@EXAMPLE.COM` every `admin` instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<String>,
    /// Groups, of which the caller must be in one. With `principals` too, both must hold; without, anybody of an accepted
    /// realm who is in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The audience, by name.
    pub audience: String,
    /// Scopes that it gives (RFC 6749 §3.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Longest life of a token with a scope that no other line gives for longer; the audience's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Counts only for a ticket that is bound to the TLS channel (RFC 5929).
    #[serde(default, skip_serializing_if = "is_default")]
    pub channel_bound: bool,
    /// Counts only for a ticket that is encrypted by one of these, by MIT's names, such as `aes256-cts-hmac-sha1-96`. Empty
    /// demands nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enctypes: Vec<String>,
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
    /// A token in the header that the configuration names as `token_header`.
    Header,
}

/// Whether a route wants a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A credential of an accepted scheme that verifies, or a refusal.
    #[default]
    Required,
    /// Nobody need show anything; what is shown must verify, or is refused.
    Optional,
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

/// What becomes of a request that is still open when its token ends or is revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongStreams {
    /// It is ended then, within one tick.
    #[default]
    End,
    /// It goes on.
    Allow,
}

/// A condition on a claim of the verified token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimCondition {
    /// A claim's name, or a JSON pointer (RFC 6901) to a nested one, such as `/realm_access/roles`.
    pub claim: String,
    /// Values of which the claim, or one element of it where it is a list, must be one. Numbers and booleans are compared
    /// as JSON writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any_of: Vec<String>,
    /// Values that must all be elements of the claim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_of: Vec<String>,
}

/// A claim that goes upstream as a header. The words are Envoy's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimToHeader {
    /// The header; nobody else can set it, on any route.
    pub header_name: String,
    /// A claim's name or a JSON pointer (RFC 6901). Text is percent-encoded outside visible ASCII, lists are JSON.
    pub claim_name: String,
}

/// Who is offered a Negotiate challenge where the route accepts tickets. All that is given must hold; a browser that is
/// offered one and has no ticket may show a password prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NegotiateOffer {
    /// Nobody: only a client that sends its ticket unasked uses it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub never: bool,
    /// These paths and all below them, by whole segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_prefixes: Vec<String>,
    /// These addresses (`10.0.0.0/8`, `2001:db8::/32`), as Envoy trusts the client's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// A header that must contain a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderCondition>,
}

/// A header with a text in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderCondition {
    /// Lower-case name.
    pub name: String,
    /// A text that one value of it contains.
    pub contains: String,
}

/// What the service behind Envoy wants in place of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Kerberos: each request gets a fresh ticket in its caller's name, `Authorization: Negotiate`.
    pub kerberos: KerberosUpstream,
}

/// A service that speaks Kerberos only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KerberosUpstream {
    /// Its service principal. The Envoy cluster that the request is sent to must have the upstream filter for the same one.
    pub spn: Spn,
}

/// What a request must show to get through, for one host and one part of its paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What logs and the broker call it; `route-N` by position where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The host, without port, in any case, or `*.example.com` for every name below it; every host where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// This path and all below it, by whole segments. Exactly one of `path_prefix`, `path`
    /// and `path_template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// This path and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A path of literal segments, `{name}` for one segment, and `{name=**}` at the end for one or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_template: Option<String>,
    /// Methods that it is for; every method where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Whether it wants a credential.
    #[serde(default, skip_serializing_if = "is_default")]
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
    /// Scopes of which the token must have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes_any: Vec<String>,
    /// Groups of which the caller must be in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Conditions on claims, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimCondition>,
    /// Claims that go upstream as headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Who is offered a Negotiate challenge; everybody where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_negotiate: Option<NegotiateOffer>,
    /// Lets a CORS preflight for it through without a credential: `OPTIONS` with `Origin` and
    /// `Access-Control-Request-Method`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cors_preflight: bool,
    /// What becomes of a request that is still open when its token ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub long_streams: LongStreams,
    /// For migration: the verdict is logged and counted, and the request goes on as if the route were open.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dry_run: bool,
    /// How a minted token is handed back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deliver: Deliver,
    /// Whether the verified token goes upstream as `Authorization: Bearer`, the minted one where a ticket came.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forward: bool,
    /// What the service wants in place of a token; nothing where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// Takes credentials without TLS: only behind a trusted terminator, or in a lab on loopback.
    #[serde(default, skip_serializing_if = "is_default")]
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
    /// Where tickets are had, where that is another broker.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delegation: DelegationSettings,
    /// How often each worker asks for the broker's keys.
    #[serde(default = "two_seconds")]
    pub poll: Span,
    /// How old the last answer may be before tokens are refused with 503.
    #[serde(default = "five_minutes")]
    pub max_staleness: Span,
    /// Whether the filter follows what the broker takes back. Otherwise every token stands until its end, and no request depends
    /// on the feed.
    #[serde(default = "yes")]
    pub follow_revocations: bool,
    /// The Envoy cluster from which they are fetched, where that is another one: several brokers cut a feed of several pages each
    /// in its own way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_cluster: Option<String>,
    /// What the broker's tokens may be signed by: its `keys.algorithm`, and for as long as it changes the one before.
    #[serde(default = "es256")]
    pub algorithms: Vec<Algorithm>,
    /// How far in the future `nbf` and `iat` may lie, in seconds; `exp` gets no leeway.
    #[serde(default = "sixty")]
    pub clock_skew_seconds: u32,
    /// Headers that tell the upstream who calls.
    #[serde(default)]
    pub identity_headers: IdentityHeaders,
    /// A header in which tokens are taken too, by routes that accept `header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_header: Option<TokenHeader>,
    /// Bounds of each worker's memory of verified tokens.
    #[serde(default)]
    pub token_cache: TokenCacheConfig,
    /// Whether the outcome is written to filter state, for RBAC and access logs.
    #[serde(default)]
    pub filter_state: bool,
    /// Says that the listener refuses header names with underscores (`headers_with_underscores_action: REJECT_REQUEST`), so
    /// that a header that an upstream could read as one of ours cannot come. Known tokens are then passed without reading
    /// every header.
    #[serde(default)]
    pub underscores_rejected: bool,
    /// Who may ask for the decision in a response header; nobody where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<ExplainConfig>,
    /// Where browsers log out and in again.
    #[serde(default)]
    pub logout: LogoutConfig,
}

/// How the filter reaches the broker that acts for users: a process of its own. What is not said is as for the other broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelegationSettings {
    /// The Envoy cluster behind which its mesh listener is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How long the filter waits for a ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

impl Default for FilterSettings {
    fn default() -> Self {
        Self {
            cluster: broker_cluster(),
            timeout: two_seconds(),
            delegation: DelegationSettings::default(),
            poll: two_seconds(),
            max_staleness: five_minutes(),
            follow_revocations: true,
            feed_cluster: None,
            algorithms: es256(),
            clock_skew_seconds: sixty(),
            identity_headers: IdentityHeaders::default(),
            token_header: None,
            token_cache: TokenCacheConfig::default(),
            filter_state: false,
            underscores_rejected: false,
            explain: None,
            logout: LogoutConfig::default(),
        }
    }
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
pub(crate) const fn yes() -> bool {
    true
}
pub(crate) const fn sixty() -> u32 {
    60
}
