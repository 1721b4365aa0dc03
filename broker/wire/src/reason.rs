//! Decides, for each reason of the closed list, what the client is answered and whose fault it is.
//!
//! The same word stands in logs, metric labels, audit events, Envoy's response-code details and error bodies. A new way
//! to fail is a new row here, never a free text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whose fault a refusal is; decides whether someone is to be woken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody's: the request passed.
    None,
    /// The client's: it may try again with something better.
    Client,
    /// The policy's: it did what it is there for.
    Policy,
    /// The client's or ours: a key or a name that does not fit; worth an alert.
    ClientOrUs,
    /// The upstream service's.
    Upstream,
    /// Ours: the client is told to come back (503 and `Retry-After`).
    Us,
}

impl Fault {
    /// The word in logs and audit events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Client => "client",
            Self::Policy => "policy",
            Self::ClientOrUs => "client_or_us",
            Self::Upstream => "upstream",
            Self::Us => "us",
        }
    }
}

/// Which challenges a 401 carries. "Others" are the route's challenges other than Negotiate; where there is none, the
/// answer is 403, since a 401 must carry a challenge (RFC 9110 §15.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengeRule {
    /// No challenge.
    None,
    /// One challenge for each scheme that the route accepts, without an error code (RFC 6750 §3.1).
    Every,
    /// `Bearer error="invalid_token"`, and Negotiate again where the route accepts it.
    InvalidToken,
    /// `Bearer error="insufficient_scope"` with the scopes that would do (RFC 6750 §3.1).
    InsufficientScope,
    /// The route's challenges other than Negotiate.
    Others,
    /// Negotiate, with the acceptor's error or reply token inside where there is one.
    Negotiate,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal: $status:literal $challenge:ident grpc $grpc:literal $fault:ident;)*) => {
        /// One reason of the closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the documents' table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word, as it stands in logs, metrics, bodies and response-code details.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// HTTP status of the filter's answer, 200 for [`Reason::Ok`].
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The challenges that go with it.
            pub const fn challenge(self) -> ChallengeRule {
                match self { $(Self::$variant => ChallengeRule::$challenge,)* }
            }

            /// The gRPC status of the answer to a gRPC request (0 for [`Reason::Ok`]).
            pub const fn grpc_status(self) -> u8 {
                match self { $(Self::$variant => $grpc,)* }
            }

            /// Whose fault it is.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// The reason that this word names, if it is one of the list.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    /// The request passed.
    Ok = "ok": 200 None grpc 0 None;
    /// Nothing was shown on a route that wants something.
    NoCredentials = "no_credentials": 401 Every grpc 16 Client;
    /// The browser was logged out a moment ago: it is not logged in by its ticket until its user wants that.
    LoggedOut = "logged_out": 401 Others grpc 16 Client;
    /// Not a compact JWS, or not one that we read (RFC 7515 §7.1).
    TokenMalformed = "token_malformed": 401 InvalidToken grpc 16 Client;
    /// `alg` is not what the issuer's key is for (RFC 8725 §3.1).
    AlgorithmNotAllowed = "algorithm_not_allowed": 401 InvalidToken grpc 16 Client;
    /// `iss` is nobody we trust.
    UnknownIssuer = "unknown_issuer": 401 InvalidToken grpc 16 Client;
    /// `kid` is not in the issuer's set.
    UnknownKey = "unknown_key": 401 InvalidToken grpc 16 Client;
    /// The signature does not verify.
    BadSignature = "bad_signature": 401 InvalidToken grpc 16 Client;
    /// `exp` has come.
    Expired = "expired": 401 InvalidToken grpc 16 Client;
    /// `nbf` or `iat` lies in the future by more than the clock skew.
    NotYetValid = "not_yet_valid": 401 InvalidToken grpc 16 Client;
    /// `aud` is another service's.
    WrongAudience = "wrong_audience": 401 InvalidToken grpc 16 Client;
    /// `typ` is not `at+jwt` (RFC 9068 §4).
    WrongType = "wrong_type": 401 InvalidToken grpc 16 Client;
    /// A required claim is missing or of the wrong type.
    MissingClaim = "missing_claim": 401 InvalidToken grpc 16 Client;
    /// The token, its session or its subject was revoked.
    Revoked = "revoked": 401 InvalidToken grpc 16 Client;
    /// The token is bound to a certificate that the client did not show, or to something else (RFC 8705 §3).
    CertificateMismatch = "certificate_mismatch": 401 InvalidToken grpc 16 Client;
    /// An `Authorization` value that is no credential of any scheme.
    MalformedCredentials = "malformed_credentials": 400 None grpc 3 Client;
    /// More than one credential.
    MultipleCredentials = "multiple_credentials": 400 None grpc 3 Client;
    /// A token in the query string (RFC 9700 §4.3.2).
    TokenInQuery = "token_in_query": 400 None grpc 3 Client;
    /// A path that two readers could read differently.
    PathAmbiguous = "path_ambiguous": 400 None grpc 3 Client;
    /// A token or ticket over the limit.
    TokenTooLarge = "token_too_large": 401 Others grpc 16 Client;
    /// NTLM where Kerberos was asked for.
    NtlmToken = "ntlm_token": 401 Others grpc 16 Client;
    /// No Kerberos mechanism in what the client offers.
    MechUnsupported = "mech_unsupported": 401 Others grpc 16 Client;
    /// The handshake needs another leg.
    ContinueNeeded = "continue_needed": 401 Negotiate grpc 16 Client;
    /// The second leg came to a place that does not hold the first.
    ContinuationLost = "continuation_lost": 401 Negotiate grpc 16 Client;
    /// This authenticator was seen before.
    Replay = "replay": 401 Negotiate grpc 16 Client;
    /// The ticket has ended.
    TicketExpired = "ticket_expired": 401 Negotiate grpc 16 Client;
    /// The ticket begins later.
    TicketNotYetValid = "ticket_not_yet_valid": 401 Negotiate grpc 16 Client;
    /// Less life is left in the ticket than a token needs at least.
    TicketTooShort = "ticket_too_short": 401 Negotiate grpc 16 Client;
    /// The client's clock is off by more than Kerberos allows.
    ClockSkew = "clock_skew": 401 Negotiate grpc 16 Client;
    /// Channel bindings are demanded and the client sent none, or no certificate is known for its server name.
    ChannelBindingMissing = "channel_binding_missing": 401 Negotiate grpc 16 Client;
    /// The client bound its ticket to another channel.
    ChannelBindingMismatch = "channel_binding_mismatch": 401 Negotiate grpc 16 Client;
    /// The ticket is for a service that the keytab does not hold.
    SpnUnknown = "spn_unknown": 401 Others grpc 16 ClientOrUs;
    /// The keytab holds another key version than the ticket was made with.
    KvnoMismatch = "kvno_mismatch": 401 Others grpc 16 ClientOrUs;
    /// The keytab holds no key of the ticket's encryption type, or that type is not allowed.
    EtypeUnavailable = "etype_unavailable": 401 Others grpc 16 ClientOrUs;
    /// A good token without the scopes that the route needs.
    InsufficientScope = "insufficient_scope": 403 InsufficientScope grpc 7 Policy;
    /// No route or no grant allows it.
    DeniedByPolicy = "denied_by_policy": 403 None grpc 7 Policy;
    /// The principal's realm is not on the list.
    RealmNotAllowed = "realm_not_allowed": 403 None grpc 7 Policy;
    /// No mapping rule has a name for the principal.
    PrincipalNotMapped = "principal_not_mapped": 403 None grpc 7 Policy;
    /// The KDC does not let us act for this user or towards this target.
    DelegationDenied = "delegation_denied": 403 None grpc 7 Policy;
    /// The user's ticket may not be forwarded.
    EvidenceNotForwardable = "evidence_not_forwardable": 403 None grpc 7 Policy;
    /// A state-changing request from another site, with a credential that browsers send by themselves.
    CrossSite = "cross_site": 403 None grpc 7 Policy;
    /// A credential that came without TLS.
    InsecureTransport = "insecure_transport": 403 None grpc 7 Policy;
    /// The caller of the exchange endpoint did not authenticate (RFC 6749 §5.2 `invalid_client`).
    ClientUnauthenticated = "client_unauthenticated": 401 None grpc 16 Client;
    /// The audience does not exist, or is not for this caller (RFC 8693 §2.2.2).
    InvalidTarget = "invalid_target": 400 None grpc 3 Client;
    /// The exchange request is malformed (RFC 6749 §5.2 `invalid_request`), or the place to which a login is to lead back.
    InvalidRequest = "invalid_request": 400 None grpc 3 Client;
    /// Another grant type than token exchange (RFC 6749 §5.2 `unsupported_grant_type`).
    UnsupportedGrantType = "unsupported_grant_type": 400 None grpc 3 Client;
    /// A scope that does not exist (RFC 6749 §5.2 `invalid_scope`).
    InvalidScope = "invalid_scope": 400 None grpc 3 Client;
    /// Too many requests from one source.
    RateLimited = "rate_limited": 429 None grpc 8 Client;
    /// The Kerberos service refused the ticket that we brought.
    UpstreamRefusedTicket = "upstream_refused_ticket": 502 None grpc 14 Upstream;
    /// The source of groups cannot be asked.
    GroupsUnavailable = "groups_unavailable": 503 None grpc 14 Us;
    /// No KDC answers.
    KdcUnreachable = "kdc_unreachable": 503 None grpc 14 Us;
    /// No keys, or keys older than the bound, to verify a token with.
    KeysUnavailable = "keys_unavailable": 503 None grpc 14 Us;
    /// The revocation feed is older than the bound.
    FeedStale = "feed_stale": 503 None grpc 14 Us;
    /// The broker does not answer, or does not answer as a broker.
    BrokerUnavailable = "broker_unavailable": 503 None grpc 14 Us;
    /// The broker has more to do than it can.
    BrokerOverloaded = "broker_overloaded": 503 None grpc 14 Us;
    /// The broker's store cannot be read or written.
    StoreUnavailable = "store_unavailable": 503 None grpc 14 Us;
    /// Anything else that is our fault, a broken configuration included.
    Internal = "internal": 503 None grpc 14 Us;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_names_its_reason_and_no_other() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        assert_eq!(Reason::from_word("okay"), None);
    }

    #[test]
    fn only_ok_passes_and_only_our_own_faults_are_503() {
        for &reason in Reason::ALL {
            assert_eq!(reason.status() < 400, reason == Reason::Ok, "{reason}");
            assert_eq!(reason.status() == 503, reason.fault() == Fault::Us, "{reason}");
        }
    }

    #[test]
    fn a_401_of_the_filter_carries_a_challenge() {
        for &reason in Reason::ALL {
            // `client_unauthenticated` is the exchange endpoint's own, which names its scheme itself (RFC 6749 §5.2).
            if reason.status() == 401 && reason != Reason::ClientUnauthenticated {
                assert_ne!(reason.challenge(), ChallengeRule::None, "{reason}");
            }
        }
    }

    #[test]
    fn the_grpc_status_says_what_the_http_status_says() {
        for &reason in Reason::ALL {
            let expected = match reason.status() {
                200 => 0,
                400 => 3,
                401 => 16,
                403 => 7,
                429 => 8,
                502 | 503 => 14,
                other => panic!("{reason} has status {other}"),
            };
            assert_eq!(reason.grpc_status(), expected, "{reason}");
        }
    }
}
