//! Sends what the mix says: one client over a kept HTTP/1.1 connection, the next over HTTP/2, which curl speaks.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Request;
use kerbridge_tests::process::{OwnedProcess, Spawn};

use crate::mix::{Hand, Mix, Shot, Tally};

/// How long one round may take.
const WITHIN: Duration = Duration::from_secs(120);
/// Begins the line that curl writes behind each answer.
const MARK: &str = "\nsoak: ";

/// Counts down when a client ends, however it ends.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sends so many requests, round by round.
pub(crate) fn run(world: &World, mix: &Mix, number: usize, requests: usize, round: usize, done: &AtomicUsize) -> Tally {
    let (mut hand, mut tally) = (Hand::new(number), Tally::default());
    let mut left = requests;
    while left > 0 {
        let shots: Vec<Shot> = (0..round.min(left)).map(|_| mix.next(world, &mut hand)).collect();
        if number.is_multiple_of(2) {
            send_http1(world, &shots);
        } else {
            send_http2(world, &shots);
        }
        for shot in &shots {
            tally.count(shot.kind);
        }
        left -= shots.len();
        done.fetch_add(shots.len(), Ordering::SeqCst);
    }
    tally
}

fn send_http1(world: &World, shots: &[Shot]) {
    // One connection for a round, so that both workers have their part.
    let mut connection = world.connect().unwrap();
    for shot in shots {
        let mut request = Request::get(&shot.path);
        if let Some((name, value)) = &shot.credential {
            request = request.header(name, value);
        }
        let answer = connection.exchange(&request).unwrap();
        shot.check(answer.status, &answer.body);
    }
}

fn send_http2(world: &World, shots: &[Shot]) {
    let folder = tempfile::tempdir().unwrap();
    let authority = world.certificates().authority.display().to_string();
    let mut config = String::new();
    for (at, shot) in shots.iter().enumerate() {
        if at > 0 {
            config.push_str("next\n");
        }
        writeln!(
            config,
            "silent\nshow-error\nhttp2\nnoproxy = \"*\"\nmax-time = 40\ncacert = \"{authority}\""
        )
        .unwrap();
        writeln!(config, "write-out = \"\\nsoak: %{{http_code}} %{{http_version}}\\n\"").unwrap();
        writeln!(config, "url = \"{}\"", world.url(&shot.path)).unwrap();
        if let Some((name, value)) = &shot.credential {
            writeln!(config, "header = \"{name}: {value}\"").unwrap();
        }
    }
    let file = folder.path().join("requests");
    std::fs::write(&file, config).unwrap();
    let spawn = Spawn::new("curl", folder.path())
        .args(["--disable", "--config"])
        .arg(&file);
    let mut process = OwnedProcess::start(spawn).unwrap();
    let status = process.wait_exit(WITHIN).unwrap();
    let printed = process.log();
    assert!(status.success(), "{status}: {printed}");
    let mut answers = printed.split(MARK);
    let mut body = answers.next().unwrap();
    for shot in shots {
        // Behind the line of one answer comes the body of the next.
        let (line, next) = answers.next().unwrap().split_once('\n').unwrap();
        let (code, version) = line.split_once(' ').unwrap();
        assert_eq!(version, "2");
        shot.check(code.parse().unwrap(), body.as_bytes());
        body = next;
    }
}
