//! No token, ticket or cookie reaches what anybody may read. Every world is searched for those that passed in it
//! (`tests/src/canary.rs`); here one is printed on purpose, and its world must fail.

use std::time::Duration;

use kerbridge_tests::wait::wait_until;
use kerbridge_tests::{HarnessError, World};

/// Sends one request in a world whose access log shows what it should not.
fn assert_found(what: &str, shown: &'static str, send: impl FnOnce(&World)) {
    let mut world = World::builder()
        .yaml(move |yaml| {
            let field = format!("shown: \"{shown}\"");
            yaml.insert_below("request_id: \"%REQ(X-REQUEST-ID)%\"", &[&field])
        })
        .start()
        .unwrap();
    send(&world);
    wait_until("a line of the access log", Duration::from_secs(10), || {
        let lines = world.access_lines();
        lines
            .iter()
            .any(|line| line["shown"].as_str().is_some_and(|text| text.len() > 60))
    })
    .unwrap();
    let error = world.envoy().stop().unwrap_err();
    assert!(matches!(error, HarnessError::Leaked { .. }), "{what}: {error}");
}

#[test]
fn a_token_a_ticket_or_a_cookie_in_a_log_fails_its_world() {
    assert_found("a token that is shown", "%REQ(AUTHORIZATION)%", |world| {
        let token = format!("eyJhbGciOiJFUzI1NiJ9.{}.c2ln", "claims0".repeat(9));
        assert_eq!(world.curl("/orders/1").bearer(&token).send().unwrap().status, 401);
    });
    assert_found("a ticket", "%REQ(AUTHORIZATION)%", |world| {
        let ticket = world.negotiate_token("alice", "HTTP/other.localhost@LAB.TEST").unwrap();
        let call = world
            .curl("/orders/1")
            .header(&format!("Authorization: Negotiate {ticket}"));
        assert_eq!(call.send().unwrap().status, 401);
    });
    assert_found("a cookie", "%REQ(COOKIE)%", |world| {
        let cookie = format!("cookie: theme=dark; session={}", "crumbs1".repeat(9));
        assert_eq!(world.curl("/orders/1").header(&cookie).send().unwrap().status, 401);
    });
    assert_found("a token that is handed out", "%RESP(X-KERBRIDGE-TOKEN)%", |world| {
        assert!(!world.token("alice", "/orders/1").unwrap().is_empty());
    });
    assert_found("the acceptor's answer", "%RESP(WWW-AUTHENTICATE)%", |world| {
        assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
    });
}
