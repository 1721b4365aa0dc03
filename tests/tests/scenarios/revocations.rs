//! What an administrator takes back at the broker is refused in Envoy, at every worker, while the rest passes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kerbridge_tests::http::{Connection, Request};
use kerbridge_tests::shipped::ShippedYaml;
use kerbridge_tests::tls::TlsStream;
use kerbridge_tests::wait::{Deadline, wait_for, wait_until};
use kerbridge_tests::{HarnessError, World};
use serde_json::Value;

/// One poll of the feed, and the second that a worker may be behind; more for a machine that has much to do.
const EFFECT: Duration = Duration::from_secs(10);
/// Requests on connections of their own, so that each of two workers gets some.
const ASKED: usize = 12;

fn claim(token: &str, name: &str) -> String {
    let claims: Value = kerbridge_tests::token::decode(token).unwrap().claims;
    claims[name].as_str().unwrap().to_owned()
}

/// How each of some requests is answered: one that was on its way when its token was taken back is, too, without a reason.
fn all_are(world: &World, token: &str, status: u16) -> bool {
    let answer = |_| world.curl("/orders/1").bearer(token).send().unwrap().status;
    (0..ASKED).map(answer).all(|found| found == status)
}

#[test]
fn what_is_revoked_is_refused_at_every_worker_and_the_rest_passes() {
    let mut world = World::builder().concurrency(2).start().unwrap();
    let (alice, bob) = (
        world.token("alice", "/orders/1").unwrap(),
        world.token("bob", "/orders/1").unwrap(),
    );
    wait_until("the first feed", EFFECT, || {
        all_are(&world, &alice, 200) && all_are(&world, &bob, 200)
    })
    .unwrap();
    for (option, name) in [("--jti", "jti"), ("--sid", "sid"), ("--subject", "sub")] {
        let value = claim(&alice, name);
        world.broker().revoke(&[option, &value]).unwrap();
        wait_until(option, EFFECT, || all_are(&world, &alice, 401)).unwrap();
        let refused = world.curl("/orders/1").bearer(&alice).send().unwrap();
        assert_eq!(world.reason(&refused).unwrap(), (401, "revoked".to_owned()), "{option}");
        assert!(all_are(&world, &bob, 200), "{option}");
        world.broker().revoke(&[option, &value, "--lift"]).unwrap();
        wait_until("the revocation is lifted", EFFECT, || all_are(&world, &alice, 200)).unwrap();
    }
    // Without a time it is the person's, not the token's: no ticket becomes another.
    let subject = claim(&alice, "sub");
    world.broker().revoke(&["--subject", &subject]).unwrap();
    let refused = world.curl_as("alice", "/orders/1").send().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (401, "revoked".to_owned()));
    // A browser would go on bringing the same ticket.
    assert!(
        refused
            .all("www-authenticate")
            .iter()
            .all(|line| line.starts_with("Bearer "))
    );
    let said = "the subject was revoked";
    assert!(world.broker().logged(said).contains(said));
    assert_eq!(world.curl_as("bob", "/orders/1").send().unwrap().status, 200);
}

/// What revocations may take to be known everywhere: a poll of the shipped configuration, and a second.
const POLL_AND_A_SECOND: Duration = Duration::from_secs(3);
const WORKERS: usize = 2;
/// Tokens that are taken back, one by one, at no particular moment of a poll.
const MANY: usize = 50;
/// How long all of it may take.
const ALL_WITHIN: Duration = Duration::from_secs(60);

/// Has Envoy count the connections of each worker, for [`one_to_each`].
pub(crate) fn count_connections(yaml: &mut ShippedYaml) -> Result<(), HarnessError> {
    yaml.insert_below("- name: https", &["  stat_prefix: front"])
}

/// A connection to each of two workers.
pub(crate) fn one_to_each(world: &World) -> Vec<Connection<TlsStream>> {
    let taken = || {
        let of = |worker| world.stat(&format!("listener.front.worker_{worker}.downstream_cx_total"));
        (0..WORKERS).map(|worker| of(worker).unwrap_or(0)).collect::<Vec<_>>()
    };
    let mut connections: Vec<Option<_>> = (0..WORKERS).map(|_| None).collect();
    while connections.iter().any(Option::is_none) {
        let before = taken();
        let mut connection = world.connect().unwrap();
        // A worker takes it once its client has said something.
        assert_eq!(connection.exchange(&Request::get("/healthz")).unwrap().status, 200);
        let worker = wait_for("the connection at a worker", EFFECT, || {
            let now = taken();
            (0..WORKERS).find(|worker| now[*worker] > before[*worker])
        });
        connections[worker.unwrap()] = Some(connection);
    }
    connections.into_iter().flatten().collect()
}

/// Asks with each token that was taken back until it is refused, and says how long after the answer of the revocation that was,
/// and how long the longest request took.
fn until_refused(
    mut connection: Connection<TlsStream>,
    revoked: &Mutex<Vec<(String, Deadline)>>,
    are_all: &AtomicBool,
) -> (Vec<Duration>, Duration) {
    let (mut delays, mut longest) = (vec![None; MANY], Duration::ZERO);
    let patience = Deadline::after(ALL_WITHIN);
    while !(are_all.load(Ordering::SeqCst) && delays.iter().all(Option::is_some)) {
        // Whoever revokes may have failed.
        assert!(!patience.passed(), "not all was revoked and refused");
        let pending = revoked.lock().unwrap().clone();
        for ((token, answered), delay) in pending.iter().zip(&mut delays).filter(|(_, delay)| delay.is_none()) {
            let request = Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
            let asked = Deadline::after(EFFECT);
            let answer = connection.exchange(&request).unwrap();
            longest = longest.max(asked.elapsed());
            match answer.status {
                200 => assert!(!answered.passed(), "a revoked token passes still"),
                401 => *delay = Some(answered.elapsed()),
                other => assert_eq!(other, 401, "{}", answer.text()),
            }
            let is_closed = answer.header("connection").is_some_and(|value| value == b"close");
            assert!(!is_closed, "the connection, and with it the worker, is gone");
        }
        std::thread::yield_now();
    }
    (delays.into_iter().flatten().collect(), longest)
}

#[test]
fn each_of_many_revocations_counts_at_every_worker_within_a_poll_and_a_second() {
    let mut world = World::builder()
        .yaml(count_connections)
        .concurrency(u32::try_from(WORKERS).unwrap())
        .start()
        .unwrap();
    let tokens: Vec<String> = (0..MANY).map(|_| world.token("alice", "/orders/1").unwrap()).collect();
    let good = world.token("alice", "/orders/1").unwrap();
    let mut connections = one_to_each(&world);
    // All are known at both workers, so that a refusal is news.
    for connection in &mut connections {
        for token in tokens.iter().chain([&good]) {
            let request = Request::get("/orders/1").header("authorization", format!("Bearer {token}"));
            assert_eq!(connection.exchange(&request).unwrap().status, 200);
        }
    }
    let (revoked, are_all) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let measured: Vec<_> = std::thread::scope(|scope| {
        let probes: Vec<_> = connections
            .into_iter()
            .map(|connection| scope.spawn(|| until_refused(connection, &revoked, &are_all)))
            .collect();
        for token in &tokens {
            let request = Request::post("/oauth2/revoke", format!("token={token}"))
                .header("content-type", "application/x-www-form-urlencoded");
            assert_eq!(world.broker().ask(&request).unwrap().status, 200);
            revoked.lock().unwrap().push((token.clone(), Deadline::after(EFFECT)));
            // So that they fall on all moments of a poll.
            std::thread::sleep(Duration::from_millis(70));
        }
        are_all.store(true, Ordering::SeqCst);
        probes.into_iter().map(|probe| probe.join().unwrap()).collect()
    });
    let delays: Vec<Duration> = measured.iter().flat_map(|(delays, _)| delays).copied().collect();
    assert_eq!(delays.len(), MANY * WORKERS);
    let most = delays.iter().max().copied().unwrap();
    let mean = delays.iter().sum::<Duration>() / u32::try_from(delays.len()).unwrap();
    // What the machine itself held up is not Envoy's.
    let held_up = measured.iter().map(|(_, longest)| *longest).max().unwrap();
    println!(
        "{} refusals: {mean:?} after the answer, {most:?} at most; longest request {held_up:?}",
        delays.len()
    );
    assert!(
        most <= POLL_AND_A_SECOND + held_up,
        "{most:?}, longest request {held_up:?}"
    );
    assert_eq!(world.curl("/orders/1").bearer(&good).send().unwrap().status, 200);
    assert_eq!(world.reloads(), Some(0));
}
