//! Logging out in a real Envoy: what ends, in the browser and at every worker, who may do it, and how one comes in again.

mod browser;
mod marked;

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::curl::{Answer, Curl};
use kerbridge_tests::http::Request;
use kerbridge_tests::token::decode;
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::WorldBuilder;
use serde_json::json;

/// One poll of the feed, and the second that a worker may be behind.
const POLL_AND_A_SECOND: Duration = Duration::from_secs(3);
/// Requests on connections of their own, so that each of two workers gets some.
const ASKED: usize = 12;

const MARK: &str = "__Host-kerbridge-logged-out";
const LOGOUT: &str = "/.kerbridge/logout";

/// Two workers, and two audiences under one host whose sessions are cookies.
fn builder() -> WorldBuilder {
    World::builder().concurrency(2).filter(|filter| {
        for route in filter["routes"].as_array_mut().unwrap() {
            if route["audience"] == "orders" || route["audience"] == "reports" {
                route["accept"] = json!(["negotiate", "bearer", "cookie"]);
                route["deliver"] = json!("cookie");
            }
        }
    })
}

/// The cookies that an answer sets: name and value, and the attributes.
fn set(answer: &Answer) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (pair, attributes) = line.split_once("; ").unwrap();
        (pair.to_owned(), attributes.to_owned())
    };
    answer.all("set-cookie").into_iter().map(line).collect()
}

/// A session by the user's ticket: the cookie that a browser would have.
fn log_in(world: &World, user: &str, path: &str) -> String {
    let answer = world.curl_as(user, path).send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    set(&answer).swap_remove(0).0
}

fn claim(cookie: &str, name: &str) -> serde_json::Value {
    let token = decode(cookie.split_once('=').unwrap().1).unwrap();
    token.claims[name].clone()
}

fn with_cookies(curl: Curl, cookies: &[&str]) -> Curl {
    curl.header(&format!("cookie: {}", cookies.join("; ")))
}

/// A page's own request to log out, with these cookies.
fn log_out(world: &World, cookies: &[&str]) -> Curl {
    let own = format!("origin: {}", world.url(""));
    with_cookies(world.curl(LOGOUT).method("POST"), cookies)
        .header(&own)
        .header("sec-fetch-site: same-origin")
}

/// Whether all of some requests with a cookie are answered so.
fn all_are(world: &World, path: &str, cookie: &str, status: u16) -> bool {
    let answer = |_| with_cookies(world.curl(path), &[cookie]).send().unwrap().status;
    (0..ASKED).map(answer).all(|found| found == status)
}

fn is_over(world: &World, path: &str, cookie: &str) {
    wait_until("the copied cookie at every worker", POLL_AND_A_SECOND, || {
        all_are(world, path, cookie, 401)
    })
    .unwrap();
    let refused = with_cookies(world.curl(path), &[cookie]).send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (401, "revoked".to_owned()));
}

fn logouts(world: &World, reason: &str) -> u64 {
    let name = format!("wasmcustom.kerbridge.logouts.reason.{reason}.issuer.-");
    world.stat(&name).unwrap_or(0)
}

#[test]
fn a_browser_logs_out_of_all_audiences_stays_out_and_comes_in_when_it_wants() {
    let mut world = builder().start().unwrap();
    let (orders, reports) = (
        log_in(&world, "alice", "/orders/1"),
        log_in(&world, "alice", "/reports/1"),
    );
    assert_eq!(
        claim(&orders, "sid"),
        claim(&reports, "sid"),
        "one ticket is one session"
    );
    let bob = log_in(&world, "bob", "/orders/1");
    assert!(all_are(&world, "/orders/1", &orders, 200) && all_are(&world, "/reports/1", &reports, 200));

    let answer = log_out(&world, &[&orders, "theme=dark"]).send().unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "{\"logged_out\":true}\n")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let (name, _) = orders.split_once('=').unwrap();
    let gone = "Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax".to_owned();
    let marked = "Path=/; Max-Age=300; Secure; HttpOnly; SameSite=Lax".to_owned();
    assert_eq!(
        set(&answer),
        [(format!("{name}="), gone), (format!("{MARK}=1"), marked)]
    );
    // The cookie of the other audience was copied before, too, and was not even shown.
    is_over(&world, "/orders/1", &orders);
    is_over(&world, "/reports/1", &reports);
    assert!(all_are(&world, "/orders/1", &bob, 200), "another one's session");
    assert_eq!(logouts(&world, "ok"), 1);
    let said = world.broker().logged("\"logged out\"");
    assert!(
        said.contains("\"sessions\":1") && said.contains("/.kerbridge"),
        "{said}"
    );

    // It has its ticket still, and is not let in by it until its user wants that.
    let mark = format!("{MARK}=1");
    let stays_out = with_cookies(world.curl_as("alice", "/orders/1"), &[&mark])
        .send()
        .unwrap();
    assert_eq!(world.reason(&stays_out).unwrap(), (401, "logged_out".to_owned()));
    assert!(
        stays_out
            .all("www-authenticate")
            .iter()
            .all(|line| line.starts_with("Bearer "))
    );
    let page = with_cookies(world.curl("/orders/1?q=1"), &[&mark]).header("accept: text/html");
    let page = page.send().unwrap();
    assert_eq!(page.status, 401);
    assert!(
        page.text()
            .contains("href=\"/.kerbridge/login?return=/orders/1%3Fq%3D1\""),
        "{}",
        page.text()
    );
    let back = with_cookies(world.curl("/.kerbridge/login?return=/orders/1%3Fq%3D1"), &[&mark]);
    let back = back.send().unwrap();
    assert_eq!((back.status, back.header("location")), (303, Some("/orders/1?q=1")));
    assert!(set(&back)[0].0 == format!("{MARK}=") && set(&back)[0].1.contains("Max-Age=0"));
    let again = log_in(&world, "alice", "/orders/1");
    assert_eq!(claim(&again, "sid"), claim(&orders, "sid"), "the same ticket");
    assert!(all_are(&world, "/orders/1", &again, 200));
    // Nothing of it went upstream, and nothing is left behind that a later request could show.
    let arrived = world.upstream().requests();
    assert!(arrived.iter().all(|request| !target(request).contains(".kerbridge")));
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn another_sites_page_neither_logs_out_nor_in() {
    let world = builder().start().unwrap();
    let cookie = log_in(&world, "alice", "/orders/1");
    let post = || with_cookies(world.curl(LOGOUT).method("POST"), &[&cookie]);
    for headers in [
        vec![],
        vec!["origin: https://evil.example.com"],
        vec!["origin: null"],
        vec!["sec-fetch-site: cross-site"],
        vec!["sec-fetch-site: same-site"],
    ] {
        let refused = headers
            .iter()
            .fold(post(), |curl, header| curl.header(header))
            .send()
            .unwrap();
        assert_eq!(
            world.reason(&refused).unwrap(),
            (403, "cross_site".to_owned()),
            "{headers:?}"
        );
        assert_eq!(set(&refused), []);
    }
    let link = world
        .curl("/.kerbridge/login?return=/orders/1")
        .header("sec-fetch-site: cross-site");
    let refused = link.send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (403, "cross_site".to_owned()));
    assert!(all_are(&world, "/orders/1", &cookie, 200));
    assert_eq!((logouts(&world, "cross_site"), logouts(&world, "ok")), (5, 0));
}

#[test]
fn nobody_is_logged_out_by_looking_and_no_body_is_read() {
    let world = builder().start().unwrap();
    let cookie = log_in(&world, "alice", "/orders/1");
    let held = |curl: Curl| with_cookies(curl, &[&cookie]);
    for curl in [
        world.curl(LOGOUT),
        world.curl(LOGOUT).arg("--head"),
        world.curl(LOGOUT).http2(),
    ] {
        let page = held(curl).send().unwrap();
        assert_eq!((page.status, set(&page)), (200, vec![]));
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    }
    for method in ["PUT", "DELETE", "OPTIONS"] {
        let refused = held(world.curl(LOGOUT).method(method)).send().unwrap();
        assert_eq!(
            world.reason(&refused).unwrap(),
            (403, "denied_by_policy".to_owned()),
            "{method}"
        );
    }
    assert!(all_are(&world, "/orders/1", &cookie, 200));
    // Whatever it brings along.
    for (curl, cookies) in [
        (log_out(&world, &[]).body("x".repeat(1000)), 1),
        (log_out(&world, &[]).http2(), 1),
        (log_out(&world, &[&cookie]).body("x".repeat(1000)), 2),
        (log_out(&world, &[&cookie]).http2(), 2),
    ] {
        let answer = curl.header("content-type: text/plain").send().unwrap();
        assert_eq!(
            (answer.status, set(&answer).len()),
            (200, cookies),
            "{}",
            answer.complaint
        );
    }
    let html = log_out(&world, &[]).header("accept: text/html,*/*").send().unwrap();
    assert_eq!((html.status, html.header("location")), (303, Some(LOGOUT)));
    assert_eq!(html.text(), "");
    // A gRPC client gets the status in its own place.
    let grpc = Request::post(LOGOUT, "")
        .header("content-type", "application/grpc")
        .header("origin", "https://evil.example.com");
    let grpc = world.send(&grpc).unwrap();
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some(b"7".as_slice())));
    // A token in a header has a session, too.
    let cookie = log_in(&world, "bob", "/orders/1");
    let token = cookie.split_once('=').unwrap().1;
    let answer = world.curl(LOGOUT).method("POST").bearer(token).send().unwrap();
    assert_eq!((answer.status, set(&answer).len()), (200, 1));
    is_over(&world, "/orders/1", &cookie);
}

#[test]
fn without_the_broker_the_browser_is_logged_out_and_told_so() {
    let mut world = builder().start().unwrap();
    let cookie = log_in(&world, "alice", "/orders/1");
    world.broker().stop().unwrap();
    let answer = log_out(&world, &[&cookie]).send().unwrap();
    assert_eq!(world.reason(&answer).unwrap(), (503, "broker_unavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("5"));
    let names: Vec<String> = set(&answer).into_iter().map(|(pair, _)| pair).collect();
    assert_eq!(
        names,
        [format!("{}=", cookie.split_once('=').unwrap().0), format!("{MARK}=1")]
    );
    assert_eq!(logouts(&world, "broker_unavailable"), 1);
    let page = log_out(&world, &[&cookie]).header("accept: text/html").send().unwrap();
    assert_eq!((page.status, set(&page).len()), (503, 2));
    assert!(page.text().contains("Logged out of this browser"), "{}", page.text());
    // It was not ended, and nobody says that it was.
    assert_eq!(
        with_cookies(world.curl("/orders/1"), &[&cookie]).send().unwrap().status,
        200
    );
    // Who has no session needs no broker.
    assert_eq!(log_out(&world, &[]).send().unwrap().status, 200);
}

#[test]
fn a_login_leads_nowhere_else() {
    let world = builder().start().unwrap();
    for value in [
        "https://evil.example.com/",
        "//evil.example.com",
        "/%2Fevil.example.com",
        "/%5Cevil.example.com",
        "%2F%2Fevil.example.com",
        "/%252Fevil.example.com",
        "/orders%0d%0aset-cookie:a=b",
        "/.kerbridge/login",
    ] {
        let answer = world.curl(&format!("/.kerbridge/login?return={value}")).send().unwrap();
        assert_eq!(
            world.reason(&answer).unwrap(),
            (400, "invalid_request".to_owned()),
            "{value}"
        );
        assert_eq!((answer.header("location"), set(&answer)), (None, vec![]));
    }
}
