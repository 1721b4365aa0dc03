//! The filter's own paths at the gate: who may log out, what the broker is told, what the browser is told, and that a browser
//! which was logged out is not logged in until its user wants that.

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
    // 64 at once, and no more.
    let many = |count: usize| {
        let cookies: Vec<String> = (0..count).map(|n| cookie(&n.to_string(), &n.to_string())).collect();
        cookies.join("; ")
    };
    called(ask("/.kerbridge/logout", &[POST, OWN, ("cookie", many(64).as_bytes())]));
    assert_eq!(
        refused("/.kerbridge/logout", &[POST, OWN, ("cookie", many(65).as_bytes())]),
        (400, Reason::MultipleCredentials)
    );
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
fn a_login_takes_the_mark_away_and_leads_back_to_a_path_of_this_host_only() {
    for (query, path) in [("", "/"), ("?return=/pages/1%3Fq%3D1", "/pages/1?q=1")] {
        for headers in [
            vec![],
            vec![("sec-fetch-site", b"same-origin".as_slice())],
            vec![("sec-fetch-site", b"none".as_slice())],
        ] {
            let reply = told(&format!("/.kerbridge/login{query}"), &headers);
            assert_eq!((reply.status, reply.decision.reason), (303, Reason::Ok));
            assert_eq!(lines(&reply, "location"), [path]);
            assert_eq!(lines(&reply, "set-cookie"), [gone(MARK)]);
            assert_eq!(lines(&reply, "cache-control"), ["no-store"]);
        }
    }
    for value in [
        "https://evil.test",
        "//evil.test",
        "/%5Cevil.test",
        "/%2Fevil.test",
        "/a%0d%0ab",
    ] {
        let path = format!("/.kerbridge/login?return={value}");
        assert_eq!(refused(&path, &[]), (400, Reason::InvalidRequest), "{value}");
    }
    // Another site must not log a user in who wanted to be out.
    let link = [
        ("sec-fetch-site", b"cross-site".as_slice()),
        ("sec-fetch-mode", b"navigate"),
        ("sec-fetch-dest", b"document"),
    ];
    assert_eq!(refused("/.kerbridge/login?return=/", &link), (403, Reason::CrossSite));
}

#[test]
fn a_browser_that_was_logged_out_is_not_asked_for_a_ticket_and_none_of_its_is_taken() {
    let mark = format!("theme=dark; {MARK}=1");
    let mark = ("cookie", mark.as_bytes());
    let reply = told("/pages/1?q=a&x=<\"'", &[mark, HTML]);
    assert_eq!((reply.status, reply.decision.reason), (403, Reason::LoggedOut));
    assert_eq!(lines(&reply, "www-authenticate"), [] as [String; 0]);
    assert_eq!(lines(&reply, "content-type"), ["text/html; charset=utf-8"]);
    assert!(
        text(&reply).contains("You are logged out.") && text(&reply).contains("href=\"/.kerbridge/login?return=/\"")
    );
    let page = text(&told("/pages/1?q=a&x='", &[mark, HTML]));
    assert!(
        page.contains("href=\"/.kerbridge/login?return=/pages/1%3Fq%3Da%26x%3D%27\""),
        "{page}"
    );
    // Where another proof is taken too, that one is asked for.
    let reply = told("/orders", &[mark]);
    assert_eq!((reply.status, reply.decision.reason), (401, Reason::LoggedOut));
    assert_eq!(lines(&reply, "www-authenticate"), ["Bearer realm=\"orders\""]);
    assert_eq!(text(&reply), "{\"error\":\"unauthenticated\",\"request_id\":\"r-1\"}\n");
    // Some send their ticket unasked.
    let ticket = ("authorization", b"Negotiate YIIabc".as_slice());
    assert_eq!(refused("/tickets", &[mark, ticket]), (403, Reason::LoggedOut));
    assert!(matches!(ask("/tickets", &[ticket]), Step::Call(..)));
    // The page says so too.
    let page = text(&told("/.kerbridge/logout", &[mark]));
    assert!(page.contains("You are logged out.") && !page.contains("<form"));
    // Only this name, only a cookie.
    assert_eq!(
        refused("/pages", &[("cookie", b"__Host-kerbridge-logged-outs=1")]),
        (401, Reason::NoCredentials)
    );
    assert_eq!(refused("/pages", &[(MARK, b"1")]), (401, Reason::NoCredentials));
}

#[test]
fn the_mark_stays_from_the_service_and_a_good_token_passes_beside_it() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let token = key.token(&claims("pages", ""));
    let cookies = format!("{}; {MARK}=1; theme=dark", cookie("pages", &token));
    let (edits, _) = passed(run(
        &gate,
        NOW,
        &head("/pages", &[("cookie", cookies.as_bytes())]),
        true,
    ));
    let shown = crate::world::shown(&edits);
    assert!(shown.contains(&"cookie=theme=dark".to_owned()), "{shown:?}");
    let bearer = format!("Bearer {}", key.token(&claims("orders", "orders:read")));
    let mark = format!("{MARK}=1");
    let headers = [("authorization", bearer.as_bytes()), ("cookie", mark.as_bytes())];
    passed(run(&gate, NOW, &head("/orders", &headers), true));
    // One that is no good any more goes, and no ticket is asked for in its place.
    let ended = key.token(&claims("pages", "").replace(&(NOW + 900).to_string(), &NOW.to_string()));
    let cookies = format!("{}; {MARK}=1", cookie("pages", &ended));
    let reply = reply(run(
        &gate,
        NOW,
        &head("/pages", &[("cookie", cookies.as_bytes()), HTML]),
        true,
    ));
    assert_eq!((reply.status, reply.decision.reason), (403, Reason::Expired));
    assert_eq!(lines(&reply, "set-cookie"), [gone(&cookie_name("pages"))]);
    assert!(text(&reply).contains("You are logged out."));
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

/// A gate with another `logout`, and more routes.
fn with(logout: &str, routes: &str) -> Result<RefCell<Gate>, String> {
    let config = CONFIG.replace("\"routes\": [", &format!("\"logout\": {logout}, \"routes\": [{routes}"));
    let config = Config::parse(config.as_bytes()).map_err(|errors| errors.to_string())?;
    Ok(RefCell::new(Gate::new(Rc::new(Snapshot::new(
        Rc::new(config),
        at(NOW),
    )))))
}

#[test]
fn the_paths_may_be_elsewhere_or_nowhere() {
    let reason = |gate: &RefCell<Gate>, path: &str, headers: &[(&str, &[u8])]| {
        reply(run(gate, NOW, &head(path, headers), true)).decision.reason
    };
    let elsewhere = with(r#"{"path": "/-/session", "stay_out": "1h"}"#, "").unwrap();
    let reply = crate::world::reply(run(
        &elsewhere,
        NOW,
        &head("/-/session/logout", &[POST, OWN, HTML]),
        true,
    ));
    assert_eq!(lines(&reply, "location"), ["/-/session/logout"]);
    assert!(lines(&reply, "set-cookie")[0].contains("Max-Age=3600"));
    assert_eq!(
        reason(&elsewhere, "/.kerbridge/logout", &[POST, OWN]),
        Reason::DeniedByPolicy
    );

    let mark = format!("{MARK}=1");
    let mark = ("cookie", mark.as_bytes());
    let nowhere = with(r#"{"enabled": false}"#, "").unwrap();
    assert_eq!(
        reason(&nowhere, "/.kerbridge/logout", &[POST, OWN]),
        Reason::DeniedByPolicy
    );
    assert_eq!(reason(&nowhere, "/pages", &[mark]), Reason::NoCredentials);
    // Without cookies there is no session.
    let bearer_only = CONFIG
        .replace(", \"cookie\"]", "]")
        .replace("\"deliver\": \"cookie\"", "\"deliver\": \"none\"");
    let config = Config::parse(bearer_only.as_bytes()).unwrap();
    let gate = RefCell::new(Gate::new(Rc::new(Snapshot::new(Rc::new(config), at(NOW)))));
    assert_eq!(
        reason(&gate, "/.kerbridge/logout", &[POST, OWN]),
        Reason::DeniedByPolicy
    );
}

#[test]
fn a_mistake_of_the_configuration_is_named_with_its_field() {
    let open = |path: &str| format!(r#"{{"name": "x", "path": "{path}", "access": "open"}},"#);
    for (logout, routes, field) in [
        (r#"{"path": "/"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "kerbridge"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/x/"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/x//y"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/../y"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/a\"b"}"#, String::new(), "logout.path: expected"),
        (r#"{"path": "/a%41"}"#, String::new(), "logout.path: expected"),
        (r#"{"stay_out": "0s"}"#, String::new(), "logout.stay_out"),
        (r#"{"stay_out": "25h"}"#, String::new(), "logout.stay_out: expected"),
        (r#"{"other": 1}"#, String::new(), "logout"),
        ("{}", open("/.kerbridge"), "routes[0]: is never reached"),
        ("{}", open("/.kerbridge/help"), "routes[0]: is never reached"),
        (r#"{"path": "/pages"}"#, String::new(), "routes[1]: is never reached"),
    ] {
        let error = with(logout, &routes).unwrap_err();
        assert!(error.starts_with(field), "{logout}: {error}");
    }
    assert!(with(r#"{"enabled": false}"#, &open("/.kerbridge/help")).is_ok());
    assert!(with("{}", &open("/.kerbridge2")).is_ok());
}
