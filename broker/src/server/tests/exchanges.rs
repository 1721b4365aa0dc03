//! What the token endpoint answers to a ticket, and how it refuses.

use super::*;

#[tokio::test]
async fn a_ticket_is_exchanged_for_a_token_that_nobody_may_keep() {
    let broker = broker(Ok("alice@A.TEST"));
    for listener in [ListenerName::Mesh, ListenerName::Public] {
        let response = ask(listener, &broker, body(&[("scope", "read")])).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let reply: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(
            (reply.token_type.as_str(), reply.expires_in, reply.scope.as_str()),
            ("Bearer", 900, "read")
        );
        assert_eq!(reply.negotiate.as_deref(), Some("cmVwbHk="));
        assert_eq!(reply.access_token.split('.').count(), 3);
    }
    assert_eq!(broker.exchange.metrics.exchanges(Reason::Ok), 2);
}

#[tokio::test]
async fn the_mesh_learns_the_reason_and_the_public_does_not() {
    let broker = broker(Err(Reason::Replay));
    let (status, mesh) = error(ask(ListenerName::Mesh, &broker, body(&[])).await).await;
    assert_eq!(
        (status, mesh.error),
        (StatusCode::BAD_REQUEST, OauthError::InvalidGrant)
    );
    assert_eq!(
        (mesh.reason, mesh.negotiate.as_deref()),
        (Some(Reason::Replay), Some("ZXJyb3I="))
    );
    let (status, public) = error(ask(ListenerName::Public, &broker, body(&[])).await).await;
    assert_eq!(
        (status, public.error),
        (StatusCode::BAD_REQUEST, OauthError::InvalidRequest)
    );
    assert_eq!((public.reason, public.negotiate), (None, None));
}

#[tokio::test]
async fn our_own_faults_are_503_with_retry_after() {
    for reason in [Reason::BrokerOverloaded, Reason::StoreUnavailable, Reason::Internal] {
        let broker = broker(Err(reason));
        let (status, found) = error(ask(ListenerName::Mesh, &broker, body(&[])).await).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            (found.error, found.reason),
            (OauthError::TemporarilyUnavailable, Some(reason))
        );
    }
}

#[tokio::test]
async fn each_refusal_has_its_reason_and_is_counted() {
    let alice = broker(Ok("alice@A.TEST"));
    let large = "A".repeat(NEGOTIATE_LIMIT + 4);
    let (two, twice) = (
        format!("{}&audience=billing", body(&[])),
        format!("{}&scope=read", body(&[("scope", "read")])),
    );
    for (body, reason, word) in [
        (
            body(&[("audience", "nowhere")]),
            Reason::InvalidTarget,
            OauthError::InvalidTarget,
        ),
        (
            body(&[("audience", "billing")]),
            Reason::DeniedByPolicy,
            OauthError::InvalidTarget,
        ),
        (
            body(&[("scope", "read delete")]),
            Reason::InvalidScope,
            OauthError::InvalidScope,
        ),
        (
            body(&[("grant_type", "password")]),
            Reason::UnsupportedGrantType,
            OauthError::UnsupportedGrantType,
        ),
        (
            body(&[("subject_token", "AAAA")]),
            Reason::MalformedCredentials,
            OauthError::InvalidGrant,
        ),
        (
            body(&[("subject_token", "TlRMTVNTUAABAAAA")]),
            Reason::NtlmToken,
            OauthError::InvalidGrant,
        ),
        (
            body(&[("subject_token", &large)]),
            Reason::TokenTooLarge,
            OauthError::InvalidGrant,
        ),
        (
            body(&[("actor_token", "x")]),
            Reason::InvalidRequest,
            OauthError::InvalidRequest,
        ),
        (two, Reason::InvalidTarget, OauthError::InvalidTarget),
        (twice, Reason::InvalidRequest, OauthError::InvalidRequest),
        (
            body(&[("audience", &"x".repeat(100_000))]),
            Reason::InvalidTarget,
            OauthError::InvalidTarget,
        ),
        (
            "x".repeat(NEGOTIATE_LIMIT * 4),
            Reason::TokenTooLarge,
            OauthError::InvalidGrant,
        ),
    ] {
        let before = alice.exchange.metrics.exchanges(reason);
        let (status, found) = error(ask(ListenerName::Mesh, &alice, body).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{reason}");
        assert_eq!((found.error, found.reason), (word, Some(reason)));
        assert_eq!(alice.exchange.metrics.exchanges(reason), before + 1);
    }
    let stranger = broker(Ok("alice@B.TEST"));
    let (status, found) = error(ask(ListenerName::Mesh, &stranger, body(&[])).await).await;
    assert_eq!(
        (status, found.reason),
        (StatusCode::BAD_REQUEST, Some(Reason::RealmNotAllowed))
    );
}

#[tokio::test]
async fn what_only_the_mesh_may_say_is_refused_on_public() {
    let broker = broker(Ok("alice@A.TEST"));
    let hints = [
        ("source", "10.0.0.1"),
        ("request_id", "r-1"),
        ("route", "orders"),
        ("server_name", "a.test"),
    ];
    assert_eq!(
        ask(ListenerName::Mesh, &broker, body(&hints)).await.status(),
        StatusCode::OK
    );
    // What is odd is dropped: a client chooses its server name, and must not choose whether it is answered.
    for odd in ["a b", "é", &"x".repeat(256)] {
        let response = ask(ListenerName::Mesh, &broker, body(&[("server_name", odd)])).await;
        assert_eq!(response.status(), StatusCode::OK, "{odd}");
    }
    for hint in hints {
        let (_, found) = error(ask(ListenerName::Public, &broker, body(&[hint])).await).await;
        assert_eq!(found.error, OauthError::InvalidRequest);
    }
}

#[tokio::test]
async fn only_a_form_is_taken() {
    let broker = broker(Ok("alice@A.TEST"));
    for (content_type, good) in [
        ("application/x-www-form-urlencoded", true),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", true),
        ("application/json", false),
        ("application/x-www-form-urlencodedx", false),
    ] {
        let request = Request::post("/oauth2/token")
            .header(header::CONTENT_TYPE, content_type)
            .body(body(&[]).into())
            .unwrap();
        let response = send(ListenerName::Mesh, &broker, request).await;
        assert_eq!(response.status() == StatusCode::OK, good, "{content_type}");
    }
    let request = Request::post("/oauth2/token").body(body(&[]).into()).unwrap();
    let (_, found) = error(send(ListenerName::Mesh, &broker, request).await).await;
    assert_eq!(found.reason, Some(Reason::InvalidRequest));
    let request = Request::get("/oauth2/token").body(Body::empty()).unwrap();
    assert_eq!(
        send(ListenerName::Mesh, &broker, request).await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}
