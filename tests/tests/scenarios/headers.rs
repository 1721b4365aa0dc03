//! What a client may not say in headers: who it is, and who it is twice.

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::token::claims;
use kerbridge_tests::world::{LAB_ISSUER, WorldBuilder};
use serde_json::{Value, json};

/// A world without a broker, in which the test itself is an issuer.
fn builder() -> WorldBuilder {
    World::builder().broker_stopped().lab_issuer()
}

fn token(world: &World) -> String {
    let key = world.lab_key().unwrap();
    let claims = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read");
    key.sign(&key.header(), &claims).unwrap()
}

/// The headers of the last request that the service received, names in lower case.
fn received(world: &World) -> Vec<(String, String)> {
    let request = world.upstream().requests().pop().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = request.headers.iter();
    headers
        .map(|(name, value)| (text(name).to_lowercase(), text(value)))
        .collect()
}

fn ours(world: &World) -> Vec<(String, String)> {
    let mut ours = received(world);
    ours.retain(|(name, _)| name.replace('_', "-").starts_with("x-kerbridge"));
    ours.sort();
    ours
}

fn carol() -> Vec<(String, String)> {
    [
        ("x-kerbridge-issuer", LAB_ISSUER),
        ("x-kerbridge-scope", "orders:read"),
        ("x-kerbridge-subject", "carol@LAB.TEST"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

const SPOOFED: &[&str] = &[
    "x-kerbridge-subject: root",
    "X-Kerbridge-Subject: root",
    "X-KERBRIDGE-SUBJECT: root",
    "x-kerbridge-scope: orders:write",
];

#[test]
fn a_spoofed_identity_header_never_reaches_the_service() {
    let world = builder().start().unwrap();
    let token = token(&world);
    for http2 in [false, true] {
        let mut authenticated = world.curl("/orders/1").bearer(&token);
        let mut open = world.curl("/healthz");
        let mut anonymous = world.curl("/orders/1");
        for line in SPOOFED {
            (authenticated, open, anonymous) = (authenticated.header(line), open.header(line), anonymous.header(line));
        }
        if http2 {
            (authenticated, open, anonymous) = (authenticated.http2(), open.http2(), anonymous.http2());
        }
        assert_eq!(authenticated.send().unwrap().status, 200);
        assert_eq!(ours(&world), carol());
        assert_eq!(open.send().unwrap().status, 200);
        assert_eq!(ours(&world), []);
        let before = world.upstream().requests().len();
        let answer = anonymous.send().unwrap();
        assert_eq!(world.reason(&answer).unwrap(), (401, "no_credentials".to_owned()));
        assert_eq!(world.upstream().requests().len(), before);
    }
}

#[test]
fn the_filter_alone_stops_spoofed_headers_where_envoy_does_not() {
    let world = builder()
        .yaml(|yaml| {
            yaml.remove_block("early_header_mutation_extensions:")?;
            yaml.replace(
                "headers_with_underscores_action: REJECT_REQUEST",
                "headers_with_underscores_action: ALLOW",
            )
        })
        .filter(|configuration| configuration["underscores_rejected"] = json!(false))
        .start()
        .unwrap();
    let token = token(&world);
    let more = ["x_kerbridge_subject: root", "X-Kerbridge_Scope: orders:write"];
    let mut authenticated = world.curl("/orders/1").bearer(&token);
    let mut open = world.curl("/healthz");
    for line in SPOOFED.iter().chain(&more) {
        (authenticated, open) = (authenticated.header(line), open.header(line));
    }
    assert_eq!(authenticated.send().unwrap().status, 200);
    assert_eq!(ours(&world), carol());
    assert_eq!(open.send().unwrap().status, 200);
    assert_eq!(ours(&world), []);
}

#[test]
fn a_spoofed_header_does_not_choose_the_route() {
    for envoy_strips in [true, false] {
        let world = builder()
            .yaml(move |yaml| {
                if !envoy_strips {
                    yaml.remove_block("early_header_mutation_extensions:")?;
                }
                yaml.insert_below(
                    "routes:",
                    &[
                        "- match: {prefix: /, headers: [{name: x-kerbridge-subject, string_match: {exact: root}}]}",
                        "  direct_response: {status: 418}",
                    ],
                )
            })
            .start()
            .unwrap();
        let answer = world
            .curl("/orders/1")
            .bearer(&token(&world))
            .header("x-kerbridge-subject: root")
            .send()
            .unwrap();
        assert_eq!(answer.status, 200, "envoy strips: {envoy_strips}");
        assert_eq!(ours(&world), carol());
    }
}

#[test]
fn a_name_with_an_underscore_is_refused_by_the_shipped_configuration() {
    let world = builder().start().unwrap();
    let answer = world
        .curl("/orders/1")
        .bearer(&token(&world))
        .header("x_kerbridge_subject: root")
        .send()
        .unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn a_spoofed_identity_in_trailers_never_reaches_the_service() {
    let world = builder()
        .yaml(|yaml| {
            yaml.insert_below(
                "stat_prefix: https",
                &["http_protocol_options: {enable_trailers: true}"],
            )?;
            with_upstream_trailers(yaml)
        })
        .start()
        .unwrap();
    let head = format!(
        "POST /orders/1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        write_token(&world)
    );
    let body = "3\r\nabc\r\n0\r\nx-kerbridge-subject: root\r\nX-Kerbridge-Scope: all\r\nx-check: 7\r\n\r\n";
    let mut connection = world.connect().unwrap();
    connection.send_raw(format!("{head}{body}").as_bytes()).unwrap();
    let answer = connection.read_response().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(shown["body"], "abc");
    assert_eq!(shown["trailers"], serde_json::json!([["x-check", "7"]]));
}

/// Lets Envoy send trailers to the service, which HTTP/1.1 connections do not carry by default.
pub(crate) fn with_upstream_trailers(
    yaml: &mut kerbridge_tests::shipped::ShippedYaml,
) -> Result<(), kerbridge_tests::HarnessError> {
    yaml.insert_below(
        "- name: upstream",
        &[
            "  typed_extension_protocol_options:",
            "    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:",
            "      \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "      explicit_http_config: {http_protocol_options: {enable_trailers: true}}",
        ],
    )
}

fn write_token(world: &World) -> String {
    let key = world.lab_key().unwrap();
    let claims = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read orders:write");
    key.sign(&key.header(), &claims).unwrap()
}

#[test]
fn bytes_that_are_no_utf_8_in_any_header_are_answered_and_the_next_request_passes() {
    let world = builder().start().unwrap();
    let token = token(&world);
    let hostile: &[&[u8]] = &[
        b"\xff",
        b"\xff\xfe\xfd",
        b"caf\xe9",
        b"a\x80b",
        b"\xc3\x28",
        b"\xed\xa0\x80",
    ];
    for name in [
        "authorization",
        "cookie",
        "host",
        "origin",
        "sec-fetch-site",
        "referer",
        "user-agent",
        "accept",
        "content-type",
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-kerbridge-subject",
        "x-kerbridge-scope",
        "x-any",
    ] {
        for value in hostile {
            let mut request = Request::get("/orders/1");
            if name == "host" {
                request = request.without_host();
            }
            if name != "authorization" {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = world.send(&request.header(name, value)).unwrap();
            let expected: &[u16] = match name {
                "authorization" => &[400, 401],
                "host" => &[400, 403],
                _ => &[200, 400, 403],
            };
            assert!(
                expected.contains(&answer.status),
                "{name}: {value:?}: {}",
                answer.status
            );
        }
        for scheme in ["Bearer ", "Negotiate ", "Basic "] {
            let value = [scheme.as_bytes(), b"\xff\xfe"].concat();
            let answer = world
                .send(&Request::get("/orders/1").header("authorization", value))
                .unwrap();
            assert!([400, 401].contains(&answer.status), "{scheme}: {}", answer.status);
        }
        let normal = Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
        assert_eq!(world.send(&normal).unwrap().status, 200, "after {name}");
    }
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn two_credentials_are_refused_over_http_1_and_http_2() {
    let world = builder().start().unwrap();
    let bearer = format!("Authorization: Bearer {}", token(&world));
    let pairs: &[(&str, &str)] = &[
        (&bearer, &bearer),
        (&bearer, "Authorization: Negotiate YIIB"),
        ("Authorization: Negotiate YIIB", &bearer),
        (&bearer, "authorization: Basic YTpi"),
    ];
    for http2 in [false, true] {
        for (one, other) in pairs {
            let mut request = world.curl("/orders/1").header(one).header(other);
            if http2 {
                request = request.http2();
            }
            let answer = request.send().unwrap();
            let reason = world.reason(&answer).unwrap();
            assert_eq!(reason, (400, "multiple_credentials".to_owned()), "{http2} {other}");
        }
        let mut joined = world.curl("/orders/1").header(&format!("{bearer}, Negotiate YIIB"));
        if http2 {
            joined = joined.http2();
        }
        let reason = world.reason(&joined.send().unwrap()).unwrap();
        assert_eq!(reason, (400, "multiple_credentials".to_owned()));
    }
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn a_token_in_the_query_is_refused_and_not_logged() {
    let world = builder().start().unwrap();
    let token = token(&world);
    for name in ["access_token", "ACCESS_TOKEN", "access%5Ftoken"] {
        let answer = world.curl(&format!("/orders/1?x=1&{name}={token}")).send().unwrap();
        assert_eq!(
            world.reason(&answer).unwrap(),
            (400, "token_in_query".to_owned()),
            "{name}"
        );
    }
    let answer = world.curl(&format!("/healthz?access_token={token}")).send().unwrap();
    assert_eq!(
        world.reason(&answer).unwrap(),
        (400, "token_in_query".to_owned()),
        "on an open route"
    );
    assert!(!world.envoy_log().contains(&token));
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn a_path_means_what_envoy_routes() {
    let world = builder().start().unwrap();
    let token = token(&world);
    let status = |target: &str, token: Option<&str>| {
        let mut request = Request::get(target);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        world.send(&request).unwrap().status
    };
    // Normalised before it is judged: these are the open path, and these are not.
    assert_eq!(status("/orders/../healthz", None), 200);
    for protected in [
        "/healthz/../orders/1",
        "//orders/1",
        "/./orders/1",
        "/healthz/%2e%2e/orders/1",
        "/%6frders/1",
    ] {
        assert_eq!(status(protected, None), 401, "{protected}");
        assert_eq!(status(protected, Some(&token)), 200, "{protected}");
    }
    // What two readers could read differently is refused.
    for ambiguous in [
        "/healthz%2f..%2forders",
        "/orders%5c1",
        "/orders/%00",
        "/orders\\..\\x%2f",
    ] {
        assert_eq!(status(ambiguous, Some(&token)), 400, "{ambiguous}");
    }
}

#[test]
fn the_filter_alone_refuses_a_path_that_envoy_does_not_normalise() {
    let world = builder()
        .yaml(|yaml| {
            yaml.replace("normalize_path: true", "normalize_path: false")?;
            yaml.replace("merge_slashes: true", "merge_slashes: false")?;
            yaml.replace(
                "path_with_escaped_slashes_action: REJECT_REQUEST",
                "path_with_escaped_slashes_action: KEEP_UNCHANGED",
            )
        })
        .start()
        .unwrap();
    for target in [
        "/healthz/../orders/1",
        "//healthz",
        "/healthz/.",
        "/orders%2f1",
        "/orders%5C1",
        "/orders/%00",
        "/healthz/%2e%2e/orders",
    ] {
        let answer = world.send(&Request::get(target)).unwrap();
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(
            (refusal.status, refusal.reason.as_str()),
            (400, "path_ambiguous"),
            "{target}"
        );
    }
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn however_a_path_is_encoded_it_takes_its_own_route() {
    let world = builder()
        .filter(|configuration| {
            let routes = configuration["routes"].as_array_mut().unwrap();
            routes.insert(
                0,
                json!({"path": "/v1/users:batchDelete", "accept": ["bearer"], "audience": "orders", "scopes_all": ["x"]}),
            );
            routes.push(json!({"path_prefix": "/v1", "access": "open"}));
        })
        .start()
        .unwrap();
    for target in [
        "/v1/users:batchDelete",
        "/v1/users%3AbatchDelete",
        "/v1/users%3abatch%44elete",
        "/%76%31/users:batchDelete",
    ] {
        let answer = world.send(&Request::get(target)).unwrap();
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(
            (refusal.status, refusal.reason.as_str()),
            (401, "no_credentials"),
            "{target}"
        );
    }
    assert_eq!(world.send(&Request::get("/v1/users%3Alist")).unwrap().status, 200);
    assert_eq!(world.upstream().requests().len(), 1);
}

#[test]
fn a_host_that_two_readers_could_read_differently_is_refused() {
    let world = builder()
        .filter(|configuration| {
            let routes = configuration["routes"].as_array_mut().unwrap();
            routes.push(json!({"path_prefix": "/", "access": "open"}));
        })
        .start()
        .unwrap();
    for host in [
        "localhost..",
        "x@localhost",
        "localhost,b",
        "localhost%2e",
        "localhost:0x1",
    ] {
        let answer = world.curl("/orders/1").header(&format!("Host: {host}")).send().unwrap();
        assert_eq!(answer.status, 400, "{host}");
    }
    let dotted = world.curl("/orders/1").header("Host: localhost.").send().unwrap();
    assert_eq!(world.reason(&dotted).unwrap(), (401, "no_credentials".to_owned()));
    assert_eq!(world.upstream().requests().len(), 0);
}

#[test]
fn a_credential_that_came_without_tls_is_refused() {
    let world = builder()
        .yaml(|yaml| yaml.remove_block_below("filter_chains:", "transport_socket:"))
        .start()
        .unwrap();
    let send = |target: &str, credential: &str| {
        let request = Request::get(target).header("authorization", credential);
        kerbridge_tests::http::send(world.port(), &request).unwrap()
    };
    for credential in [format!("Bearer {}", token(&world)), "Negotiate YIIB".to_owned()] {
        let answer = send("/orders/1", &credential);
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!((refusal.status, refusal.reason.as_str()), (403, "insecure_transport"));
    }
    assert_eq!(world.upstream().requests().len(), 0);
    assert_eq!(send("/healthz", "").status, 200);
}

#[test]
fn where_a_trusted_terminator_is_in_front_clear_text_passes_and_no_token_is_handed_back() {
    for deliver in ["header", "cookie"] {
        let world = World::builder()
            .lab_issuer()
            .yaml(|yaml| yaml.remove_block_below("filter_chains:", "transport_socket:"))
            .filter(move |filter| {
                for route in filter["routes"].as_array_mut().unwrap() {
                    if route["audience"] == "orders" {
                        route["allow_insecure"] = json!(true);
                        route["accept"] = json!(["negotiate", "bearer", "cookie"]);
                        route["deliver"] = json!(deliver);
                    }
                }
            })
            .start()
            .unwrap();
        let ticket = world.negotiate_token("alice", kerbridge_tests::world::SERVICE).unwrap();
        for credential in [format!("Bearer {}", token(&world)), format!("Negotiate {ticket}")] {
            let request = Request::get("/orders/1").header("authorization", credential);
            let answer = kerbridge_tests::http::send(world.port(), &request).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            for name in ["x-kerbridge-token", "set-cookie"] {
                assert_eq!(answer.header(name), None, "{deliver}");
            }
        }
        // The other routes are as strict as ever.
        let request = Request::get("/reports/1").header("authorization", format!("Bearer {}", token(&world)));
        let answer = kerbridge_tests::http::send(world.port(), &request).unwrap();
        assert_eq!(
            world.refusal(answer.status, &answer.body).unwrap().reason,
            "insecure_transport"
        );
    }
}

#[test]
fn a_claim_stands_beside_the_verified_subject_and_an_envoy_that_would_put_it_in_its_place_does_not_run() {
    const FIELD: &str = "routes[1].claim_to_headers[0].header_name";
    let sent_as = |header: &str| json!([{"header_name": header, "claim_name": "preferred_username"}]);
    let beside = sent_as("x-account");
    let mut world = builder()
        .filter(move |filter| filter["routes"][1]["claim_to_headers"] = beside)
        .start()
        .unwrap();
    let key = world.lab_key().unwrap();
    let mut members = claims(LAB_ISSUER, "carol@LAB.TEST", "orders", "orders:read");
    members["preferred_username"] = json!("root");
    let token = key.sign(&key.header(), &members).unwrap();
    let answer = world
        .curl("/orders/1")
        .bearer(&token)
        .header("x-account: daemon")
        .send()
        .unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(ours(&world), carol());
    let account: Vec<String> = received(&world)
        .into_iter()
        .filter_map(|(name, value)| (name == "x-account").then_some(value))
        .collect();
    assert_eq!(account, ["root"]);

    for header in ["x-kerbridge-subject", "x-kerbridge-issuer", "x-kerbridge-scope"] {
        let refusal = world
            .restart_envoy(|yaml| {
                let mut filter: Value = serde_json::from_str(&yaml.filter_configuration()?).unwrap();
                filter["routes"][1]["claim_to_headers"] = sent_as(header);
                yaml.set_filter_configuration(&filter.to_string())
            })
            .unwrap_err()
            .to_string();
        assert!(refusal.contains(FIELD), "{header}: {refusal}");
    }
}
