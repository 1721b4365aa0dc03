//! Tokens for tokens of other audiences.

mod chains;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;
use crate::client_certificate::digest_of;
use crate::revocation::{By, Order};
use crate::store::{Kind, Revocation, Store as _, StoreError, Target};
use crate::subject_token::tests::Key;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub(super) fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// A token for `orders`, had for a ticket.
pub(super) async fn first_token(broker: &Arc<Broker>) -> String {
    let response = ask(ListenerName::Mesh, broker, body(&[])).await;
    let reply: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
    reply.access_token
}

/// What is asked for it: `billing`, and `more`.
pub(super) fn trade(token: &str, more: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("audience", "billing"),
    ];
    fields.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    fields.extend(more);
    body(&fields)
}

fn caller(client: &str, listener: ListenerName, proof: ClientProof) -> Caller {
    Caller {
        listener,
        client: client.into(),
        proof,
        peer: Peer::default(),
    }
}

async fn answer(broker: &Broker, body: &str, client: &str, now: u64) -> Result<ExchangeReply, Reason> {
    let caller = caller(client, ListenerName::Mesh, ClientProof::Socket);
    let answer = broker
        .exchange
        .answer(body.as_bytes(), &caller, Clock::Fixed(UnixTime::from_seconds(now)));
    answer.await.map_err(|refusal| refusal.reason)
}

#[tokio::test]
async fn a_client_that_a_line_names_has_a_token_of_another_audience_for_a_users() {
    let broker = broker(Ok("alice@A.TEST"));
    let first = first_token(&broker).await;
    let response = ask(ListenerName::Mesh, &broker, trade(&first, &[])).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let reply: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        (
            reply.issued_token_type.as_str(),
            reply.token_type.as_str(),
            reply.scope.as_str()
        ),
        (ACCESS_TOKEN, "Bearer", "read")
    );
    assert_eq!(reply.negotiate, None);
    let (first, second) = (claims(&first), claims(&reply.access_token));
    assert_eq!(
        second,
        json!({
            "iss": "https://broker.test", "sub": "alice@A.TEST", "aud": "billing", "client_id": "mesh",
            "iat": 2000, "exp": 2900, "jti": second["jti"], "scope": "read", "auth_time": 1000,
            "amr": ["kerberos"], "sid": first["sid"], "kerbridge_cb": false, "act": { "sub": "mesh" },
        })
    );
    assert_ne!(first["jti"], second["jti"]);
    assert_eq!(first.get("act"), None);
}

#[tokio::test]
async fn the_service_may_be_named_by_its_address() {
    let broker = broker(Ok("alice@A.TEST"));
    let first = first_token(&broker).await;
    let named = |more: &[(&str, &str)]| trade(&first, &[&[("audience", "")], more].concat());
    let reply = answer(&broker, &named(&[("resource", "https://billing.test")]), "mesh", 2000).await;
    assert_eq!(claims(&reply.unwrap().access_token)["aud"], "billing");
    for resource in [
        "https://billing.test/",
        "https://orders.test",
        "billing",
        "https://billing.test#x",
    ] {
        let reply = answer(&broker, &named(&[("resource", resource)]), "mesh", 2000).await;
        assert_eq!(reply.unwrap_err(), Reason::InvalidTarget, "{resource}");
    }
}

#[tokio::test]
async fn each_trade_that_no_line_allows_is_refused_by_its_reason() {
    let broker = broker(Ok("alice@A.TEST"));
    let first = first_token(&broker).await;
    let second = answer(&broker, &trade(&first, &[]), "mesh", 2000)
        .await
        .unwrap()
        .access_token;
    let (signed, (_, signature)) = (first.rsplit_once('.').unwrap().0, second.rsplit_once('.').unwrap());
    let forged = format!("{signed}.{signature}");
    for (what, body, client, now, reason) in [
        (
            "another client",
            trade(&first, &[]),
            "billing.test",
            2000,
            Reason::DeniedByPolicy,
        ),
        (
            "no line back",
            trade(&second, &[("audience", "orders")]),
            "mesh",
            2000,
            Reason::DeniedByPolicy,
        ),
        (
            "no line onwards",
            trade(&second, &[]),
            "mesh",
            2000,
            Reason::DeniedByPolicy,
        ),
        (
            "no such audience",
            trade(&first, &[("audience", "nowhere")]),
            "mesh",
            2000,
            Reason::InvalidTarget,
        ),
        (
            "more than the line",
            trade(&first, &[("scope", "write")]),
            "mesh",
            2000,
            Reason::InvalidScope,
        ),
        (
            "more than the token",
            trade(&first, &[("scope", "refund")]),
            "mesh",
            2000,
            Reason::InvalidScope,
        ),
        ("its end", trade(&first, &[]), "mesh", 2900, Reason::Expired),
        ("nearly its end", trade(&first, &[]), "mesh", 2896, Reason::Expired),
        ("before its time", trade(&first, &[]), "mesh", 1900, Reason::NotYetValid),
        ("a forged one", trade(&forged, &[]), "mesh", 2000, Reason::BadSignature),
        ("no token", trade("x", &[]), "mesh", 2000, Reason::TokenMalformed),
        (
            "a ticket",
            trade(&token_text(), &[]),
            "mesh",
            2000,
            Reason::TokenMalformed,
        ),
    ] {
        assert_eq!(answer(&broker, &body, client, now).await.unwrap_err(), reason, "{what}");
    }
    assert!(answer(&broker, &trade(&first, &[]), "orders.test", 2895).await.is_ok());
}

#[tokio::test]
async fn on_public_only_a_client_with_a_certificate_trades() {
    let broker = broker(Ok("alice@A.TEST"));
    let first = first_token(&broker).await;
    let (status, found) = error(ask(ListenerName::Public, &broker, trade(&first, &[])).await).await;
    assert_eq!(
        (status, found.error),
        (StatusCode::UNAUTHORIZED, OauthError::InvalidClient)
    );
    let certificate = ClientProof::Certificate(digest_of(b"certificate"));
    for (listener, proof, good) in [
        (ListenerName::Public, certificate, true),
        (ListenerName::Public, ClientProof::Socket, false),
        (ListenerName::Public, ClientProof::Nothing, false),
        (ListenerName::Mesh, certificate, true),
        (ListenerName::Mesh, ClientProof::Nothing, false),
    ] {
        let caller = caller("orders.test", listener, proof);
        let body = trade(&first, &[]);
        let outcome = broker
            .exchange
            .answer(body.as_bytes(), &caller, Clock::Fixed(UnixTime::from_seconds(2000)))
            .await;
        assert_eq!(
            outcome.map(drop).map_err(|refusal| refusal.reason),
            if good {
                Ok(())
            } else {
                Err(Reason::ClientUnauthenticated)
            },
            "{listener} {proof:?}"
        );
    }
}

#[tokio::test]
async fn what_is_revoked_is_not_traded_and_a_logout_takes_what_was_traded_for_it() {
    for (kind, value) in [(Kind::Token, "jti"), (Kind::Session, "sid"), (Kind::Subject, "sub")] {
        let broker = broker(Ok("alice@A.TEST"));
        let first = first_token(&broker).await;
        let value = claims(&first)[value].as_str().unwrap().to_owned();
        let target = Target::new(kind, &value).unwrap();
        let order = match kind {
            Kind::Token => Order::token(target, None),
            Kind::Session | Kind::Subject => Order::up_to(target, UnixTime::from_seconds(2000)),
        };
        let by = By::Administrator { uid: Some(0) };
        tokens(&broker)
            .revocations
            .revoke(order, &by, broker.clock)
            .await
            .unwrap();
        let refused = answer(&broker, &trade(&first, &[]), "mesh", 2000).await;
        assert_eq!(refused.unwrap_err(), Reason::Revoked, "{value}");
    }
}

#[tokio::test]
async fn what_another_broker_has_taken_back_is_not_traded_here_from_its_answer_on() {
    let mut broker = broker(Ok("alice@A.TEST"));
    let (store, revocations) = crate::revocation::tests::fresh();
    let direction = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    direction.revocations = revocations;
    let first = first_token(&broker).await;
    let taken_back = Revocation {
        target: Target::new(Kind::Token, claims(&first)["jti"].as_str().unwrap()).unwrap(),
        issued_at_or_before: None,
        needed_until: None,
    };
    store.revoke(taken_back, UnixTime::from_seconds(2000)).await.unwrap();
    let refused = answer(&broker, &trade(&first, &[]), "mesh", 2000).await;
    assert_eq!(refused.unwrap_err(), Reason::Revoked);
    store.fail(Some(StoreError::Late));
    let refused = answer(&broker, &trade(&first, &[]), "mesh", 2000).await;
    assert_eq!(refused.unwrap_err(), Reason::StoreUnavailable);
}

const IDP: &str = "https://idp.test";

/// A broker that takes tokens of another issuer, signed by this key.
fn broker_with_issuer(key: &Key) -> Arc<Broker> {
    let policy = format!(
        "{POLICY}
        [[issuer]]
        issuer = \"{IDP}\"
        audiences = {{ orders = [\"client-1\"] }}
        jwks = {{ inline = '{}' }}
        [[subject]]
        issuer = \"{IDP}\"
        claim = \"upn\"
        form = \"principal\"
        realms = [\"A.TEST\", \"B.TEST\"]",
        key.set()
    );
    broker_of(&policy, Ok("alice@A.TEST"), || Ok(()))
}

/// A token of that issuer, with these claims in place of its own; `null` takes one out.
fn foreign(key: &Key, more: Value) -> String {
    let mut claims = json!({
        "iss": IDP, "sub": "4711", "aud": "client-1", "exp": 2300, "iat": 1900, "jti": "j", "upn": "bob@A.TEST",
        "scope": "read admin", "groups": ["clerks"], "sid": "s-1", "auth_time": 1500, "amr": ["pwd", "otp"],
        "kerbridge_cb": true,
    });
    let Value::Object(more) = more else { panic!("no object") };
    let members = claims.as_object_mut().unwrap();
    members.extend(more);
    members.retain(|_, value| !value.is_null());
    key.sign_as("at+jwt", &claims)
}

#[tokio::test]
async fn another_issuers_token_is_traded_for_what_a_principal_would_have_of_it() {
    let key = Key::new();
    let broker = broker_with_issuer(&key);
    let traded = async |more: Value| {
        let reply = answer(&broker, &trade(&foreign(&key, more), &[]), "mesh", 2000).await;
        claims(&reply.unwrap().access_token)
    };
    let first = traded(json!({})).await;
    assert_eq!(
        first,
        json!({
            "iss": "https://broker.test", "sub": "bob@A.TEST", "aud": "billing", "client_id": "mesh", "iat": 2000,
            "exp": 2300, "jti": first["jti"], "scope": "read", "auth_time": 1500, "amr": ["pwd", "otp"],
            "sid": first["sid"], "kerbridge_cb": false, "act": { "sub": "mesh" },
        })
    );
    // The same session has the same name, another has another, and one that is not said is the token's.
    assert_eq!(traded(json!({ "jti": "k" })).await["sid"], first["sid"]);
    let other = traded(json!({ "sid": "s-2" })).await["sid"].clone();
    let unsaid = traded(json!({ "sid": null, "jti": "s-3" })).await["sid"].clone();
    assert!(first["sid"] != other && other != unsaid && unsaid != first["sid"]);
    let may_act = json!({ "sub": "mesh", "iss": "https://broker.test" });
    let acted = traded(json!({ "act": { "sub": "portal" }, "may_act": may_act, "auth_time": null })).await;
    assert_eq!(
        acted["act"],
        json!({ "sub": "mesh", "act": { "sub": "portal", "iss": IDP } })
    );
    assert_eq!(acted.get("auth_time"), None);
}

#[tokio::test]
async fn another_issuers_token_is_refused_where_it_is_not_for_this_client_service_or_principal() {
    let key = Key::new();
    let broker = broker_with_issuer(&key);
    let deep = (0..4).fold(json!({ "sub": "a" }), |act, _| json!({ "sub": "a", "act": act }));
    for (more, reason) in [
        (json!({ "aud": "client-2" }), Reason::DeniedByPolicy),
        (json!({ "upn": "bob@C.TEST" }), Reason::RealmNotAllowed),
        (json!({ "upn": "bob@B.TEST" }), Reason::RealmNotAllowed),
        (json!({ "upn": "bob" }), Reason::PrincipalNotMapped),
        (json!({ "upn": null }), Reason::MissingClaim),
        (json!({ "sid": null, "jti": null }), Reason::MissingClaim),
        // Who it is in the issuer's own words is not who has that name here.
        (json!({ "may_act": { "sub": "mesh" } }), Reason::DeniedByPolicy),
        (
            json!({ "may_act": { "sub": "portal", "iss": "https://broker.test" } }),
            Reason::DeniedByPolicy,
        ),
        (
            json!({ "may_act": { "sub": "mesh", "iss": IDP } }),
            Reason::DeniedByPolicy,
        ),
        (json!({ "act": { "name": "portal" } }), Reason::MissingClaim),
        (json!({ "act": deep }), Reason::DeniedByPolicy),
        // That a client of ours has acted is said by us alone.
        (
            json!({ "act": { "sub": "orders.test", "iss": "https://broker.test" } }),
            Reason::DeniedByPolicy,
        ),
        (
            json!({ "act": { "sub": "portal", "act": { "sub": "orders.test", "iss": "https://broker.test" } } }),
            Reason::DeniedByPolicy,
        ),
        (
            json!({ "may_act": { "sub": "mesh", "iss": "https://broker.test", "email": "m@mesh.test" } }),
            Reason::DeniedByPolicy,
        ),
        (json!({ "cnf": { "jkt": "x" } }), Reason::CertificateMismatch),
        (
            json!({ "cnf": { "x5t#S256": digest_of(b"x").to_string() } }),
            Reason::CertificateMismatch,
        ),
        (json!({ "iss": "https://other.test" }), Reason::UnknownIssuer),
        (json!({ "exp": 2004 }), Reason::Expired),
    ] {
        let token = foreign(&key, more.clone());
        let refused = answer(&broker, &trade(&token, &[]), "mesh", 2000).await;
        assert_eq!(refused.map(drop).unwrap_err(), reason, "{more}");
    }
    let asked = [("scope", "admin")];
    let refused = answer(&broker, &trade(&foreign(&key, json!({})), &asked), "mesh", 2000).await;
    assert_eq!(refused.unwrap_err(), Reason::InvalidScope);
}

#[tokio::test]
async fn another_issuers_token_of_before_a_logout_buys_nothing_after_it() {
    let key = Key::new();
    let old = trade(&foreign(&key, json!({})), &[]);
    for (kind, claim) in [(Kind::Session, "sid"), (Kind::Subject, "sub")] {
        let broker = broker_with_issuer(&key);
        let traded = answer(&broker, &old, "mesh", 2000).await.unwrap().access_token;
        let target = Target::new(kind, claims(&traded)[claim].as_str().unwrap()).unwrap();
        let order = Order::up_to(target, UnixTime::from_seconds(1950));
        let by = By::Administrator { uid: Some(0) };
        tokens(&broker)
            .revocations
            .revoke(order, &by, broker.clock)
            .await
            .unwrap();
        assert_eq!(answer(&broker, &old, "mesh", 2000).await.unwrap_err(), Reason::Revoked);
        let new = trade(&foreign(&key, json!({ "iat": 1960 })), &[]);
        assert!(answer(&broker, &new, "mesh", 2000).await.is_ok());
    }
}

#[tokio::test]
async fn a_token_is_bound_to_its_clients_certificate_where_the_audience_says_so_and_stays_bound() {
    let policy = POLICY.replace("name = \"orders\"", "name = \"orders\"\n    certificate_bound = true");
    let broker = broker_of(&policy, Ok("alice@A.TEST"), || Ok(()));
    let (own, other) = (digest_of(b"own"), digest_of(b"other"));
    // On mesh the certificate is that of Envoy's client; who has none gets none.
    let (_, refused) = error(ask(ListenerName::Mesh, &broker, body(&[])).await).await;
    assert_eq!(refused.reason, Some(Reason::DeniedByPolicy));
    let digest = own.to_string();
    let response = ask(ListenerName::Mesh, &broker, body(&[("certificate", &digest)])).await;
    let reply: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
    let bound = json!({ "x5t#S256": digest });
    assert_eq!(claims(&reply.access_token)["cnf"], bound);
    let response = ask(ListenerName::Public, &broker, body(&[("certificate", &digest)])).await;
    assert_eq!(error(response).await.1.error, OauthError::InvalidRequest);
    // Only its holder trades it, and what is had for it is the holder's alone.
    let asked = trade(&reply.access_token, &[]);
    for (proof, good) in [
        (ClientProof::Certificate(own), true),
        (ClientProof::Assertion(Some(own)), true),
        (ClientProof::Certificate(other), false),
        (ClientProof::Assertion(None), false),
    ] {
        let caller = caller("orders.test", ListenerName::Public, proof);
        let outcome = broker
            .exchange
            .answer(asked.as_bytes(), &caller, Clock::Fixed(UnixTime::from_seconds(2000)))
            .await;
        match outcome {
            Ok(reply) => {
                assert!(good, "{proof:?}");
                assert_eq!(claims(&reply.access_token)["cnf"], bound);
            }
            Err(refusal) => assert_eq!(
                (refusal.reason, good),
                (Reason::CertificateMismatch, false),
                "{proof:?}"
            ),
        }
    }
}

#[tokio::test]
async fn a_token_of_whose_revocations_nothing_is_known_buys_none() {
    let mut broker = broker(Ok("alice@A.TEST"));
    let first = first_token(&broker).await;
    assert!(answer(&broker, &trade(&first, &[]), "mesh", 2000).await.is_ok());
    let parts = Arc::get_mut(&mut broker).unwrap();
    let keys = parts.exchange.to_token.as_ref().unwrap().keyring.jwks();
    parts.exchange.trade.as_mut().unwrap().feeds = crate::subject_token::Feeds::unheard(&keys);
    let refused = answer(&broker, &trade(&first, &[]), "mesh", 2000).await.unwrap_err();
    assert_eq!(refused, Reason::FeedStale);
}
