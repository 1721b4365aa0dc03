use super::*;
use crate::revocation::{By, Order};
use crate::store::{Kind, Target};

async fn status_from(broker: &Arc<Broker>, source: &str) -> StatusCode {
    ask(ListenerName::Mesh, broker, body(&[("source", source)]))
        .await
        .status()
}

#[tokio::test]
async fn a_source_that_failed_too_often_waits_and_others_do_not() {
    let broker = broker(Err(Reason::Replay));
    for port in 0..FAILURES {
        assert_eq!(
            status_from(&broker, &format!("192.0.2.1:{port}")).await,
            StatusCode::BAD_REQUEST
        );
    }
    let response = ask(ListenerName::Mesh, &broker, body(&[("source", "192.0.2.1:1")])).await;
    let (status, found) = error(response).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(found.reason, Some(Reason::RateLimited));
    assert_eq!(status_from(&broker, "192.0.2.2:1").await, StatusCode::BAD_REQUEST);
    assert_eq!(broker.exchange.metrics.exchanges(Reason::RateLimited), 1);
    // The acceptor was not asked again.
    assert_eq!(
        broker.exchange.metrics.exchanges(Reason::Replay),
        u64::from(FAILURES) + 1
    );
}

#[tokio::test]
async fn on_public_it_is_the_address_of_the_connection() {
    let broker = broker(Err(Reason::Replay));
    for _ in 0..FAILURES {
        assert_eq!(
            ask(ListenerName::Public, &broker, body(&[])).await.status(),
            StatusCode::BAD_REQUEST
        );
    }
    let response = ask(ListenerName::Public, &broker, body(&[])).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    // The mesh's own address is Envoy's, which nobody counts.
    let response = ask(ListenerName::Mesh, &broker, body(&[])).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn only_what_the_client_did_wrong_counts() {
    for (outcome, status) in [
        (Ok("alice@A.TEST"), StatusCode::OK),
        (Ok("alice@B.TEST"), StatusCode::BAD_REQUEST),
        (Err(Reason::ContinueNeeded), StatusCode::BAD_REQUEST),
        (Err(Reason::StoreUnavailable), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let broker = broker(outcome);
        for _ in 0..FAILURES * 2 {
            assert_eq!(status_from(&broker, "192.0.2.1:1").await, status, "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn whoever_was_revoked_has_proven_who_they_are() {
    let broker = broker(Ok("alice@A.TEST"));
    let target = Target::new(Kind::Subject, "alice@A.TEST").unwrap();
    let by = By::Administrator { uid: Some(0) };
    let revocations = &tokens(&broker).revocations;
    revocations
        .revoke(Order::ban(target, None), &by, broker.clock)
        .await
        .unwrap();
    for _ in 0..FAILURES * 2 {
        assert_eq!(status_from(&broker, "192.0.2.1:1").await, StatusCode::BAD_REQUEST);
    }
    assert_eq!(
        broker.exchange.metrics.exchanges(Reason::Revoked),
        u64::from(FAILURES) * 2
    );
}

#[tokio::test]
async fn whoever_names_no_source_or_a_shared_one_is_not_limited() {
    let broker = broker(Err(Reason::Replay));
    for source in ["", "10.0.0.9:1", "/run/envoy.sock", "nonsense"] {
        for _ in 0..=FAILURES {
            assert_eq!(status_from(&broker, source).await, StatusCode::BAD_REQUEST, "{source}");
        }
    }
}

#[tokio::test]
async fn what_a_filter_asks_wrongly_is_not_its_clients_failure_and_what_the_public_asks_is_its_own() {
    let mistakes = [
        ("audience", "nobodys", Reason::InvalidTarget),
        ("audience", "", Reason::InvalidRequest),
        ("scope", "a  b", Reason::InvalidScope),
        ("grant_type", "password", Reason::UnsupportedGrantType),
    ];
    for (name, value, reason) in mistakes {
        let broker = broker(Ok("alice@A.TEST"));
        for listener in [ListenerName::Mesh, ListenerName::Public] {
            let is_mesh = listener == ListenerName::Mesh;
            for _ in 0..=FAILURES {
                let mut fields = vec![(name, value)];
                fields.extend(is_mesh.then_some(("source", "127.0.0.1:1")));
                ask(listener, &broker, body(&fields)).await;
            }
            let counted = broker.exchange.metrics.exchanges(reason);
            let limited = broker.exchange.metrics.exchanges(Reason::RateLimited);
            let expected = if is_mesh {
                (FAILURES + 1, 0)
            } else {
                (2 * FAILURES + 1, 1)
            };
            assert_eq!(
                (counted, limited),
                (expected.0.into(), expected.1),
                "{reason} on {listener}"
            );
        }
    }
}
