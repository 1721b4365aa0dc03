//! Speaks to a running broker over its admin socket, within bounds.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::AdminError;

/// Largest answer that is read, in bytes: more than a page of the feed.
const LARGEST: usize = 2 * 1024 * 1024;
/// How long an answer may take: longer than the store's deadline may be.
const PATIENCE: Duration = Duration::from_secs(75);

/// Why there is no answer, or none that helps.
#[derive(Debug)]
pub enum ClientError {
    /// There is no socket, or nobody listens on it: no broker runs.
    Nobody,
    /// The socket is there, and is not for this user.
    NotAllowed,
    /// The broker will not do it.
    Refused(AdminError),
    /// The broker cannot do it now.
    Unavailable(AdminError),
    /// There is nothing of that kind.
    NotFound(AdminError),
    /// Something else.
    Failed(String),
}

impl ClientError {
    /// What is wrong, and what mends it.
    pub fn told(&self) -> AdminError {
        let (problem, remedy) = match self {
            Self::Nobody => ("no broker listens there", "start it: systemctl start kerbridge"),
            Self::NotAllowed => (
                "it is for root and the broker's user",
                "run this as root or as the broker's user: runuser -u kerbridge -- kerbridge ...",
            ),
            Self::Refused(error) | Self::Unavailable(error) | Self::NotFound(error) => return error.clone(),
            Self::Failed(problem) => (problem.as_str(), "see the broker's log"),
        };
        AdminError {
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.told().fmt(f)
    }
}

impl std::error::Error for ClientError {}

/// Sends a question and reads the answer. Not to be called from within a runtime.
pub fn post<A: DeserializeOwned>(socket: &Path, path: &str, question: &impl Serialize) -> Result<A, ClientError> {
    let body = serde_json::to_vec(question).map_err(failed)?;
    let answer = request(socket, Method::POST, path, body.into())?;
    serde_json::from_slice(&answer).map_err(failed)
}

/// Reads what is there, as bytes. Not to be called from within a runtime.
pub fn get(socket: &Path, path: &str) -> Result<Bytes, ClientError> {
    request(socket, Method::GET, path, Bytes::new())
}

fn request(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, ask(socket, method, path, body))
            .await
            .map_err(|_| ClientError::Failed("the broker does not answer".into()))?
    })
}

async fn ask(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let kind = error.kind();
        if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            ClientError::Nobody
        } else if kind == io::ErrorKind::PermissionDenied {
            ClientError::NotAllowed
        } else {
            failed(error)
        }
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "kerbridge")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(failed)?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    connection.abort();
    let body = body.map_err(failed)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let error: AdminError =
        serde_json::from_slice(&body).map_err(|_| ClientError::Failed(format!("the broker answers {status}")))?;
    Err(match status {
        StatusCode::SERVICE_UNAVAILABLE => ClientError::Unavailable(error),
        StatusCode::NOT_FOUND => ClientError::NotFound(error),
        _ => ClientError::Refused(error),
    })
}

fn failed(error: impl fmt::Display) -> ClientError {
    ClientError::Failed(error.to_string())
}
