//! What an administrator may ask for, and what is wrong with what they cannot have meant.

use serde_json::json;

use super::*;
use crate::admin::{AdminError, Outcome, Status};
use crate::store::StoreError;

async fn post(broker: &Arc<Broker>, path: &str, body: &Value) -> Response<Body> {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into())
        .unwrap();
    send(ListenerName::Admin, broker, request).await
}

async fn done(broker: &Arc<Broker>, path: &str, body: &Value) -> Outcome {
    let response = post(broker, path, body).await;
    assert_eq!(response.status(), StatusCode::OK, "{body}");
    serde_json::from_str(&text(response).await).unwrap()
}

async fn wrong(broker: &Arc<Broker>, path: &str, body: &Value) -> (StatusCode, AdminError) {
    let response = post(broker, path, body).await;
    let status = response.status();
    (status, serde_json::from_str(&text(response).await).unwrap())
}

async fn ticket(broker: &Arc<Broker>) -> StatusCode {
    ask(ListenerName::Mesh, broker, body(&[])).await.status()
}

#[tokio::test]
async fn somebody_is_revoked_and_taken_back() {
    let broker = broker(Ok("alice@A.TEST"));
    let alice = json!({ "kind": "subject", "value": "alice@A.TEST" });
    let revoked = done(&broker, "/v1/revoke", &alice).await;
    assert_eq!((revoked.version, revoked.before, revoked.needed_until), (1, None, None));
    assert_eq!(ticket(&broker).await, StatusCode::BAD_REQUEST);
    let lifted = done(&broker, "/v1/lift", &alice).await;
    assert_eq!((lifted.version, lifted.epoch), (2, revoked.epoch));
    assert_eq!(ticket(&broker).await, StatusCode::OK);
    let (status, error) = wrong(&broker, "/v1/lift", &alice).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(error.problem, "subject \"alice@A.TEST\" is not revoked");
}

#[tokio::test]
async fn one_token_and_what_was_issued_up_to_a_time_are_kept_until_they_have_ended() {
    let broker = broker(Ok("alice@A.TEST"));
    let token = done(&broker, "/v1/revoke", &json!({ "kind": "jti", "value": "t" })).await;
    // Issued at 2000 for 15 minutes at most.
    assert!((2900..3100).contains(&token.needed_until.unwrap()), "{token:?}");
    let body = json!({ "kind": "sid", "value": "s", "before": 1990 });
    let session = done(&broker, "/v1/revoke", &body).await;
    assert_eq!((session.before, session.needed_until), (Some(1990), token.needed_until));
    let body = json!({ "kind": "subject", "value": "bob@A.TEST", "until": 9000 });
    let ban = done(&broker, "/v1/revoke", &body).await;
    assert_eq!((ban.before, ban.needed_until), (None, Some(9000)));
    // What stands is said, and not what was asked for: this takes nothing off the ban.
    let body = json!({ "kind": "subject", "value": "bob@A.TEST", "before": 1000 });
    let same = done(&broker, "/v1/revoke", &body).await;
    assert_eq!((same.before, same.needed_until), (None, Some(9000)));
}

#[tokio::test]
async fn where_an_earlier_revocation_reaches_further_the_answer_says_that_it_is_more_than_was_asked() {
    let broker = broker(Ok("alice@A.TEST"));
    let ask = async |more: Value| {
        let mut body = json!({ "kind": "subject", "value": "bob@A.TEST" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let outcome = done(&broker, "/v1/revoke", &body).await;
        (outcome.before, outcome.needed_until, outcome.more_than_asked)
    };
    let (before, kept, more) = ask(json!({ "before": 1990 })).await;
    assert_eq!((before, more), (Some(1990), false));
    assert_eq!(ask(json!({ "before": 1990 })).await, (Some(1990), kept, false));
    assert_eq!(ask(json!({ "before": 1980 })).await, (Some(1990), kept, true));
    // A ban of 20 s, of somebody of whom more must be known for longer.
    let (before, until, more) = ask(json!({ "until": 2020 })).await;
    assert_eq!((before, more), (None, true));
    assert!(until > kept, "{until:?} {kept:?}");
    assert_eq!(ask(json!({ "before": 2000 })).await, (None, until, true));
    assert_eq!(ask(json!({ "until": 9000 })).await, (None, Some(9000), false));
    assert_eq!(ask(json!({})).await, (None, None, false));
    assert_eq!(ask(json!({ "until": 9000 })).await, (None, None, true));
}

#[tokio::test]
async fn what_cannot_be_meant_is_said_with_its_remedy_and_nothing_is_revoked() {
    let broker = broker(Ok("alice@A.TEST"));
    for (body, problem) in [
        (json!({ "kind": "jti", "value": "" }), "\"\" is no jti"),
        (json!({ "kind": "sid", "value": "a\nb" }), "\"a\\nb\" is no sid"),
        (
            json!({ "kind": "jti", "value": "a.b.c" }),
            "that is a token, not its jti",
        ),
        (
            json!({ "kind": "subject", "value": "e30.e30.c2ln" }),
            "that is a token, not its subject",
        ),
        (
            json!({ "kind": "sid", "value": "s", "before": 2001 }),
            "--before lies in the future",
        ),
        (
            json!({ "kind": "sid", "value": "s", "until": 2000 }),
            "--until has passed",
        ),
        (
            json!({ "kind": "sid", "value": "s", "before": 1, "until": 3000 }),
            "what was issued before is forgotten",
        ),
        (
            json!({ "kind": "jti", "value": "t", "before": 1 }),
            "one token was issued at one time",
        ),
        // Here each subject is a full principal.
        (
            json!({ "kind": "subject", "value": "alice" }),
            "no token has the subject",
        ),
        (
            json!({ "kind": "subject", "value": "alice@@A.TEST" }),
            "no token has the subject",
        ),
        (
            json!({ "kind": "subject", "value": "alice\\@A.TEST" }),
            "no token has the subject",
        ),
        (
            json!({ "kind": "subject", "value": "alice@a.test" }),
            "no token has the subject",
        ),
        (
            json!({ "kind": "subject", "value": "alice@A.TEST " }),
            "no token has the subject",
        ),
        (
            json!({ "kind": "sub", "value": "alice@A.TEST" }),
            "Failed to deserialize",
        ),
        (
            json!({ "kind": "sid", "value": "s", "befor": 1 }),
            "Failed to deserialize",
        ),
        (json!([]), "Failed to deserialize"),
    ] {
        let (status, error) = wrong(&broker, "/v1/revoke", &body).await;
        assert!(status.is_client_error(), "{body}");
        assert!(error.problem.starts_with(problem), "{body}: {error}");
        assert!(!error.remedy.is_empty());
    }
    assert_eq!(tokens(&broker).revocations.stand().unwrap().0.version, 0);
}

#[tokio::test]
async fn a_store_that_fails_is_503_with_the_remedy_of_what_ails_it_wherever_it_is() {
    let mut broker = broker(Ok("alice@A.TEST"));
    let (store, revocations) = crate::revocation::tests::fresh();
    let direction = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    direction.revocations = revocations;
    let disk_and_database = ["the disk of the state folder", "the database of store.postgres"];
    for (failure, remedies) in [
        (StoreError::Full, &disk_and_database[..]),
        (StoreError::Late, &disk_and_database),
        (StoreError::Broken("no room".into()), &disk_and_database),
        (StoreError::TooMany, &["kerbridge keys retire"]),
        (StoreError::Closed, &["has started anew"]),
    ] {
        store.fail(Some(failure.clone()));
        let (status, error) = wrong(&broker, "/v1/revoke", &json!({ "kind": "jti", "value": "t" })).await;
        assert_eq!(
            (status, error.problem),
            (StatusCode::SERVICE_UNAVAILABLE, failure.to_string())
        );
        assert!(
            remedies.iter().all(|remedy| error.remedy.contains(remedy)),
            "{failure:?}: {}",
            error.remedy
        );
    }
}

#[tokio::test]
async fn the_status_says_where_the_broker_and_its_feed_stand() {
    let broker = broker(Ok("alice@A.TEST"));
    done(&broker, "/v1/revoke", &json!({ "kind": "jti", "value": "t" })).await;
    for _ in 0..2 {
        broker.exchange.metrics.exchanged(kerbridge_wire::Reason::Replay, 0.001);
    }
    let request = Request::get("/v1/status").body(Body::empty()).unwrap();
    let response = send(ListenerName::Admin, &broker, request).await;
    let status: Status = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(status.ready, "ready");
    let known = status.tokens.unwrap();
    assert_eq!(known.issuer, "https://broker.test");
    assert_eq!(known.kid, tokens(&broker).keyring.signing().id());
    assert_eq!(known.keys.keys.len(), 1);
    assert_eq!(known.keys.keys[0].kid, known.kid);
    assert_eq!(status.exchanges, [("replay".to_owned(), 2)].into());
    assert!(status.delegations.is_empty());
    let feed = known.feed.unwrap();
    assert_eq!((feed.version, feed.entries, feed.as_of), (1, 1, 2000));
}

#[tokio::test]
async fn nobody_administers_through_another_listener() {
    let broker = broker(Ok("alice@A.TEST"));
    for listener in [ListenerName::Mesh, ListenerName::Public, ListenerName::Observe] {
        for path in ["/v1/revoke", "/v1/lift", "/v1/status"] {
            let request = Request::post(path).body(Body::empty()).unwrap();
            let status = send(listener, &broker, request).await.status();
            assert_eq!(status, StatusCode::NOT_FOUND, "{listener} {path}");
        }
    }
}

#[tokio::test]
async fn what_the_rules_call_somebody_is_what_is_revoked() {
    let mut broker = broker(Ok("alice@A.TEST"));
    let exchange = &mut Arc::get_mut(&mut broker).unwrap().exchange;
    let rules = &mut exchange.to_token.as_mut().unwrap().rules;
    rules.names.stripped_realm = Some("A.TEST".into());
    let (_, error) = wrong(
        &broker,
        "/v1/revoke",
        &json!({ "kind": "subject", "value": "alice@A.TEST" }),
    )
    .await;
    assert_eq!(
        error.to_string(),
        "tokens of alice@A.TEST have another subject; write \"alice\""
    );
    done(&broker, "/v1/revoke", &json!({ "kind": "subject", "value": "alice" })).await;
    done(
        &broker,
        "/v1/revoke",
        &json!({ "kind": "subject", "value": "bob@B.TEST" }),
    )
    .await;
    assert_eq!(ticket(&broker).await, StatusCode::BAD_REQUEST);
}
