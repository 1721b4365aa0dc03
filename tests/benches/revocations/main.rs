//! Measures what a million revocations cost a real Envoy that serves meanwhile: memory, the requests that come while the table is
//! built, and how soon one more revocation counts.
//!
//! Run by `make bench-revocations`, and prints. Nothing here is asserted but that the right tokens are refused.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kerbridge_tests::bench::processor::resident_kib;
use kerbridge_tests::bench::program::{self, say};
use kerbridge_tests::http::{Connection, Request};
use kerbridge_tests::issuer::{FEED, ISSUER, Issuer, token_entry};
use kerbridge_tests::tls::TlsStream;
use kerbridge_tests::token::now;
use kerbridge_tests::wait::{Deadline, wait_until};
use kerbridge_tests::{HarnessError, World};
use kerbridge_wire::feed::{Entry, RevocationKey};
use serde_json::json;

/// Revocations of the large feed.
const REVOCATIONS: usize = 1_000_000;
/// Revocations that are made behind it, one by one.
const SINGLE: usize = 20;
/// Worker threads.
const WORKERS: u64 = 2;
/// Longest wait for anything.
const WITHIN: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    program::main(run, || Ok(()))
}

fn run() -> Result<(), HarnessError> {
    let issuer = Issuer::start()?;
    issuer.revoke(&[token_entry("before")]);
    // Polls as shipped.
    let more = json!({"jwks": {"poll": "2s", "max_staleness": "1h"},
        "feed": {"cluster": "id", "path": FEED, "poll": "2s", "max_staleness": "1h"}});
    let builder = World::builder()
        .broker_stopped()
        .concurrency(u32::try_from(WORKERS).unwrap_or(1))
        .filter(|filter| {
            // The broker is no part of this, and its feed never comes.
            if let Some(broker) = filter
                .pointer_mut("/issuers/0")
                .and_then(serde_json::Value::as_object_mut)
            {
                broker.remove("feed");
            }
        });
    let mut world = issuer.join(builder, more).start()?;
    let envoy = world.envoy().process().pid();
    let (good, known) = (issuer.token(&json!({}))?, issuer.token(&json!({"jti": "before"}))?);
    until_refused(&world, &known)?;
    let bare = resident_kib(envoy)?;
    let quiet = latencies(&world, &good, || {
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    })?;
    say(&format!("with one revocation: {} MiB; requests {quiet}", bare / 1024));

    let entries: Vec<Entry> = (0..REVOCATIONS).map(entry).collect();
    let last = issuer.token(&json!({"jti": id(REVOCATIONS.saturating_sub(1))}))?;
    let first = issuer.token(&json!({"jti": id(0)}))?;
    // Another store, so that all of it is read anew.
    issuer.forget_all(8);
    issuer.revoke(&entries);
    let clock = Deadline::after(WITHIN);
    let busy = latencies(&world, &good, || {
        until_refused(&world, &last)?;
        until_refused(&world, &first)
    })?;
    let (took, full) = (clock.elapsed(), resident_kib(envoy)?);
    say(&format!(
        "with {REVOCATIONS}: {} MiB, {} MiB a worker more; read by all workers {took:.1?} after they were published; requests \
         meanwhile {busy}",
        full / 1024,
        full.saturating_sub(bare) / 1024 / WORKERS,
    ));

    let mut delays = Vec::new();
    for number in 0..SINGLE {
        let name = format!("single-{number}");
        let token = issuer.token(&json!({"jti": name}))?;
        issuer.revoke(&[token_entry(&name)]);
        let answered = Deadline::after(WITHIN);
        until_refused(&world, &token)?;
        delays.push(answered.elapsed());
    }
    let most = delays.iter().max().copied().unwrap_or_default();
    let mean = delays
        .iter()
        .sum::<Duration>()
        .checked_div(u32::try_from(delays.len()).unwrap_or(1))
        .unwrap_or_default();
    say(&format!(
        "{SINGLE} more, one by one: refused by all workers after {mean:.2?} in the mean, {most:.2?} at most"
    ));
    say(&format!("at the end: {} MiB", resident_kib(envoy)? / 1024));
    world.envoy().stop()
}

fn id(number: usize) -> String {
    format!("t{number}")
}

fn entry(number: usize) -> Entry {
    Entry::new(
        RevocationKey::token(ISSUER, &id(number)),
        now().saturating_add(36_000),
        None,
    )
}

fn ask(connection: &mut Connection<TlsStream>, token: &str) -> Result<u16, HarnessError> {
    let request = Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
    let answer = connection.exchange(&request).map_err(|source| HarnessError::Http {
        what: "a request of the benchmark".to_owned(),
        source,
    })?;
    Ok(answer.status)
}

/// Waits until twenty requests in a row, over all workers, are refused.
fn until_refused(world: &World, token: &str) -> Result<(), HarnessError> {
    let refused = || {
        world
            .connect()
            .and_then(|mut connection| ask(&mut connection, token))
            .is_ok_and(|status| status == 401)
    };
    wait_until("a refusal by all workers", WITHIN, || (0..20).all(|_| refused()))
}

/// How long requests took.
struct Latencies(Vec<Duration>);

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |part: usize| {
            let last = self.0.len().saturating_sub(1);
            self.0
                .get(last.saturating_mul(part) / 1000)
                .copied()
                .unwrap_or_default()
        };
        write!(
            f,
            "{}: median {:.2?}, 99 % within {:.2?}, longest {:.2?}",
            self.0.len(),
            at(500),
            at(990),
            at(1000)
        )
    }
}

/// Sends request after request with a good token to each of some connections while something is done, and sorts how long they took.
fn latencies(
    world: &World,
    token: &str,
    meanwhile: impl FnOnce() -> Result<(), HarnessError>,
) -> Result<Latencies, HarnessError> {
    let is_over = AtomicBool::new(false);
    let mut connections = (0..4).map(|_| world.connect()).collect::<Result<Vec<_>, _>>()?;
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| {
            let mut took = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                for connection in &mut connections {
                    let asked = Deadline::after(WITHIN);
                    let status = ask(connection, token)?;
                    if status != 200 {
                        return Err(HarnessError::UnexpectedAnswer {
                            what: "a good token's request".to_owned(),
                            answer: status.to_string(),
                        });
                    }
                    took.push(asked.elapsed());
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            took.sort_unstable();
            Ok(Latencies(took))
        });
        let done = meanwhile();
        is_over.store(true, Ordering::SeqCst);
        let took = probe.join().map_err(|_panicked| HarnessError::UnexpectedAnswer {
            what: "a thread that sends".to_owned(),
            answer: "it panicked".to_owned(),
        })?;
        done.and(took)
    })
}
