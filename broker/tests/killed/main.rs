//! A process that writes is killed at any moment, again and again: what it said was done is there, and the file opens.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "tests and their helpers may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kerbridge_broker::keyring::{By, KeyEncryptionKey, KeyRing, Rotation, Stage};
use kerbridge_broker::store::{Consumed, KeptStore, Kind, ReplayTag, Revocation, Store as _, Target};
use kerbridge_broker::time::UnixTime;
use prometheus_client::metrics::histogram::Histogram;

/// The folder of the process that is killed.
const FOLDER: &str = "KERBRIDGE_KILLED_FOLDER";
const ROUNDS: u64 = 25;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

fn store(folder: &Path) -> KeptStore {
    KeptStore::in_file(folder, 64, Duration::from_secs(20), Histogram::new([1.0])).unwrap()
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
    // One that ended by itself was not killed in the middle of anything.
    assert_eq!(done.len(), lines, "{writer} ended early: {done:?}");
    assert_eq!(child.try_wait().unwrap(), None, "{writer} ended early");
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
        // The last one may have been lifted without an answer; it stays so.
        if let Some(last) = revoked.keys().last()
            && last % 3 == 0
            && !there.contains_key(last)
        {
            lifted.insert(*last);
        }
        for (number, version) in &revoked {
            assert!(
                there.get(number) == Some(version) || lifted.contains(number),
                "{number} is lost"
            );
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

/// What the writer does, in turn, for ever.
const STEPS: [&str; 6] = ["publish", "switch", "forget", "add", "back", "only"];

/// How many key-encryption keys open the file, and the identifiers of its keys in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    keks: usize,
    ids: Vec<String>,
}

impl State {
    fn of(ring: &KeyRing) -> Self {
        Self {
            keks: ring.keks().len(),
            ids: ring.list().into_iter().map(|key| key.id).collect(),
        }
    }

    fn read(keks: &str, ids: &str) -> Self {
        Self {
            keks: keks.parse().unwrap(),
            ids: ids.split(',').map(str::to_owned).collect(),
        }
    }

    /// What a step makes of it; `found` says the name of a key that is new.
    fn after(&self, step: &str, found: &Self) -> Self {
        let mut after = self.clone();
        match step {
            "publish" => {
                let new = found.ids.get(1).cloned().unwrap_or_default();
                assert!(!self.ids.contains(&new), "{self:?} became {found:?}");
                after.ids.insert(1, new);
            }
            "switch" => after.ids.swap(0, 1),
            // All have ended but the one that has just stopped.
            "forget" => after.ids.truncate(2),
            // The first is made the newer of the two again.
            "add" | "back" => after.keks = 2,
            _ => after.keks = 1,
        }
        after
    }
}

#[test]
#[ignore = "it is killed by the test below"]
fn a_writer_of_the_keys() {
    // All ignored tests are run as well, where nobody is there to kill it.
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let ring = ring(Path::new(&folder));
    let kept = |stage: &Stage| match stage {
        Stage::Old { kept_until, .. } => kept_until.seconds(),
        Stage::Next | Stage::Signing { .. } => 0,
    };
    let list = ring.list();
    // After all that was before.
    let last = list.iter().map(|key| key.published.seconds().max(kept(&key.stage)));
    let first = last.max().unwrap() + 1;
    let has_next = list.iter().any(|key| key.stage == Stage::Next);
    for (now, step) in (first..).zip(STEPS.iter().cycle().skip(usize::from(has_next))) {
        // It says what is there, and what it does then.
        let State { keks, ids } = State::of(&ring);
        say(&format!("done {step} {keks} {}", ids.join(",")));
        match *step {
            "publish" => ring.publish(at(now), By::Schedule).map(drop),
            "switch" => ring.switch_now(at(now), at(now + 3), By::Schedule).map(drop),
            "forget" => ring.forget(at(now), By::Schedule),
            "add" => ring.add_kek(&kek("E"), By::Schedule),
            "back" => ring.add_kek(&kek("A"), By::Schedule),
            _ => ring.only_kek(&kek("A"), By::Schedule),
        }
        .unwrap();
    }
}

#[test]
fn of_keys_whose_writer_was_killed_the_last_change_that_was_answered_is_there_or_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut ended_before = BTreeSet::new();
    for round in 0..ROUNDS {
        // Each step is done at least once.
        let lines = STEPS.len() + 1 + usize::try_from(round * 7 % 23).unwrap();
        let said = killed("a_writer_of_the_keys", folder.path(), lines);
        let last: Vec<&str> = said.last().unwrap().split(' ').collect();
        let &[_, step, keks, ids] = last.as_slice() else {
            panic!("{said:?}")
        };
        let before = State::read(keks, ids);
        let found = State::of(&ring(folder.path()));
        if found != before {
            assert_eq!(found, before.after(step, &found), "{step} after {before:?}");
        }
        ended_before.insert(step.to_owned());
        let left: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["keyring.json", "keyring.json.tmp"].contains(&name.as_str()))
            .collect();
        assert_eq!(left, [] as [String; 0]);
    }
    assert!(ended_before.len() > 1, "it is always killed before {ended_before:?}");
}
