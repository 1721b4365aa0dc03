//! The same in a real browser, with real tickets, over TLS.

use kerbridge_tests::World;
use kerbridge_tests::browser::{self, Browser};
use serde_json::json;

use super::{builder, claim, is_over, with_cookies};

/// The session cookies of the browser, as it would send them.
fn sessions(browser: &Browser) -> Vec<String> {
    let is_session = |name: &str| name.starts_with("__Host-kerbridge-") && !name.ends_with("logged-out");
    let cookies = browser.cookies().unwrap().into_iter();
    let mut sessions: Vec<String> = cookies
        .filter(|cookie| is_session(&cookie.name))
        .map(|cookie| format!("{}={}", cookie.name, cookie.value))
        .collect();
    sessions.sort();
    sessions
}

/// Goes to a page of the service that echoes. A fresh profile may show the 401 once before it looks for a ticket.
fn visit(world: &World, browser: &Browser, path: &str) -> String {
    let url = world.url(path);
    let first = browser.visit(&url).unwrap();
    if first.contains("x-kerbridge-subject") {
        first
    } else {
        browser.visit(&url).unwrap()
    }
}

fn is_alices(page: &str) -> bool {
    page.contains("x-kerbridge-subject") && page.contains("alice@LAB.TEST")
}

fn cross_sites(world: &World) -> usize {
    let lines = world.access_lines();
    lines
        .iter()
        .filter(|line| line["details"] == "kerbridge_cross_site")
        .count()
}

#[test]
fn a_person_logs_in_by_ticket_logs_out_stays_out_and_comes_in_as_somebody_else() {
    if !browser::is_there() {
        eprintln!("left out: no chromium with its driver");
        return;
    }
    let world = builder().start().unwrap();
    let mut browser = Browser::start(&world, "alice").unwrap();
    // Two audiences under one host: two cookies, one session.
    for path in ["/orders/1", "/reports/1"] {
        let page = visit(&world, &browser, path);
        assert!(is_alices(&page), "{page}");
    }
    let copied = sessions(&browser);
    assert_eq!(copied.len(), 2, "{copied:?}");
    assert_eq!(claim(&copied[0], "sid"), claim(&copied[1], "sid"));

    // The page with the button, and the button.
    let page = browser.visit(&world.url("/.kerbridge/logout")).unwrap();
    assert!(
        page.contains("Log out") && !page.contains("You are logged out"),
        "{page}"
    );
    let page = browser.click("button").unwrap();
    assert!(page.contains("You are logged out."), "{page}");
    assert_eq!(browser.url().unwrap(), world.url("/.kerbridge/logout"));
    assert_eq!(sessions(&browser), [] as [String; 0]);
    // Whoever copied the cookies has nothing of it.
    for cookie in &copied {
        let path = if claim(cookie, "aud") == "orders" {
            "/orders/1"
        } else {
            "/reports/1"
        };
        is_over(&world, path, cookie);
    }

    // The ticket is there still; the browser is not asked for it, here or at the other audience.
    for path in ["/orders/1?a=b", "/reports/1"] {
        for _ in 0..2 {
            let page = browser.visit(&world.url(path)).unwrap();
            assert!(
                page.contains("You are logged out.") && !page.contains("x-kerbridge-subject"),
                "{page}"
            );
        }
    }
    assert_eq!(sessions(&browser), [] as [String; 0]);

    // Until its user says so, and then it is back where it was.
    browser.visit(&world.url("/orders/1?a=b")).unwrap();
    let mut page = browser.click("a").unwrap();
    assert_eq!(browser.url().unwrap(), world.url("/orders/1?a=b"));
    if !page.contains("x-kerbridge-subject") {
        page = visit(&world, &browser, "/orders/1?a=b");
    }
    assert!(is_alices(&page), "{page}");
    let again = sessions(&browser);
    assert_eq!(
        claim(&again[0], "sid"),
        claim(&copied[0], "sid"),
        "the same ticket, another token"
    );

    // Another person at this browser, by another ticket.
    browser.visit(&world.url("/.kerbridge/logout")).unwrap();
    browser.click("button").unwrap();
    browser.become_user(&world, "bob").unwrap();
    let page = browser.visit(&world.url("/orders/1")).unwrap();
    assert!(page.contains("You are logged out."), "{page}");
    let mut page = browser.click("a").unwrap();
    if !page.contains("x-kerbridge-subject") {
        page = visit(&world, &browser, "/orders/1");
    }
    assert!(page.contains("bob@LAB.TEST") && !is_alices(&page), "{page}");
    assert!(!page.contains("__Host-kerbridge"), "no cookie of ours arrives: {page}");
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn another_sites_page_in_a_browser_neither_logs_out_nor_acts_nor_logs_in() {
    if !browser::is_there() {
        eprintln!("left out: no chromium with its driver");
        return;
    }
    let mut world = builder().start().unwrap();
    let browser = Browser::start(&world, "alice").unwrap();
    assert!(is_alices(&visit(&world, &browser, "/orders/1")));
    let held = sessions(&browser);
    // Any page of another origin will do: this one is Envoy's own.
    let elsewhere = format!("http://127.0.0.1:{}/", world.envoy().admin_port());
    let arrived = world.upstream().requests().len();
    // The browser sends no cookie along, and is not asked for a ticket.
    for (path, refused) in [
        ("/.kerbridge/logout", "403 access_denied"),
        ("/orders/1", "401 unauthenticated"),
    ] {
        browser.visit(&elsewhere).unwrap();
        let page = browser.submit(&world.url(path)).unwrap();
        assert!(page.contains(refused), "{path}: {page}");
    }
    assert_eq!(cross_sites(&world), 1);
    // Nor by a call of its script, with all that the browser would send along.
    let call = "const [url, done] = arguments; \
                fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include'}).then(() => done('sent'), () => done('failed')); \
                arguments[arguments.length - 1];";
    browser.visit(&elsewhere).unwrap();
    browser.run(call, &json!([world.url("/.kerbridge/logout")])).unwrap();
    assert_eq!(world.upstream().requests().len(), arrived);
    assert!(is_alices(&visit(&world, &browser, "/orders/1")));
    assert_eq!(sessions(&browser), held, "the session is untouched");

    // Who is out stays out, wherever a link of another site leads.
    browser.visit(&world.url("/.kerbridge/logout")).unwrap();
    assert!(browser.click("button").unwrap().contains("You are logged out."));
    browser.visit(&elsewhere).unwrap();
    let follow = "const link = document.createElement('a'); link.href = arguments[0]; link.id = 'kerbridge'; \
                  link.textContent = 'go'; document.body.prepend(link);";
    browser
        .run(follow, &json!([world.url("/.kerbridge/login?return=/orders/1")]))
        .unwrap();
    let page = browser.click("#kerbridge").unwrap();
    assert!(page.contains("403 access_denied"), "{page}");
    let page = browser.visit(&world.url("/orders/1")).unwrap();
    assert!(page.contains("You are logged out."), "{page}");
    assert_eq!(with_cookies(world.curl("/healthz"), &[]).send().unwrap().status, 200);
}
