//! What is counted of the connection.

use super::*;

#[tokio::test]
async fn what_becomes_of_the_connection_is_counted_by_its_kind() {
    let mut server = Server::start().unwrap();
    let config = fresh(&server);
    let metrics = DatabaseMetrics::default();
    let store = Arc::new(counted(&config, &metrics));
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Ok(Consumed::First));
    assert_eq!(metrics.now(), (1, 1, 0));
    // A restart is one lost connection, and one that takes its place.
    server.restart().unwrap();
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Ok(Consumed::Again));
    assert_eq!(metrics.now(), (1, 2, 0));
    assert_eq!((metrics.failures("lost"), metrics.failures("away")), (1, 0));
    // While somebody holds the row of revocations, who changes one waits as long as the server lets it, and tries again.
    let mut held = server.client("psql");
    held.args([
        "--quiet",
        "--output=/dev/null",
        "--dbname",
        &config.database,
        "--command",
    ]);
    held.arg("SELECT 1 FROM kerbridge.about FOR UPDATE; SELECT pg_sleep(4)");
    let mut held = held.spawn().unwrap();
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while server.sql(&config.database, sleeps).unwrap() == "0" {}
    let waits = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.revoke(revocation(1), at(1)).await }
    });
    while metrics.now().2 != 1 {
        tokio::task::yield_now().await;
    }
    waits.await.unwrap().unwrap();
    assert_eq!((metrics.failures("contended"), metrics.now()), (1, (1, 3, 0)));
    assert!(held.wait().unwrap().success());
    server.process().kill().unwrap();
    assert!(store.consume_once(tag(2), at(1000)).await.is_err());
    assert_eq!(metrics.now().0, 0);
    assert!(metrics.failures("away") >= 1);
    server.restart().unwrap();
    while store.consume_once(tag(2), at(1000)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(metrics.now().0, 1);
    server.sql(&config.database, "DROP SCHEMA kerbridge CASCADE").unwrap();
    assert!(store.revoke(revocation(2), at(1)).await.is_err());
    assert!(metrics.failures("gone") >= 1);
    assert_eq!(metrics.now().0, 0);
}

#[test]
fn each_failure_has_a_kind_that_is_counted_from_the_start() {
    let text = String::new;
    for failure in [
        connection::Failure::Away(text()),
        connection::Failure::Lost(text()),
        connection::Failure::Contended(text()),
        connection::Failure::Unknown(text()),
        connection::Failure::Gone,
        connection::Failure::Format(2),
        connection::Failure::There,
        connection::Failure::Corrupt(""),
        connection::Failure::Refused(text()),
    ] {
        assert!(DatabaseMetrics::KINDS.contains(&failure.kind()), "{failure:?}");
    }
}
