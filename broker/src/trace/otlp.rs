//! Writes spans as OTLP has them in JSON (OTLP 1.x, "JSON Protobuf Encoding"): identifiers in hexadecimal, numbers of 64 bits as
//! texts, kinds and codes as numbers.

use serde::{Deserialize, Serialize};

use super::span::{Kind, Span, Value};
use crate::hexadecimal;

/// Who exports, in `InstrumentationScope`.
const SCOPE: &str = "kerbridge";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Export<'s> {
    resource_spans: [ResourceSpans<'s>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'s> {
    resource: Resource<'s>,
    scope_spans: [ScopeSpans<'s>; 1],
}

#[derive(Serialize)]
struct Resource<'s> {
    attributes: [Attribute<'s>; 2],
}

#[derive(Serialize)]
struct ScopeSpans<'s> {
    scope: Scope,
    spans: Vec<Written<'s>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Attribute<'s> {
    key: &'s str,
    value: AnyValue<'s>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue<'s> {
    StringValue(&'s str),
    IntValue(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'s> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'s str>,
    flags: u32,
    name: &'static str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'s>>,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

/// What the collector says of an export that it took.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Taken {
    partial_success: Option<Partial>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Partial {
    rejected_spans: Count,
    error_message: String,
}

/// A number of 64 bits: a text by the encoding, a number by some programs.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

impl Default for Count {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// The body of an export of these spans.
pub(super) fn body(service: &str, spans: &[Span]) -> Result<Vec<u8>, serde_json::Error> {
    let text = |key, value| Attribute {
        key,
        value: AnyValue::StringValue(value),
    };
    let version = env!("CARGO_PKG_VERSION");
    let export = Export {
        resource_spans: [ResourceSpans {
            resource: Resource {
                attributes: [text("service.name", service), text("service.version", version)],
            },
            scope_spans: [ScopeSpans {
                scope: Scope { name: SCOPE, version },
                spans: spans.iter().map(written).collect(),
            }],
        }],
    };
    serde_json::to_vec(&export)
}

fn written(span: &Span) -> Written<'_> {
    let Span {
        trace,
        id,
        parent,
        state,
        name,
        kind,
        began,
        ended,
        attributes,
        failed,
    } = span;
    let attributes = attributes.iter().map(|(key, value)| Attribute {
        key,
        value: match value {
            Value::Word(word) => AnyValue::StringValue(word),
            Value::Text(text) => AnyValue::StringValue(text),
            Value::Number(number) => AnyValue::IntValue(number.to_string()),
        },
    });
    Written {
        trace_id: hexadecimal::digits(trace),
        span_id: hexadecimal::digits(id),
        parent_span_id: parent.as_ref().map(|parent| hexadecimal::digits(parent)),
        trace_state: state.as_ref().map(|state| state.as_str()),
        // Recorded.
        flags: 1,
        name,
        kind: match kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: began.to_string(),
        end_time_unix_nano: ended.to_string(),
        attributes: attributes.collect(),
        // Nothing is said where nothing failed: "ok" is for people to say.
        status: Status {
            code: if *failed { 2 } else { 0 },
        },
    }
}

/// How many spans a collector that took an export did not take, and why. An answer that cannot be read says nothing.
pub(super) fn refused(answer: &[u8]) -> Option<(u64, String)> {
    let taken: Taken = serde_json::from_slice(answer).ok()?;
    let Partial {
        rejected_spans,
        error_message,
    } = taken.partial_success?;
    let count = match rejected_spans {
        Count::Number(count) => count,
        Count::Text(text) => text.parse().ok()?,
    };
    (count > 0).then_some((count, error_message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_the_encoding_has_it() {
        let span = Span {
            trace: [0xab; 16],
            id: [1; 8],
            parent: Some([2; 8]),
            state: None,
            name: "accept ticket",
            kind: Kind::Internal,
            began: 1_700_000_000_000_000_000,
            ended: 1_700_000_000_000_000_001,
            attributes: vec![
                ("kerbridge.reason", Value::Word("ok")),
                ("enduser.id", Value::Text("alice@A.TEST".into())),
                ("http.response.status_code", Value::Number(200)),
            ],
            failed: true,
        };
        let body: serde_json::Value = serde_json::from_slice(&body("broker", &[span]).unwrap()).unwrap();
        let expected = serde_json::json!({"resourceSpans": [{
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": "broker"}},
                {"key": "service.version", "value": {"stringValue": env!("CARGO_PKG_VERSION")}},
            ]},
            "scopeSpans": [{
                "scope": {"name": "kerbridge", "version": env!("CARGO_PKG_VERSION")},
                "spans": [{
                    "traceId": "ab".repeat(16),
                    "spanId": "01".repeat(8),
                    "parentSpanId": "02".repeat(8),
                    "flags": 1,
                    "name": "accept ticket",
                    "kind": 1,
                    "startTimeUnixNano": "1700000000000000000",
                    "endTimeUnixNano": "1700000000000000001",
                    "attributes": [
                        {"key": "kerbridge.reason", "value": {"stringValue": "ok"}},
                        {"key": "enduser.id", "value": {"stringValue": "alice@A.TEST"}},
                        {"key": "http.response.status_code", "value": {"intValue": "200"}},
                    ],
                    "status": {"code": 2},
                }],
            }],
        }]});
        assert_eq!(body, expected);
    }

    #[test]
    fn what_a_collector_did_not_take_is_counted_whichever_way_it_writes_numbers() {
        for (answer, count) in [
            ("{}", None),
            ("", None),
            (r#"{"partialSuccess":{}}"#, None),
            (r#"{"partialSuccess":{"rejectedSpans":"0"}}"#, None),
            (
                r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"m"}}"#,
                Some((3, "m".to_owned())),
            ),
            (r#"{"partialSuccess":{"rejectedSpans":4}}"#, Some((4, String::new()))),
        ] {
            assert_eq!(refused(answer.as_bytes()), count, "{answer}");
        }
    }
}
