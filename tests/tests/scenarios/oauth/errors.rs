//! Every bad request has the error of its RFC, and changes nothing.

use kerbridge_tests::curl::Curl;
use kerbridge_tests::http::Request;
use kerbridge_tests::oauth_world::{ACCESS_TOKEN, ASSERTION_TYPE, As, EXCHANGE, NEGOTIATE, OauthWorld};
use kerbridge_tests::{canary, tls};
use serde_json::{Value, json};

use super::assert_refused;

const FORM: &str = "content-type: application/x-www-form-urlencoded";

fn post(lab: &OauthWorld, path: &str, body: impl Into<Vec<u8>>) -> Curl {
    lab.curl(path).body(body)
}

/// What the broker holds: its keys, and what is revoked.
fn state(lab: &mut OauthWorld) -> Value {
    let broker = lab.world().broker();
    let keys = broker.administer(&["keys", "list"], &[]).unwrap();
    let page = broker.ask(&Request::get("/v1/revocations")).unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
    // The claims without the time at which the page was made.
    let page = kerbridge_tests::token::decode(page.text().trim()).unwrap().claims;
    let state = json!([keys["keys"], page["version"], page["entries"], page["epoch"]]);
    let is_there = |member: &Value| !member.is_null();
    assert!(state.as_array().unwrap().iter().all(is_there), "{state}");
    state
}

#[test]
fn every_malformed_request_has_its_rfcs_error_and_changes_nothing() {
    let mut lab = OauthWorld::start_with("[limits]\nfailures_per_minute = 0\n").unwrap();
    let token = lab.token(As::Key, "orders").unwrap();
    let before = state(&mut lab);
    let exchanged = |lab: &mut OauthWorld| lab.world().broker().log().matches("\"message\":\"exchanged\"").count();
    let traded = exchanged(&mut lab);
    let good =
        format!("grant_type={EXCHANGE}&subject_token={token}&subject_token_type={ACCESS_TOKEN}&audience=billing");
    let long = "x".repeat(300);
    // Beyond a mebibyte the connection ends before all of it was sent, and the answer may be lost.
    let large = "x".repeat(700 * 1024);
    let mut tried = 0;
    let mut check = |path: &str, curl: Curl, status: u16, error: &str| {
        let answer = curl.send().unwrap();
        assert_eq!(answer.status, status, "{path} {}", answer.text());
        assert_refused(&answer, status, error);
        tried += 1;
    };
    // What is wrong whoever asks, at each endpoint.
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let own = if path == "/oauth2/token" {
            good.clone()
        } else {
            format!("token={token}")
        };
        for (body, error) in [
            (String::new(), "invalid_request"),
            (format!("{own}&a=%zz"), "invalid_request"),
            (format!("{own}&%ff=a"), "invalid_request"),
            (format!("{own}&x=1&x=2"), "invalid_request"),
            (format!("{own}&{}", "a=b&".repeat(40)), "invalid_request"),
            (format!("{own}&client_assertion=a.b.c"), "invalid_request"),
            (
                format!("{own}&client_assertion_type={ASSERTION_TYPE}"),
                "invalid_request",
            ),
            (format!("{own}&source=10.0.0.1"), "invalid_request"),
            (format!("{own}&certificate=x"), "invalid_request"),
            (format!("{own}&pad={large}"), "invalid_request"),
        ] {
            check(path, post(&lab, path, body), 400, error);
        }
        for kind in [
            "application/json",
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencodedx",
        ] {
            let curl = post(&lab, path, own.clone()).header(&format!("content-type: {kind}"));
            check(path, curl, 400, "invalid_request");
        }
        let none = post(&lab, path, own.clone()).header("content-type:");
        check(path, none, 400, "invalid_request");
        for secret in ["client_secret=x&client_id=cli", "client_id=cli&client_secret=x"] {
            check(path, post(&lab, path, format!("{own}&{secret}")), 401, "invalid_client");
        }
        let basic = post(&lab, path, own.clone()).header("authorization: Basic Y2xpOng=");
        check(path, basic, 401, "invalid_client");
        let unknown = format!("{own}&client_assertion=a.b.c&client_assertion_type={ASSERTION_TYPE}");
        check(path, post(&lab, path, unknown), 401, "invalid_client");
        for more in [
            json!({ "iss": "nobody", "sub": "nobody" }),
            json!({ "sub": "nobody" }),
            json!({ "aud": "https://elsewhere.example.com" }),
            json!({ "exp": 1 }),
            json!({ "exp": 4_000_000_000_u64 }),
            json!({ "exp": null }),
            json!({ "jti": null }),
        ] {
            let assertion = lab.assertion("once", &more).unwrap();
            let body = format!("{own}&client_assertion_type={ASSERTION_TYPE}&client_assertion={assertion}");
            check(path, post(&lab, path, body), 401, "invalid_client");
        }
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = lab.curl(path).method(method).send().unwrap();
            assert_eq!(
                (answer.status, answer.all("allow")),
                (405, vec!["POST"]),
                "{method} {path}"
            );
        }
        // A length that is none, and a body that does not come.
        for head in ["content-length: x", "content-length: 5\r\ncontent-length: 6"] {
            let mut connection = tls::connect(lab.port(), &lab.authority()).unwrap();
            let request = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{FORM}\r\n{head}\r\n\r\ntoken");
            connection.send_raw(request.as_bytes()).unwrap();
            assert_eq!(connection.read_response().unwrap().status, 400, "{head}");
        }
    }
    // What is wrong with an exchange.
    let token_path = "/oauth2/token";
    let ticket = format!("grant_type={EXCHANGE}&subject_token=QQ%3D%3D&subject_token_type={NEGOTIATE}&audience=orders");
    for (body, error) in [
        (good.replace(EXCHANGE, "authorization_code"), "unsupported_grant_type"),
        (good.replace(EXCHANGE, "client_credentials"), "unsupported_grant_type"),
        (good.replace(&format!("grant_type={EXCHANGE}&"), ""), "invalid_request"),
        (
            good.replace(&format!("subject_token_type={ACCESS_TOKEN}&"), ""),
            "invalid_request",
        ),
        (
            good.replace(ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:saml2"),
            "invalid_request",
        ),
        (good.replace("&audience=billing", ""), "invalid_request"),
        (good.replace("billing", &long), "invalid_target"),
        (format!("{good}&audience=orders"), "invalid_target"),
        (format!("{good}&audience=billing"), "invalid_target"),
        (
            format!("{good}&resource=https://a.example.com&resource=https://a.example.com"),
            "invalid_target",
        ),
        (
            format!("{good}&resource=https://elsewhere.example.com"),
            "invalid_target",
        ),
        (format!("{good}&scope=a++b"), "invalid_scope"),
        (format!("{good}&scope=%22"), "invalid_scope"),
        (format!("{good}&scope=orders:read%09orders:write"), "invalid_scope"),
        (format!("{good}&scope=orders:read%0aorders:write"), "invalid_scope"),
        (
            format!("{good}&actor_token={token}&actor_token_type={ACCESS_TOKEN}"),
            "invalid_request",
        ),
        (format!("{good}&requested_token_type={NEGOTIATE}"), "invalid_request"),
        (
            format!("{good}&requested_token_type=urn:ietf:params:oauth:token-type:refresh_token"),
            "invalid_request",
        ),
        (ticket.clone(), "invalid_request"),
        (ticket.replace("QQ%3D%3D", "%00"), "invalid_request"),
        (ticket.replace("QQ%3D%3D", "TlRMTVNTUAABAAAA"), "invalid_request"),
        (ticket.replace("=orders", "=nowhere"), "invalid_target"),
        (ticket.replace("QQ%3D%3D", &"A".repeat(70_000)), "invalid_request"),
    ] {
        let curl = lab.with_certificate(post(&lab, token_path, body));
        check(token_path, curl, 400, error);
    }
    check(token_path, post(&lab, token_path, good.clone()), 401, "invalid_client");
    // A certificate is one client's (RFC 8705 §2), and one request's one client is authenticated in one way (RFC 6749 §2.3).
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let own = if path == token_path {
            good.clone()
        } else {
            format!("token={token}")
        };
        let named = post(&lab, path, format!("{own}&client_id=other"));
        check(path, lab.with_certificate(named), 401, "invalid_client");
        let assertion = lab.assertion(&format!("two {path}"), &json!({})).unwrap();
        let both = format!("{own}&client_assertion_type={ASSERTION_TYPE}&client_assertion={assertion}");
        check(
            path,
            lab.with_certificate(post(&lab, path, both)),
            400,
            "invalid_request",
        );
    }
    // Without authentication nobody asks; a token that nobody has is no error to whoever takes it back (RFC 7009 §2.2).
    check(
        "/oauth2/introspect",
        post(&lab, "/oauth2/introspect", format!("token={token}")),
        401,
        "invalid_client",
    );
    let bearer =
        |value: &str| post(&lab, "/oauth2/revoke", format!("token={token}")).header(&format!("authorization: {value}"));
    for other in ["Bearer a.b.c", "Bearer", "Negotiate QQ=="] {
        check("/oauth2/revoke", bearer(other), 401, "invalid_client");
    }
    // Another user's: the one who asks must be its client, its subject or an administrator.
    check(
        "/oauth2/revoke",
        post(&lab, "/oauth2/revoke", format!("token={token}")),
        400,
        "unauthorized_client",
    );
    assert_eq!(post(&lab, "/oauth2/revoke", "token=a.b.c").send().unwrap().status, 200);
    // An assertion is good once.
    let assertion = lab.assertion("again", &json!({})).unwrap();
    let once = format!("token={token}&client_assertion_type={ASSERTION_TYPE}&client_assertion={assertion}");
    assert_eq!(
        post(&lab, "/oauth2/introspect", once.clone()).send().unwrap().status,
        200
    );
    check(
        "/oauth2/introspect",
        post(&lab, "/oauth2/introspect", once),
        401,
        "invalid_client",
    );

    // Nothing came of any of it.
    assert!(tried > 90, "{tried}");
    assert_eq!(state(&mut lab), before);
    assert_eq!(exchanged(&mut lab), traded);
    assert_eq!(super::opens(&mut lab, "/orders/1", &token), 200);
    // Each is one event of the audit trail, and none of them has what was sent.
    let log = lab.world().broker().log();
    assert!(log.matches("\"message\":\"refused\"").count() >= tried, "{tried}");
    canary::search("the broker's log", log.as_bytes()).unwrap();
}
