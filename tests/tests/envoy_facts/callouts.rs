//! What the caller of a callout sees of each way in which it can fail.

use std::time::Duration;

use kerbridge_tests::port;
use kerbridge_tests::scripted_server::{Reply, ScriptedServer};
use serde_json::json;

use crate::bootstrap::{Bootstrap, ask, scripted};

fn raw(bytes: &str) -> Reply {
    Reply::Raw(bytes.as_bytes().to_vec())
}

fn cut(bytes: &str) -> Reply {
    Reply::Cut(bytes.as_bytes().to_vec())
}

fn reset(reason: &str) -> String {
    format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
}

/// The line that the callback writes for an answer of three headers, as Envoy's own and the scripted ones have.
fn seen(status: u16, body: &str) -> String {
    format!(
        "reply headers=3 body={} trailers=0 status=\"{status}\" {body}",
        body.len()
    )
}

#[test]
fn an_answer_and_envoys_own_word_for_a_failure_look_alike() {
    let part = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
    // Envoy's limit for a callout's answer is 32 MiB.
    let huge = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 34000000\r\n\r\n{}",
        "x".repeat(34_000_000)
    );
    let nothing = "reply headers=0 body=0 trailers=0 status=unread ".to_owned();
    let cases = [
        ("answer", Reply::ok("fine"), seen(200, "fine")),
        ("error", Reply::status(500, "broken"), seen(500, "broken")),
        ("silent", Reply::Never, seen(504, "upstream request timeout")),
        ("closed_at_once", cut(""), seen(503, &reset("connection termination"))),
        (
            "closed_in_the_head",
            cut("HTTP/1.1 200 OK\r\ncont"),
            seen(502, &reset("protocol error")),
        ),
        (
            "not_http",
            raw("SSH-2.0-nonsense\r\n\r\n"),
            seen(502, &reset("protocol error")),
        ),
        ("closed_in_the_body", cut(part), nothing.clone()),
        ("stalled_in_the_body", raw(part), nothing.clone()),
        ("too_large", raw(&huge), nothing),
    ];
    let mut bootstrap = scripted();
    let mut servers = Vec::new();
    for (name, reply, _) in &cases {
        let reply = reply.clone();
        let server = ScriptedServer::tcp(move |_, _| reply.clone()).unwrap();
        bootstrap = bootstrap.cluster(name, server.port(), &json!({}));
        servers.push(server);
    }
    let envoy = bootstrap.start();
    for (name, _, expected) in cases {
        let answer = ask(&envoy, &format!("call {name} 500")).text();
        assert_eq!(answer, format!("call {name} -> Ok\n{expected}\n"), "{name}");
    }
}

#[test]
fn nobody_there_is_a_503_and_no_such_cluster_is_a_bad_argument() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let server = ScriptedServer::unix(&socket, |_, _| Reply::ok("unix")).unwrap();
    let bootstrap: Bootstrap = scripted()
        .unix_cluster("socket", &socket)
        .unix_cluster("absent", &folder.path().join("absent"))
        .cluster("refusing", port::free_tcp().unwrap(), &json!({}));
    let envoy = bootstrap.start();
    let answer = |cluster: &str| ask(&envoy, &format!("call {cluster} 1000; say went-on")).text();
    // Before 1.39 the sentence goes on with what failed and the address.
    let no_connection = |cluster: &str| {
        let answered = answer(cluster);
        let reply = answered.strip_prefix(&format!("call {cluster} -> Ok\nwent-on\nreply headers=3 body="));
        let (_, rest) = reply.unwrap().split_once(' ').unwrap();
        let failed = format!("trailers=0 status=\"503\" {}", reset("remote connection failure"));
        assert!(rest.starts_with(&failed), "{answered}");
    };
    assert_eq!(
        answer("socket"),
        format!("call socket -> Ok\nwent-on\n{}\n", seen(200, "unix"))
    );
    no_connection("absent");
    no_connection("refusing");
    // Without a callout there is no callback: whoever waited for one would wait for ever.
    assert_eq!(answer("missing"), "direct");
    assert_eq!(
        ask(&envoy, "call missing 1000; answer").text(),
        "call missing -> Err(BadArgument)\n"
    );
    let asked = server.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked.first().map(|request| request.body.as_slice()),
        Some(b"question".as_slice())
    );
    envoy
        .wait_for_stat("cluster.absent.upstream_cx_connect_fail", 1, Duration::from_secs(5))
        .unwrap();
}
