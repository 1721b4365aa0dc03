//! Who calls, as it is shown, as another site's page may not use it, and as the service is told.

use kerbridge_tests::World;
use kerbridge_tests::http::{Request, Response};
use kerbridge_tests::token::{claims, with};
use kerbridge_tests::world::{LAB_ISSUER, SERVICE};
use serde_json::{Value, json};

/// The cookie of the audience `orders`.
const COOKIE: &str = "__Host-kerbridge-00125d9250be8b4c";

/// A world in which routes for orders take cookies, the service is told the groups, and Envoy lets requests upgrade.
fn world() -> World {
    World::builder()
        .lab_issuer()
        .yaml(|yaml| yaml.insert_below("stat_prefix: https", &["upgrade_configs: [{upgrade_type: websocket}]"]))
        .filter(|filter| {
            filter["identity_headers"] = json!({"groups": "x-kerbridge-groups"});
            for route in filter["routes"].as_array_mut().unwrap() {
                if route["audience"] == "orders" {
                    route["accept"] = json!(["negotiate", "bearer", "cookie"]);
                }
            }
        })
        .start()
        .unwrap()
}

fn token(world: &World, member: &str, value: Value) -> String {
    let key = world.lab_key().unwrap();
    let good = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read orders:write");
    key.sign(&key.header(), &with(good, member, value)).unwrap()
}

fn reason(world: &World, answer: &Response) -> (u16, String) {
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    (refusal.status, refusal.reason)
}

#[test]
fn a_scheme_is_read_in_any_case_and_a_token_without_one_is_not_nothing() {
    let world = world();
    let token = token(&world, "x", json!(1));
    let ask = |value: &str| {
        world
            .send(&Request::get("/orders/1").header("authorization", value))
            .unwrap()
    };
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "] {
        assert_eq!(ask(&format!("{scheme} {token}")).status, 200, "{scheme}");
    }
    for scheme in ["Negotiate", "negotiate", "NEGOTIATE"] {
        let ticket = world.negotiate_token("alice", SERVICE).unwrap();
        assert_eq!(ask(&format!("{scheme} {ticket}")).status, 200, "{scheme}");
    }
    for (value, expected) in [
        (token.as_str(), (400, "malformed_credentials")),
        ("Bearer", (400, "malformed_credentials")),
        ("Bearer a b", (400, "malformed_credentials")),
        ("Negotiate", (400, "malformed_credentials")),
        (&format!("Bearer {token},x"), (400, "multiple_credentials")),
        (&format!("Basic Zm9v, Bearer {token}"), (400, "multiple_credentials")),
        // Somebody else's scheme is nothing of ours.
        ("Basic Zm9vOmJhcg==", (401, "no_credentials")),
    ] {
        let (status, reason) = reason(&world, &ask(value));
        assert_eq!((status, reason.as_str()), expected, "{value}");
    }
}

#[test]
fn the_service_is_told_in_visible_ascii_and_lists_as_json() {
    let world = world();
    let groups = json!(["clerks", "a \"b\"", "zoë,x"]);
    for (member, value, header, expected) in [
        (
            "sub",
            json!("zoë müller@LAB.TEST"),
            "x-kerbridge-subject",
            "zo%C3%AB%20m%C3%BCller@LAB.TEST",
        ),
        ("sub", json!("100%/x"), "x-kerbridge-subject", "100%25/x"),
        (
            "groups",
            groups,
            "x-kerbridge-groups",
            r#"["clerks","a \"b\"","zo\u00eb,x"]"#,
        ),
        ("groups", json!([]), "x-kerbridge-groups", ""),
        (
            "scope",
            json!("orders:read x:y"),
            "x-kerbridge-scope",
            "orders:read x:y",
        ),
    ] {
        let request = Request::get("/orders/1")
            .header("authorization", format!("Bearer {}", token(&world, member, value)))
            .header(header, "root");
        assert_eq!(world.send(&request).unwrap().status, 200, "{header}");
        let arrived = world.upstream().requests().pop().unwrap();
        let arrived = arrived
            .header(header)
            .map(|value| String::from_utf8(value.to_vec()).unwrap());
        assert_eq!(arrived.unwrap_or_default(), expected);
    }
    for subject in ["a\nx-kerbridge-scope: all", "a\u{0}b", "\u{7f}", ""] {
        let bearer = format!("Bearer {}", token(&world, "sub", json!(subject)));
        let answer = world
            .send(&Request::get("/orders/1").header("authorization", bearer))
            .unwrap();
        assert_eq!(
            reason(&world, &answer),
            (401, "missing_claim".to_owned()),
            "{subject:?}"
        );
    }
}

#[test]
fn another_sites_page_is_offered_no_negotiate_and_opens_no_channel() {
    let world = world();
    let cross_site = ("sec-fetch-site", "cross-site");
    let evil = ("origin", "https://evil.example.com");
    let with_all = |request: Request, headers: &[(&str, &str)]| {
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value))
    };
    for (what, headers, offered) in [
        ("a client that does not say", vec![], true),
        ("a page of this origin", vec![("sec-fetch-site", "same-origin")], true),
        (
            "a page's own call",
            vec![cross_site, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
            false,
        ),
        (
            "a frame",
            vec![cross_site, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
            false,
        ),
        ("another origin", vec![evil], false),
        (
            "a link that a person follows",
            vec![
                cross_site,
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
            true,
        ),
    ] {
        let answer = world.send(&with_all(Request::get("/orders/1"), &headers)).unwrap();
        let offers = answer.all("www-authenticate").any(|line| line == b"Negotiate");
        assert_eq!((answer.status, offers), (401, offered), "{what}");
    }
    // A channel both ways is no mere reading, whatever its method is.
    let cookie = format!("{COOKIE}={}", token(&world, "x", json!(1)));
    let ticket = || format!("Negotiate {}", world.negotiate_token("alice", SERVICE).unwrap());
    let upgrade = || {
        Request::get("/orders/1")
            .header("upgrade", "websocket")
            .header("connection", "upgrade")
    };
    for (what, request) in [
        (
            "a cookie from elsewhere",
            upgrade().header("cookie", &cookie).header(evil.0, evil.1),
        ),
        ("a cookie from nobody knows where", upgrade().header("cookie", &cookie)),
        (
            "a ticket from elsewhere",
            upgrade().header("authorization", ticket()).header(evil.0, evil.1),
        ),
        (
            "a change by ticket from elsewhere",
            with_all(Request::post("/orders/1", "x"), &[evil]).header("authorization", ticket()),
        ),
    ] {
        let answer = world.send(&request).unwrap();
        assert_eq!(reason(&world, &answer), (403, "cross_site".to_owned()), "{what}");
    }
    assert_eq!(world.upstream().requests().len(), 0);
    // A token that a page had to be given to show it is its own business.
    let bearer = format!("Bearer {}", token(&world, "x", json!(1)));
    let change = with_all(Request::post("/orders/1", "x"), &[evil, cross_site]).header("authorization", bearer);
    assert_eq!(world.send(&change).unwrap().status, 200);
}
