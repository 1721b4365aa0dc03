//! Two brokers behind one Envoy, on one PostgreSQL database: what one did the other knows, and whichever is killed, or the
//! database, nothing that was answered is lost, nothing is good twice, and tokens go on passing.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::broker::{Broker, BrokerSettings, find_kerbridge};
use kerbridge_tests::http::Request;
use kerbridge_tests::postgres::Postgres;
use kerbridge_tests::shipped;
use kerbridge_tests::token;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::{REALM, SERVICE};
use tempfile::TempDir;

/// One poll of the feed, and the second that a worker may be behind; more for a machine that has much to do.
const EFFECT: Duration = Duration::from_secs(15);
/// So many requests on connections of their own reach both workers and both brokers.
const ASKED: usize = 12;

/// Everything that two brokers share, and both.
struct Pair {
    world: World,
    other: Broker,
    database: String,
    server: Postgres,
    _folder: TempDir,
}

impl Pair {
    fn start() -> Self {
        let server = Postgres::start().unwrap();
        let database = server.new_database().unwrap();
        let table = format!(
            "[store.postgres]\nhosts = [\"{}:{}\"]\ndatabase = {database:?}\n",
            server.socket_folder().display(),
            server.port()
        );
        let builder = World::builder().broker_table(&table).concurrency(2);
        let mut world = builder.start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let first = world.broker().folder().to_owned();
        let settings = BrokerSettings {
            issuer: shipped::ISSUER.to_owned(),
            realms: vec![REALM.to_owned()],
            acceptors: vec![SERVICE.to_owned()],
            keytab: world.folder().join("http.keytab"),
            policy: std::fs::read_to_string(first.join("policy.toml")).unwrap(),
            more: table,
        };
        let mut other = Broker::prepare(folder.path(), &settings).unwrap();
        std::fs::copy(first.join("kek"), folder.path().join("kek")).unwrap();
        other.start().unwrap();
        let (one, two) = (world.broker().socket(), other.socket());
        world
            .restart_envoy(|yaml| {
                // Which of them is away is found out by the first call that fails.
                yaml.replace(
                    "  - name: kerbridge_broker\n    type: STATIC\n",
                    "  - name: kerbridge_broker\n    type: STATIC\n    outlier_detection: \
                     {split_external_local_origin_errors: true, consecutive_local_origin_failure: 1, base_ejection_time: 2s, \
                     interval: 0.5s, max_ejection_percent: 50}\n",
                )?;
                yaml.replace(&endpoint(&one), &format!("{}{}", endpoint(&one), endpoint(&two)))
            })
            .unwrap();
        let pair = Self {
            world,
            other,
            database,
            server,
            _folder: folder,
        };
        wait_until("both workers have keys and a feed", EFFECT, || pair.mints(8)).unwrap();
        pair
    }

    /// Whether so many tickets in a row are taken.
    fn mints(&self, count: usize) -> bool {
        (0..count).all(|_| self.world.curl_as("alice", "/orders/1").send().unwrap().status == 200)
    }

    fn all_are(&self, token: &str, status: u16) -> bool {
        let answer = |_| self.world.curl("/orders/1").bearer(token).send().unwrap().status;
        (0..ASKED).map(answer).all(|found| found == status)
    }

    /// Shows one ticket several times, and says how often it was taken.
    fn show(&self, ticket: &str, times: usize) -> usize {
        let request = Request::get("/orders/1").header("authorization", format!("Negotiate {ticket}"));
        let show = |_: &usize| self.world.send(&request).unwrap().status == 200;
        (0..times).filter(show).count()
    }
}

fn endpoint(socket: &Path) -> String {
    format!(
        "        - endpoint: {{address: {{pipe: {{path: {}}}}}}}\n",
        socket.display()
    )
}

fn subject(token: &str) -> String {
    token::decode(token).unwrap().claims["sub"].as_str().unwrap().to_owned()
}

#[test]
fn two_brokers_share_keys_used_tickets_and_revocations() {
    let mut pair = Pair::start();
    let keys = Request::get("/.well-known/jwks.json");
    let sets: Vec<_> = [pair.world.broker().ask(&keys), pair.other.ask(&keys)]
        .into_iter()
        .map(|answer| answer.unwrap().text())
        .collect();
    assert_eq!(sets[0], sets[1]);
    // A ticket that is shown again comes to the other broker, whose own replay cache does not know it.
    for _ in 0..5 {
        let ticket = pair.world.negotiate_token("alice", SERVICE).unwrap();
        assert_eq!(pair.show(&ticket, 6), 1);
    }
    wait_until(
        "both brokers gave tokens, and refused what the other had seen",
        EFFECT,
        || {
            let both = [pair.world.broker().log(), pair.other.log()];
            both.iter().all(|log| {
                ["ok", "replay"]
                    .iter()
                    .all(|word| log.contains(&format!("\"reason\":\"{word}\"")))
            })
        },
    )
    .unwrap();
    let (alice, bob) = (
        pair.world.token("alice", "/orders/1").unwrap(),
        pair.world.token("bob", "/orders/1").unwrap(),
    );
    // At the one for alice, at the other for bob.
    pair.world.broker().revoke(&["--subject", &subject(&alice)]).unwrap();
    wait_until("alice is out", EFFECT, || pair.all_are(&alice, 401)).unwrap();
    assert!(pair.all_are(&bob, 200));
    pair.other.revoke(&["--subject", &subject(&bob)]).unwrap();
    wait_until("bob is out", EFFECT, || pair.all_are(&bob, 401)).unwrap();
    for user in ["alice", "bob"] {
        for _ in 0..ASKED {
            let refused = pair.world.curl_as(user, "/orders/1").send().unwrap();
            assert_eq!(pair.world.reason(&refused).unwrap(), (401, "revoked".to_owned()));
        }
    }
    // A key that one takes in use is the other's soon after.
    pair.other.administer(&["keys", "rotate"], &["--now"]).unwrap();
    let rotated = pair.other.ask(&keys).unwrap().text();
    assert_ne!(rotated, sets[0]);
    wait_until("the same keys at both", EFFECT, || {
        pair.world.broker().ask(&keys).unwrap().text() == rotated
    })
    .unwrap();
}

/// The brokers that one of them knows of: whether it is itself, and how far its clock is off.
fn brokers(broker: &mut Broker) -> Vec<(bool, i64)> {
    let status = broker.administer(&["status"], &[]).unwrap();
    let replicas = status["replicas"]["brokers"].as_array().unwrap().iter();
    replicas
        .map(|one| {
            assert_eq!(one["release"], status["release"], "{status}");
            assert!(one["host"].as_str().is_some_and(|host| !host.is_empty()), "{status}");
            (
                one["this"].as_bool().unwrap(),
                one["clock_ahead_milliseconds"].as_i64().unwrap(),
            )
        })
        .collect()
}

#[test]
fn each_broker_says_which_others_are_there_and_how_their_clocks_go() {
    let mut pair = Pair::start();
    let knows = |broker: &mut Broker, count: usize| {
        let known = brokers(broker);
        let own = known.iter().filter(|(this, _)| *this).count();
        // All clocks here are one.
        known.len() == count && own == 1 && known.iter().all(|(_, ahead)| ahead.abs() < 1000)
    };
    wait_until("each knows both", EFFECT, || {
        knows(pair.world.broker(), 2) && knows(&mut pair.other, 2)
    })
    .unwrap();
    pair.other.kill().unwrap();
    wait_until("the one that is left knows it", EFFECT, || {
        knows(pair.world.broker(), 1)
    })
    .unwrap();
    pair.server.process().kill().unwrap();
    wait_until("that the database is away is said", EFFECT, || {
        let status = pair.world.broker().administer(&["status"], &[]).unwrap();
        status["replicas"]["problem"].is_string() && status["replicas"]["as_of"].is_null()
    })
    .unwrap();
    pair.server.restart().unwrap();
    pair.other.start().unwrap();
    wait_until("each knows both again", EFFECT, || {
        knows(pair.world.broker(), 2) && knows(&mut pair.other, 2)
    })
    .unwrap();
}

#[test]
fn whichever_is_killed_nothing_that_was_answered_is_lost_and_tokens_pass() {
    let mut pair = Pair::start();
    let bob = pair.world.token("bob", "/orders/1").unwrap();
    let alice = pair.world.token("alice", "/orders/1").unwrap();
    let used = pair.world.negotiate_token("alice", SERVICE).unwrap();
    assert_eq!(pair.show(&used, 1), 1);
    let (stop, refused, passed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let request = Request::get("/orders/1").header("authorization", format!("Bearer {bob}"));
    std::thread::scope(|scope| {
        let load = {
            let connection = pair.world.connect().unwrap();
            let (stop, refused, passed, request) = (&stop, &refused, &passed, &request);
            move || {
                let mut connection = connection;
                while !stop.load(Ordering::Relaxed) {
                    let status = connection.exchange(request).unwrap().status;
                    let count = if status == 200 { passed } else { refused };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        scope.spawn(load);
        // The database: nothing is minted, and nothing is revoked that could not be written.
        pair.world.broker().revoke(&["--jti", &jti(&alice)]).unwrap();
        pair.server.process().kill().unwrap();
        for _ in 0..ASKED {
            let answer = pair.world.curl_as("alice", "/orders/1").send().unwrap();
            assert_eq!(
                pair.world.reason(&answer).unwrap(),
                (503, "store_unavailable".to_owned())
            );
        }
        assert!(pair.other.revoke(&["--subject", &subject(&bob)]).is_err());
        pair.server.restart().unwrap();
        wait_until("tickets are taken again", EFFECT, || pair.mints(4)).unwrap();
        assert_eq!(pair.show(&used, 6), 0, "a ticket that was used before");
        wait_until("alice's token is out", EFFECT, || pair.all_are(&alice, 401)).unwrap();
        // A broker, which had just answered that somebody is out.
        let another = pair.world.token("alice", "/orders/1").unwrap();
        pair.other.revoke(&["--jti", &jti(&another)]).unwrap();
        pair.other.kill().unwrap();
        wait_until("its revocation is in force", EFFECT, || pair.all_are(&another, 401)).unwrap();
        wait_until("tickets are taken by the one that is left", EFFECT, || pair.mints(4)).unwrap();
        pair.other.start().unwrap();
        wait_until("tickets are taken", EFFECT, || pair.mints(8)).unwrap();
        assert_eq!(pair.show(&used, 6), 0, "a ticket that was used before");
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        refused.load(Ordering::Relaxed),
        0,
        "of a token that nobody had taken back"
    );
    assert!(passed.load(Ordering::Relaxed) > 100);
}

fn jti(of: &str) -> String {
    token::decode(of).unwrap().claims["jti"].as_str().unwrap().to_owned()
}

#[test]
fn a_database_that_was_restored_is_followed_from_the_beginning() {
    use std::io::Write as _;
    let mut pair = Pair::start();
    let bob = pair.world.token("bob", "/orders/1").unwrap();
    let alice = pair.world.token("alice", "/orders/1").unwrap();
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
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
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
