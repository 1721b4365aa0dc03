//! Answers HTTP/1.1 exactly as a test says, down to a reset in mid-body, and records what it was asked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

use crate::canary;
use crate::certificates::Certificates;
use crate::error::HarnessError;
use crate::http::{Connection, HttpError, parse};
use crate::tls;
use crate::wait::moment;

/// A request as the server saw it.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// The request line.
    pub line: String,
    /// Header lines in the order of the wire, names as sent.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body, after chunking was undone; empty while it is not complete.
    pub body: Vec<u8>,
    /// Trailer lines of a chunked body.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the whole request has arrived.
    pub complete: bool,
    /// When its head had arrived, where that is known.
    pub at: Option<Instant>,
}

impl Incoming {
    /// The value of the first header line of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of all header lines of this name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let wanted = name.as_bytes().to_vec();
        let matching = self
            .headers
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(&wanted));
        matching.map(|(_, value)| value.as_slice())
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Sends these bytes and keeps the connection open.
    Raw(Vec<u8>),
    /// Sends these bytes and closes the connection, in mid-response if the bytes end there.
    Cut(Vec<u8>),
    /// Sends these bytes one by one, with [`TRICKLE`] between two of them, and keeps the connection open.
    Trickle(Vec<u8>),
    /// Never answers; the connection stays open until the peer closes it.
    Never,
}

/// The pause between two bytes of [`Reply::Trickle`].
pub const TRICKLE: Duration = Duration::from_millis(200);

impl Reply {
    /// A whole response with a length.
    #[must_use]
    pub fn status(status: u16, body: &str) -> Self {
        Self::Raw(
            format!(
                "HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        )
    }

    /// A 200 with this body.
    #[must_use]
    pub fn ok(body: &str) -> Self {
        Self::status(200, body)
    }
}

type Script = dyn Fn(usize, &Incoming) -> Reply + Send + Sync;

/// What was asked.
#[derive(Default)]
struct Record {
    /// How many requests came before those that are kept.
    forgotten: usize,
    requests: Vec<Incoming>,
}

struct Shared {
    record: Mutex<Record>,
    stopped: AtomicBool,
    script: Box<Script>,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A server on loopback or on a Unix socket; it stops to accept when dropped.
pub struct ScriptedServer {
    shared: Arc<Shared>,
    address: Address,
}

impl ScriptedServer {
    /// Listens on a free port of 127.0.0.1; `script` gets the request's number, from 0, and the whole request.
    ///
    /// The script may block: each connection has a thread of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn tcp(script: impl Fn(usize, &Incoming) -> Reply + Send + Sync + 'static) -> Result<Self, HarnessError> {
        Self::over_tcp(script, Some)
    }

    fn over_tcp<P: Peer>(
        script: impl Fn(usize, &Incoming) -> Reply + Send + Sync + 'static,
        peer: impl Fn(TcpStream) -> Option<P> + Send + 'static,
    ) -> Result<Self, HarnessError> {
        let (listener, address) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
            .map_err(|source| HarnessError::io("listen on loopback", source))?;
        let shared = Self::shared(script);
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if !peer(stream).is_none_or(|peer| serve_on_thread(&accepting, peer)) {
                    return;
                }
            }
        });
        Ok(Self {
            shared,
            address: Address::Tcp(address),
        })
    }

    /// The same over TLS, with the listener's certificate (`localhost`) of the lab's authority.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`], or [`HarnessError::Tls`].
    pub fn tls(
        certificates: &Certificates,
        script: impl Fn(usize, &Incoming) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, HarnessError> {
        let config = Arc::new(tls::server(certificates)?);
        Self::over_tcp(script, move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(StreamOwned::new(session, stream))
        })
    }

    /// Listens on a Unix socket at this path.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn unix(
        path: &Path,
        script: impl Fn(usize, &Incoming) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, HarnessError> {
        let listener = UnixListener::bind(path)
            .map_err(|source| HarnessError::io(format!("listen on {}", path.display()), source))?;
        let shared = Self::shared(script);
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if !serve_on_thread(&accepting, stream) {
                    return;
                }
            }
        });
        Ok(Self {
            shared,
            address: Address::Unix(path.to_owned()),
        })
    }

    fn shared(script: impl Fn(usize, &Incoming) -> Reply + Send + Sync + 'static) -> Arc<Shared> {
        let (record, stopped) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Shared {
            record,
            stopped,
            script: Box::new(script),
        })
    }

    /// The TCP port; 0 for a Unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        match &self.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => 0,
        }
    }

    /// All requests of which the head has arrived, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Incoming> {
        self.shared.record().requests.clone()
    }

    /// Forgets the requests so far: who sends a million of them has no use for them.
    pub fn forget(&self) {
        let mut record = self.shared.record();
        record.forgotten = record.forgotten.saturating_add(record.requests.len());
        record.requests.clear();
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The accepting thread looks at the flag after each connection: this one wakes it.
        match &self.address {
            Address::Tcp(address) => drop(TcpStream::connect(address)),
            Address::Unix(path) => drop(UnixStream::connect(path)),
        }
    }
}

trait Peer: Read + Write + Send + 'static {
    fn close(&self);
}

impl Peer for TcpStream {
    fn close(&self) {
        // A peer that closed first is closed all the same.
        self.shutdown(Shutdown::Both).unwrap_or(());
    }
}

impl Peer for StreamOwned<ServerConnection, TcpStream> {
    fn close(&self) {
        self.sock.close();
    }
}

impl Peer for UnixStream {
    fn close(&self) {
        self.shutdown(Shutdown::Both).unwrap_or(());
    }
}

/// False when the server has been stopped.
fn serve_on_thread(shared: &Arc<Shared>, stream: impl Peer) -> bool {
    if shared.stopped.load(Ordering::SeqCst) {
        return false;
    }
    let shared = Arc::clone(shared);
    // The thread ends with the connection: the peer's close, or a broken request, is an error in it.
    std::thread::spawn(move || serve(&shared, &mut Connection::new(stream)).err());
    true
}

fn serve(shared: &Shared, connection: &mut Connection<impl Peer>) -> Result<(), HttpError> {
    loop {
        let (number, request) = read_request(shared, connection)?;
        match (shared.script)(number, &request) {
            Reply::Raw(bytes) => connection.send_raw(&bytes)?,
            Reply::Cut(bytes) => {
                connection.send_raw(&bytes)?;
                connection.stream().close();
                return Ok(());
            }
            Reply::Trickle(bytes) => {
                for byte in bytes {
                    connection.send_raw(&[byte])?;
                    std::thread::sleep(TRICKLE);
                }
            }
            Reply::Never => {}
        }
    }
}

fn read_request(shared: &Shared, connection: &mut Connection<impl Peer>) -> Result<(usize, Incoming), HttpError> {
    let line = String::from_utf8_lossy(&connection.line()?).into_owned();
    let headers = connection.fields()?;
    // What Envoy sends on is a secret whoever brought it: a browser's ticket, a ticket to a Kerberos service.
    for (name, value) in &headers {
        canary::note_header(name, value);
    }
    let mut request = Incoming {
        line,
        headers,
        at: Some(moment()),
        ..Incoming::default()
    };
    let number = {
        let mut record = shared.record();
        record.requests.push(request.clone());
        record.forgotten.saturating_add(record.requests.len()).saturating_sub(1)
    };
    if request
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"))
    {
        (request.body, request.trailers) = connection.read_chunks()?;
    } else if let Some(value) = request.header("content-length") {
        let length = parse(value, 10).ok_or(HttpError::Malformed("content-length"))?;
        request.body = connection.take(length)?;
    }
    canary::note_message(&request.body);
    request.complete = true;
    let mut record = shared.record();
    let kept = number.checked_sub(record.forgotten);
    if let Some(recorded) = kept.and_then(|kept| record.requests.get_mut(kept)) {
        recorded.clone_from(&request);
    }
    drop(record);
    Ok((number, request))
}
