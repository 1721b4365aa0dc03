//! A process that writes is killed at any moment, again and again: what it said was done is there, and the file opens.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "tests and their helpers may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kerbridge_broker::keyring::{By, KeyEncryptionKey, KeyRing, Rotation, Stage};
use kerbridge_broker::store::{Consumed, EmbeddedStore, Kind, ReplayTag, Revocation, Store as _, Target};
use kerbridge_broker::time::UnixTime;
use prometheus_client::metrics::histogram::Histogram;

/// The folder of the process that is killed.
const FOLDER: &str = "KERBRIDGE_KILLED_FOLDER";
const ROUNDS: u64 = 25;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

fn store(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(folder, 64, Duration::from_secs(20), Histogram::new([1.0])).unwrap()
}

fn target(number: u64) -> Target {
    Target::new(Kind::Session, &number.to_string()).unwrap()
}

fn tag(number: u64) -> ReplayTag {
    ReplayTag::of(&number.to_be_bytes())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Runs one of the writers below as a process of its own, kills it after it has said so many lines, and returns all that it said.
fn killed(writer: &str, folder: &Path, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", writer, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said_done = |line: &String| line.starts_with("done ");
    let mut done: Vec<String> = said.by_ref().filter(said_done).take(lines).collect();
    assert_eq!(
        child.try_wait().unwrap(),
        None,
        "{writer} ended by itself after {done:?}"
    );
    child.kill().unwrap();
    // What it said before it was gone counts, too.
    done.extend(said.filter(said_done));
    child.wait().unwrap();
    done
}

fn numbers(line: &str) -> Vec<u64> {
    line.split(' ').filter_map(|word| word.parse().ok()).collect()
}

#[test]
#[ignore = "it is killed by the test below"]
fn a_writer_of_the_store() {
    // All ignored tests are run as well, where nobody is there to kill it.
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = store(Path::new(&folder));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut number = store.revoked_since(0, 0).await.unwrap().newest.version * 1000;
        loop {
            number += 1;
            let revocation = Revocation {
                target: target(number),
                issued_at_or_before: None,
                needed_until: Some(at(1_000_000)),
            };
            let revoked = store.revoke(revocation, at(1)).await.unwrap();
            say(&format!("done revoke {number} {}", revoked.position.version));
            assert_eq!(
                store.consume_once(tag(number), at(1_000_000)).await,
                Ok(Consumed::First)
            );
            say(&format!("done consume {number}"));
            if number % 3 == 0 {
                store.lift(target(number)).await.unwrap().unwrap();
                say(&format!("done lift {number}"));
            }
            let end = store.tokens_end(at(number)).await.unwrap();
            say(&format!("done end {}", end.seconds()));
            store.sweep(at(1000)).await.unwrap();
        }
    });
}

#[tokio::test]
async fn of_a_store_whose_writer_was_killed_nothing_is_lost_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut revoked, mut lifted, mut used) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let (mut newest, mut end) = (0, 0);
    for round in 0..ROUNDS {
        let lines = usize::try_from(round * 7 % 23 + 1).unwrap();
        for line in killed("a_writer_of_the_store", folder.path(), lines) {
            let numbers = numbers(&line);
            match (line.split(' ').nth(1).unwrap(), numbers.as_slice()) {
                ("revoke", [number, version]) => {
                    assert!(*version > newest, "{line} after {newest}");
                    newest = *version;
                    revoked.insert(*number, *version);
                }
                ("consume", [number]) => used.push(*number),
                ("lift", [number]) => {
                    lifted.insert(*number);
                }
                ("end", [seconds]) => end = end.max(*seconds),
                other => panic!("{other:?}"),
            }
        }
        let store = store(folder.path());
        let changes = store.revoked_since(0, usize::MAX).await.unwrap();
        assert!(changes.newest.version >= newest);
        newest = changes.newest.version;
        let there: BTreeMap<u64, u64> = changes
            .recorded
            .iter()
            .map(|one| (one.revocation.target.value().parse().unwrap(), one.version))
            .collect();
        for (number, version) in &revoked {
            // The last one may have been lifted without an answer.
            let may_be_lifted = lifted.contains(number) || Some(number) == revoked.keys().last();
            assert!(there.get(number) == Some(version) || may_be_lifted, "{number} is lost");
            assert!(
                !there.contains_key(number) || !lifted.contains(number),
                "{number} is back"
            );
        }
        for number in &used {
            assert_eq!(
                store.consume_once(tag(*number), at(1_000_000)).await,
                Ok(Consumed::Again)
            );
        }
        assert!(store.tokens_end(at(0)).await.unwrap() >= at(end));
        drop(store);
        kerbridge_broker::store::check_file(&folder.path().join("store.redb")).unwrap();
    }
    assert!(
        revoked.len() > 50 && lifted.len() > 10 && used.len() > 50,
        "{}",
        revoked.len()
    );
}

fn kek(fill: &str) -> KeyEncryptionKey {
    KeyEncryptionKey::from_base64(&fill.repeat(43)).unwrap()
}

fn ring(folder: &Path) -> KeyRing {
    KeyRing::start(folder, &kek("A"), &Rotation::default(), at(1)).unwrap()
}

/// The identifiers of its keys, in their order.
fn ids(ring: &KeyRing) -> String {
    let ids: Vec<String> = ring.list().into_iter().map(|key| key.id).collect();
    ids.join(",")
}

#[test]
#[ignore = "it is killed by the test below"]
fn a_writer_of_the_keys() {
    // All ignored tests are run as well, where nobody is there to kill it.
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let ring = ring(Path::new(&folder));
    // Time goes on from writer to writer.
    let last = ring.list().into_iter().map(|key| match key.stage {
        Stage::Signing { since } => since.seconds(),
        Stage::Next | Stage::Old { .. } => key.published.seconds(),
    });
    let start = last.max().unwrap() / 5 * 5 + 6;
    // Of the one that was killed between the two.
    if ring.list().iter().any(|key| matches!(key.stage, Stage::Next)) {
        ring.switch(at(start), at(start), By::Schedule).unwrap();
    }
    say(&format!("done {start} {}", ids(&ring)));
    for now in start + 1.. {
        match now % 5 {
            0 => ring.publish(at(now), By::Schedule).map(drop),
            1 => ring.switch(at(now), at(now + 3), By::Schedule).map(drop),
            2 => ring.forget(at(now), By::Schedule),
            3 => ring.add_kek(&kek("E"), By::Schedule),
            _ => ring.only_kek(&kek("A"), By::Schedule),
        }
        .unwrap();
        say(&format!("done {now} {}", ids(&ring)));
    }
}

#[test]
fn of_keys_whose_writer_was_killed_the_last_change_that_was_answered_is_there_or_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut total, mut switched) = (0, 0);
    for round in 0..ROUNDS {
        let lines = usize::try_from(round * 7 % 23 + 1).unwrap();
        let said = killed("a_writer_of_the_keys", folder.path(), lines);
        total += said.len();
        let Some((now, before)) = said.last().and_then(|line| {
            let (now, ids) = line.strip_prefix("done ")?.split_once(' ')?;
            Some((now.parse::<u64>().unwrap(), list(ids)))
        }) else {
            continue;
        };
        switched += said.iter().filter(|line| numbers(line)[0] % 5 == 1).count();
        let after = list(&ids(&ring(folder.path())));
        // What was answered, or that and the whole of what came next.
        assert!(
            after == before || is_next(now + 1, &before, &after),
            "{before:?} became {after:?} at {now}"
        );
        let left: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["keyring.json", "keyring.json.tmp"].contains(&name.as_str()))
            .collect();
        assert_eq!(left, [] as [String; 0]);
    }
    assert!(total > 200 && switched > 20, "{total} {switched}");
}

fn list(ids: &str) -> Vec<String> {
    ids.split(',').map(str::to_owned).collect()
}

/// Whether the writer's step at this number leads from one list to the other.
fn is_next(now: u64, before: &[String], after: &[String]) -> bool {
    match (now % 5, before, after) {
        // The next key stands behind the one that signs.
        (0, [signing, old @ ..], [still, _, rest @ ..]) => signing == still && old == rest,
        (1, [signing, next, old @ ..], [now, before, rest @ ..]) => (signing, next, old) == (before, now, rest),
        // The oldest go.
        (2, _, [_, ..]) => before.starts_with(after),
        _ => false,
    }
}
