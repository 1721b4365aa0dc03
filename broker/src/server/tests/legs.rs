//! Handshakes of two legs at the endpoint: what it asks for, and where.

use super::*;
use crate::negotiate::tests::{opening_text, second_text};

async fn refused(listener: ListenerName, broker: &Arc<Broker>, more: &[(&str, &str)]) -> ExchangeError {
    let (status, error) = error(ask(listener, broker, body(more)).await).await;
    let word = match listener {
        ListenerName::Mesh => OauthError::InvalidGrant,
        ListenerName::Public | ListenerName::Observe | ListenerName::Admin => OauthError::InvalidRequest,
    };
    assert_eq!((status, error.error), (StatusCode::BAD_REQUEST, word));
    error
}

#[tokio::test]
async fn a_second_leg_without_its_first_is_lost() {
    let broker = broker(Ok("alice@A.TEST"));
    let (second, whole) = (second_text(), token_text());
    for (token, handle) in [
        (&second, None),
        (&second, Some("AAAAAAAAAAAAAAAAAAAAAA")),
        (&second, Some("no handle at all")),
        // A handshake that is not there is lost, whatever is brought to it.
        (&whole, Some("AAAAAAAAAAAAAAAAAAAAAA")),
    ] {
        let mut more = vec![("subject_token", token.as_str())];
        more.extend(handle.map(|handle| ("continuation", handle)));
        let error = refused(ListenerName::Mesh, &broker, &more).await;
        assert_eq!(error.reason, Some(Reason::ContinuationLost));
        assert!(error.continuation.is_none() && error.negotiate.is_none());
    }
    assert_eq!(broker.exchange.metrics.exchanges(Reason::ContinuationLost), 4);
    // An empty handle is none.
    let response = ask(ListenerName::Mesh, &broker, body(&[("continuation", "")])).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_first_leg_on_public_is_refused_before_gssapi() {
    let broker = broker(Err(Reason::Internal));
    let opening = opening_text();
    let error = refused(ListenerName::Public, &broker, &[("subject_token", &opening)]).await;
    assert!(error.reason.is_none() && error.continuation.is_none() && error.negotiate.is_none());
    assert_eq!(broker.exchange.metrics.exchanges(Reason::MechUnsupported), 1);
}
