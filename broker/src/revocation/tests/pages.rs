//! What filters are told, as the filter's own reader takes it.

use std::rc::Rc;

use kerbridge_gate::UnixTime as GateTime;
use kerbridge_gate::feed::{Accepted, Feed, FeedError, Known, Origin, Progress, UnverifiedPage, VerifiedPage};
use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::revocation::RevocationKeys;
use kerbridge_wire::feed::{Entry, Hex, PAGE_ENTRIES, RevocationKey};
use kerbridge_wire::filter_config::Algorithm;

use super::*;
use crate::keyring::{KeyEncryptionKey, KeyRing};
use crate::revocation::view::View;

pub(super) fn ring() -> KeyRing {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyEncryptionKey::from_base64(&"A".repeat(43)).unwrap();
    KeyRing::open_or_create(folder.path(), &key).unwrap()
}

fn keys(ring: &KeyRing) -> KeySet {
    KeySet::parse(ring.jwks().as_bytes(), &[Algorithm::Es256]).unwrap()
}

fn gate_time(seconds: u64) -> GateTime {
    GateTime::from_seconds(seconds).unwrap()
}

fn verified(page: &[u8], ring: &KeyRing) -> VerifiedPage {
    let page = UnverifiedPage::read(page.to_vec(), &keys(ring)).unwrap();
    let is_good = page.signature().verify();
    page.resume(is_good).unwrap()
}

pub(super) fn feed() -> Feed {
    Feed::new(Rc::from(ISSUER), 60, 300)
}

/// What a filter asks next.
pub(super) fn question(feed: &Feed, base: Option<u64>) -> FeedQuery {
    match (feed.wants(), feed.position()) {
        (Some((position, page)), _) => FeedQuery::Page {
            epoch: position.epoch,
            version: position.version,
            base,
            page,
            at: feed.began(),
        },
        (None, Some(position)) => FeedQuery::Since {
            epoch: position.epoch,
            version: position.version,
        },
        (None, None) => FeedQuery::Snapshot,
    }
}

/// Gives a page to a filter, and lets it read it.
pub(super) fn take(
    feed: &mut Feed,
    page: &[u8],
    ring: &KeyRing,
    now: u64,
) -> Result<(Accepted, Option<u64>), FeedError> {
    let page = verified(page, ring);
    let base = page.claims().base;
    let accepted = feed.accept(page, Origin::Fetched, gate_time(now))?;
    while accepted == Accepted::Reading && feed.step(gate_time(now))? == Progress::Working {}
    Ok((accepted, base))
}

/// Asks until the filter has all that is new.
pub(super) async fn follow(feed: &mut Feed, revocations: &Revocations, ring: &KeyRing, now: u64) -> usize {
    let (mut pages, mut base) = (0_usize, None);
    loop {
        let page = revocations.page(question(feed, base), &ring.signing()).await.unwrap();
        (_, base) = take(feed, &page, ring, now).unwrap();
        pages = pages.saturating_add(1);
        if feed.wants().is_none() {
            return pages;
        }
    }
}

pub(super) fn revokes(known: &Known, session: &str, issued: u64, now: u64) -> bool {
    let keys = RevocationKeys::new(ISSUER, Some("t"), Some(session), "alice");
    known.revocations.revokes(&keys, gate_time(issued), gate_time(now))
}

#[tokio::test]
async fn a_filter_learns_what_is_revoked_and_what_is_no_more() {
    let ((_, revocations), ring) = (fresh(), ring());
    let mut feed = feed();
    assert_eq!(follow(&mut feed, &revocations, &ring, NOW).await, 1);
    assert!(feed.known().unwrap().revocations.is_empty());
    revoke(&revocations, Order::up_to(target(Kind::Session, "s"), at(NOW)), NOW).await;
    revoke(&revocations, Order::ban(target(Kind::Session, "r"), None), NOW).await;
    follow(&mut feed, &revocations, &ring, NOW).await;
    let known = feed.known().unwrap();
    assert!(revokes(&known, "s", NOW, NOW) && revokes(&known, "r", NOW + 9, NOW + 9));
    assert!(!revokes(&known, "s", NOW + 1, NOW + 1) && !revokes(&known, "q", NOW, NOW));
    // A later one of the same session moves on.
    revoke(
        &revocations,
        Order::up_to(target(Kind::Session, "s"), at(NOW + 5)),
        NOW + 5,
    )
    .await;
    follow(&mut feed, &revocations, &ring, NOW + 5).await;
    assert!(revokes(&feed.known().unwrap(), "s", NOW + 5, NOW + 5));
    revocations
        .lift(&target(Kind::Session, "r"), &ROOT, clock(NOW + 6))
        .await
        .unwrap();
    follow(&mut feed, &revocations, &ring, NOW + 6).await;
    let known = feed.known().unwrap();
    assert!(!revokes(&known, "r", NOW, NOW + 6) && revokes(&known, "s", NOW, NOW + 6));
    assert_eq!(feed.position().unwrap().version, revocations.stand().unwrap().0.version);
}

#[tokio::test]
async fn whatever_happens_a_filter_that_asks_comes_to_what_the_store_says() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let ring = ring();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = proptest::collection::vec((0..5_u8, 0..6_u8, 0..4_u64), 1..40);
    for _ in 0..30 {
        let ((_, revocations), mut feed, mut now) = (fresh(), feed(), NOW);
        for (step, number, time) in steps.new_tree(&mut runner).unwrap().current() {
            now += time;
            let named = target(Kind::Session, &format!("v{number}"));
            match (step, time) {
                (0, _) => drop(revoke(&revocations, Order::up_to(named, at(now)), now).await),
                (1, _) => drop(revoke(&revocations, Order::ban(named, None), now).await),
                (2, _) => drop(revocations.lift(&named, &ROOT, clock(now)).await.unwrap()),
                (3, 0) => feed = self::feed(),
                _ => drop(follow(&mut feed, &revocations, &ring, now).await),
            }
        }
        revocations.refresh(clock(now)).await.unwrap();
        follow(&mut feed, &revocations, &ring, now).await;
        let known = feed.known().unwrap();
        for number in 0..6 {
            let session = format!("v{number}");
            for issued in NOW..=now {
                let names = TokenNames {
                    token: Some("t"),
                    session: Some(&session),
                    subject: "alice",
                    issued: Some(at(issued)),
                };
                let is_revoked = revocations.check(&names, at(now)).is_err();
                assert_eq!(
                    revokes(&known, &session, issued, now),
                    is_revoked,
                    "{session} at {issued}"
                );
            }
        }
        assert_eq!(known.freshness.as_of(), gate_time(now));
    }
}

#[tokio::test]
async fn when_nothing_happens_a_question_costs_one_signature_a_second() {
    let ((_, revocations), ring) = (fresh(), ring());
    revoke(&revocations, Order::ban(target(Kind::Session, "r"), None), NOW).await;
    let position = revocations.stand().unwrap().0;
    let query = FeedQuery::Since {
        epoch: position.epoch,
        version: position.version,
    };
    let first = revocations.page(query, &ring.signing()).await.unwrap();
    for _ in 0..100 {
        assert_eq!(revocations.page(query, &ring.signing()).await.unwrap(), first);
    }
    revocations.refresh(clock(NOW + 1)).await.unwrap();
    let second = revocations.page(query, &ring.signing()).await.unwrap();
    assert_ne!(second, first);
    let claims = |page: &[u8]| verified(page, &ring).claims().clone();
    let (first, second) = (claims(&first), claims(&second));
    assert_eq!((first.iat, second.iat), (NOW, NOW + 1));
    assert_eq!(
        (first.base, first.version, first.entries, first.pages),
        (Some(1), 1, 0, 1)
    );
    // Another key has never signed it.
    let other = self::ring();
    let page = revocations.page(query, &other.signing()).await.unwrap();
    verified(&page, &other);
}

#[tokio::test]
async fn a_page_is_as_old_as_the_last_look_into_the_store() {
    let ((store, revocations), ring) = (fresh(), ring());
    let mut feed = feed();
    follow(&mut feed, &revocations, &ring, NOW).await;
    store.fail(Some(StoreError::Late));
    assert!(revocations.refresh(clock(NOW + 100)).await.is_err());
    follow(&mut feed, &revocations, &ring, NOW + 100).await;
    let freshness = feed.known().unwrap().freshness;
    assert_eq!(freshness.as_of(), gate_time(NOW));
    assert!(freshness.is_fresh(gate_time(NOW + 300)) && !freshness.is_fresh(gate_time(NOW + 301)));
}

#[tokio::test]
async fn who_knows_more_than_the_store_or_of_another_gets_all_of_it() {
    let ((_, revocations), ring) = (fresh(), ring());
    revoke(&revocations, Order::ban(target(Kind::Session, "r"), None), NOW).await;
    let position = revocations.stand().unwrap().0;
    for (epoch, version, base) in [
        (position.epoch, 2, None),
        (Hex([1; 16]), 1, None),
        (position.epoch, 0, Some(0)),
        (position.epoch, 1, Some(1)),
    ] {
        let query = FeedQuery::Since { epoch, version };
        let page = revocations.page(query, &ring.signing()).await.unwrap();
        let claims = verified(&page, &ring).claims().clone();
        assert_eq!((claims.base, claims.version), (base, 1), "{query:?}");
    }
    let before_anything = of(&Arc::new(MemoryStore::new()), 900);
    let outcome = before_anything.page(FeedQuery::Snapshot, &ring.signing()).await;
    assert_eq!(outcome, Err(PageError::NotRead));
}

fn many(from: usize, count: usize) -> Vec<(u64, Entry)> {
    (from..from.saturating_add(count))
        .map(|number| {
            let key = RevocationKey::token(ISSUER, &number.to_string());
            (number as u64, Entry::new(key, u64::MAX, None))
        })
        .collect()
}

/// A table with so many entries, of versions from 1 on.
fn large(entries: usize) -> (Arc<RwLock<View>>, Position) {
    let mut view = View::default();
    let newest = Position {
        epoch: Hex([7; 16]),
        version: entries as u64,
    };
    view.take(many(1, entries), newest, 0, Some(at(NOW)), Instant::now());
    (Arc::new(RwLock::new(view)), newest)
}

#[tokio::test]
async fn a_snapshot_of_several_pages_stays_whole_while_more_is_revoked() {
    let ring = ring();
    let entries = PAGE_ENTRIES * 2 + 5;
    let (view, mut newest) = large(entries);
    let pages = Pages::new(ISSUER);
    let mut feed = feed();
    let mut query = FeedQuery::Snapshot;
    for page in 0..3 {
        let bytes = pages.page(query, &view, &ring.signing()).await.unwrap();
        assert!(bytes.len() <= kerbridge_gate::feed::PAGE_LIMIT);
        take(&mut feed, &bytes, &ring, NOW).unwrap();
        // Between two pages somebody revokes.
        newest.version += 1;
        let later = many(entries + 1 + page, 1);
        view.write()
            .unwrap()
            .take(later, newest, 0, Some(at(NOW + page as u64)), Instant::now());
        query = question(&feed, None);
    }
    assert!(feed.wants().is_none());
    assert_eq!(feed.known().unwrap().revocations.len(), entries);
    // Then what came meanwhile.
    let bytes = pages.page(query, &view, &ring.signing()).await.unwrap();
    take(&mut feed, &bytes, &ring, NOW + 2).unwrap();
    assert_eq!(feed.known().unwrap().revocations.len(), entries + 3);
    assert_eq!(feed.position().unwrap().version, newest.version);
}

#[tokio::test]
async fn a_page_of_what_is_no_longer_kept_is_answered_with_all_that_is_newest() {
    let ring = ring();
    let (view, newest) = large(PAGE_ENTRIES + 1);
    let pages = Pages::new(ISSUER);
    for (version, base, page) in [
        (newest.version - 1, None, 1),
        (newest.version, None, 2),
        (newest.version, Some(3), 1),
    ] {
        let query = FeedQuery::Page {
            epoch: newest.epoch,
            version,
            base,
            page,
            at: None,
        };
        let bytes = pages.page(query, &view, &ring.signing()).await.unwrap();
        let claims = verified(&bytes, &ring).claims().clone();
        assert_eq!((claims.base, claims.page, claims.version), (None, 0, newest.version));
    }
}

#[tokio::test]
async fn a_snapshot_of_several_pages_is_cut_once_in_a_while_however_much_is_revoked() {
    let ring = ring();
    let (view, mut newest) = large(PAGE_ENTRIES + 1);
    let pages = Pages::new(ISSUER);
    let version = async || {
        let bytes = pages.page(FeedQuery::Snapshot, &view, &ring.signing()).await.unwrap();
        verified(&bytes, &ring).claims().version
    };
    let first = version().await;
    for (seconds, expected) in [(1, first), (2, first), (3, first + 3)] {
        newest.version += 1;
        let later = many(usize::try_from(newest.version).unwrap(), 1);
        view.write()
            .unwrap()
            .take(later, newest, 0, Some(at(NOW + seconds)), Instant::now());
        assert_eq!(version().await, expected, "{seconds}");
    }
}

#[tokio::test]
async fn what_is_kept_of_questions_is_bounded() {
    let ring = ring();
    let (view, newest) = large(100);
    let pages = Pages::new(ISSUER);
    for version in 0..100 {
        let query = FeedQuery::Since {
            epoch: newest.epoch,
            version,
        };
        pages.page(query, &view, &ring.signing()).await.unwrap();
    }
    assert_eq!(pages.count(), 16);
}
