mod room;
mod tls;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::tests::{body, broker};
use super::super::{bind, look, router};
use super::*;
use crate::config::{Address, ClientNames, ListenerConfig, TlsServer};

const FORM: &str = "content-type: application/x-www-form-urlencoded";

fn listener(name: ListenerName, address: Address) -> ListenerConfig {
    ListenerConfig {
        name,
        address,
        client_name: "sidecar".into(),
    }
}

fn unix(path: &Path, mode: u32) -> ListenerConfig {
    listener(
        ListenerName::Mesh,
        Address::Unix {
            path: path.into(),
            mode,
        },
    )
}

/// A listener that runs until it is told to stop.
struct Running {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    address: String,
}

fn start(config: &ListenerConfig, connections: usize) -> Running {
    let room = Room {
        connections,
        share: None,
        metrics: ConnectionMetrics::default(),
    };
    start_with(config, room)
}

fn start_with(config: &ListenerConfig, room: Room) -> Running {
    let listening = bind(config).unwrap().register().unwrap();
    let address = listening.address();
    let (stop, shutdown) = Shutdown::channel();
    let router = router(config.name, broker(Ok("alice@A.TEST")));
    let task = tokio::spawn(serve(listening, router, room, shutdown, Duration::from_secs(5)));
    Running { stop, task, address }
}

impl Running {
    fn tcp(&self) -> SocketAddr {
        self.address.split_once(':').unwrap().1.parse().unwrap()
    }
}

fn post(connection: &str) -> String {
    let body = body(&[]);
    format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: k\r\n{FORM}\r\nconnection: {connection}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<String> {
    stream.write_all(post("close").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The claims of the token in an answer.
fn claims(answer: &str) -> serde_json::Value {
    use base64::Engine as _;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, reply) = answer.split_once("\r\n\r\n").unwrap();
    let reply: kerbridge_wire::exchange::ExchangeReply = serde_json::from_str(reply).unwrap();
    let claims = reply.access_token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

#[test]
fn root_and_the_brokers_user_administer_and_nobody_else() {
    for (uid, may) in [(0, true), (998, true), (997, false), (999, false), (u32::MAX, false)] {
        assert_eq!(may_administer(uid, 998), may, "{uid}");
    }
    assert!(!may_administer(998, 0));
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_answers_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.sock");
    let running = start(&unix(&path, 0o600), 10);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = exchange(tokio::net::UnixStream::connect(&path).await.unwrap())
        .await
        .unwrap();
    assert_eq!(claims(&answer)["client_id"], "sidecar");
    running.stop.send_replace(true);
    running.task.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_left_over_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let running = start(&unix(&path, 0o660), 10);
    let refused = bind(&unix(&path, 0o660)).unwrap_err().to_string();
    assert!(
        refused.starts_with("listen.mesh.unix: ") && refused.contains("somebody answers there"),
        "{refused}"
    );
    assert!(
        exchange(tokio::net::UnixStream::connect(&path).await.unwrap())
            .await
            .is_ok()
    );
    drop(running);
    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let refused = bind(&unix(&file, 0o660)).unwrap_err().to_string();
    assert!(refused.contains("something else than a socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}

#[tokio::test]
async fn a_port_in_use_is_a_problem_of_its_field() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = bind(&listener(ListenerName::Observe, Address::Clear { address })).unwrap_err();
    assert_eq!(refused.field, "listen.observe.tcp");
    assert_eq!(refused.problem, format!("{address}: address already in use"));
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_end_and_an_idle_connection_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.sock");
    let running = start(&unix(&path, 0o660), 10);
    let idle = tokio::net::UnixStream::connect(&path).await.unwrap();
    let mut busy = tokio::net::UnixStream::connect(&path).await.unwrap();
    let request = post("keep-alive");
    let (head, rest) = request.split_at(request.len() - 10);
    busy.write_all(head.as_bytes()).await.unwrap();
    // Its handler runs once another connection, opened later, has been answered.
    exchange(tokio::net::UnixStream::connect(&path).await.unwrap())
        .await
        .unwrap();
    running.stop.send_replace(true);
    busy.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert_eq!(claims(&answer)["sub"], "alice@A.TEST");
    running.task.await.unwrap();
    drop(idle);
    assert!(tokio::net::UnixStream::connect(&path).await.is_err());
}

#[tokio::test]
async fn a_body_over_the_limit_is_taken_in_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.sock");
    let running = start(&unix(&path, 0o660), 10);
    for (kind, reason) in [
        (FORM, "token_too_large"),
        ("content-type: text/plain", "invalid_request"),
    ] {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let length = 700 * 1024;
        let head = format!(
            "POST /oauth2/token HTTP/1.1\r\nhost: k\r\n{kind}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; length]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains(reason),
            "{answer}"
        );
    }
    drop(running);
}

#[tokio::test]
async fn a_listener_that_cannot_be_registered_is_an_error() {
    // No file of a file system can be waited for.
    let file = std::os::fd::OwnedFd::from(tempfile::tempfile().unwrap());
    let listener = std::net::TcpListener::from(file);
    listener.set_nonblocking(true).unwrap();
    let bound = Bound {
        name: ListenerName::Observe,
        client_name: "x".into(),
        socket: Socket::Clear(listener),
    };
    assert!(bound.register().is_err());
}

#[tokio::test]
async fn looking_at_an_address_finds_what_taking_it_would_and_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.sock");
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let taken = std::net::TcpListener::bind("[::1]:0").unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let clear = |address| listener(ListenerName::Observe, Address::Clear { address });
    for (config, good) in [
        (unix(&path, 0o660), true),
        (unix(&file, 0o660), false),
        (unix(&folder.path().join("none/mesh.sock"), 0o660), false),
        (clear(free), true),
        (clear(taken.local_addr().unwrap()), false),
    ] {
        assert_eq!(look(&config).is_ok(), good, "{config:?}");
        assert_eq!(look(&config).err(), bind(&config).err(), "{config:?}");
    }
    assert!(!path.exists());
}
