use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use kerbridge_wire::Span as TimeSpan;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::exchange::Peer;
use crate::metrics::Metrics;
use crate::time::UnixTime;

const LINE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that answers each export with the next of these, the last one for ever, and keeps what it was sent.
struct Collector {
    endpoint: KeyPlace,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    async fn start(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&taken);
        tokio::spawn(async move {
            let mut answers = answers.iter();
            let mut last = "200 OK";
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut more = [0; 4096];
                    let length = stream.read(&mut more).await.unwrap();
                    request.extend_from_slice(&more[..length]);
                }
                kept.lock().unwrap().push(String::from_utf8(request).unwrap());
                last = answers.next().unwrap_or(&last);
                let answer = format!("HTTP/1.1 {last}\r\ncontent-length: 2\r\n\r\n{{}}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self {
            endpoint: KeyPlace::Clear {
                address,
                path: "/v1/traces".into(),
            },
            taken,
        }
    }

    fn rules(&self) -> TracingRules {
        TracingRules {
            endpoint: self.endpoint.clone(),
            headers: vec![(HeaderName::from_static("x-tenant"), HeaderValue::from_static("seven"))],
            timeout: TimeSpan::TWO_SECONDS,
            service_name: "broker".into(),
            principals: false,
            per_mille: 0,
        }
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }

    /// All spans that came, in their order.
    fn spans(&self) -> Vec<Json> {
        let bodies = self.taken();
        let bodies = bodies.iter().map(|request| request.split_once("\r\n\r\n").unwrap().1);
        let read = |body: &str| serde_json::from_str::<Json>(body).unwrap();
        let spans = |body: Json| {
            body["resourceSpans"][0]["scopeSpans"][0]["spans"]
                .as_array()
                .unwrap()
                .clone()
        };
        bodies.map(read).flat_map(spans).collect()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

const CLOCK: Clock = Clock::Fixed(UnixTime::from_seconds(2000));

fn caller(listener: ListenerName, proof: ClientProof) -> Caller {
    Caller {
        listener,
        client: "somebody".into(),
        proof,
        peer: Peer::default(),
    }
}

fn envoy() -> Caller {
    caller(ListenerName::Mesh, ClientProof::Socket)
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let parsed = lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    let mut headers = HeaderMap::new();
    for (name, value) in parsed {
        headers.append(name, value);
    }
    headers
}

/// A request with one step, that is refused.
async fn request(tracer: &Tracer, headers: &HeaderMap, caller: &Caller) {
    let answer = async {
        let work = async { Err::<(), Reason>(Reason::StoreUnavailable) };
        assert!(step(Step::FirstUse, work, |reason| *reason).await.is_err());
        decided(Direction::TicketToToken, Reason::StoreUnavailable, || {
            Some("alice@A.TEST")
        });
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    };
    let response = tracer.serve("POST /oauth2/token", headers, caller, answer).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

fn attribute<'s>(span: &'s Json, key: &str) -> Option<&'s Json> {
    let attributes = span["attributes"].as_array().unwrap();
    attributes.iter().find(|one| one["key"] == key).map(|one| &one["value"])
}

#[tokio::test]
async fn a_requests_span_is_the_child_of_its_callers_and_has_its_steps_as_children() {
    let collector = Collector::start(&[]).await;
    let metrics = Metrics::new().traces();
    let (tracer, exporter) = Tracer::start(collector.rules(), metrics.clone(), CLOCK);
    let running = exporter.run();
    request(
        &tracer,
        &headers(&[("traceparent", LINE), ("tracestate", "a=b"), ("tracestate", "c=d")]),
        &envoy(),
    )
    .await;
    running.finish().await;

    let sent = collector.taken();
    assert!(sent[0].starts_with("POST /v1/traces HTTP/1.1\r\n"), "{sent:?}");
    for line in ["content-type: application/json", "x-tenant: seven"] {
        assert!(sent[0].contains(line), "{line}: {sent:?}");
    }
    let spans = collector.spans();
    let [step, root] = spans.as_slice() else {
        panic!("{spans:?}");
    };
    assert_eq!(root["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(step["parentSpanId"], root["spanId"]);
    for span in [step, root] {
        assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(span["traceState"], "a=b,c=d");
        // The fault was ours.
        assert_eq!(span["status"]["code"], 2);
        assert_eq!(
            attribute(span, "kerbridge.reason").unwrap()["stringValue"],
            "store_unavailable"
        );
        assert!(
            span["startTimeUnixNano"].as_str().unwrap().starts_with("2000"),
            "{span}"
        );
    }
    assert_eq!(
        (&root["name"], &root["kind"]),
        (&Json::from("POST /oauth2/token"), &Json::from(2))
    );
    assert_eq!(
        (&step["name"], &step["kind"]),
        (&Json::from("note first use"), &Json::from(3))
    );
    assert_eq!(attribute(root, "http.response.status_code").unwrap()["intValue"], "503");
    assert_eq!(attribute(root, "enduser.id"), None);
    assert_eq!(metrics.counts(), (2, 0));
}

#[tokio::test]
async fn a_principal_is_named_only_where_that_is_wanted() {
    let collector = Collector::start(&[]).await;
    let rules = TracingRules {
        principals: true,
        ..collector.rules()
    };
    let (tracer, exporter) = Tracer::start(rules, Metrics::new().traces(), CLOCK);
    let running = exporter.run();
    request(&tracer, &headers(&[("traceparent", LINE)]), &envoy()).await;
    running.finish().await;
    let spans = collector.spans();
    assert_eq!(
        attribute(&spans[1], "enduser.id").unwrap()["stringValue"],
        "alice@A.TEST"
    );
}

#[tokio::test]
async fn nothing_is_recorded_that_its_caller_does_not_record_or_that_a_stranger_would_have_recorded() {
    let collector = Collector::start(&[]).await;
    let metrics = Metrics::new().traces();
    let (tracer, exporter) = Tracer::start(collector.rules(), metrics.clone(), CLOCK);
    let running = exporter.run();
    let sampled = headers(&[("traceparent", LINE)]);
    for (lines, caller) in [
        (HeaderMap::new(), envoy()),
        (headers(&[("traceparent", &LINE.replace("-01", "-00"))]), envoy()),
        (headers(&[("traceparent", LINE), ("traceparent", LINE)]), envoy()),
        (headers(&[("traceparent", "nonsense")]), envoy()),
        (sampled.clone(), caller(ListenerName::Public, ClientProof::Nothing)),
    ] {
        request(&tracer, &lines, &caller).await;
    }
    let known = ClientProof::Certificate(kerbridge_gate::certificate::CertificateDigest::from_sha256([7; 32]));
    request(&tracer, &sampled, &caller(ListenerName::Public, known)).await;
    request(&Tracer::default(), &sampled, &envoy()).await;
    running.finish().await;
    // Those of the client with a certificate.
    assert_eq!(collector.spans().len(), 2);
    assert_eq!(metrics.counts(), (2, 0));
}

#[tokio::test]
async fn requests_without_a_trace_begin_one_as_often_as_that_is_wanted() {
    let collector = Collector::start(&[]).await;
    let rules = TracingRules {
        per_mille: 1000,
        ..collector.rules()
    };
    let (tracer, exporter) = Tracer::start(rules, Metrics::new().traces(), CLOCK);
    let running = exporter.run();
    request(&tracer, &HeaderMap::new(), &envoy()).await;
    running.finish().await;
    let spans = collector.spans();
    assert!(spans[1].get("parentSpanId").is_none(), "{spans:?}");

    let mut trace = [7; 16];
    let mut chosen = |last: [u8; 2], per_mille| {
        trace[14..].copy_from_slice(&last);
        is_chosen(&trace, per_mille)
    };
    assert!(chosen([0xff, 0xff], 1000) && chosen([0, 0], 1) && chosen([0x7f, 0xff], 500));
    assert!(!chosen([0, 0], 0) && !chosen([0xff, 0xff], 999) && !chosen([0x80, 0], 500));
}

#[tokio::test]
async fn spans_without_room_are_counted_and_nobody_waits_for_them() {
    let collector = Collector::start(&[]).await;
    let metrics = Metrics::new().traces();
    // Nobody takes anything out of the queue.
    let (tracer, exporter) = Tracer::start(collector.rules(), metrics.clone(), CLOCK);
    let lines = headers(&[("traceparent", LINE)]);
    let more = 3;
    for _ in 0..MOST_WAITING + more {
        request(&tracer, &lines, &envoy()).await;
    }
    assert_eq!(metrics.counts(), (0, 2 * more as u64));
    // All that had room leaves at the end.
    exporter.run().finish().await;
    assert_eq!(metrics.counts(), (2 * MOST_WAITING as u64, 2 * more as u64));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_handed_on_for_now_is_tried_again_and_what_is_refused_is_lost() {
    for (answers, count, counts) in [
        (
            ["503 Service Unavailable", "429 Too Many Requests", "200 OK"].as_slice(),
            3,
            (2, 0),
        ),
        (&["503 Service Unavailable"], 3, (0, 2)),
        (&["400 Bad Request"], 1, (0, 2)),
    ] {
        let collector = Collector::start(answers).await;
        let metrics = Metrics::new().traces();
        let (tracer, exporter) = Tracer::start(collector.rules(), metrics.clone(), CLOCK);
        let running = exporter.run();
        request(&tracer, &headers(&[("traceparent", LINE)]), &envoy()).await;
        while metrics.counts() == (0, 0) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(
            (collector.taken().len(), metrics.counts()),
            (count, counts),
            "{answers:?}"
        );
        running.finish().await;
    }
}

#[tokio::test]
async fn an_end_does_not_wait_longer_for_a_collector_than_one_export_may_take() {
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = TracingRules {
        endpoint: KeyPlace::Clear {
            address: listener.local_addr().unwrap(),
            path: "/v1/traces".into(),
        },
        timeout: TimeSpan::from_seconds(1).unwrap(),
        ..Collector::start(&[]).await.rules()
    };
    let (tracer, exporter) = Tracer::start(rules, Metrics::new().traces(), CLOCK);
    let running = exporter.run();
    request(&tracer, &headers(&[("traceparent", LINE)]), &envoy()).await;
    let began = Instant::now();
    running.finish().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn whether_spans_would_be_taken_is_found_out_without_any() {
    let collector = Collector::start(&["200 OK", "401 Unauthorized"]).await;
    assert_eq!(try_out(&collector.rules()).await, Ok(()));
    assert_eq!(collector.spans(), Vec::<Json>::new());
    let refused = try_out(&collector.rules()).await.unwrap_err();
    assert!(refused.contains("401"), "{refused}");
}
