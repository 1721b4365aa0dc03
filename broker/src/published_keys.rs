//! Follows the public keys that issuers publish: looks again and again, and keeps the last good set until it is too old. Fetches
//! what else they publish, for those who follow that.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use kerbridge_gate::jwk::SET_LIMIT;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::{KeyPlace, KeySource};
use crate::reload::Look;
use crate::subject_token::Issuers;
use crate::time::Clock;

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// `Host` of a broker behind a socket.
const BROKER: &str = "kerbridge";

/// Why a look brought nothing.
#[derive(Debug)]
pub(crate) enum Missed {
    Io(std::io::Error),
    Http(hyper::Error),
    /// The request could not be built.
    Request(hyper::http::Error),
    Status(StatusCode),
    /// The connection broke within the answer.
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// More bytes than so many.
    TooLarge(usize),
    /// Longer than [`PATIENCE`].
    Late,
    NotAKeySet,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::Request(error) => error.fmt(f),
            Self::Body(error) => write!(f, "the answer ends too soon: {error}"),
            Self::Status(status) => write!(f, "the answer is {status}"),
            Self::TooLarge(limit) => write!(f, "more than {limit} bytes"),
            Self::Late => f.write_str("no answer in time"),
            Self::NotAKeySet => f.write_str("no JSON Web Key Set"),
        }
    }
}

impl From<std::io::Error> for Missed {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<hyper::Error> for Missed {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

impl From<hyper::http::Error> for Missed {
    fn from(error: hyper::http::Error) -> Self {
        Self::Request(error)
    }
}

/// A look at a file of keys; nothing where they are elsewhere. It is looked at once a second, and its keys count as looked at
/// then.
pub fn look_at_file(source: &KeySource, issuers: &Arc<Issuers>, clock: Clock) -> Option<Look> {
    let KeyPlace::File(path) = &source.place else {
        return None;
    };
    let (path, issuer, issuers) = (path.clone(), source.terms.issuer.clone(), Arc::clone(issuers));
    let complaint = Mutex::new(None);
    Some(Box::new(move || {
        let now = clock.now();
        let outcome = read(&path).and_then(|text| publish(&issuers, &issuer, &text, now));
        tell(
            &issuer,
            outcome,
            &mut complaint.lock().unwrap_or_else(PoisonError::into_inner),
        );
    }))
}

/// Fetches the keys of an issuer as often as it says. It ends with the runtime.
pub async fn follow(source: KeySource, issuers: Arc<Issuers>, clock: Clock) {
    let every = Duration::from_secs(source.terms.poll.seconds().into());
    let issuer = &source.terms.issuer;
    let mut complaint = None;
    loop {
        // What is old when it arrives is as old as the question.
        let asked = clock.now();
        let fetched = fetch(&source.place, str::to_owned, SET_LIMIT).await;
        let outcome = fetched.and_then(|text| publish(&issuers, issuer, &text, asked));
        tell(issuer, outcome, &mut complaint);
        tokio::time::sleep(every).await;
    }
}

fn publish(issuers: &Issuers, issuer: &str, text: &[u8], as_of: crate::time::UnixTime) -> Result<(), Missed> {
    issuers.publish(issuer, text, as_of).map_err(|_| Missed::NotAKeySet)
}

/// Says once what has changed since the complaint before.
fn tell(issuer: &str, outcome: Result<(), Missed>, before: &mut Option<String>) {
    let complaint = outcome.err().map(|missed| missed.to_string());
    if complaint != *before {
        match &complaint {
            Some(problem) => tracing::warn!(issuer, problem, "the issuer's keys are kept as they were"),
            None => tracing::info!(issuer, "the issuer's keys are good again"),
        }
    }
    *before = complaint;
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Missed> {
    let most = u64::try_from(SET_LIMIT).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > SET_LIMIT {
        return Err(Missed::TooLarge(SET_LIMIT));
    }
    Ok(bytes)
}

/// Fetches what is at a place, under the request target that is made of its path: so many bytes at most, in time.
pub(crate) async fn fetch(
    place: &KeyPlace,
    target: impl FnOnce(&str) -> String,
    limit: usize,
) -> Result<Vec<u8>, Missed> {
    let fetched = tokio::time::timeout(PATIENCE, fetch_at_leisure(place, target, limit)).await;
    fetched.unwrap_or(Err(Missed::Late))
}

async fn fetch_at_leisure(
    place: &KeyPlace,
    target: impl FnOnce(&str) -> String,
    limit: usize,
) -> Result<Vec<u8>, Missed> {
    match place {
        KeyPlace::File(_) => Ok(Vec::new()),
        KeyPlace::Unix { socket, path } => get(UnixStream::connect(socket).await?, BROKER, &target(path), limit).await,
        KeyPlace::Clear { address, path } => {
            let stream = TcpStream::connect(address).await?;
            get(stream, &address.to_string(), &target(path), limit).await
        }
        KeyPlace::Tls {
            authority,
            name,
            client,
            path,
        } => {
            let stream = TcpStream::connect(authority.as_str()).await?;
            let connector = TlsConnector::from(Arc::clone(client));
            let stream = connector.connect(name.clone(), stream).await?;
            get(stream, authority, &target(path), limit).await
        }
    }
}

async fn get<S>(stream: S, host: &str, path: &str, limit: usize) -> Result<Vec<u8>, Missed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Missed::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), limit).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                Missed::TooLarge(limit)
            } else {
                Missed::Body(error)
            }
        })
    };
    // The connection lives as long as the exchange, which hears of its end by itself.
    let connection = async {
        drop(connection.await);
        std::future::pending().await
    };
    tokio::select! {
        outcome = exchange => outcome,
        never = connection => never,
    }
}

#[cfg(test)]
mod tests {
    use kerbridge_wire::exchange::JWKS_PATH;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// Answers each connection with the next of these, and tells what was asked.
    fn server(socket: &Path, answers: Vec<Vec<u8>>) -> tokio::task::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                asked.push(
                    String::from_utf8_lossy(&request[..length])
                        .lines()
                        .next()
                        .unwrap()
                        .to_owned(),
                );
                stream.write_all(&answer).await.unwrap();
            }
            asked
        })
    }

    fn answer(status: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn a_set_is_fetched_and_what_is_none_or_too_large_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("mesh.sock");
        let answers = vec![
            answer("200 OK", br#"{"keys":[]}"#),
            answer("503 Service Unavailable", b""),
            answer("200 OK", &vec![b' '; SET_LIMIT + 1]),
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec(),
            b"nonsense\r\n\r\n".to_vec(),
            Vec::new(),
        ];
        let count = answers.len();
        let server = server(&socket, answers);
        let place = KeyPlace::Unix {
            socket,
            path: JWKS_PATH.to_owned(),
        };
        let fetch = |place: &KeyPlace| {
            let place = place.clone();
            async move { fetch(&place, str::to_owned, SET_LIMIT).await }
        };
        assert_eq!(fetch(&place).await.unwrap(), br#"{"keys":[]}"#);
        for words in [
            "503 Service Unavailable",
            "more than 262144 bytes",
            "ends too soon",
            "invalid HTTP",
            "",
        ] {
            let missed = fetch(&place).await.unwrap_err().to_string();
            assert!(missed.contains(words), "{words}: {missed}");
        }
        let asked = server.await.unwrap();
        assert_eq!(asked, vec![format!("GET {JWKS_PATH} HTTP/1.1"); count]);
        let nobody = KeyPlace::Unix {
            socket: folder.path().join("nobody.sock"),
            path: "/".into(),
        };
        assert!(matches!(fetch(&nobody).await, Err(Missed::Io(_))));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, vec![b' '; SET_LIMIT]).unwrap();
        assert_eq!(read(&path).unwrap().len(), SET_LIMIT);
        std::fs::write(&path, vec![b' '; SET_LIMIT + 1]).unwrap();
        assert!(matches!(read(&path), Err(Missed::TooLarge(SET_LIMIT))));
        assert!(matches!(read(&folder.path().join("none")), Err(Missed::Io(_))));
    }
}
