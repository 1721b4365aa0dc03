//! What the broker answers: what is believed, and what is passed on of a refusal.

use super::*;

#[test]
fn the_brokers_word_alone_opens_nothing() {
    let (key, foreign) = (Key::new("k1"), Key::new("k1"));
    let gate = gate(&key);
    let good = claims("orders", "orders:read");
    let ours = |because: &str| format!("reason=broker_unavailable route=orders issuer=kerbridge because={because}");
    for (token, logged) in [
        (foreign.token(&good), ours("bad_signature")),
        (
            Key::new("k9").token(&good),
            "reason=keys_unavailable route=orders issuer=kerbridge because=unknown_key".into(),
        ),
        (key.token(&claims("billing", "orders:read")), ours("wrong_audience")),
        (key.token(&good.replace("1800000900", "1800000000")), ours("expired")),
        // The broker's clock is ahead.
        (
            key.token(&good.replace(r#""iat":1800000000"#, r#""iat":1800000061"#)),
            ours("not_yet_valid"),
        ),
        (
            "nonsense".into(),
            "reason=broker_unavailable route=orders issuer=- because=token_malformed".into(),
        ),
        (
            key.token(&good.replace("broker.test", "other.test")),
            "reason=broker_unavailable route=orders issuer=- because=unknown_issuer".into(),
        ),
        (
            key.token(&claims("orders", "")),
            "reason=insufficient_scope route=orders issuer=kerbridge".into(),
        ),
    ] {
        let (_, pending) = ask(&gate, "/orders", true);
        let answer = reply(resume(&gate, pending, "200", &granted(&token)));
        assert_eq!(answer.decision.logged(), logged);
        // It is the log that is told, not the client.
        let because = answer.decision.because.map_or("because", |because| because.as_str());
        assert!(!String::from_utf8(answer.body).unwrap().contains(because));
    }
    // The same tokens from a client are its own fault.
    let shown = format!("Bearer {}", foreign.token(&good));
    let answer = reply(run(
        &gate,
        NOW,
        &head("/orders", &[("authorization", shown.as_bytes())]),
        true,
    ));
    assert_eq!(
        answer.decision.logged(),
        "reason=bad_signature route=orders issuer=kerbridge"
    );
}

#[test]
fn whatever_is_not_the_brokers_answer_is_503() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let token = key.token(&claims("orders", "orders:read"));
    let good = granted(&token);
    let json: Option<&[u8]> = Some(b"application/json");
    let large = format!("{good}{}", " ".repeat(REPLY_LIMIT));
    let injected = good.replace("oYGz/+0=", "x\\r\\nset-cookie: a=b");
    let cases: Vec<(&str, BrokerReply<'_>)> = vec![
        ("reset", BrokerReply::Nothing),
        (
            "no status",
            BrokerReply::Response {
                status: None,
                content_type: json,
                body: good.as_bytes(),
            },
        ),
        (
            "Envoy's 503",
            BrokerReply::Response {
                status: Some(b"503"),
                content_type: Some(b"text/plain"),
                body: b"no healthy upstream",
            },
        ),
        (
            "Envoy's 504",
            BrokerReply::Response {
                status: Some(b"504"),
                content_type: Some(b"text/plain"),
                body: b"upstream request timeout",
            },
        ),
        (
            "not JSON by its type",
            BrokerReply::Response {
                status: Some(b"200"),
                content_type: Some(b"text/html"),
                body: good.as_bytes(),
            },
        ),
        (
            "no type",
            BrokerReply::Response {
                status: Some(b"200"),
                content_type: None,
                body: good.as_bytes(),
            },
        ),
        (
            "not JSON",
            BrokerReply::Response {
                status: Some(b"200"),
                content_type: json,
                body: b"<html>",
            },
        ),
        (
            "empty",
            BrokerReply::Response {
                status: Some(b"200"),
                content_type: json,
                body: b"",
            },
        ),
        (
            "another status",
            BrokerReply::Response {
                status: Some(b"500"),
                content_type: json,
                body: good.as_bytes(),
            },
        ),
        (
            "201",
            BrokerReply::Response {
                status: Some(b"201"),
                content_type: json,
                body: good.as_bytes(),
            },
        ),
        (
            "too large",
            BrokerReply::Response {
                status: Some(b"200"),
                content_type: json,
                body: large.as_bytes(),
            },
        ),
        (
            "header injection",
            BrokerReply::Response {
                status: Some(b"200"),
                content_type: json,
                body: injected.as_bytes(),
            },
        ),
        (
            "an error called ok",
            BrokerReply::Response {
                status: Some(b"503"),
                content_type: json,
                body: br#"{"error":"temporarily_unavailable","reason":"ok"}"#,
            },
        ),
    ];
    for (name, answer) in cases {
        let (_, pending) = ask(&gate, "/orders", true);
        let step = pending.resume(&mut gate.borrow_mut(), at(NOW), answer);
        let answer = reply(settle(&gate, NOW, step));
        assert_eq!(
            (answer.decision.reason, answer.status),
            (Reason::BrokerUnavailable, 503),
            "{name}"
        );
        assert_eq!(lines(&answer, "retry-after"), ["5"], "{name}");
    }
}

#[test]
fn the_brokers_refusals_keep_their_reason_and_the_acceptors_error_token() {
    let gate = gate(&Key::new("k1"));
    let negotiate = |token: &str| vec![token.to_owned(), r#"Bearer realm="orders""#.to_owned()];
    let bearer = vec![r#"Bearer realm="orders""#.to_owned()];
    let refused = |status, body| {
        let (_, pending) = ask(&gate, "/orders", true);
        reply(resume(&gate, pending, status, body))
    };
    for (body, reason, challenges) in [
        (
            r#"{"error":"invalid_grant","reason":"replay","negotiate":"oQcw"}"#,
            Reason::Replay,
            negotiate("Negotiate oQcw"),
        ),
        (
            r#"{"error":"invalid_grant","reason":"replay"}"#,
            Reason::Replay,
            negotiate("Negotiate"),
        ),
        (
            r#"{"error":"invalid_grant","reason":"replay","negotiate":"a\r\nb"}"#,
            Reason::Replay,
            negotiate("Negotiate"),
        ),
        (
            r#"{"error":"invalid_grant","reason":"ticket_expired"}"#,
            Reason::TicketExpired,
            negotiate("Negotiate"),
        ),
        (
            r#"{"error":"invalid_grant","reason":"ntlm_token"}"#,
            Reason::NtlmToken,
            bearer.clone(),
        ),
        (
            r#"{"error":"invalid_grant","reason":"spn_unknown"}"#,
            Reason::SpnUnknown,
            bearer.clone(),
        ),
        // Not asked for again: it would be the same ticket.
        (
            r#"{"error":"invalid_grant","reason":"revoked"}"#,
            Reason::Revoked,
            vec![r#"Bearer realm="orders", error="invalid_token""#.to_owned()],
        ),
    ] {
        let answer = refused("400", body);
        assert_eq!((answer.decision.reason, answer.status), (reason, 401), "{body}");
        assert_eq!(lines(&answer, "www-authenticate"), challenges, "{body}");
    }
    for (status, body, reason, code) in [
        // Something of a token's that no ticket has.
        (
            "400",
            r#"{"error":"invalid_grant","reason":"expired"}"#,
            Reason::DeniedByPolicy,
            403,
        ),
        (
            "400",
            r#"{"error":"invalid_grant","reason":"malformed_credentials"}"#,
            Reason::MalformedCredentials,
            400,
        ),
        (
            "400",
            r#"{"error":"invalid_grant","reason":"realm_not_allowed"}"#,
            Reason::RealmNotAllowed,
            403,
        ),
        (
            "400",
            r#"{"error":"invalid_grant","reason":"a_word_of_a_later_release"}"#,
            Reason::DeniedByPolicy,
            403,
        ),
        (
            "400",
            r#"{"error":"invalid_grant","reason":"ok"}"#,
            Reason::DeniedByPolicy,
            403,
        ),
        (
            "400",
            r#"{"error":"invalid_target","reason":"invalid_target"}"#,
            Reason::Internal,
            503,
        ),
        (
            "400",
            r#"{"error":"invalid_target","reason":"denied_by_policy"}"#,
            Reason::DeniedByPolicy,
            403,
        ),
        ("401", r#"{"error":"invalid_client"}"#, Reason::Internal, 503),
        (
            "429",
            r#"{"error":"temporarily_unavailable","reason":"rate_limited"}"#,
            Reason::RateLimited,
            429,
        ),
        (
            "503",
            r#"{"error":"temporarily_unavailable","reason":"broker_overloaded"}"#,
            Reason::BrokerOverloaded,
            503,
        ),
    ] {
        let answer = refused(status, body);
        assert_eq!((answer.decision.reason, answer.status), (reason, code), "{body}");
        assert!(lines(&answer, "www-authenticate").is_empty(), "{body}");
    }
}

#[test]
fn a_revoked_ticket_is_403_where_nothing_else_is_accepted() {
    let gate = gate(&Key::new("k1"));
    let (_, pending) = ask(&gate, "/tickets", true);
    let answer = reply(resume(
        &gate,
        pending,
        "400",
        r#"{"error":"invalid_grant","reason":"revoked"}"#,
    ));
    assert_eq!((answer.decision.reason, answer.status), (Reason::Revoked, 403));
    assert!(lines(&answer, "www-authenticate").is_empty());
}
