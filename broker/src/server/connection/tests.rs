use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

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
    let listening = bind(config).unwrap().register().unwrap();
    let address = listening.address();
    let (stop, shutdown) = Shutdown::channel();
    let router = router(config.name, broker(Ok("alice@A.TEST")));
    let task = tokio::spawn(serve(listening, router, connections, shutdown, Duration::from_secs(5)));
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
async fn more_connections_than_allowed_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.sock");
    let running = start(&unix(&path, 0o660), 1);
    let first = tokio::net::UnixStream::connect(&path).await.unwrap();
    let second = tokio::net::UnixStream::connect(&path).await.unwrap();
    let second = tokio::spawn(exchange(second));
    let first_answer = exchange(first).await.unwrap();
    assert!(first_answer.starts_with("HTTP/1.1 200 "));
    assert!(second.await.unwrap().unwrap().starts_with("HTTP/1.1 200 "));
    drop(running);
}

/// Nobody but the connection takes part in its answer, so a paused clock does not run ahead of it.
const GET: &str = "GET /.well-known/jwks.json HTTP/1.1\r\nhost: k\r\n\r\n";

/// Asks until nothing more goes in, and reads nothing.
async fn ask_and_read_nothing(stream: &mut tokio::net::UnixStream) {
    let requests = GET.repeat(200);
    // The clock is paused: it moves when everybody waits, and then this has been stuck for a second.
    while let Ok(sent) = tokio::time::timeout(Duration::from_secs(1), stream.write_all(requests.as_bytes())).await {
        sent.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_takes_no_answer_loses_its_connection() {
    tokio::time::pause();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.sock");
    let running = start(&unix(&path, 0o660), 1);
    let mut greedy = tokio::net::UnixStream::connect(&path).await.unwrap();
    ask_and_read_nothing(&mut greedy).await;
    let mut patient = tokio::net::UnixStream::connect(&path).await.unwrap();
    patient.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(60), patient.read_exact(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(running);
}

#[tokio::test]
async fn a_connection_to_public_ends_some_time_and_one_to_mesh_does_not() {
    tokio::time::pause();
    for (name, lasts) in [(ListenerName::Public, false), (ListenerName::Mesh, true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        let address = Address::Unix {
            path: path.clone(),
            mode: 0o660,
        };
        let running = start(&listener(name, address), 1);
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let began = tokio::time::Instant::now();
        let mut answers = 0;
        while began.elapsed() < Duration::from_secs(600) {
            let asked = stream.write_all(GET.as_bytes()).await;
            if asked.is_err() || !matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
                break;
            }
            answers += 1;
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        assert_eq!(answers, if lasts { 75 } else { 38 }, "{name}");
        drop(running);
    }
}

#[tokio::test]
async fn a_stranger_who_begins_a_request_and_says_no_more_makes_way_in_seconds() {
    tokio::time::pause();
    for (name, seconds) in [(ListenerName::Public, 10), (ListenerName::Mesh, 75)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        let address = Address::Unix {
            path: path.clone(),
            mode: 0o660,
        };
        let running = start(&listener(name, address), 1);
        let mut silent = tokio::net::UnixStream::connect(&path).await.unwrap();
        silent.write_all(b"POST /oa").await.unwrap();
        let began = tokio::time::Instant::now();
        let mut next = tokio::net::UnixStream::connect(&path).await.unwrap();
        next.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        next.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        assert_eq!(began.elapsed().as_secs(), seconds, "{name}");
        drop(running);
    }
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

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn tls(authority: &Authority, clients: ClientNames) -> ListenerConfig {
    tls_of(ListenerName::Mesh, authority, clients)
}

fn tls_of(name: ListenerName, authority: &Authority, clients: ClientNames) -> ListenerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = authority.sign(vec![dns("localhost")], ExtendedKeyUsagePurpose::ServerAuth);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), Arc::clone(&provider));
    let verifier = match name {
        ListenerName::Public => verifier.allow_unauthenticated(),
        ListenerName::Mesh | ListenerName::Observe | ListenerName::Admin => verifier,
    };
    let verifier = verifier.build().unwrap();
    let certificate = chain.first().unwrap().clone();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let address = Address::Tls {
        address: "127.0.0.1:0".parse().unwrap(),
        server: Arc::new(TlsServer::for_test(server, certificate, clients)),
    };
    listener(name, address)
}

async fn exchange_by_tls(to: SocketAddr, authority: &Authority, client: Option<Identity>) -> io::Result<String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let config = match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = tokio::net::TcpStream::connect(to).await?;
    let name = ServerName::try_from("localhost").unwrap();
    exchange(TlsConnector::from(Arc::new(config)).connect(name, stream).await?).await
}

#[tokio::test]
async fn the_name_in_a_client_certificate_becomes_the_client_id() {
    let authority = Authority::new();
    let running = start(&tls(&authority, ClientNames::All), 10);
    let client = |names| Some(authority.sign(names, ExtendedKeyUsagePurpose::ClientAuth));
    for (names, client_id) in [
        (vec![dns("envoy.mesh.test"), dns("other.test")], "envoy.mesh.test"),
        (
            vec![uri("spiffe://mesh.test/ns/a/sa/envoy")],
            "spiffe://mesh.test/ns/a/sa/envoy",
        ),
    ] {
        let answer = exchange_by_tls(running.tcp(), &authority, client(names)).await.unwrap();
        assert_eq!(claims(&answer)["client_id"], client_id);
    }
}

#[tokio::test]
async fn on_public_a_certificate_names_the_client_and_none_is_needed() {
    let authority = Authority::new();
    let listed = ClientNames::Listed(["cli.test".to_owned()].into());
    let running = start(&tls_of(ListenerName::Public, &authority, listed), 10);
    let client = |name| Some(authority.sign(vec![dns(name)], ExtendedKeyUsagePurpose::ClientAuth));
    for (client, client_id) in [(None, "sidecar"), (client("cli.test"), "cli.test")] {
        let answer = exchange_by_tls(running.tcp(), &authority, client).await.unwrap();
        assert_eq!(claims(&answer)["client_id"], client_id);
    }
    let answer = exchange_by_tls(running.tcp(), &authority, client("other.test")).await;
    assert!(!matches!(&answer, Ok(text) if !text.is_empty()), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_proves_no_name_gets_no_answer() {
    let authority = Authority::new();
    let running = start(&tls(&authority, ClientNames::All), 10);
    let foreign = Authority::new().sign(vec![dns("envoy.test")], ExtendedKeyUsagePurpose::ClientAuth);
    let server = authority.sign(vec![dns("envoy.test")], ExtendedKeyUsagePurpose::ServerAuth);
    let nameless = authority.sign(Vec::new(), ExtendedKeyUsagePurpose::ClientAuth);
    for client in [None, Some(foreign), Some(server), Some(nameless)] {
        let answer = exchange_by_tls(running.tcp(), &authority, client).await;
        assert!(!matches!(&answer, Ok(text) if !text.is_empty()), "{answer:?}");
    }
    let good = authority.sign(vec![dns("envoy.test")], ExtendedKeyUsagePurpose::ClientAuth);
    assert!(exchange_by_tls(running.tcp(), &authority, Some(good)).await.is_ok());
}

#[tokio::test]
async fn of_an_authoritys_clients_only_those_on_the_list_are_taken_under_the_name_that_becomes_the_client_id() {
    let authority = Authority::new();
    let listed = ["envoy.test", "spiffe://mesh.test/envoy"].map(str::to_owned);
    let running = start(&tls(&authority, ClientNames::Listed(listed.into())), 10);
    for (names, taken) in [
        (vec![dns("envoy.test")], true),
        (vec![uri("spiffe://mesh.test/envoy")], true),
        (vec![dns("other.test")], false),
        // Its name would be another than the one on the list.
        (vec![dns("other.test"), dns("envoy.test")], false),
        (vec![dns("other.test"), uri("spiffe://mesh.test/envoy")], false),
        (vec![dns("envoy.test.example")], false),
    ] {
        let client = authority.sign(names.clone(), ExtendedKeyUsagePurpose::ClientAuth);
        let answer = exchange_by_tls(running.tcp(), &authority, Some(client)).await;
        let answered = matches!(&answer, Ok(text) if text.starts_with("HTTP/1.1 200 "));
        assert_eq!(answered, taken, "{names:?} {answer:?}");
        assert!(taken || !matches!(&answer, Ok(text) if !text.is_empty()), "{answer:?}");
    }
}
