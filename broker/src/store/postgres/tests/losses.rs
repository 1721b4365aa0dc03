//! What becomes of a store whose server or tables go away.

use super::*;

#[tokio::test]
async fn a_server_that_was_restarted_is_found_again_and_one_that_is_away_is_an_error_in_time() {
    let mut server = Server::start().unwrap();
    let config = fresh(&server);
    let store = open(&config);
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Ok(Consumed::First));
    server.restart().unwrap();
    // Its connection is gone, and nobody who waits hears of that.
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Ok(Consumed::Again));
    server.process().kill().unwrap();
    assert!(matches!(
        store.consume_once(tag(2), at(1000)).await,
        Err(StoreError::Broken(_))
    ));
    assert!(matches!(
        store.revoke(revocation(1), at(1)).await,
        Err(StoreError::Broken(_))
    ));
    server.restart().unwrap();
    let again = async || store.consume_once(tag(2), at(1000)).await;
    let mut outcome = again().await;
    while outcome.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        outcome = again().await;
    }
    assert_eq!(outcome, Ok(Consumed::First));
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Ok(Consumed::Again));
}

#[tokio::test]
async fn tables_that_are_gone_or_another_releases_are_not_begun_anew() {
    let server = Server::start().unwrap();
    let config = fresh(&server);
    let store = open(&config);
    store.revoke(revocation(1), at(1)).await.unwrap();
    let later = server.sql(&config.database, "UPDATE kerbridge.about SET format = 2");
    later.unwrap();
    let problem = KeptStore::in_database(&config, 1, DEADLINE, histogram(), DatabaseMetrics::default())
        .unwrap_err()
        .to_string();
    assert!(
        problem.contains("its tables have format 2, and this release knows 1; run the release that made them"),
        "{problem}"
    );
    server.sql(&config.database, "DROP SCHEMA kerbridge CASCADE").unwrap();
    for _ in 0..2 {
        let refused = store.revoke(revocation(2), at(1)).await;
        assert!(matches!(refused, Err(StoreError::Broken(_))), "{refused:?}");
    }
    let there = server.sql(
        &config.database,
        "SELECT count(*) FROM pg_namespace WHERE nspname = 'kerbridge'",
    );
    assert_eq!(there.unwrap(), "0");
}

#[tokio::test]
async fn whoever_follows_keys_makes_nothing_anew_where_the_tables_were_dropped() {
    let server = Server::start().unwrap();
    let config = fresh(&server);
    let row = KeyringRow::new(&config);
    // Before the first start there is nothing, and to look makes nothing.
    assert_eq!(row.read(), Ok(None));
    assert!(!look_at_database(&config).unwrap().is_made);
    row.create("sealed").unwrap();
    let (first, content) = row.read().unwrap().unwrap();
    assert_eq!(content, "sealed");
    row.create("again").unwrap();
    assert_eq!(row.read(), Ok(Some((first, "sealed".into()))));
    let second = row.replace(first, "anew").unwrap().unwrap();
    assert_ne!(first, second);
    assert_eq!(row.replace(first, "another's"), Ok(None));
    assert_eq!(row.read_newer(first), Ok(Some((second, "anew".into()))));
    assert_eq!(row.read_newer(second), Ok(None));
    // One that was put back is another change to whoever has read the newer one.
    let third = row.replace(second, "sealed").unwrap().unwrap();
    assert!(third != first && row.read_newer(second).unwrap().is_some());
    // What is no key is made anew beside them.
    let dropped = "DROP TABLE kerbridge.about, kerbridge.revocation, kerbridge.used";
    server.sql(&config.database, dropped).unwrap();
    drop(open(&config));
    assert_eq!(row.read(), Ok(Some((third, "sealed".into()))));
    server.sql(&config.database, "DROP SCHEMA kerbridge CASCADE").unwrap();
    for _ in 0..2 {
        assert!(row.read_newer(second).is_err() && row.replace(second, "x").is_err());
        assert_eq!(row.read(), Ok(None));
    }
    assert!(KeptStore::in_made_database(&config, DEADLINE).is_err());
    let there = server.sql(
        &config.database,
        "SELECT count(*) FROM pg_namespace WHERE nspname = 'kerbridge'",
    );
    assert_eq!(there.unwrap(), "0");
}

#[tokio::test]
async fn a_standby_is_passed_over_and_followed_once_it_took_over() {
    let mut primary = Server::start().unwrap();
    let mut config = fresh(&primary);
    let standby = primary.standby().unwrap();
    let host = |server: &Server| PostgresHost::Unix {
        folder: server.socket_folder(),
        port: server.port(),
    };
    // The one that cannot be written is asked first.
    config.hosts = vec![host(&standby), host(&primary)];
    let store = open(&config);
    for number in 0..3 {
        store.revoke(revocation(number), at(1)).await.unwrap();
        assert_eq!(store.consume_once(tag(number), at(1000)).await, Ok(Consumed::First));
    }
    let before = store.revoked_since(0, 10).await.unwrap();
    let written = primary.sql("postgres", "SELECT pg_current_wal_lsn()").unwrap();
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    while standby.sql("postgres", &replayed).unwrap() != "t" {}
    primary.process().kill().unwrap();
    assert!(
        store.revoke(revocation(7), at(1)).await.is_err(),
        "a standby takes nothing"
    );
    standby.promote().unwrap();
    let after = until_read(&store).await;
    assert_ne!(
        after.newest.epoch, before.newest.epoch,
        "whatever the standby had not yet"
    );
    assert_eq!(after.recorded, before.recorded);
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Ok(Consumed::Again));
    assert!(store.revoke(revocation(7), at(1)).await.is_ok());
}
