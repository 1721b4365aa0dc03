//! Opens a connection to a directory, makes it private before a password goes over it, and asks one question at a time.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::LdapError;
use super::message::{self, Answer, Entry, Search};

/// Longest message that is read, in bytes.
const LONGEST_MESSAGE: u32 = 1024 * 1024;
/// What is read for one look-up, in bytes, all of its questions together.
const LARGEST_LOOK_UP: u32 = 4 * 1024 * 1024;
/// Entries and references of one look-up, all of its questions together.
const MOST_ANSWERS: u32 = 16_384;
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

/// Where a directory listens.
#[derive(Clone, Debug)]
pub enum Place {
    /// On a port.
    Tcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// What keeps others from reading along.
        security: Security,
    },
    /// On a socket of this machine (`ldapi`), which nobody else can read along.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, security } => {
                let scheme = match security {
                    Security::Tls(..) => "ldaps",
                    Security::StartTls(..) | Security::Clear => "ldap",
                };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}")
            }
            Self::Unix(path) => write!(f, "ldapi, {}", path.display()),
        }
    }
}

/// Who asks. The password does not show in `Debug`.
#[derive(Clone)]
pub enum Bind {
    /// An account with its password, which is never empty: that would be nobody's bind (RFC 4513 §5.1.2).
    Simple {
        /// The account, as the directory names it.
        name: String,
        /// Its password.
        password: Arc<Zeroizing<String>>,
    },
    /// The user of this process, as the socket shows it (SASL EXTERNAL).
    External,
}

impl fmt::Debug for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple { name, password: _ } => write!(f, "Simple({name:?})"),
            Self::External => f.write_str("External"),
        }
    }
}

/// A directory and who asks it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens, in the order in which it is looked for; at least one.
    pub places: Vec<Place>,
    /// Who asks.
    pub bind: Bind,
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A bound connection. Nothing here has a time-out: whoever asks has a deadline for all of it.
pub struct Connection {
    stream: Pin<Box<dyn Stream>>,
    number: u32,
    budget: Budget,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The entries.
    pub entries: Vec<Entry>,
    /// URLs of places that were not looked at, where there may be more.
    pub references: Vec<String>,
}

/// How much more is read for one look-up.
#[derive(Clone, Copy, Debug)]
struct Budget {
    bytes: u32,
    answers: u32,
}

impl Budget {
    const FULL: Self = Self {
        bytes: LARGEST_LOOK_UP,
        answers: MOST_ANSWERS,
    };

    fn take(&mut self, bytes: usize) -> Result<(), LdapError> {
        let left = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| self.bytes.checked_sub(bytes))
            .zip(self.answers.checked_sub(1));
        let (bytes, answers) = left.ok_or(LdapError::Protocol("it says more than is read for one account"))?;
        *self = Self { bytes, answers };
        Ok(())
    }
}

impl Connection {
    /// Connects and binds.
    pub async fn open(place: &Place, bind: &Bind) -> Result<Self, LdapError> {
        let mut connection = Self {
            stream: connect(place).await?,
            number: 1,
            budget: Budget::FULL,
        };
        let number = connection.next();
        let request = match bind {
            Bind::Simple { name, password } => message::bind(number, name, password.as_bytes()),
            Bind::External => message::bind_external(number),
        };
        connection.send(&Zeroizing::new(request)).await?;
        message::read_bind(&read(&mut connection.stream).await?, number)?;
        Ok(connection)
    }

    /// Begins another look-up, with all that may be read for one.
    pub fn begin(&mut self) {
        self.budget = Budget::FULL;
    }

    /// Whether the server keeps quiet, as it must where nothing was asked: it has not ended the connection.
    pub async fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        // One look, without waiting: bytes, the end and an error alike are something.
        poll_fn(|context| {
            let read = self.stream.as_mut().poll_read(context, &mut ReadBuf::new(&mut byte));
            Poll::Ready(read.is_pending())
        })
        .await
    }

    /// All that is found, page by page. `seconds` is how long the server may take for one.
    pub async fn search(&mut self, search: &Search, seconds: u32) -> Result<Found, LdapError> {
        let mut found = Found::default();
        let mut from = Vec::new();
        loop {
            let number = self.next();
            let request = message::search(number, search, seconds, PAGE, &from);
            self.send(&request).await?;
            let before = found.entries.len();
            from = loop {
                let bytes = read(&mut self.stream).await?;
                self.budget.take(bytes.len())?;
                match message::read_answer(&bytes, number)? {
                    Answer::Entry(_) if found.entries.len() >= search.most => {
                        return Err(LdapError::Protocol("it has more entries than are read"));
                    }
                    Answer::Entry(entry) => found.entries.push(entry),
                    Answer::Reference(url) => found.references.push(url),
                    Answer::Done { cookie } => break cookie,
                }
            };
            if from.is_empty() {
                return Ok(found);
            }
            if found.entries.len() == before {
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
        drop(timeout(GOOD_BYE, bye).await);
    }

    /// The next message's number, of 31 bits (RFC 4511 §4.1.1.1); 0 is the server's own.
    fn next(&mut self) -> u32 {
        self.number = (self.number & 0x3fff_ffff).wrapping_add(1);
        self.number
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), LdapError> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }
}

async fn connect(place: &Place) -> Result<Pin<Box<dyn Stream>>, LdapError> {
    let (host, port, security) = match place {
        Place::Unix(path) => return Ok(Box::pin(UnixStream::connect(path).await?)),
        Place::Tcp { host, port, security } => (host, port, security),
    };
    let mut tcp = TcpStream::connect((host.as_str(), *port)).await?;
    tcp.set_nodelay(true)?;
    Ok(match security {
        Security::Clear => Box::pin(tcp),
        Security::Tls(config, name) => Box::pin(tls(config, name, tcp).await?),
        Security::StartTls(config, name) => {
            tcp.write_all(&message::start_tls(1)).await?;
            // Read to its end and no further: what a stranger sends along goes into the handshake, and breaks it.
            message::read_start_tls(&read(&mut tcp).await?, 1)?;
            Box::pin(tls(config, name, tcp).await?)
        }
    })
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
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin + ?Sized)) -> Result<Vec<u8>, LdapError> {
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
    let whole = stream.take(length.into()).read_to_end(&mut bytes).await?;
    if u32::try_from(whole) == Ok(length) {
        Ok(bytes)
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }
}

#[cfg(test)]
mod tests;
