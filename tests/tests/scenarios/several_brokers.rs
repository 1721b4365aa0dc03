//! Two brokers behind one Envoy, on one PostgreSQL database: what one did the other knows.

mod clocks;
mod database;
mod killed;
mod moved;
mod two_legs;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::broker::{Broker, BrokerSettings};
use kerbridge_tests::http::Request;
use kerbridge_tests::postgres::Postgres;
use kerbridge_tests::shipped;
use kerbridge_tests::token;
use kerbridge_tests::wait::{wait_for, wait_until};
use kerbridge_tests::world::{REALM, SERVICE};
use serde_json::{Value, json};
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

/// How a pair is to be.
struct Plan {
    /// How Envoy chooses one, as lines of their cluster; those by which it finds out which one is away are as documented.
    balance: String,
    /// The store of each.
    tables: [String; 2],
    /// How old what is known of revocations may be.
    max_staleness: Option<&'static str>,
}

impl Plan {
    /// Both find the database at these places.
    fn at(places: &[String], database: &str) -> Self {
        let table = table(places, database);
        Self {
            balance: documented()[1].clone(),
            tables: [table.clone(), table],
            max_staleness: None,
        }
    }
}

/// By which lines of the brokers' cluster docs/deployment.md has Envoy find out which of them is away, and choose one.
fn documented() -> [String; 2] {
    let page = std::fs::read_to_string(shipped::repository().join("docs/deployment.md")).unwrap();
    let between = |from: &str, to: &str| {
        let lines = page.lines().skip_while(|line| *line != from);
        let lines = lines.take_while(|line| *line != to);
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let balance = "    load_balancing_policy:";
    let found = [
        between("    outlier_detection:", balance),
        between(balance, "    typed_extension_protocol_options:"),
    ];
    assert!(
        found[0].contains("/readyz") && found[1].contains("x-kerbridge-source"),
        "{found:?}"
    );
    found
}

/// Where a server's socket is.
fn socket_of(server: &Postgres) -> String {
    format!("{}:{}", server.socket_folder().display(), server.port())
}

fn table(places: &[String], database: &str) -> String {
    format!("[store.postgres]\nhosts = {places:?}\ndatabase = {database:?}\n")
}

impl Pair {
    /// As documented.
    fn start() -> Self {
        Self::balanced(&documented()[1])
    }

    /// With these lines by which Envoy chooses a broker.
    fn balanced(balance: &str) -> Self {
        let server = Postgres::start().unwrap();
        let database = server.new_database().unwrap();
        let plan = Plan {
            balance: balance.to_owned(),
            ..Plan::at(&[socket_of(&server)], &database)
        };
        Self::planned(server, database, plan)
    }

    fn planned(server: Postgres, database: String, plan: Plan) -> Self {
        let [first_table, other_table] = plan.tables;
        let feed = move |config: &mut Value| {
            if let Some(age) = plan.max_staleness {
                config["issuers"][0]["feed"]["max_staleness"] = json!(age);
            }
        };
        let builder = World::builder().broker_table(&first_table).filter(feed).concurrency(2);
        let mut world = builder.start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let first = world.broker().folder().to_owned();
        let settings = BrokerSettings {
            issuer: shipped::ISSUER.to_owned(),
            realms: vec![REALM.to_owned()],
            acceptors: vec![SERVICE.to_owned()],
            keytab: world.folder().join("http.keytab"),
            policy: std::fs::read_to_string(first.join("policy.toml")).unwrap(),
            more: other_table,
        };
        let mut other = Broker::prepare(folder.path(), &settings).unwrap();
        std::fs::copy(first.join("kek"), folder.path().join("kek")).unwrap();
        other.start().unwrap();
        let (one, two) = (world.broker().socket(), other.socket());
        world
            .restart_envoy(|yaml| {
                let cluster = "  - name: kerbridge_broker\n    type: STATIC\n";
                let [away, _] = documented();
                yaml.replace(cluster, &format!("{cluster}{away}{}", plan.balance))?;
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

    /// Where each broker is asked, the other one last.
    fn sockets(&mut self) -> [PathBuf; 2] {
        [self.world.broker().socket(), self.other.socket()]
    }

    /// What each has logged since it started.
    fn logs(&mut self) -> [String; 2] {
        [self.world.broker().log(), self.other.log()]
    }

    /// A token of the user's; a database that has just come back may let a ticket wait for too long.
    fn token(&self, user: &str) -> String {
        wait_for("a token", EFFECT, || self.world.token(user, "/orders/1").ok()).unwrap()
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

fn jti(of: &str) -> String {
    token::decode(of).unwrap().claims["jti"].as_str().unwrap().to_owned()
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
    let (alice, bob) = (pair.token("alice"), pair.token("bob"));
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
