//! The broker while it runs: it ends cleanly, is alone with its state, says whether it is ready, and waits for no reader.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests and their helpers may fail loudly"
)]

mod certificates;
mod fixture;
mod keys;
mod revoke;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fixture::{AES, Folder, RC4, Serving, get, text};
use rustix::process::Signal;
use serde_json::Value;

fn made() -> Folder {
    let folder = Folder::new();
    let output = folder.init();
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder
}

#[test]
fn many_threads_end_with_the_process_and_libkrb5_has_nothing_to_complain_about() {
    let folder = made();
    let config = folder.path("made/kerbridge.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, good.replace("#[limits]", "[limits]\nthreads = 64")).unwrap();
    for _ in 0..10 {
        let broker = Serving::start(&folder);
        broker.signal(Signal::TERM);
        let (status, log) = broker.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.ends_with("\n") && log.contains("\"message\":\"stopped\""), "{log}");
    }
}

#[test]
fn of_many_brokers_of_one_state_directory_one_runs_and_the_others_name_it() {
    let folder = made();
    let all: Vec<Serving> = (0..6).map(|_| Serving::begin(&folder)).collect();
    let (mut running, mut refused) = (Vec::new(), Vec::new());
    for one in all {
        match one.listening() {
            Ok(one) => running.push(one),
            Err((status, complaint)) => refused.push((status.code(), complaint)),
        }
    }
    assert_eq!(running.len(), 1, "{refused:#?}");
    for (code, complaint) in refused {
        assert_eq!(code, Some(78), "{complaint}");
        assert!(complaint.contains("  state_dir: another broker"), "{complaint}");
    }
    // With its number, once it has written that down, and beside all else that is in use.
    let rules = folder.path("made/state/krb5.conf");
    let before = fs::metadata(&rules).unwrap().modified().unwrap();
    let late = Serving::begin(&folder).listening().map(drop).unwrap_err();
    let number = fs::read_to_string(folder.path("made/state/lock")).unwrap();
    let expected = format!("another broker, process {}, uses made/state;", number.trim());
    assert!(
        late.1.contains(&expected) && late.1.contains("somebody answers there"),
        "{}",
        late.1
    );
    assert_eq!(fs::metadata(&rules).unwrap().modified().unwrap(), before);
    assert!(get(&folder.path("made/mesh.sock"), "/readyz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn without_a_usable_key_it_is_alive_and_not_ready_until_the_keytab_is_back() {
    let folder = made();
    let _broker = Serving::start(&folder);
    let socket = folder.path("made/mesh.sock");
    let until = |status: &str| {
        for _ in 0..1000 {
            let answer = get(&socket, "/readyz");
            if answer.starts_with(&format!("HTTP/1.1 {status} ")) {
                return answer;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("/readyz did not become {status}");
    };
    until("200");
    let keytab = folder.path("http.keytab");
    let aside = folder.path("aside");
    fs::rename(&keytab, &aside).unwrap();
    let answer = until("503");
    assert!(answer.contains("kerberos.acceptor[0].keytab: "), "{answer}");
    assert!(get(&socket, "/healthz").starts_with("HTTP/1.1 200 "));
    fs::rename(&aside, &keytab).unwrap();
    until("200");
    folder.keytab(&[("HTTP", "api.test", AES), ("HTTP", "www.test", RC4)]);
    let answer = until("503");
    assert!(
        answer.contains("kerberos.acceptor[1].keytab: it holds no usable key of HTTP/www.test"),
        "{answer}"
    );
}

#[test]
fn it_answers_although_nobody_reads_its_log_and_no_line_is_lost_that_had_room() {
    const REFUSED: usize = 1000;
    let folder = made();
    let broker = Serving::start(&folder);
    let socket = folder.path("made/mesh.sock");
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = "POST /oauth2/token HTTP/1.1\r\nhost: k\r\ncontent-length: 0\r\n\r\n";
    for _ in 0..REFUSED {
        // Each is one line of the log, and the pipe to us holds some hundreds.
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 4096];
        let count = stream.read(&mut answer).unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 400 "));
    }
    assert!(get(&socket, "/healthz").starts_with("HTTP/1.1 200 "));
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("\"message\":\"refused\"").count(), REFUSED);
}

#[test]
fn a_broker_that_cannot_read_what_is_revoked_ends_and_its_audit_says_of_no_start() {
    let folder = made();
    let config = folder.path("made/kerbridge.toml");
    let table = "\n[audit]\nto = \"file\"\nfile = \"audit.log\"\n";
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, good + table).unwrap();
    let broker = Serving::start(&folder);
    let revoke = [
        "revoke",
        "--config",
        "made/kerbridge.toml",
        "--subject",
        "mallory@A.TEST",
    ];
    assert!(folder.run(&revoke).status.success());
    broker.signal(Signal::TERM);
    assert_eq!(broker.end().0.code(), Some(0));
    let audit = folder.path("made/audit.log");
    let events = fs::read_to_string(&audit).unwrap();
    assert!(
        events.lines().next().unwrap().contains("\"broker started\""),
        "{events}"
    );
    let store = folder.path("made/state/store.redb");
    let (name, odd) = (b"mallory@A.TEST", b"\x01allory@A.TEST");
    let mut bytes = fs::read(&store).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + odd.len()].copy_from_slice(odd);
    }
    fs::write(&store, bytes).unwrap();
    fs::remove_file(&audit).unwrap();
    let (status, complaint) = Serving::begin(&folder).listening().map(drop).unwrap_err();
    assert_eq!((status.code(), complaint.as_str()), (Some(70), ""));
    assert_eq!(fs::read_to_string(&audit).unwrap(), "");
}

#[test]
fn the_first_line_of_the_log_is_plain_json() {
    let folder = made();
    let broker = Serving::start(&folder);
    broker.signal(Signal::TERM);
    let (_, log) = broker.end();
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(first["message"], "started");
    assert_eq!(first["realms"], "A.TEST");
    assert_eq!(first["principals"], "HTTP/api.test@A.TEST HTTP/www.test@A.TEST");
}

/// A broker with `observe` on a socket of its own, and the paths of both sockets.
fn observed(folder: &Folder, limits: &str) -> (Serving, PathBuf, PathBuf) {
    let config = folder.path("made/kerbridge.toml");
    let good = fs::read_to_string(&config).unwrap();
    let observe = "[listen.observe]\nunix = \"observe.sock\"\n[kerberos]";
    let text = good.replace("[kerberos]", observe).replace("#[limits]", limits);
    fs::write(&config, text).unwrap();
    let broker = Serving::start(folder);
    (broker, folder.path("made/mesh.sock"), folder.path("made/observe.sock"))
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("waited for {what}");
}

/// A request whose handler waits for the rest of its body, the 10 bytes that are missing.
fn in_flight(socket: &Path) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 10\r\nexpect: 100-continue";
    write!(stream, "POST /oauth2/token HTTP/1.1\r\nhost: k\r\n{form}\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    // It is told to go on by the handler that begins to read.
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    reader.read_line(&mut line).unwrap();
    reader
}

#[test]
fn while_requests_are_in_flight_after_sigterm_observe_says_draining_and_goes_last() {
    let folder = made();
    let (broker, mesh, observe) = observed(&folder, "[limits]\ndrain = \"60s\"");
    assert!(get(&observe, "/readyz").starts_with("HTTP/1.1 200 "));
    let mut busy = in_flight(&mesh);
    broker.signal(Signal::TERM);
    // Nobody is taken on any more.
    wait_until("the end of mesh", || UnixStream::connect(&mesh).is_err());
    let answer = get(&observe, "/readyz");
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("draining\n"),
        "{answer}"
    );
    assert!(get(&observe, "/healthz").starts_with("HTTP/1.1 200 "));
    busy.get_mut().write_all(b"0123456789").unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!observe.exists());
}

#[test]
fn for_the_time_of_the_notice_everything_is_served_while_readyz_says_draining() {
    let folder = made();
    let (broker, mesh, observe) = observed(&folder, "[limits]\ndrain_notice = \"60s\"");
    broker.signal(Signal::TERM);
    for socket in [&observe, &mesh] {
        wait_until("draining", || get(socket, "/readyz").ends_with("draining\n"));
    }
    assert!(get(&mesh, "/.well-known/jwks.json").starts_with("HTTP/1.1 200 "));
    // A second signal ends the notice.
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    // Without a second one it ends by itself.
    let folder = made();
    let (broker, ..) = observed(&folder, "[limits]\ndrain_notice = \"1s\"");
    broker.signal(Signal::TERM);
    assert_eq!(broker.end().0.code(), Some(0));
}
