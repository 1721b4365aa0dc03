//! `kerbridge revoke`, with a broker and without one.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use kerbridge_wire::feed::{Entry, RevocationKey, jws_length};

use super::*;

const ISSUER: &str = "https://kerbridge.a.test";

fn revoke(folder: &Folder, arguments: &[&str]) -> Output {
    let mut all = vec!["revoke", "--config", "made/kerbridge.toml", "--output", "json"];
    all.extend(arguments);
    folder.run(&all)
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is said for machines where nothing came of it: nothing for people, and a remedy beside the problem.
fn refused(output: &Output, code: i32) -> String {
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(code), ""),
        "{}",
        text(&output.stdout)
    );
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (problem, remedy) = (said["problem"].as_str().unwrap(), said["remedy"].as_str().unwrap());
    assert!(!problem.is_empty() && !remedy.is_empty(), "{said}");
    format!("{problem}; {remedy}")
}

fn bytes(socket: &Path, request: &str) -> Option<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let is_good = answer.starts_with(b"HTTP/1.1 200 ");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let body = answer.into_iter().skip(end).skip(4).collect();
    is_good.then_some(body)
}

/// All that the feed has.
fn feed(folder: &Folder) -> Vec<Entry> {
    let request = "GET /v1/revocations HTTP/1.1\r\nhost: k\r\nconnection: close\r\n\r\n";
    let page = bytes(&folder.path("made/mesh.sock"), request).unwrap();
    let (_, body) = page.split_at(jws_length(&page).unwrap());
    body[1..].as_chunks().0.iter().map(Entry::from_bytes).collect()
}

#[test]
fn a_running_broker_revokes_and_says_who_asked() {
    let folder = made();
    let broker = Serving::start(&folder);
    let mode = fs::metadata(folder.path("made/admin.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let revoked = json(&revoke(&folder, &["--subject", "alice@A.TEST"]));
    assert_eq!(
        (&revoked["kind"], &revoked["by"]),
        (&"subject".into(), &"broker".into())
    );
    assert_eq!(
        (&revoked["version"], &revoked["needed_until"]),
        (&1.into(), &Value::Null)
    );
    json(&revoke(&folder, &["--sid", "s", "--before", "now"]));
    // One in sixty-four begins so.
    json(&revoke(&folder, &["--jti", "-t"]));
    let keys: Vec<_> = feed(&folder).iter().map(|entry| entry.key).collect();
    assert_eq!(
        keys,
        [
            RevocationKey::subject(ISSUER, "alice@A.TEST"),
            RevocationKey::session(ISSUER, "s"),
            RevocationKey::token(ISSUER, "-t"),
        ]
    );
    let lifted = json(&revoke(&folder, &["--subject", "alice@A.TEST", "--lift"]));
    assert_eq!((&lifted["lifted"], &lifted["version"]), (&true.into(), &4.into()));
    assert_eq!(feed(&folder).len(), 2);
    let again = revoke(&folder, &["--subject", "alice@A.TEST", "--lift"]);
    let said = refused(&again, 1);
    assert!(said.contains("is not revoked"), "{said}");
    let words = folder.run(&["revoke", "--config", "made/kerbridge.toml", "--sid", "r"]);
    let words = text(&words.stdout);
    assert!(
        words.starts_with("revoked: sid r, for ever (--lift takes it back); version 5\nEvery filter"),
        "{words}"
    );
    broker.signal(Signal::TERM);
    let (_, log) = broker.end();
    let uid = rustix::process::geteuid().as_raw();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let audit = |message: &str| events.iter().filter(|event| event["message"] == message).count();
    assert_eq!((audit("revoked"), audit("revocation lifted")), (4, 1));
    let first = events.iter().find(|event| event["message"] == "revoked").unwrap();
    for (member, value) in [
        ("target", Value::from("kerbridge::audit")),
        ("kind", "subject".into()),
        ("value", "alice@A.TEST".into()),
        ("by", "administrator".into()),
        ("uid", uid.into()),
        ("version", 1.into()),
    ] {
        assert_eq!(first[member], value, "{first}");
    }
    assert!(!folder.path("made/admin.sock").exists());
}

#[test]
fn a_token_in_the_place_of_its_id_is_refused_with_the_id_and_stands_in_no_log() {
    let folder = made();
    // {"alg":"ES256"} and {"jti":"t1"}
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiJ0MSJ9.c2ln";
    let is_refused = |arguments: &[&str], problem: &str| {
        let said = refused(&revoke(&folder, arguments), 64);
        assert!(said.contains(problem) && !said.contains(token), "{said}");
    };
    let all = || {
        is_refused(&["--jti", token], "that is a token, not its jti; its jti is t1");
        is_refused(&["--jti", token, "--lift"], "its jti is t1");
        is_refused(&["--sid", token], "write its claim sid");
        is_refused(&["--subject", token], "that is a token, not its subject");
    };
    let broker = Serving::start(&folder);
    all();
    broker.signal(Signal::TERM);
    let (_, log) = broker.end();
    assert!(!log.contains(token), "{log}");
    all();
}

#[test]
fn without_a_broker_the_store_has_it_and_the_next_broker_serves_it() {
    let folder = made();
    let none = revoke(&folder, &["--jti", "t"]);
    let said = refused(&none, 78);
    assert!(said.contains("no store"), "{said}");
    Serving::start(&folder).signal(Signal::TERM);
    let output = revoke(&folder, &["--subject", "alice@A.TEST"]);
    let before = json(&output);
    let event: Value = serde_json::from_slice(&output.stderr).unwrap();
    for (member, value) in [
        ("target", Value::from("kerbridge::audit")),
        ("message", "revoked".into()),
        ("value", "alice@A.TEST".into()),
        ("by", "offline".into()),
        ("uid", rustix::process::geteuid().as_raw().into()),
    ] {
        assert_eq!(event[member], value, "{event}");
    }
    assert_eq!((&before["by"], &before["version"]), (&"store".into(), &1.into()));
    json(&revoke(&folder, &["--jti", "t"]));
    let words = folder.run(&[
        "revoke",
        "--config",
        "made/kerbridge.toml",
        "--sid",
        "r",
        "--until",
        "8h",
    ]);
    let words = text(&words.stdout);
    assert!(words.contains("No broker runs: it stands in the store"), "{words}");
    json(&revoke(&folder, &["--sid", "r", "--lift"]));
    assert_eq!(revoke(&folder, &["--sid", "r", "--lift"]).status.code(), Some(1));
    let _broker = Serving::start(&folder);
    let keys: Vec<_> = feed(&folder).iter().map(|entry| entry.key).collect();
    assert_eq!(
        keys,
        [
            RevocationKey::subject(ISSUER, "alice@A.TEST"),
            RevocationKey::token(ISSUER, "t"),
        ]
    );
    let after = json(&revoke(&folder, &["--jti", "u"]));
    assert_eq!((&after["by"], &after["epoch"]), (&"broker".into(), &before["epoch"]));
}

#[test]
fn a_broker_that_has_no_admin_socket_is_named_with_what_to_add() {
    let folder = made();
    let config = folder.path("made/kerbridge.toml");
    let good = fs::read_to_string(&config).unwrap();
    let without = good.replace("[listen.admin]\nunix = \"admin.sock\"", "");
    assert_ne!(without, good);
    fs::write(&config, &without).unwrap();
    let _broker = Serving::start(&folder);
    for (config_now, remedy) in [(&without, "add [listen.admin]"), (&good, "restart it")] {
        fs::write(&config, config_now).unwrap();
        let complaint = refused(&revoke(&folder, &["--jti", "t"]), 78);
        assert!(
            complaint.contains("another broker, process ") && complaint.contains(remedy),
            "{complaint}"
        );
    }
    assert!(feed(&folder).is_empty());
}

#[test]
fn what_cannot_be_meant_is_wrong_usage() {
    let folder = made();
    let _broker = Serving::start(&folder);
    for arguments in [
        &[][..],
        &["--jti", "t", "--sid", "s"],
        &["--jti", "t", "--before", "now"],
        &["--sid", "s", "--before", "now", "--until", "1h"],
        &["--sid", "s", "--before", "tomorrow"],
        &["--sid", "s", "--before", "2099-01-01T00:00:00Z"],
        &["--sid", "s", "--until", "2020-01-01T00:00:00Z"],
        &["--sid", "s", "--lift", "--before", "now"],
        &["--sid", ""],
        &["--subject", "alice"],
    ] {
        let output = revoke(&folder, arguments);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        // A line that cannot be read does not say how to answer it.
        assert_ne!(output.stdout.is_empty(), output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(feed(&folder).is_empty());
}

#[test]
fn after_a_kill_in_the_midst_of_revocations_all_that_were_answered_are_there() {
    let folder = made();
    let answered = Mutex::new(BTreeSet::new());
    for round in 0..3 {
        let broker = Serving::start(&folder);
        let known = answered.lock().unwrap().len();
        thread::scope(|scope| {
            for client in 0..8 {
                let (folder, answered) = (&folder, &answered);
                scope.spawn(move || {
                    for number in 0.. {
                        let id = format!("{round}-{client}-{number}");
                        let body = format!("{{\"kind\":\"jti\",\"value\":\"{id}\"}}");
                        let request = format!(
                            "POST /v1/revoke HTTP/1.1\r\nhost: k\r\nconnection: close\r\ncontent-type: application/json\r\n\
                             content-length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if bytes(&folder.path("made/admin.sock"), &request).is_none() {
                            break;
                        }
                        answered.lock().unwrap().insert(id);
                    }
                });
            }
            while answered.lock().unwrap().len() < known + 50 {
                thread::yield_now();
            }
            broker.signal(Signal::KILL);
        });
    }
    let _broker = Serving::start(&folder);
    let keys: BTreeSet<_> = feed(&folder).iter().map(|entry| entry.key).collect();
    let answered = answered.into_inner().unwrap();
    assert!(answered.len() >= 150);
    for id in &answered {
        assert!(keys.contains(&RevocationKey::token(ISSUER, id)), "{id} is lost");
    }
}
