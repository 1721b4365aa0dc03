//! Asks a server that the configuration names one question over HTTP: within a time, and reads no more than so many bytes of its
//! answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use kerbridge_wire::exchange::JSON;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::KeyPlace;

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
    /// Longer than may be.
    Late,
    /// What came is something else.
    NotAKeySet,
    /// Two keys of a set have this name.
    KidTwice(String),
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
            Self::KidTwice(kid) => write!(f, "two keys are called {kid:?}"),
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

/// Fetches what is at a place, under the request target that is made of its path: so many bytes at most, in time.
pub(crate) async fn fetch(
    place: &KeyPlace,
    target: impl FnOnce(&str) -> String,
    limit: usize,
) -> Result<Vec<u8>, Missed> {
    let fetched = async {
        let Some((path, host)) = addressed(place) else {
            return Ok(Vec::new());
        };
        let request = Request::get(target(path)).header(HOST, host).body(Full::default())?;
        match ask(place, request, limit).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(Missed::Status(status)),
        }
    };
    tokio::time::timeout(PATIENCE, fetched)
        .await
        .unwrap_or(Err(Missed::Late))
}

/// Posts JSON to a place, with more header lines; what is answered, so many bytes at most, in time.
pub(crate) async fn post(
    place: &KeyPlace,
    headers: &[(HeaderName, HeaderValue)],
    body: Vec<u8>,
    within: Duration,
    limit: usize,
) -> Result<(StatusCode, Vec<u8>), Missed> {
    let posted = async {
        let (path, host) = addressed(place).ok_or(Missed::Status(StatusCode::NOT_FOUND))?;
        let request = Request::post(path).header(HOST, host).header(CONTENT_TYPE, JSON);
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        ask(place, request.body(Full::from(body))?, limit).await
    };
    tokio::time::timeout(within, posted).await.unwrap_or(Err(Missed::Late))
}

/// The path and the `Host` of a place; nothing for a file.
fn addressed(place: &KeyPlace) -> Option<(&str, String)> {
    match place {
        KeyPlace::File(_) => None,
        KeyPlace::Unix { path, .. } => Some((path, BROKER.to_owned())),
        KeyPlace::Clear { address, path } => Some((path, address.to_string())),
        KeyPlace::Tls { authority, path, .. } => Some((path, authority.clone())),
    }
}

async fn ask(place: &KeyPlace, request: Request<Full<Bytes>>, limit: usize) -> Result<(StatusCode, Vec<u8>), Missed> {
    match place {
        KeyPlace::File(_) => Err(Missed::Status(StatusCode::NOT_FOUND)),
        KeyPlace::Unix { socket, .. } => exchange(UnixStream::connect(socket).await?, request, limit).await,
        KeyPlace::Clear { address, .. } => exchange(TcpStream::connect(address).await?, request, limit).await,
        KeyPlace::Tls {
            authority,
            name,
            client,
            ..
        } => {
            let stream = TcpStream::connect(authority.as_str()).await?;
            let connector = TlsConnector::from(Arc::clone(client));
            exchange(connector.connect(name.clone(), stream).await?, request, limit).await
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, limit: usize) -> Result<(StatusCode, Vec<u8>), Missed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), limit).collect().await;
        match body {
            Ok(body) => Ok((status, body.to_bytes().to_vec())),
            // What a refusal says besides is of no use.
            Err(_) if !status.is_success() => Ok((status, Vec::new())),
            Err(error) if error.is::<LengthLimitError>() => Err(Missed::TooLarge(limit)),
            Err(error) => Err(Missed::Body(error)),
        }
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
    use std::path::Path;

    use kerbridge_gate::jwk::SET_LIMIT;
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
}
