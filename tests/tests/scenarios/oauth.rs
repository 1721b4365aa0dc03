//! The broker as an authorization server, for clients that know nothing of it but OAuth: what an off-the-shelf library gets, what
//! tools make of its description, who may trade, ask and take back, and that every bad request has its RFC's error and changes
//! nothing.

mod description;
mod errors;
mod library;

use std::time::Duration;

use kerbridge_tests::certificates::CLIENT;
use kerbridge_tests::curl::Answer;
use kerbridge_tests::oauth_world::{ACCESS_TOKEN, As, EXCHANGE, KEY_CLIENT, NEGOTIATE, OauthWorld, access_token};
use kerbridge_tests::token::decode;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::SERVICE;
use serde_json::{Value, json};

/// The answer is this error of RFC 6749 §5.2, and says nothing more than it may.
fn assert_refused(answer: &Answer, status: u16, error: &str) {
    let found = answer.json();
    assert_eq!(
        (answer.status, found["error"].as_str()),
        (status, Some(error)),
        "{}",
        answer.text()
    );
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    // RFC 9110 §15.5.2.
    assert_eq!(answer.all("www-authenticate").is_empty(), status != 401);
    assert_eq!(answer.all("content-type"), ["application/json"]);
    for inside in ["reason", "negotiate", "continuation"] {
        assert_eq!(found.get(inside), None, "{found}");
    }
}

fn claims(token: &str) -> Value {
    decode(token).unwrap().claims
}

pub(super) fn opens(lab: &mut OauthWorld, path: &str, token: &str) -> u16 {
    lab.world().curl(path).bearer(token).send().unwrap().status
}

#[test]
fn a_token_is_traded_where_a_line_says_so_and_opens_no_more_than_it_did() {
    let mut lab = OauthWorld::start().unwrap();
    let first = lab.token(As::Nobody, "orders").unwrap();
    let old = claims(&first);
    for (client, name) in [(As::Key, KEY_CLIENT), (As::Certificate, CLIENT)] {
        let answer = lab.trade(client, &first, &[("audience", "billing")]).unwrap();
        let token = access_token(&answer).unwrap();
        assert_eq!(answer.json()["issued_token_type"], ACCESS_TOKEN);
        let new = claims(&token);
        assert_eq!(new["aud"], "billing");
        assert_eq!(
            (new["client_id"].as_str(), &new["act"]),
            (Some(name), &json!({ "sub": name }))
        );
        // Alice may write orders; the line lets reading through, and nothing lets a token live longer.
        assert_eq!(
            (old["scope"].as_str(), new["scope"].as_str()),
            (Some("orders:read orders:write"), Some("orders:read"))
        );
        assert!(new["exp"].as_u64() <= old["exp"].as_u64(), "{new}");
        for kept in ["iss", "sub", "sid", "auth_time", "amr", "kerbridge_cb"] {
            assert_eq!(new[kept], old[kept], "{kept}");
        }
        assert_eq!(opens(&mut lab, "/billing/1", &token), 200);
        assert_eq!(opens(&mut lab, "/orders/1", &token), 401);
        // What was traded is not traded back, nor on.
        for audience in ["orders", "billing", "reports"] {
            assert_refused(
                &lab.trade(client, &token, &[("audience", audience)]).unwrap(),
                400,
                "invalid_target",
            );
        }
    }
    // No line, no client, no more than there was, and the service by its address (RFC 8707).
    assert_refused(
        &lab.trade(As::Nobody, &first, &[("audience", "billing")]).unwrap(),
        401,
        "invalid_client",
    );
    assert_refused(
        &lab.trade(As::Key, &first, &[("audience", "reports")]).unwrap(),
        400,
        "invalid_target",
    );
    let wider = [("audience", "billing"), ("scope", "orders:read orders:write")];
    assert_refused(&lab.trade(As::Key, &first, &wider).unwrap(), 400, "invalid_scope");
    let resource = lab.world().url("/billing");
    let named = lab.trade(As::Key, &first, &[("resource", &resource)]).unwrap();
    assert_eq!(claims(&access_token(&named).unwrap())["aud"], "billing");
    let elsewhere = lab.world().url("/elsewhere");
    assert_refused(
        &lab.trade(As::Key, &first, &[("resource", &elsewhere)]).unwrap(),
        400,
        "invalid_target",
    );
    let two = [("resource", resource.as_str()), ("audience", "orders")];
    assert_refused(&lab.trade(As::Key, &first, &two).unwrap(), 400, "invalid_target");
    // A session that is revoked takes both with it, and buys nothing.
    let traded = access_token(&lab.trade(As::Key, &first, &[("audience", "billing")]).unwrap()).unwrap();
    let session = old["sid"].as_str().unwrap().to_owned();
    lab.world().broker().revoke(&["--sid", &session]).unwrap();
    assert_refused(
        &lab.trade(As::Key, &first, &[("audience", "billing")]).unwrap(),
        400,
        "invalid_request",
    );
    for (path, token) in [("/orders/1", &first), ("/billing/1", &traded)] {
        wait_until(path, Duration::from_secs(10), || opens(&mut lab, path, token) == 401).unwrap();
    }
}

#[test]
fn another_issuers_token_is_traded_by_whom_it_names_and_nobody_else() {
    let mut lab = OauthWorld::start().unwrap();
    let issuer = lab.issuer();
    let trade = |lab: &OauthWorld, client: As, more: Value| {
        let token = lab.foreign_token(&more).unwrap();
        lab.trade(client, &token, &[("audience", "billing")]).unwrap()
    };
    let token = access_token(&trade(&lab, As::Key, json!({}))).unwrap();
    let new = claims(&token);
    assert_eq!((&new["iss"], &new["sub"]), (&json!(issuer), &json!("alice@LAB.TEST")));
    assert_eq!(new["act"], json!({ "sub": KEY_CLIENT }));
    assert_eq!(opens(&mut lab, "/billing/1", &token), 200);
    // RFC 8693 §4.4: by our own name for the client.
    let may_act = json!({ "may_act": { "sub": KEY_CLIENT, "iss": issuer } });
    assert_eq!(trade(&lab, As::Key, may_act.clone()).status, 200);
    assert_refused(&trade(&lab, As::Certificate, may_act), 400, "invalid_target");
    let its_own = json!({ "may_act": { "sub": KEY_CLIENT } });
    assert_refused(&trade(&lab, As::Key, its_own), 400, "invalid_target");
    // Who acted before stays inside, and there may be four.
    let acted = claims(&access_token(&trade(&lab, As::Key, json!({ "act": { "sub": "portal" } }))).unwrap());
    assert_eq!(acted["act"]["act"]["sub"], "portal");
    let deep = (0..4).fold(json!({ "sub": "a" }), |act, _| json!({ "sub": "a", "act": act }));
    assert_refused(&trade(&lab, As::Key, json!({ "act": deep })), 400, "invalid_target");
    // That a client of ours has acted is ours alone to say, and of services the issuer does not speak.
    let ours = json!({ "act": { "sub": CLIENT, "iss": issuer } });
    for (more, error) in [
        (ours, "invalid_target"),
        (json!({ "upn": "HTTP/localhost@LAB.TEST" }), "invalid_request"),
        (json!({ "upn": "krbtgt/LAB.TEST@LAB.TEST" }), "invalid_request"),
        (json!({ "aud": "client-2" }), "invalid_target"),
        (json!({ "upn": "alice@OTHER.TEST" }), "invalid_request"),
        (json!({ "exp": 1 }), "invalid_request"),
        (json!({ "iss": "https://nobody.example.com" }), "invalid_request"),
    ] {
        assert_refused(&trade(&lab, As::Key, more), 400, error);
    }
}

#[test]
fn a_service_asks_what_a_token_says_and_strangers_hear_nothing() {
    let mut lab = OauthWorld::start().unwrap();
    let token = lab.token(As::Key, "orders").unwrap();
    let ask = |lab: &OauthWorld, client: As, token: &str| {
        let fields = [("token", token), ("token_type_hint", "access_token")];
        lab.post("/oauth2/introspect", client, &fields).unwrap()
    };
    let own = claims(&token);
    for client in [As::Key, As::Certificate] {
        let said = ask(&lab, client, &token);
        assert_eq!(
            (said.status, said.all("cache-control")),
            (200, vec!["no-store"]),
            "{}",
            said.text()
        );
        let said = said.json();
        assert_eq!((&said["active"], &said["token_type"]), (&json!(true), &json!("Bearer")));
        for claim in ["iss", "sub", "aud", "client_id", "exp", "iat", "jti", "scope", "sid"] {
            assert_eq!(said[claim], own[claim], "{claim}");
        }
    }
    assert_refused(&ask(&lab, As::Nobody, &token), 401, "invalid_client");
    let nobody_s = lab.foreign_token(&json!({})).unwrap();
    let reports = lab.token(As::Nobody, "reports").unwrap();
    lab.world()
        .broker()
        .revoke(&["--jti", own["jti"].as_str().unwrap()])
        .unwrap();
    for unusable in [&token, &nobody_s, &reports, "a.b.c", "x"] {
        assert_eq!(ask(&lab, As::Key, unusable).text(), r#"{"active":false}"#);
    }
}

#[test]
fn a_token_that_was_had_with_a_certificate_opens_with_it_alone() {
    let mut lab = OauthWorld::start().unwrap();
    assert!(lab.token(As::Nobody, "bound").is_err());
    assert!(lab.token(As::Key, "bound").is_err());
    let token = lab.token(As::Certificate, "bound").unwrap();
    assert!(claims(&token)["cnf"]["x5t#S256"].is_string());
    let curl = lab.world().curl("/bound/1").bearer(&token);
    assert_eq!(lab.with_certificate(curl.clone()).send().unwrap().status, 200);
    let stolen = curl.send().unwrap();
    assert_eq!(
        lab.world().reason(&stolen).unwrap(),
        (401, "certificate_mismatch".to_owned())
    );
}

#[test]
fn a_ticket_with_less_life_than_the_floor_buys_nothing() {
    let mut lab = OauthWorld::start_with("[limits]\nticket_floor = \"20s\"\n").unwrap();
    // A life as the KDC counts it, from the second in which it was asked for.
    let tickets = lab.world().kdc().kinit_with("alice", &["-l", "15s"]).unwrap();
    let program = kerbridge_tests::world::lab_program().unwrap();
    let ticket = kerbridge_tests::initiator::token_in_child(&program, lab.world().kdc(), &tickets, SERVICE).unwrap();
    let fields = [
        ("grant_type", EXCHANGE),
        ("subject_token", ticket.as_str()),
        ("subject_token_type", NEGOTIATE),
        ("audience", "orders"),
    ];
    assert_refused(
        &lab.post("/oauth2/token", As::Nobody, &fields).unwrap(),
        400,
        "invalid_request",
    );
    // To whom it must not be an oracle it is not said; the audit trail has it.
    let log = lab.world().broker().logged("ticket_too_short");
    let refused = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let refused: Vec<Value> = refused.filter(|line| line["reason"] == "ticket_too_short").collect();
    assert_eq!(refused.len(), 1, "{log}");
    assert_eq!(refused[0]["principal"], "alice@LAB.TEST");
}
