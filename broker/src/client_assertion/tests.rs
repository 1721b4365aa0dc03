use std::time::Duration;

use kerbridge_wire::filter_config::Algorithm;
use serde_json::{Value, json};

use super::*;
use crate::config::ClientConfig;
use crate::metrics::Metrics;
use crate::store::memory::MemoryStore;
use crate::subject_token::Issuers;
use crate::subject_token::tests::Key;

const OURS: &str = "https://broker.test";
const NOW: u64 = 2000;

/// One client, `cli`, with this key.
pub(crate) fn clients(key: &Key) -> (Arc<MemoryStore>, AssertingClients) {
    let client = |name: &str| ClientConfig {
        name: name.into(),
        keys: "unused".into(),
        algorithms: vec![Algorithm::Es256],
    };
    let issuers = Issuers::of_clients(OURS, &[client("cli"), client("other")]).unwrap();
    for name in ["cli", "other"] {
        issuers.publish(name, key.set().as_bytes(), at(NOW)).unwrap();
    }
    let store = Arc::new(MemoryStore::new());
    let clients = AssertingClients {
        verifiers: Verifiers::start(&Arc::new(issuers), 1, Metrics::new().verify_queue()).unwrap(),
        store: Arc::<MemoryStore>::clone(&store),
    };
    (store, clients)
}

fn deadline() -> Instant {
    Instant::now().checked_add(Duration::from_secs(10)).unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

/// A good assertion's claims, with these in their place; `null` takes one out.
pub(crate) fn claims(more: Value) -> Value {
    let mut claims = json!({
        "iss": "cli", "sub": "cli", "aud": "https://broker.test/oauth2/token", "exp": NOW + 60, "iat": NOW, "jti": "1",
    });
    let Value::Object(more) = more else { panic!("no object") };
    let members = claims.as_object_mut().unwrap();
    members.extend(more);
    members.retain(|_, value| !value.is_null());
    claims
}

async fn name(clients: &AssertingClients, token: String, client_id: Option<&str>) -> Result<String, NotAsserted> {
    let assertion = Assertion {
        kind: ASSERTION_TYPE.into(),
        token: Zeroizing::new(token),
        client_id: client_id.map(str::to_owned),
    };
    clients.name(assertion, None, at(NOW), deadline()).await
}

#[tokio::test]
async fn a_client_is_who_its_key_says_once() {
    let key = Key::new();
    let (_, clients) = clients(&key);
    for (typ, more, client_id) in [
        ("JWT", json!({}), None),
        ("", json!({ "jti": "2" }), Some("cli")),
        (
            "client-authentication+jwt",
            json!({ "jti": "3", "aud": [OURS, "https://broker.test/oauth2/token"] }),
            None,
        ),
        ("JWT", json!({ "jti": "4", "iat": null, "exp": NOW + 300 }), None),
    ] {
        let token = key.sign_as(typ, &claims(more));
        assert_eq!(name(&clients, token.clone(), client_id).await.as_deref(), Ok("cli"));
        let again = name(&clients, token, client_id).await.unwrap_err();
        assert_eq!(
            (again.reason, &*again.detail),
            (Reason::ClientUnauthenticated, "the client's assertion was used before")
        );
    }
    // Two clients have names of their own for theirs.
    let others = claims(json!({ "iss": "other", "sub": "other" }));
    assert_eq!(
        name(&clients, key.sign_as("JWT", &others), None).await.as_deref(),
        Ok("other")
    );
}

#[tokio::test]
async fn what_is_not_the_clients_own_for_us_and_short_lived_is_nobodys() {
    let key = Key::new();
    let (_, clients) = clients(&key);
    for (more, client_id, detail) in [
        (json!({ "sub": "other" }), None, "iss, sub and client_id"),
        (json!({}), Some("other"), "iss, sub and client_id"),
        (json!({ "iss": "other" }), None, "iss, sub and client_id"),
        (
            json!({ "iss": "nobody", "sub": "nobody" }),
            None,
            "the client's assertion: unknown_issuer",
        ),
        (
            json!({ "aud": "https://other.test" }),
            None,
            "the client's assertion is for",
        ),
        (
            json!({ "aud": "https://broker.test/" }),
            None,
            "the client's assertion is for",
        ),
        (json!({ "aud": "this-broker" }), None, "the client's assertion is for"),
        (
            json!({ "aud": [OURS, "https://other.test"] }),
            None,
            "the client's assertion is for somebody else, too",
        ),
        (json!({ "aud": [] }), None, "the client's assertion is for"),
        (json!({ "aud": null }), None, "the client's assertion: missing_claim"),
        (
            json!({ "exp": NOW + 301 }),
            None,
            "the client's assertion lives too long",
        ),
        (json!({ "exp": NOW }), None, "the client's assertion: expired"),
        (json!({ "exp": null }), None, "the client's assertion: missing_claim"),
        (
            json!({ "iat": NOW + 61 }),
            None,
            "the client's assertion: not_yet_valid",
        ),
        (
            json!({ "nbf": NOW + 61 }),
            None,
            "the client's assertion: not_yet_valid",
        ),
        (json!({ "jti": null }), None, "the client's assertion has no jti"),
        (json!({ "sub": null }), None, "the client's assertion: missing_claim"),
    ] {
        let token = key.sign_as("JWT", &claims(more.clone()));
        let refused = name(&clients, token, client_id).await.unwrap_err();
        assert_eq!(refused.reason, Reason::ClientUnauthenticated, "{more}");
        assert!(refused.detail.starts_with(detail), "{more}: {}", refused.detail);
    }
    for token in [
        Key::new().sign_as("JWT", &claims(json!({}))),
        key.sign_as("at+jwt", &claims(json!({}))),
        "x".to_owned(),
    ] {
        assert_eq!(
            name(&clients, token, None).await.unwrap_err().reason,
            Reason::ClientUnauthenticated
        );
    }
    let other = Assertion {
        kind: "urn:ietf:params:oauth:client-assertion-type:saml2-bearer".into(),
        token: Zeroizing::new(key.sign_as("JWT", &claims(json!({})))),
        client_id: None,
    };
    let refused = clients
        .name(other, None, at(NOW), Instant::now() + Duration::from_secs(10))
        .await;
    assert_eq!(refused.unwrap_err().reason, Reason::ClientUnauthenticated);
    // None of them used it up.
    assert!(
        name(&clients, key.sign_as("JWT", &claims(json!({}))), None)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_assertion_over_another_clients_connection_is_no_good_and_not_used_up() {
    let key = Key::new();
    let (_, clients) = clients(&key);
    let asserted = || Assertion {
        kind: ASSERTION_TYPE.into(),
        token: Zeroizing::new(key.sign_as("JWT", &claims(json!({})))),
        client_id: None,
    };
    let over = async |client| clients.name(asserted(), Some(client), at(NOW), deadline()).await;
    assert_eq!(over("other").await.unwrap_err().reason, Reason::InvalidRequest);
    assert_eq!(over("cli").await.as_deref(), Ok("cli"));
}

#[tokio::test]
async fn where_the_store_cannot_say_that_it_is_new_nobody_is_known() {
    let key = Key::new();
    let (store, clients) = clients(&key);
    store.fail(Some(StoreError::Closed));
    let token = key.sign_as("JWT", &claims(json!({})));
    assert_eq!(
        name(&clients, token.clone(), None).await.unwrap_err().reason,
        Reason::StoreUnavailable
    );
    store.fail(None);
    assert!(name(&clients, token, None).await.is_ok());
}
