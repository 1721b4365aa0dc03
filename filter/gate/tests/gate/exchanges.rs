//! Exchanges at the gate: what is asked of the broker, what its answers become, what reaches the client.

mod answers;

use std::cell::RefCell;

use crate::world::{Key, NOW, at, claims, gate, head, lines, passed, reply, request, run, settle, shown};
use kerbridge_gate::exchange::{BrokerCall, BrokerReply, Connection, PendingCall, REPLY_LIMIT};
use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::secret::Secret;
use kerbridge_gate::{Gate, Reason, Step};

fn ask(gate: &RefCell<Gate>, path: &str, secure: bool) -> (BrokerCall, PendingCall) {
    match run(
        gate,
        NOW,
        &head(path, &[("authorization", b"negotiate YIIabc+/=")]),
        secure,
    ) {
        Step::Call(call, pending) => (call, pending),
        other => panic!("expected a call, got {other:?}"),
    }
}

fn answer(status: &str, body: &str) -> (Vec<u8>, Vec<u8>) {
    (status.as_bytes().to_vec(), body.as_bytes().to_vec())
}

fn resume(gate: &RefCell<Gate>, pending: PendingCall, status: &str, body: &str) -> Step {
    let (status, body) = answer(status, body);
    let reply = BrokerReply::Response {
        status: Some(&status),
        content_type: Some(b"application/json"),
        body: &body,
    };
    let step = pending.resume(&mut gate.borrow_mut(), at(NOW), reply);
    settle(gate, NOW, step)
}

fn granted(token: &str) -> String {
    format!(
        r#"{{"access_token":"{token}","issued_token_type":"urn:ietf:params:oauth:token-type:access_token",
            "token_type":"Bearer","expires_in":900,"scope":"orders:read","negotiate":"oYGz/+0="}}"#
    )
}

#[test]
fn the_ticket_goes_to_the_broker_in_a_form() {
    let (call, _) = ask(&gate(&Key::new("k1")), "/orders", true);
    let connection = Connection {
        source: b"10.0.0.7:4711",
        server_name: b"api.test",
        // Another client's over this connection, say: this ticket is complete.
        continuation: Some(&Secret::new(b"kept".to_vec())),
    };
    assert_eq!(
        (call.cluster.as_str(), call.path, call.timeout),
        ("broker", "/oauth2/token", 2000)
    );
    assert_eq!(
        String::from_utf8(call.form(&connection)).unwrap(),
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
         &subject_token_type=urn%3Akerbridge%3Atoken-type%3Anegotiate&subject_token=YIIabc%2B%2F%3D&audience=orders\
         &request_id=r-1&route=orders&source=10.0.0.7%3A4711&server_name=api.test"
    );
}

#[test]
fn the_clients_address_is_a_header_line_where_it_can_be_one() {
    let line = |source: &[u8]| {
        let connection = Connection {
            source,
            ..Connection::default()
        };
        connection.source_line().map(str::to_owned)
    };
    for good in ["10.0.0.7:4711", "[2001:db8::1]:4711", "10.0.0.7:0"] {
        assert_eq!(line(good.as_bytes()).as_deref(), Some(good));
    }
    for none in ["", "a pipe", "10.0.0.7\r\nx: y", "\u{e4}", "\0"] {
        assert_eq!(line(none.as_bytes()), None, "{none:?}");
    }
    assert_eq!(line(b"10.0.0.7\xff"), None);
}

#[test]
fn a_granted_token_passes_and_the_response_completes_the_handshake() {
    let key = Key::new("k1");
    let token = key.token(&claims("orders", "orders:read"));
    let gate = gate(&key);
    let (_, pending) = ask(&gate, "/orders", true);
    let (edits, mut admitted) = passed(resume(&gate, pending, "200", &granted(&token)));
    assert_eq!(
        shown(&edits),
        [
            "x-kerbridge-subject=alice@LAB.TEST",
            "x-kerbridge-issuer=https://broker.test",
            "x-kerbridge-scope=orders:read",
            "-authorization",
        ]
    );
    let response = HeaderMap::from_pairs([(b"x-kerbridge-token".as_slice(), b"spoofed".as_slice())]);
    assert_eq!(
        shown(&admitted.respond(at(NOW + 1), &response)),
        [
            "-x-kerbridge-token",
            "+www-authenticate=Negotiate oYGz/+0=",
            &format!("x-kerbridge-token={token}"),
            "x-kerbridge-token-expires-in=899",
            "cache-control=no-store",
            "-age",
            "-expires",
            "-etag"
        ]
    );
}

#[test]
fn a_token_is_handed_back_only_where_the_route_says_so_and_never_in_clear_text() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let token = key.token(&claims("orders", ""));
    let (_, pending) = ask(&gate, "/tickets", true);
    let (_, mut admitted) = passed(resume(&gate, pending, "200", &granted(&token)));
    assert_eq!(
        shown(&admitted.respond(at(NOW), &HeaderMap::default())),
        ["+www-authenticate=Negotiate oYGz/+0="]
    );

    let (_, pending) = ask(&gate, "/lab", false);
    let (_, mut admitted) = passed(resume(&gate, pending, "200", &granted(&token)));
    assert_eq!(
        shown(&admitted.respond(at(NOW), &HeaderMap::default())),
        ["+www-authenticate=Negotiate oYGz/+0="]
    );

    let (_, pending) = ask(&gate, "/pages", true);
    let token = key.token(&claims("pages", ""));
    let (_, mut admitted) = passed(resume(&gate, pending, "200", &granted(&token)));
    let name = kerbridge_gate::request::cookie_name("pages");
    let cookie = format!("+set-cookie={name}={token}; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Lax");
    assert!(shown(&admitted.respond(at(NOW), &HeaderMap::default())).contains(&cookie));

    // Browsers would drop one over 4 KiB without a word (RFC 6265 §6.1): the next request brings a ticket again.
    for (padding, is_set) in [(2500, true), (3000, false)] {
        let claims = claims("pages", "").replace('}', &format!(r#","pad":"{}"}}"#, "x".repeat(padding)));
        let (_, pending) = ask(&gate, "/pages", true);
        let (_, mut admitted) = passed(resume(&gate, pending, "200", &granted(&key.token(&claims))));
        let edits = shown(&admitted.respond(at(NOW), &HeaderMap::default()));
        let cookie = edits.iter().find(|edit| edit.starts_with("+set-cookie="));
        assert_eq!(cookie.is_some(), is_set, "{padding}");
        assert!(cookie.is_none_or(|cookie| cookie.len() - "+set-cookie=".len() <= 4096));
        assert_eq!(edits.contains(&"cache-control=no-store".into()), is_set);
    }
}

#[test]
fn a_token_shown_by_the_client_is_not_handed_back() {
    let key = Key::new("k1");
    let token = format!("Bearer {}", key.token(&claims("orders", "orders:read")));
    let (_, mut admitted) = passed(run(
        &gate(&key),
        NOW,
        &head("/orders", &[("authorization", token.as_bytes())]),
        true,
    ));
    assert!(admitted.respond(at(NOW), &HeaderMap::default()).is_empty());
}

#[test]
fn a_first_leg_is_answered_with_the_brokers_token_and_its_handle_is_kept_for_the_connection() {
    let gate = gate(&Key::new("k1"));
    let handle = "AbCdEfGhIjKlMnOpQr-_12";
    let needed =
        |more: &str| format!(r#"{{"error":"invalid_grant","reason":"continue_needed","negotiate":"oYGz"{more}}}"#);
    let long = "A".repeat(65);
    for (more, kept) in [
        (format!(r#","continuation":"{handle}""#), Some(handle)),
        (String::new(), None),
        (format!(r#","continuation":"{long}""#), None),
    ] {
        let (call, pending) = ask(&gate, "/orders", true);
        assert!(!call.is_second_leg);
        let answer = reply(resume(&gate, pending, "400", &needed(&more)));
        assert_eq!((answer.decision.reason, answer.status), (Reason::ContinueNeeded, 401));
        assert_eq!(
            lines(&answer, "www-authenticate"),
            ["Negotiate oYGz", r#"Bearer realm="orders""#]
        );
        assert_eq!(answer.continuation, kept.map(|handle| Secret::from(handle.as_bytes())));
        assert!(!format!("{answer:?}").contains(handle));
        assert!(!answer.body.windows(4).any(|part| part == b"AbCd"));
    }
    let (_, pending) = ask(&gate, "/orders", true);
    let replay = format!(r#"{{"error":"invalid_grant","reason":"replay","continuation":"{handle}"}}"#);
    assert_eq!(reply(resume(&gate, pending, "400", &replay)).continuation, None);
}

#[test]
fn a_second_leg_takes_the_handle_along() {
    let gate = gate(&Key::new("k1"));
    let headers = head("/orders", &[("authorization", b"Negotiate oYIabc+/=")]);
    let Step::Call(call, pending) = run(&gate, NOW, &headers, true) else {
        panic!()
    };
    assert!(call.is_second_leg);
    let handle = Secret::new(b"AbC-_1".to_vec());
    let form = |continuation| {
        let form = call.form(&Connection {
            continuation,
            ..Connection::default()
        });
        String::from_utf8(form).unwrap()
    };
    assert!(form(Some(&handle)).ends_with("&route=orders&continuation=AbC-_1"));
    assert!(form(None).ends_with("&route=orders"));
    let lost = r#"{"error":"invalid_grant","reason":"continuation_lost"}"#;
    let answer = reply(resume(&gate, pending, "400", lost));
    assert_eq!((answer.decision.reason, answer.status), (Reason::ContinuationLost, 401));
    assert_eq!(
        lines(&answer, "www-authenticate"),
        ["Negotiate", r#"Bearer realm="orders""#]
    );
}

#[test]
fn without_keys_no_ticket_is_used_up() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let headers = head("/orders", &[("authorization", b"Negotiate YII=")]);
    assert_eq!(
        reply(run(&gate, NOW + 301, &headers, true)).decision.reason,
        Reason::KeysUnavailable
    );
}

#[test]
fn no_step_shows_a_credential_in_debug_output() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let token = key.token(&claims("orders", "orders:read"));
    let value = format!("Bearer {token}");
    let headers = head("/orders", &[("authorization", value.as_bytes())]);
    let step = gate.borrow_mut().admit(at(NOW), &request(&headers, true));
    let payload = token.split('.').nth(1).unwrap();
    assert!(!format!("{step:?}").contains(payload));
    let (call, pending) = ask(&gate, "/orders", true);
    assert!(!format!("{call:?}{pending:?}").contains("YIIabc"));
    let step = resume(&gate, pending, "200", &granted(&token));
    assert!(!format!("{step:?}").contains(payload));
}
