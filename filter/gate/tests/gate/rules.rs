//! Rules at the gate: issuers, conditions, headers for claims, preflights, dry runs, challenges, explanations, the warm path.

mod known;

use std::cell::RefCell;
use std::rc::Rc;

use crate::world::{Key, NOW, at, head, lines, passed, reply, request, run, settle, shown, take_keys};
use kerbridge_gate::gate::WarmHead;
use kerbridge_gate::{Config, Gate, Reason, Snapshot, Step};

const BROKER: &str = r#"{"issuer": "https://broker.test", "jwks": {"cluster": "broker"}}"#;
const IDP: &str = r#"{"issuer": "https://idp.test", "name": "idp", "audiences": {"orders": ["client-1"]},
    "types": ["JWT", ""], "jwks": {"cluster": "idp"}, "scope_claim": "scp", "groups_claim": "/realm/roles"}"#;

/// A gate with these routes, both issuers, and this key for each.
fn gate(key: &Key, routes: &str, more: &str) -> RefCell<Gate> {
    let text = format!(
        r#"{{"issuers": [{BROKER}, {IDP}], "broker": {{"cluster": "broker", "issuer": "https://broker.test"}},
        {more} "routes": [{routes}]}}"#
    );
    let config = Rc::new(Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}")));
    let keys = key.set();
    let snapshot = Snapshot::new(config, at(NOW))
        .with_keys(0, keys.as_bytes(), at(NOW))
        .and_then(|snapshot| snapshot.with_keys(1, keys.as_bytes(), at(NOW)));
    RefCell::new(Gate::new(Rc::new(snapshot.unwrap())))
}

/// A token of the broker with these members besides those that every one has.
fn own(key: &Key, more: &str) -> String {
    let exp = NOW + 900;
    key.token(&format!(
        r#"{{"iss":"https://broker.test","sub":"alice@LAB.TEST","aud":"orders","iat":{NOW},"exp":{exp},"jti":"j"{more}}}"#
    ))
}

/// A token of the other issuer with this header and these members.
fn foreign(key: &Key, typ: &str, more: &str) -> String {
    let exp = NOW + 900;
    key.sign(
        &format!(r#"{{"alg":"ES256","kid":"{}"{typ}}}"#, key.kid),
        &format!(r#"{{"iss":"https://idp.test","sub":"u-1","exp":{exp}{more}}}"#),
    )
}

fn step(gate: &RefCell<Gate>, path: &str, token: &str) -> Step {
    let value = format!("Bearer {token}");
    run(gate, NOW, &head(path, &[("authorization", value.as_bytes())]), true)
}

fn reason(gate: &RefCell<Gate>, path: &str, token: &str) -> Reason {
    match step(gate, path, token) {
        Step::Continue(_, admitted) => admitted.decision().reason,
        other => reply(other).decision.reason,
    }
}

const ORDERS: &str = r#"{"path_prefix": "/", "accept": ["bearer"], "audience": "orders"}"#;

#[test]
fn a_foreign_issuer_vouches_only_for_the_audiences_that_it_is_given() {
    let key = Key::new("k");
    let billing = r#"{"path_prefix": "/billing", "accept": ["bearer"], "audience": "billing"}"#;
    let gate = gate(&key, &format!("{billing}, {ORDERS}"), "");
    let good = foreign(&key, r#","typ":"JWT""#, r#","aud":["x","client-1"]"#);
    let (edits, admitted) = passed(step(&gate, "/orders", &good));
    assert!(shown(&edits).contains(&"x-kerbridge-issuer=https://idp.test".into()));
    assert_eq!(admitted.decision().issuer_name(), "idp");
    assert_eq!(reason(&gate, "/billing", &good), Reason::WrongAudience);
    for (token, expected) in [
        (foreign(&key, "", r#","aud":"client-1""#), Reason::Ok),
        (
            foreign(&key, r#","typ":"at+jwt""#, r#","aud":"client-1""#),
            Reason::WrongType,
        ),
        (foreign(&key, "", r#","aud":"orders""#), Reason::WrongAudience),
        (foreign(&key, "", r#","aud":"client-2""#), Reason::WrongAudience),
        // Ours are for one audience under its own name, whatever the other issuer's stand for.
        (own(&key, ""), Reason::Ok),
        (
            key.token(&format!(
                r#"{{"iss":"https://broker.test","sub":"a","aud":"client-1","iat":{NOW},"exp":{},"jti":"j"}}"#,
                NOW + 9
            )),
            Reason::WrongAudience,
        ),
        (
            key.token(&format!(
                r#"{{"iss":"https://broker.test","sub":"a","aud":["orders","x"],"iat":{NOW},"exp":{},"jti":"j"}}"#,
                NOW + 9
            )),
            Reason::WrongAudience,
        ),
    ] {
        assert_eq!(reason(&gate, "/", &token), expected, "{token}");
    }
}

#[test]
fn scopes_groups_and_claims_decide_together() {
    let key = Key::new("k");
    let rule = r#"{"path_prefix": "/", "accept": ["bearer"], "audience": "orders", "scopes_all": ["a"],
        "scopes_any": ["b", "c"], "groups": ["clerks", "admins"],
        "claims": [{"claim": "/tenant/id", "any_of": ["t1", "7"]}, {"claim": "amr", "all_of": ["kerb", "hwk"]}]}"#;
    let gate = gate(&key, rule, "");
    let good = r#","scope":"a c","groups":["clerks"],"tenant":{"id":"t1"},"amr":["hwk","kerb","x"]"#;
    assert_eq!(reason(&gate, "/", &own(&key, good)), Reason::Ok);
    for (from, to, expected) in [
        (r#""t1""#, "7", Reason::Ok),
        (r#""t1""#, r#"["t2","t1"]"#, Reason::Ok),
        ("a c", "a", Reason::InsufficientScope),
        ("a c", "c", Reason::InsufficientScope),
        (r#"["clerks"]"#, r#"["others"]"#, Reason::DeniedByPolicy),
        (r#"["clerks"]"#, "[]", Reason::DeniedByPolicy),
        (r#","groups":["clerks"]"#, "", Reason::DeniedByPolicy),
        (r#""t1""#, r#""t2""#, Reason::DeniedByPolicy),
        (r#""t1""#, "7.5", Reason::DeniedByPolicy),
        (r#""t1""#, r#"{"t1":"t1"}"#, Reason::DeniedByPolicy),
        (r#"{"id":"t1"}"#, r#""t1""#, Reason::DeniedByPolicy),
        (r#""hwk","#, "", Reason::DeniedByPolicy),
    ] {
        let claims = good.replace(from, to);
        assert_ne!(claims, good);
        assert_eq!(reason(&gate, "/", &own(&key, &claims)), expected, "{from} -> {to}");
    }
}

#[test]
fn claims_reach_the_upstream_as_headers_and_nobody_else_sets_them() {
    let key = Key::new("k");
    let rule = r#"{"path_prefix": "/a", "accept": ["bearer"], "audience": "orders", "claim_to_headers": [
        {"header_name": "x-name", "claim_name": "name"}, {"header_name": "x-roles", "claim_name": "/realm/roles"},
        {"header_name": "x-level", "claim_name": "level"}]}"#;
    let gate = gate(
        &key,
        &format!("{rule}, {ORDERS}"),
        r#""identity_headers": {"groups": "x-groups"},"#,
    );
    let token = own(
        &key,
        r#","name":"Jörg %","realm":{"roles":["a b","ö\""]},"level":"a\nb","groups":["g","h i"]"#,
    );
    let value = format!("Bearer {token}");
    let spoofed: [(&str, &[u8]); 5] = [
        ("authorization", value.as_bytes()),
        ("x-name", b"root"),
        ("x-level", b"9"),
        ("x-groups", b"[\"admins\"]"),
        ("x_roles", b"x"),
    ];
    let (edits, _) = passed(run(&gate, NOW, &head("/a", &spoofed), true));
    assert_eq!(
        shown(&edits),
        [
            "-x-name",
            "-x-level",
            "-x-groups",
            "-x_roles",
            "x-kerbridge-subject=alice@LAB.TEST",
            "x-kerbridge-issuer=https://broker.test",
            r#"x-groups=["g","h i"]"#,
            "x-name=J%C3%B6rg%20%25",
            r#"x-roles=["a b","\u00f6\""]"#,
            "-x-level",
            "-authorization",
        ]
    );
    // On every other route too.
    let (edits, _) = passed(run(&gate, NOW, &head("/b", &spoofed), true));
    assert_eq!(shown(&edits)[..4], ["-x-name", "-x-level", "-x-groups", "-x_roles"]);
}

#[test]
fn on_an_optional_route_nothing_need_be_shown_but_what_is_shown_must_verify() {
    let key = Key::new("k");
    let rule = r#"{"path_prefix": "/", "access": "optional", "accept": ["bearer"], "audience": "orders"}"#;
    let gate = gate(&key, rule, "");
    let (edits, admitted) = passed(run(&gate, NOW, &head("/", &[("x-kerbridge-subject", b"root")]), true));
    assert_eq!(shown(&edits), ["-x-kerbridge-subject"]);
    assert!(admitted.verified().is_none());
    passed(run(&gate, NOW, &head("/", &[]), false));
    assert_eq!(reason(&gate, "/", &own(&key, "")), Reason::Ok);
    assert_eq!(reason(&gate, "/", "x.y.z"), Reason::TokenMalformed);
    let clear = run(&gate, NOW, &head("/", &[("authorization", b"Bearer x.y.z")]), false);
    assert_eq!(reply(clear).decision.reason, Reason::InsecureTransport);
}

#[test]
fn a_token_is_taken_from_the_configured_header_and_never_from_two() {
    let key = Key::new("k");
    let both = r#"{"path_prefix": "/both", "accept": ["bearer", "header"], "audience": "orders", "forward": true}"#;
    let gate = gate(
        &key,
        &format!("{both}, {ORDERS}"),
        r#""token_header": {"name": "x-api-token", "prefix": "Token "},"#,
    );
    let token = own(&key, "");
    let header = format!("Token {token}");
    let bearer = format!("Bearer {token}");
    let own = ("x-api-token", header.as_bytes());
    let authorization = ("authorization", bearer.as_bytes());
    let (edits, _) = passed(run(&gate, NOW, &head("/both", &[own]), true));
    assert!(shown(&edits).contains(&"-x-api-token".into()));
    assert!(shown(&edits).contains(&format!("authorization=Bearer {token}")));
    for (headers, expected) in [
        (vec![own, authorization], Reason::MultipleCredentials),
        (vec![own, own], Reason::MultipleCredentials),
        (vec![("x-api-token", token.as_bytes())], Reason::MalformedCredentials),
        (
            vec![("x-api-token", b"Token ".as_slice())],
            Reason::MalformedCredentials,
        ),
        (
            vec![("x-api-token", b"Token a,b".as_slice())],
            Reason::MultipleCredentials,
        ),
    ] {
        assert_eq!(
            reply(run(&gate, NOW, &head("/both", &headers), true)).decision.reason,
            expected
        );
    }
    // Elsewhere it is no credential, and goes nowhere.
    assert_eq!(
        reply(run(&gate, NOW, &head("/", &[own]), true)).decision.reason,
        Reason::NoCredentials
    );
    let (edits, _) = passed(run(&gate, NOW, &head("/", &[own, authorization]), true));
    assert!(shown(&edits).contains(&"-x-api-token".into()));
}

#[test]
fn only_a_real_preflight_passes_and_only_where_it_may() {
    let key = Key::new("k");
    let get = r#"{"path_prefix": "/a", "methods": ["GET"], "accept": ["bearer"], "audience": "orders", "cors_preflight": true}"#;
    let put = r#"{"path_prefix": "/a", "methods": ["PUT"], "accept": ["bearer"], "audience": "orders"}"#;
    let gate = gate(&key, &format!("{get}, {put}, {ORDERS}"), "");
    let options = (":method", b"OPTIONS".as_slice());
    let origin = ("origin", b"https://app.test".as_slice());
    let asks = |method: &'static [u8]| ("access-control-request-method", method);
    let (edits, _) = passed(run(
        &gate,
        NOW,
        &head(
            "/a",
            &[
                options,
                origin,
                asks(b"GET"),
                ("authorization", b"Bearer x"),
                ("x-kerbridge-subject", b"root"),
            ],
        ),
        true,
    ));
    assert_eq!(shown(&edits), ["-x-kerbridge-subject", "-authorization"]);
    for headers in [
        vec![options, origin, asks(b"PUT")],
        vec![options, origin],
        vec![options, asks(b"GET")],
        vec![origin, asks(b"GET"), (":method", b"POST")],
    ] {
        assert_eq!(
            reply(run(&gate, NOW, &head("/a", &headers), true)).status,
            401,
            "{headers:?}"
        );
    }
}

#[test]
fn a_dry_run_lets_everything_on_and_tells_only_the_truth_upstream() {
    let key = Key::new("k");
    let rule = r#"{"path_prefix": "/", "accept": ["bearer", "negotiate"], "audience": "orders", "scopes_all": ["a"],
        "dry_run": true, "deliver": "header"}"#;
    let gate = gate(&key, rule, "");
    let spoofed = ("x-kerbridge-subject", b"root".as_slice());
    for (authorization, expected) in [
        ("Bearer x.y.z".to_owned(), Reason::TokenMalformed),
        (format!("Bearer {}", own(&key, "")), Reason::InsufficientScope),
        ("Basic YTpi".to_owned(), Reason::NoCredentials),
        ("NTLM x".to_owned(), Reason::NtlmToken),
    ] {
        let headers = head("/", &[("authorization", authorization.as_bytes()), spoofed]);
        let (edits, mut admitted) = passed(run(&gate, NOW, &headers, true));
        assert_eq!(shown(&edits), ["-x-kerbridge-subject"], "{authorization}");
        assert_eq!(admitted.decision().reason, expected);
        assert!(admitted.decision().dry_run);
        assert!(admitted.respond(at(NOW), &head("/", &[])).is_empty());
    }
    let good = format!("Bearer {}", own(&key, r#","scope":"a""#));
    let (edits, admitted) = passed(run(
        &gate,
        NOW,
        &head("/", &[("authorization", good.as_bytes()), spoofed]),
        true,
    ));
    assert_eq!(admitted.decision().reason, Reason::Ok);
    assert_eq!(
        shown(&edits),
        [
            "-x-kerbridge-subject",
            "x-kerbridge-subject=alice@LAB.TEST",
            "x-kerbridge-issuer=https://broker.test",
            "x-kerbridge-scope=a",
        ]
    );
    assert_eq!(gate.borrow().snapshot().config().unwrap().dry_runs(), 1);
    // What is wrong before a rule is found is no rule's verdict.
    assert_eq!(reply(run(&gate, NOW, &head("/a/../b", &[]), true)).status, 400);
}

#[test]
fn negotiate_is_offered_to_whom_the_rule_says() {
    let key = Key::new("k");
    let rule = |offer: &str| {
        format!(
            r#"{{"path_prefix": "/", "accept": ["bearer", "negotiate"], "audience": "orders", "offer_negotiate": {offer}}}"#
        )
    };
    let offered = |offer: &str, headers: &[(&str, &[u8])]| {
        let answer = reply(run(&gate(&key, &rule(offer), ""), NOW, &head("/app/x", headers), true));
        assert_eq!(answer.status, 401);
        lines(&answer, "www-authenticate").contains(&"Negotiate".into())
    };
    assert!(!offered(r#"{"never": true}"#, &[]));
    assert!(offered(r#"{"sources": ["127.0.0.0/8"]}"#, &[]));
    assert!(!offered(r#"{"sources": ["10.0.0.0/8"]}"#, &[]));
    assert!(offered(r#"{"path_prefixes": ["/app"]}"#, &[]));
    assert!(!offered(r#"{"path_prefixes": ["/ap"]}"#, &[]));
    let header = r#"{"header": {"name": "user-agent", "contains": "Windows"}}"#;
    assert!(offered(header, &[("user-agent", b"Mozilla (Windows NT)")]));
    assert!(!offered(header, &[("user-agent", b"curl")]) && !offered(header, &[]));
    assert!(!offered(
        r#"{"path_prefixes": ["/app"], "sources": ["10.0.0.0/8"]}"#,
        &[]
    ));
    // Where nothing else is accepted there is no challenge left, and so no 401.
    let only =
        r#"{"path_prefix": "/", "accept": ["negotiate"], "audience": "orders", "offer_negotiate": {"never": true}}"#;
    let answer = reply(run(&gate(&key, only, ""), NOW, &head("/", &[]), true));
    assert_eq!((answer.status, answer.decision.reason), (403, Reason::NoCredentials));
}

#[test]
fn the_decision_is_explained_to_an_address_that_may_ask_and_to_no_other() {
    let key = Key::new("k");
    let more = |network: &str| format!(r#""explain": {{"sources": ["{network}"]}},"#);
    let asks = ("x-explain-kerbridge", b"1".as_slice());
    let here = gate(&key, ORDERS, &more("127.0.0.1"));
    let answer = reply(run(&here, NOW, &head("/", &[asks]), true));
    assert_eq!(
        lines(&answer, "x-explain-kerbridge"),
        ["reason=no_credentials; route=route-0; issuer=-"]
    );
    let good = format!("Bearer {}", own(&key, ""));
    let (edits, mut admitted) = passed(run(
        &here,
        NOW,
        &head("/", &[asks, ("authorization", good.as_bytes())]),
        true,
    ));
    assert!(shown(&edits).contains(&"-x-explain-kerbridge".into()));
    let response = admitted.respond(at(NOW), &head("/", &[asks]));
    assert_eq!(
        shown(&response),
        [
            "-x-explain-kerbridge",
            "x-explain-kerbridge=reason=ok; route=route-0; issuer=kerbridge"
        ]
    );
    assert!(lines(&reply(run(&here, NOW, &head("/", &[]), true)), "x-explain-kerbridge").is_empty());
    let elsewhere = gate(&key, ORDERS, &more("10.0.0.0/8"));
    assert!(
        lines(
            &reply(run(&elsewhere, NOW, &head("/", &[asks]), true)),
            "x-explain-kerbridge"
        )
        .is_empty()
    );
}
