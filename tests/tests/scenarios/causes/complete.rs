//! Says where each reason against a ticket is brought about, so that none is left out.

use kerbridge_wire::Reason;

/// Where each reason is brought about that the broker can give for a ticket.
const fn brought_about(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::MalformedCredentials
        | Reason::NtlmToken
        | Reason::MechUnsupported
        | Reason::ContinueNeeded
        | Reason::ContinuationLost
        | Reason::Replay
        | Reason::SpnUnknown
        | Reason::TicketExpired
        | Reason::KvnoMismatch
        | Reason::EtypeUnavailable
        | Reason::Internal
        | Reason::TicketTooShort
        | Reason::PrincipalNotMapped
        | Reason::RealmNotAllowed
        | Reason::TicketNotYetValid
        | Reason::ClockSkew
        | Reason::ChannelBindingMismatch
        | Reason::ChannelBindingMissing
        | Reason::GroupsUnavailable
        | Reason::StoreUnavailable
        | Reason::RateLimited => Some("causes.rs"),
        Reason::BrokerOverloaded => {
            Some("limits.rs::more_than_the_broker_can_queue_is_503_at_once_and_the_next_ticket_passes")
        }
        Reason::TokenTooLarge => Some("tickets.rs::a_broken_negotiate_token_is_refused_and_the_next_request_passes"),
        Reason::DeniedByPolicy | Reason::InsufficientScope => {
            Some("tickets.rs::a_user_gets_no_more_than_the_grants_say")
        }
        // Of tokens, of requests, of the exchange's callers, and of tickets that are brought to upstreams.
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
        | Reason::MultipleCredentials
        | Reason::TokenInQuery
        | Reason::PathAmbiguous
        | Reason::DelegationDenied
        | Reason::EvidenceNotForwardable
        | Reason::CrossSite
        | Reason::InsecureTransport
        | Reason::ClientUnauthenticated
        | Reason::InvalidTarget
        | Reason::InvalidRequest
        | Reason::UnsupportedGrantType
        | Reason::InvalidScope
        | Reason::UpstreamRefusedTicket
        | Reason::KdcUnreachable
        | Reason::KeysUnavailable
        | Reason::FeedStale
        | Reason::BrokerUnavailable => None,
    }
}

#[test]
fn no_reason_for_which_a_ticket_can_be_refused_is_left_out() {
    let folder = kerbridge_tests::shipped::repository().join("tests/tests/scenarios");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    for &reason in Reason::ALL {
        let Some(place) = brought_about(reason) else { continue };
        let (file, test) = place.split_once("::").unwrap_or((place, ""));
        let expected = if test.is_empty() {
            format!("reason: Reason::{reason:?},")
        } else {
            format!("fn {test}(")
        };
        assert!(read(file).contains(&expected), "{reason}: {place}");
    }
}
