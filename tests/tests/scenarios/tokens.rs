//! Tokens that must pass, and those that must not, each by its reason.

use kerbridge_tests::World;
use kerbridge_tests::shipped::ISSUER;
use kerbridge_tests::token::{LabKey, alter_claims, claims, now, unsigned, with};
use kerbridge_tests::world::LAB_ISSUER;
use serde_json::{Value, json};

/// A world without a broker, in which the test itself is an issuer.
fn world() -> World {
    World::builder().broker_stopped().lab_issuer().start().unwrap()
}

fn good_claims() -> Value {
    claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read")
}

/// The reason for which a token is refused, with 401 and an `invalid_token` challenge, or the status where it is not.
fn reason(world: &World, token: &str) -> String {
    let before = world.upstream().requests().len();
    let answer = world.curl("/orders/1").bearer(token).send().unwrap();
    if answer.status == 200 {
        return "200".to_owned();
    }
    let refusal = world.refusal(answer.status, &answer.body).unwrap();
    assert_eq!(world.upstream().requests().len(), before, "a refused request arrived");
    assert_eq!(
        (refusal.status, refusal.error.as_str()),
        (401, "invalid_token"),
        "{refusal:?}"
    );
    let challenges = answer.all("www-authenticate");
    assert_eq!(challenges.len(), 2, "{challenges:?}");
    assert!(challenges.contains(&"Negotiate"), "{challenges:?}");
    assert!(
        challenges
            .iter()
            .any(|line| line.starts_with("Bearer ") && line.contains("error=\"invalid_token\"")),
        "{challenges:?}"
    );
    refusal.reason
}

#[test]
fn a_good_token_passes_and_the_service_learns_who_calls() {
    let world = world();
    let token = |claims: &Value| {
        let key = world.lab_key().unwrap();
        key.sign(&key.header(), claims).unwrap()
    };
    assert_eq!(reason(&world, &token(&good_claims())), "200");
    let received = world.upstream().requests().pop().unwrap();
    let values = |name| received.all(name).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(values("x-kerbridge-subject"), [b"carol@LAB.TEST"]);
    assert_eq!(values("x-kerbridge-scope"), [b"orders:read"]);
    assert_eq!(values("authorization"), Vec::<Vec<u8>>::new());
    // Every value that RFC 7515 and RFC 9068 let stand for the same.
    for header in ["application/at+jwt", "AT+JWT"] {
        let key = world.lab_key().unwrap();
        let header = with(key.header(), "typ", json!(header));
        assert_eq!(reason(&world, &key.sign(&header, &good_claims()).unwrap()), "200");
    }
    let listed = with(good_claims(), "aud", json!(["orders"]));
    assert_eq!(reason(&world, &token(&listed)), "200");
}

#[test]
fn a_token_with_a_wrong_claim_is_refused_by_its_reason() {
    let world = world();
    let key = world.lab_key().unwrap();
    let now = now();
    for (claim, value, expected) in [
        ("exp", json!(now - 1), "expired"),
        ("exp", json!(now - 30), "expired"),
        ("exp", Value::Null, "missing_claim"),
        ("exp", json!("2099"), "missing_claim"),
        ("exp", json!(1e300), "missing_claim"),
        ("nbf", json!(now + 120), "not_yet_valid"),
        ("iat", json!(now + 120), "not_yet_valid"),
        ("aud", json!("reports"), "wrong_audience"),
        ("aud", json!(["reports"]), "wrong_audience"),
        ("aud", json!(["else", "where"]), "wrong_audience"),
        ("aud", json!("ORDERS"), "wrong_audience"),
        ("aud", Value::Null, "missing_claim"),
        ("iss", json!("https://nobody.example.com"), "unknown_issuer"),
        ("iss", json!(format!("{LAB_ISSUER}/")), "unknown_issuer"),
        ("iss", Value::Null, "missing_claim"),
        ("sub", Value::Null, "missing_claim"),
    ] {
        let token = key
            .sign(&key.header(), &with(good_claims(), claim, value.clone()))
            .unwrap();
        assert_eq!(reason(&world, &token), expected, "{claim} = {value}");
    }
    // Another service's clock may run ahead a little.
    for (claim, value) in [("iat", json!(now + 30)), ("nbf", json!(now + 30))] {
        let token = key.sign(&key.header(), &with(good_claims(), claim, value)).unwrap();
        assert_eq!(reason(&world, &token), "200", "{claim}");
    }
}

#[test]
fn a_token_with_a_wrong_header_is_refused_by_its_reason() {
    let world = world();
    let key = world.lab_key().unwrap();
    for (member, value, expected) in [
        ("alg", json!("none"), "algorithm_not_allowed"),
        ("alg", json!("HS256"), "algorithm_not_allowed"),
        ("alg", json!("RS256"), "algorithm_not_allowed"),
        ("alg", json!("es256"), "algorithm_not_allowed"),
        ("kid", json!("another"), "unknown_key"),
        ("typ", json!("JWT"), "wrong_type"),
        ("typ", Value::Null, "wrong_type"),
        ("crit", json!(["exp"]), "token_malformed"),
    ] {
        let token = key
            .sign(&with(key.header(), member, value.clone()), &good_claims())
            .unwrap();
        assert_eq!(reason(&world, &token), expected, "{member} = {value}");
    }
}

#[test]
fn a_forged_token_is_refused() {
    let world = world();
    let key = world.lab_key().unwrap();
    let good = key.sign(&key.header(), &good_claims()).unwrap();
    assert_eq!(reason(&world, &good), "200");

    // Signed by a stranger who names our key.
    let stranger = LabKey::generate().unwrap();
    let forged = stranger.sign(&key.header(), &good_claims()).unwrap();
    assert_eq!(reason(&world, &forged), "bad_signature");
    // A good signature under other claims.
    let altered = alter_claims(&good, |claims| with(claims, "sub", json!("root@LAB.TEST"))).unwrap();
    assert_eq!(reason(&world, &altered), "bad_signature");
    // No signature at all, under both names for it.
    assert_eq!(reason(&world, &unsigned(&good).unwrap()), "algorithm_not_allowed");
    let (input, _signature) = good.rsplit_once('.').unwrap();
    assert_eq!(reason(&world, &format!("{input}.")), "bad_signature");
    // The right key, but another issuer's name: a key is only its own issuer's.
    let borrowed = key
        .sign(&key.header(), &with(good_claims(), "iss", json!(ISSUER)))
        .unwrap();
    let answer = world.curl("/orders/1").bearer(&borrowed).send().unwrap();
    // The broker of this world never ran: its issuer has no keys, which is our fault and not the client's.
    assert_eq!(world.reason(&answer).unwrap(), (503, "keys_unavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(world.upstream().requests().len(), 1);
}

#[test]
fn what_is_no_token_is_refused_and_the_next_request_passes() {
    let world = world();
    let key = world.lab_key().unwrap();
    let good = key.sign(&key.header(), &good_claims()).unwrap();
    let header = key.header().to_string();
    let body = good_claims().to_string();
    let twice = body.replacen('{', r#"{"sub":"root@LAB.TEST","#, 1);
    for token in [
        "x".to_owned(),
        "a.b.c".to_owned(),
        format!("{good}.e30"),
        format!("{good}=="),
        key.sign_text("no json", &body).unwrap(),
        key.sign_text(&header, "no json").unwrap(),
        key.sign_text(&header, "[1]").unwrap(),
        key.sign_text(&header, &twice).unwrap(),
    ] {
        let reason = reason(&world, &token);
        assert!(
            ["token_malformed", "missing_claim"].contains(&reason.as_str()),
            "{reason} {token}"
        );
    }
    let long = key
        .sign(&key.header(), &with(good_claims(), "pad", json!("x".repeat(17_000))))
        .unwrap();
    let answer = world.curl("/orders/1").bearer(&long).send().unwrap();
    assert_eq!(world.reason(&answer).unwrap(), (401, "token_too_large".to_owned()));
    assert_eq!(reason(&world, &good), "200");
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn scopes_decide_on_a_good_token() {
    let world = world();
    let key = world.lab_key().unwrap();
    let answer = |scope: &str| {
        let claims = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", scope);
        let token = key.sign(&key.header(), &claims).unwrap();
        world.curl("/orders/1").bearer(&token).body("{}").send().unwrap()
    };
    for scope in ["orders:read", "", "orders:writer", "reports:read orders:read"] {
        let answer = answer(scope);
        assert_eq!(
            world.reason(&answer).unwrap(),
            (403, "insufficient_scope".to_owned()),
            "{scope}"
        );
        let challenges = answer.all("www-authenticate");
        assert_eq!(challenges.len(), 1, "{challenges:?}");
        assert!(challenges[0].contains("error=\"insufficient_scope\""), "{challenges:?}");
        assert!(challenges[0].contains("scope=\"orders:write\""), "{challenges:?}");
    }
    assert_eq!(answer("orders:read orders:write").status, 200);
    assert_eq!(world.upstream().requests().len(), 1);
}

#[test]
fn without_credentials_there_is_one_challenge_line_for_each_scheme_and_no_error_code() {
    let world = world();
    for http2 in [false, true] {
        let mut request = world.curl("/orders/1");
        if http2 {
            request = request.http2();
        }
        let answer = request.send().unwrap();
        assert_eq!(answer.http_version, if http2 { "2" } else { "1.1" });
        assert_eq!(world.reason(&answer).unwrap(), (401, "no_credentials".to_owned()));
        let mut challenges = answer.all("www-authenticate");
        challenges.sort_unstable();
        assert_eq!(challenges.len(), 2, "{challenges:?}");
        assert!(
            challenges[0].starts_with("Bearer") && !challenges[0].contains("error"),
            "{challenges:?}"
        );
        assert_eq!(challenges[1], "Negotiate");
    }
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn a_path_without_a_route_is_forbidden_and_an_open_one_is_open_exactly() {
    let world = world();
    assert_eq!(world.curl("/healthz").send().unwrap().status, 200);
    for path in ["/", "/healthz/", "/healthz/x", "/healthzz", "/order", "/ordersx"] {
        let answer = world.curl(path).send().unwrap();
        assert_eq!(
            world.reason(&answer).unwrap(),
            (403, "denied_by_policy".to_owned()),
            "{path}"
        );
    }
    let elsewhere = world
        .curl("/orders/1")
        .header("Host: other.example.com")
        .send()
        .unwrap();
    assert_eq!(world.reason(&elsewhere).unwrap(), (403, "denied_by_policy".to_owned()));
    assert_eq!(world.upstream().requests().len(), 1);
}

#[test]
fn a_grpc_client_is_refused_in_its_own_words() {
    let world = world();
    let key = world.lab_key().unwrap();
    let token = key.sign(&key.header(), &good_claims()).unwrap();
    let bearer = format!("Authorization: Bearer {token}");
    let unknown = with(good_claims(), "iss", json!(ISSUER));
    let unknown = format!("Authorization: Bearer {}", key.sign(&key.header(), &unknown).unwrap());
    for (path, headers, expected) in [
        ("/orders/1", vec![], "16"),
        ("/elsewhere", vec![], "7"),
        ("/orders/1", vec![bearer.as_str()], "7"),
        ("/orders/1", vec![bearer.as_str(), bearer.as_str()], "3"),
        ("/orders/1", vec![unknown.as_str()], "14"),
    ] {
        let mut call = world
            .curl(path)
            .http2()
            .body("")
            .header("content-type: application/grpc");
        for header in headers {
            call = call.header(header);
        }
        let answer = call.send().unwrap();
        assert_eq!(
            (answer.status, answer.header("grpc-status")),
            (200, Some(expected)),
            "{path}"
        );
    }
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn a_method_that_the_policy_does_not_name_takes_the_right_to_write() {
    let world = world();
    let key = world.lab_key().unwrap();
    let token = |scope: &str| {
        key.sign(&key.header(), &claims(LAB_ISSUER, "carol@LAB.TEST", "orders", scope))
            .unwrap()
    };
    let (reads, writes) = (token("orders:read"), token("orders:write"));
    for method in [
        "POST",
        "PUT",
        "DELETE",
        "MOVE",
        "PROPPATCH",
        "MKCOL",
        "PURGE",
        "LOCK",
        "UNLINK",
    ] {
        let call = |token: &str| world.curl("/orders/1").method(method).bearer(token).send().unwrap();
        assert_eq!(call(&writes).status, 200, "{method}");
        assert_eq!(
            world.reason(&call(&reads)).unwrap(),
            (403, "insufficient_scope".to_owned()),
            "{method}"
        );
    }
    assert_eq!(world.curl("/orders/1").bearer(&reads).send().unwrap().status, 200);
}
