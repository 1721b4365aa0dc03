//! Prints what revocations cost a broker by how many there are: the store's file, the start, memory, a snapshot of the feed, the
//! next delta, a look-up, one more revocation.
//!
//! ```text
//! make bench-revocations
//! ```
//!
//! Last it prints what it costs a broker to ask a PostgreSQL of this machine, before it gives anything, what another one has revoked.
//!
//! Each size is filled by one process and served by another, so that what is resident is what a broker has that was started with
//! such a store.

#![forbid(unsafe_code)]
#![expect(clippy::arithmetic_side_effects, reason = "its numbers are its own")]
#![expect(clippy::disallowed_methods, reason = "it is time that is measured")]

use std::error::Error;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbridge_broker::keyring::{KeyEncryptionKey, KeyRing, Rotation};
use kerbridge_broker::metrics::{DatabaseMetrics, Metrics};
use kerbridge_broker::revocation::{By, Order, Revocations, TokenNames};
use kerbridge_broker::store::{
    FILE, KeptStore, Kind, PostgresConfig, PostgresHost, ReplayTag, Revocation, Store, Target,
};
use kerbridge_broker::time::Clock;
use kerbridge_tests::postgres::Postgres;
use kerbridge_wire::feed::{BODY_LIMIT, JWS_LIMIT};
use kerbridge_wire::feed_query::FeedQuery;
use prometheus_client::metrics::histogram::Histogram;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SIZES: [u64; 4] = [0, 1000, 100_000, 1_000_000];
const ISSUER: &str = "https://broker.test";
/// Revocations that are under way at once while a store is filled.
const AT_ONCE: usize = 4096;
/// Look-ups, deltas and revocations that are timed.
const TIMES: u32 = 1000;
const REVOCATIONS: u32 = 50;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fill", size, folder] => fill(size.parse()?, Path::new(folder)),
        ["serve", size, folder] => serve(size.parse()?, Path::new(folder)),
        ["shared"] => shared(),
        _ => all(),
    }
}

/// One line for each size.
fn all() -> Outcome<()> {
    writeln!(
        stdout(),
        "| revocations | file MiB | to revoke, a second | start s | resident MiB | pages | largest page KiB | snapshot ms | again ms \
         | delta µs | look-up ns | one more ms |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    for size in SIZES {
        let folder = tempfile::tempdir()?;
        for step in ["fill", "serve"] {
            let output = Command::new(std::env::current_exe()?)
                .args([step, &size.to_string()])
                .arg(folder.path())
                .output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            stdout().write_all(&output.stdout)?;
        }
    }
    shared()
}

/// What an exchange asks a database that other brokers have, too.
fn shared() -> Outcome<()> {
    let server = Postgres::start()?;
    let config = PostgresConfig {
        hosts: vec![PostgresHost::Unix {
            folder: server.socket_folder(),
            port: server.port(),
        }],
        database: server.new_database()?,
        user: "kerbridge".into(),
        password: None,
    };
    let store = KeptStore::in_database(
        &config,
        AT_ONCE,
        Duration::from_secs(60),
        Histogram::new([1.0]),
        DatabaseMetrics::default(),
    );
    let store: Arc<dyn Store> = Arc::new(store.map_err(|problem| problem.to_string())?);
    let revocations = Revocations::new(Arc::clone(&store), ISSUER, 900, Metrics::new().revocations());
    let revocations = Arc::new(revocations);
    let runtime = runtime()?;
    runtime.block_on(revocations.load(Clock::System))?;
    writeln!(
        stdout(),
        "\n| exchanges at once | tag alone, ms | with a look at revocations, ms | look alone, ms |\n|--:|--:|--:|--:|"
    )?;
    let mut used = 0;
    for at_once in [1, 8, 64] {
        let mut mean = |tags: bool, looks: bool| -> Outcome<f64> {
            let began = Instant::now();
            for _ in 0..TIMES / at_once {
                runtime.block_on(async {
                    let mut under_way = tokio::task::JoinSet::new();
                    for _ in 0..at_once {
                        used += 1;
                        under_way.spawn(exchange(
                            Arc::clone(&store),
                            Arc::clone(&revocations),
                            used,
                            tags,
                            looks,
                        ));
                    }
                    while let Some(done) = under_way.join_next().await {
                        done??;
                    }
                    Outcome::Ok(())
                })?;
            }
            Ok(milliseconds(began.elapsed()) / f64::from(TIMES / at_once))
        };
        let (tag, both, look) = (mean(true, false)?, mean(true, true)?, mean(false, true)?);
        writeln!(stdout(), "| {at_once} | {tag:.2} | {both:.2} | {look:.2} |")?;
    }
    Ok(())
}

/// What an exchange of a ticket waits for, or one of a token.
async fn exchange(
    store: Arc<dyn Store>,
    revocations: Arc<Revocations>,
    number: u64,
    tags: bool,
    looks: bool,
) -> Result<(), String> {
    let tag = async {
        match tags {
            true => store
                .consume_once(ReplayTag::of(&number.to_be_bytes()), Clock::System.now().plus(660))
                .await
                .map(drop)
                .map_err(|error| error.to_string()),
            false => Ok(()),
        }
    };
    let look = async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        match looks {
            true => revocations.catch_up(deadline).await.map_err(|error| error.to_string()),
            false => Ok(()),
        }
    };
    let (tag, look) = tokio::join!(tag, look);
    tag.and(look)
}

fn open(folder: &Path) -> Outcome<Arc<dyn Store>> {
    let store = KeptStore::in_file(folder, AT_ONCE, Duration::from_secs(60), Histogram::new([1.0]));
    Ok(Arc::new(store.map_err(|problem| problem.to_string())?))
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// Revokes so many tokens, each by a call of its own.
fn fill(size: u64, folder: &Path) -> Outcome<()> {
    let (store, now) = (open(folder)?, Clock::System.now());
    let began = Instant::now();
    runtime()?.block_on(async {
        let mut under_way = tokio::task::JoinSet::new();
        for number in 0..size {
            if under_way.len() >= AT_ONCE
                && let Some(done) = under_way.join_next().await
            {
                done??;
            }
            let store = Arc::clone(&store);
            let revocation = Revocation {
                target: Target::new(Kind::Token, &format!("{number:022}"))?,
                issued_at_or_before: None,
                needed_until: Some(now.plus(3600)),
            };
            under_way.spawn(async move { store.revoke(revocation, now).await.map(drop) });
        }
        while let Some(done) = under_way.join_next().await {
            done??;
        }
        Outcome::Ok(())
    })?;
    let rate = match began.elapsed().as_secs_f64() {
        seconds if size > 0 => format!("{:.0}", size as f64 / seconds),
        _ => "-".into(),
    };
    drop(store);
    let mebibytes = std::fs::metadata(folder.join(FILE))?.len() >> 20;
    write!(stdout(), "| {size} | {mebibytes} | {rate} ")?;
    Ok(())
}

/// Serves them as a broker does.
fn serve(size: u64, folder: &Path) -> Outcome<()> {
    let key = KeyEncryptionKey::from_base64(&"A".repeat(43)).map_err(|_| "no key")?;
    let keyring = KeyRing::start(
        folder,
        &key,
        &Rotation::default(),
        kerbridge_broker::time::UnixTime::default(),
    )
    .map_err(|error| error.to_string())?;
    let key = keyring.signing();
    let runtime = runtime()?;
    let before = resident()?;
    let began = Instant::now();
    let revocations = Revocations::new(open(folder)?, ISSUER, 900, Metrics::new().revocations());
    runtime.block_on(revocations.load(Clock::System))?;
    let start = began.elapsed().as_secs_f64();
    let page = |query| runtime.block_on(revocations.page(query, &key));
    let (position, entries, _) = revocations.stand().ok_or("nothing was read")?;
    if u64::try_from(entries)? != size {
        return Err(format!("{entries} of {size} were read").into());
    }

    let count = wanted(size);
    let pages = || -> Outcome<usize> {
        let mut largest = 0;
        for number in 0..count {
            let query = match number {
                0 => FeedQuery::Snapshot,
                page => FeedQuery::Page {
                    epoch: position.epoch,
                    version: position.version,
                    base: None,
                    page,
                    at: None,
                },
            };
            largest = largest.max(page(query)?.len());
        }
        Ok(largest)
    };
    let began = Instant::now();
    let largest = pages()?;
    let snapshot = milliseconds(began.elapsed());
    if largest > JWS_LIMIT + 1 + BODY_LIMIT {
        return Err(format!("a page has {largest} bytes").into());
    }
    let began = Instant::now();
    pages()?;
    let again = milliseconds(began.elapsed());
    let resident = resident()?.saturating_sub(before) >> 20;

    let since = FeedQuery::Since {
        epoch: position.epoch,
        version: position.version,
    };
    let began = Instant::now();
    for _ in 0..TIMES {
        page(since)?;
    }
    let delta = began.elapsed().as_micros() / u128::from(TIMES);

    let now = Clock::System.now();
    let names: Vec<String> = (0..u64::from(TIMES))
        .map(|number| format!("{:022}", number * 997))
        .collect();
    let began = Instant::now();
    for token in &names {
        let names = TokenNames {
            token: Some(token),
            session: Some("session"),
            subject: "alice@LAB.TEST",
            issued: Some(now),
        };
        std::hint::black_box(revocations.check(&names, now).is_err());
    }
    let look_up = began.elapsed().as_nanos() / u128::from(TIMES);

    let by = By::Administrator { uid: Some(0) };
    let began = Instant::now();
    for number in 0..REVOCATIONS {
        let target = Target::new(Kind::Token, &format!("more {number}"))?;
        runtime.block_on(revocations.revoke(Order::token(target, Some(now.plus(900))), &by, Clock::System))?;
    }
    let one_more = milliseconds(began.elapsed()) / f64::from(REVOCATIONS);
    writeln!(
        stdout(),
        "| {start:.2} | {resident} | {count} | {} | {snapshot:.1} | {again:.1} | {delta} | {look_up} | {one_more:.1} |",
        largest >> 10
    )?;
    Ok(())
}

/// Pages of a snapshot.
fn wanted(size: u64) -> u32 {
    let pages = size.div_ceil(kerbridge_wire::feed::PAGE_ENTRIES as u64).max(1);
    u32::try_from(pages).unwrap_or(u32::MAX)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Bytes of memory that the process has.
fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
