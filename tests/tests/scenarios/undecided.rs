//! While the broker has not answered, nothing of a request goes upstream: no head, no body, no trailers.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::http::Connection;
use kerbridge_tests::scripted_server::Reply;
use kerbridge_tests::tls::TlsStream;
use kerbridge_tests::upstream::target;
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::SERVICE;
use serde_json::{Value, json};

use crate::headers::with_upstream_trailers;

/// What the broker does once it is let go: answer as the real one, or as said.
type Answer = Option<Reply>;

/// Holds every exchange until it is opened.
#[derive(Default)]
struct Latch {
    asked: AtomicUsize,
    answer: Mutex<Option<Answer>>,
    changed: Condvar,
}

impl Latch {
    fn hold(&self) -> Answer {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answer = self.answer.lock().unwrap();
        loop {
            if let Some(answer) = answer.clone() {
                return answer;
            }
            answer = self.changed.wait(answer).unwrap();
        }
    }

    fn open(&self, answer: Answer) {
        *self.answer.lock().unwrap() = Some(answer);
        self.changed.notify_all();
    }

    fn close(&self) {
        *self.answer.lock().unwrap() = None;
        self.asked.store(0, Ordering::SeqCst);
    }

    fn wait_until_asked(&self, times: usize) {
        wait_until("the exchange call", Duration::from_secs(10), || {
            self.asked.load(Ordering::SeqCst) >= times
        })
        .unwrap();
    }
}

/// A world whose broker waits for the latch; with trailers all the way, and Envoy's option on or off.
fn world(latch: &Arc<Latch>, stop_iteration: bool) -> World {
    let latch = Arc::clone(latch);
    let option = format!("allow_on_headers_stop_iteration: {stop_iteration}");
    World::builder()
        .intercept(move |call| {
            if target(call) == "/oauth2/token" {
                latch.hold()
            } else {
                None
            }
        })
        .filter(|filter| filter["broker"]["timeout"] = json!("10s"))
        .yaml(move |yaml| {
            yaml.insert_below("# Never FAIL_OPEN", &[&option])?;
            yaml.insert_below(
                "stat_prefix: https",
                &["http_protocol_options: {enable_trailers: true}"],
            )?;
            with_upstream_trailers(yaml)
        })
        .start()
        .unwrap()
}

/// Sends the head of a POST with a ticket, and no byte of its body.
fn send_head(world: &World) -> Connection<TlsStream> {
    let ticket = world.negotiate_token("alice", SERVICE).unwrap();
    let mut connection = world.connect().unwrap();
    let head = format!(
        "POST /orders/1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Negotiate {ticket}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    connection.send_raw(head.as_bytes()).unwrap();
    connection
}

const BODY: &[u8] = b"5\r\nfirst\r\n6\r\nsecond\r\n";
const END: &[u8] = b"0\r\nx-check: 7\r\nx-kerbridge-subject: root\r\n\r\n";

/// Long enough for Envoy to have sent something that it should not have: it takes a millisecond.
fn assert_nothing_arrives(world: &World) {
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(world.upstream().requests().len(), 0, "an undecided request arrived");
}

fn holds(stop_iteration: bool) {
    let latch = Arc::new(Latch::default());
    let world = world(&latch, stop_iteration);
    let mut connection = send_head(&world);
    latch.wait_until_asked(1);
    assert_nothing_arrives(&world);
    connection.send_raw(BODY).unwrap();
    assert_nothing_arrives(&world);
    connection.send_raw(END).unwrap();
    assert_nothing_arrives(&world);

    latch.open(None);
    let answer = connection.read_response().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(shown["body"], "firstsecond");
    assert_eq!(shown["trailers"], json!([["x-check", "7"]]));
    assert_eq!(world.upstream().requests().len(), 1);
}

#[test]
fn a_body_and_trailers_wait_for_the_broker() {
    holds(false);
}

#[test]
fn a_body_and_trailers_wait_for_the_broker_where_envoy_calls_back_for_them() {
    holds(true);
}

fn refuses(stop_iteration: bool) {
    let latch = Arc::new(Latch::default());
    let world = world(&latch, stop_iteration);
    let json = |status: u16, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} S\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        Reply::Raw(format!("{head}{body}").into_bytes())
    };
    for (what, wrong, expected) in [
        ("500", Reply::status(500, ""), 503),
        ("wrong body", json(200, "{}"), 503),
        ("no http", Reply::Cut(b"nonsense".to_vec()), 503),
        ("closed", Reply::Cut(Vec::new()), 503),
        (
            "half a body",
            Reply::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
            503,
        ),
        (
            "refused",
            json(400, r#"{"error":"invalid_grant","reason":"ticket_expired"}"#),
            401,
        ),
        (
            "denied",
            json(400, r#"{"error":"invalid_target","reason":"denied_by_policy"}"#),
            403,
        ),
        (
            "overloaded",
            json(
                503,
                r#"{"error":"temporarily_unavailable","reason":"broker_overloaded"}"#,
            ),
            503,
        ),
    ] {
        latch.close();
        let mut connection = send_head(&world);
        latch.wait_until_asked(1);
        connection.send_raw(BODY).unwrap();
        connection.send_raw(END).unwrap();
        latch.open(Some(wrong));
        let answer = connection.read_response().unwrap();
        let refusal = world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(refusal.status, expected, "{what}: {refusal:?}");
        // And none of it is sent after the answer either.
        assert_eq!(world.upstream().requests().len(), 0, "{what}");
    }
    latch.open(None);
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
    assert_eq!(world.upstream().requests().len(), 1);
}

#[test]
fn a_body_and_trailers_of_a_refused_request_never_arrive() {
    refuses(false);
}

#[test]
fn a_body_and_trailers_of_a_refused_request_never_arrive_where_envoy_calls_back_for_them() {
    refuses(true);
}

#[test]
fn a_body_that_comes_after_the_refusal_never_arrives() {
    for stop_iteration in [false, true] {
        let latch = Arc::new(Latch::default());
        let world = world(&latch, stop_iteration);
        let mut connection = send_head(&world);
        latch.wait_until_asked(1);
        connection.send_raw(BODY).unwrap();
        latch.open(Some(Reply::status(500, "")));
        assert_eq!(connection.read_response().unwrap().status, 503);
        // Envoy may have closed the connection by now; what counts is the other side.
        connection.stream().write_all(END).unwrap_or(());
        assert_nothing_arrives(&world);
    }
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let latch = Arc::new(Latch::default());
    let mut world = world(&latch, false);
    for round in 1..=5 {
        let connection = send_head(&world);
        latch.wait_until_asked(round);
        drop(connection);
    }
    world
        .envoy()
        .wait_for_stat("http.https.downstream_rq_rx_reset", 5, Duration::from_secs(10))
        .unwrap();
    // Envoy is done with all five, long before the filter's time-out of ten seconds would have ended them. Their calls go on:
    // it ends none of those with its stream.
    let active = |world: &mut World, gauge: &str| world.envoy().stat(gauge);
    wait_until("the end of the requests", Duration::from_secs(5), || {
        active(&mut world, "http.https.downstream_rq_active") == Some(0)
    })
    .unwrap();
    latch.open(None);
    // Now the broker answers, with tokens for alice: to streams that are gone, and to the next request least of all.
    wait_until("the late answers", Duration::from_secs(10), || {
        let mut answers = world.relay().unwrap().recorded();
        answers.retain(|recorded| target(&recorded.call) == "/oauth2/token");
        answers.len() == 5
            && answers
                .iter()
                .all(|recorded| recorded.answer.as_ref().is_some_and(|answer| answer.status == 200))
    })
    .unwrap();
    wait_until("the end of the calls", Duration::from_secs(5), || {
        active(&mut world, "cluster.kerbridge_broker.upstream_rq_active") == Some(0)
    })
    .unwrap();
    assert_eq!(
        active(&mut world, "cluster.kerbridge_broker.upstream_rq_timeout"),
        Some(0)
    );
    let answer = world.curl_as("bob", "/orders/1").send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("bob@LAB.TEST") && !answer.text().contains("alice@LAB.TEST"));
    assert_eq!(world.upstream().requests().len(), 1);
    assert_eq!(world.reloads(), Some(0));
}

#[test]
fn requests_that_wait_do_not_hold_up_each_other_or_others() {
    let latch = Arc::new(Latch::default());
    let world = world(&latch, false);
    let (alice, bob) = std::thread::scope(|scope| {
        let alice = scope.spawn(|| world.curl_as("alice", "/orders/alice").http2().send().unwrap());
        let bob = scope.spawn(|| world.curl_as("bob", "/orders/bob").http2().send().unwrap());
        latch.wait_until_asked(2);
        assert_nothing_arrives(&world);
        // A request that needs no exchange overtakes those that wait.
        let open = world.curl("/healthz").http2().send().unwrap();
        assert_eq!((open.status, open.http_version.as_str()), (200, "2"));
        latch.open(None);
        (alice.join().unwrap(), bob.join().unwrap())
    });
    for (answer, user) in [(alice, "alice"), (bob, "bob")] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["target"], format!("/orders/{user}"));
        assert!(answer.text().contains(&format!("{user}@LAB.TEST")));
    }
}

#[test]
fn a_large_upload_with_a_ticket_passes_whole() {
    let world = World::start().unwrap();
    let body = vec![b'x'; 5 << 20];
    for http2 in [false, true] {
        let mut upload = world.curl_as("alice", "/orders/1").body(body.clone());
        if http2 {
            upload = upload.http2();
        }
        let answer = upload.send().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["body_bytes"], body.len());
    }
}
