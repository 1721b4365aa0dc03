//! Two brokers of one database: what one has answered the other knows before it gives anything, and a filter that asks them in
//! turns comes to what both say.

use kerbridge_gate::feed::Feed;
use kerbridge_gate::revocation::LEEWAY;
use kerbridge_tests::postgres::Postgres;
use kerbridge_wire::feed::PAGE_ENTRIES;
use prometheus_client::metrics::histogram::Histogram;

use super::pages::{feed, follow, question, revokes, ring, take};
use super::*;
use crate::store::{KeptStore, PostgresConfig, PostgresHost};

const PATIENCE: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    Instant::now().checked_add(PATIENCE).unwrap()
}

/// Each has a connection of its own.
fn brokers(server: &Postgres) -> [Revocations; 2] {
    let config = PostgresConfig {
        hosts: vec![PostgresHost::Unix {
            folder: server.socket_folder(),
            port: server.port(),
        }],
        database: server.new_database().unwrap(),
        user: "kerbridge".into(),
        password: None,
    };
    [(); 2].map(|()| {
        let store = KeptStore::in_database(
            &config,
            1024,
            PATIENCE,
            Histogram::new([0.001]),
            crate::metrics::DatabaseMetrics::default(),
        )
        .unwrap();
        Revocations::new(Arc::new(store), ISSUER, 900, Metrics::new().revocations())
    })
}

async fn load(brokers: &[Revocations; 2]) {
    for broker in brokers {
        broker.load(clock(NOW)).await.unwrap();
    }
}

#[tokio::test]
async fn what_one_broker_has_answered_nothing_is_given_against_at_the_other() {
    let mut server = Postgres::start().unwrap();
    let brokers = brokers(&server);
    load(&brokers).await;
    let [one, other] = &brokers;
    let alice = || target(Kind::Subject, "alice@A.TEST");
    for _ in 0..20 {
        revoke(one, Order::ban(alice(), None), NOW).await;
        other.catch_up(soon()).await.unwrap();
        assert_eq!(issued(other, NOW), Err(RevocationError::Revoked(Kind::Subject)));
        one.lift(&alice(), &ROOT, clock(NOW)).await.unwrap();
        other.catch_up(soon()).await.unwrap();
        assert_eq!(issued(other, NOW), Ok(NOW));
    }
    server.process().kill().unwrap();
    assert_eq!(other.catch_up(soon()).await, Err(RevocationError::Unknown));
    server.restart().unwrap();
    while other.catch_up(soon()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_logs_in_at_one_broker_once_the_other_has_answered_the_logout_stays_logged_in() {
    let server = Postgres::start().unwrap();
    let brokers = brokers(&server);
    load(&brokers).await;
    let [one, other] = &brokers;
    for logout in 0..5 {
        // All within one second of the clock that both have.
        let last = issued(other, NOW).unwrap();
        revoke(one, Order::up_to(target(Kind::Session, "session"), at(last)), NOW).await;
        other.catch_up(soon()).await.unwrap();
        let iat = issued(other, NOW).unwrap();
        assert_eq!(iat, NOW + 1 + logout);
        let names = TokenNames {
            token: None,
            session: Some("session"),
            subject: "alice@A.TEST",
            issued: Some(at(iat)),
        };
        for broker in &brokers {
            assert_eq!(broker.check(&names, at(iat)), Ok(()));
        }
    }
}

#[tokio::test]
async fn of_many_who_catch_up_at_once_few_look_into_the_store() {
    let store = Arc::new(MemoryStore::new());
    let revocations = Arc::new(of(&store, 900));
    revocations.load(clock(NOW)).await.unwrap();
    let before = store.reads();
    let all: Vec<_> = (0..100)
        .map(|_| {
            let revocations = Arc::clone(&revocations);
            tokio::spawn(async move { revocations.catch_up(soon()).await })
        })
        .collect();
    // They have all called before the first of them gets to look.
    let held = revocations.reading.lock().await;
    tokio::task::yield_now().await;
    drop(held);
    for one in all {
        one.await.unwrap().unwrap();
    }
    let looks = store.reads() - before;
    assert!((1..=2).contains(&looks), "{looks}");
}

/// Asks two brokers in turns for all that there is, while more is revoked, some of it anew, what is over is forgotten here and not
/// there, and minutes pass. Says how often it had to ask.
async fn read_in_turns(brokers: [Revocations; 2]) -> usize {
    let ring = ring();
    let store = Arc::clone(&brokers[0].store);
    let named = |number: usize| target(Kind::Session, &format!("s{number}"));
    let of_before = PAGE_ENTRIES * 2 + 1000;
    // One in a hundred is over within the next minutes.
    let wanted: Vec<_> = (0..of_before)
        .map(|number| Revocation {
            target: named(number),
            issued_at_or_before: Some(at(NOW)),
            needed_until: Some(match number % 100 {
                0 => at(NOW - LEEWAY).plus(number as u64 / 100 % 200),
                _ => at(NOW + 10_000),
            }),
        })
        .collect();
    for some in wanted.chunks(16 * 1024) {
        store.revoke_all(some.to_vec(), at(NOW)).await.unwrap();
    }
    load(&brokers).await;
    let anew = |number: usize| Revocation {
        target: named(number),
        issued_at_or_before: Some(at(NOW + 9)),
        needed_until: Some(at(NOW + 10_000)),
    };
    let (mut feed, mut base, mut now, mut asked): (Feed, _, _, usize) = (feed(), None, NOW + 50, 0);
    // The second one has not read this, nor in which minute it is, when it is asked for what goes on from there.
    store.revoke(anew(of_before.saturating_add(50)), at(now)).await.unwrap();
    while asked == 0 || feed.wants().is_some() {
        brokers[0].refresh(clock(now)).await.unwrap();
        let page = brokers[asked % 2].page(question(&feed, base), &ring.signing()).await;
        (_, base) = take(&mut feed, &page.unwrap(), &ring, now).unwrap();
        asked = asked.saturating_add(1);
        assert!(asked < 20, "it never comes to an end");
        now = now.saturating_add(20);
        let numbers = [asked, of_before.saturating_sub(asked), of_before.saturating_add(asked)];
        let more = numbers.map(anew).to_vec();
        store.revoke_all(more, at(now)).await.unwrap();
        store.sweep(at(now)).await.unwrap();
        brokers[0].view.write().unwrap().sweep(at(now));
    }
    let known = feed.known().unwrap();
    assert!(revokes(&known, "s1", NOW, now) && revokes(&known, &format!("s{}", of_before - 1), NOW, now));
    // What came meanwhile is the next delta's.
    assert!(!revokes(&known, "s1", NOW + 9, now));
    brokers[1].refresh(clock(now)).await.unwrap();
    follow(&mut feed, &brokers[1], &ring, now).await;
    let known = feed.known().unwrap();
    for number in [1, of_before - 1, of_before + 1] {
        assert!(revokes(&known, &format!("s{number}"), NOW + 9, now), "{number}");
    }
    asked
}

#[tokio::test]
async fn a_snapshot_of_several_pages_is_read_through_two_brokers_in_turns() {
    let store = Arc::new(MemoryStore::new());
    assert_eq!(read_in_turns([of(&store, 900), of(&store, 900)]).await, 3);
}

#[tokio::test]
async fn a_snapshot_of_several_pages_is_read_through_two_brokers_of_a_database_in_turns() {
    let server = Postgres::start().unwrap();
    assert_eq!(read_in_turns(brokers(&server)).await, 3);
}
