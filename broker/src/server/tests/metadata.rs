//! The documents by which clients find their way.

use super::*;
use crate::keyring::{Rotation, SigningAlgorithm};

async fn get(broker: &Arc<Broker>, path: &str, host: &str) -> (StatusCode, Value) {
    let request = Request::get(path)
        .header(header::HOST, host)
        .body(Body::empty())
        .unwrap();
    let response = send(ListenerName::Public, broker, request).await;
    let status = response.status();
    if status == StatusCode::OK {
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "max-age=300");
    }
    (
        status,
        serde_json::from_str(&text(response).await).unwrap_or(Value::Null),
    )
}

#[tokio::test]
async fn the_metadata_name_endpoints_that_are_there_and_ways_that_are_taken() {
    let broker = broker(Ok("alice@A.TEST"));
    let (status, server) = get(&broker, "/.well-known/oauth-authorization-server", "broker.test").await;
    assert_eq!(status, StatusCode::OK);
    // What clients compare letter for letter (RFC 8414 §3.3).
    assert_eq!(server["issuer"], "https://broker.test");
    for member in [
        "token_endpoint",
        "introspection_endpoint",
        "revocation_endpoint",
        "jwks_uri",
    ] {
        let path = server[member]
            .as_str()
            .unwrap()
            .strip_prefix("https://broker.test")
            .unwrap();
        let request = Request::get(path).body(Body::empty()).unwrap();
        let status = send(ListenerName::Public, &broker, request).await.status();
        assert_ne!(status, StatusCode::NOT_FOUND, "{member}");
    }
    assert_eq!(
        server["grant_types_supported"],
        serde_json::json!(["urn:ietf:params:oauth:grant-type:token-exchange"])
    );
    let (status, openid) = get(&broker, "/.well-known/openid-configuration", "broker.test").await;
    assert_eq!(status, StatusCode::OK);
    for member in ["issuer", "jwks_uri"] {
        assert_eq!(openid[member], server[member]);
    }
    for endpoint in ["token", "introspection", "revocation"] {
        assert_eq!(
            server[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")],
            serde_json::json!(["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "EdDSA"])
        );
    }
}

#[tokio::test]
async fn the_metadata_announce_no_way_that_is_not_configured() {
    let bound = format!("{POLICY}\n[[audience]]\nname = \"vault\"\ncertificate_bound = true\n");
    for policy in [POLICY, &bound] {
        for by_certificate in [false, true] {
            for by_signature in [&[][..], &[Algorithm::EdDsa, Algorithm::Es256, Algorithm::EdDsa]] {
                let mut broker = broker_of(policy, Ok("alice@A.TEST"), || Ok(()));
                Arc::get_mut(&mut broker).unwrap().authentication = ClientAuthentication {
                    by_certificate,
                    by_signature: by_signature.to_vec(),
                };
                let (_, server) = get(&broker, "/.well-known/oauth-authorization-server", "broker.test").await;
                let proven: Vec<&str> = [
                    ("tls_client_auth", by_certificate),
                    ("private_key_jwt", !by_signature.is_empty()),
                ]
                .into_iter()
                .filter_map(|(method, is_offered)| is_offered.then_some(method))
                .collect();
                let with_none: Vec<&str> = std::iter::once("none").chain(proven.iter().copied()).collect();
                let list = |words: &[&str]| (!words.is_empty()).then(|| serde_json::json!(words));
                for (endpoint, methods) in [
                    ("token", &with_none),
                    ("introspection", &proven),
                    ("revocation", &with_none),
                ] {
                    let said = |what: &str| {
                        server
                            .get(format!("{endpoint}_endpoint_auth_{what}_supported"))
                            .cloned()
                    };
                    assert_eq!(said("methods"), list(methods), "{endpoint}");
                    let algorithms: &[&str] = if by_signature.is_empty() {
                        &[]
                    } else {
                        &["ES256", "EdDSA"]
                    };
                    assert_eq!(said("signing_alg_values"), list(algorithms), "{endpoint}");
                }
                assert_eq!(
                    server["tls_client_certificate_bound_access_tokens"],
                    policy == bound.as_str()
                );
            }
        }
    }
}

#[tokio::test]
async fn the_metadata_say_what_the_keys_sign_by() {
    let mut broker = broker(Ok("alice@A.TEST"));
    let folder = tempfile::tempdir().unwrap();
    let to_token = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    let key = KeyEncryptionKey::from_base64(&"A".repeat(43)).unwrap();
    let rotation = Rotation {
        algorithm: SigningAlgorithm::EdDsa,
        ..Rotation::default()
    };
    to_token.keyring = KeyRing::start(folder.path(), &key, &rotation, UnixTime::from_seconds(1000)).unwrap();
    let (_, openid) = get(&broker, "/.well-known/openid-configuration", "broker.test").await;
    assert_eq!(
        openid["id_token_signing_alg_values_supported"],
        serde_json::json!(["EdDSA"])
    );
}

#[tokio::test]
async fn an_issuer_with_a_path_has_its_metadata_where_clients_look() {
    let mut broker = broker(Ok("alice@A.TEST"));
    let to_token = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    to_token.issuer = "https://broker.test/kerbridge/".into();
    assert_eq!(broker.exchange.issuer_path(), "/kerbridge");
    let path = "/.well-known/oauth-authorization-server";
    assert_eq!(
        get(&broker, &format!("{path}/kerbridge"), "broker.test").await.0,
        StatusCode::OK
    );
    assert_eq!(get(&broker, path, "broker.test").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_service_says_at_its_address_where_its_tokens_come_from() {
    let policy = POLICY.replace("https://billing.test", "https://api.test:8443/billing/v1");
    let policy = format!("{policy}\n[[audience]]\nname = \"bare\"\nresource = \"https://bare.test\"\n");
    let broker = broker_of(&policy, Ok("alice@A.TEST"), || Ok(()));
    let path = "/.well-known/oauth-protected-resource";
    for host in ["api.test:8443", "API.test:8443"] {
        let (status, found) = get(&broker, &format!("{path}/billing/v1"), host).await;
        assert_eq!(status, StatusCode::OK, "{host}");
        assert_eq!(
            found,
            serde_json::json!({
                "resource": "https://api.test:8443/billing/v1",
                "authorization_servers": ["https://broker.test"],
                "scopes_supported": ["read"],
                "bearer_methods_supported": ["header"],
                "tls_client_certificate_bound_access_tokens": false,
            })
        );
    }
    // A list of none is left out (RFC 9728 §3.2).
    let (_, bare) = get(&broker, path, "bare.test").await;
    assert_eq!(
        (&bare["resource"], bare.get("scopes_supported")),
        (&"https://bare.test".into(), None)
    );
    for (path, host) in [
        (format!("{path}/billing/v1"), "api.test"),
        (format!("{path}/billing/v1/"), "api.test:8443"),
        (format!("{path}/billing"), "api.test:8443"),
        (path.to_owned(), "api.test:8443"),
    ] {
        assert_eq!(
            get(&broker, &path, host).await.0,
            StatusCode::NOT_FOUND,
            "{path} {host}"
        );
    }
}
