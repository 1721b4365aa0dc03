//! How many connections there are, who makes way, and when each ends.

use std::num::NonZeroUsize;

use kerbridge_gate::network::Network;

use super::*;

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
async fn who_begins_a_request_and_says_no_more_makes_way_some_time_and_at_once_on_public_for_one_that_waits() {
    tokio::time::pause();
    for (name, waits, seconds) in [
        (ListenerName::Public, false, 10..=10),
        // At once, where not a byte of it was read yet.
        (ListenerName::Public, true, 0..=1),
        (ListenerName::Mesh, true, 75..=75),
    ] {
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
        if waits {
            let mut next = tokio::net::UnixStream::connect(&path).await.unwrap();
            next.write_all(GET.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            next.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        } else {
            // Whatever it is told at the end.
            drop(silent.read_to_end(&mut Vec::new()).await);
        }
        let elapsed = began.elapsed().as_secs();
        assert!(seconds.contains(&elapsed), "{name}: {elapsed}");
        drop(running);
    }
}

/// A connection of a loopback address to `public`.
async fn from(address: [u8; 4], to: SocketAddr) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the server has closed it, rather than waiting for a request.
async fn is_closed(stream: &mut tokio::net::TcpStream) -> bool {
    if stream.write_all(GET.as_bytes()).await.is_err() {
        return true;
    }
    !matches!(stream.read(&mut [0; 4096]).await, Ok(1..))
}

fn public(connections: usize, each: usize) -> (Running, ConnectionMetrics) {
    let address = "127.0.0.1:0".parse().unwrap();
    let metrics = ConnectionMetrics::default();
    let room = Room {
        connections,
        share: NonZeroUsize::new(each).map(|each| SourceShare::new(each, vec![Network::parse("127.0.0.9").unwrap()])),
        metrics: metrics.clone(),
    };
    let config = listener(ListenerName::Public, Address::Clear { address });
    (start_with(&config, room), metrics)
}

#[tokio::test]
async fn a_source_that_has_its_share_of_public_shuts_out_itself_and_nobody_else() {
    let (running, metrics) = public(8, 3);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut own = from([127, 0, 0, 1], running.tcp()).await;
        assert!(!is_closed(&mut own).await);
        held.push(own);
    }
    for _ in 0..20 {
        assert!(is_closed(&mut from([127, 0, 0, 1], running.tcp()).await).await);
    }
    assert!(!is_closed(&mut from([127, 0, 0, 2], running.tcp()).await).await);
    assert_eq!(metrics.counted(), (20, 0));
    // Where many clients are behind one address it has as many as it wants.
    let mut shared = Vec::new();
    for _ in 0..4 {
        let mut own = from([127, 0, 0, 9], running.tcp()).await;
        assert!(!is_closed(&mut own).await);
        shared.push(own);
    }
    // What ends is had anew, once the server has seen that it ended.
    drop(held);
    while is_closed(&mut from([127, 0, 0, 1], running.tcp()).await).await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn where_all_of_public_is_taken_the_longest_idle_makes_way_and_nobody_who_is_at_work() {
    let (running, metrics) = public(2, 0);
    let mut working = from([127, 0, 0, 1], running.tcp()).await;
    let request = post("keep-alive");
    let (head, rest) = request.split_at(request.len() - 10);
    working.write_all(head.as_bytes()).await.unwrap();
    let mut idle = from([127, 0, 0, 1], running.tcp()).await;
    assert!(!is_closed(&mut idle).await);
    let mut next = from([127, 0, 0, 2], running.tcp()).await;
    assert!(!is_closed(&mut next).await);
    assert!(is_closed(&mut idle).await);
    working.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    working.read_exact(&mut answer).await.unwrap();
    assert_eq!((&answer, metrics.counted()), (b"HTTP/1.1 200", (0, 1)));
    drop(next);
}
