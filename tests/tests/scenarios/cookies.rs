//! A session in a cookie, in a real Envoy: set by a ticket, taken instead of one, kept from the service, deleted when it fails.

use kerbridge_tests::World;
use kerbridge_tests::curl::{Answer, Curl};
use kerbridge_tests::http::Request;
use kerbridge_tests::token::{LabKey, claims, now, with};
use kerbridge_tests::world::{LAB_ISSUER, WorldBuilder};
use serde_json::{Value, json};

/// The cookie of the audience `orders`.
const COOKIE: &str = "__Host-kerbridge-00125d9250be8b4c";

/// The routes for orders take and give cookies.
fn builder() -> WorldBuilder {
    World::builder().lab_issuer().filter(|filter| {
        for route in filter["routes"].as_array_mut().unwrap() {
            if route["audience"] == "orders" {
                route["accept"] = json!(["negotiate", "bearer", "cookie"]);
                route["deliver"] = json!("cookie");
            }
        }
    })
}

fn cookies_set(answer: &Answer) -> Vec<String> {
    answer.all("set-cookie").into_iter().map(str::to_owned).collect()
}

/// What the service got under a name, of its last request.
fn arrived(world: &World, name: &str) -> Vec<String> {
    let request = world.upstream().requests().pop().unwrap();
    request
        .all(name)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

fn signed(key: &LabKey, members: &[(&str, Value)]) -> String {
    let good = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read orders:write");
    let claims = members
        .iter()
        .fold(good, |claims, (name, value)| with(claims, name, value.clone()));
    key.sign(&key.header(), &claims).unwrap()
}

#[test]
fn a_ticket_sets_a_cookie_that_opens_the_route_and_stays_from_the_service() {
    let world = builder().start().unwrap();
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let set = cookies_set(&answer);
    assert_eq!(set.len(), 1, "{set:?}");
    let (pair, attributes) = set[0].split_once("; ").unwrap();
    assert!(pair.starts_with(&format!("{COOKIE}=ey")), "{pair}");
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age="] {
        assert!(attributes.contains(attribute), "{attributes}");
    }
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-kerbridge-token"), None);

    let browse = |more: &str| {
        world
            .curl("/orders/1")
            .header(&format!("cookie: {more}"))
            .send()
            .unwrap()
    };
    // Twice: the second time the token is known.
    for _ in 0..2 {
        let answer = browse(&format!("theme=dark; {pair}; lang=de"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(cookies_set(&answer), Vec::<String>::new(), "there is one already");
        assert_eq!(arrived(&world, "cookie"), ["theme=dark; lang=de"]);
        assert_eq!(arrived(&world, "x-kerbridge-subject"), ["alice@LAB.TEST"]);
    }
    // Two of ours are one too many; one of another audience's is nobody's here, and goes no further.
    assert_eq!(
        world.reason(&browse(&format!("{pair}; {pair}"))).unwrap(),
        (400, "multiple_credentials".to_owned())
    );
    let other = pair.replace(COOKIE, "__Host-kerbridge-0000000000000000");
    assert_eq!(
        world.reason(&browse(&other)).unwrap(),
        (401, "no_credentials".to_owned())
    );
}

#[test]
fn crumbs_of_http_2_are_one_cookie_and_none_of_ours_arrives() {
    let world = builder().start().unwrap();
    let token = signed(world.lab_key().unwrap(), &[]);
    let call = |curl: Curl| {
        curl.http2()
            .header("cookie: a=1")
            .header(&format!("cookie: {COOKIE}={token}"))
            .header("cookie: b=2")
            .send()
            .unwrap()
    };
    for _ in 0..2 {
        let answer = call(world.curl("/orders/1"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(arrived(&world, "cookie").join("; "), "a=1; b=2");
    }
}

#[test]
fn a_header_decides_over_the_cookie_and_a_cookie_that_failed_is_deleted() {
    let world = builder().start().unwrap();
    let key = world.lab_key().unwrap();
    let good = signed(key, &[]);
    let ended = signed(key, &[("exp", json!(now() - 1))]);
    let cookie = |token: &str| format!("cookie: {COOKIE}={token}");
    let both = world
        .curl("/orders/1")
        .bearer(&good)
        .header(&cookie(&ended))
        .send()
        .unwrap();
    assert_eq!(both.status, 200);
    assert_eq!(arrived(&world, "cookie"), Vec::<String>::new());
    let refused = world
        .curl("/orders/1")
        .bearer(&ended)
        .header(&cookie(&good))
        .send()
        .unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (401, "expired".to_owned()));
    assert_eq!(
        cookies_set(&refused),
        Vec::<String>::new(),
        "it was not the cookie that failed"
    );
    let refused = world.curl("/orders/1").header(&cookie(&ended)).send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (401, "expired".to_owned()));
    let set = cookies_set(&refused);
    assert!(set.len() == 1 && set[0].starts_with(&format!("{COOKIE}=; ")), "{set:?}");
    assert!(set[0].contains("Max-Age=0"), "{set:?}");
}

#[test]
fn another_sites_page_changes_nothing_with_a_cookie() {
    let world = builder().start().unwrap();
    let token = signed(world.lab_key().unwrap(), &[]);
    let own = world.url("").trim_end_matches('/').to_owned();
    let post = |headers: &[&str]| {
        let curl = world
            .curl("/orders/1")
            .method("POST")
            .body("x")
            .header(&format!("cookie: {COOKIE}={token}"));
        headers
            .iter()
            .fold(curl, |curl, header| curl.header(header))
            .send()
            .unwrap()
    };
    let before = world.upstream().requests().len();
    for headers in [
        vec![],
        vec!["origin: https://evil.example.com"],
        vec!["sec-fetch-site: cross-site"],
        vec!["sec-fetch-site: same-site"],
    ] {
        assert_eq!(
            world.reason(&post(&headers)).unwrap(),
            (403, "cross_site".to_owned()),
            "{headers:?}"
        );
    }
    assert_eq!(world.upstream().requests().len(), before);
    assert_eq!(
        post(&[&format!("origin: {own}"), "sec-fetch-site: same-origin"]).status,
        200
    );
    // A link that a person follows only reads.
    let link = world
        .curl("/orders/1")
        .header(&format!("cookie: {COOKIE}={token}"))
        .header("sec-fetch-site: cross-site");
    assert_eq!(link.send().unwrap().status, 200);
}

#[test]
fn a_token_in_a_header_of_ones_own_is_taken_with_its_prefix_and_beside_nothing_else() {
    for prefix in ["", "Token "] {
        let world = World::builder()
            .lab_issuer()
            .filter(move |filter| {
                filter["token_header"] = json!({"name": "x-api-token", "prefix": prefix});
                for route in filter["routes"].as_array_mut().unwrap() {
                    if route["audience"] == "orders" {
                        route["accept"] = json!(["negotiate", "bearer", "header"]);
                    }
                }
            })
            .start()
            .unwrap();
        let token = signed(world.lab_key().unwrap(), &[]);
        let shown = |value: String| Request::get("/orders/1").header("x-api-token", value);
        let reason = |request: &Request| {
            let answer = world.send(request).unwrap();
            world
                .refusal(answer.status, &answer.body)
                .map(|refusal| (refusal.status, refusal.reason))
                .unwrap()
        };
        for _ in 0..2 {
            assert_eq!(
                world.send(&shown(format!("{prefix}{token}"))).unwrap().status,
                200,
                "{prefix:?}"
            );
            assert_eq!(arrived(&world, "x-api-token"), Vec::<String>::new(), "{prefix:?}");
        }
        let both = shown(format!("{prefix}{token}")).header("authorization", format!("Bearer {token}"));
        assert_eq!(reason(&both), (400, "multiple_credentials".to_owned()));
        let twice = shown(format!("{prefix}{token}")).header("x-api-token", "x");
        assert_eq!(reason(&twice), (400, "multiple_credentials".to_owned()));
        assert_eq!(
            reason(&shown(format!("Other {token}"))),
            (400, "malformed_credentials".to_owned())
        );
    }
}
