//! `POST /oauth2/revoke` (RFC 7009): who may take which token back, and what is answered.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_wire::exchange::ADMIN_SCOPE;

use super::log::Log;
use super::*;
use crate::client_certificate::digest_of;
use crate::exchange::Shown;
use crate::identity::Identity;
use crate::revocation::{By, Order, TokenNames};
use crate::store::{Kind, StoreError, Target};
use crate::token::Minter;

const GRANTS: &str = r#"
    [[audience]]
    name = "orders"
    [[grant]]
    principals = ["*@A.TEST"]
    audience = "orders"
    scopes = ["read", "kerbridge:admin"]
    [[audience]]
    name = "vault"
    certificate_bound = true
    [[grant]]
    principals = ["*@A.TEST"]
    audience = "vault"
    scopes = ["read"]
    [[route]]
    path = "/"
    access = "open"
"#;

pub(super) fn broker() -> Arc<Broker> {
    super::broker(Ok("alice@A.TEST"))
}

/// A token of this broker, made for a client.
pub(super) fn token(broker: &Broker, client: &str, subject: &str, scopes: &str) -> String {
    token_for(broker, "orders", None, client, subject, scopes)
}

pub(super) fn token_for(
    broker: &Broker,
    audience: &str,
    holder: Option<CertificateDigest>,
    client: &str,
    subject: &str,
    scopes: &str,
) -> String {
    token_of(broker, audience, holder, client, Identity::for_test(subject), scopes)
}

pub(super) fn token_of(
    broker: &Broker,
    audience: &str,
    holder: Option<CertificateDigest>,
    client: &str,
    identity: Identity,
    scopes: &str,
) -> String {
    let direction = tokens(broker);
    let mut problems = Problems::default();
    let file: raw::Policy = crate::strict_toml::read(GRANTS, &mut problems).unwrap();
    let policy = Policy::build(&file, &mut problems).unwrap();
    let scopes = scopes.parse().unwrap();
    let grant = policy.grant(identity, audience, Some(&scopes));
    let grant = grant.unwrap().for_client_with(holder).unwrap();
    let unrevoked = direction.revocations.admit(&grant, broker.clock.now()).unwrap();
    let minter = Minter::new(&direction.issuer, direction.keyring.signing());
    let issued = minter.issue(unrevoked, client, tokio::time::Instant::now());
    crate::jws::tests::at_once(issued).unwrap().into_compact()
}

fn jti(token: &str) -> String {
    claims(token)["jti"].as_str().unwrap().to_owned()
}

pub(super) fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn is_revoked(broker: &Broker, token: &str) -> bool {
    let id = jti(token);
    let names = TokenNames {
        token: Some(&id),
        session: None,
        subject: "nobody",
        issued: None,
    };
    tokens(broker).revocations.check(&names, broker.clock.now()).is_err()
}

/// Sends a form, with this `Authorization`.
async fn revoke(listener: ListenerName, broker: &Arc<Broker>, form: &str, shown: Option<&str>) -> Response<Body> {
    let mut request = Request::post("/oauth2/revoke").header(header::CONTENT_TYPE, FORM);
    if let Some(shown) = shown {
        request = request.header(header::AUTHORIZATION, shown);
    }
    let request = request.body(Body::from(form.to_owned())).unwrap();
    let response = send(listener, broker, request).await;
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    response
}

async fn status(listener: ListenerName, broker: &Arc<Broker>, token: &str, shown: Option<&str>) -> StatusCode {
    let shown = shown.map(|token| format!("Bearer {token}"));
    let form = format!("token={token}&token_type_hint=access_token");
    revoke(listener, broker, &form, shown.as_deref()).await.status()
}

#[tokio::test]
async fn a_token_is_taken_back_by_its_client_its_user_or_an_administrator_and_nobody_else() {
    use ListenerName::{Mesh, Public};
    let alice = "alice@A.TEST";
    for (listener, client, shows, expected) in [
        // To whom it was issued.
        (Mesh, "mesh", None, StatusCode::OK),
        (Public, "public", None, StatusCode::OK),
        (Public, "mesh", None, StatusCode::BAD_REQUEST),
        (Mesh, "public", None, StatusCode::BAD_REQUEST),
        // Who shows another one of the same user, or of somebody else.
        (Public, "mesh", Some((alice, "read")), StatusCode::OK),
        (Public, "mesh", Some(("bob@A.TEST", "read")), StatusCode::BAD_REQUEST),
        (Public, "mesh", Some(("bob@A.TEST", ADMIN_SCOPE)), StatusCode::OK),
        (Mesh, "public", Some(("bob@A.TEST", ADMIN_SCOPE)), StatusCode::OK),
    ] {
        let broker = broker();
        let one = token(&broker, client, alice, "read");
        let own = shows.map(|(subject, scopes)| token(&broker, "other", subject, scopes));
        let found = status(listener, &broker, &one, own.as_deref()).await;
        assert_eq!(found, expected, "{client} at {listener}, {shows:?}");
        assert_eq!(is_revoked(&broker, &one), expected == StatusCode::OK, "{shows:?}");
        assert!(own.is_none_or(|own| !is_revoked(&broker, &own)));
    }
}

#[tokio::test]
async fn a_token_that_shows_itself_is_verified_once() {
    let broker = broker();
    let verified = || {
        let trade = broker.exchange.trade.as_ref().unwrap();
        trade.verifiers.asked.load(std::sync::atomic::Ordering::Relaxed)
    };
    let (one, other) = (
        token(&broker, "other", "alice@A.TEST", "read"),
        token(&broker, "other", "alice@A.TEST", "read"),
    );
    for (token, shown, times) in [(&one, &other, 2), (&other, &other, 1)] {
        let before = verified();
        let found = status(ListenerName::Public, &broker, token, Some(shown)).await;
        assert_eq!((found, verified() - before), (StatusCode::OK, times));
        assert!(is_revoked(&broker, token));
    }
}

#[tokio::test]
async fn a_bound_token_says_who_asks_with_its_certificate_alone() {
    let broker = broker();
    let (holder, other) = (digest_of(b"holder"), digest_of(b"other"));
    let bound = token_for(&broker, "vault", Some(holder), "other", "alice@A.TEST", "read");
    let one = token(&broker, "mesh", "alice@A.TEST", "read");
    let form = format!("token={one}");
    for (certificate, expected) in [
        (None, Err(Reason::ClientUnauthenticated)),
        (Some(other), Err(Reason::ClientUnauthenticated)),
        (Some(holder), Ok(())),
    ] {
        let caller = Caller {
            listener: ListenerName::Public,
            client: "public".into(),
            proof: certificate.map_or(ClientProof::Nothing, ClientProof::Certificate),
            peer: Peer::default(),
        };
        let shown = Shown::Bearer(&bound);
        let outcome = broker
            .exchange
            .revoke(form.as_bytes(), shown, &caller, broker.clock)
            .await;
        assert_eq!(outcome.map_err(|refusal| refusal.reason), expected, "{certificate:?}");
        assert_eq!(is_revoked(&broker, &one), expected.is_ok());
    }
}

#[tokio::test]
async fn a_token_may_take_back_itself_and_be_sent_again() {
    let broker = broker();
    let one = token(&broker, "mesh", "alice@A.TEST", "read");
    for _ in 0..2 {
        let found = status(ListenerName::Public, &broker, &one, Some(&one)).await;
        assert_eq!(found, StatusCode::OK);
        assert!(is_revoked(&broker, &one));
    }
    // It takes back nothing else any more.
    let other = token(&broker, "mesh", "alice@A.TEST", "read");
    let found = status(ListenerName::Public, &broker, &other, Some(&one)).await;
    assert_eq!(found, StatusCode::UNAUTHORIZED);
    assert!(!is_revoked(&broker, &other));
}

#[tokio::test]
async fn what_is_no_token_of_ours_or_none_any_more_is_answered_as_taken_back() {
    let broker = broker();
    let good = token(&broker, "public", "alice@A.TEST", "read");
    let foreign = token(&super::broker(Ok("alice@A.TEST")), "public", "alice@A.TEST", "read");
    let (head, _) = good.rsplit_once('.').unwrap();
    for nothing in ["nonsense", "a.b.c", &foreign, &format!("{head}.AAAA"), head] {
        let found = status(ListenerName::Public, &broker, nothing, None).await;
        assert_eq!(found, StatusCode::OK, "{nothing}");
    }
    let (position, entries, _) = tokens(&broker).revocations.stand().unwrap();
    assert_eq!((position.version, entries), (0, 0));
    let metrics = broker.exchange.metrics.revocations();
    assert_eq!(
        (metrics.answers(Reason::Ok), metrics.answers(Reason::DeniedByPolicy)),
        (5, 0)
    );
}

#[tokio::test]
async fn who_shows_too_many_tokens_that_are_none_waits_and_who_shows_old_ones_does_not() {
    let broker = broker();
    let good = token(&broker, "public", "alice@A.TEST", "read");
    for _ in 0..FAILURES * 2 {
        let found = status(ListenerName::Public, &broker, &good, None).await;
        assert_eq!(found, StatusCode::OK, "a token that was taken back");
    }
    let (old, late) = (
        token(&broker, "public", "alice@A.TEST", "read"),
        UnixTime::from_seconds(2900),
    );
    let caller = Caller {
        listener: ListenerName::Public,
        client: "public".into(),
        proof: ClientProof::Nothing,
        peer: Peer {
            address: Some(Ipv4Addr::LOCALHOST.into()),
            ..Peer::default()
        },
    };
    let form = format!("token={old}");
    for _ in 0..FAILURES * 2 {
        let outcome = broker
            .exchange
            .revoke(form.as_bytes(), Shown::Nothing, &caller, Clock::Fixed(late))
            .await;
        outcome.unwrap();
    }
    let (head, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", "A".repeat(86));
    for _ in 0..FAILURES {
        let found = status(ListenerName::Public, &broker, &forged, None).await;
        assert_eq!(found, StatusCode::OK, "a token that is none");
    }
    let response = revoke(ListenerName::Public, &broker, &format!("token={forged}"), None).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(broker.exchange.metrics.revocations().answers(Reason::RateLimited), 1);
}

#[tokio::test]
async fn each_answer_is_one_event_without_the_token() {
    let broker = broker();
    let (one, own) = (
        token(&broker, "public", "alice@A.TEST", "read"),
        token(&broker, "mesh", "bob@A.TEST", "read"),
    );
    let (log, _own) = Log::of_this_thread();
    let hints = "source=192.0.2.7:4711&request_id=r-1&route=logout";
    for (form, shown, expected) in [
        (
            format!("token={one}&{hints}"),
            Some(&own),
            [
                ("reason", "denied_by_policy"),
                ("message", "refused"),
                ("request_id", "r-1"),
            ],
        ),
        (
            format!("token=nonsense&{hints}"),
            None,
            [
                ("reason", "token_malformed"),
                ("message", "nothing to revoke"),
                ("route", "logout"),
            ],
        ),
        (
            format!("token={own}&{hints}"),
            None,
            [("by", "client"), ("message", "revoked"), ("source", "192.0.2.7")],
        ),
        (
            format!("token={one}&{hints}"),
            Some(&one),
            [
                ("by", "user"),
                ("message", "revoked"),
                ("client_subject", "alice@A.TEST"),
            ],
        ),
    ] {
        let shown = shown.map(|token| format!("Bearer {token}"));
        revoke(ListenerName::Mesh, &broker, &form, shown.as_deref()).await;
        let events = log.take();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0]["target"], "kerbridge::audit");
        for (name, value) in expected {
            assert_eq!(events[0][name], value, "{events:?}");
        }
        assert!(!format!("{events:?}").contains("eyJ"), "{events:?}");
        // As long as the token lives.
        if events[0]["message"] == "revoked" {
            assert_eq!(events[0]["needed_until"], claims(&one)["exp"]);
        }
    }
}

#[tokio::test]
async fn what_could_not_be_written_is_503_and_never_200() {
    let mut broker = broker();
    let (store, revocations) = crate::revocation::tests::fresh();
    let direction = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    direction.revocations = revocations;
    let one = token(&broker, "public", "alice@A.TEST", "read");
    for failure in [
        StoreError::Full,
        StoreError::Broken("no room".into()),
        StoreError::Closed,
    ] {
        store.fail(Some(failure));
        let response = revoke(ListenerName::Public, &broker, &format!("token={one}"), None).await;
        let (found, body) = super::error(response).await;
        assert_eq!(
            (found, body.error),
            (StatusCode::SERVICE_UNAVAILABLE, OauthError::TemporarilyUnavailable)
        );
    }
    store.fail(None);
    assert_eq!(status(ListenerName::Public, &broker, &one, None).await, StatusCode::OK);
    assert!(is_revoked(&broker, &one));
}

#[tokio::test]
async fn each_mistake_has_the_error_of_the_rfc() {
    let broker = broker();
    let one = token(&broker, "public", "alice@A.TEST", "read");
    let good = format!("token={one}");
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    for (form, shown, expected, error) in [
        ("", None, StatusCode::BAD_REQUEST, OauthError::InvalidRequest),
        ("token=", None, StatusCode::BAD_REQUEST, OauthError::InvalidRequest),
        (
            "token=a&token=b",
            None,
            StatusCode::BAD_REQUEST,
            OauthError::InvalidRequest,
        ),
        ("token=%ff", None, StatusCode::BAD_REQUEST, OauthError::InvalidRequest),
        ("token=%zz", None, StatusCode::BAD_REQUEST, OauthError::InvalidRequest),
        (
            "token=a&source=b",
            None,
            StatusCode::BAD_REQUEST,
            OauthError::InvalidRequest,
        ),
        (
            &good,
            Some("Basic YTpi".to_owned()),
            StatusCode::UNAUTHORIZED,
            OauthError::InvalidClient,
        ),
        (
            &good,
            Some("Negotiate YII=".to_owned()),
            StatusCode::UNAUTHORIZED,
            OauthError::InvalidClient,
        ),
        (
            "token=a&client_secret=b",
            None,
            StatusCode::UNAUTHORIZED,
            OauthError::InvalidClient,
        ),
        (
            &good,
            bearer("nonsense"),
            StatusCode::UNAUTHORIZED,
            OauthError::InvalidClient,
        ),
        (
            "token=unknown",
            bearer("nonsense"),
            StatusCode::UNAUTHORIZED,
            OauthError::InvalidClient,
        ),
    ] {
        let response = revoke(ListenerName::Public, &broker, form, shown.as_deref()).await;
        // By the scheme that is taken, and with an error where it was tried.
        let challenge = match shown.as_deref().and_then(|shown| shown.split(' ').next()) {
            _ if expected != StatusCode::UNAUTHORIZED => None,
            Some("Basic") => Some("Basic realm=\"kerbridge\""),
            Some("Bearer") => Some("Bearer realm=\"kerbridge\", error=\"invalid_token\""),
            Some(_) | None => Some("Bearer realm=\"kerbridge\""),
        };
        let found = response.headers().get(header::WWW_AUTHENTICATE);
        assert_eq!(found.map(|value| value.to_str().unwrap()), challenge, "{form}");
        let (found, body) = super::error(response).await;
        assert_eq!((found, body.error, body.reason), (expected, error, None), "{form}");
    }
    assert!(!is_revoked(&broker, &one));
    let request = Request::post("/oauth2/revoke").body(Body::from(good)).unwrap();
    let (found, body) = super::error(send(ListenerName::Mesh, &broker, request).await).await;
    assert_eq!(
        (found, body.error, body.reason),
        (
            StatusCode::BAD_REQUEST,
            OauthError::InvalidRequest,
            Some(Reason::InvalidRequest)
        )
    );
    for listener in [ListenerName::Admin, ListenerName::Observe] {
        let request = Request::post("/oauth2/revoke").body(Body::empty()).unwrap();
        assert_eq!(send(listener, &broker, request).await.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_user_who_was_taken_out_takes_nothing_back() {
    let broker = broker();
    let (one, own) = (
        token(&broker, "mesh", "alice@A.TEST", "read"),
        token(&broker, "mesh", "bob@A.TEST", ADMIN_SCOPE),
    );
    let by = By::Administrator { uid: Some(0) };
    let bob = Target::new(Kind::Subject, "bob@A.TEST").unwrap();
    let revocations = &tokens(&broker).revocations;
    revocations
        .revoke(Order::ban(bob, None), &by, broker.clock)
        .await
        .unwrap();
    let found = status(ListenerName::Public, &broker, &one, Some(&own)).await;
    assert_eq!(found, StatusCode::UNAUTHORIZED);
    assert!(!is_revoked(&broker, &one));
}
