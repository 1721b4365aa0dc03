//! What is restored or imported, and by what it is noticed.

use super::*;

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
