use std::io;
use std::sync::{LazyLock, Mutex};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

use super::*;
use crate::exchange::Refusal;

/// What is logged by this thread while it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

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
    fn of_this_thread() -> (Self, DefaultGuard) {
        LazyLock::force(&ANOTHER);
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn take(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .inspect(|line| assert!(line.len() < 2048, "{} bytes in one line", line.len()))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
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
    let refused = [&hints[..], &[("client_secret", "x")]].concat();
    let response = ask(ListenerName::Mesh, &broker, body(&refused)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let lines = log.take();
    assert_eq!(lines[0]["reason"], "invalid_request");
    for (name, value) in hints {
        assert_eq!(lines[0][name], value, "{name}");
    }
}
