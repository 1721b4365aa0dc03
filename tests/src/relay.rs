//! Stands between Envoy and the broker: passes calls on, records both sides, or answers in the broker's place.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::broker;
use crate::error::HarnessError;
use crate::http::{HttpError, Request};
use crate::scripted_server::{Incoming, Reply, ScriptedServer};
use crate::wait::moment;

/// One call and what it was answered with.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The call, as Envoy sent it.
    pub call: Incoming,
    /// The answer's status line and headers, each as text, and its body; nothing where the broker gave none.
    pub answer: Option<RecordedAnswer>,
    /// When it was answered, or given up.
    pub answered_at: Instant,
}

impl Recorded {
    /// Whether it asks the broker for something: Envoy fetches keys and revocations all the time.
    #[must_use]
    pub fn is_exchange(&self) -> bool {
        self.call.line.starts_with("POST ")
    }
}

/// What the broker said.
#[derive(Clone, Debug)]
pub struct RecordedAnswer {
    /// The status.
    pub status: u16,
    /// Header lines in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Answers in the broker's place, or passes on with nothing.
pub type Intercept = dyn Fn(&Incoming) -> Option<Reply> + Send + Sync;

/// A server on a Unix socket of its own, in front of the broker's.
pub struct Relay {
    socket: PathBuf,
    recorded: Arc<Mutex<Vec<Recorded>>>,
    _server: ScriptedServer,
}

impl Relay {
    /// Listens at `socket` and passes on to the broker at `behind` what `intercept` does not answer itself.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn start(socket: &Path, behind: &Path, intercept: Box<Intercept>) -> Result<Self, HarnessError> {
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let (behind, record) = (behind.to_owned(), Arc::clone(&recorded));
        let server = ScriptedServer::unix(socket, move |_number, call| {
            if let Some(reply) = intercept(call) {
                return reply;
            }
            let answer = forward(&behind, call).ok();
            let reply = answer.as_ref().map_or(Reply::Cut(Vec::new()), RecordedAnswer::encode);
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            record.push(Recorded {
                call: call.clone(),
                answer,
                answered_at: moment(),
            });
            reply
        })?;
        Ok(Self {
            socket: socket.to_owned(),
            recorded,
            _server: server,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The calls that were passed on, in the order of their answers.
    #[must_use]
    pub fn recorded(&self) -> Vec<Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn forward(socket: &Path, call: &Incoming) -> Result<RecordedAnswer, HttpError> {
    let mut words = call.line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = if call.body.is_empty() {
        Request::new(method, target)
    } else {
        Request::post(target, call.body.clone())
    }
    .without_host();
    for (name, value) in &call.headers {
        let framing = [b"content-length".as_slice(), b"transfer-encoding"];
        if !framing.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            request = request.header(name, value);
        }
    }
    let answer = broker::ask(socket, &request)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(RecordedAnswer {
        status: answer.status,
        headers: answer
            .headers
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        body: answer.body,
    })
}

impl RecordedAnswer {
    fn encode(&self) -> Reply {
        let mut bytes = format!("HTTP/1.1 {} Relayed\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            if !["content-length", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str()) {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        Reply::Raw(bytes)
    }
}
