use std::sync::Arc;

use kerbridge_tests::postgres::Postgres as Server;

use super::*;
use crate::store::conformance;
use crate::store::{Consumed, Kind, ReplayTag, Revocation, Store as _, Target};
use crate::time::UnixTime;

const DEADLINE: Duration = Duration::from_secs(20);

fn histogram() -> Histogram {
    Histogram::new([0.001])
}

fn config(server: &Server, database: &str) -> PostgresConfig {
    PostgresConfig {
        hosts: vec![PostgresHost::Unix {
            folder: server.socket_folder(),
            port: server.port(),
        }],
        database: database.to_owned(),
        user: "kerbridge".into(),
        password: None,
    }
}

fn open(config: &PostgresConfig) -> KeptStore {
    KeptStore::in_database(config, 1024, DEADLINE, histogram()).unwrap()
}

fn tag(number: u64) -> ReplayTag {
    ReplayTag::of(&number.to_be_bytes())
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

/// A store of its own in each database.
fn fresh(server: &Server) -> PostgresConfig {
    config(server, &server.new_database().unwrap())
}

#[tokio::test]
async fn it_keeps_what_every_store_promises() {
    use conformance::revocations::*;
    let server = Server::start().unwrap();
    let fresh = || fresh(&server);
    conformance::a_tag_is_first_once(&open(&fresh())).await;
    conformance::of_many_at_once_one_is_first(Arc::new(open(&fresh()))).await;
    conformance::many_tags_at_once_are_all_first(Arc::new(open(&fresh()))).await;
    conformance::sweeping_forgets_what_has_ended_and_nothing_else(&open(&fresh())).await;
    let one = fresh();
    conformance::what_was_used_up_stays_so_after_a_restart(|| Arc::new(open(&one))).await;
    what_comes_after_a_version_is_read_in_order(&open(&fresh())).await;
    revocations_of_one_target_are_merged(&open(&fresh())).await;
    what_is_lifted_is_gone_and_cannot_be_gone_on_with(&open(&fresh())).await;
    what_no_token_can_need_is_swept_and_nothing_else(&open(&fresh())).await;
    the_end_of_tokens_never_moves_back(&open(&fresh())).await;
    revocations_at_the_same_time_are_in_commit_order(Arc::new(open(&fresh()))).await;
    let one = fresh();
    revocations_stay_after_a_restart(|| Arc::new(open(&one)), &open(&fresh())).await;
}

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

fn revocation(number: u64) -> Revocation {
    Revocation {
        target: Target::new(Kind::Token, &format!("token {number}")).unwrap(),
        issued_at_or_before: None,
        needed_until: Some(at(5000)),
    }
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
    let problem = KeptStore::in_database(&config, 1, DEADLINE, histogram())
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
async fn a_dump_that_is_restored_begins_a_new_epoch_and_who_runs_meanwhile_sees_it() {
    let server = Server::start().unwrap();
    let config = fresh(&server);
    let store = open(&config);
    store.revoke(revocation(1), at(1)).await.unwrap();
    let before = store.revoked_since(0, 10).await.unwrap().newest;
    let dump = server.client("pg_dump").arg(&config.database).output().unwrap();
    assert!(dump.status.success());
    store.revoke(revocation(2), at(1)).await.unwrap();
    server.sql(&config.database, "DROP SCHEMA kerbridge CASCADE").unwrap();
    let text = String::from_utf8(dump.stdout).unwrap();
    restore(&server, &config.database, &text);
    let mut changes = store.revoked_since(0, 10).await;
    while changes.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        changes = store.revoked_since(0, 10).await;
    }
    let changes = changes.unwrap();
    assert_ne!(changes.newest.epoch, before.epoch);
    assert_eq!(
        (changes.recorded.len(), changes.continues_from),
        (1, changes.newest.version)
    );
    // And it is the same for whoever comes next.
    assert_eq!(open(&config).revoked_since(0, 10).await.unwrap(), changes);
}

fn restore(server: &Server, database: &str, dump: &str) {
    use std::io::Write as _;
    let mut psql = server
        .client("psql")
        .args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--dbname", database])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(dump.as_bytes()).unwrap();
    assert!(psql.wait().unwrap().success());
}

#[tokio::test]
async fn what_is_exported_and_imported_is_all_there_in_a_new_epoch() {
    let server = Server::start().unwrap();
    let (from, to) = (fresh(&server), fresh(&server));
    let store = open(&from);
    for number in 0..5 {
        store.revoke(revocation(number), at(7)).await.unwrap();
        store.consume_once(tag(number), at(1000 + number)).await.unwrap();
    }
    store.tokens_end(at(4000)).await.unwrap();
    let exported = export_database(&from).unwrap();
    assert_eq!((exported.revoked.len(), exported.used.len()), (5, 5));
    let position = import_database(&to, &exported).unwrap();
    assert_ne!(position.epoch, exported.position.epoch);
    let again = export_database(&to).unwrap();
    assert_eq!(again.position, position);
    assert_eq!(
        (again.revoked, again.used, again.tokens_end),
        (exported.revoked.clone(), exported.used.clone(), exported.tokens_end)
    );
    let problem = import_database(&to, &exported).unwrap_err().to_string();
    assert!(
        problem.contains("a store is there, and is not overwritten"),
        "{problem}"
    );
    // From a file's store and back to one.
    let folder = tempfile::tempdir().unwrap();
    crate::store::import_file(folder.path(), &exported).unwrap();
    let file = crate::store::export_file(&folder.path().join(crate::store::FILE)).unwrap();
    assert_eq!((file.revoked, file.tokens_end), (exported.revoked, exported.tokens_end));
    assert_eq!(check_database(&to).unwrap().revoked, 5);
}

#[tokio::test]
async fn over_tcp_the_server_is_known_by_its_certificate_and_the_broker_by_its_password() {
    let server = Server::start().unwrap();
    let database = server.new_database().unwrap();
    let client = |authority: &std::path::Path| {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    };
    let config = |name: &str, authority: &std::path::Path, password: &str| PostgresConfig {
        hosts: vec![PostgresHost::Tls {
            host: "127.0.0.1".into(),
            port: server.port(),
            name: ServerName::try_from(name.to_owned()).unwrap(),
            config: client(authority),
        }],
        database: database.clone(),
        user: kerbridge_tests::postgres::ROLE.into(),
        password: Some(Arc::new(Zeroizing::new(password.into()))),
    };
    let password = kerbridge_tests::postgres::PASSWORD;
    let store = open(&config("localhost", server.authority(), password));
    assert_eq!(store.consume_once(tag(1), at(1000)).await, Ok(Consumed::First));
    let bound = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'kerbridge'";
    assert_eq!(server.sql(&database, bound).unwrap(), "1");
    let folder = tempfile::tempdir().unwrap();
    let other = kerbridge_tests::certificates::Certificates::create(folder.path()).unwrap();
    for (config, says) in [
        (config("db.lab.test", server.authority(), password), "certificate"),
        (config("localhost", &other.authority, password), "certificate"),
        (
            config("localhost", server.authority(), "wrong"),
            "password authentication failed",
        ),
    ] {
        let problem = KeptStore::in_database(&config, 1, DEADLINE, histogram())
            .unwrap_err()
            .to_string();
        assert!(problem.contains(says) && !problem.contains(password), "{problem}");
    }
}

#[tokio::test]
async fn a_look_at_a_database_makes_nothing_there() {
    let mut server = Server::start().unwrap();
    let config = fresh(&server);
    for _ in 0..2 {
        assert!(!look_at_database(&config).unwrap().is_made);
    }
    drop(open(&config));
    let looked = look_at_database(&config).unwrap();
    assert!(looked.is_made && looked.clock.seconds() > 1_700_000_000, "{looked:?}");
    server
        .sql(
            &config.database,
            "ALTER ROLE kerbridge SET default_transaction_read_only = on",
        )
        .unwrap();
    let standby = look_at_database(&config).unwrap_err().problem;
    assert!(
        standby.contains("does not allow writes"),
        "a server that cannot be written is passed over: {standby}"
    );
    server.process().kill().unwrap();
    assert!(look_at_database(&config).is_err());
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
async fn a_restore_that_is_not_at_its_end_is_waited_for_and_one_of_rows_alone_is_noticed() {
    let server = Server::start().unwrap();
    let config = fresh(&server);
    let store = open(&config);
    for number in 0..3 {
        store.revoke(revocation(number), at(1)).await.unwrap();
    }
    let before = store.revoked_since(0, 10).await.unwrap().newest;
    // As after the first part of a dump: the row that says what the store is, in a table of its own, without what it counts.
    let part = "ALTER TABLE kerbridge.about RENAME TO before; \
                CREATE TABLE kerbridge.about AS SELECT * FROM kerbridge.before; \
                ALTER TABLE kerbridge.about OWNER TO kerbridge; \
                CREATE TABLE kerbridge.later AS SELECT * FROM kerbridge.revocation; DELETE FROM kerbridge.revocation";
    server.sql(&config.database, part).unwrap();
    assert!(store.revoked_since(0, 10).await.is_err());
    let problem = KeptStore::in_made_database(&config, DEADLINE).unwrap_err().to_string();
    assert!(problem.contains("a restore is not at its end"), "{problem}");
    let rest = "INSERT INTO kerbridge.revocation SELECT * FROM kerbridge.later";
    server.sql(&config.database, rest).unwrap();
    let settled = until_read(&store).await;
    assert_ne!(settled.newest.epoch, before.epoch);
    assert_eq!(settled.recorded.len(), 3);
    // The rows of a backup in the same tables.
    let back =
        "UPDATE kerbridge.about SET version = 1, revocations = 1; DELETE FROM kerbridge.revocation WHERE version > 1";
    server.sql(&config.database, back).unwrap();
    assert!(store.revoked_since(settled.newest.version, 10).await.is_err());
    let again = until_read(&store).await;
    assert_ne!(again.newest.epoch, settled.newest.epoch);
    assert_eq!(again.recorded.len(), 1);
}

async fn until_read(store: &KeptStore) -> crate::store::Changes {
    loop {
        if let Ok(changes) = store.revoked_since(0, 10).await {
            return changes;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
