//! A browser that is marked as logged out: what is not taken of it, and who takes the mark away.

use kerbridge_gate::header_map::HeaderMap;

use super::*;
use crate::world::shown;

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
fn a_login_is_a_persons_step_and_no_image_no_script_and_no_look_ahead() {
    const LOGIN: &str = "/.kerbridge/login?return=/pages";
    let site = ("sec-fetch-site", b"same-origin".as_slice());
    let navigates = ("sec-fetch-mode", b"navigate".as_slice());
    let document = ("sec-fetch-dest", b"document".as_slice());
    for headers in [
        vec![
            site,
            ("sec-fetch-mode", b"no-cors".as_slice()),
            ("sec-fetch-dest", b"image"),
        ],
        vec![
            site,
            ("sec-fetch-mode", b"cors".as_slice()),
            ("sec-fetch-dest", b"empty"),
        ],
        vec![site, navigates, ("sec-fetch-dest", b"iframe")],
        vec![site, navigates, ("sec-fetch-dest", b"")],
        vec![site, navigates, document, ("sec-fetch-dest", b"image")],
        vec![site, ("sec-fetch-mode", b"same-origin".as_slice()), document],
        vec![site, navigates, document, ("sec-purpose", b"prefetch")],
        vec![site, navigates, document, ("sec-purpose", b"prefetch;prerender")],
        vec![("purpose", b"prefetch".as_slice())],
        vec![("sec-purpose", b"prefetch".as_slice())],
    ] {
        assert_eq!(refused(LOGIN, &headers), (403, Reason::DeniedByPolicy), "{headers:?}");
    }
    let reply = told(LOGIN, &[site, navigates, document]);
    assert_eq!((reply.status, lines(&reply, "set-cookie")), (303, vec![gone(MARK)]));
}

#[test]
fn a_session_that_came_after_the_logout_is_none_and_goes_with_the_mark() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let token = key.token(&claims("pages", ""));
    let good = cookie("pages", &token);
    let ask = |path: &str, cookies: &str| run(&gate, NOW, &head(path, &[("cookie", cookies.as_bytes()), HTML]), true);
    passed(ask("/pages", &good));
    for cookies in [format!("{good}; {MARK}=1"), format!("{MARK}=1; {good}")] {
        let reply = reply(ask("/pages", &cookies));
        assert_eq!((reply.status, reply.decision.reason), (403, Reason::LoggedOut));
        assert_eq!(lines(&reply, "set-cookie"), [gone(&cookie_name("pages"))]);
        assert!(text(&reply).contains("You are logged out."));
    }
    // One of another audience comes with it, and must not be there when its user is logged in as somebody else.
    let cookies = format!("{good}; {}; {MARK}=1", cookie("orders", "aaa"));
    let reply = reply(ask("/.kerbridge/login", &cookies));
    assert_eq!(reply.status, 303);
    let emptied = [gone(&cookie_name("pages")), gone(&cookie_name("orders")), gone(MARK)];
    assert_eq!(lines(&reply, "set-cookie"), emptied);
    // Who was not logged out stays logged in.
    let reply = crate::world::reply(ask("/.kerbridge/login", &good));
    assert_eq!(lines(&reply, "set-cookie"), [gone(MARK)]);
}

#[test]
fn the_mark_stays_from_the_service_and_a_token_that_is_shown_passes_beside_it() {
    let key = Key::new("k1");
    let bearer = format!("Bearer {}", key.token(&claims("orders", "orders:read")));
    let cookies = format!("{MARK}=1; theme=dark");
    let headers = [("authorization", bearer.as_bytes()), ("cookie", cookies.as_bytes())];
    let (edits, _) = passed(run(&gate(&key), NOW, &head("/orders", &headers), true));
    assert!(shown(&edits).contains(&"cookie=theme=dark".to_owned()), "{edits:?}");
}

#[test]
fn no_service_sets_a_cookie_of_ours() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let bearer = format!("Bearer {}", key.token(&claims("orders", "orders:read")));
    let answered = |path: &str, set: &[&str]| {
        let headers = head(path, &[("authorization", bearer.as_bytes())]);
        let (_, mut admitted) = passed(run(&gate, NOW, &headers, true));
        assert!(admitted.guards_cookies());
        let set = set.iter().map(|line| (b"set-cookie".as_slice(), line.as_bytes()));
        shown(&admitted.respond(at(NOW), &HeaderMap::from_pairs(set)))
    };
    let session = format!("{}; Secure; Path=/", cookie("orders", "planted"));
    let mark = format!("{MARK}=; Secure; Path=/; Max-Age=0");
    let kept = ["theme=dark; Path=/", "x=__Host-kerbridge-1", "__Host-other=1"];
    for planted in [
        &session,
        &mark,
        &format!(" \t{mark}"),
        // Its name is empty, and it is sent back as its value alone.
        &format!("={session}"),
        &format!(" = {mark}"),
        &mark.to_ascii_uppercase(),
        "__Host-kerbridge-",
    ] {
        let planted = planted as &str;
        for path in ["/orders", "/health"] {
            assert_eq!(
                answered(path, &[kept[0], planted, kept[1], kept[2]]),
                ["-set-cookie".to_owned()]
                    .into_iter()
                    .chain(kept.map(|line| format!("+set-cookie={line}")))
                    .collect::<Vec<_>>(),
                "{path} {planted}"
            );
            assert_eq!(answered(path, &[planted]), ["-set-cookie"], "{path} {planted}");
        }
    }
    assert_eq!(
        answered("/orders", &kept),
        [] as [String; 0],
        "what is not ours is not touched"
    );
}

#[test]
fn where_no_route_takes_cookies_answers_are_not_looked_at_for_them() {
    let config = CONFIG
        .replace(", \"cookie\"]", "]")
        .replace("\"deliver\": \"cookie\"", "\"deliver\": \"none\"");
    let config = Config::parse(config.as_bytes()).unwrap();
    let gate = RefCell::new(Gate::new(Rc::new(Snapshot::new(Rc::new(config), at(NOW)))));
    let (_, admitted) = passed(run(&gate, NOW, &head("/health", &[]), true));
    assert!(!admitted.guards_cookies());
}
