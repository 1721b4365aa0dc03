//! `POST /v1/logout`: which sessions end, for whom, and what is answered.

use kerbridge_wire::exchange::LogoutReply;

use super::log::Log;
use super::token_revocation::{broker, claims, token, token_for, token_of};
use super::*;
use crate::client_certificate::digest_of;
use crate::identity::Identity;
use crate::revocation::TokenNames;
use crate::store::StoreError;

async fn log_out(listener: ListenerName, broker: &Arc<Broker>, form: &str) -> Response<Body> {
    let request = Request::post("/v1/logout").header(header::CONTENT_TYPE, FORM);
    send(listener, broker, request.body(Body::from(form.to_owned())).unwrap()).await
}

async fn sessions(broker: &Arc<Broker>, form: &str) -> u32 {
    let response = log_out(ListenerName::Mesh, broker, form).await;
    assert_eq!(response.status(), StatusCode::OK, "{form}");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<LogoutReply>(&body).unwrap().sessions
}

/// Whether a token is refused that was issued so many seconds after this one.
fn is_over(broker: &Broker, token: &str, later: u64) -> bool {
    let claims = claims(token);
    let text = |name: &str| claims[name].as_str().unwrap();
    let names = TokenNames {
        token: Some(text("jti")),
        session: Some(text("sid")),
        subject: text("sub"),
        issued: Some(UnixTime::from_seconds(claims["iat"].as_u64().unwrap()).plus(later)),
    };
    tokens(broker).revocations.check(&names, broker.clock.now()).is_err()
}

#[tokio::test]
async fn the_session_of_each_token_ends_and_the_next_of_its_ticket_stands() {
    let broker = broker();
    let (one, other) = (
        token(&broker, "mesh", "alice@A.TEST", "read"),
        token(&broker, "mesh", "alice@A.TEST", "read"),
    );
    // One service ticket is one session, whatever it was exchanged for.
    assert_eq!(sessions(&broker, &format!("tokens={one}%20{other}")).await, 1);
    for token in [&one, &other] {
        assert!(is_over(&broker, token, 0));
        assert!(!is_over(&broker, token, 1), "the ticket is good for a later login");
    }
    // What comes in the same second is issued in the next, and is ended by another logout.
    let next = token(&broker, "mesh", "alice@A.TEST", "read");
    assert_eq!(claims(&next)["iat"].as_u64().unwrap(), broker.clock.now().seconds() + 1);
    assert!(!is_over(&broker, &next, 0));
    assert_eq!(sessions(&broker, &format!("tokens={next}")).await, 1);
    assert!(is_over(&broker, &next, 0));
    assert!(!is_over(&broker, &next, 1));
}

#[tokio::test]
async fn a_token_that_names_no_session_of_ours_ends_nothing() {
    let broker = broker();
    let one = token(&broker, "mesh", "alice@A.TEST", "read");
    let forged = format!("{}.AAAA", one.rsplit_once('.').unwrap().0);
    let (log, _own) = Log::of_this_thread();
    assert_eq!(
        sessions(
            &broker,
            &format!("tokens=nonsense%20{forged}&source=192.0.2.7:1&request_id=r-1")
        )
        .await,
        0
    );
    let events = log.take();
    let messages: Vec<&str> = events.iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["nothing to revoke", "nothing to revoke", "logged out"]);
    assert_eq!(
        (&events[2]["sessions"], &events[2]["request_id"]),
        (&0.into(), &"r-1".into())
    );
    assert!(!is_over(&broker, &one, 0));
    // The good one beside them all the same.
    assert_eq!(
        sessions(&broker, &format!("tokens=nonsense%20{one}&source=192.0.2.7:1&route=x")).await,
        1
    );
    let events = log.take();
    assert_eq!(
        (&events[0]["message"], &events[1]["message"]),
        (&"revoked".into(), &"nothing to revoke".into())
    );
    assert_eq!(
        (&events[0]["by"], &events[0]["kind"]),
        (&"logout".into(), &"sid".into())
    );
    assert_eq!(
        (&events[0]["client_subject"], &events[0]["source"]),
        (&"alice@A.TEST".into(), &"192.0.2.7".into())
    );
    assert_eq!(
        (&events[2]["message"], &events[2]["reason"]),
        (&"logged out".into(), &"ok".into())
    );
    assert!(!format!("{events:?}").contains("eyJ"), "{events:?}");
    // What is over already is over.
    assert_eq!(sessions(&broker, &format!("tokens={one}")).await, 0);
}

#[tokio::test]
async fn who_shows_too_many_bad_tokens_is_made_to_wait() {
    let broker = broker();
    let source = "source=192.0.2.9:1";
    for _ in 0..FAILURES {
        assert_eq!(sessions(&broker, &format!("tokens=nonsense&{source}")).await, 0);
    }
    let response = log_out(ListenerName::Mesh, &broker, &format!("tokens=nonsense&{source}")).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_bound_token_ends_its_session_with_its_certificate_only() {
    let broker = broker();
    let holder = digest_of(b"certificate");
    let one = token_for(&broker, "vault", Some(holder), "mesh", "alice@A.TEST", "read");
    let another = digest_of(b"another");
    assert_eq!(sessions(&broker, &format!("tokens={one}")).await, 0);
    assert_eq!(
        sessions(&broker, &format!("tokens={one}&certificate={another}")).await,
        0
    );
    assert!(!is_over(&broker, &one, 0));
    assert_eq!(
        sessions(&broker, &format!("tokens={one}&certificate={holder}")).await,
        1
    );
    assert!(is_over(&broker, &one, 0));
}

#[tokio::test]
async fn what_could_not_be_written_is_503_and_never_200() {
    let mut broker = broker();
    let (store, revocations) = crate::revocation::tests::fresh();
    let direction = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    direction.revocations = revocations;
    let form = format!("tokens={}", token(&broker, "mesh", "alice@A.TEST", "read"));
    store.fail(Some(StoreError::Full));
    let (found, body) = error(log_out(ListenerName::Mesh, &broker, &form).await).await;
    assert_eq!(
        (found, body.error, body.reason),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            OauthError::TemporarilyUnavailable,
            Some(Reason::StoreUnavailable)
        )
    );
    store.fail(None);
    assert_eq!(sessions(&broker, &form).await, 1);
}

#[tokio::test]
async fn all_sessions_of_a_browser_end_with_one_commit() {
    let mut broker = broker();
    let (store, revocations) = crate::revocation::tests::fresh();
    let direction = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    direction.revocations = revocations;
    let of_session = |ticket: u8| {
        let session = tokens(&broker).keyring.session(&[ticket]);
        let alice = Identity::for_test("alice@A.TEST").in_session_for_test(session);
        token_of(&broker, "orders", None, "mesh", alice, "read")
    };
    let tokens: Vec<_> = (0..3).map(of_session).collect();
    assert_eq!(sessions(&broker, &format!("tokens={}", tokens.join("%20"))).await, 3);
    assert_eq!(store.changes(), 1);
    for token in &tokens {
        assert!(is_over(&broker, token, 0));
    }
}

#[tokio::test]
async fn a_store_that_stands_still_is_503_by_the_deadline() {
    let mut broker = broker();
    let (store, revocations) = crate::revocation::tests::fresh();
    let direction = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    direction.revocations = revocations;
    direction.deadline = Duration::from_secs(1);
    let token = token(&broker, "mesh", "alice@A.TEST", "read");
    store.freeze();
    for (path, field) in [("/v1/logout", "tokens"), ("/oauth2/revoke", "token")] {
        let request = Request::post(path).header(header::CONTENT_TYPE, FORM);
        let request = request.body(Body::from(format!("{field}={token}"))).unwrap();
        let answer = send(ListenerName::Mesh, &broker, request);
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
        let (found, body) = error(answer.expect("it waits for ever")).await;
        assert_eq!(
            (found, body.reason),
            (StatusCode::SERVICE_UNAVAILABLE, Some(Reason::StoreUnavailable)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn each_mistake_is_one_and_only_the_mesh_may_ask() {
    let broker = broker();
    let many = |count: usize| vec!["a"; count].join("%20");
    for form in [
        String::new(),
        "tokens=".to_owned(),
        "tokens=a%20%20b".to_owned(),
        "tokens=%20a".to_owned(),
        "tokens=a&tokens=b".to_owned(),
        "token=a".to_owned(),
        "tokens=%ff".to_owned(),
        format!("tokens={}", many(257)),
    ] {
        let (found, body) = error(log_out(ListenerName::Mesh, &broker, &form).await).await;
        assert_eq!(
            (found, body.error),
            (StatusCode::BAD_REQUEST, OauthError::InvalidRequest),
            "{form}"
        );
    }
    assert_eq!(sessions(&broker, &format!("tokens={}", many(256))).await, 0);
    for listener in [ListenerName::Public, ListenerName::Admin, ListenerName::Observe] {
        let found = log_out(listener, &broker, "tokens=a").await.status();
        assert_eq!(found, StatusCode::NOT_FOUND, "{}", listener.as_str());
    }
}
