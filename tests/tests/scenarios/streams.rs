//! What is still open when its token ends, or is revoked, is ended: long responses, uploads, WebSockets, gRPC streams.

use std::io::Read as _;
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Connection;
use kerbridge_tests::issuer::{FEED, Issuer, subject_entry};
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use kerbridge_tests::shipped::ShippedYaml;
use kerbridge_tests::tls::TlsStream;
use kerbridge_tests::token::now;
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::{Deadline, wait_for, wait_until};
use serde_json::{Value, json};

/// A service whose responses begin and do not end: a chunk, a WebSocket's first frame, a gRPC message; or never begin.
fn endless() -> ScriptedServer {
    ScriptedServer::tcp(|_number, request| match target(request).as_str() {
        "/orders/ws" => Reply::Raw(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x05hello"
                .to_vec(),
        ),
        "/orders/grpc" => Reply::Raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
              5\r\n\0\0\0\0\0\r\n"
                .to_vec(),
        ),
        "/orders/silent" => Reply::Never,
        _ => Reply::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec()),
    })
    .unwrap()
}

/// The shipped listener in front of that service, with WebSockets allowed.
fn fit(yaml: &mut ShippedYaml, port: u16) -> Result<(), kerbridge_tests::HarnessError> {
    yaml.insert_below("stat_prefix: https", &["upgrade_configs: [{upgrade_type: websocket}]"])?;
    yaml.replace(
        "route: {cluster: upstream, timeout: 30s}",
        "route: {cluster: endless, timeout: 0s}",
    )?;
    let endpoint = format!(
        "    - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]"
    );
    let cluster = [
        "- name: endless",
        "  type: STATIC",
        "  load_assignment:",
        "    cluster_name: endless",
        "    endpoints:",
    ];
    yaml.insert_below("clusters:", &[cluster.as_slice(), &[endpoint.as_str()]].concat())
}

/// The world, its issuer and its service; `route` changes the route of GET requests.
fn world(route: fn(&mut Value)) -> (World, Issuer, ScriptedServer) {
    world_that_keeps(("1h", "1h"), route)
}

/// The same with other bounds for the age of keys and of revocations.
fn world_that_keeps((keys, feed): (&str, &str), route: fn(&mut Value)) -> (World, Issuer, ScriptedServer) {
    let (issuer, service) = (Issuer::start().unwrap(), endless());
    let port = service.port();
    let more = json!({"jwks": {"poll": "1s", "max_staleness": keys},
        "feed": {"cluster": "id", "path": FEED, "poll": "1s", "max_staleness": feed}});
    let builder = issuer
        .join(World::builder().broker_stopped(), more)
        .yaml(move |yaml| fit(yaml, port))
        .filter(move |filter| {
            for at in filter["routes"].as_array_mut().unwrap() {
                if at["name"] == "orders" {
                    route(at);
                }
            }
        });
    let world = builder.start().unwrap();
    wait_until("keys", Duration::from_secs(10), || {
        world.stat("wasmcustom.kerbridge.key_sets_taken.issuer.id") == Some(2)
    })
    .unwrap();
    // A worker's first request with a credential waits for the broker's revocations, which do not come here: longer than some
    // tokens live.
    assert_eq!(world.curl("/orders/1").bearer("no.to.ken").send().unwrap().status, 401);
    (world, issuer, service)
}

/// Sends a head and reads until the service's first words are there.
fn open(world: &World, path: &str, token: &str, more: &str, first: &[u8]) -> Connection<TlsStream> {
    let mut connection = world.connect().unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{more}\r\n");
    connection.send_raw(head.as_bytes()).unwrap();
    let mut seen = Vec::new();
    while !seen.windows(first.len()).any(|part| part == first) {
        let mut byte = [0];
        assert_eq!(
            connection.stream().read(&mut byte).unwrap(),
            1,
            "{}",
            seen.escape_ascii()
        );
        seen.extend(byte);
    }
    connection
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Waits until Envoy closes: how long it took. What else arrives is read.
fn wait_for_end(connection: &mut Connection<TlsStream>) -> Duration {
    let waited = Deadline::after(Duration::from_secs(20));
    let mut rest = [0; 4096];
    while connection.stream().read(&mut rest).is_ok_and(|read| read > 0) {}
    assert!(!waited.passed(), "the stream is still open");
    waited.elapsed()
}

/// The access log's line for a path.
fn logged(world: &World, path: &str) -> Value {
    wait_for("an access-log line", Duration::from_secs(10), || {
        world.access_lines().into_iter().find(|line| line["path"] == path)
    })
    .unwrap()
}

#[test]
fn a_long_response_and_a_websocket_end_with_their_token() {
    let (world, issuer, _service) = world(|_| {});
    let end = now() + 4;
    let token = issuer.token(&json!({"exp": end})).unwrap();
    let mut response = open(&world, "/orders/long", &token, "", b"hello");
    let mut socket = open(&world, "/orders/ws", &token, UPGRADE, b"hello");
    assert!(now() < end, "too slow to see anything");
    wait_for_end(&mut response);
    assert!(now() >= end, "not before its time");
    wait_for_end(&mut socket);
    for (path, status) in [("/orders/long", 200), ("/orders/ws", 101)] {
        let line = logged(&world, path);
        assert_eq!(
            (line["status"].as_u64(), line["details"].as_str()),
            (Some(status), Some("kerbridge_expired"))
        );
    }
    let ended = "wasmcustom.kerbridge.streams_ended.reason.expired.issuer.id";
    assert_eq!(world.stat(ended), Some(2));
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn an_open_request_ends_when_its_token_is_revoked_and_others_stay() {
    let (world, issuer, _service) = world(|_| {});
    let token = |subject: &str| issuer.token(&json!({"sub": subject})).unwrap();
    let mut bob = open(&world, "/orders/bob", &token("bob"), "", b"hello");
    let mut socket = open(&world, "/orders/ws", &token("bob"), UPGRADE, b"hello");
    let mut carol = open(&world, "/orders/carol", &token("carol"), "", b"hello");
    issuer.revoke(&[subject_entry("bob", now())]);
    wait_for_end(&mut bob);
    wait_for_end(&mut socket);
    for path in ["/orders/bob", "/orders/ws"] {
        assert_eq!(logged(&world, path)["details"], "kerbridge_revoked");
    }
    assert!(is_open(&mut carol));
}

#[test]
fn an_open_request_ends_when_its_key_is_taken_back_and_others_stay() {
    let (world, issuer, _service) = world(|_| {});
    let mut long = open(&world, "/orders/long", &issuer.token(&json!({})).unwrap(), "", b"hello");
    let mut socket = open(
        &world,
        "/orders/ws",
        &issuer.token(&json!({})).unwrap(),
        UPGRADE,
        b"hello",
    );
    issuer.publish_key().unwrap();
    issuer.sign_with_newest();
    let mut fresh = open(
        &world,
        "/orders/fresh",
        &issuer.token(&json!({})).unwrap(),
        "",
        b"hello",
    );
    assert!(is_open(&mut long), "its key is still there");
    issuer.retire_old_keys();
    wait_for_end(&mut long);
    wait_for_end(&mut socket);
    for path in ["/orders/long", "/orders/ws"] {
        assert_eq!(logged(&world, path)["details"], "kerbridge_unknown_key");
    }
    assert!(is_open(&mut fresh));
    let ended = "wasmcustom.kerbridge.streams_ended.reason.unknown_key.issuer.id";
    assert_eq!(world.stat(ended), Some(2));
}

#[test]
fn an_open_request_ends_when_nobody_can_tell_any_more_whether_its_token_stands() {
    for (bounds, reason) in [(("1h", "3s"), "feed_stale"), (("3s", "1h"), "keys_unavailable")] {
        let (world, issuer, _service) = world_that_keeps(bounds, |_| {});
        let mut long = open(&world, "/orders/long", &issuer.token(&json!({})).unwrap(), "", b"hello");
        assert!(is_open(&mut long), "what is known is renewed");
        issuer.go_away(true);
        wait_for_end(&mut long);
        assert_eq!(logged(&world, "/orders/long")["details"], format!("kerbridge_{reason}"));
        let ended = format!("wasmcustom.kerbridge.streams_ended.reason.{reason}.issuer.id");
        assert_eq!(world.stat(&ended), Some(1));
        assert_eq!(world.reloads(), Some(0));
    }
}

/// Whether the stream does not end for a second.
fn is_open(connection: &mut Connection<TlsStream>) -> bool {
    let socket = |connection: &mut Connection<TlsStream>| connection.stream().sock.try_clone().unwrap();
    let patience = socket(connection).read_timeout().unwrap();
    socket(connection)
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let is_open = loop {
        match connection.stream().read(&mut [0; 64]) {
            Ok(0) => break false,
            // What was not read of the service's first words.
            Ok(_) => {}
            Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
        }
    };
    socket(connection).set_read_timeout(patience).unwrap();
    is_open
}

#[test]
fn where_the_route_says_so_streams_outlive_their_token() {
    let (world, issuer, _service) = world(|route| route["long_streams"] = json!("allow"));
    let end = now() + 2;
    let token = issuer.token(&json!({"exp": end, "sub": "bob"})).unwrap();
    let mut response = open(&world, "/orders/long", &token, "", b"hello");
    issuer.revoke(&[subject_entry("bob", now())]);
    wait_until("the end of the token", Duration::from_secs(10), || now() > end + 1).unwrap();
    assert!(is_open(&mut response));
    let ended = "wasmcustom.kerbridge.streams_ended.reason.expired.issuer.id";
    assert_eq!(world.stat(ended), None);
}

#[test]
fn a_request_that_waits_for_the_service_is_answered_when_its_token_ends() {
    let (world, issuer, service) = world(|_| {});
    let token = issuer.token(&json!({"exp": now() + 3})).unwrap();
    let answer = world.curl("/orders/silent").bearer(&token).send().unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.all("www-authenticate"),
        ["Bearer realm=\"orders\", error=\"invalid_token\""]
    );
    assert_eq!(answer.json()["error"], "invalid_token");
    assert_eq!(logged(&world, "/orders/silent")["details"], "kerbridge_expired");
    assert_eq!(service.requests().len(), 1);
}

#[test]
fn a_grpc_stream_ends_with_its_token() {
    let (world, issuer, _service) = world(|_| {});
    let token = issuer.token(&json!({"exp": now() + 3})).unwrap();
    let call = world
        .curl("/orders/grpc")
        .http2()
        .header("content-type: application/grpc")
        .header("te: trailers")
        .bearer(&token)
        .send()
        .unwrap();
    // The response had begun: the stream is reset, which is curl's exit code 92. Envoy 1.36 ends it, without the trailers without
    // which a gRPC client takes no call for done.
    assert_eq!((call.status, call.body.as_slice()), (200, [0; 5].as_slice()));
    assert!([0, 92].contains(&call.exit), "{}", call.exit);
    assert_eq!(call.all("grpc-status"), Vec::<&str>::new());
    let line = logged(&world, "/orders/grpc");
    assert_eq!(
        (line["status"].as_u64(), line["details"].as_str()),
        (Some(200), Some("kerbridge_expired"))
    );
}

#[test]
fn streams_that_end_by_themselves_are_forgotten() {
    let (world, issuer, _service) = world(|_| {});
    let end = now() + 4;
    let token = issuer.token(&json!({"exp": end})).unwrap();
    for number in 0..20 {
        drop(open(&world, &format!("/orders/{number}"), &token, "", b"hello"));
    }
    wait_until("the end of the token", Duration::from_secs(10), || now() > end + 1).unwrap();
    assert_eq!(
        world.stat("wasmcustom.kerbridge.streams_ended.reason.expired.issuer.id"),
        None
    );
    let fresh = issuer.token(&json!({})).unwrap();
    open(&world, "/orders/after", &fresh, "", b"hello");
    assert_eq!(world.reloads(), Some(0));
}
