//! Tokens at the gate: what passes, and what each forgery is called.

use std::rc::Rc;

use kerbridge_gate::jwt::SignatureInput;
use kerbridge_gate::verification::verify;

use crate::world::{Key, NOW, at, claims, gate, head, lines, passed, reply, run, shown, take_keys};
use kerbridge_gate::Reason;

fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

#[test]
fn a_good_token_passes_and_tells_the_upstream_who_calls() {
    let key = Key::new("k1");
    let token = key.token(&claims("orders", "orders:read orders:write"));
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let value = format!("{scheme} {token}").into_bytes();
        let headers = head("/orders/1?x=1", &[("authorization", &value)]);
        let (edits, admitted) = passed(run(&gate(&key), NOW, &headers, true));
        assert_eq!(
            shown(&edits),
            [
                "x-kerbridge-subject=alice@LAB.TEST",
                "x-kerbridge-issuer=https://broker.test",
                "x-kerbridge-scope=orders:read orders:write",
                "-authorization",
            ]
        );
        assert_eq!(&**admitted.verified().unwrap().claims().subject(), "alice@LAB.TEST");
    }
}

#[test]
fn a_token_goes_upstream_only_where_the_route_forwards_it() {
    let key = Key::new("k1");
    let token = key.token(&claims("orders", ""));
    let value = bearer(&token);
    let (edits, _) = passed(run(
        &gate(&key),
        NOW,
        &head("/tokens", &[("authorization", &value)]),
        true,
    ));
    let forwarded = format!("authorization=Bearer {token}");
    assert_eq!(
        shown(&edits),
        [
            "x-kerbridge-subject=alice@LAB.TEST",
            "x-kerbridge-issuer=https://broker.test",
            &forwarded,
        ]
    );
}

#[test]
fn every_forgery_is_refused_under_its_own_reason() {
    let (key, other) = (Key::new("k1"), Key::new("k1"));
    let gate = gate(&key);
    let good = claims("orders", "orders:read");
    let with = |from: &str, to: &str| good.replace(from, to);
    let header = key.header();
    let resigned = |header: &str| key.sign(header, &good);
    let mut altered = key.token(&good).into_bytes();
    let dot = altered.iter().position(|b| *b == b'.').unwrap();
    altered[dot + 8] ^= 1;
    let cases: Vec<(String, Reason)> = vec![
        (other.token(&good), Reason::BadSignature),
        (String::from_utf8(altered).unwrap(), Reason::TokenMalformed),
        (resigned(&header.replace("ES256", "none")), Reason::AlgorithmNotAllowed),
        (resigned(&header.replace("ES256", "HS256")), Reason::AlgorithmNotAllowed),
        (resigned(&header.replace("ES256", "ES384")), Reason::AlgorithmNotAllowed),
        (resigned(&header.replace("k1", "k2")), Reason::UnknownKey),
        (resigned(r#"{"alg":"ES256","typ":"at+jwt"}"#), Reason::UnknownKey),
        (resigned(&header.replace("at+jwt", "JWT")), Reason::WrongType),
        (
            resigned(&format!(
                r#"{{"alg":"ES256","typ":"at+jwt","kid":"k2","jwk":{}}}"#,
                key.jwk()
            )),
            Reason::TokenMalformed,
        ),
        (
            key.token(&with("https://broker.test", "https://evil.test")),
            Reason::UnknownIssuer,
        ),
        (
            key.token(&with("https://broker.test", "https://broker.test/")),
            Reason::UnknownIssuer,
        ),
        (key.token(&claims("billing", "orders:read")), Reason::WrongAudience),
        (
            key.token(&with("\"exp\":1800000900", "\"exp\":1800000000")),
            Reason::Expired,
        ),
        (key.token(&with("\"exp\":1800000900,", "")), Reason::MissingClaim),
        (
            key.token(&with("\"iat\":1800000000", "\"iat\":1800000061")),
            Reason::NotYetValid,
        ),
        (key.token(&with("\"jti\":\"j1\",", "")), Reason::MissingClaim),
        (
            key.token(&with("alice@LAB.TEST", "alice\\u000a@LAB.TEST")),
            Reason::MissingClaim,
        ),
        ("x".into(), Reason::TokenMalformed),
        ("a.b.c.d.e".into(), Reason::TokenMalformed),
        ("a".repeat(17_000), Reason::TokenTooLarge),
    ];
    for (token, reason) in cases {
        let value = bearer(&token);
        let answer = reply(run(&gate, NOW, &head("/orders", &[("authorization", &value)]), true));
        assert_eq!(
            (answer.decision.reason, answer.status),
            (reason, 401),
            "{}",
            &token[..token.len().min(60)]
        );
        // The broker's way to verify a token says the same, but for the audience, which it asks about afterwards.
        let snapshot = Rc::clone(gate.borrow().snapshot());
        match verify(&snapshot, at(NOW), token.as_bytes(), &[], SignatureInput::verify) {
            Ok(claims) => assert_eq!(
                (reason, snapshot.vouches_for(&claims, "orders")),
                (Reason::WrongAudience, false)
            ),
            Err(verified) => assert_eq!(verified, reason),
        }
        let challenges = lines(&answer, "www-authenticate");
        if reason == Reason::TokenTooLarge {
            assert_eq!(challenges, [r#"Bearer realm="orders""#]);
        } else {
            assert_eq!(
                challenges,
                ["Negotiate", r#"Bearer realm="orders", error="invalid_token""#]
            );
        }
        assert!(
            !String::from_utf8(answer.body).unwrap().contains(reason.as_str()),
            "the inside stays inside"
        );
    }
}

#[test]
fn a_signature_of_another_length_is_refused() {
    let key = Key::new("k1");
    let token = key.token(&claims("orders", "orders:read"));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for signature in [&signature[..84], "", "AAAA"] {
        let value = bearer(&format!("{signed}.{signature}"));
        let answer = reply(run(
            &gate(&key),
            NOW,
            &head("/orders", &[("authorization", &value)]),
            true,
        ));
        assert_eq!(answer.decision.reason, Reason::BadSignature);
    }
}

#[test]
fn a_token_without_the_scope_is_forbidden_and_told_what_would_do() {
    let key = Key::new("k1");
    let value = bearer(&key.token(&claims("orders", "orders:readonly")));
    let answer = reply(run(
        &gate(&key),
        NOW,
        &head("/orders", &[("authorization", &value)]),
        true,
    ));
    assert_eq!(
        (answer.decision.reason, answer.status),
        (Reason::InsufficientScope, 403)
    );
    assert_eq!(
        lines(&answer, "www-authenticate"),
        [r#"Bearer realm="orders", error="insufficient_scope", scope="orders:read""#]
    );
}

#[test]
fn keys_are_good_for_their_time_and_then_it_is_our_fault() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let long = claims("orders", "orders:read").replace("1800000900", "1800009000");
    let value = bearer(&key.token(&long));
    let headers = head("/orders", &[("authorization", &value)]);
    passed(run(&gate, NOW + 300, &headers, true));
    let answer = reply(run(&gate, NOW + 301, &headers, true));
    assert_eq!((answer.decision.reason, answer.status), (Reason::KeysUnavailable, 503));
    assert_eq!(lines(&answer, "retry-after"), ["5"]);
    assert!(lines(&answer, "www-authenticate").is_empty());
}

#[test]
fn a_key_that_left_the_set_is_gone_and_a_bad_set_changes_nothing() {
    let (old, new) = (Key::new("k1"), Key::new("k2"));
    let gate = gate(&old);
    let value = bearer(&old.token(&claims("orders", "orders:read")));
    let headers = head("/orders", &[("authorization", &value)]);
    assert!(gate.borrow().snapshot().with_keys(0, b"<html>", at(NOW)).is_err());
    passed(run(&gate, NOW, &headers, true));
    take_keys(&gate, &new.set(), NOW);
    assert_eq!(
        reply(run(&gate, NOW, &headers, true)).decision.reason,
        Reason::UnknownKey
    );
}

#[test]
fn subjects_reach_the_upstream_as_visible_ascii() {
    let key = Key::new("k1");
    for (subject, header) in [
        ("a b@R", "a%20b@R"),
        ("50%@R", "50%25@R"),
        ("jürg@R", "j%C3%BCrg@R"),
        ("HTTP/x@R", "HTTP/x@R"),
    ] {
        let value = bearer(&key.token(&claims("orders", "orders:read").replace("alice@LAB.TEST", subject)));
        let (edits, _) = passed(run(
            &gate(&key),
            NOW,
            &head("/orders", &[("authorization", &value)]),
            true,
        ));
        assert!(
            shown(&edits).contains(&format!("x-kerbridge-subject={header}")),
            "{subject}"
        );
    }
}
