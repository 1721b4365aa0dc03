//! Clients that say who they are by a signature, and what they may ask.

use serde_json::json;

use super::trades::{first_token, trade};
use super::*;
use crate::client_assertion::ASSERTION_TYPE;
use crate::client_assertion::tests::{claims, clients};
use crate::client_certificate::digest_of;
use crate::revocation::{By, Order};
use crate::store::{Kind, Target};
use crate::subject_token::tests::Key;

/// A broker that knows a client called `cli` by this key, and that client's lines.
fn broker_with_client(key: &Key) -> Arc<Broker> {
    let policy = format!(
        "{POLICY}
        [[exchange]]
        clients = [\"cli\"]
        from = \"orders\"
        to = \"billing\"
        scopes = [\"read\"]
        [[introspection]]
        clients = [\"cli\", \"mesh\"]
        audiences = [\"orders\"]"
    );
    let mut broker = broker_of(&policy, Ok("alice@A.TEST"), || Ok(()));
    Arc::get_mut(&mut broker).unwrap().exchange.clients = Some(clients(key).1);
    broker
}

fn asserted(key: &Key, jti: &str) -> String {
    let token = key.sign_as("JWT", &claims(json!({ "jti": jti })));
    format!("&client_assertion_type={ASSERTION_TYPE}&client_assertion={token}")
}

async fn introspect(broker: &Arc<Broker>, listener: ListenerName, body: String) -> Response<Body> {
    let request = Request::post("/oauth2/introspect")
        .header(header::CONTENT_TYPE, FORM)
        .body(body.into())
        .unwrap();
    send(listener, broker, request).await
}

async fn said(response: Response<Body>) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    serde_json::from_str(&text(response).await).unwrap()
}

#[tokio::test]
async fn a_client_of_public_trades_under_the_name_that_its_key_proves_once_for_each_assertion() {
    let key = Key::new();
    let broker = broker_with_client(&key);
    let first = first_token(&broker).await;
    let asked = format!("{}{}", trade(&first, &[]), asserted(&key, "1"));
    let response = ask(ListenerName::Public, &broker, asked.clone()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let reply: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
    let token = super::trades::claims(&reply.access_token);
    assert_eq!(
        (&token["client_id"], &token["act"]["sub"]),
        (&json!("cli"), &json!("cli"))
    );
    let (status, found) = error(ask(ListenerName::Public, &broker, asked).await).await;
    assert_eq!(
        (status, found.error),
        (StatusCode::UNAUTHORIZED, OauthError::InvalidClient)
    );
    assert_eq!(found.reason, None);
    let forged = format!("{}{}", trade(&first, &[]), asserted(&Key::new(), "2"));
    let (status, found) = error(ask(ListenerName::Public, &broker, forged).await).await;
    assert_eq!(
        (status, found.error),
        (StatusCode::UNAUTHORIZED, OauthError::InvalidClient)
    );
    // A ticket that comes with an assertion is this client's exchange; one with a bad assertion is nobody's.
    let response = ask(
        ListenerName::Public,
        &broker,
        format!("{}{}", body(&[]), asserted(&key, "3")),
    )
    .await;
    let reply: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(super::trades::claims(&reply.access_token)["client_id"], "cli");
    let (status, _) = error(
        ask(
            ListenerName::Public,
            &broker,
            format!("{}{}", body(&[]), asserted(&key, "3")),
        )
        .await,
    )
    .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // On `mesh` who comes is known already.
    let (_, found) = error(
        ask(
            ListenerName::Mesh,
            &broker,
            format!("{}{}", body(&[]), asserted(&key, "4")),
        )
        .await,
    )
    .await;
    assert_eq!(found.error, OauthError::InvalidRequest);
}

/// What is answered over a connection with the certificate of `cli`.
async fn over_certificate(broker: &Arc<Broker>, path: &str, body: String) -> (StatusCode, Value) {
    let mut request = Request::post(path)
        .header(header::CONTENT_TYPE, FORM)
        .body(Body::from(body))
        .unwrap();
    request.extensions_mut().insert(Caller {
        listener: ListenerName::Public,
        client: "cli".into(),
        proof: ClientProof::Certificate(digest_of(b"cli")),
        peer: Peer::default(),
    });
    let router = router(ListenerName::Public, Arc::clone(broker));
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    (status, serde_json::from_str(&text(response).await).unwrap_or_default())
}

#[tokio::test]
async fn a_client_that_names_another_than_its_certificate_is_none() {
    let broker = broker_with_client(&Key::new());
    let first = first_token(&broker).await;
    for (path, good) in [
        ("/oauth2/token", trade(&first, &[])),
        ("/oauth2/token", body(&[])),
        ("/oauth2/introspect", format!("token={first}")),
        ("/oauth2/revoke", "token=x".into()),
    ] {
        let (status, said) = over_certificate(&broker, path, format!("{good}&client_id=other")).await;
        assert_eq!(
            (status, &said["error"]),
            (StatusCode::UNAUTHORIZED, &json!("invalid_client")),
            "{path}"
        );
        let (status, said) = over_certificate(&broker, path, format!("{good}&client_id=cli")).await;
        assert_eq!(status, StatusCode::OK, "{path}: {said}");
    }
    // Who has not shown who it is has a name that nobody looks at.
    let response = ask(ListenerName::Public, &broker, format!("{}&client_id=other", body(&[]))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let response = ask(ListenerName::Mesh, &broker, format!("{}&client_id=other", body(&[]))).await;
    assert_eq!(error(response).await.1.reason, Some(Reason::ClientUnauthenticated));
}

#[tokio::test]
async fn beside_an_assertion_a_certificate_only_binds_and_is_the_same_clients() {
    let key = Key::new();
    let policy = format!(
        "{}
        [[exchange]]
        clients = [\"cli\", \"other\"]
        from = \"orders\"
        to = \"billing\"
        scopes = [\"read\"]",
        POLICY.replace("resource =", "certificate_bound = true\n    resource =")
    );
    let mut broker = broker_of(&policy, Ok("alice@A.TEST"), || Ok(()));
    Arc::get_mut(&mut broker).unwrap().exchange.clients = Some(clients(&key).1);
    let first = first_token(&broker).await;
    let (status, said) = over_certificate(
        &broker,
        "/oauth2/token",
        format!("{}{}", trade(&first, &[]), asserted(&key, "1")),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let token = super::trades::claims(said["access_token"].as_str().unwrap());
    let bound = json!({ "x5t#S256": digest_of(b"cli").to_string() });
    assert_eq!((&token["client_id"], &token["cnf"]), (&json!("cli"), &bound));
    // Two clients at once are none, whichever the policy would let.
    let others = claims(json!({ "iss": "other", "sub": "other", "jti": "2" }));
    let others = format!(
        "{}&client_assertion_type={ASSERTION_TYPE}&client_assertion={}",
        trade(&first, &[]),
        key.sign_as("JWT", &others)
    );
    let (status, said) = over_certificate(&broker, "/oauth2/token", others.clone()).await;
    assert_eq!(
        (status, &said["error"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_request"))
    );
    // It was not used up: by itself it says who comes, who then has no certificate to bind to.
    let (_, found) = error(ask(ListenerName::Public, &broker, others).await).await;
    assert_eq!(found.error, OauthError::InvalidTarget);
}

#[tokio::test]
async fn no_scopes_are_no_member_of_an_answer() {
    let policy = POLICY.replace("scopes = [\"read\", \"write\"]", "scopes = []");
    let policy = format!("{policy}\n[[introspection]]\nclients = [\"mesh\"]\naudiences = [\"orders\"]\n");
    let broker = broker_of(&policy, Ok("alice@A.TEST"), || Ok(()));
    let read = async |response| serde_json::from_str::<Value>(&text(response).await).unwrap();
    let reply = read(ask(ListenerName::Mesh, &broker, body(&[])).await).await;
    assert_eq!((&reply["token_type"], reply.get("scope")), (&"Bearer".into(), None));
    let form = format!("token={}", reply["access_token"].as_str().unwrap());
    let said = read(introspect(&broker, ListenerName::Mesh, form).await).await;
    assert_eq!((&said["active"], said.get("scope")), (&true.into(), None));
}

#[tokio::test]
async fn a_secret_is_never_taken_for_checked() {
    let broker = broker(Ok("alice@A.TEST"));
    for path in ["/oauth2/token", "/oauth2/introspect"] {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, FORM)
            .header(header::AUTHORIZATION, "basic Y2xpOnNlY3JldA==")
            .body(body(&[("token", "x")]).into())
            .unwrap();
        let response = send(ListenerName::Public, &broker, request).await;
        assert_eq!(
            response.headers()[header::WWW_AUTHENTICATE],
            "Basic realm=\"kerbridge\""
        );
        let (status, found) = error(response).await;
        assert_eq!(
            (status, found.error),
            (StatusCode::UNAUTHORIZED, OauthError::InvalidClient),
            "{path}"
        );
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, FORM)
            .body(body(&[("token", "x"), ("client_id", "cli"), ("client_secret", "secret")]).into())
            .unwrap();
        let response = send(ListenerName::Public, &broker, request).await;
        // A challenge belongs to each 401 (RFC 9110 §15.5.2).
        assert_eq!(
            response.headers()[header::WWW_AUTHENTICATE],
            "Basic realm=\"kerbridge\""
        );
        let (status, found) = error(response).await;
        assert_eq!(
            (status, found.error),
            (StatusCode::UNAUTHORIZED, OauthError::InvalidClient),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_service_learns_what_a_token_for_it_says() {
    let key = Key::new();
    let broker = broker_with_client(&key);
    let first = first_token(&broker).await;
    let claims = super::trades::claims(&first);
    let expected = json!({
        "active": true, "scope": "read write", "client_id": "mesh", "token_type": "Bearer", "exp": 2900, "iat": 2000,
        "sub": "alice@A.TEST", "aud": "orders", "iss": "https://broker.test", "jti": claims["jti"],
        "sid": claims["sid"], "auth_time": 1000,
    });
    let body = format!("token={first}&token_type_hint=refresh_token{}", asserted(&key, "1"));
    assert_eq!(
        said(introspect(&broker, ListenerName::Public, body).await).await,
        expected
    );
    let body = format!("token={first}");
    assert_eq!(
        said(introspect(&broker, ListenerName::Mesh, body).await).await,
        expected
    );
    assert_eq!(broker.exchange.metrics.introspections(Reason::Ok), 2);
}

#[tokio::test]
async fn whatever_cannot_be_used_is_inactive_and_nothing_more() {
    let key = Key::new();
    let broker = broker_with_client(&key);
    let first = first_token(&broker).await;
    let response = ask(ListenerName::Mesh, &broker, trade(&first, &[])).await;
    let billing: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
    let foreign = key.sign_as("at+jwt", &json!({ "iss": "https://idp.test", "sub": "x" }));
    let revoked = first_token(&broker).await;
    let target = Target::new(Kind::Token, super::trades::claims(&revoked)["jti"].as_str().unwrap()).unwrap();
    let by = By::Administrator { uid: Some(0) };
    let order = Order::token(target, None);
    tokens(&broker)
        .revocations
        .revoke(order, &by, broker.clock)
        .await
        .unwrap();
    for (token, reason) in [
        ("x", Reason::TokenMalformed),
        ("%00%ff", Reason::InvalidRequest),
        (&*foreign, Reason::UnknownIssuer),
        (&*revoked, Reason::Revoked),
        (&*billing.access_token, Reason::DeniedByPolicy),
    ] {
        let response = introspect(&broker, ListenerName::Mesh, format!("token={token}")).await;
        if reason == Reason::InvalidRequest {
            assert_eq!(error(response).await.1.error, OauthError::InvalidRequest);
        } else {
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            assert_eq!(text(response).await, r#"{"active":false}"#, "{reason}");
        }
        assert_eq!(broker.exchange.metrics.introspections(reason), 1, "{reason}");
    }
    // Its end.
    let caller = Caller {
        listener: ListenerName::Mesh,
        client: "mesh".into(),
        proof: ClientProof::Socket,
        peer: Peer::default(),
    };
    let body = format!("token={first}");
    let late = broker
        .exchange
        .introspect(body.as_bytes(), &caller, UnixTime::from_seconds(2900))
        .await;
    assert_eq!(serde_json::to_string(&late.unwrap()).unwrap(), r#"{"active":false}"#);
    // A client without a line, though it has shown who it is.
    let stranger = Caller {
        client: "stranger".into(),
        proof: ClientProof::Certificate(digest_of(b"x")),
        ..caller
    };
    let hidden = broker
        .exchange
        .introspect(body.as_bytes(), &stranger, UnixTime::from_seconds(2000))
        .await;
    assert_eq!(serde_json::to_string(&hidden.unwrap()).unwrap(), r#"{"active":false}"#);
}

#[tokio::test]
async fn introspection_has_the_errors_of_the_token_endpoint() {
    let key = Key::new();
    let broker = broker_with_client(&key);
    let large = format!("token={}", "x".repeat(NEGOTIATE_LIMIT * 4));
    for (listener, body, status, word) in [
        (
            ListenerName::Public,
            "token=x".to_owned(),
            StatusCode::UNAUTHORIZED,
            OauthError::InvalidClient,
        ),
        (
            ListenerName::Public,
            format!("token=x{}", asserted(&Key::new(), "1")),
            StatusCode::UNAUTHORIZED,
            OauthError::InvalidClient,
        ),
        (
            ListenerName::Mesh,
            String::new(),
            StatusCode::BAD_REQUEST,
            OauthError::InvalidRequest,
        ),
        (
            ListenerName::Mesh,
            "token=".into(),
            StatusCode::BAD_REQUEST,
            OauthError::InvalidRequest,
        ),
        (
            ListenerName::Mesh,
            "token=x&token=y".into(),
            StatusCode::BAD_REQUEST,
            OauthError::InvalidRequest,
        ),
        (
            ListenerName::Mesh,
            "token=%zz".into(),
            StatusCode::BAD_REQUEST,
            OauthError::InvalidRequest,
        ),
        (
            ListenerName::Mesh,
            "a=b&".repeat(40),
            StatusCode::BAD_REQUEST,
            OauthError::InvalidRequest,
        ),
        (
            ListenerName::Mesh,
            large,
            StatusCode::BAD_REQUEST,
            OauthError::InvalidGrant,
        ),
    ] {
        let (found_status, found) = error(introspect(&broker, listener, body.clone()).await).await;
        let start: String = body.chars().take(40).collect();
        assert_eq!((found_status, found.error), (status, word), "{start}");
    }
    for content_type in [None, Some("application/json")] {
        let mut request = Request::post("/oauth2/introspect");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let response = send(ListenerName::Mesh, &broker, request.body("token=x".into()).unwrap()).await;
        assert_eq!(error(response).await.1.error, OauthError::InvalidRequest);
    }
    let request = Request::get("/oauth2/introspect?token=x").body(Body::empty()).unwrap();
    let status = send(ListenerName::Mesh, &broker, request).await.status();
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}
