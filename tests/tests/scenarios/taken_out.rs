//! An administrator takes a user out: tokens, cookies, tickets and tickets-to-come of that user stop, at every worker, and
//! nobody else notices.

use std::sync::Mutex;
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::curl::Answer;
use kerbridge_tests::http::{Connection, Request};
use kerbridge_tests::tls::TlsStream;
use kerbridge_tests::token::decode;
use kerbridge_tests::wait::Deadline;
use serde_json::{Value, json};

use crate::revocations::{count_connections, one_to_each};

/// The cookie of the audience `orders`.
const COOKIE: &str = "__Host-kerbridge-00125d9250be8b4c";
/// What revocations may take to be known everywhere: a poll of the shipped configuration, and a second.
const POLL_AND_A_SECOND: Duration = Duration::from_secs(3);
/// How long it may take on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that fetch tokens at once.
const CLIENTS: usize = 4;
const BEARER: usize = 60;
const COOKIES: usize = 20;
const INVERSE: usize = 20;
const WORKERS: usize = 2;

/// What a token is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bearer,
    Cookie,
    /// To a service that takes tickets only.
    Inverse,
}

#[derive(Clone, Debug)]
struct Held {
    kind: Kind,
    token: String,
}

impl Held {
    fn request(&self) -> Request {
        match self.kind {
            Kind::Bearer => Request::get("/orders/1").header("authorization", format!("Bearer {}", self.token)),
            Kind::Cookie => Request::get("/orders/1").header("cookie", format!("{COOKIE}={}", self.token)),
            Kind::Inverse => Request::get("/legacy/1").header("authorization", format!("Bearer {}", self.token)),
        }
    }
}

/// Tokens of a user, fetched by several clients at once; each is another one.
fn tokens(world: &World, user: &str, kind: Kind, count: usize) -> Vec<Held> {
    let path = if kind == Kind::Inverse {
        "/legacy/1"
    } else {
        "/orders/1"
    };
    let got = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let got = &got;
            scope.spawn(move || {
                for _ in (client..count).step_by(CLIENTS) {
                    let token = world.token(user, path).unwrap();
                    got.lock().unwrap().push(Held { kind, token });
                }
            });
        }
    });
    got.into_inner().unwrap()
}

/// Asks with each token until it is refused: how long after the answer of the revocation that was, and how long the longest
/// request took.
fn until_refused(
    connection: &mut Connection<TlsStream>,
    held: &[Held],
    answered: Deadline,
) -> (Vec<Duration>, Duration) {
    let (mut delays, mut longest) = (vec![None; held.len()], Duration::ZERO);
    while delays.iter().any(Option::is_none) {
        for (one, delay) in held.iter().zip(&mut delays).filter(|(_, delay)| delay.is_none()) {
            let asked = Deadline::after(PATIENCE);
            let answer = connection.exchange(&one.request()).unwrap();
            longest = longest.max(asked.elapsed());
            match answer.status {
                // The broker knows it before it answers, and each request needs a ticket of its own.
                200 => assert!(
                    one.kind != Kind::Inverse && !answered.passed(),
                    "{:?} passes still",
                    one.kind
                ),
                401 => *delay = Some(answered.elapsed()),
                other => assert_eq!(other, 401, "{}", answer.text()),
            }
        }
    }
    (delays.into_iter().flatten().collect(), longest)
}

fn refused(world: &World, answer: &Answer) -> (u16, String) {
    world.reason(answer).unwrap()
}

#[test]
fn whoever_is_taken_out_has_no_token_no_cookie_no_ticket_and_none_to_come_at_any_worker() {
    let mut world = World::builder()
        .delegating()
        .concurrency(u32::try_from(WORKERS).unwrap())
        .yaml(count_connections)
        .filter(|filter| {
            for route in filter["routes"].as_array_mut().unwrap() {
                if route["audience"] == "orders" {
                    route["accept"] = json!(["negotiate", "bearer", "cookie"]);
                }
            }
        })
        .start()
        .unwrap();
    let mut held = tokens(&world, "alice", Kind::Bearer, BEARER);
    held.extend(tokens(&world, "alice", Kind::Cookie, COOKIES));
    held.extend(tokens(&world, "alice", Kind::Inverse, INVERSE));
    let others = tokens(&world, "bob", Kind::Bearer, 2);
    let subject: Value = decode(&held[0].token).unwrap().claims["sub"].clone();
    assert_eq!(subject, "alice@LAB.TEST");
    let mut connections = one_to_each(&world);
    // All are known at both workers, and the broker has the user's ticket for the service, so that a refusal is news.
    for connection in &mut connections {
        for one in held.iter().chain(&others) {
            let answer = connection.exchange(&one.request()).unwrap();
            assert_eq!(answer.status, 200, "{:?}: {}", one.kind, answer.text());
        }
    }

    world.broker().revoke(&["--subject", "alice@LAB.TEST"]).unwrap();
    let answered = Deadline::after(PATIENCE);
    let (held, world) = (&held, &world);
    let measured: Vec<_> = std::thread::scope(|scope| {
        let probes: Vec<_> = connections
            .iter_mut()
            .map(|connection| scope.spawn(move || until_refused(connection, held, answered)))
            .collect();
        // Her ticket is good, and of no use from the very moment.
        for path in ["/orders/1", "/legacy/1"] {
            let answer = world.curl_as("alice", path).send().unwrap();
            assert_eq!(refused(world, &answer), (401, "revoked".to_owned()), "{path}");
        }
        probes.into_iter().map(|probe| probe.join().unwrap()).collect()
    });
    let delays: Vec<Duration> = measured.iter().flat_map(|(delays, _)| delays).copied().collect();
    assert_eq!(delays.len(), (BEARER + COOKIES + INVERSE) * WORKERS);
    let most = delays.iter().max().copied().unwrap();
    let mean = delays.iter().sum::<Duration>() / u32::try_from(delays.len()).unwrap();
    // What the machine itself held up is not Envoy's.
    let held_up = measured.iter().map(|(_, longest)| *longest).max().unwrap();
    println!(
        "{} tokens at {WORKERS} workers: {mean:?} after the answer, {most:?} at most; longest request {held_up:?}",
        held.len()
    );
    assert!(
        most <= POLL_AND_A_SECOND + held_up,
        "{most:?}, longest request {held_up:?}"
    );

    // It stays so, with the reason, and nothing of hers reaches the service that takes tickets.
    let arrived = world.apache().unwrap().served().unwrap().len();
    for kind in [Kind::Bearer, Kind::Cookie, Kind::Inverse] {
        let one = held.iter().find(|one| one.kind == kind).unwrap();
        for connection in &mut connections {
            let answer = connection.exchange(&one.request()).unwrap();
            let refusal = world.refusal(answer.status, &answer.body).unwrap();
            assert_eq!((refusal.status, refusal.reason.as_str()), (401, "revoked"), "{kind:?}");
        }
    }
    assert_eq!(world.apache().unwrap().served().unwrap().len(), arrived);
    for connection in &mut connections {
        for one in &others {
            assert_eq!(connection.exchange(&one.request()).unwrap().status, 200);
        }
    }
    assert_eq!(world.curl_as("bob", "/orders/1").send().unwrap().status, 200);
    assert_eq!(world.reloads(), Some(0));
}
