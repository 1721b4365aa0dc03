//! Opens a connection to a directory, makes it private before a password goes over it, and asks one question at a time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::LdapError;
use super::message::{self, Answer, Entry, Search};

/// Longest message that is read, in bytes.
const LONGEST_MESSAGE: u32 = 1024 * 1024;
/// How long a good-bye may take.
const GOOD_BYE: Duration = Duration::from_millis(50);
/// Entries of one page.
const PAGE: u32 = 500;

/// What keeps others from reading along.
#[derive(Clone)]
pub enum Security {
    /// TLS from the first byte (`ldaps`).
    Tls(Arc<ClientConfig>, ServerName<'static>),
    /// TLS after a request for it (RFC 4511 §4.14), before anything else.
    StartTls(Arc<ClientConfig>, ServerName<'static>),
    /// Nothing: on loopback only.
    Clear,
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(_, name) => write!(f, "Tls({name:?})"),
            Self::StartTls(_, name) => write!(f, "StartTls({name:?})"),
            Self::Clear => f.write_str("Clear"),
        }
    }
}

/// A directory and who asks it. The password does not show in `Debug`.
#[derive(Clone)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What keeps others from reading along.
    pub security: Security,
    /// The account that asks, as the directory names it.
    pub bind_name: String,
    /// Its password; never empty, since that would be nobody's bind (RFC 4513 §5.1.2).
    pub password: Arc<Zeroizing<String>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("security", &self.security)
            .field("bind_name", &self.bind_name)
            .finish_non_exhaustive()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A bound connection. Nothing here has a time-out: whoever asks has a deadline for all of it.
pub struct Connection {
    stream: Pin<Box<dyn Stream>>,
    number: u32,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and binds.
    pub async fn open(server: &Server) -> Result<Self, LdapError> {
        let mut tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Pin<Box<dyn Stream>> = match &server.security {
            Security::Clear => Box::pin(tcp),
            Security::Tls(config, name) => Box::pin(tls(config, name, tcp).await?),
            Security::StartTls(config, name) => {
                tcp.write_all(&message::start_tls(1)).await?;
                // Read to its end and no further: what a stranger sends along goes into the handshake, and breaks it.
                message::read_start_tls(&read(&mut tcp).await?, 1)?;
                Box::pin(tls(config, name, tcp).await?)
            }
        };
        let mut connection = Self { stream, number: 1 };
        let number = connection.next();
        let request = Zeroizing::new(message::bind(number, &server.bind_name, server.password.as_bytes()));
        connection.send(&request).await?;
        message::read_bind(&read(&mut connection.stream).await?, number)?;
        Ok(connection)
    }

    /// All entries that are found, page by page. `seconds` is how long the server may take for one.
    pub async fn search(&mut self, search: &Search, seconds: u32) -> Result<Vec<Entry>, LdapError> {
        let mut found = Vec::new();
        let mut from = Vec::new();
        loop {
            let number = self.next();
            let request = message::search(number, search, seconds, PAGE, &from);
            self.send(&request).await?;
            let before = found.len();
            from = loop {
                match message::read_answer(&read(&mut self.stream).await?, number)? {
                    Answer::Entry(_) if found.len() >= search.most => {
                        return Err(LdapError::Protocol("it has more entries than are read"));
                    }
                    Answer::Entry(entry) => found.push(entry),
                    Answer::Reference => {}
                    Answer::Done { cookie } => break cookie,
                }
            };
            if from.is_empty() {
                return Ok(found);
            }
            if found.len() == before {
                return Err(LdapError::Protocol("a page is empty and not the last"));
            }
        }
    }

    /// Says good-bye; a server that does not hear it at once has to notice by itself.
    pub async fn close(mut self) {
        let number = self.next();
        let bye = async {
            self.send(&message::unbind(number)).await?;
            self.stream.shutdown().await.map_err(LdapError::from)
        };
        drop(tokio::time::timeout(GOOD_BYE, bye).await);
    }

    fn next(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), LdapError> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }
}

async fn tls(
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, LdapError> {
    let connector = TlsConnector::from(Arc::clone(config));
    Ok(connector.connect(name.clone(), tcp).await?)
}

/// One message, whole. Its length is looked at before there is room for it.
async fn read(stream: &mut (impl AsyncRead + Unpin + ?Sized)) -> Result<Vec<u8>, LdapError> {
    let mut bytes = vec![0; 2];
    stream.read_exact(&mut bytes).await?;
    let &[tag, first] = bytes.as_slice() else {
        return Err(LdapError::Protocol("it is no message of ldap"));
    };
    let length = match first {
        0..=0x7f => u32::from(first),
        0x81..=0x84 => {
            let mut octets = vec![0; usize::from(first & 0x7f)];
            stream.read_exact(&mut octets).await?;
            let length = octets
                .iter()
                .fold(0_u32, |length, &octet| (length << 8) | u32::from(octet));
            bytes.extend(octets);
            length
        }
        _ => return Err(LdapError::Protocol("it is no message of ldap")),
    };
    if tag != 0x30 || length > LONGEST_MESSAGE {
        return Err(LdapError::Protocol("it is no message of ldap, or one that is too long"));
    }
    stream.take(length.into()).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
