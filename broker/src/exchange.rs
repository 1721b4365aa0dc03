//! Decides one exchange: request in, token or refusal out, with one log event and one count for each.

mod form;
mod handshake;
mod request;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kerbridge_wire::exchange::{ACCESS_TOKEN_TYPE, ExchangeError, ExchangeReply, OauthError};
use kerbridge_wire::{Fault, Reason};
use tokio::time::Instant;

use handshake::{Shown, encoded};
pub use request::{ExchangeRequest, Hints, RequestError};

use crate::acceptor::{Accepted, AcceptorPool, HalfOpen};
use crate::channel_bindings::Channel;
use crate::config::ListenerName;
use crate::continuation::Continuations;
use crate::failure_limit::FailureLimit;
use crate::groups::{GroupSource, Wanted};
use crate::identity::{Identity, IdentityRules};
use crate::keyring::KeyRing;
use crate::log::KEPT;
use crate::metrics::Metrics;
use crate::policy::{Audience, Grant, Policy};
use crate::replay::{FirstUse, ReplayGuard};
use crate::time::UnixTime;
use crate::token::{IssuedToken, Minter};

/// What a connection says of its other end by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address, where it has one.
    pub address: Option<IpAddr>,
    /// The server name that it asked for (RFC 6066 §3), where it came by TLS and asked for one.
    pub server_name: Option<String>,
}

/// Who asks: through which listener, and under which name (`client_id`, RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The listener.
    pub listener: ListenerName,
    /// The authenticated client's name.
    pub client: String,
    /// The other end of the connection: on `mesh` Envoy, on `public` the client or its proxy.
    pub peer: Peer,
}

/// All that an exchange needs.
#[derive(Debug)]
pub struct Exchange {
    /// `iss`.
    pub issuer: String,
    /// Who may have what.
    pub policy: Policy,
    /// Whom we take.
    pub rules: IdentityRules,
    /// Who is in which group.
    pub groups: GroupSource,
    /// What signs and names sessions.
    pub keyring: KeyRing,
    /// What accepts tickets.
    pub acceptors: AcceptorPool,
    /// Who has failed too often.
    pub failures: FailureLimit,
    /// What lets each ticket's authenticator through once.
    pub replay: ReplayGuard,
    /// How long all of it may take.
    pub deadline: Duration,
    /// What waits for a second leg.
    pub continuations: Continuations<HalfOpen>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why there is no token.
#[derive(Debug)]
pub struct Refusal {
    /// The word of the closed list.
    pub reason: Reason,
    /// More about it, for the log.
    detail: String,
    /// What to do about it, for people.
    advice: Option<&'static str>,
    /// The acceptor's token for the client, in base64.
    negotiate: Option<String>,
    /// The handle with which the second leg is to come.
    continuation: Option<Box<str>>,
    /// Who it was, where that was proved.
    principal: Option<Box<str>>,
    /// What a token would have called them, where that was found.
    subject: Option<Box<str>>,
}

struct Issued {
    grant: Grant,
    token: IssuedToken,
    negotiate: Option<String>,
}

impl Exchange {
    /// Answers one request body.
    pub async fn answer(&self, body: &[u8], caller: &Caller, now: UnixTime) -> Result<ExchangeReply, Refusal> {
        let began = Instant::now();
        let (hints, request) = ExchangeRequest::read(body, caller.listener);
        let source = source(caller, &hints);
        let (audience, outcome) = match request {
            _ if source.is_some_and(|source| self.failures.is_exceeded(source, began)) => {
                let refusal = Refusal::new(Reason::RateLimited, "this source has failed too often within a minute");
                (None, Err(refusal))
            }
            Ok(request) => (
                Some(request.audience.clone()),
                self.exchange(request, caller, channel(caller, &hints, now), source, now, began)
                    .await,
            ),
            Err(error) => (None, Err(error.into())),
        };
        let reason = outcome.as_ref().map_or_else(|refusal| refusal.reason, |_| Reason::Ok);
        self.metrics.exchanged(reason, began.elapsed().as_secs_f64());
        let about = About {
            caller,
            hints: &hints,
            audience: audience.as_deref(),
        };
        match &outcome {
            Ok(issued) => log(issued, &about),
            Err(refusal) => {
                log_refusal(refusal, &about);
                self.note_failure(refusal.reason, source, began);
            }
        }
        outcome.map(Issued::into_reply)
    }

    /// Counts and logs a refusal that came before there was a body to look at.
    pub fn refuse(&self, refusal: Refusal, caller: &Caller) -> Refusal {
        self.metrics.exchanged(refusal.reason, 0.0);
        let about = About {
            caller,
            hints: &Hints::default(),
            audience: None,
        };
        log_refusal(&refusal, &about);
        self.note_failure(refusal.reason, source(caller, about.hints), Instant::now());
        refusal
    }

    fn note_failure(&self, reason: Reason, source: Option<IpAddr>, now: Instant) {
        if let Some(source) = source
            && is_failure(reason)
            && self.failures.failed(source, now)
        {
            tracing::warn!(
                %source,
                "a source has failed as often as it may: where it is a proxy, let Envoy see the clients' own addresses"
            );
        }
    }

    async fn exchange(
        &self,
        request: ExchangeRequest,
        caller: &Caller,
        channel: Channel,
        source: Option<IpAddr>,
        now: UnixTime,
        began: Instant,
    ) -> Result<Issued, Refusal> {
        let ExchangeRequest {
            subject_token,
            continuation,
            audience,
            scope,
        } = request;
        // Before the ticket is accepted: a mistyped audience must not use it up.
        if self.policy.audience(&audience).is_none() {
            return Err(Refusal::new(Reason::InvalidTarget, "the audience is not in the policy"));
        }
        let shown = Shown {
            token: &subject_token,
            continuation: continuation.as_ref().map(|handle| handle.as_str()),
            channel,
            source,
            came: began,
        };
        let (accepted, token) = self.accept(shown, caller).await?;
        self.metrics.accepted(accepted.channel_bound());
        self.metrics.ticket_taken(token.key().enctype);
        let deadline = began.checked_add(self.deadline).unwrap_or(began);
        let first_use = self.replay.first_use(&accepted, &token, now, deadline).await;
        let issued = match first_use {
            Ok(first_use) => match self.identify(&first_use, &audience, now, deadline).await {
                Ok(identity) => self.mint(identity, &accepted, &audience, scope.as_ref(), caller, now),
                Err(refusal) => Err(refusal),
            },
            Err(error) => Err(Refusal::new(error.reason(), error.to_string())),
        };
        issued.map_err(|refusal| Refusal {
            principal: Some(accepted.client().as_str().into()),
            ..refusal
        })
    }

    /// Who came, and in which groups they are.
    async fn identify(
        &self,
        first_use: &FirstUse<'_>,
        audience: &str,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<Identity, Refusal> {
        let accepted = first_use.accepted();
        let session = self.keyring.session(first_use.ticket());
        let identity = Identity::of(accepted, session, &self.rules, now)
            .map_err(|stranger| Refusal::new(stranger.reason(), stranger.to_string()))?;
        let wanted = Wanted {
            by_audience: self.policy.audience(audience).is_some_and(Audience::needs_groups),
            names: self.policy.wanted_groups(),
        };
        match self.groups.groups_of(accepted, wanted, now, deadline).await {
            Ok(groups) => Ok(identity.in_groups(groups)),
            Err(error) => Err(Refusal {
                subject: Some(identity.subject().as_str().into()),
                ..Refusal::new(error.reason(), error.to_string())
            }),
        }
    }

    fn mint(
        &self,
        identity: Identity,
        accepted: &Accepted,
        audience: &str,
        scope: Option<&crate::policy::Scopes>,
        caller: &Caller,
        now: UnixTime,
    ) -> Result<Issued, Refusal> {
        let subject = identity.subject().clone();
        let grant = self.policy.grant(identity, audience, scope).map_err(|denial| Refusal {
            subject: Some(subject.as_str().into()),
            ..Refusal::new(denial.reason(), denial.to_string())
        })?;
        let token = Minter::new(&self.issuer, self.keyring.signing())
            .issue(&grant, &caller.client, now)
            .map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
        Ok(Issued {
            grant,
            token,
            negotiate: accepted.reply().map(encoded),
        })
    }
}

/// The client's address: on `mesh` as Envoy trusts it, elsewhere that of the connection.
fn source(caller: &Caller, hints: &Hints) -> Option<IpAddr> {
    match caller.listener {
        ListenerName::Mesh => hints.address(),
        ListenerName::Public | ListenerName::Observe => caller.peer.address,
    }
}

/// The channel that the client's ticket came over: on `mesh` Envoy's with the client, elsewhere our own.
fn channel(caller: &Caller, hints: &Hints, at: UnixTime) -> Channel {
    let server_name = match caller.listener {
        ListenerName::Mesh => &hints.server_name,
        ListenerName::Public | ListenerName::Observe => &caller.peer.server_name,
    };
    Channel {
        listener: caller.listener,
        server_name: server_name.clone(),
        at,
    }
}

/// Whether a refusal counts against its source. A person without a right has proven who they are; a handshake that goes on
/// has not failed; and one that is made to wait must not wait longer for it.
const fn is_failure(reason: Reason) -> bool {
    matches!(reason.fault(), Fault::Client | Fault::ClientOrUs)
        && !matches!(reason, Reason::ContinueNeeded | Reason::RateLimited)
}

impl Issued {
    fn into_reply(self) -> ExchangeReply {
        ExchangeReply {
            issued_token_type: ACCESS_TOKEN_TYPE.to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: self.token.life(),
            scope: self.grant.scopes().to_string(),
            negotiate: self.negotiate,
            access_token: self.token.into_compact(),
        }
    }
}

impl Refusal {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            advice: None,
            negotiate: None,
            continuation: None,
            principal: None,
            subject: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(reason: Reason, detail: &str) -> Self {
        Self::new(reason, detail)
    }

    /// A body over the limit, which is never read whole.
    pub fn too_large() -> Self {
        Self::new(Reason::TokenTooLarge, "the body is over the limit")
    }

    /// A request that is none for this endpoint, with what to do about it.
    pub fn invalid_request(advice: &'static str) -> Self {
        Self {
            advice: Some(advice),
            ..Self::new(Reason::InvalidRequest, advice)
        }
    }

    /// The error as the caller may see it: the reason is for `mesh` only, elsewhere it would be an oracle.
    pub fn for_listener(self, listener: ListenerName) -> ExchangeError {
        let mesh = listener == ListenerName::Mesh;
        ExchangeError {
            error: oauth_error(self.reason),
            error_description: self.advice.map(str::to_owned),
            reason: mesh.then_some(self.reason),
            negotiate: self.negotiate.filter(|_| mesh),
            continuation: self.continuation.filter(|_| mesh).map(String::from),
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self {
            advice: Some(error.advice()),
            ..Self::new(error.reason(), error.advice())
        }
    }
}

/// The RFC's word for a reason (RFC 6749 §5.2, RFC 8693 §2.2.2).
const fn oauth_error(reason: Reason) -> OauthError {
    match reason {
        Reason::InvalidRequest => OauthError::InvalidRequest,
        Reason::ClientUnauthenticated => OauthError::InvalidClient,
        Reason::UnsupportedGrantType => OauthError::UnsupportedGrantType,
        Reason::InvalidScope => OauthError::InvalidScope,
        Reason::InvalidTarget | Reason::DeniedByPolicy => OauthError::InvalidTarget,
        Reason::RateLimited
        | Reason::UpstreamRefusedTicket
        | Reason::GroupsUnavailable
        | Reason::KdcUnreachable
        | Reason::KeysUnavailable
        | Reason::FeedStale
        | Reason::BrokerUnavailable
        | Reason::BrokerOverloaded
        | Reason::StoreUnavailable
        | Reason::Internal => OauthError::TemporarilyUnavailable,
        Reason::Ok
        | Reason::NoCredentials
        | Reason::TokenMalformed
        | Reason::AlgorithmNotAllowed
        | Reason::UnknownIssuer
        | Reason::UnknownKey
        | Reason::BadSignature
        | Reason::Expired
        | Reason::NotYetValid
        | Reason::WrongAudience
        | Reason::WrongType
        | Reason::MissingClaim
        | Reason::Revoked
        | Reason::MalformedCredentials
        | Reason::MultipleCredentials
        | Reason::TokenInQuery
        | Reason::PathAmbiguous
        | Reason::TokenTooLarge
        | Reason::NtlmToken
        | Reason::MechUnsupported
        | Reason::ContinueNeeded
        | Reason::ContinuationLost
        | Reason::Replay
        | Reason::TicketExpired
        | Reason::TicketNotYetValid
        | Reason::TicketTooShort
        | Reason::ClockSkew
        | Reason::ChannelBindingMissing
        | Reason::ChannelBindingMismatch
        | Reason::SpnUnknown
        | Reason::KvnoMismatch
        | Reason::EtypeUnavailable
        | Reason::InsufficientScope
        | Reason::RealmNotAllowed
        | Reason::PrincipalNotMapped
        | Reason::DelegationDenied
        | Reason::EvidenceNotForwardable
        | Reason::CrossSite
        | Reason::InsecureTransport => OauthError::InvalidGrant,
    }
}

/// The request that a log line is about, as far as it could be read.
struct About<'a> {
    caller: &'a Caller,
    hints: &'a Hints,
    audience: Option<&'a str>,
}

/// One event for each decision, without any token.
fn log(issued: &Issued, about: &About<'_>) {
    let Issued { grant, token, .. } = issued;
    let About { caller, hints, .. } = about;
    tracing::info!(
        name: KEPT,
        target: "kerbridge::audit",
        reason = Reason::Ok.as_str(),
        principal = grant.identity().principal().as_str(),
        subject = grant.identity().subject().as_str(),
        audience = grant.audience().name(),
        scope = %grant.scopes(),
        jti = token.id(),
        sid = grant.identity().session().as_str(),
        expires = token.expires().seconds(),
        channel_bound = grant.identity().channel_bound(),
        listener = caller.listener.as_str(),
        client_id = caller.client.as_str(),
        source = hints.source.as_deref(),
        server_name = hints.server_name.as_deref(),
        request_id = hints.request_id.as_deref(),
        route = hints.route.as_deref(),
        "exchanged"
    );
}

fn log_refusal(refusal: &Refusal, about: &About<'_>) {
    let About {
        caller,
        hints,
        audience,
    } = about;
    tracing::info!(
        target: "kerbridge::audit",
        reason = refusal.reason.as_str(),
        fault = ?refusal.reason.fault(),
        detail = short(&refusal.detail),
        principal = refusal.principal.as_deref(),
        subject = refusal.subject.as_deref(),
        audience = audience.map(short),
        listener = caller.listener.as_str(),
        client_id = caller.client.as_str(),
        source = hints.source.as_deref(),
        server_name = hints.server_name.as_deref(),
        request_id = hints.request_id.as_deref(),
        route = hints.route.as_deref(),
        "refused"
    );
}

/// As much of a text of somebody else's as a log line has room for: 255 characters. A ticket may name a service of 60 KB.
fn short(text: &str) -> &str {
    let end = text.char_indices().nth(255).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
