//! The filter's own paths at the gate: who may log out, what the broker is told, what the browser is told, and that a browser
//! which was logged out is not logged in until its user wants that.

mod configured;
mod marked;

use std::cell::RefCell;
use std::rc::Rc;

use crate::world::{CONFIG, Key, NOW, at, claims, gate, head, lines, passed, reply, run};
use kerbridge_gate::exchange::{BrokerCall, BrokerReply, PendingCall};
use kerbridge_gate::gate::WarmHead;
use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::request::cookie_name;
use kerbridge_gate::{Config, Gate, Reason, Snapshot, Step};

const MARK: &str = "__Host-kerbridge-logged-out";
const OWN: (&str, &[u8]) = ("origin", b"https://api.test");
const HTML: (&str, &[u8]) = ("accept", b"text/html,*/*;q=0.8");
const POST: (&str, &[u8]) = (":method", b"POST");

fn ask(path: &str, headers: &[(&str, &[u8])]) -> Step {
    run(&gate(&Key::new("k1")), NOW, &head(path, headers), true)
}

fn told(path: &str, headers: &[(&str, &[u8])]) -> LocalReply {
    reply(ask(path, headers))
}

fn refused(path: &str, headers: &[(&str, &[u8])]) -> (u16, Reason) {
    let reply = told(path, headers);
    assert_eq!(
        lines(&reply, "set-cookie"),
        [] as [String; 0],
        "a refusal changes nothing"
    );
    (reply.status, reply.decision.reason)
}

fn text(reply: &LocalReply) -> String {
    String::from_utf8(reply.body.clone()).unwrap()
}

fn cookie(audience: &str, token: &str) -> String {
    format!("{}={token}", cookie_name(audience))
}

fn called(step: Step) -> (BrokerCall, PendingCall) {
    match step {
        Step::Call(call, pending) => (call, pending),
        other => panic!("expected a call, got {other:?}"),
    }
}

fn form(call: &BrokerCall) -> String {
    String::from_utf8(call.body.expose().to_vec()).unwrap()
}

/// What the browser is told when the broker has answered so.
fn after(headers: &[(&str, &[u8])], status: &str, body: &str) -> LocalReply {
    let gate = gate(&Key::new("k1"));
    let (_, pending) = called(run(&gate, NOW, &head("/.kerbridge/logout", headers), true));
    let answer = BrokerReply::Response {
        status: Some(status.as_bytes()),
        content_type: Some(b"application/json"),
        body: body.as_bytes(),
    };
    reply(pending.resume(&mut gate.borrow_mut(), at(NOW), answer))
}

fn gone(name: &str) -> String {
    format!("{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")
}

fn marked() -> String {
    format!("{MARK}=1; Path=/; Max-Age=300; Secure; HttpOnly; SameSite=Lax")
}

#[test]
fn every_token_of_the_browser_goes_to_the_broker_once() {
    let cookies = [
        cookie("orders", "aaa.b+b.ccc"),
        cookie("pages", "ddd"),
        cookie("more", "ddd"),
        "__Host-kerbridge-logged-out=1".to_owned(),
        "__Host-kerbridge-other=eee".to_owned(),
        cookie("broken", "no token"),
        "theme=dark".to_owned(),
    ]
    .join("; ");
    let headers = [POST, OWN, ("cookie", cookies.as_bytes())];
    let (call, _) = called(ask("/.kerbridge/logout", &headers));
    assert_eq!((call.path, call.is_second_leg), ("/v1/logout", false));
    assert_eq!(
        form(&call),
        "tokens=aaa.b%2Bb.ccc%20ddd&request_id=r-1&route=%2F.kerbridge"
    );
    let (call, _) = called(ask(
        "/.kerbridge/logout",
        &[POST, ("authorization", b"bearer xyz"), ("cookie", cookies.as_bytes())],
    ));
    assert!(
        form(&call).starts_with("tokens=xyz%20aaa.b%2Bb.ccc%20ddd&"),
        "{}",
        form(&call)
    );
}

/// Sessions of so many audiences.
fn sessions(count: usize) -> Vec<String> {
    (0..count).map(|n| cookie(&n.to_string(), &n.to_string())).collect()
}

#[test]
fn who_has_more_cookies_than_a_browser_keeps_is_logged_out_of_what_was_found() {
    let cookies = sessions(256).join("; ");
    let headers = [POST, OWN, ("cookie", cookies.as_bytes())];
    let (call, _) = called(ask("/.kerbridge/logout", &headers));
    assert_eq!(form(&call).matches("%20").count(), 255);
    let reply = after(&headers, "200", r#"{"sessions":256}"#);
    assert_eq!((reply.status, lines(&reply, "set-cookie").len()), (200, 257));
    // What goes beyond that stays, and nobody says that it has ended.
    let cookies = sessions(300).join("; ");
    let headers = [POST, OWN, ("cookie", cookies.as_bytes())];
    let (call, _) = called(ask("/.kerbridge/logout", &headers));
    assert_eq!(form(&call).matches("%20").count(), 255);
    let reply = after(&headers, "200", r#"{"sessions":256}"#);
    assert_eq!((reply.status, reply.decision.reason), (503, Reason::BrokerOverloaded));
    let set = lines(&reply, "set-cookie");
    assert_eq!((set.len(), set.last()), (257, Some(&marked())));
    assert_eq!(set[0], gone(&cookie_name("0")));
}

#[test]
fn once_the_broker_has_ended_the_sessions_the_cookies_go_and_the_browser_is_marked() {
    let cookies = [cookie("orders", "aaa"), cookie("pages", "ddd")].join("; ");
    let headers = [POST, OWN, ("cookie", cookies.as_bytes())];
    let reply = after(&headers, "200", r#"{"sessions":1,"later":true}"#);
    assert_eq!((reply.status, reply.decision.reason), (200, Reason::Ok));
    assert!(reply.decision.logout && reply.decision.route_name() == "/.kerbridge");
    assert_eq!(
        lines(&reply, "set-cookie"),
        [gone(&cookie_name("orders")), gone(&cookie_name("pages")), marked()]
    );
    assert_eq!(lines(&reply, "cache-control"), ["no-store"]);
    // Pages that the browser has kept would be shown to whoever comes next.
    assert_eq!(lines(&reply, "clear-site-data"), ["\"cache\""]);
    assert_eq!(lines(&reply, "content-type"), ["application/json"]);
    assert_eq!(text(&reply), "{\"logged_out\":true}\n");

    let reply = after(&[&headers[..], &[HTML]].concat(), "200", r#"{"sessions":1}"#);
    assert_eq!((reply.status, reply.decision.reason), (303, Reason::Ok));
    assert_eq!(lines(&reply, "location"), ["/.kerbridge/logout"]);
    assert_eq!((lines(&reply, "set-cookie").len(), text(&reply).as_str()), (3, ""));
}

#[test]
fn a_browser_is_logged_out_though_the_broker_does_not_say_so_and_hears_that() {
    let cookies = cookie("orders", "aaa");
    let headers = [POST, OWN, ("cookie", cookies.as_bytes())];
    let says = |error: &str, reason: &str| format!(r#"{{"error":"{error}","reason":"{reason}"}}"#);
    for (status, body, reason, answer) in [
        ("503", "no healthy upstream".to_owned(), Reason::BrokerUnavailable, 503),
        ("504", String::new(), Reason::BrokerUnavailable, 503),
        ("404", String::new(), Reason::BrokerUnavailable, 503),
        ("200", "{}".to_owned(), Reason::BrokerUnavailable, 503),
        ("200", r#"{"sessions":-1}"#.to_owned(), Reason::BrokerUnavailable, 503),
        (
            "503",
            says("temporarily_unavailable", "store_unavailable"),
            Reason::StoreUnavailable,
            503,
        ),
        (
            "429",
            says("temporarily_unavailable", "rate_limited"),
            Reason::RateLimited,
            429,
        ),
        // What no logout comes to.
        ("400", says("invalid_grant", "ok"), Reason::BrokerUnavailable, 503),
        ("400", says("invalid_grant", "revoked"), Reason::BrokerUnavailable, 503),
        ("400", says("invalid_request", "invalid_request"), Reason::Internal, 503),
    ] {
        let reply = after(&headers, status, &body);
        assert_eq!(
            (reply.status, reply.decision.reason),
            (answer, reason),
            "{status} {body}"
        );
        assert_eq!(lines(&reply, "set-cookie"), [gone(&cookie_name("orders")), marked()]);
        assert_eq!(lines(&reply, "clear-site-data"), ["\"cache\""]);
        assert_eq!(lines(&reply, "retry-after"), ["5"]);
        assert_eq!(lines(&reply, "www-authenticate"), [] as [String; 0]);
        assert_eq!(lines(&reply, "content-type"), ["application/json"]);
        let page = after(&[&headers[..], &[HTML]].concat(), status, &body);
        assert_eq!((page.status, lines(&page, "content-type").len()), (answer, 1));
        assert!(text(&page).contains("could not be told") && text(&page).contains("/.kerbridge/login?return=/"));
    }
    let gate = gate(&Key::new("k1"));
    let (_, pending) = called(run(&gate, NOW, &head("/.kerbridge/logout", &headers), true));
    let reply = reply(pending.resume(&mut gate.borrow_mut(), at(NOW), BrokerReply::Nothing));
    assert_eq!((reply.status, lines(&reply, "set-cookie").len()), (503, 2));
}

#[test]
fn who_has_no_session_is_logged_out_without_the_broker() {
    for headers in [
        vec![POST, OWN],
        vec![POST, ("sec-fetch-site", b"same-origin".as_slice())],
        // A ticket is no session; what is no token has none.
        vec![POST, OWN, ("authorization", b"Negotiate YIIabc".as_slice())],
    ] {
        let reply = told("/.kerbridge/logout", &headers);
        assert_eq!((reply.status, reply.decision.reason), (200, Reason::Ok));
        assert_eq!(lines(&reply, "set-cookie"), [marked()]);
    }
    let broken = cookie("orders", "no token");
    let reply = told("/.kerbridge/logout", &[POST, OWN, ("cookie", broken.as_bytes())]);
    assert_eq!(lines(&reply, "set-cookie"), [gone(&cookie_name("orders")), marked()]);
}

#[test]
fn only_a_page_of_this_very_origin_logs_out() {
    let held = cookie("orders", "aaa");
    let held = ("cookie", held.as_bytes());
    for headers in [
        vec![POST, held],
        vec![POST, held, ("origin", b"https://evil.test".as_slice())],
        vec![POST, held, ("origin", b"http://api.test".as_slice())],
        vec![POST, held, ("origin", b"https://www.api.test".as_slice())],
        vec![POST, held, ("origin", b"https://api.test:8443".as_slice())],
        vec![POST, held, ("origin", b"null".as_slice())],
        vec![POST, held, ("sec-fetch-site", b"cross-site".as_slice())],
        vec![POST, held, ("sec-fetch-site", b"same-site".as_slice())],
        vec![POST, held, OWN, ("sec-fetch-site", b"cross-site".as_slice())],
        // No session is needed to be kept out: another site must not do that either.
        vec![POST, ("sec-fetch-site", b"cross-site".as_slice())],
        vec![POST],
        vec![POST, ("authorization", b"Negotiate YIIabc".as_slice())],
        vec![
            POST,
            ("authorization", b"Bearer aaa".as_slice()),
            ("origin", b"https://evil.test".as_slice()),
        ],
    ] {
        assert_eq!(
            refused("/.kerbridge/logout", &headers),
            (403, Reason::CrossSite),
            "{headers:?}"
        );
    }
    for (headers, reason) in [
        (
            vec![
                POST,
                OWN,
                ("authorization", b"Bearer a".as_slice()),
                ("authorization", b"Bearer b".as_slice()),
            ],
            Reason::MultipleCredentials,
        ),
        (
            vec![POST, OWN, ("authorization", b"Bearer a,b".as_slice())],
            Reason::MultipleCredentials,
        ),
        (
            vec![POST, OWN, ("authorization", b"Bearer a b".as_slice())],
            Reason::MalformedCredentials,
        ),
    ] {
        assert_eq!(refused("/.kerbridge/logout", &headers), (400, reason));
    }
    let clear = run(
        &gate(&Key::new("k1")),
        NOW,
        &head("/.kerbridge/logout", &[POST, OWN, held]),
        false,
    );
    assert_eq!(reply(clear).decision.reason, Reason::InsecureTransport);
}

#[test]
fn nothing_but_a_post_logs_out_and_nothing_below_the_path_goes_upstream() {
    let held = cookie("orders", "aaa");
    let held = ("cookie", held.as_bytes());
    for method in [b"GET".as_slice(), b"HEAD"] {
        let reply = told("/.kerbridge/logout", &[(":method", method), OWN, held, HTML]);
        assert_eq!((reply.status, reply.decision.reason), (200, Reason::Ok));
        assert!(!reply.decision.logout);
        assert_eq!(lines(&reply, "set-cookie"), [] as [String; 0]);
        assert!(text(&reply).contains("<form method=\"post\" action=\"/.kerbridge/logout\">"));
        for (name, value) in [
            ("cache-control", "no-store"),
            ("content-type", "text/html; charset=utf-8"),
            (
                "content-security-policy",
                "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
        ] {
            assert_eq!(lines(&reply, name), [value], "{name}");
        }
        assert!(!text(&reply).contains("<script") && !text(&reply).contains("style"));
    }
    for (method, path) in [
        (b"PUT".as_slice(), "/.kerbridge/logout"),
        (b"DELETE", "/.kerbridge/logout"),
        (b"OPTIONS", "/.kerbridge/logout"),
        (b"POST", "/.kerbridge/login"),
        (b"GET", "/.kerbridge"),
        (b"GET", "/.kerbridge/"),
        (b"GET", "/.kerbridge/logout/"),
        (b"GET", "/.kerbridge/logout/x"),
        (b"GET", "/.kerbridge/x"),
    ] {
        let headers = [
            (":method", method),
            OWN,
            held,
            ("access-control-request-method", b"POST"),
        ];
        assert_eq!(refused(path, &headers), (403, Reason::DeniedByPolicy), "{path}");
    }
    // However it is written.
    assert_eq!(refused("/.%6berbridge/x", &[OWN, held]), (403, Reason::DeniedByPolicy));
    assert_eq!(
        refused("/.kerbridge/logout?access_token=a", &[POST, OWN]),
        (400, Reason::TokenInQuery)
    );
    // A path beside it is another.
    assert_eq!(
        refused("/.kerbridge2/logout", &[POST, OWN]),
        (403, Reason::DeniedByPolicy)
    );
}

#[test]
fn a_known_token_at_the_filters_own_path_goes_nowhere() {
    let key = Key::new("k1");
    let config = CONFIG
        .replace("\"routes\": [", "\"underscores_rejected\": true, \"routes\": [{\"path_prefix\": \"/\", \"accept\": [\"bearer\"], \"audience\": \"orders\"},")
        .replace("\"routes\": [", "\"routes\": [{\"path\": \"/c\", \"accept\": [\"cookie\"], \"audience\": \"orders\"},");
    let first = config.find("{\"name\": \"orders\"").unwrap();
    let config = format!("{}]}}", config[..first].trim_end().trim_end_matches(','));
    let config = Rc::new(Config::parse(config.as_bytes()).unwrap());
    let snapshot = Snapshot::new(config, at(NOW))
        .with_keys(0, key.set().as_bytes(), at(NOW))
        .unwrap();
    let gate = RefCell::new(Gate::new(Rc::new(snapshot)));
    let bearer = format!("Bearer {}", key.token(&claims("orders", "")));
    passed(run(
        &gate,
        NOW,
        &head("/x", &[("authorization", bearer.as_bytes())]),
        true,
    ));
    let mut gate = gate.borrow_mut();
    for (path, is_passed) in [
        ("/x", true),
        ("/.kerbridge/logout", false),
        ("/.%6berbridge/logout", false),
    ] {
        let recalled = gate.recall(at(NOW), bearer.as_bytes()).unwrap();
        let head = WarmHead {
            method: b"POST",
            path: path.as_bytes(),
            authority: b"api.test",
            secure: true,
            certificate: None,
        };
        assert_eq!(gate.admit_warm(at(NOW), &head, recalled).is_some(), is_passed, "{path}");
    }
}
