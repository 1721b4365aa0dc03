//! Trades a ticket for a token: accepts it, lets it through once, finds out who came, asks the policy, mints.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_wire::exchange::{ACCESS_TOKEN_TYPE, ExchangeReply};
use tokio::time::Instant;

use super::handshake::{Shown, encoded};
use super::request::ToToken;
use super::{Caller, Hints, Refusal};
use crate::acceptor::{Accepted, AcceptorPool, HalfOpen};
use crate::audit::NotWritten;
use crate::channel_bindings::Channel;
use crate::config::ListenerName;
use crate::continuation::Continuations;
use crate::groups::{GroupSource, Wanted};
use crate::identity::{Identity, IdentityRules};
use crate::keyring::KeyRing;
use crate::metrics::Metrics;
use crate::policy::{Audience, Grant, Policy, Scopes};
use crate::replay::{FirstUse, ReplayGuard};
use crate::revocation::Revocations;
use crate::subject_token::VerifiedToken;
use crate::time::UnixTime;
use crate::token::{IssuedToken, Minter};
use crate::trace::{self, Step};

/// All that it takes to make tokens of tickets.
#[derive(Debug)]
pub struct TicketToToken {
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
    /// What lets each ticket's authenticator through once.
    pub replay: ReplayGuard,
    /// What nothing is minted against.
    pub revocations: Arc<Revocations>,
    /// How long all of it may take.
    pub deadline: Duration,
    /// What waits for a second leg.
    pub continuations: Continuations<HalfOpen>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A token that was minted, and what goes with it.
pub(super) struct Issued {
    pub(super) grant: Grant,
    pub(super) token: IssuedToken,
    pub(super) negotiate: Option<String>,
    /// The token that it was traded for, where it was not a ticket.
    pub(super) traded: Option<VerifiedToken>,
}

impl TicketToToken {
    /// Trades one ticket, or says why not.
    pub(super) async fn exchange(
        &self,
        request: ToToken,
        caller: &Caller,
        hints: &Hints,
        source: Option<IpAddr>,
        now: UnixTime,
        began: Instant,
    ) -> Result<Issued, Refusal> {
        let ToToken {
            subject_token,
            continuation,
            target,
            scope,
        } = request;
        // Before the ticket is accepted: a mistyped audience must not use it up.
        let audience = target.find(&self.policy)?.name();
        let shown = Shown {
            token: &subject_token,
            continuation: continuation.as_ref().map(|handle| handle.as_str()),
            channel: channel(caller, hints, now),
            source,
            came: began,
        };
        let accept = self.accept(shown, caller);
        let (accepted, token) = trace::step(Step::Accept, accept, |refusal| refusal.reason).await?;
        self.metrics.accepted(accepted.channel_bound());
        self.metrics.ticket_taken(token.key().enctype);
        let deadline = began.checked_add(self.deadline).unwrap_or(began);
        // At once: a store does both with one commit.
        let first_use = self.replay.first_use(&accepted, &token, now, deadline);
        let first_use = trace::step(Step::FirstUse, first_use, |error| error.reason());
        let (first_use, caught_up) = tokio::join!(first_use, self.revocations.catch_up(deadline));
        let first_use = first_use.map_err(|error| Refusal::new(error.reason(), error.to_string()));
        let issued = match first_use.and_then(|first_use| caught_up.map(|()| first_use).map_err(Refusal::from)) {
            Ok(first_use) => match self.identify(&first_use, audience, now, deadline).await {
                Ok(identity) => {
                    let client = Client {
                        name: &caller.client,
                        certificate: certificate(caller, hints),
                    };
                    let wanted = (audience, scope.as_ref());
                    self.mint(identity, &accepted, wanted, &client, now, deadline).await
                }
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
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
        let identity = Identity::of(accepted, first_use.enctype(), session, &self.rules, now)
            .map_err(|stranger| Refusal::new(stranger.reason(), stranger.to_string()))?;
        let wanted = Wanted {
            by_audience: self.policy.audience(audience).is_some_and(Audience::needs_groups),
            names: self.policy.wanted_groups(),
        };
        let groups = self.groups.groups_of(accepted, wanted, now, deadline);
        match trace::step(Step::Groups, groups, |error| error.reason()).await {
            Ok(groups) => Ok(identity.in_groups(groups)),
            Err(error) => Err(Refusal {
                subject: Some(identity.subject().as_str().into()),
                ..Refusal::new(error.reason(), error.to_string())
            }),
        }
    }

    async fn mint(
        &self,
        identity: Identity,
        accepted: &Accepted,
        (audience, scope): (&str, Option<&Scopes>),
        client: &Client<'_>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<Issued, Refusal> {
        let subject = identity.subject().clone();
        let grant = self.policy.grant(identity, audience, scope);
        let grant = grant.and_then(|grant| grant.for_client_with(client.certificate));
        let grant = grant.map_err(|denial| Refusal {
            subject: Some(subject.as_str().into()),
            ..Refusal::new(denial.reason(), denial.to_string())
        })?;
        let unrevoked = self.revocations.admit(&grant, now).map_err(|error| Refusal {
            subject: Some(subject.as_str().into()),
            ..Refusal::from(error)
        })?;
        let minter = Minter::new(&self.issuer, self.keyring.signing());
        trace::given(audience);
        let signed = minter.issue(unrevoked, client.name, deadline);
        let token = trace::step(Step::Sign, signed, |error| error.reason()).await;
        let token = token.map_err(|error| Refusal {
            subject: Some(subject.as_str().into()),
            ..Refusal::new(error.reason(), error.to_string())
        })?;
        Ok(Issued {
            grant,
            token,
            negotiate: accepted.reply().map(encoded),
            traded: None,
        })
    }
}

impl Issued {
    /// The refusal that takes its place where its event cannot be written.
    pub(super) fn withheld(&self, error: NotWritten) -> Refusal {
        let identity = self.grant.identity();
        Refusal {
            principal: Some(identity.principal().as_str().into()),
            subject: Some(identity.subject().as_str().into()),
            token_id: Some(self.token.id().into()),
            withheld: true,
            ..error.into()
        }
    }

    pub(super) fn into_reply(self) -> ExchangeReply {
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

/// The client that gets a token.
struct Client<'a> {
    name: &'a str,
    certificate: Option<CertificateDigest>,
}

/// The certificate of the client that is to use the token: on `mesh` that of Envoy's client, elsewhere that of ours.
pub(super) fn certificate(caller: &Caller, hints: &Hints) -> Option<CertificateDigest> {
    match caller.listener {
        ListenerName::Mesh => hints.certificate,
        ListenerName::Public | ListenerName::Observe | ListenerName::Admin => caller.proof.certificate(),
    }
}

/// The channel that the client's ticket came over: on `mesh` Envoy's with the client, elsewhere our own.
fn channel(caller: &Caller, hints: &Hints, at: UnixTime) -> Channel {
    let server_name = match caller.listener {
        ListenerName::Mesh => &hints.server_name,
        ListenerName::Public | ListenerName::Observe | ListenerName::Admin => &caller.peer.server_name,
    };
    Channel {
        listener: caller.listener,
        server_name: server_name.clone(),
        at,
    }
}
