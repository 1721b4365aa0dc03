//! A store that is another's from one moment to the next: restored from a backup, or moved from a file to a database.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use kerbridge_tests::World;
use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::http::Request;
use kerbridge_tests::postgres::Postgres;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::SERVICE;

use super::{EFFECT, Pair, jti, subject};

#[test]
fn a_database_that_was_restored_is_followed_from_the_beginning() {
    let mut pair = Pair::start();
    let bob = pair.token("bob");
    let alice = pair.token("alice");
    pair.world.broker().revoke(&["--jti", &jti(&alice)]).unwrap();
    wait_until("alice's token is out", EFFECT, || pair.all_are(&alice, 401)).unwrap();
    let dump = pair.server.client("pg_dump").arg(&pair.database).output().unwrap();
    assert!(dump.status.success());
    pair.world.broker().revoke(&["--jti", &jti(&bob)]).unwrap();
    wait_until("bob's token is out", EFFECT, || pair.all_are(&bob, 401)).unwrap();
    pair.server
        .sql(&pair.database, "DROP SCHEMA kerbridge CASCADE")
        .unwrap();
    let mut psql = pair
        .server
        .client("psql")
        .args([
            "--quiet",
            "--no-psqlrc",
            "--set=ON_ERROR_STOP=1",
            "--dbname",
            &pair.database,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(&dump.stdout).unwrap();
    assert!(psql.wait().unwrap().success());
    // What was revoked after the backup is forgotten; a filter that still knew it would not follow.
    wait_until("the epoch of the backup is followed", EFFECT, || {
        pair.all_are(&bob, 200)
    })
    .unwrap();
    assert!(pair.all_are(&alice, 401));
    pair.other.revoke(&["--jti", &jti(&bob)]).unwrap();
    wait_until("bob's token is out again", EFFECT, || pair.all_are(&bob, 401)).unwrap();
}

#[test]
fn a_store_that_is_moved_from_a_file_to_a_database_forgets_nothing_and_is_followed() {
    let server = Postgres::start().unwrap();
    let database = server.new_database().unwrap();
    let mut world = World::start().unwrap();
    let bob = world.token("bob", "/orders/1").unwrap();
    let used = world.negotiate_token("alice", SERVICE).unwrap();
    let show = |world: &World| {
        let request = Request::get("/orders/1").header("authorization", format!("Negotiate {used}"));
        world.send(&request).unwrap().status
    };
    assert_eq!(show(&world), 200);
    world.broker().revoke(&["--subject", &subject(&bob)]).unwrap();
    world.broker().stop().unwrap();
    let folder = world.broker().folder().to_owned();
    let store = |command: &str, more: Option<&Path>| {
        let mut kerbridge = Command::new(find_kerbridge().unwrap());
        kerbridge
            .args(["store", command, "--config"])
            .arg(folder.join("kerbridge.toml"))
            .args(more);
        let output = kerbridge.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let exported = folder.join("store.txt");
    std::fs::write(&exported, store("export", None)).unwrap();
    let table = format!(
        "[store.postgres]\nhosts = [\"{}:{}\"]\ndatabase = {database:?}\n[keys]",
        server.socket_folder().display(),
        server.port()
    );
    world.broker().configure("[keys]", &table).unwrap();
    store("import", Some(&exported));
    // MIT's own cache would know the ticket, too.
    std::fs::remove_file(folder.join("state/replay")).unwrap();
    world.broker().start().unwrap();
    wait_until("alice by keys of the database", EFFECT, || {
        world.curl_as("alice", "/orders/1").send().unwrap().status == 200
    })
    .unwrap();
    let refused = world.curl_as("bob", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (401, "revoked".to_owned()));
    assert_eq!(show(&world), 401, "a ticket that was used before");
    // And what is revoked from now on is.
    let alice = world.token("alice", "/orders/1").unwrap();
    world.broker().revoke(&["--jti", &jti(&alice)]).unwrap();
    wait_until("alice's token is out", EFFECT, || {
        world.curl("/orders/1").bearer(&alice).send().unwrap().status == 401
    })
    .unwrap();
}
