use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{LazyLock, Mutex};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::exchange::Refusal;
use crate::log::{LogQueue, Stream};

/// What is logged by this thread while it lives.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// While there is one subscriber only, an event that another test's thread reaches first is switched off for all threads:
/// that thread has none.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

impl Log {
    pub(crate) fn of_this_thread() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        (log, logging(move || writer.clone()))
    }

    pub(crate) fn take(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .inspect(|line| assert!(line.len() < 2048, "{} bytes in one line", line.len()))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Until it ends, what this thread logs goes there.
fn logging(to: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) -> DefaultGuard {
    LazyLock::force(&ANOTHER);
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true);
    tracing::subscriber::set_default(subscriber.with_writer(to).finish())
}

#[tokio::test]
async fn a_request_cannot_make_a_log_line_long() {
    let (log, _own) = Log::of_this_thread();
    let broker = broker(Err(Reason::Replay));
    let long = "x".repeat(100_000);
    for listener in [ListenerName::Public, ListenerName::Mesh] {
        ask(listener, &broker, body(&[("audience", &long)])).await;
        let lines = log.take();
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&lines[0]["reason"], &lines[0]["audience"]),
            (&"invalid_target".into(), &Value::Null)
        );
    }
    let refusal = Refusal::for_test(Reason::SpnUnknown, &format!("the ticket is for {}", "é".repeat(60_000)));
    let caller = Caller {
        listener: ListenerName::Public,
        client: "public".into(),
        proof: ClientProof::Nothing,
        peer: Peer::default(),
    };
    broker.exchange.refuse(refusal, &caller);
    let lines = log.take();
    assert!(lines[0]["detail"].as_str().unwrap().starts_with("the ticket is for éé"));
}

#[tokio::test]
async fn a_refused_request_is_logged_with_what_the_mesh_said_of_it() {
    let (log, _own) = Log::of_this_thread();
    let broker = broker(Ok("alice@A.TEST"));
    let hints = [("request_id", "r-1"), ("source", "10.0.0.1"), ("route", "orders")];
    let refused = [&hints[..], &[("actor_token", "x")]].concat();
    let response = ask(ListenerName::Mesh, &broker, body(&refused)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let lines = log.take();
    assert_eq!(lines[0]["reason"], "invalid_request");
    for (name, value) in hints {
        assert_eq!(lines[0][name], value, "{name}");
    }
}

/// Takes no line before the other end of the channel is gone.
struct Late(Receiver<()>, Log);

impl io::Write for Late {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        assert!(self.0.recv().is_err());
        self.1.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A broker that gives nothing whose event is not written there.
fn audited(queue: LogQueue, deadline: Duration) -> Arc<Broker> {
    let mut broker = Arc::into_inner(broker(Ok("alice@A.TEST"))).unwrap();
    broker.exchange.audit = Audit::awaiting(queue);
    broker.exchange.to_token.as_mut().unwrap().deadline = deadline;
    Arc::new(broker)
}

#[tokio::test]
async fn no_token_leaves_whose_event_is_not_written_where_that_is_wanted() {
    let (go, told) = channel();
    let log = Log::default();
    let lost = prometheus_client::metrics::counter::Counter::default();
    let late = Stream(Late(told, log.clone()));
    let (queue, end) = LogQueue::start_with("audit", late, lost, 16).unwrap();
    let own = logging(queue.clone());
    let broker = audited(queue.clone(), Duration::from_millis(50));
    let response = ask(ListenerName::Mesh, &broker, body(&[])).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(answer["reason"], "internal");
    assert_eq!(answer["access_token"], Value::Null);
    assert_eq!(broker.exchange.metrics.exchanges(Reason::Internal), 1);
    assert_eq!(broker.exchange.metrics.exchanges(Reason::Ok), 0);
    // Once they can be written, the next one is given, and the event of the one that was not says so.
    drop(go);
    let broker = audited(queue, Duration::from_secs(10));
    let response = ask(ListenerName::Mesh, &broker, body(&[])).await;
    assert_eq!(response.status(), StatusCode::OK);
    drop((own, end));
    let lines = log.take();
    let told: Vec<(&str, &Value)> = lines
        .iter()
        .map(|line| (line["message"].as_str().unwrap(), &line["jti"]))
        .collect();
    assert_eq!(
        told.iter().map(|(message, _)| *message).collect::<Vec<_>>(),
        ["exchanged", "refused", "exchanged"]
    );
    assert_eq!(told[0].1, told[1].1);
    assert_ne!(told[0].1, told[2].1);
}

#[tokio::test]
async fn a_flood_of_refusals_leaves_room_for_who_was_given_what() {
    let (go, told) = channel();
    let log = Log::default();
    let lost = prometheus_client::metrics::counter::Counter::default();
    let late = Stream(Late(told, log.clone()));
    let (queue, end) = LogQueue::start_with("log", late, lost.clone(), 16).unwrap();
    let own = logging(queue);
    let broker = broker(Ok("alice@A.TEST"));
    for _ in 0..100 {
        ask(ListenerName::Public, &broker, body(&[("audience", "nobody")])).await;
    }
    // Twelve have room, and as many may have been taken out to be written.
    assert!(lost.get() >= 76, "{lost:?}");
    for _ in 0..3 {
        assert_eq!(
            ask(ListenerName::Mesh, &broker, body(&[])).await.status(),
            StatusCode::OK
        );
    }
    drop((own, go, end));
    let exchanged = |line: &Value| line["message"] == "exchanged" && line["target"] == "kerbridge::audit";
    assert_eq!(log.take().iter().filter(|line| exchanged(line)).count(), 3);
}

#[tokio::test]
async fn an_event_written_late_never_stands_without_the_refusal_that_takes_it_back() {
    let (go, told) = channel();
    let log = Log::default();
    let lost = prometheus_client::metrics::counter::Counter::default();
    let late = Stream(Late(told, log.clone()));
    let (queue, end) = LogQueue::start_with("audit", late, lost.clone(), 16).unwrap();
    let own = logging(queue.clone());
    let broker = audited(queue, Duration::from_millis(50));
    // All the room that refusals have.
    for _ in 0..100 {
        ask(ListenerName::Public, &broker, body(&[("audience", "")])).await;
    }
    let response = ask(ListenerName::Mesh, &broker, body(&[])).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    // Those that give nothing because others were not written have no room of their own.
    while broker.exchange.ready().is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = lost.get();
    for _ in 0..20 {
        let response = ask(ListenerName::Mesh, &broker, body(&[])).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(lost.get(), before + 20);
    drop((own, go, end));
    let lines = log.take();
    let [.., late, withheld] = &lines[..] else {
        panic!("{lines:#?}")
    };
    assert_eq!(
        (&late["message"], &withheld["message"]),
        (&"exchanged".into(), &"refused".into())
    );
    assert_eq!(late["jti"], withheld["jti"]);
}

#[tokio::test]
async fn each_event_has_the_address_and_name_of_the_connection_on_public_and_those_of_envoy_on_mesh() {
    let (log, _own) = Log::of_this_thread();
    let caller = |listener| Caller {
        listener,
        client: "client".into(),
        proof: ClientProof::Nothing,
        peer: Peer {
            address: Some("192.0.2.7".parse().unwrap()),
            server_name: Some("login.test".into()),
            uid: None,
        },
    };
    let hints = [("source", "198.51.100.1:4711"), ("server_name", "api.test")];
    for (listener, hints, expected) in [
        (ListenerName::Public, &[][..], ["192.0.2.7", "login.test"]),
        (ListenerName::Mesh, &hints[..], ["198.51.100.1", "api.test"]),
    ] {
        let (caller, body) = (caller(listener), body(hints));
        for (outcome, message) in [(Ok("alice@A.TEST"), "exchanged"), (Err(Reason::Replay), "refused")] {
            let broker = broker(outcome);
            let answer = broker.exchange.answer(body.as_bytes(), &caller, broker.clock).await;
            assert_eq!(answer.is_ok(), outcome.is_ok());
            let lines = log.take();
            assert_eq!(lines[0]["message"], message);
            assert_eq!(
                [&lines[0]["source"], &lines[0]["server_name"]],
                expected,
                "{message} on {listener}"
            );
        }
    }
    let broker = broker(Ok("alice@A.TEST"));
    let shown = crate::exchange::Shown::Nothing;
    let public = caller(ListenerName::Public);
    broker
        .exchange
        .revoke(b"token=x", shown, &public, broker.clock)
        .await
        .unwrap();
    let service = Caller {
        proof: ClientProof::Certificate(crate::client_certificate::digest_of(b"x")),
        ..public
    };
    let now = broker.clock.now();
    broker.exchange.introspect(b"token=x", &service, now).await.unwrap();
    let lines = log.take();
    for (line, message) in lines.iter().zip(["nothing to revoke", "introspected"]) {
        assert_eq!(
            (&line["message"], &line["source"]),
            (&message.into(), &"192.0.2.7".into())
        );
    }
    assert_eq!(lines.len(), 2);
}
