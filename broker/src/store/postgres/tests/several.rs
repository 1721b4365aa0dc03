//! What several brokers of one database share, and in which order.

use super::*;

#[tokio::test]
async fn two_brokers_share_tags_revocations_and_versions() {
    let server = Server::start().unwrap();
    let config = fresh(&server);
    let (one, other) = (Arc::new(open(&config)), Arc::new(open(&config)));
    let calls: Vec<_> = (0..400_u64)
        .map(|number| {
            let store = if number % 2 == 0 {
                Arc::clone(&one)
            } else {
                Arc::clone(&other)
            };
            tokio::spawn(async move { store.consume_once(tag(number / 2 / 2), at(1000)).await.unwrap() })
        })
        .collect();
    let mut first = 0;
    for call in calls {
        first += usize::from(call.await.unwrap() == Consumed::First);
    }
    assert_eq!(first, 100, "each of four calls at two brokers");
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let store = if number % 2 == 0 {
                Arc::clone(&one)
            } else {
                Arc::clone(&other)
            };
            tokio::spawn(async move { store.revoke(revocation(number), at(1)).await.unwrap().position.version })
        })
        .collect();
    // Whoever reads along at one broker misses nothing of the other.
    let (mut along, mut from) = (Vec::new(), 0);
    while along.len() < 200 {
        let changes = one.revoked_since(from, 1000).await.unwrap();
        along.extend(changes.recorded.into_iter().map(|one| one.version));
        from = changes.newest.version;
    }
    let mut versions = Vec::new();
    for call in calls {
        versions.push(call.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(along, versions);
    assert_eq!(versions, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_transaction_that_is_held_open_holds_back_whoever_comes_after_it_and_nothing_is_lost() {
    let server = Server::start().unwrap();
    let config = fresh(&server);
    let store = Arc::new(open(&config));
    store.revoke(revocation(0), at(1)).await.unwrap();
    // Another broker that has written its revocation, and not committed yet.
    let mut other = Postgres::new(&config).unwrap();
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let held = std::thread::spawn(move || {
        let database = other.open(Wanted::There).unwrap();
        let batch = Batch {
            change: vec![crate::store::job::Change::Revoke(revocation(1), at(1))],
            ..Batch::default()
        };
        other.runtime.block_on(async {
            database.client.batch_execute("BEGIN").await.unwrap();
            let mut applied = transaction::nothing();
            transaction::write_all(&database, &batch, &mut applied).await.unwrap();
            told.recv().unwrap();
            database.client.batch_execute("COMMIT").await.unwrap();
        });
    });
    while server
        .sql(
            &config.database,
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'",
        )
        .unwrap()
        == "0"
    {}
    let mine = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.revoke(revocation(2), at(1)).await.unwrap().position.version }
    });
    // Who reads meanwhile sees neither, and so does not go past the one that is to come.
    let reader = open(&config);
    let seen = reader.revoked_since(0, 10).await.unwrap();
    assert_eq!((seen.newest.version, seen.recorded.len()), (1, 1));
    go_on.send(()).unwrap();
    assert_eq!(mine.await.unwrap(), 3);
    held.join().unwrap();
    let seen = reader.revoked_since(seen.newest.version, 10).await.unwrap();
    let versions: Vec<_> = seen.recorded.iter().map(|one| one.version).collect();
    assert_eq!(versions, [2, 3]);
}

#[tokio::test]
async fn the_clock_of_one_broker_that_is_ahead_forgets_nothing_for_the_others() {
    let server = Server::start().unwrap();
    let config = fresh(&server);
    let store = open(&config);
    let now = look_at_database(&config).unwrap().clock;
    let later = now.plus(3600);
    store.consume_once(tag(1), now.plus(600)).await.unwrap();
    let revocation = Revocation {
        needed_until: Some(now.plus(600)),
        ..revocation(1)
    };
    store.revoke(revocation, now).await.unwrap();
    let swept = store.sweep(later).await.unwrap();
    assert_eq!((swept.tags, swept.revocations), (0, 0));
    assert_eq!(store.consume_once(tag(1), later).await, Ok(Consumed::Again));
}
