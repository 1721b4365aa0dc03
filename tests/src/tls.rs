//! Opens a TLS connection on which a test sends its own bytes, trusting only the lab's certificate authority, and answers one
//! with the lab's certificate.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use crate::certificates::Certificates;
use crate::error::HarnessError;
use crate::http::{Connection, HttpError, Request, Response};

/// How long one read or write may take.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

/// TLS over TCP.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Connects to a port of 127.0.0.1 as `localhost` and offers HTTP/1.1 only.
///
/// # Errors
///
/// [`HarnessError::Tls`] or [`HarnessError::Io`].
pub fn connect(port: u16, authority: &Path) -> Result<Connection<TlsStream>, HarnessError> {
    open_for(b"http/1.1", port, authority).map(Connection::new)
}

/// The same for HTTP/2, which [`crate::http2`] speaks.
///
/// # Errors
///
/// Those of [`connect`].
pub fn open_http2(port: u16, authority: &Path) -> Result<TlsStream, HarnessError> {
    open_for(b"h2", port, authority)
}

fn open_for(protocol: &[u8], port: u16, authority: &Path) -> Result<TlsStream, HarnessError> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority)
        .map_err(|error| HarnessError::io(format!("read {}", authority.display()), std::io::Error::other(error)))?;
    roots.add(certificate).map_err(HarnessError::Tls)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(HarnessError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost")
        .map_err(|error| HarnessError::Tls(rustls::Error::General(error.to_string())))?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(HarnessError::Tls)?;
    let stream = open(port).map_err(|source| HarnessError::io(format!("connect to port {port}"), source))?;
    Ok(StreamOwned::new(session, stream))
}

/// What a server shows: the listener's certificate, HTTP/1.1 only.
pub(crate) fn server(certificates: &Certificates) -> Result<ServerConfig, HarnessError> {
    let unreadable =
        |path: &Path, error| HarnessError::io(format!("read {}", path.display()), std::io::Error::other(error));
    let certificate = CertificateDer::from_pem_file(&certificates.certificate)
        .map_err(|error| unreadable(&certificates.certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(&certificates.private_key)
        .map_err(|error| unreadable(&certificates.private_key, error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(HarnessError::Tls)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(HarnessError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn open(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request on a connection of its own.
///
/// # Errors
///
/// Those of [`connect`], or [`HarnessError::Http`].
pub fn send(port: u16, authority: &Path, request: &Request) -> Result<Response, HarnessError> {
    let answer: Result<Response, HttpError> = connect(port, authority)?.exchange(request);
    answer.map_err(|source| HarnessError::Http {
        what: "a request over tls".to_owned(),
        source,
    })
}
