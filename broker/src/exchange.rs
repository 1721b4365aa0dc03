//! Decides one exchange, in any of its three directions: request in, token, ticket or refusal out, with one log event and one count for each.

mod asked;
mod event;
mod form;
mod handshake;
mod introspection;
mod logout;
mod refusal;
mod request;
mod revocation;
mod target;
mod to_ticket;
mod to_token;
mod trade;

use std::net::IpAddr;
use std::sync::Arc;

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_wire::exchange::ExchangeReply;
use kerbridge_wire::{Fault, Reason};
use tokio::time::Instant;

use event::About;
pub use introspection::Introspected;
pub use refusal::Refusal;
pub use request::{ExchangeRequest, Hints, RequestError};
use request::{ToTicket, ToToken, Trade};
pub use revocation::Shown;
use target::Target;
use to_ticket::Delegated;
pub use to_ticket::TokenToTicket;
use to_token::Issued;
pub use to_token::TicketToToken;
pub use trade::TokenToToken;

use crate::audit::Audit;
use crate::client_assertion::{AssertingClients, Assertion, ClientClaim, NotAsserted};
use crate::config::ListenerName;
use crate::failure_limit::FailureLimit;
use crate::metrics::Metrics;
use crate::time::{Clock, UnixTime};
use crate::trace::{self, Step};

/// What a connection says of its other end by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address, where it has one.
    pub address: Option<IpAddr>,
    /// The server name that it asked for (RFC 6066 §3), where it came by TLS and asked for one.
    pub server_name: Option<String>,
    /// The user that it runs as, on `admin`.
    pub uid: Option<u32>,
}

/// Who asks: through which listener, and under which name (`client_id`, RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The listener.
    pub listener: ListenerName,
    /// The client's name: its own where it has shown who it is, otherwise what the listener calls its callers.
    pub client: String,
    /// What it has shown.
    pub proof: ClientProof,
    /// The other end of the connection: on `mesh` Envoy, on `public` the client or its proxy.
    pub peer: Peer,
}

/// What shows who a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientProof {
    /// Nothing.
    #[default]
    Nothing,
    /// That it may open the listener's Unix socket.
    Socket,
    /// The certificate of its connection, of an authority of the listener's.
    Certificate(CertificateDigest),
    /// A signature of its own (RFC 7523), over a connection with this certificate or none.
    Assertion(Option<CertificateDigest>),
}

impl ClientProof {
    /// The certificate of the connection.
    pub const fn certificate(self) -> Option<CertificateDigest> {
        match self {
            Self::Certificate(digest) => Some(digest),
            Self::Assertion(certificate) => certificate,
            Self::Nothing | Self::Socket => None,
        }
    }
}

impl Caller {
    /// The client, where it has shown which one it is. The socket of `mesh` is the filter's alone; that of `public` may be open
    /// to many, and says nothing.
    pub fn authenticated(&self) -> Option<&str> {
        match (self.listener, self.proof) {
            (ListenerName::Mesh, ClientProof::Socket)
            | (ListenerName::Mesh | ListenerName::Public, ClientProof::Certificate(_))
            | (ListenerName::Public, ClientProof::Assertion(_)) => Some(&self.client),
            (ListenerName::Mesh, ClientProof::Nothing | ClientProof::Assertion(_))
            | (ListenerName::Public, ClientProof::Nothing | ClientProof::Socket)
            | (ListenerName::Observe | ListenerName::Admin, _) => None,
        }
    }
}

/// All that exchanges need, in the directions in which this broker trades.
#[derive(Debug)]
pub struct Exchange {
    /// Tickets for tokens.
    pub to_token: Option<TicketToToken>,
    /// Tokens for tokens of other audiences.
    pub trade: Option<TokenToToken>,
    /// Tokens for tickets.
    pub to_ticket: Option<TokenToTicket>,
    /// The clients that have keys; absent where none has.
    pub clients: Option<AssertingClients>,
    /// Who has failed too often.
    pub failures: FailureLimit,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether events can be written.
    pub audit: Audit,
}

/// A request for a token, by what is shown for it.
enum Wanted {
    ForTicket(ToToken),
    ForToken(Trade),
}

impl Wanted {
    const fn target(&self) -> &Target {
        match self {
            Self::ForTicket(request) => &request.target,
            Self::ForToken(request) => &request.target,
        }
    }
}

impl Exchange {
    /// Answers one request body.
    pub async fn answer(&self, body: &[u8], caller: &Caller, clock: Clock) -> Result<ExchangeReply, Refusal> {
        let (began, now) = (Instant::now(), clock.now());
        let (hints, claim, request) = ExchangeRequest::read(body, caller.listener);
        let known = self.client(claim, caller, now, began).await;
        let known = known.map_err(|refusal| self.refuse(refusal, caller))?;
        let caller = known.as_ref().unwrap_or(caller);
        let request = match (request, &self.to_ticket) {
            (Ok(ExchangeRequest::ToTicket(request)), Some(direction)) => {
                return self.ticket(direction, request, caller, &hints, clock, began).await;
            }
            (Ok(ExchangeRequest::ToToken(request)), _) => Ok(Wanted::ForTicket(request)),
            (Ok(ExchangeRequest::Trade(request)), _) => Ok(Wanted::ForToken(request)),
            (Ok(ExchangeRequest::ToTicket(_)), None) => Err(RequestError::Direction),
            (Err(error), _) => Err(error),
        };
        self.token(request, caller, &hints, now, began).await
    }

    /// Trades a token for a ticket. Whoever asks has a name, and the address is that of a client whose token the filter has
    /// verified: what is refused here is no failure of theirs.
    async fn ticket(
        &self,
        direction: &TokenToTicket,
        request: ToTicket,
        caller: &Caller,
        hints: &Hints,
        clock: Clock,
        began: Instant,
    ) -> Result<ExchangeReply, Refusal> {
        let target = request.target.clone();
        let about = About {
            caller,
            hints,
            audience: Some(&target),
        };
        let outcome = match self.audit.ready() {
            Ok(()) => direction.exchange(request, caller, hints, clock, began).await,
            Err(error) => Err(error.into()),
        };
        let outcome = match outcome {
            Ok(delegated) => {
                let event = self.audit.mark();
                event::delegated(&delegated, &about);
                let until = began.checked_add(direction.delegation.deadline()).unwrap_or(began);
                let written = self.audit.written(event, until);
                let written = trace::step(Step::Audit, written, |error| error.reason()).await;
                written.map_err(|error| delegated.withheld(error)).map(|()| delegated)
            }
            Err(refusal) => Err(refusal),
        };
        let reason = outcome.as_ref().map_or_else(|refusal| refusal.reason, |_| Reason::Ok);
        let seconds = began.elapsed().as_secs_f64();
        self.metrics.delegation().delegated(reason, seconds);
        trace::decided(trace::Direction::TokenToTicket, reason, || match &outcome {
            Ok(delegated) => Some(delegated.grant.user().as_str()),
            Err(refusal) => refusal.principal.as_deref(),
        });
        outcome
            .map(Delegated::into_reply)
            .inspect_err(|refusal| event::refused(refusal, &about))
    }

    /// Trades a ticket or a token for a token, unless its source has failed too often.
    async fn token(
        &self,
        request: Result<Wanted, RequestError>,
        caller: &Caller,
        hints: &Hints,
        now: UnixTime,
        began: Instant,
    ) -> Result<ExchangeReply, Refusal> {
        let source = source(caller, hints);
        let target = request.as_ref().ok().map(|request| request.target().clone());
        let about = About {
            caller,
            hints,
            audience: target.as_ref().map(Target::as_str),
        };
        let traded = match &request {
            Ok(Wanted::ForToken(_)) => trace::Direction::TokenToToken,
            Ok(Wanted::ForTicket(_)) | Err(_) => trace::Direction::TicketToToken,
        };
        let outcome = match (request, &self.to_token) {
            _ if source.is_some_and(|source| self.failures.is_exceeded(source, began)) => Err(too_often()),
            (Ok(_), Some(_)) if let Err(error) = self.audit.ready() => Err(error.into()),
            (Ok(Wanted::ForTicket(request)), Some(direction)) => {
                let outcome = direction.exchange(request, caller, hints, source, now, began).await;
                self.recorded(outcome, direction, &about, began).await
            }
            (Ok(Wanted::ForToken(request)), Some(minting)) if let Some(direction) = &self.trade => {
                let outcome = direction.exchange(request, minting, caller, now, began).await;
                self.recorded(outcome, minting, &about, began).await
            }
            (Ok(_), _) => Err(RequestError::Direction.into()),
            (Err(error), _) => Err(error.into()),
        };
        let reason = outcome.as_ref().map_or_else(|refusal| refusal.reason, |_| Reason::Ok);
        self.metrics.exchanged(reason, began.elapsed().as_secs_f64());
        trace::decided(traded, reason, || match &outcome {
            Ok(issued) => Some(issued.grant.identity().principal().as_str()),
            Err(refusal) => refusal.principal.as_deref(),
        });
        outcome.map(Issued::into_reply).inspect_err(|refusal| {
            event::refused(refusal, &about);
            self.note_failure(refusal.reason, caller.listener, source, began);
        })
    }

    /// What was minted, once its event is written, where that is wanted.
    async fn recorded(
        &self,
        outcome: Result<Issued, Refusal>,
        direction: &TicketToToken,
        about: &About<'_>,
        began: Instant,
    ) -> Result<Issued, Refusal> {
        let issued = outcome?;
        let event = self.audit.mark();
        event::exchanged(&issued, about);
        let until = began.checked_add(direction.deadline).unwrap_or(began);
        let written = self.audit.written(event, until);
        match trace::step(Step::Audit, written, |error| error.reason()).await {
            Ok(()) => Ok(issued),
            Err(error) => Err(issued.withheld(error)),
        }
    }

    /// Who asks, where a request says more of it than its connection.
    async fn client(
        &self,
        claim: ClientClaim,
        caller: &Caller,
        now: UnixTime,
        began: Instant,
    ) -> Result<Option<Caller>, Refusal> {
        match claim {
            ClientClaim::Assertion(assertion) => self.identify(assertion, caller, now, began).await.map(Some),
            // RFC 8705 §2: by its certificate, too, a client is the one that it says it is.
            ClientClaim::Name(name) if caller.authenticated().is_some_and(|client| client != name) => {
                Err(Refusal::unauthenticated(
                    "client_id is another client than the one that the connection is of: leave it out, or send that one's",
                ))
            }
            ClientClaim::Name(_) | ClientClaim::Nothing => Ok(None),
        }
    }

    /// Who says who they are, and how: whose assertion is good, or why it is not.
    async fn identify(
        &self,
        assertion: Assertion,
        caller: &Caller,
        now: UnixTime,
        began: Instant,
    ) -> Result<Caller, Refusal> {
        let source = caller.peer.address;
        if source.is_some_and(|source| self.failures.is_exceeded(source, began)) {
            return Err(too_often());
        }
        let named = match (&self.clients, &self.to_token) {
            (Some(clients), Some(direction)) => {
                let deadline = began.checked_add(direction.deadline).unwrap_or(began);
                clients.name(assertion, caller.authenticated(), now, deadline).await
            }
            (_, _) => Err(NotAsserted {
                reason: Reason::ClientUnauthenticated,
                detail: "no client has keys".into(),
            }),
        };
        match named {
            Ok(client) => Ok(Caller {
                client,
                proof: ClientProof::Assertion(caller.proof.certificate()),
                ..caller.clone()
            }),
            Err(NotAsserted { reason, detail }) => Err(Refusal::new(reason, detail)),
        }
    }

    /// The path of the issuer, without a slash at its end; empty where it has none, and where no tokens are made.
    pub fn issuer_path(&self) -> &str {
        let issuer = self.to_token.as_ref().map_or("", |direction| direction.issuer.as_str());
        let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
        path.trim_end_matches('/')
    }

    /// Whether a good request would get what it wants, as far as that is known without one.
    pub fn ready(&self) -> Result<(), String> {
        self.audit.ready().map_err(|error| error.to_string())?;
        if let Some(direction) = &self.to_token {
            direction.replay.health().map_err(|error| error.to_string())?;
            if !direction.keyring.is_current() {
                return Err("the database with the signing keys has not answered for too long".into());
            }
            direction.revocations.ready().map_err(|error| error.to_string())?;
        }
        match &self.to_ticket {
            Some(direction) => direction.delegation.ready(),
            None => Ok(()),
        }
    }

    /// Counts and logs a refusal that came before there was a body to look at.
    pub fn refuse(&self, refusal: Refusal, caller: &Caller) -> Refusal {
        self.metrics.exchanged(refusal.reason, 0.0);
        self.note_refusal(&refusal, caller, &Hints::default());
        refusal
    }

    /// Logs a refusal of a request that names no audience, or of before that was known, and holds it against its source.
    fn note_refusal(&self, refusal: &Refusal, caller: &Caller, hints: &Hints) {
        let about = About {
            caller,
            hints,
            audience: None,
        };
        event::refused(refusal, &about);
        self.note_failure(refusal.reason, caller.listener, source(caller, hints), Instant::now());
    }

    fn note_failure(&self, reason: Reason, listener: ListenerName, source: Option<IpAddr>, now: Instant) {
        if let Some(source) = source
            && is_failure(reason, listener)
            && self.failures.failed(source, now)
        {
            tracing::warn!(
                %source,
                "a source has failed as often as it may: where it is a proxy, let Envoy see the clients' own addresses"
            );
        }
    }
}

fn too_often() -> Refusal {
    Refusal::new(Reason::RateLimited, "this source has failed too often within a minute")
}

/// The client's address: on `mesh` as Envoy trusts it, elsewhere that of the connection.
fn source(caller: &Caller, hints: &Hints) -> Option<IpAddr> {
    match caller.listener {
        ListenerName::Mesh => hints.address(),
        ListenerName::Public | ListenerName::Observe | ListenerName::Admin => caller.peer.address,
    }
}

/// Whether a refusal counts against its source. A person without a right, or from whom it was taken back, has proven who they
/// are; a handshake that goes on has not failed; and one that is made to wait must not wait longer for it. On `mesh` the
/// request is the filter's: an audience that nobody knows is a mistake in a configuration, and not the client's.
const fn is_failure(reason: Reason, listener: ListenerName) -> bool {
    let is_of_the_request = matches!(
        reason,
        Reason::InvalidRequest
            | Reason::UnsupportedGrantType
            | Reason::InvalidScope
            | Reason::InvalidTarget
            | Reason::ClientUnauthenticated
    );
    matches!(reason.fault(), Fault::Client | Fault::ClientOrUs)
        && !matches!(reason, Reason::Revoked | Reason::ContinueNeeded | Reason::RateLimited)
        && !(is_of_the_request && matches!(listener, ListenerName::Mesh))
}
