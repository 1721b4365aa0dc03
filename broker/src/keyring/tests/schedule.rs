//! What the schedule does, and what it leaves to commands.

use std::time::Duration;

use super::super::rotation::tend;
use super::*;
use crate::metrics::Metrics;
use crate::revocation::Revocations;
use crate::store::memory::MemoryStore;
use crate::store::{Answer, Changes, Consumed, ReplayTag, Revocation, Revoked, Store, Swept, Target};
use crate::time::Clock;

fn start(folder: &TempDir, rotation: &Rotation) -> KeyRing {
    KeyRing::start(folder.path(), &kek("A"), rotation, at(0)).unwrap()
}

fn refused<T: fmt::Debug>(outcome: Result<T, ChangeError>) -> RotateError {
    match outcome {
        Err(ChangeError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_schedule_switches_to_no_key_that_was_not_published_for_long_enough_and_a_command_does() {
    let folder = tempfile::tempdir().unwrap();
    let ring = start(&folder, &every(100, 10));
    let first = ring.signing().id().to_owned();
    let switch = |now| ring.switch(at(now), at(200), By::Schedule);
    assert_eq!(refused(switch(100)), RotateError::NoOther);
    let next = ring.publish(at(95), By::Schedule).unwrap();
    assert_eq!(refused(switch(104)), RotateError::NoOther);
    assert_eq!(ids(&ring), [first.clone(), next.clone()]);
    assert_eq!(switch(105).unwrap(), next);
    let made = ring.switch_now(at(106), at(200), By::Offline { uid: 0 }).unwrap();
    assert_eq!(ids(&ring), [made, next, first]);
}

/// A store that takes so long that an administrator retires the signing key meanwhile.
#[derive(Debug)]
struct Slow {
    store: MemoryStore,
    ring: KeyRing,
}

impl Store for Slow {
    fn consume_once(&self, tag: ReplayTag, until: UnixTime) -> Answer<'_, Consumed> {
        self.store.consume_once(tag, until)
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn revoke_all(&self, revocations: Vec<Revocation>, now: UnixTime) -> Answer<'_, Vec<Revoked>> {
        self.store.revoke_all(revocations, now)
    }

    fn lift(&self, target: Target) -> Answer<'_, Option<crate::store::Position>> {
        self.store.lift(target)
    }

    fn revoked_since(&self, version: u64, most: usize) -> Answer<'_, Changes> {
        self.store.revoked_since(version, most)
    }

    fn tokens_end(&self, at_least: UnixTime) -> Answer<'_, UnixTime> {
        let signing = self.ring.signing().id().to_owned();
        let by = By::Administrator { uid: None };
        self.ring.retire(&signing, at(100), by).unwrap();
        self.store.tokens_end(at_least)
    }

    fn sweep(&self, now: UnixTime) -> Answer<'_, Swept> {
        self.store.sweep(now)
    }
}

fn revocations(store: Arc<dyn Store>) -> Revocations {
    Revocations::new(store, "https://issuer.test", 60, Metrics::new().revocations())
}

#[tokio::test]
async fn what_the_schedule_decided_before_a_command_came_between_is_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let ring = start(&folder, &every(100, 10));
    let next = ring.publish(at(90), By::Schedule).unwrap();
    let store = MemoryStore::new();
    let slow = revocations(Arc::new(Slow {
        store,
        ring: ring.clone(),
    }));
    let metrics = Metrics::new().keys();
    assert_eq!(tend(&ring, &slow, &metrics, at(100)).await, Ok(()));
    // The next has taken the retired one's place, and no key signs that was not published.
    assert_eq!(ids(&ring), [next]);
}

#[test]
fn no_key_is_made_that_could_not_be_published() {
    let folder = tempfile::tempdir().unwrap();
    let ring = start(&folder, &every(100, 10));
    let publish = || ring.publish_new(|| panic!("a key was made"), at(100), By::Schedule);
    ring.publish(at(90), By::Schedule).unwrap();
    assert_eq!(refused(publish()), RotateError::AlreadyPublished);
    while ring.list().len() < MOST_KEYS {
        ring.switch_now(at(100), at(200), By::Schedule).unwrap();
    }
    ring.switch_now(at(100), at(200), By::Schedule).unwrap_err();
    assert_eq!(refused(publish()), RotateError::TooMany);
}

#[test]
fn a_key_that_was_made_for_a_change_that_could_not_be_written_is_that_of_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let ring = start(&folder, &every(100, 10));
    let in_the_way = folder.path().join(FILE).with_extension("json.tmp");
    let (mut made, again) = (None, || panic!("a second key was made"));
    let make = || {
        let held = Held::generate(SigningAlgorithm::Es256)?;
        made = Some(held.key.id().to_owned());
        Ok(held)
    };
    fs::create_dir(&in_the_way).unwrap();
    ring.publish_new(make, at(90), By::Schedule).unwrap_err();
    ring.publish_new(again, at(95), By::Schedule).unwrap_err();
    ring.switch_now(at(96), at(200), By::Schedule).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    let next = ring.publish_new(again, at(97), By::Schedule).unwrap();
    assert_eq!(Some(&next), made.as_ref());
    // It is nobody's any more.
    ring.switch(at(120), at(200), By::Schedule).unwrap();
    assert_ne!(ring.publish(at(190), By::Schedule).unwrap(), next);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_failed_is_left_alone_for_some_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let ring = start(&folder, &every(100, 10));
    let file = fs::read(folder.path().join(FILE)).unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    let store = Arc::new(revocations(Arc::new(MemoryStore::new())));
    let (metrics, clock) = (Metrics::new().keys(), Clock::Fixed(at(95)));
    let schedule = tokio::spawn(follow_schedule(ring.clone(), store, metrics, clock));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The disk is there again.
    fs::create_dir(folder.path()).unwrap();
    fs::write(folder.path().join(FILE), file).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ring.list().len(), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ring.list().len(), 2);
    schedule.abort();
}
