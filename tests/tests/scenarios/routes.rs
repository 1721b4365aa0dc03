//! What a route can say, in a real Envoy: who is offered what, which paths are meant, which claims open it and are sent on.
//! One world for all of it, a table for each.

use kerbridge_tests::World;
use kerbridge_tests::curl::Answer;
use kerbridge_tests::http::{Request, Response};
use kerbridge_tests::token::{claims, decode, now, with};
use kerbridge_tests::world::LAB_ISSUER;
use serde_json::{Value, json};

/// An address of this machine that is not the one that clients have by default.
const ELSEWHERE: &str = "127.0.0.2";

/// Routes before those that ship, one group for each test.
fn routes() -> Value {
    let bearer = |more: Value| merged(json!({"accept": ["bearer"], "audience": "orders"}), &more);
    let both = |more: Value| merged(json!({"accept": ["negotiate", "bearer"], "audience": "orders"}), &more);
    json!([
        bearer(json!({"name": "explained", "path": "/explained"})),
        bearer(json!({"name": "read", "path_prefix": "/cors", "methods": ["GET"], "cors_preflight": true})),
        bearer(json!({"name": "change", "path_prefix": "/cors", "methods": ["POST"]})),
        both(json!({"path_prefix": "/offer/never", "offer_negotiate": {"never": true}})),
        both(json!({"path_prefix": "/offer/path", "offer_negotiate": {"path_prefixes": ["/offer/path/inside"]}})),
        both(json!({"path_prefix": "/offer/source", "offer_negotiate": {"sources": ["127.0.0.1/32", "10.0.0.0/8"]}})),
        both(json!({"path_prefix": "/offer/header",
            "offer_negotiate": {"header": {"name": "user-agent", "contains": "Windows"}}})),
        both(
            json!({"path_prefix": "/offer/all", "offer_negotiate": {"sources": ["127.0.0.1/32"],
            "header": {"name": "user-agent", "contains": "Windows"}}})
        ),
        bearer(json!({"name": "file", "path_template": "/v1/{tenant}/files/{rest=**}"})),
        bearer(json!({"name": "tenant", "path_template": "/v1/{tenant}/about"})),
        json!({"name": "v1", "path_template": "/v1/{any}", "access": "open"}),
        bearer(json!({"path": "/sent-on", "claim_to_headers": [
            {"header_name": "x-name", "claim_name": "name"},
            {"header_name": "x-roles", "claim_name": "/realm_access/roles"},
            {"header_name": "x-department", "claim_name": "/https:~1~1example.com~1hr/department"},
            {"header_name": "x-tenant", "claim_name": "tenant"},
            {"header_name": "x-level", "claim_name": "level"},
        ]})),
        bearer(json!({"path": "/conditions", "claims": [
            {"claim": "/tenant/id", "any_of": ["t1", "t2"]},
            {"claim": "amr", "all_of": ["kerb", "mfa"]},
            {"claim": "level", "any_of": ["3"]},
            {"claim": "admin", "any_of": ["true"]},
        ]})),
        both(json!({"path": "/forward", "forward": true, "deliver": "header"})),
        both(json!({"path": "/keep", "deliver": "header"})),
    ])
}

fn merged(mut into: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        into[name] = value.clone();
    }
    into
}

fn world() -> World {
    World::builder()
        .lab_issuer()
        .filter(|filter| {
            filter["explain"] = json!({"sources": ["127.0.0.1/32"]});
            let shipped = filter["routes"].as_array().unwrap();
            let all: Vec<Value> = routes().as_array().unwrap().iter().chain(shipped).cloned().collect();
            filter["routes"] = json!(all);
        })
        .start()
        .unwrap()
}

/// A token of the lab's issuer with these members.
fn token(world: &World, members: &Value) -> String {
    let key = world.lab_key().unwrap();
    let good = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read");
    key.sign(&key.header(), &merged(good, members)).unwrap()
}

/// What the service got under a name, of its last request.
fn arrived(world: &World, name: &str) -> Vec<String> {
    let request = world.upstream().requests().pop().unwrap();
    let values = request.all(name);
    values
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

fn reason(world: &World, answer: &Response) -> (u16, String) {
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    (refusal.status, refusal.reason)
}

#[test]
fn the_decision_is_explained_to_addresses_that_may_ask_and_to_no_other() {
    let world = world();
    let header = "x-explain-kerbridge";
    let (good, ended) = (
        token(&world, &json!({})),
        token(&world, &json!({"exp": now() - 1, "iat": now() - 2})),
    );
    let ask = |token: &str, from: &str, asks: bool| -> Answer {
        let curl = world.curl("/explained").bearer(token).arg("--interface").arg(from);
        let curl = if asks {
            curl.header(&format!("{header}: 1"))
        } else {
            curl
        };
        curl.send().unwrap()
    };
    for (token, status, explained) in [
        (good.as_str(), 200, "reason=ok; route=explained; issuer=lab"),
        // From memory.
        (good.as_str(), 200, "reason=ok; route=explained; issuer=lab"),
        (ended.as_str(), 401, "reason=expired; route=explained; issuer=lab"),
        ("a.b.c", 401, "reason=token_malformed; route=explained; issuer=-"),
    ] {
        let answer = ask(token, "127.0.0.1", true);
        assert_eq!((answer.status, answer.header(header)), (status, Some(explained)));
        for (from, asks) in [(ELSEWHERE, true), (ELSEWHERE, false), ("127.0.0.1", false)] {
            let answer = ask(token, from, asks);
            assert_eq!((answer.status, answer.header(header)), (status, None), "{from} {asks}");
        }
    }
    // To the service it is a header of ours, which nobody else sends.
    assert_eq!(ask(&good, "127.0.0.1", true).status, 200);
    assert_eq!(arrived(&world, header), Vec::<String>::new());
}

#[test]
fn a_real_preflight_passes_where_enabled_and_a_fake_one_needs_what_every_request_needs() {
    let world = world();
    let origin = ("origin", "https://app.example.com");
    let asks = |method| ("access-control-request-method", method);
    for (what, method, path, headers, passes) in [
        ("a preflight", "OPTIONS", "/cors/1", vec![origin, asks("GET")], true),
        ("no origin", "OPTIONS", "/cors/1", vec![asks("GET")], false),
        ("no question", "OPTIONS", "/cors/1", vec![origin], false),
        ("neither", "OPTIONS", "/cors/1", vec![], false),
        ("no OPTIONS", "GET", "/cors/1", vec![origin, asks("GET")], false),
        (
            "a method of a route without",
            "OPTIONS",
            "/cors/1",
            vec![origin, asks("POST")],
            false,
        ),
        (
            "a method of no route",
            "OPTIONS",
            "/cors/1",
            vec![origin, asks("PUT")],
            false,
        ),
        (
            "a route without",
            "OPTIONS",
            "/explained",
            vec![origin, asks("GET")],
            false,
        ),
        ("no route", "OPTIONS", "/nowhere", vec![origin, asks("GET")], false),
    ] {
        let before = world.upstream().requests().len();
        let request = Request::new(method, path).header("authorization", "Basic Zm9vOmJhcg==");
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        let answer = world.send(&request).unwrap();
        assert_eq!(answer.status == 200, passes, "{what}: {}", answer.status);
        assert_eq!(
            world.upstream().requests().len(),
            before + usize::from(passes),
            "{what}"
        );
        if passes {
            assert_eq!(arrived(&world, "authorization"), Vec::<String>::new(), "{what}");
        } else {
            assert!([401, 403].contains(&answer.status), "{what}: {}", answer.status);
        }
    }
    let http2 = |more: &str| {
        let curl = world.curl("/cors/1").http2().method("OPTIONS").header(more);
        curl.header("origin: https://app.example.com").send().unwrap().status
    };
    assert_eq!(http2("access-control-request-method: GET"), 200);
    assert_eq!(http2("x-other: 1"), 403, "no route has the method");
}

#[test]
fn negotiate_is_offered_to_those_that_the_route_names() {
    let world = world();
    let windows = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)";
    for (path, agent, from, offered) in [
        ("/orders/1", "curl", ELSEWHERE, true),
        ("/offer/never", windows, "127.0.0.1", false),
        ("/offer/path", windows, "127.0.0.1", false),
        ("/offer/path/inside", "curl", ELSEWHERE, true),
        ("/offer/path/inside/more", "curl", ELSEWHERE, true),
        ("/offer/path/insider", "curl", ELSEWHERE, false),
        ("/offer/source", "curl", "127.0.0.1", true),
        ("/offer/source", "curl", ELSEWHERE, false),
        ("/offer/header", windows, ELSEWHERE, true),
        ("/offer/header", "curl", ELSEWHERE, false),
        ("/offer/all", windows, "127.0.0.1", true),
        ("/offer/all", windows, ELSEWHERE, false),
        ("/offer/all", "curl", "127.0.0.1", false),
    ] {
        let what = format!("{path} {agent} {from}");
        let curl = world.curl(path).arg("--interface").arg(from);
        let answer = curl.header(&format!("user-agent: {agent}")).send().unwrap();
        let schemes: Vec<&str> = answer
            .all("www-authenticate")
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let expected: &[&str] = if offered { &["Negotiate", "Bearer"] } else { &["Bearer"] };
        assert_eq!((answer.status, schemes.as_slice()), (401, expected), "{what}");
    }
    // Whoever shows a ticket unasked is served all the same.
    let ticket = world.negotiate_token("alice", kerbridge_tests::world::SERVICE).unwrap();
    let request = Request::get("/offer/never").header("authorization", format!("Negotiate {ticket}"));
    assert_eq!(world.send(&request).unwrap().status, 200);
}

#[test]
fn a_path_template_means_whole_segments() {
    let world = world();
    for (path, expected) in [
        ("/v1/t1/files/a", (401, "file")),
        ("/v1/t1/files/a/b/c", (401, "file")),
        ("/v1/t1/files/a%20b", (401, "file")),
        ("/v1/t%31/files/a", (401, "file")),
        ("/v1/t1/about", (401, "tenant")),
        ("/v1/t1", (200, "v1")),
        ("/v1/about", (200, "v1")),
        // One segment is one, and the rest is at least one.
        ("/v1/t1/files", (403, "-")),
        ("/v1/t1/files/", (403, "-")),
        ("/v1/t1/t2/files/a", (403, "-")),
        ("/v1/t1/about/more", (403, "-")),
        ("/v1/", (403, "-")),
        ("/v1", (403, "-")),
        ("/v2/t1", (403, "-")),
    ] {
        let curl = world.curl(path).arg("--path-as-is").header("x-explain-kerbridge: 1");
        let answer = curl.send().unwrap();
        let explained = answer.header("x-explain-kerbridge").unwrap_or_default();
        let route = explained.split("route=").nth(1).and_then(|rest| rest.split(';').next());
        assert_eq!((answer.status, route), (expected.0, Some(expected.1)), "{path}");
    }
}

#[test]
fn claims_are_sent_on_as_visible_ascii_and_lists_as_json() {
    let world = world();
    let names = ["x-name", "x-roles", "x-department", "x-tenant", "x-level"];
    for (members, expected) in [
        (
            json!({"name": "Zoë Müller 100%", "realm_access": {"roles": ["a", "b \"c\"", "ü,d"]},
                "https://example.com/hr": {"department": "b \"c\""}, "tenant": {"id": "t1"}, "level": 7}),
            [
                "Zo%C3%AB%20M%C3%BCller%20100%25",
                r#"["a","b \"c\"","\u00fc,d"]"#,
                "b%20\"c\"",
                r#"{"id":"t1"}"#,
                "7",
            ],
        ),
        (
            json!({"name": "plain", "realm_access": {"roles": []}, "tenant": true, "level": -1}),
            ["plain", "[]", "", "true", "-1"],
        ),
        // What cannot be a header is none, and what the client sent in its place is gone, too.
        (
            json!({"name": "a\r\nx-tenant: root", "realm_access": 3, "level": 1.5}),
            ["", "", "", "", ""],
        ),
        (
            json!({"name": "", "tenant": null, "level": 1e300}),
            ["", "", "", "", ""],
        ),
        (json!({"name": "x".repeat(9000)}), ["", "", "", "", ""]),
    ] {
        let bearer = format!("Bearer {}", token(&world, &members));
        // The second time from memory.
        for _ in 0..2 {
            let request = Request::get("/sent-on").header("authorization", &bearer);
            let request = names.iter().fold(request, |request, name| request.header(name, "root"));
            assert_eq!(world.send(&request).unwrap().status, 200, "{members}");
            for (name, expected) in names.iter().zip(expected) {
                let expected: Vec<&str> = Some(expected).filter(|text| !text.is_empty()).into_iter().collect();
                assert_eq!(arrived(&world, name), expected, "{name} of {members}");
            }
        }
    }
    // Nobody else sends them, on any route.
    let open = Request::get("/healthz")
        .header("x-tenant", "root")
        .header("X-Roles", "root");
    assert_eq!(world.send(&open).unwrap().status, 200);
    assert_eq!(
        (arrived(&world, "x-tenant"), arrived(&world, "x-roles")),
        (vec![], vec![])
    );
}

#[test]
fn conditions_on_claims_must_all_hold() {
    let world = world();
    let good = json!({"tenant": {"id": "t1"}, "amr": ["pwd", "mfa", "kerb"], "level": 3, "admin": true});
    for (member, value, passes) in [
        ("x", json!(1), true),
        ("tenant", json!({"id": "t2", "name": "two"}), true),
        ("tenant", json!({"id": ["t3", "t2"]}), true),
        ("tenant", json!({"id": "t3"}), false),
        ("tenant", json!("t1"), false),
        ("tenant", Value::Null, false),
        ("amr", json!(["kerb"]), false),
        ("amr", json!("kerb"), false),
        ("amr", json!([]), false),
        ("level", json!("3"), true),
        ("level", json!(3.0), true),
        ("level", json!([1, 3]), true),
        ("level", json!(3.5), false),
        ("level", json!(30), false),
        ("admin", json!("true"), true),
        ("admin", json!(false), false),
        ("admin", json!([[true]]), false),
    ] {
        let token = token(&world, &with(good.clone(), member, value.clone()));
        let request = Request::get("/conditions").header("authorization", format!("Bearer {token}"));
        for _ in 0..2 {
            let answer = world.send(&request).unwrap();
            let what = format!("{member} = {value}");
            if passes {
                assert_eq!(answer.status, 200, "{what}");
            } else {
                assert_eq!(reason(&world, &answer), (403, "denied_by_policy".to_owned()), "{what}");
            }
        }
    }
}

#[test]
fn a_token_goes_on_only_where_the_route_forwards_it_and_a_ticket_never() {
    let world = world();
    let shown = token(&world, &json!({}));
    for _ in 0..2 {
        for (path, expected) in [("/forward", vec![format!("Bearer {shown}")]), ("/keep", vec![])] {
            assert_eq!(world.curl(path).bearer(&shown).send().unwrap().status, 200);
            assert_eq!(arrived(&world, "authorization"), expected, "{path}");
        }
    }
    let answer = world.curl_as("alice", "/forward").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let minted = answer.header("x-kerbridge-token").unwrap();
    assert_eq!(arrived(&world, "authorization"), [format!("Bearer {minted}")]);
    let claims = decode(minted).unwrap().claims;
    assert_eq!(
        (&claims["sub"], &claims["aud"]),
        (&json!("alice@LAB.TEST"), &json!("orders"))
    );
    assert_eq!(world.curl_as("alice", "/keep").send().unwrap().status, 200);
    assert_eq!(arrived(&world, "authorization"), Vec::<String>::new());
}
