use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::super::conformance;
use super::*;
use crate::queue::Queue;
use crate::store::job::Job;
use crate::store::keeper::Keeper;
use crate::store::{Consumed, Kind, ReplayTag, Revocation, Store as _, Target};
use crate::time::UnixTime;

const DEADLINE: Duration = Duration::from_secs(20);

fn histogram() -> Histogram {
    Histogram::new([0.001])
}

fn open(folder: &TempDir) -> KeptStore {
    KeptStore::in_file(folder.path(), 1024, DEADLINE, histogram()).unwrap()
}

fn tag(number: u64) -> ReplayTag {
    ReplayTag::of(&number.to_be_bytes())
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

#[tokio::test]
async fn it_keeps_what_every_store_promises() {
    let fresh = || tempfile::tempdir().unwrap();
    conformance::a_tag_is_first_once(&open(&fresh())).await;
    conformance::of_many_at_once_one_is_first(Arc::new(open(&fresh()))).await;
    conformance::many_tags_at_once_are_all_first(Arc::new(open(&fresh()))).await;
    conformance::sweeping_forgets_what_has_ended_and_nothing_else(&open(&fresh())).await;
    let folder = fresh();
    conformance::what_was_used_up_stays_so_after_a_restart(|| Arc::new(open(&folder))).await;
}

#[tokio::test]
async fn it_keeps_what_every_store_promises_of_revocations() {
    use conformance::revocations::*;
    let fresh = || open(&tempfile::tempdir().unwrap());
    what_comes_after_a_version_is_read_in_order(&fresh()).await;
    revocations_of_one_target_are_merged(&fresh()).await;
    several_are_revoked_at_once_in_their_order(&fresh()).await;
    what_is_lifted_is_gone_and_cannot_be_gone_on_with(&fresh()).await;
    what_no_token_can_need_is_swept_and_nothing_else(&fresh()).await;
    the_end_of_tokens_never_moves_back(&fresh()).await;
    revocations_at_the_same_time_are_in_commit_order(Arc::new(fresh())).await;
    let folder = tempfile::tempdir().unwrap();
    revocations_stay_after_a_restart(|| Arc::new(open(&folder)), &fresh()).await;
}

#[tokio::test]
async fn the_store_of_tests_keeps_the_same_promises() {
    use super::super::memory::MemoryStore;
    use conformance::revocations::*;
    what_comes_after_a_version_is_read_in_order(&MemoryStore::new()).await;
    revocations_of_one_target_are_merged(&MemoryStore::new()).await;
    several_are_revoked_at_once_in_their_order(&MemoryStore::new()).await;
    what_is_lifted_is_gone_and_cannot_be_gone_on_with(&MemoryStore::new()).await;
    what_no_token_can_need_is_swept_and_nothing_else(&MemoryStore::new()).await;
    the_end_of_tokens_never_moves_back(&MemoryStore::new()).await;
    revocations_at_the_same_time_are_in_commit_order(Arc::new(MemoryStore::new())).await;
    conformance::a_tag_is_first_once(&MemoryStore::new()).await;
    conformance::sweeping_forgets_what_has_ended_and_nothing_else(&MemoryStore::new()).await;
}

#[tokio::test]
async fn a_file_of_an_earlier_format_is_copied_and_brought_up_and_forgets_nothing() {
    for format in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let tags = [*tag(1).as_bytes(), *tag(2).as_bytes()];
        file::tests::write_earlier(&path, format, &tags, 1000);
        let store = open(&folder);
        for number in [1, 2] {
            assert_eq!(store.consume_once(tag(number), at(1000)).await, Ok(Consumed::Again));
        }
        assert_eq!(store.consume_once(tag(3), at(1000)).await, Ok(Consumed::First));
        let first = store.revoked_since(0, 1).await.unwrap();
        assert_eq!((first.newest.version, first.recorded.len()), (0, 0));
        // The copy is what the release of before goes on with, and is nobody else's to read.
        let copy = folder.path().join(format!("store.redb.format-{format}"));
        let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(file::tests::read_earlier(&copy, format), tags);
        drop(store);
        let names = |folder: &TempDir| std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names(&folder), 2, "something is left over");
        let again = open(&folder);
        let known = again.revoked_since(0, 1).await.unwrap();
        assert_eq!(known.newest.epoch, first.newest.epoch, "migrated once");
        assert_eq!(again.sweep(at(1000)).await.unwrap().tags, 3);
    }
}

#[tokio::test]
async fn what_was_written_before_a_migration_that_did_not_come_to_its_end_is_in_the_next_ones_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    file::tests::write_earlier(&path, 1, &[*tag(1).as_bytes()], 1000);
    std::fs::write(folder.path().join("store.redb.format-1"), b"an earlier one").unwrap();
    std::fs::write(folder.path().join("store.redb.tmp"), b"half of one").unwrap();
    drop(open(&folder));
    let copy = folder.path().join("store.redb.format-1");
    assert_eq!(file::tests::read_earlier(&copy, 1), [*tag(1).as_bytes()]);
    assert!(!folder.path().join("store.redb.tmp").exists());
}

#[tokio::test]
async fn a_copy_of_the_file_at_any_time_knows_all_that_was_answered() {
    // As a broker leaves it that is killed: not closed.
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&folder);
    for number in 0..20 {
        assert_eq!(store.consume_once(tag(number), at(1000)).await, Ok(Consumed::First));
        std::fs::copy(folder.path().join(FILE), copy.path().join(FILE)).unwrap();
        let copied = open(&copy);
        for known in 0..=number {
            assert_eq!(
                copied.consume_once(tag(known), at(1000)).await,
                Ok(Consumed::Again),
                "{known}"
            );
        }
    }
}

#[tokio::test]
async fn a_store_that_is_swept_stops_growing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&folder));
    let (mut number, mut sizes) = (0_u64, Vec::new());
    for round in 0..40_u64 {
        let calls = (0..500).map(|_| {
            number += 1;
            let (store, tag) = (Arc::clone(&store), tag(number));
            tokio::spawn(async move { store.consume_once(tag, at(1000 + round)).await })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap(), Ok(Consumed::First));
        }
        // Each round's tags live for four more.
        store.sweep(at((1000 + round).saturating_sub(4))).await.unwrap();
        sizes.push(std::fs::metadata(folder.path().join(FILE)).unwrap().len());
    }
    let (early, late) = (sizes[..10].iter().max(), sizes[10..].iter().max());
    assert!(late <= early, "{sizes:?}");
}

#[tokio::test]
async fn waiting_calls_share_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder);
    let mut answers = Vec::new();
    let jobs: Vec<Job> = (0..300)
        .map(|number| {
            let (done, answer) = oneshot::channel();
            answers.push(answer);
            let (tag, until) = (tag(number % 100), at(1000));
            Job::Consume { tag, until, done }
        })
        .collect();
    keeper.group(jobs);
    let mut first = 0;
    for answer in answers {
        first += usize::from(answer.await.unwrap() == Ok(Consumed::First));
    }
    assert_eq!(first, 100);
    let mut text = String::new();
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("commits", "", keeper.commits.clone());
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("commits_count 1"), "{text}");
}

fn keeper(folder: &TempDir) -> Keeper<Embedded> {
    let path = folder.path().join(FILE);
    Keeper {
        opened: Some(StoreFile::open(&path).unwrap()),
        place: Embedded(path),
        broken: None,
        commits: histogram(),
    }
}

#[tokio::test]
async fn whatever_byte_of_a_store_is_another_a_look_at_it_ends_with_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    for number in 0..40 {
        store.consume_once(tag(number), at(1000)).await.unwrap();
        let target = Target::new(Kind::Token, &format!("token {number}")).unwrap();
        let revocation = Revocation {
            target,
            issued_at_or_before: None,
            needed_until: None,
        };
        store.revoke(revocation, at(1)).await.unwrap();
    }
    drop(store);
    let good = std::fs::read(folder.path().join(FILE)).unwrap();
    let (mut fine, mut bad) = (0, 0);
    for place in (0..good.len())
        .step_by(4096)
        .flat_map(|page| [page, page + 9, page + 300])
    {
        // In a folder of its own: redb mends what it opens.
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join(FILE);
        let mut bytes = good.clone();
        let Some(byte) = bytes.get_mut(place) else { continue };
        *byte ^= 0x41;
        std::fs::write(&path, bytes).unwrap();
        match (check_file(&path), export_file(&path)) {
            (Ok(_), Ok(_)) => fine += 1,
            _ => bad += 1,
        }
    }
    assert!(fine > 0 && bad > 0, "{fine} {bad}");
}

#[tokio::test]
async fn a_file_that_is_gone_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder);
    // As after an error of the disk.
    keeper.opened = None;
    std::fs::remove_file(folder.path().join(FILE)).unwrap();
    assert!(matches!(keeper.reopen(), Err(StoreError::Broken(_))));
    assert!(!folder.path().join(FILE).exists());
}

#[tokio::test]
async fn whoever_has_gone_uses_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder);
    let (done, answer) = oneshot::channel();
    drop(answer);
    keeper.group(vec![Job::Consume {
        tag: tag(1),
        until: at(1000),
        done,
    }]);
    drop(keeper);
    assert_eq!(open(&folder).consume_once(tag(1), at(1000)).await, Ok(Consumed::First));
}

#[tokio::test]
async fn more_than_may_wait_are_refused_at_once_and_a_late_answer_is_none() {
    let (_alive, ended) = channel();
    // A disk that hangs: nobody takes anything out of the queue.
    let store = KeptStore {
        is_shared: false,
        queue: Arc::new(Queue::new(1)),
        deadline: Duration::from_millis(20),
        waiting: Default::default(),
        thread: None,
        ended: Mutex::new(ended),
    };
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Err(StoreError::Late));
    assert_eq!(store.consume_once(tag(2), at(1000)).await, Err(StoreError::Full));
    store.queue.close();
    drop(_alive);
    assert_eq!(store.consume_once(tag(3), at(1000)).await, Err(StoreError::Closed));
}

#[test]
fn the_file_is_the_brokers_alone_and_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(&folder);
    let mode = std::fs::metadata(folder.path().join(FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let problem = KeptStore::in_file(folder.path(), 1, DEADLINE, histogram()).unwrap_err();
    assert_eq!(problem.field, "state_dir");
}

#[test]
fn a_file_of_another_release_or_of_no_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    drop(open(&folder));
    file::tests::set_format(&path, 4);
    let problem = KeptStore::in_file(folder.path(), 1, DEADLINE, histogram())
        .unwrap_err()
        .to_string();
    assert!(
        problem.contains("it has format 4, and this release knows 3; run the release that wrote it"),
        "{problem}"
    );
    std::fs::write(&path, b"no store at all").unwrap();
    let problem = KeptStore::in_file(folder.path(), 1, DEADLINE, histogram())
        .unwrap_err()
        .to_string();
    assert!(problem.starts_with("state_dir: "), "{problem}");
    assert_eq!(std::fs::read(&path).unwrap(), b"no store at all");
}
