//! Says why nothing is given: to the log all of it, to the caller what it may know.

use kerbridge_wire::Reason;
use kerbridge_wire::exchange::{ExchangeError, OauthError};

use super::request::RequestError;
use crate::audit::NotWritten;
use crate::config::ListenerName;

/// Why nothing is given.
#[derive(Debug)]
pub struct Refusal {
    /// The word of the closed list.
    pub reason: Reason,
    /// The RFC's word, where it is not that of the token endpoint.
    pub(super) error: Option<OauthError>,
    /// More about it, for the log.
    pub(super) detail: Box<str>,
    /// What to do about it, for people.
    pub(super) advice: Option<&'static str>,
    /// The acceptor's token for the client, in base64.
    pub(super) negotiate: Option<Box<str>>,
    /// The handle with which the second leg is to come.
    pub(super) continuation: Option<Box<str>>,
    /// Who it was, where that was proved.
    pub(super) principal: Option<Box<str>>,
    /// What a token calls them, or would have, where that was found.
    pub(super) subject: Option<Box<str>>,
    /// The `jti` of the token that was shown, where it was verified.
    pub(super) token_id: Option<Box<str>>,
    /// It takes the place of what an event says was given.
    pub(super) withheld: bool,
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<Box<str>>) -> Self {
        Self {
            reason,
            error: None,
            detail: detail.into(),
            advice: None,
            negotiate: None,
            continuation: None,
            principal: None,
            subject: None,
            token_id: None,
            withheld: false,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(reason: Reason, detail: &str) -> Self {
        Self::new(reason, detail)
    }

    /// A body over the limit, which is never read whole.
    pub fn too_large() -> Self {
        Self::new(Reason::TokenTooLarge, "the body is over the limit")
    }

    /// A request that is none for this endpoint, with what to do about it.
    pub fn invalid_request(advice: &'static str) -> Self {
        Self {
            advice: Some(advice),
            ..Self::new(Reason::InvalidRequest, advice)
        }
    }

    /// A client that tried to say who it is in a way that is none.
    pub fn unauthenticated(advice: &'static str) -> Self {
        Self {
            advice: Some(advice),
            ..Self::new(Reason::ClientUnauthenticated, advice)
        }
    }

    /// The error as the caller may see it: the reason is for `mesh` only, elsewhere it would be an oracle.
    pub fn for_listener(self, listener: ListenerName) -> ExchangeError {
        let mesh = listener == ListenerName::Mesh;
        let word = self.error.unwrap_or_else(|| oauth_error(self.reason));
        // RFC 8693 §2.2.2 knows one word for a bad request and for a bad subject token. On `mesh` the two are told apart: the one
        // is the filter's fault, the other its client's.
        let is_subject = word == OauthError::InvalidGrant && !mesh;
        ExchangeError {
            error: if is_subject { OauthError::InvalidRequest } else { word },
            error_description: self.advice.map(str::to_owned),
            reason: mesh.then_some(self.reason),
            negotiate: self.negotiate.filter(|_| mesh).map(String::from),
            continuation: self.continuation.filter(|_| mesh).map(String::from),
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self {
            advice: Some(error.advice()),
            ..Self::new(error.reason(), error.advice())
        }
    }
}

impl From<NotWritten> for Refusal {
    fn from(error: NotWritten) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

/// The RFC's word for a reason (RFC 6749 §5.2, RFC 8693 §2.2.2).
const fn oauth_error(reason: Reason) -> OauthError {
    match reason {
        Reason::InvalidRequest => OauthError::InvalidRequest,
        Reason::ClientUnauthenticated => OauthError::InvalidClient,
        Reason::UnsupportedGrantType => OauthError::UnsupportedGrantType,
        Reason::InvalidScope => OauthError::InvalidScope,
        Reason::InvalidTarget | Reason::DeniedByPolicy => OauthError::InvalidTarget,
        Reason::RateLimited
        | Reason::UpstreamRefusedTicket
        | Reason::GroupsUnavailable
        | Reason::KdcUnreachable
        | Reason::KeysUnavailable
        | Reason::FeedStale
        | Reason::BrokerUnavailable
        | Reason::BrokerOverloaded
        | Reason::StoreUnavailable
        | Reason::Internal => OauthError::TemporarilyUnavailable,
        Reason::Ok
        | Reason::NoCredentials
        | Reason::LoggedOut
        | Reason::TokenMalformed
        | Reason::AlgorithmNotAllowed
        | Reason::UnknownIssuer
        | Reason::UnknownKey
        | Reason::BadSignature
        | Reason::Expired
        | Reason::NotYetValid
        | Reason::WrongAudience
        | Reason::WrongType
        | Reason::MissingClaim
        | Reason::Revoked
        | Reason::CertificateMismatch
        | Reason::MalformedCredentials
        | Reason::MultipleCredentials
        | Reason::TokenInQuery
        | Reason::PathAmbiguous
        | Reason::TokenTooLarge
        | Reason::NtlmToken
        | Reason::MechUnsupported
        | Reason::ContinueNeeded
        | Reason::ContinuationLost
        | Reason::Replay
        | Reason::TicketExpired
        | Reason::TicketNotYetValid
        | Reason::TicketTooShort
        | Reason::ClockSkew
        | Reason::ChannelBindingMissing
        | Reason::ChannelBindingMismatch
        | Reason::SpnUnknown
        | Reason::KvnoMismatch
        | Reason::EtypeUnavailable
        | Reason::InsufficientScope
        | Reason::RealmNotAllowed
        | Reason::PrincipalNotMapped
        | Reason::DelegationDenied
        | Reason::EvidenceNotForwardable
        | Reason::CrossSite
        | Reason::InsecureTransport => OauthError::InvalidGrant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/reasons.md");

    /// The error that the page gives a reason.
    fn documented(reason: Reason) -> String {
        let table = PAGE.split("| `error` at the endpoint |").nth(1).unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
        let word = format!("`{reason}`");
        let named = rows.iter().find(|row| row[2].contains(&word));
        let by_status = || {
            rows.iter()
                .find(|row| row[2].contains("500 or more") && reason.status() >= 500)
        };
        let row = named.or_else(by_status).or(rows.last()).unwrap();
        row[1].split('`').nth(1).unwrap().to_owned()
    }

    #[test]
    fn each_reason_is_answered_with_the_error_that_the_page_says() {
        for &reason in Reason::ALL {
            let error = serde_json::to_value(oauth_error(reason)).unwrap();
            assert_eq!(error, documented(reason), "{reason}");
        }
    }
}
