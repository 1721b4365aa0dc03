//! A broker that talks nonsense opens nothing: every kind of wrong answer is our fault, 503, and the next request passes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::scripted_server::Reply;
use kerbridge_tests::shipped::ISSUER;
use kerbridge_tests::token::{LabKey, claims, with};
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::Deadline;
use serde_json::{Value, json};

/// A world whose broker answers exchanges with what is set here, and is real while nothing is.
fn world(answer: &Arc<Mutex<Option<Reply>>>) -> World {
    let answer = Arc::clone(answer);
    World::builder()
        .intercept(move |call| {
            let exchange = target(call) == "/oauth2/token";
            exchange.then(|| answer.lock().unwrap().clone()).flatten()
        })
        .start()
        .unwrap()
}

fn http(status: &str, content_type: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Raw(
        format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}")
            .into_bytes(),
    )
}

fn reply(token: &str) -> Value {
    json!({
        "access_token": token, "token_type": "Bearer", "expires_in": 900, "scope": "orders:read",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    })
}

fn json_reply(body: &Value) -> Reply {
    http("200 OK", "application/json", &body.to_string())
}

/// Sends a ticket in a request with a body against each answer, and the real broker's answer in between.
fn assert_all_refused(cases: Vec<(&str, Reply)>) {
    let answer = Arc::new(Mutex::new(None));
    let world = world(&answer);
    let passes = |when: &str| {
        *answer.lock().unwrap() = None;
        let good = world.curl_as("alice", "/orders/1").send().unwrap();
        assert_eq!(good.status, 200, "{when}: {}", good.text());
    };
    passes("at first");
    for (what, wrong) in cases {
        let before = world.upstream().requests().len();
        *answer.lock().unwrap() = Some(wrong);
        let refused = world.curl_as("alice", "/orders/1").body("a body").send().unwrap();
        let (status, reason) = world.reason(&refused).unwrap();
        assert_eq!(status, 503, "{what}: {reason}");
        // A token of an unknown key may be one of the next key, which has not been fetched yet.
        let expected = ["broker_unavailable", "internal", "keys_unavailable"];
        assert!(expected.contains(&reason.as_str()), "{what}: {reason}");
        assert_eq!(refused.header("retry-after"), Some("5"), "{what}");
        assert_eq!(refused.header("x-kerbridge-token"), None, "{what}");
        assert_eq!(world.upstream().requests().len(), before, "{what}");
        passes(what);
    }
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn an_answer_that_is_not_the_brokers_is_503() {
    assert_all_refused(vec![
        ("500", http("500 Internal Server Error", "text/plain", "")),
        (
            "500 in json",
            http("500 Internal Server Error", "application/json", "{}"),
        ),
        ("an html page", http("200 OK", "text/html", "<html></html>")),
        (
            "json with another type",
            http("200 OK", "text/plain", &reply("a.b.c").to_string()),
        ),
        ("no json", http("200 OK", "application/json", "{\"access_token\":")),
        ("an empty object", json_reply(&json!({}))),
        ("a list", json_reply(&json!([]))),
        ("an empty body", http("200 OK", "application/json", "")),
        ("204", Reply::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())),
        (
            "302",
            Reply::Raw(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ),
        (
            "a word for an error",
            http("400 Bad Request", "application/json", "{\"error\":\"maybe\"}"),
        ),
        (
            "bytes that are no text",
            http("200 OK", "application/json", "\u{fffd}\0"),
        ),
        (
            "one byte over the limit",
            http("200 OK", "application/json", &" ".repeat(256 * 1024 + 1)),
        ),
    ]);
}

#[test]
fn a_broken_connection_is_503() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"access_token\"";
    assert_all_refused(vec![
        ("closed at once", Reply::Cut(Vec::new())),
        ("no http", Reply::Cut(b"\x16\x03\x01\x02\x00".to_vec())),
        ("half a head", Reply::Cut(b"HTTP/1.1 200 OK\r\ncontent-".to_vec())),
        ("half a body", Reply::Cut(cut.as_bytes().to_vec())),
        (
            "a header that is no utf-8",
            Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-type: \xff\xfe\r\nx: \xff\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
        ),
    ]);
}

#[test]
fn no_answer_is_503_after_two_seconds() {
    let answer = Arc::new(Mutex::new(Some(Reply::Never)));
    let world = world(&answer);
    let waited = Deadline::after(Duration::from_secs(10));
    let refused = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (503, "broker_unavailable".to_owned()));
    assert!(
        (1900..4000).contains(&waited.elapsed().as_millis()),
        "{:?}",
        waited.elapsed()
    );
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn an_answer_over_envoys_own_limit_is_503() {
    // Envoy drops an answer over 32 MiB and reports it without a single header.
    assert_all_refused(vec![(
        "33 MiB",
        http("200 OK", "application/json", &" ".repeat(33 << 20)),
    )]);
}

#[test]
fn the_brokers_word_alone_opens_nothing() {
    let key = LabKey::generate().unwrap();
    let claims = claims(ISSUER, "root@LAB.TEST", "orders", "orders:read orders:write");
    let signed = key.sign(&key.header(), &claims).unwrap();
    let elsewhere = key
        .sign(&key.header(), &with(claims, "iss", json!("https://nobody.example.com")))
        .unwrap();
    assert_all_refused(vec![
        ("no token", json_reply(&reply("opaque"))),
        ("an empty token", json_reply(&reply(""))),
        ("a token of a stranger", json_reply(&reply(&signed))),
        ("a token of another issuer", json_reply(&reply(&elsewhere))),
        (
            "a ticket",
            json_reply(&with(reply(&signed), "token_type", json!("N_A"))),
        ),
        (
            "a token with a line break",
            json_reply(&reply("a.b.c\r\nx-kerbridge-subject: root")),
        ),
        (
            "a reply token with a line break",
            json_reply(&with(reply(&signed), "negotiate", json!("YII\r\nx: 1"))),
        ),
    ]);
}

#[test]
fn a_token_of_the_broker_for_another_audience_opens_nothing() {
    let answer = Arc::new(Mutex::new(None));
    let world = world(&answer);
    let reports = world.token("alice", "/reports/1").unwrap();
    let before = world.upstream().requests().len();
    *answer.lock().unwrap() = Some(json_reply(&reply(&reports)));
    let refused = world.curl_as("alice", "/orders/1").send().unwrap();
    let (status, reason) = world.reason(&refused).unwrap();
    assert_eq!(status, 503, "{reason}");
    assert_eq!(world.upstream().requests().len(), before);
}
