//! Asks Envoy's admin address one question, within bounds.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};

/// Largest answer that is read, in bytes: a configuration with a thousand clusters is a few MiB.
const LARGEST: usize = 64 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// The JSON at a path of the admin address.
pub(super) fn get(address: &str, path: &str) -> Result<Value, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(address, path)).await? })
}

async fn ask(address: &str, path: &str) -> Result<Value, Problem> {
    let address: SocketAddr = lookup_host(address).await?.next().ok_or("no such address")?;
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", "envoy").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(format!("{path} is {}", response.status()).into());
    }
    let body = Limited::new(response.into_body(), LARGEST).collect().await?.to_bytes();
    connection.abort();
    Ok(serde_json::from_slice(&body)?)
}
