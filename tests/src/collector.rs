//! Takes spans as an OpenTelemetry collector does (OTLP over HTTP), in either of its encodings, and reads no more leniently than the
//! specification has it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::canary;
use crate::error::HarnessError;
use crate::scripted_server::{Incoming, Reply, ScriptedServer};

/// Where spans are posted.
pub const TRACES: &str = "/v1/traces";

/// A collector on a port of 127.0.0.1.
pub struct Collector(ScriptedServer);

/// A span that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `service.name` of whoever recorded it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// `SpanKind`: 1 internal, 2 server, 3 client.
    pub kind: u64,
    /// 32 digits.
    pub trace: String,
    /// 16 digits.
    pub id: String,
    /// 16 digits, or nothing where it begins the trace.
    pub parent: String,
    /// Its texts and numbers, as texts.
    pub attributes: BTreeMap<String, String>,
    /// `Status.code`: 2 is an error.
    pub status: u64,
}

impl Collector {
    /// Begins to take spans.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn start() -> Result<Self, HarnessError> {
        let taken = |_: usize, _: &Incoming| {
            Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_vec())
        };
        ScriptedServer::tcp(taken).map(Self)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// All spans so far. Nothing that was exported may hold a credential.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Leaked`], or [`HarnessError::UnexpectedAnswer`] where an export is not as the specification has it.
    pub fn spans(&self) -> Result<Vec<Seen>, HarnessError> {
        let mut seen = Vec::new();
        for request in self.0.requests().iter().filter(|request| request.complete) {
            canary::search("exported spans", &request.body)?;
            let spans = match (request.line.as_str(), request.header("content-type")) {
                ("POST /v1/traces HTTP/1.1", Some(b"application/json")) => read_json(&request.body),
                ("POST /v1/traces HTTP/1.1", Some(b"application/x-protobuf")) => read_protobuf(&request.body),
                _ => None,
            };
            seen.extend(spans.ok_or_else(|| HarnessError::UnexpectedAnswer {
                what: "an export of spans".to_owned(),
                answer: format!("{} {}", request.line, String::from_utf8_lossy(&request.body)),
            })?);
        }
        Ok(seen)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Export {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Vec<KeyValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    #[serde(rename = "scope")]
    _scope: Scope,
    spans: Vec<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "version")]
    _version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyValue {
    key: String,
    value: AnyValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum AnyValue {
    StringValue(String),
    IntValue(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(default)]
    parent_span_id: String,
    #[serde(default, rename = "traceState")]
    _trace_state: String,
    #[serde(rename = "flags")]
    _flags: u32,
    name: String,
    kind: u64,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<KeyValue>,
    status: Status,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    code: u64,
}

/// The JSON encoding: identifiers in hexadecimal digits, 64 bits as texts.
fn read_json(body: &[u8]) -> Option<Vec<Seen>> {
    let export: Export = serde_json::from_slice(body).ok()?;
    let mut seen = Vec::new();
    for resource in export.resource_spans {
        let service = texts(resource.resource.attributes).remove("service.name")?;
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let is_digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
            let (began, ended): (u64, u64) = (
                span.start_time_unix_nano.parse().ok()?,
                span.end_time_unix_nano.parse().ok()?,
            );
            let is_good = is_digits(&span.trace_id, 32)
                && is_digits(&span.span_id, 16)
                && (span.parent_span_id.is_empty() || is_digits(&span.parent_span_id, 16))
                && began <= ended;
            if !is_good {
                return None;
            }
            seen.push(Seen {
                service: service.clone(),
                name: span.name,
                kind: span.kind,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
                attributes: texts(span.attributes),
                status: span.status.code,
            });
        }
    }
    Some(seen)
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |KeyValue { key, value }| match value {
        AnyValue::StringValue(text) | AnyValue::IntValue(text) => (key, text),
    };
    attributes.into_iter().map(text).collect()
}

/// A field of a message of Protocol Buffers.
enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    /// One of a fixed width, which is of no interest here.
    Fixed,
}

/// The fields of a message, with their numbers.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => take(&mut bytes, 8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Bytes(take(&mut bytes, length)?)
            }
            5 => take(&mut bytes, 4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        found.push((tag >> 3, field));
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// The messages under a number.
fn inner<'b>(message: &'b [u8], number: u64) -> Option<Vec<&'b [u8]>> {
    let bytes = |(found, field): (u64, Field<'b>)| match field {
        Field::Bytes(bytes) if found == number => Some(bytes),
        Field::Bytes(_) | Field::Number(_) | Field::Fixed => None,
    };
    Some(fields(message)?.into_iter().filter_map(bytes).collect())
}

/// The binary encoding, by the numbers of `opentelemetry/proto/trace/v1/trace.proto`.
fn read_protobuf(body: &[u8]) -> Option<Vec<Seen>> {
    let mut seen = Vec::new();
    for resource_spans in inner(body, 1)? {
        let resource = inner(resource_spans, 1)?.concat();
        let service = attributes(&resource, 1)?.remove("service.name")?;
        for scope_spans in inner(resource_spans, 2)? {
            for span in inner(scope_spans, 2)? {
                let mut one = Seen {
                    service: service.clone(),
                    attributes: attributes(span, 9)?,
                    ..Seen::default()
                };
                for (number, field) in fields(span)? {
                    match (number, field) {
                        (1, Field::Bytes(bytes)) => one.trace = digits(bytes),
                        (2, Field::Bytes(bytes)) => one.id = digits(bytes),
                        (4, Field::Bytes(bytes)) => one.parent = digits(bytes),
                        (5, Field::Bytes(bytes)) => one.name = String::from_utf8(bytes.to_vec()).ok()?,
                        (6, Field::Number(kind)) => one.kind = kind,
                        _ => {}
                    }
                }
                seen.push(one);
            }
        }
    }
    Some(seen)
}

/// The attributes under a number that are texts.
fn attributes(message: &[u8], number: u64) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for pair in inner(message, number)? {
        let text = |bytes: Vec<&[u8]>| String::from_utf8(bytes.concat()).ok();
        let key = text(inner(pair, 1)?)?;
        let value = inner(pair, 2)?.concat();
        found.insert(key, text(inner(&value, 1)?)?);
    }
    Some(found)
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{read_json, read_protobuf};

    #[test]
    fn a_span_of_either_encoding_is_read_and_another_shape_is_not() {
        // Resource {service.name: "e"}, one span: trace 01…, id 02…, name "n", kind server.
        let pair = b"\x0a\x0cservice.name\x12\x03\x0a\x01e";
        let message = |number: u8, inner: &[u8]| [&[number << 3 | 2, inner.len() as u8], inner].concat();
        let span = [
            message(1, &[1; 16]),
            message(2, &[2; 8]),
            message(5, b"n"),
            vec![6 << 3, 2],
            vec![7 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let body = message(
            1,
            &[message(1, &message(1, pair)), message(2, &message(2, &span))].concat(),
        );
        let seen = read_protobuf(&body).unwrap();
        assert_eq!(
            (seen[0].service.as_str(), seen[0].name.as_str(), seen[0].kind),
            ("e", "n", 2)
        );
        assert_eq!(
            (seen[0].trace.as_str(), seen[0].id.as_str()),
            ("01".repeat(16).as_str(), "02".repeat(8).as_str())
        );
        assert!(read_protobuf(&body[..body.len() - 1]).is_none());

        let json = |id: &str| {
            format!(
                r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"e"}}}}]}},
                "scopeSpans":[{{"scope":{{"name":"s","version":"1"}},"spans":[{{"traceId":"{}","spanId":"{id}","flags":1,"name":"n",
                "kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2","attributes":[],"status":{{"code":0}}}}]}}]}}]}}"#,
                "01".repeat(16)
            )
        };
        let good = "02".repeat(8);
        assert_eq!(read_json(json(&good).as_bytes()).unwrap(), seen);
        assert!(read_json(json("AgICAgICAgI=").as_bytes()).is_none());
        assert!(read_json(json(&good).replace("\"flags\"", "\"flag\"").as_bytes()).is_none());
        assert!(read_json(json(&good).replace("\"1\",\"end", "1,\"end").as_bytes()).is_none());
    }
}
