//! Opens a stream of each kind, lets everything that the filter asks fall silent, and sees each end with its token.

use std::io::Read as _;
use std::thread::JoinHandle;
use std::time::Duration;

use kerbridge_tests::faults::{Proof, Protocol};
use kerbridge_tests::http::Connection;
use kerbridge_tests::tls::TlsStream;
use kerbridge_tests::token::{now, with};
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::wait_until;
use serde_json::json;

use crate::answers::token;
use crate::cell::{COOKIE, UPGRADE, show, speak};
use crate::harness::Plan;
use crate::stage::{GOOD, Stage};
use crate::{Check, same};

/// Seconds that the tokens live: enough to open all streams where nothing else keeps the machine busy.
const LIFE: u64 = 6;
/// As long as they live at most.
const LONGEST_LIFE: u64 = 96;
/// Seconds after its token's end within which a stream has ended: it is looked at each second, on a busy machine.
const MARGIN: u64 = 3;

/// A stream that is open, and the time at which it ended.
pub(crate) struct Open {
    name: String,
    path: String,
    ended: JoinHandle<u64>,
    ends: u64,
}

fn kinds() -> impl Iterator<Item = (Proof, Protocol)> {
    let of = |proof: Proof| Protocol::ALL.map(|protocol| (proof, protocol));
    Proof::ALL.into_iter().flat_map(of)
}

fn name(proof: Proof, protocol: Protocol) -> String {
    format!("open-stream/{}/{}", proof.name(), protocol.name())
}

/// The names of the cases.
pub(crate) fn names() -> impl Iterator<Item = String> {
    kinds().map(|(proof, protocol)| name(proof, protocol))
}

/// Opens a stream for each case, and takes away all that the filter could ask.
pub(crate) fn open(stage: &Stage, plan: &Plan) -> Vec<Open> {
    let wanted: Vec<_> = kinds()
        .filter(|(proof, protocol)| plan.wants(&name(*proof, *protocol)))
        .collect();
    // Where the machine is too busy to open all before their tokens end, they are opened again with tokens that live longer.
    let mut life = LIFE;
    let streams = loop {
        let streams = begin_all(stage, &wanted, now() + life);
        if are_all_there(stage, &streams) {
            break streams;
        }
        life *= 2;
        assert!(life <= LONGEST_LIFE, "not all streams are at the service");
    };
    stage.script.fall_silent();
    streams
}

fn begin_all(stage: &Stage, wanted: &[(Proof, Protocol)], ends: u64) -> Vec<Open> {
    stage.script.end_at(ends);
    let each = wanted.iter();
    each.map(|(proof, protocol)| begin(stage, *proof, *protocol, ends))
        .collect()
}

/// Waits until all are at the service, or their tokens end. Whether they are.
fn are_all_there(stage: &Stage, streams: &[Open]) -> bool {
    let are_there = || {
        let arrived: Vec<String> = stage.service.requests().iter().map(target).collect();
        streams.iter().all(|stream| arrived.contains(&stream.path))
    };
    let have_ended = || streams.iter().any(|stream| stream.ends <= now());
    let within = Duration::from_secs(LONGEST_LIFE);
    wait_until("all streams at the service", within, || are_there() || have_ended()).unwrap();
    !have_ended()
}

fn begin(stage: &Stage, proof: Proof, protocol: Protocol, ends: u64) -> Open {
    let inverse = proof == Proof::Inverse;
    let (front, audience) = if inverse {
        ("/legacy", "legacy")
    } else {
        ("/faults", "orders")
    };
    let path = format!("{front}/stream/{}/{ends}/{}", proof.name(), protocol.name());
    let token = token(&stage.script.key, GOOD, audience, |claims| {
        with(claims, "exp", json!(ends))
    });
    let ended = if protocol == Protocol::WebSocket {
        let connection = stage.world.connect().unwrap();
        let origin = stage.world.url("").trim_end_matches('/').to_owned();
        let credential = match proof {
            Proof::Bearer | Proof::Inverse => format!("authorization: Bearer {token}"),
            Proof::Cookie => format!("cookie: {COOKIE}={token}"),
            Proof::Negotiate => "authorization: Negotiate YIIabcdefghijklmnopqrstuvwxyz".to_owned(),
        };
        let upgrade = UPGRADE.join("\r\n");
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost:{}\r\norigin: {origin}\r\n{credential}\r\n{upgrade}\r\n\r\n",
            stage.world.port()
        );
        std::thread::spawn(move || read_to_the_end(connection, &head))
    } else {
        let curl = speak(show(stage.request(&path), proof, &token), protocol);
        std::thread::spawn(move || {
            // It is cut off, which is no error here.
            curl.send().map_or(0, |_cut| now())
        })
    };
    Open {
        name: name(proof, protocol),
        path,
        ended,
        ends,
    }
}

fn read_to_the_end(mut connection: Connection<TlsStream>, head: &str) -> u64 {
    connection.send_raw(head.as_bytes()).unwrap();
    let mut rest = [0; 4096];
    while connection.stream().read(&mut rest).is_ok_and(|read| read > 0) {}
    now()
}

/// Waits for the end of each.
pub(crate) fn finish(stage: &Stage, streams: Vec<Open>, report: &mut dyn FnMut(&str, Check)) {
    for stream in streams {
        let ended = stream.ended.join().unwrap();
        report(&stream.name, check(stage, &stream.path, ended, stream.ends));
    }
}

fn check(stage: &Stage, path: &str, ended: u64, ends: u64) -> Check {
    let line = stage.logged(path);
    same(
        "the response-code details",
        &line["details"].as_str(),
        &Some("kerbridge_expired"),
    )?;
    let status = if path.ends_with("websocket") { 101 } else { 200 };
    same("the status", &line["status"].as_u64(), &Some(status))?;
    if (ends..=ends + MARGIN).contains(&ended) {
        Ok(())
    } else {
        Err(format!("it ended at {ended}, its token at {ends}"))
    }
}
