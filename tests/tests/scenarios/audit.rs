//! The audit trail of a real broker: one event for each decision, to a file or the system's log, and what happens while it cannot be
//! written. That every event is as docs/audit.md says, and holds no credential, is looked at when each broker of the tests ends
//! (`tests/src/audit.rs`).

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use kerbridge_tests::exchange_world::{ExchangeWorld, Exchanged};
use kerbridge_tests::http::Request;
use kerbridge_tests::process::Signal;
use kerbridge_tests::token::decode;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::{audit, canary};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["message"].as_str().unwrap()).collect()
}

fn wait_for_events(path: &Path, count: usize) {
    wait_until("an audit event", PATIENCE, || events(path).len() >= count).unwrap();
}

#[test]
fn each_decision_is_one_event_of_the_file_whatever_the_level_of_the_log() {
    let table = "[audit]\nto = \"file\"\nfile = \"audit.log\"\nmebibytes = 0\n[log]\nlevel = \"error\"";
    let mut world = ExchangeWorld::start(table).unwrap();
    let path = world.folder().join("audit.log");
    let [good, other] = <[String; 2]>::try_from(world.tokens(2).unwrap()).unwrap();
    let Exchanged::Token(token) = world.exchange(&good).unwrap() else {
        panic!("no token");
    };
    assert_eq!(world.exchange(&good).unwrap(), Exchanged::replay());
    let bad =
        Request::post("/oauth2/token", "grant_type=none").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(world.broker().ask(&bad).unwrap().status, 400);
    let claims = decode(&token).unwrap().claims;
    let jti = claims["jti"].as_str().unwrap();
    world.broker().revoke(&["--jti", jti]).unwrap();
    world.broker().revoke(&["--jti", jti, "--lift"]).unwrap();
    wait_for_events(&path, 6);
    // As logrotate does it.
    let moved = world.folder().join("audit.log.1");
    std::fs::rename(&path, &moved).unwrap();
    world.broker().signal(Signal::HUP).unwrap();
    wait_until("a new file", PATIENCE, || path.exists()).unwrap();
    assert!(world.exchange(&other).unwrap().is_token());
    let log = world.broker().log();
    world.broker().stop().unwrap();
    let before = events(&moved);
    assert_eq!(
        names(&before),
        [
            "broker started",
            "exchanged",
            "refused",
            "refused",
            "revoked",
            "revocation lifted"
        ]
    );
    assert_eq!(names(&events(&path)), ["exchanged", "broker stopped"]);
    assert_eq!(log, "", "the log at level error");
    for (field, value) in [
        ("reason", "ok"),
        ("principal", "alice@LAB.TEST"),
        ("subject", claims["sub"].as_str().unwrap()),
        ("audience", "orders"),
        ("scope", claims["scope"].as_str().unwrap()),
        ("jti", jti),
        ("sid", claims["sid"].as_str().unwrap()),
        ("client_id", claims["client_id"].as_str().unwrap()),
        ("listener", "mesh"),
        ("enctype", "aes256-cts-hmac-sha1-96"),
    ] {
        assert_eq!(before[1][field], value, "{field}");
    }
    assert_eq!(before[1]["expires"], claims["exp"]);
    assert_eq!(
        (&before[2]["reason"], &before[2]["principal"]),
        (&"replay".into(), &Value::Null)
    );
    assert_eq!((&before[4]["kind"], &before[4]["value"]), (&"jti".into(), &jti.into()));
    let policy = before[0]["policy_sha256"].as_str().unwrap();
    assert_eq!(policy.len(), 64);
}

/// The system's log, played by the test.
fn listen(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The event in the next message.
fn received(socket: &UnixDatagram) -> Value {
    let mut bytes = vec![0; 16 * 1024];
    let length = socket.recv(&mut bytes).unwrap();
    let message = &bytes[..length];
    canary::search("a message to the system's log", message).unwrap();
    let text = std::str::from_utf8(message).unwrap();
    let (head, event) = text.split_once(" audit - ").unwrap();
    assert!(head.starts_with("<86>1 2") && head.contains(" kerbridge "), "{head}");
    audit::check_lines(event).unwrap();
    serde_json::from_str(event).unwrap()
}

#[test]
fn no_token_is_given_while_the_systems_log_does_not_take_its_event_and_none_is_lost_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let socket = listen(&path);
    let table = format!("[audit]\nto = \"syslog\"\nsocket = {path:?}\non_failure = \"refuse\"");
    let mut world = ExchangeWorld::start(&table).unwrap();
    assert_eq!(received(&socket)["message"], "broker started");
    let tickets = world.tokens(3).unwrap();
    assert!(world.exchange(&tickets[0]).unwrap().is_token());
    assert_eq!(received(&socket)["message"], "exchanged");
    drop(socket);
    std::fs::remove_file(&path).unwrap();
    // The first waits for its event in vain; those after it are refused at once, and use nothing up.
    let unwritten = Exchanged::Refused(503, "internal".to_owned());
    assert_eq!(world.exchange(&tickets[1]).unwrap(), unwritten);
    assert_eq!(world.exchange(&tickets[2]).unwrap(), unwritten);
    let socket = listen(&path);
    let reader = std::thread::spawn(move || {
        let mut events = vec![received(&socket)];
        while events.last().is_some_and(|last| last["message"] != "broker stopped") {
            events.push(received(&socket));
        }
        events
    });
    wait_until("a token", PATIENCE, || world.exchange(&tickets[2]).unwrap().is_token()).unwrap();
    assert!(world.broker().logged("written again").contains("\"what\":\"audit\""));
    world.broker().stop().unwrap();
    let events = reader.join().unwrap();
    let [late, withheld, refused @ .., given, _] = events.as_slice() else {
        panic!("{events:#?}");
    };
    assert_eq!(names(&[late.clone(), withheld.clone()]), ["exchanged", "refused"]);
    assert_eq!(late["jti"], withheld["jti"]);
    let detail = withheld["detail"].as_str().unwrap();
    assert!(detail.contains("audit.on_failure is refuse"), "{detail}");
    assert!(!refused.is_empty() && refused.iter().all(|event| event["message"] == "refused"));
    assert_eq!(given["message"], "exchanged");
    assert_ne!(given["jti"], late["jti"]);
}

#[test]
fn a_revocation_while_no_broker_runs_is_an_event_of_the_same_file() {
    let mut world = ExchangeWorld::start("[audit]\nto = \"file\"\nfile = \"audit.log\"").unwrap();
    world.broker().stop().unwrap();
    world.broker().revoke(&["--subject", "alice@LAB.TEST"]).unwrap();
    let events = events(&world.folder().join("audit.log"));
    assert_eq!(names(&events), ["broker started", "broker stopped", "revoked"]);
    assert_eq!(
        (&events[2]["by"], &events[2]["value"]),
        (&"offline".into(), &"alice@LAB.TEST".into())
    );
    audit::check_files(world.folder()).unwrap();
}
