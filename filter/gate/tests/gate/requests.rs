//! Requests at the gate: credentials, routes, headers of ours, other sites, clear text.

use std::cell::RefCell;

use crate::world::{Key, NOW, at, claims, gate, head, lines, passed, reply, request, run, shown};
use kerbridge_gate::{Gate, Reason, Snapshot, Step};
use proptest::prelude::*;

const BROWSER: (&str, &[u8]) = ("accept", b"text/html,*/*");

fn reason(path: &str, headers: &[(&str, &[u8])]) -> Reason {
    reply(run(&gate(&Key::new("k1")), NOW, &head(path, headers), true))
        .decision
        .reason
}

#[test]
fn without_credentials_every_accepted_scheme_is_offered_on_a_line_of_its_own() {
    let gate = gate(&Key::new("k1"));
    for (path, challenges) in [
        ("/orders", vec!["Negotiate", r#"Bearer realm="orders""#]),
        ("/tickets", vec!["Negotiate"]),
        ("/tokens", vec![r#"Bearer realm="orders""#]),
    ] {
        let answer = reply(run(&gate, NOW, &head(path, &[]), true));
        assert_eq!((answer.decision.reason, answer.status), (Reason::NoCredentials, 401));
        assert_eq!(lines(&answer, "www-authenticate"), challenges);
        assert_eq!(lines(&answer, "cache-control"), ["no-store"]);
        assert_eq!(answer.body, b"{\"error\":\"unauthenticated\",\"request_id\":\"r-1\"}\n");
    }
    let page = reply(run(&gate, NOW, &head("/orders", &[BROWSER]), true));
    assert_eq!(page.body, b"401 unauthenticated (request r-1)\n");
}

#[test]
fn what_is_no_single_credential_is_refused() {
    type Headers<'a> = &'a [(&'a str, &'a [u8])];
    let cases: &[(Headers<'_>, Reason)] = &[
        (
            &[("authorization", b"Bearer a"), ("authorization", b"Bearer a")],
            Reason::MultipleCredentials,
        ),
        (
            &[("authorization", b"Bearer a"), ("authorization", b"Negotiate b")],
            Reason::MultipleCredentials,
        ),
        (&[("authorization", b"Bearer a,b")], Reason::MultipleCredentials),
        (
            &[("authorization", b"Bearer a, Negotiate b")],
            Reason::MultipleCredentials,
        ),
        (
            &[("authorization", b"Negotiate a,Bearer b")],
            Reason::MultipleCredentials,
        ),
        (&[("authorization", b"")], Reason::MalformedCredentials),
        (&[("authorization", b"Bearer")], Reason::MalformedCredentials),
        (&[("authorization", b"Bearer ")], Reason::MalformedCredentials),
        (&[("authorization", b"Negotiate")], Reason::MalformedCredentials),
        (&[("authorization", b"Negotiate ====")], Reason::MalformedCredentials),
        (&[("authorization", b"Negotiate a b")], Reason::MalformedCredentials),
        (
            &[("authorization", b"Negotiate \xff\xfe")],
            Reason::MalformedCredentials,
        ),
        (&[("authorization", b"Bearer a\tb")], Reason::MalformedCredentials),
        (
            &[("authorization", b"eyJhbGciOiJFUzI1NiJ9.e30.AAAA")],
            Reason::MalformedCredentials,
        ),
        (&[("authorization", b"\xff\xff \xff")], Reason::MalformedCredentials),
        (&[("authorization", b"NTLM TlRMTVNTUAAB")], Reason::NtlmToken),
        (&[("authorization", b"Basic YTpi")], Reason::NoCredentials),
        (
            &[("authorization", b"Digest username=\"a\", nc=1")],
            Reason::NoCredentials,
        ),
        (
            &[("authorization", b"Basic YTpi, Bearer a")],
            Reason::MultipleCredentials,
        ),
        (
            &[("authorization", b"Basic YTpi,NEGOTIATE a")],
            Reason::MultipleCredentials,
        ),
    ];
    for (headers, expected) in cases {
        assert_eq!(reason("/orders", headers), *expected, "{headers:?}");
    }
    for path in [
        "/orders?access_token=x",
        "/orders?a=1&access_token=x",
        "/orders?access%5Ftoken=x",
        "/orders?a;Access_Token=x",
    ] {
        assert_eq!(reason(path, &[]), Reason::TokenInQuery, "{path}");
    }
    let long = [b"Negotiate ".as_slice(), &[b'a'; 64 * 1024 + 1]].concat();
    assert_eq!(reason("/orders", &[("authorization", &long)]), Reason::TokenTooLarge);
}

#[test]
fn a_scheme_that_the_route_does_not_accept_is_no_credential_there() {
    let token = Key::new("k1").token(&claims("orders", ""));
    assert_eq!(
        reason("/tickets", &[("authorization", format!("Bearer {token}").as_bytes())]),
        Reason::NoCredentials
    );
    assert_eq!(
        reason("/tokens", &[("authorization", b"Negotiate YII=")]),
        Reason::NoCredentials
    );
}

#[test]
fn a_refused_ticket_without_another_way_in_is_403_not_a_401_that_loops() {
    let gate = gate(&Key::new("k1"));
    let answer = reply(run(
        &gate,
        NOW,
        &head("/tickets", &[("authorization", b"NTLM x")]),
        true,
    ));
    assert_eq!((answer.decision.reason, answer.status), (Reason::NtlmToken, 403));
    assert!(lines(&answer, "www-authenticate").is_empty());
}

#[test]
fn no_route_means_no() {
    for path in ["/", "/order", "/ordersx", "/health/", "/healthz", "/Orders"] {
        assert_eq!(reason(path, &[]), Reason::DeniedByPolicy, "{path}");
    }
    assert_eq!(
        reason("/orders", &[(":authority", b"evil.test")]),
        Reason::DeniedByPolicy
    );
    assert_eq!(
        reason("/orders", &[(":authority", b"API.test:443")]),
        Reason::NoCredentials
    );
    assert_eq!(reason("/x/../health", &[]), Reason::PathAmbiguous);
    assert_eq!(reason("/health;/../orders", &[]), Reason::PathAmbiguous);
}

#[test]
fn headers_under_our_names_are_deleted_however_they_are_written() {
    let key = Key::new("k1");
    let spoofed: [(&str, &[u8]); 4] = [
        ("x-kerbridge-subject", b"root"),
        ("x-kerbridge-subject", b"admin"),
        ("x_kerbridge_subject", b"root"),
        ("x-kerbridge-scope", b"all"),
    ];
    let expected = ["-x-kerbridge-subject", "-x_kerbridge_subject", "-x-kerbridge-scope"];
    let (open, _) = passed(run(&gate(&key), NOW, &head("/health", &spoofed), true));
    assert_eq!(shown(&open), expected);
    assert_eq!(
        shown(&gate(&key).borrow().clean_trailers(&head("/", &spoofed))),
        expected
    );
    // Nobody has looked at a credential there.
    let late: [(&str, &[u8]); 5] = [
        ("authorization", b"Bearer x"),
        ("Proxy_Authorization", b"Bearer x"),
        ("cookie", b"a=b"),
        ("x-token", b"x"),
        ("x-check", b"7"),
    ];
    assert_eq!(
        shown(&gate(&key).borrow().clean_trailers(&head("/", &late))),
        ["-authorization", "-Proxy_Authorization", "-cookie"]
    );

    let token = format!("Bearer {}", key.token(&claims("orders", "")));
    let headers = [spoofed.as_slice(), &[("authorization", token.as_bytes())]].concat();
    let (edits, _) = passed(run(&gate(&key), NOW, &head("/tokens", &headers), true));
    let edits = shown(&edits);
    assert_eq!(edits[..3], expected);
    assert!(edits.contains(&"x-kerbridge-subject=alice@LAB.TEST".into()));
    assert!(
        !edits.iter().any(|edit| edit.starts_with("x-kerbridge-scope=")),
        "no scope, no header"
    );
}

#[test]
fn an_open_route_lets_anybody_in_and_sends_no_credential_on() {
    let headers = head(
        "/health",
        &[
            ("authorization", b"Negotiate YII="),
            ("cookie", b"a=1; __Host-kerbridge-0=t; b=2"),
        ],
    );
    let (edits, admitted) = passed(run(&gate(&Key::new("k1")), NOW, &headers, true));
    assert_eq!(shown(&edits), ["-cookie", "cookie=a=1; b=2", "-authorization"]);
    assert!(admitted.verified().is_none());
}

#[test]
fn nothing_passes_in_clear_text_but_where_the_route_says_so() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let token = format!("Bearer {}", key.token(&claims("orders", "orders:read")));
    for credential in [token.as_bytes(), b"Negotiate YII=", b"Basic YTpi"] {
        let answer = reply(run(
            &gate,
            NOW,
            &head("/orders", &[("authorization", credential)]),
            false,
        ));
        assert_eq!(
            (answer.decision.reason, answer.status),
            (Reason::InsecureTransport, 403)
        );
        assert!(
            lines(&answer, "www-authenticate").is_empty(),
            "no invitation to send a ticket in clear text"
        );
    }
    passed(run(
        &gate,
        NOW,
        &head("/lab", &[("authorization", token.as_bytes())]),
        false,
    ));
    passed(run(&gate, NOW, &head("/health", &[]), false));
}

#[test]
fn before_a_configuration_everything_is_refused() {
    let gate = RefCell::new(Gate::new(Snapshot::closed().into()));
    for path in ["/health", "/orders", "/"] {
        let answer = reply(run(&gate, NOW, &head(path, &[]), true));
        assert_eq!((answer.decision.reason, answer.status), (Reason::Internal, 503));
    }
}

#[test]
fn a_cookie_is_read_stripped_and_deleted_when_it_fails() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let name = kerbridge_gate::request::cookie_name("pages");
    let good = format!("theme=dark; {name}={}; {name}x=1", key.token(&claims("pages", "")));
    let (edits, _) = passed(run(&gate, NOW, &head("/pages", &[("cookie", good.as_bytes())]), true));
    assert_eq!(
        shown(&edits),
        [
            "-cookie",
            "cookie=theme=dark",
            "x-kerbridge-subject=alice@LAB.TEST",
            "x-kerbridge-issuer=https://broker.test",
        ]
    );

    let bad = format!("{name}={}", key.token(&claims("orders", "")));
    let answer = reply(run(&gate, NOW, &head("/pages", &[("cookie", bad.as_bytes())]), true));
    assert_eq!((answer.decision.reason, answer.status), (Reason::WrongAudience, 401));
    assert_eq!(
        lines(&answer, "set-cookie"),
        [format!("{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")]
    );
    assert_eq!(lines(&answer, "www-authenticate"), ["Negotiate"]);

    let twice = format!("{name}=a; {name}=b");
    assert_eq!(
        reason("/pages", &[("cookie", twice.as_bytes())]),
        Reason::MultipleCredentials
    );
    assert_eq!(
        reason("/orders", &[("cookie", good.as_bytes())]),
        Reason::NoCredentials,
        "a route without \"cookie\" reads none"
    );
    let both = head(
        "/pages",
        &[("cookie", good.as_bytes()), ("authorization", b"Negotiate YII=")],
    );
    assert!(
        matches!(run(&gate, NOW, &both, true), Step::Call(..)),
        "the header decides"
    );
}

#[test]
fn another_site_cannot_use_what_browsers_send_by_themselves() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let cookie = format!(
        "{}={}",
        kerbridge_gate::request::cookie_name("pages"),
        key.token(&claims("pages", ""))
    );
    let cookie: (&str, &[u8]) = ("cookie", cookie.as_bytes());
    let post: (&str, &[u8]) = (":method", b"POST");
    let is_cross_site = |headers: &[(&str, &[u8])]| match run(&gate, NOW, &head("/pages", headers), true) {
        Step::Respond(reply) => reply.decision.reason == Reason::CrossSite,
        _ => false,
    };
    let ticket: (&str, &[u8]) = ("authorization", b"Negotiate YII=");
    for (headers, refused) in [
        (vec![post, cookie, ("sec-fetch-site", b"cross-site")], true),
        (vec![post, cookie, ("sec-fetch-site", b"same-site")], true),
        (vec![post, cookie, ("origin", b"https://evil.test")], true),
        (vec![post, cookie, ("origin", b"null")], true),
        (vec![post, cookie, ("origin", b"http://api.test")], true),
        (vec![post, cookie], true),
        (vec![post, cookie, ("origin", b"https://api.test")], false),
        (vec![post, cookie, ("origin", b"https://api.test:443")], false),
        (vec![post, cookie, ("sec-fetch-site", b"same-origin")], false),
        (vec![cookie, ("sec-fetch-site", b"cross-site")], false),
        (
            vec![cookie, ("upgrade", b"websocket"), ("origin", b"https://evil.test")],
            true,
        ),
        (vec![post, ticket, ("origin", b"https://evil.test")], true),
        (vec![post, ticket], false),
        (vec![ticket, ("sec-fetch-site", b"cross-site")], false),
    ] {
        assert_eq!(is_cross_site(&headers), refused, "{headers:?}");
    }
}

#[test]
fn a_page_of_another_site_is_offered_no_negotiate_but_a_followed_link_is() {
    let gate = gate(&Key::new("k1"));
    let foreign: (&str, &[u8]) = ("sec-fetch-site", b"cross-site");
    let embedded = reply(run(
        &gate,
        NOW,
        &head("/orders", &[foreign, ("sec-fetch-mode", b"no-cors")]),
        true,
    ));
    assert_eq!(lines(&embedded, "www-authenticate"), [r#"Bearer realm="orders""#]);
    let only = reply(run(&gate, NOW, &head("/tickets", &[foreign]), true));
    assert_eq!((only.decision.reason, only.status), (Reason::CrossSite, 403));
    let link = [
        foreign,
        ("sec-fetch-mode", b"navigate"),
        ("sec-fetch-dest", b"document"),
    ];
    assert_eq!(
        lines(
            &reply(run(&gate, NOW, &head("/tickets", &link), true)),
            "www-authenticate"
        ),
        ["Negotiate"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever bytes come, nothing panics, and nothing passes a protected route without a verified token.
    #[test]
    fn no_bytes_pass_a_protected_route(
        path in proptest::collection::vec(any::<u8>(), 0..40),
        pairs in proptest::collection::vec(("[a-z-]{1,16}", proptest::collection::vec(any::<u8>(), 0..60)), 0..8),
        authorization in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
        secure: bool,
    ) {
        let gate = gate(&Key::new("k1"));
        for path in [path, b"/orders".to_vec()] {
            let mut headers: Vec<(&str, &[u8])> = vec![(":path", &path)];
            headers.extend(pairs.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
            if let Some(value) = &authorization {
                headers.push(("authorization", value));
            }
            let headers = head("", &headers);
            let step = gate.borrow_mut().admit(at(NOW), &request(&headers, secure));
            match step {
                Step::Continue(..) => prop_assert_eq!(path.split(|b| *b == b'?').next(), Some(b"/health".as_slice())),
                Step::Verify(input, pending) => {
                    let step = pending.resume(&mut gate.borrow_mut(), at(NOW), input.verify());
                    prop_assert!(matches!(step, Step::Respond(_)));
                }
                Step::Respond(_) | Step::Call(..) | Step::Wait(_) => {}
            }
        }
    }
}

#[test]
fn only_a_credential_that_is_judged_needs_what_was_revoked() {
    let gate = gate(&Key::new("k"));
    let needs = |path: &str, headers: &[(&str, &[u8])]| {
        let head = head(path, headers);
        gate.borrow().needs_revocations(&request(&head, true))
    };
    let (bearer, negotiate): (&[u8], &[u8]) = (b"Bearer a.b.c", b"Negotiate YIIabc");
    assert!(needs("/orders/1", &[("authorization", bearer)]));
    assert!(needs("/orders/1", &[("authorization", negotiate)]));
    assert!(needs("/legacy/1", &[("authorization", bearer)]));
    for (path, headers) in [
        ("/orders/1", &[][..]),
        ("/health", &[]),
        ("/health", &[("authorization", bearer)]),
        ("/nowhere", &[("authorization", bearer)]),
        ("/orders/%2f", &[("authorization", bearer)]),
        ("/orders/1", &[("authorization", b"Bearer")]),
    ] {
        assert!(!needs(path, headers), "{path}");
    }
}
