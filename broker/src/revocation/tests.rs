mod pages;
mod several;

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use kerbridge_gate::revocation::LEEWAY;
use kerbridge_wire::policy as raw;

use super::*;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::problem::Problems;
use crate::store::Revocation;
use crate::store::memory::MemoryStore;

const ISSUER: &str = "https://broker.test";
const NOW: u64 = 2000;
const ROOT: By<'_> = By::Administrator { uid: Some(0) };

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

fn clock(seconds: u64) -> Clock {
    Clock::Fixed(at(seconds))
}

fn of(store: &Arc<MemoryStore>, longest_life: u64) -> Revocations {
    let store = Arc::<MemoryStore>::clone(store);
    Revocations::new(store, ISSUER, longest_life, Metrics::new().revocations())
}

/// Of a new store in memory, loaded at [`NOW`], for tokens of 15 minutes.
pub(crate) fn fresh() -> (Arc<MemoryStore>, Arc<Revocations>) {
    let store = Arc::new(MemoryStore::new());
    let revocations = of(&store, 900);
    // Nothing in it has to wait.
    {
        let loading = pin!(tokio::task::coop::unconstrained(revocations.load(clock(NOW))));
        let loaded = loading.poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(loaded, Poll::Ready(Ok(())));
    }
    (store, Arc::new(revocations))
}

/// A broker's, with nothing revoked.
pub(crate) fn none() -> Arc<Revocations> {
    fresh().1
}

fn target(kind: Kind, value: &str) -> Target {
    Target::new(kind, value).unwrap()
}

async fn revoke(revocations: &Revocations, order: Order, now: u64) -> Revocation {
    revocations.revoke(order, &ROOT, clock(now)).await.unwrap().revocation
}

/// alice's session is "session".
fn grant() -> Grant {
    let text = r#"
        audience = [{ name = "orders" }]
        grant = [{ principals = ["*@A.TEST"], audience = "orders", scopes = [] }]
        route = [{ path = "/", access = "open" }]"#;
    let mut problems = Problems::default();
    let file: raw::Policy = crate::strict_toml::read(text, &mut problems).unwrap();
    let policy = Policy::build(&file, &mut problems).unwrap();
    policy
        .grant(Identity::for_test("alice@A.TEST"), "orders", None)
        .unwrap()
}

fn issued(revocations: &Revocations, now: u64) -> Result<u64, RevocationError> {
    let grant = grant();
    let unrevoked = revocations.admit(&grant, at(now))?;
    Ok(unrevoked.issued().seconds())
}

#[tokio::test]
async fn nothing_is_minted_for_what_was_revoked_without_a_time() {
    for (kind, value) in [(Kind::Session, "session"), (Kind::Subject, "alice@A.TEST")] {
        let (_, revocations) = fresh();
        for other in ["session2", "bob@A.TEST", "alice@B.TEST", "alice"] {
            revoke(&revocations, Order::ban(target(kind, other), None), NOW).await;
        }
        assert_eq!(issued(&revocations, NOW), Ok(NOW));
        revoke(&revocations, Order::ban(target(kind, value), None), NOW).await;
        for later in [0, 1, 86_400, 10_000_000] {
            let refused = issued(&revocations, NOW + later).unwrap_err();
            assert_eq!(refused, RevocationError::Revoked(kind));
            assert_eq!(refused.reason(), Reason::Revoked);
        }
        revocations.lift(&target(kind, value), &ROOT, clock(NOW)).await.unwrap();
        assert_eq!(issued(&revocations, NOW), Ok(NOW));
    }
}

#[tokio::test]
async fn who_was_taken_out_comes_back_by_no_other_case_of_their_name() {
    for (banned, comes) in [("ALICE@A.TEST", "alice@A.TEST"), ("alice@A.TEST", "Alice@A.TEST")] {
        let (_, revocations) = fresh();
        revoke(&revocations, Order::ban(target(Kind::Subject, banned), None), NOW).await;
        assert!(issued(&revocations, NOW).is_err());
        let names = TokenNames {
            token: None,
            session: None,
            subject: comes,
            issued: None,
        };
        assert!(revocations.check(&names, at(NOW)).is_err(), "{banned} {comes}");
        // It is one entry, however it is named.
        let lifted = revocations.lift(&target(Kind::Subject, comes), &ROOT, clock(NOW)).await;
        lifted.unwrap();
        assert_eq!(issued(&revocations, NOW), Ok(NOW));
    }
}

#[tokio::test]
async fn a_ban_with_an_end_ends() {
    let (_, revocations) = fresh();
    let order = Order::ban(target(Kind::Subject, "alice@A.TEST"), Some(at(NOW + 100)));
    revoke(&revocations, order, NOW).await;
    assert!(issued(&revocations, NOW + 100).is_err());
    let after = NOW + 101;
    assert_eq!(issued(&revocations, after), Ok(after));
}

#[tokio::test]
async fn a_token_is_never_issued_at_or_before_a_time_of_revocation() {
    for (kind, value) in [(Kind::Session, "session"), (Kind::Subject, "alice@A.TEST")] {
        let (_, revocations) = fresh();
        revoke(&revocations, Order::up_to(target(kind, value), at(NOW)), NOW).await;
        for (now, issued_at) in [
            (NOW - 59, NOW + 1),
            (NOW, NOW + 1),
            (NOW + 1, NOW + 1),
            (NOW + 2, NOW + 2),
        ] {
            assert_eq!(issued(&revocations, now), Ok(issued_at), "at {now}");
        }
        // A clock that was set back by more than verifiers allow.
        assert_eq!(issued(&revocations, NOW - 60), Err(RevocationError::Revoked(kind)));
    }
}

#[tokio::test]
async fn a_token_is_taken_by_what_names_it_and_was_issued_by_then() {
    let (_, revocations) = fresh();
    let order = |kind, value, time: Option<u64>| match time {
        Some(time) => Order::up_to(target(kind, value), at(time)),
        None => Order::ban(target(kind, value), None),
    };
    for (kind, value, time) in [
        (Kind::Token, "t", None),
        (Kind::Session, "s", Some(NOW - 10)),
        (Kind::Subject, "bob", Some(NOW - 10)),
        (Kind::Subject, "eve", None),
    ] {
        revoke(&revocations, order(kind, value, time), NOW).await;
    }
    let check = |token, session, subject, issued: Option<u64>| {
        let names = TokenNames {
            token: Some(token),
            session,
            subject,
            issued: issued.map(at),
        };
        revocations.check(&names, at(NOW))
    };
    let revoked = |kind| Err(RevocationError::Revoked(kind));
    assert_eq!(check("t", None, "alice", Some(NOW)), revoked(Kind::Token));
    assert_eq!(check("s", None, "alice", Some(NOW)), Ok(()));
    assert_eq!(check("u", Some("s"), "alice", Some(NOW - 10)), revoked(Kind::Session));
    assert_eq!(check("u", Some("s"), "alice", None), revoked(Kind::Session));
    assert_eq!(check("u", Some("s"), "alice", Some(NOW - 9)), Ok(()));
    assert_eq!(check("u", None, "bob", Some(NOW - 20)), revoked(Kind::Subject));
    assert_eq!(check("u", None, "bob", Some(NOW)), Ok(()));
    assert_eq!(check("u", Some("t"), "eve", Some(NOW)), revoked(Kind::Subject));
    assert_eq!(check("bob", Some("eve"), "s", Some(NOW - 20)), Ok(()));
}

#[tokio::test]
async fn a_revocation_is_kept_as_long_as_a_token_can_live_that_was_minted_under_any_policy() {
    let store = Arc::new(MemoryStore::new());
    let day = 86_400;
    let before = of(&store, day);
    before.load(clock(NOW)).await.unwrap();
    // Started again with a shorter life in the policy, in a hurry.
    let after = of(&store, 60);
    after.load(clock(NOW + 10)).await.unwrap();
    for order in [
        Order::up_to(target(Kind::Subject, "alice"), at(NOW + 10)),
        Order::token(target(Kind::Token, "t"), None),
    ] {
        let kept = revoke(&after, order, NOW + 10).await.needed_until.unwrap();
        assert!(kept >= at(NOW + day), "{kept:?}");
    }
    // The old life counts from when the policy was last in force, and no longer.
    let later = revoke(&after, Order::token(target(Kind::Token, "u"), None), NOW + 2 * day).await;
    assert!(later.needed_until.unwrap() < at(NOW + 2 * day + 300));
    let known = Order::token(target(Kind::Token, "v"), Some(at(NOW + 30)));
    assert_eq!(revoke(&after, known, NOW).await.needed_until, Some(at(NOW + 30)));
    let ban = Order::ban(target(Kind::Session, "s"), None);
    assert_eq!(revoke(&after, ban, NOW).await.needed_until, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_read_for_too_long_is_trusted_no_more() {
    let (store, revocations) = fresh();
    store.fail(Some(StoreError::Late));
    let keeping = tokio::spawn({
        let revocations = Arc::clone(&revocations);
        async move { revocations.keep(clock(NOW)).await }
    });
    let names = TokenNames {
        token: Some("t"),
        session: None,
        subject: "alice",
        issued: Some(at(NOW)),
    };
    tokio::time::sleep(TRUSTED_FOR).await;
    assert_eq!(issued(&revocations, NOW), Ok(NOW));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(issued(&revocations, NOW), Err(RevocationError::Unknown));
    assert_eq!(revocations.check(&names, at(NOW)), Err(RevocationError::Unknown));
    // Neither filters nor balancers are to come here.
    let page = revocations.page(FeedQuery::Snapshot, &pages::ring().signing()).await;
    assert_eq!(page, Err(PageError::Old));
    assert_eq!(revocations.ready(), Err(RevocationError::Unknown));
    assert_eq!(RevocationError::Unknown.reason(), Reason::StoreUnavailable);
    store.fail(None);
    tokio::time::sleep(LOOK_EVERY * 2).await;
    assert_eq!(issued(&revocations, NOW), Ok(NOW));
    assert_eq!(revocations.ready(), Ok(()));
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn what_another_broker_revokes_is_known_within_a_second() {
    let store = Arc::new(MemoryStore::new());
    let (one, other) = (of(&store, 900), of(&store, 900));
    one.load(clock(NOW)).await.unwrap();
    other.load(clock(NOW)).await.unwrap();
    let keeping = tokio::spawn(async move {
        let other = Arc::new(other);
        let kept = Arc::clone(&other);
        let keeping = tokio::spawn(async move { kept.keep(clock(NOW)).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        keeping.abort();
        other
    });
    revoke(&one, Order::ban(target(Kind::Subject, "alice@A.TEST"), None), NOW).await;
    let other = keeping.await.unwrap();
    assert!(issued(&other, NOW).is_err());
    one.lift(&target(Kind::Subject, "alice@A.TEST"), &ROOT, clock(NOW))
        .await
        .unwrap();
    other.refresh(clock(NOW)).await.unwrap();
    assert_eq!(issued(&other, NOW), Ok(NOW));
}

#[tokio::test]
async fn what_could_not_be_written_is_said_so() {
    let (store, revocations) = fresh();
    store.fail(Some(StoreError::Broken("no room".into())));
    let order = Order::ban(target(Kind::Subject, "alice@A.TEST"), None);
    let outcome = revocations.revoke(order, &ROOT, clock(NOW)).await;
    assert_eq!(outcome.unwrap_err(), StoreError::Broken("no room".into()));
    assert_eq!(issued(&revocations, NOW), Ok(NOW));
}

#[tokio::test]
async fn whatever_the_store_does_the_table_in_memory_says_the_same() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = proptest::collection::vec((0..5_u8, 0..6_u8, 0..4_u64), 1..60);
    for _ in 0..200 {
        let ((store, revocations), mut needed) = (fresh(), at(0));
        for (step, number, time) in steps.new_tree(&mut runner).unwrap().current() {
            let named = target(Kind::ALL[usize::from(number) % 3], &format!("v{number}"));
            // Whoever changes it is another broker, of which this one only reads.
            match step {
                0 | 1 => {
                    let revocation = Revocation {
                        target: named,
                        issued_at_or_before: (time != 0).then(|| at(NOW + time)),
                        needed_until: (time != 1).then(|| at(NOW + 10 * time)),
                    };
                    store.revoke(revocation, at(NOW)).await.unwrap();
                }
                2 => drop(store.lift(named).await.unwrap()),
                3 => revocations.refresh(clock(NOW)).await.unwrap(),
                _ => {
                    let now = at(NOW + 10 * time + crate::store::KEPT_LONGER + 1);
                    store.sweep(now).await.unwrap();
                    revocations.view.write().unwrap().sweep(now);
                    needed = needed.max(at(now.seconds() - crate::store::KEPT_LONGER + LEEWAY));
                }
            }
        }
        revocations.refresh(clock(NOW)).await.unwrap();
        let changes = store.revoked_since(0, 1000).await.unwrap();
        let view = revocations.view();
        let expected: Vec<_> = changes
            .recorded
            .iter()
            .map(|one| one.revocation.entry(ISSUER))
            // A ban is forgotten sooner in memory.
            .filter(|entry| u64::from(entry.needed_until) + LEEWAY >= needed.seconds())
            .collect();
        assert!(view.between(0, u64::MAX, needed).eq(&expected), "{view:?} {changes:?}");
        assert_eq!(view.newest(), Some(changes.newest));
        for entry in &expected {
            assert!(view.find(&entry.key, at(NOW)).is_some());
        }
    }
}
