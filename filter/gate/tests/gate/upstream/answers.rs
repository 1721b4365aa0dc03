//! What the answers of broker and service become, and what reaches the client.

use super::*;

#[test]
fn whatever_is_not_one_finished_ticket_of_the_brokers_is_503() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let admitted = admitted(&gate, &key.token(&claims("orders", "")));
    let good = granted("YIIabc+/");
    let long = granted(&format!("YII{}", "A".repeat(64 * 1024 + 1)));
    let padded = format!("{good}{}", " ".repeat(REPLY_LIMIT));
    let bodies = [
        "".to_owned(),
        "<html>".to_owned(),
        "{}".to_owned(),
        padded,
        long,
        granted(""),
        // NTLM, the answer of an acceptor, no base64, a line break, base64url.
        granted("TlRMTVNTUAAB"),
        granted("oYGzMIGw"),
        granted("YIIabc+/="),
        granted("YIIabc+/\\r\\nx: y"),
        granted("YIIabc-_"),
        good.replace("token-type:negotiate", "token-type:krb5"),
        good.replace(
            "urn:kerbridge:token-type:negotiate",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        good.replace("N_A", "Bearer"),
        good.replace("\"token_type\":\"N_A\",", ""),
    ];
    let mut replies: Vec<BrokerReply<'_>> = bodies.iter().map(|body| response("200", body)).collect();
    replies.push(BrokerReply::Nothing);
    replies.push(response("500", &good));
    replies.push(response("201", &good));
    for (status, content_type) in [
        (Some("200"), None),
        (None, Some("application/json")),
        (Some("200"), Some("text/html")),
    ] {
        replies.push(BrokerReply::Response {
            status: status.map(str::as_bytes),
            content_type: content_type.map(str::as_bytes),
            body: good.as_bytes(),
        });
    }
    for reply in replies {
        let (_, pending) = asked(attempt(&gate, &admitted, NOW, &spn()));
        let reply = refused(pending.resume(reply));
        assert_eq!(
            (reply.decision.reason, reply.status),
            (Reason::BrokerUnavailable, 503),
            "{reply:?}"
        );
        assert_eq!(lines(&reply, "retry-after"), ["5"]);
    }
    // The same word in another case is the same; a member of a later release is no matter.
    let (_, pending) = asked(attempt(&gate, &admitted, NOW, &spn()));
    let later = good.replace("N_A", "n_a").replacen('{', "{\"later\":[1],", 1);
    assert!(matches!(
        pending.resume(response("200", &later)),
        TicketStep::Continue(HeaderEdit::Set(..), _)
    ));
}

#[test]
fn the_brokers_refusals_keep_their_reason_and_offer_what_the_route_takes() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let admitted = admitted(&gate, &key.token(&claims("orders", "")));
    let invalid = ["Negotiate", r#"Bearer realm="orders", error="invalid_token""#];
    for (status, error, reason, expected, code, challenges) in [
        ("400", "invalid_grant", "expired", Reason::Expired, 401, &invalid[..]),
        ("400", "invalid_grant", "revoked", Reason::Revoked, 401, &invalid[..]),
        (
            "400",
            "invalid_grant",
            "unknown_issuer",
            Reason::UnknownIssuer,
            401,
            &invalid[..],
        ),
        (
            "400",
            "invalid_grant",
            "denied_by_policy",
            Reason::DeniedByPolicy,
            403,
            &[],
        ),
        (
            "400",
            "invalid_target",
            "delegation_denied",
            Reason::DelegationDenied,
            403,
            &[],
        ),
        (
            "400",
            "invalid_grant",
            "evidence_not_forwardable",
            Reason::EvidenceNotForwardable,
            403,
            &[],
        ),
        (
            "400",
            "invalid_grant",
            "a_word_of_a_later_release",
            Reason::DeniedByPolicy,
            403,
            &[],
        ),
        (
            "429",
            "temporarily_unavailable",
            "rate_limited",
            Reason::RateLimited,
            429,
            &[],
        ),
        (
            "503",
            "temporarily_unavailable",
            "kdc_unreachable",
            Reason::KdcUnreachable,
            503,
            &[],
        ),
        (
            "503",
            "temporarily_unavailable",
            "broker_overloaded",
            Reason::BrokerOverloaded,
            503,
            &[],
        ),
        (
            "503",
            "temporarily_unavailable",
            "store_unavailable",
            Reason::StoreUnavailable,
            503,
            &[],
        ),
        (
            "503",
            "temporarily_unavailable",
            "feed_stale",
            Reason::FeedStale,
            503,
            &[],
        ),
        // What the filter asked for is not to be had: the configurations do not agree.
        ("400", "invalid_target", "invalid_target", Reason::Internal, 503, &[]),
        ("400", "invalid_request", "invalid_request", Reason::Internal, 503, &[]),
        (
            "401",
            "invalid_client",
            "client_unauthenticated",
            Reason::Internal,
            503,
            &[],
        ),
        (
            "400",
            "unauthorized_client",
            "denied_by_policy",
            Reason::Internal,
            503,
            &[],
        ),
        // No answer to this question: a client's ticket was not asked about, nor does the service refuse here.
        ("400", "invalid_grant", "replay", Reason::DeniedByPolicy, 403, &[]),
        (
            "400",
            "invalid_grant",
            "continue_needed",
            Reason::DeniedByPolicy,
            403,
            &[],
        ),
        (
            "400",
            "invalid_grant",
            "insufficient_scope",
            Reason::DeniedByPolicy,
            403,
            &[],
        ),
        ("400", "invalid_grant", "ok", Reason::DeniedByPolicy, 403, &[]),
        (
            "503",
            "temporarily_unavailable",
            "ok",
            Reason::BrokerUnavailable,
            503,
            &[],
        ),
    ] {
        let (_, pending) = asked(attempt(&gate, &admitted, NOW, &spn()));
        let body = format!(r#"{{"error":"{error}","reason":"{reason}","negotiate":"oQcw","continuation":"x"}}"#);
        let reply = refused(pending.resume(response(status, &body)));
        assert_eq!((reply.decision.reason, reply.status), (expected, code), "{reason}");
        assert_eq!(lines(&reply, "www-authenticate"), challenges, "{reason}");
        assert_eq!(reply.continuation, None);
        assert_eq!(
            reply.decision.logged(),
            format!("reason={expected} route=legacy issuer=kerbridge")
        );
    }
}

#[test]
fn a_ticket_that_the_service_refuses_is_502_and_what_envoy_answers_itself_stays() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let admitted = admitted(&gate, &key.token(&claims("orders", "")));
    let answer = |status: &'static str| {
        HeaderMap::from_pairs([
            (b":status".as_slice(), status.as_bytes()),
            (b"www-authenticate", b"Negotiate"),
            (b"www-authenticate", b"Basic realm=x"),
            (b"authentication-info", b"x"),
            (b"set-cookie", b"a=b"),
        ])
    };
    let reply = admitted.keep_back(&answer("401"), Some(b"via_upstream")).unwrap_err();
    assert_eq!(
        (reply.decision.reason, reply.status),
        (Reason::UpstreamRefusedTicket, 502)
    );
    assert!(lines(&reply, "www-authenticate").is_empty());
    assert_eq!(
        reply.decision.logged(),
        "reason=upstream_refused_ticket route=legacy issuer=kerbridge"
    );
    for status in ["200", "302", "403", "407", "500"] {
        let edits = admitted.keep_back(&answer(status), Some(b"via_upstream")).unwrap();
        assert_eq!(shown(&edits), ["-www-authenticate"], "{status}");
    }
    for (status, details) in [
        ("401", Some("kerbridge_expired")),
        ("403", Some("rbac_access_denied_matched_policy[none]")),
        (
            "503",
            Some("upstream_reset_before_response_started{connection_termination}"),
        ),
        ("401", Some("")),
        // Another module's answer.
        ("401", None),
    ] {
        assert_eq!(
            admitted.keep_back(&answer(status), details.map(str::as_bytes)),
            Ok(vec![]),
            "{details:?}"
        );
    }
}

#[test]
fn challenges_in_trailers_of_a_kerberos_service_are_kept_back_too() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let trailers = HeaderMap::from_pairs([
        (b"www-authenticate".as_slice(), b"Negotiate oservice".as_slice()),
        (b"WWW_Authenticate", b"Basic"),
        (b"proxy-authenticate", b"Basic"),
        (b"x-check", b"7"),
    ]);
    let kerberos = admitted(&gate, &key.token(&claims("orders", "")));
    assert_eq!(
        shown(&kerberos.keep_back_trailers(&trailers)),
        ["-www-authenticate", "-WWW_Authenticate", "-proxy-authenticate"]
    );
    let (_, open) = passed(run(&gate, NOW, &head("/health", &[]), true));
    assert!(open.keep_back_trailers(&trailers).is_empty());
}
