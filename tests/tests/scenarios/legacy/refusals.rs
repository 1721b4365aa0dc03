//! Without a ticket nothing goes to the service: each kind of answer of the broker has its reason, and none makes a storm.

use kerbridge_tests::wait::Deadline;

use super::*;

fn refusal(status: &str, error: &str, reason: &str) -> Reply {
    http(status, &json!({"error": error, "reason": reason}).to_string())
}

#[test]
fn each_refusal_of_the_broker_is_the_clients_answer_under_the_same_reason() {
    let scene = plain();
    let invalid = vec!["Negotiate", "Bearer realm=\"legacy\", error=\"invalid_token\""];
    let request = scene.bearer(Request::post("/legacy/x", "a body"));
    let unavailable = "temporarily_unavailable";
    for (at, (answer, reason, status, grpc, challenges)) in [
        (
            refusal("400 B", "invalid_grant", "expired"),
            "expired",
            401,
            16,
            invalid.clone(),
        ),
        (
            refusal("400 B", "invalid_grant", "revoked"),
            "revoked",
            401,
            16,
            invalid.clone(),
        ),
        (
            refusal("400 B", "invalid_target", "delegation_denied"),
            "delegation_denied",
            403,
            7,
            vec![],
        ),
        (
            refusal("400 B", "invalid_grant", "denied_by_policy"),
            "denied_by_policy",
            403,
            7,
            vec![],
        ),
        (
            refusal("400 B", "invalid_grant", "evidence_not_forwardable"),
            "evidence_not_forwardable",
            403,
            7,
            vec![],
        ),
        (
            refusal("429 B", unavailable, "rate_limited"),
            "rate_limited",
            429,
            8,
            vec![],
        ),
        (
            refusal("503 B", unavailable, "kdc_unreachable"),
            "kdc_unreachable",
            503,
            14,
            vec![],
        ),
        (
            refusal("503 B", unavailable, "broker_overloaded"),
            "broker_overloaded",
            503,
            14,
            vec![],
        ),
        (
            refusal("503 B", unavailable, "store_unavailable"),
            "store_unavailable",
            503,
            14,
            vec![],
        ),
        (
            refusal("400 B", "invalid_target", "invalid_target"),
            "internal",
            503,
            14,
            vec![],
        ),
        (
            refusal("401 B", "invalid_client", "client_unauthenticated"),
            "internal",
            503,
            14,
            vec![],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        scene.tickets.set(Some(answer));
        let (counted, asked) = (scene.counted(reason, "lab"), scene.tickets.asked().len());
        let refused = scene.world.send(&request).unwrap();
        let challenged: Vec<_> = refused
            .all("www-authenticate")
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        assert_eq!(challenged, challenges, "{reason}");
        assert_eq!(
            refused.header("retry-after").is_some(),
            [429, 503].contains(&status),
            "{reason}"
        );
        let told = scene.world.refusal(refused.status, &refused.body).unwrap();
        assert_eq!((told.status, told.reason.as_str()), (status, reason), "{at}");
        assert_eq!(scene.counted(reason, "lab"), counted + 1, "{reason}");
        assert_eq!(scene.tickets.asked().len(), asked + 1, "{reason}");

        let answer = scene
            .world
            .send(&request.clone().header("content-type", "application/grpc"))
            .unwrap();
        assert_eq!(
            (answer.status, answer.header_text("grpc-status")),
            (200, Some(grpc.to_string())),
            "{reason}"
        );
    }
    assert!(scene.service.requests().is_empty());
    // The client that came with a ticket is told the same.
    scene
        .tickets
        .set(Some(refusal("400 B", "invalid_target", "delegation_denied")));
    let answer = scene.world.curl_as("alice", "/legacy/x").send().unwrap();
    assert_eq!(
        scene.world.reason(&answer).unwrap(),
        (403, "delegation_denied".to_owned())
    );
    assert_eq!(scene.counted("delegation_denied", "kerbridge"), 1);
    scene.tickets.set(None);
    assert_eq!(scene.world.send(&request).unwrap().status, 200);
    assert_eq!(scene.world.reloads(), Some(0));
}

#[test]
fn what_is_not_a_ticket_of_the_brokers_is_503() {
    let scene = plain();
    let good = reply("YAAA");
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"access_token\"";
    let changed = |name: &str, value: &str| {
        http(
            "200 OK",
            &kerbridge_tests::token::with(good.clone(), name, json!(value)).to_string(),
        )
    };
    for (what, wrong) in [
        ("500", Reply::status(500, "")),
        ("500 in json", http("500 E", "{}")),
        ("an html page", Reply::ok("<html></html>")),
        ("json with another type", Reply::ok(&good.to_string())),
        ("no json", http("200 OK", "{\"access_token\":")),
        ("an empty object", http("200 OK", "{}")),
        ("204", Reply::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())),
        ("a token", changed("token_type", "Bearer")),
        (
            "another type",
            changed("issued_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ),
        ("an empty ticket", changed("access_token", "")),
        ("no base64", changed("access_token", "YA")),
        ("ntlm", changed("access_token", "TlRMTVNTUAAB")),
        (
            "a line break",
            changed("access_token", "YAAA\r\nx-kerbridge-subject: root"),
        ),
        (
            "too long a ticket",
            changed("access_token", &"YAAA".repeat(16 * 1024 + 1)),
        ),
        ("closed at once", Reply::Cut(Vec::new())),
        ("half a body", Reply::Cut(cut.as_bytes().to_vec())),
        ("no http", Reply::Cut(b"\x16\x03\x01\x02\x00".to_vec())),
        ("33 MiB", http("200 OK", &" ".repeat(33 << 20))),
    ] {
        scene.tickets.set(Some(wrong));
        let refused = scene.refused(&scene.bearer(Request::post("/legacy/x", "a body")));
        assert_eq!(refused, (503, "broker_unavailable".to_owned()), "{what}");
        scene.tickets.set(None);
        let answer = scene.world.send(&scene.bearer(Request::get("/legacy/x"))).unwrap();
        assert_eq!(answer.status, 200, "{what}");
    }
    assert_eq!(scene.world.reloads(), Some(0));
}

#[test]
fn a_broker_that_is_away_or_slow_is_503_and_no_rule_of_envoys_makes_a_storm_of_it() {
    let mut scene = Scene::start(
        |_, _| Reply::ok("in"),
        |builder| {
            builder.yaml(|yaml| {
                yaml.replace(
                    "retry_on: retriable-status-codes",
                    "retry_on: 5xx,gateway-error,reset,retriable-status-codes",
                )?;
                yaml.replace(
                    "retriable_status_codes: [401]",
                    "retriable_status_codes: [401, 403, 429, 502, 503]",
                )?;
                yaml.replace("num_retries: 1\n", "num_retries: 5\n")
            })
        },
    );
    scene.tickets.set(Some(Reply::Never));
    let waited = Deadline::after(WITHIN);
    let unavailable = (503, "broker_unavailable".to_owned());
    assert_eq!(scene.refused(&scene.bearer(Request::get("/legacy/x"))), unavailable);
    assert!(
        (1900..4000).contains(&waited.elapsed().as_millis()),
        "{:?}",
        waited.elapsed()
    );
    for answer in [
        refusal("503 B", "temporarily_unavailable", "kdc_unreachable"),
        refusal("400 B", "invalid_grant", "expired"),
    ] {
        scene.tickets.set(Some(answer));
        scene.refused(&scene.bearer(Request::get("/legacy/x")));
    }
    assert_eq!(scene.tickets.asked().len(), 3, "each request asked once");

    // The cluster is gone, then its endpoint.
    for (from, to) in [
        (
            "\"cluster\":\"kerbridge_broker\",\"issuer\"",
            "\"cluster\":\"nobody\",\"issuer\"",
        ),
        ("relay.sock", "nobody.sock"),
    ] {
        scene
            .world
            .restart_envoy(|yaml| {
                if yaml.text().contains(from) {
                    yaml.replace(from, to)
                } else {
                    // Members stand in another order.
                    yaml.edit_filter_configuration(|filter| filter["broker"]["cluster"] = json!("nobody"))
                }
            })
            .unwrap();
        assert_eq!(
            scene.refused(&scene.bearer(Request::get("/legacy/x"))),
            unavailable,
            "{to}"
        );
    }
}
