//! Decides who a connection is, how many there may be, and when each must end.

mod idle;
mod patient;
mod share;

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

pub use self::share::SourceShare;

use self::idle::{IdleConnections, Standing};
use self::patient::Patient;
use self::share::{Full, Place};
use super::bind::{Bound, Socket, SocketFile};
use crate::client_certificate::digest_of;
use crate::config::{ListenerName, TlsServer};
use crate::exchange::{Caller, ClientProof, Peer};
use crate::metrics::ConnectionMetrics;

/// How long a head may take to arrive, and so how long a connection may be idle. Envoy's idle time-out for the cluster
/// must be shorter (its example says 60 s), or it may send a request into a connection that is just being closed.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// The same on `public`, where strangers come: as long as a body.
const PUBLIC_HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may take none of the bytes that it is sent. It would hold its slot for as long.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How long a connection to `public` may last: whoever takes its answers byte by byte, or asks without end, has to queue
/// for a slot again like everybody else.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// How long an idle connection that is to make way has for what it began.
const WAY_TIME: Duration = Duration::from_secs(1);
/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// Wait after a failed accept: with no file descriptors left, the next one fails too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Largest head, in bytes.
const LARGEST_HEAD: usize = 32 * 1024;

/// Tells all connections that the server is stopping.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A sender to be set to true, and what listens to it.
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    async fn begun(&mut self) {
        // A sender that is gone will never say anything else, so it counts as stopping.
        drop(self.0.wait_for(|stopping| *stopping).await);
    }
}

/// How many connections a listener may have open at once.
#[derive(Clone, Debug)]
pub struct Room {
    /// All together.
    pub connections: usize,
    /// One source of `public`. Whoever comes to the other listeners is known, and comes from few places.
    pub share: Option<SourceShare>,
    /// What is counted.
    pub metrics: ConnectionMetrics,
}

/// A listener whose connections this runtime can accept.
#[derive(Debug)]
pub struct Listening {
    caller: Caller,
    listener: Listener,
    /// Kept until all is done, then removed.
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tls(TcpListener, Arc<TlsServer>),
    Clear(TcpListener),
}

enum Stream {
    Unix(tokio::net::UnixStream),
    Tls(tokio::net::TcpStream, Arc<TlsServer>),
    Clear(tokio::net::TcpStream),
}

impl Bound {
    /// Registers it with the runtime in which this is called.
    pub fn register(self) -> io::Result<Listening> {
        let (listener, file, proof) = match self.socket {
            Socket::Unix(listener, file) => {
                let listener = UnixListener::from_std(listener)?;
                (Listener::Unix(listener), Some(file), ClientProof::Socket)
            }
            Socket::Tls(listener, server) => {
                let listener = TcpListener::from_std(listener)?;
                (Listener::Tls(listener, server), None, ClientProof::Nothing)
            }
            Socket::Clear(listener) => {
                let listener = TcpListener::from_std(listener)?;
                (Listener::Clear(listener), None, ClientProof::Nothing)
            }
        };
        let caller = Caller {
            listener: self.name,
            client: self.client_name,
            proof,
            peer: Peer::default(),
        };
        Ok(Listening { caller, listener, file })
    }
}

impl Listening {
    /// Which listener.
    pub fn name(&self) -> ListenerName {
        self.caller.listener
    }

    /// Where it really is, with the port that the system chose where the configuration says 0.
    pub fn address(&self) -> String {
        let tcp = |listener: &TcpListener| listener.local_addr().map_or_else(|_| "?".into(), |at| at.to_string());
        match &self.listener {
            Listener::Unix(_) => {
                let path = self.file.as_ref().map(|file| file.path.display().to_string());
                format!("unix:{}", path.unwrap_or_default())
            }
            Listener::Tls(listener, _) => format!("tls:{}", tcp(listener)),
            Listener::Clear(listener) => format!("tcp:{}", tcp(listener)),
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        Ok(match self {
            Self::Unix(listener) => (Stream::Unix(listener.accept().await?.0), None),
            Self::Tls(listener, server) => {
                let (stream, from) = listener.accept().await?;
                (Stream::Tls(stream, Arc::clone(server)), Some(from.ip()))
            }
            Self::Clear(listener) => {
                let (stream, from) = listener.accept().await?;
                (Stream::Clear(stream), Some(from.ip()))
            }
        })
    }
}

/// Serves one listener until told to stop, then waits for the requests in flight, `drain` at most.
pub async fn serve(listening: Listening, router: Router, room: Room, mut shutdown: Shutdown, drain: Duration) {
    let Listening {
        caller,
        listener,
        file: _file,
    } = listening;
    let name = caller.listener;
    let slots = Arc::new(Semaphore::new(room.connections));
    let idle = IdleConnections::default();
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.begun() => break,
        };
        // Those that have ended are taken off, so that the set does not grow with every connection.
        while open.try_join_next().is_some() {}
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = name.as_str(), %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Before it waits for a slot: whoever has its share keeps nobody waiting behind it.
        let Ok(place) = room.place(name, address) else { continue };
        let permit = tokio::select! {
            permit = room.slot(name, &slots, &idle) => permit,
            () = shutdown.begun() => break,
        };
        let Ok(permit) = permit else { break };
        let mut caller = caller.clone();
        caller.peer.address = address;
        let held = Held {
            standing: idle.join(),
            _place: place,
            _permit: permit,
        };
        open.spawn(connection(stream, caller, router.clone(), shutdown.clone(), held));
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, all).await.is_err() {
        tracing::warn!(
            listener = name.as_str(),
            left = open.len(),
            "requests in flight were cut off"
        );
    }
}

/// What a connection holds while it is open.
struct Held {
    standing: Standing,
    _place: Option<Place>,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    /// A place among the connections of a source, where it may not have them all.
    fn place(&self, listener: ListenerName, address: Option<IpAddr>) -> Result<Option<Place>, Full> {
        let (Some(share), Some(address), ListenerName::Public) = (&self.share, address, listener) else {
            return Ok(None);
        };
        share.take(address).inspect_err(|full| {
            self.metrics.source_full();
            if full.is_news {
                tracing::warn!(
                    source = %address,
                    "a source has as many connections to listen.public as it may: where many clients are behind it, name it in \
                     limits.shared_sources"
                );
            }
        })
    }

    /// A slot, for which on `public` somebody makes way where there is none: strangers come there, and cannot be asked to let go.
    async fn slot(
        &self,
        listener: ListenerName,
        slots: &Arc<Semaphore>,
        idle: &IdleConnections,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        if let Ok(permit) = Arc::clone(slots).try_acquire_owned() {
            return Ok(permit);
        }
        let mut freed = std::pin::pin!(Arc::clone(slots).acquire_owned());
        let mut is_wanted = listener == ListenerName::Public;
        loop {
            if is_wanted && idle.make_way() {
                self.metrics.made_way();
                is_wanted = false;
            }
            tokio::select! {
                permit = freed.as_mut() => return permit,
                () = idle.grow(), if is_wanted => {}
            }
        }
    }
}

async fn connection(stream: Stream, mut caller: Caller, router: Router, shutdown: Shutdown, held: Held) {
    match stream {
        Stream::Unix(stream) => {
            if caller.listener == ListenerName::Admin {
                let uid = stream.peer_cred().map(|peer| peer.uid());
                caller.peer.uid = match uid {
                    Ok(uid) if may_administer(uid, rustix::process::geteuid().as_raw()) => Some(uid),
                    Ok(uid) => {
                        tracing::warn!(
                            uid,
                            "somebody else than root and the broker's user came to listen.admin"
                        );
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "nobody knows who came to listen.admin");
                        return;
                    }
                };
            }
            http(stream, caller, router, shutdown, held).await;
        }
        Stream::Clear(stream) => http(stream, caller, router, shutdown, held).await,
        Stream::Tls(stream, server) => {
            let tls = TlsAcceptor::from(server.current());
            let handshake = tokio::select! {
                handshake = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)) => handshake,
                () = held.standing.told() => return,
            };
            let stream = match handshake {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(listener = caller.listener.as_str(), %error, "handshake failed");
                    return;
                }
                Err(_) => return,
            };
            let (_, session) = stream.get_ref();
            caller.peer.server_name = session.server_name().map(str::to_owned);
            let certificate = session.peer_certificates().and_then(|chain| chain.first());
            // `observe` asks nobody for a name; on `public` whoever shows no certificate has none.
            let is_named = match caller.listener {
                ListenerName::Mesh => true,
                ListenerName::Public => certificate.is_some(),
                ListenerName::Observe | ListenerName::Admin => false,
            };
            if is_named {
                let listener = caller.listener.as_str();
                let Some((certificate, name)) = certificate.and_then(|one| Some((one, client_name(one)?))) else {
                    tracing::warn!(
                        listener,
                        "a client certificate names nobody: it needs a DNS or URI name"
                    );
                    return;
                };
                if let Some(why) = server.client_names().refusal(&name) {
                    tracing::warn!(listener, client_id = name, "{why}");
                    return;
                }
                caller.client = name;
                caller.proof = ClientProof::Certificate(digest_of(certificate));
            }
            http(stream, caller, router, shutdown, held).await;
        }
    }
}

/// Whether a user may tell a broker that runs as `own` what to do: whoever could do it without asking, too.
const fn may_administer(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

/// The first DNS or URI name of a certificate that was verified (RFC 5280 §4.2.1.6).
fn client_name(certificate: &rustls::pki_types::CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate
        .valid_dns_names()
        .chain(certificate.valid_uri_names())
        .find(|name| crate::config::is_client_name(name))
        .map(str::to_owned)
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    caller: Caller,
    router: Router,
    mut shutdown: Shutdown,
    held: Held,
) {
    // Whoever comes to the others is known, and keeps its connections for long.
    let (head_time, longest) = match caller.listener {
        ListenerName::Mesh | ListenerName::Observe | ListenerName::Admin => (HEAD_TIME, None),
        ListenerName::Public => (PUBLIC_HEAD_TIME, Some(LIFE)),
    };
    let standing = &held.standing;
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller.clone());
        let router = router.clone();
        standing.works();
        async move {
            let response: Result<_, Infallible> = router.oneshot(request).await;
            standing.rests();
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_TIME)), service);
    let mut connection = std::pin::pin!(connection);
    // How long it still has, once it has to end.
    let over = async {
        tokio::select! {
            () = lived(longest) => WRITE_TIME,
            () = standing.told() => WAY_TIME,
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.begun() => {
            // An idle connection ends now, a request in flight is answered first.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        left = over => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(left, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Returns after so long; never, where there is no bound.
async fn lived(longest: Option<Duration>) {
    match longest {
        Some(longest) => tokio::time::sleep(longest).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
