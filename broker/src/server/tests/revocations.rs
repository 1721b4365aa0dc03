//! The feed on the mesh, and what revocations do to tickets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_wire::feed::{MEDIA_TYPE, PageClaims, jws_length};

use super::*;
use crate::revocation::{By, Order};
use crate::store::{Kind, Revocation, Store as _, StoreError, Target};

async fn page(broker: &Arc<Broker>, query: &str) -> PageClaims {
    let request = Request::get(format!("/v1/revocations{query}"))
        .body(Body::empty())
        .unwrap();
    let response = send(ListenerName::Mesh, broker, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
    let page = response.into_body().collect().await.unwrap().to_bytes();
    let jws = &page[..jws_length(&page).unwrap()];
    let claims = jws.split(|byte| *byte == b'.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

async fn revoke(broker: &Arc<Broker>, order: Order) {
    let by = By::Administrator { uid: Some(0) };
    tokens(broker)
        .revocations
        .revoke(order, &by, broker.clock)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_feed_says_what_is_new_to_who_asks_for_that() {
    let broker = broker(Ok("alice@A.TEST"));
    let first = page(&broker, "").await;
    assert_eq!((first.version, first.base, first.entries), (0, None, 0));
    assert_eq!((first.iss.as_str(), first.iat), ("https://broker.test", 2000));
    revoke(&broker, Order::token(Target::new(Kind::Token, "t").unwrap(), None)).await;
    let query = format!("?epoch={}&version=0", first.epoch);
    let delta = page(&broker, &query).await;
    assert_eq!((delta.version, delta.base, delta.entries), (1, Some(0), 1));
    let nothing = page(&broker, &query.replace("version=0", "version=1")).await;
    assert_eq!((nothing.version, nothing.base, nothing.entries), (1, Some(1), 0));
    assert_eq!(page(&broker, "?what=ever").await.base, None);
}

#[tokio::test]
async fn a_ticket_of_who_is_revoked_gets_no_token_and_one_of_who_was_revoked_up_to_now_does() {
    let broker = broker(Ok("alice@A.TEST"));
    let alice = || Target::new(Kind::Subject, "alice@A.TEST").unwrap();
    revoke(&broker, Order::up_to(alice(), UnixTime::from_seconds(2000))).await;
    let response = ask(ListenerName::Mesh, &broker, body(&[])).await;
    assert_eq!(response.status(), StatusCode::OK);
    let reply: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
    let claims = reply.access_token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["iat"], 2001);
    revoke(&broker, Order::ban(alice(), None)).await;
    let (status, refused) = error(ask(ListenerName::Mesh, &broker, body(&[])).await).await;
    assert_eq!(
        (status, refused.error, refused.reason),
        (StatusCode::BAD_REQUEST, OauthError::InvalidGrant, Some(Reason::Revoked))
    );
    assert_eq!(broker.exchange.metrics.exchanges(Reason::Revoked), 1);
}

#[tokio::test]
async fn what_another_broker_has_answered_is_refused_here_at_once() {
    let mut broker = broker(Ok("alice@A.TEST"));
    let (store, revocations) = crate::revocation::tests::fresh();
    let direction = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    direction.revocations = revocations;
    assert_eq!(
        ask(ListenerName::Mesh, &broker, body(&[])).await.status(),
        StatusCode::OK
    );
    let ban = Revocation {
        target: Target::new(Kind::Subject, "alice@A.TEST").unwrap(),
        issued_at_or_before: None,
        needed_until: None,
    };
    store.revoke(ban, UnixTime::from_seconds(2000)).await.unwrap();
    let (_, refused) = error(ask(ListenerName::Mesh, &broker, body(&[])).await).await;
    assert_eq!(refused.reason, Some(Reason::Revoked));
    // Where the store cannot be asked, nobody knows.
    store.fail(Some(StoreError::Broken("no room".into())));
    let (status, refused) = error(ask(ListenerName::Mesh, &broker, body(&[])).await).await;
    assert_eq!(
        (status, refused.reason),
        (StatusCode::SERVICE_UNAVAILABLE, Some(Reason::StoreUnavailable))
    );
}
