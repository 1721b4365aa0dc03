//! Echoes each request as JSON, so that a test and a person see what the upstream service received.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::error::HarnessError;
use crate::scripted_server::{Incoming, Reply, ScriptedServer};

/// A header that a service sends for its own caches; responses that carry a token must lose them.
const CACHING: &[(&str, &str)] = &[
    ("cache-control", "public, max-age=60"),
    ("etag", "\"echo\""),
    ("age", "1"),
    ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
];

/// The echo service: a thread a connection, on a free port of 127.0.0.1.
pub struct Upstream {
    server: ScriptedServer,
    documents: Arc<Mutex<HashMap<String, String>>>,
}

impl Upstream {
    /// Starts to serve.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn start() -> Result<Self, HarnessError> {
        let documents = Arc::new(Mutex::new(HashMap::<String, String>::new()));
        let served = Arc::clone(&documents);
        let server = ScriptedServer::tcp(move |_number, request| {
            let documents = served.lock().unwrap_or_else(PoisonError::into_inner);
            match documents.get(&target(request)) {
                Some(document) => answer(document),
                None => answer(&echo(request).to_string()),
            }
        })?;
        Ok(Self { server, documents })
    }

    /// Serves this JSON text at exactly this target instead of an echo, a key set for instance.
    pub fn serve_document(&self, target: &str, document: &str) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.insert(target.to_owned(), document.to_owned());
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.server.forget();
    }

    /// All requests of which at least the head arrived, without those for documents.
    #[must_use]
    pub fn requests(&self) -> Vec<Incoming> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = self.server.requests().into_iter();
        requests
            .filter(|request| !documents.contains_key(&target(request)))
            .collect()
    }
}

/// The request target: the second word of the request line.
#[must_use]
pub fn target(request: &Incoming) -> String {
    request.line.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// What the service shows of a request. Bytes other than visible ASCII and space, and `%`, are percent-encoded.
#[must_use]
pub fn echo(request: &Incoming) -> Value {
    let mut words = request.line.split(' ');
    json!({
        "method": words.next().unwrap_or_default(),
        "target": words.next().unwrap_or_default(),
        "headers": fields(&request.headers),
        "body_bytes": request.body.len(),
        "body": escape(request.body.get(..request.body.len().min(4096)).unwrap_or_default()),
        "trailers": fields(&request.trailers),
    })
}

fn fields(fields: &[(Vec<u8>, Vec<u8>)]) -> Value {
    let pairs = fields.iter().map(|(name, value)| json!([escape(name), escape(value)]));
    Value::Array(pairs.collect())
}

/// The bytes as visible ASCII, reversibly.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if (byte.is_ascii_graphic() && byte != b'%') || byte == b' ' {
            out.push(char::from(byte));
        } else {
            // A String takes everything that is written to it.
            write!(out, "%{byte:02X}").unwrap_or(());
        }
    }
    out
}

fn answer(body: &str) -> Reply {
    let mut head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n".to_owned();
    for (name, value) in CACHING {
        write!(head, "{name}: {value}\r\n").unwrap_or(());
    }
    write!(head, "content-length: {}\r\n\r\n{body}", body.len()).unwrap_or(());
    Reply::Raw(head.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{self, Request};

    #[test]
    fn every_header_is_shown_and_no_byte_is_lost() {
        let upstream = Upstream::start().unwrap();
        let request = Request::post("/a?b=1", b"\x00caf\xe9".as_slice())
            .header("X-Twice", "one")
            .header("x-twice", b"t\xffo 100%");
        let shown: Value = serde_json::from_slice(&http::send(upstream.port(), &request).unwrap().body).unwrap();
        assert_eq!(shown["method"], "POST");
        assert_eq!(shown["target"], "/a?b=1");
        assert_eq!(shown["body"], "%00caf%E9");
        let headers = shown["headers"].as_array().unwrap();
        assert!(headers.contains(&json!(["X-Twice", "one"])));
        assert!(headers.contains(&json!(["x-twice", "t%FFo 100%25"])));
        assert_eq!(upstream.requests().len(), 1);
    }

    #[test]
    fn chunks_and_trailers_are_shown() {
        let upstream = Upstream::start().unwrap();
        let mut connection = http::Connection::tcp(upstream.port()).unwrap();
        connection
            .send_raw(b"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n")
            .unwrap();
        let shown: Value = serde_json::from_slice(&connection.read_response().unwrap().body).unwrap();
        assert_eq!(shown["body"], "abc");
        assert_eq!(shown["trailers"], json!([["x-t", "1"]]));
    }

    #[test]
    fn documents_are_served_and_not_counted() {
        let upstream = Upstream::start().unwrap();
        upstream.serve_document("/keys", "{\"keys\":[]}");
        assert_eq!(http::get(upstream.port(), "/keys").unwrap().text(), "{\"keys\":[]}");
        assert!(upstream.requests().is_empty());
    }
}
