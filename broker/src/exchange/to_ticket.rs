//! Trades a token for a ticket in its subject's name: verifies it, finds out who it is about, asks the policy, and only then
//! the KDC.

use std::sync::Arc;

use kerbridge_gss::{DelegationTarget, Principal, ServicePrincipal};
use kerbridge_wire::Reason;
use kerbridge_wire::exchange::{ExchangeReply, NEGOTIATE_TOKEN_TYPE};
use tokio::time::Instant;

use super::request::ToTicket;
use super::trade::check_holder;
use super::{Caller, Hints, Refusal};
use crate::audit::NotWritten;
use crate::config::ListenerName;
use crate::delegation::kdc::NoTicket;
use crate::delegation::{Delegation, ServiceTicket};
use crate::policy::{DelegationDenial, DelegationGrant, NotTraced, Policy, Sought};
use crate::principal::mapping::{NameRules, Subject};
use crate::revocation::{RevocationError, Revocations, TokenNames};
use crate::subject_token::VerifiedToken;
use crate::time::{Clock, UnixTime};
use crate::trace::{self, Step};

/// All that it takes to make tickets of tokens.
#[derive(Debug)]
pub struct TokenToTicket {
    /// Towards whom, for whom, on whose asking.
    pub policy: Policy,
    /// Realms whose principals are taken.
    pub realms: Vec<String>,
    /// What tokens call them, and so what is revoked of them.
    pub names: NameRules,
    /// What takes tokens of this broker back, where it makes some; elsewhere the feed of the broker that does is followed.
    pub revocations: Option<Arc<Revocations>>,
    /// What verifies and asks.
    pub delegation: Delegation,
}

/// A ticket that was made, and what for.
pub(super) struct Delegated {
    pub(super) grant: DelegationGrant,
    pub(super) token: VerifiedToken,
    pub(super) ticket: ServiceTicket,
    /// Seconds for which it is of use.
    pub(super) life: u64,
}

impl TokenToTicket {
    /// Trades one token, or says why not.
    pub(super) async fn exchange(
        &self,
        request: ToTicket,
        caller: &Caller,
        hints: &Hints,
        clock: Clock,
        began: Instant,
    ) -> Result<Delegated, Refusal> {
        let ToTicket { subject_token, target } = request;
        let now = clock.now();
        // Nobody else has shown who they are.
        if caller.listener != ListenerName::Mesh {
            return Err(Refusal::new(
                Reason::ClientUnauthenticated,
                "tickets are for the mesh only",
            ));
        }
        let deadline = began.checked_add(self.delegation.deadline()).unwrap_or(began);
        // Before the token: a target of nobody's costs no signature check.
        let towards = self
            .policy
            .towards(&target)
            .map_err(|denial| self.no_target(&target, denial))?;
        let verify = self.delegation.verify(subject_token, now, deadline);
        let token = trace::step(Step::Verify, verify, |none| none.reason).await?;
        let shown = |refusal: Refusal| Refusal {
            subject: Some(token.subject().into()),
            token_id: token.token_id().map(Into::into),
            ..refusal
        };
        // On the mesh it is Envoy's client who holds it, and Envoy that has seen the certificate.
        check_holder(&token, hints.certificate).map_err(shown)?;
        self.check_token(&token, now, deadline).await.map_err(shown)?;
        let candidates = towards
            .shown(&token, &caller.client)
            .map_err(|denial| shown(denial.into()))?;
        let user = self.user(&token, now, deadline).await.map_err(shown)?;
        // The KDC may have been asked who it is.
        let now = clock.now();
        let known = |refusal: Refusal| Refusal {
            principal: Some(user.as_str().into()),
            ..shown(refusal)
        };
        let grant = candidates.grant(&user).map_err(|denial| known(denial.into()))?;
        self.check_user(&token, &user, now, deadline).await.map_err(known)?;
        trace::given(grant.audience());
        let ticket = self.delegation.ticket(&grant, token.expires(), now, deadline);
        let ticket = trace::step(Step::Ticket, ticket, |none| none.reason).await;
        let ticket = ticket.map_err(|none| known(none.into()))?;
        // The KDC may have taken its time: somebody may have been taken out meanwhile, by another broker too, and what was good
        // may have ended.
        if let Some(revocations) = &self.revocations {
            revocations
                .catch_up(deadline)
                .await
                .map_err(|error| known(error.into()))?;
        }
        let now = clock.now();
        self.check_token(&token, now, deadline).await.map_err(known)?;
        self.check_user(&token, &user, now, deadline).await.map_err(known)?;
        let life = ticket.life(now);
        if life == 0 {
            let ended = Refusal::new(
                Reason::Expired,
                "the token or its ticket has ended while the KDC was asked",
            );
            return Err(known(ended));
        }
        Ok(Delegated {
            grant,
            token,
            ticket,
            life,
        })
    }

    /// Why no line names what was asked for: whoever asks on the mesh wrote it, and is told what it is.
    fn no_target(&self, target: &str, denial: DelegationDenial) -> Refusal {
        let advice = match ServicePrincipal::parse(target) {
            Err(_) => "audience is no service principal: write it whole, such as HTTP/legacy.example.com@EXAMPLE.COM",
            Ok(service) if self.delegation.own_name_of(service.as_principal()).is_some() => {
                "audience is this broker itself: name the service behind Envoy"
            }
            Ok(service) if self.delegation.refused_name_of(service.as_principal()).is_some() => {
                "audience stands in delegation.refused_targets: name the service behind Envoy"
            }
            Ok(service) if DelegationTarget::new(service.clone()).is_err() => {
                "audience is a service of the KDC's own, to which nobody gets a ticket: name the service behind Envoy"
            }
            Ok(_) => {
                "no [[delegation]] line of the policy has this target: add one, or correct the name, letter by letter"
            }
        };
        Refusal {
            advice: Some(advice),
            ..Refusal::new(denial.reason(), advice)
        }
    }

    /// Whether a token was revoked: ours, by the store where there is one; anybody's, by the feed where it is followed.
    async fn check_token(&self, token: &VerifiedToken, now: UnixTime, deadline: Instant) -> Result<(), Refusal> {
        if let (Some(revocations), Some(names)) = (&self.revocations, token.names()) {
            revocations.check(&names, now).map_err(Refusal::from)?;
        }
        Ok(self.delegation.check_feed(token, now, deadline).await?)
    }

    /// Whether who is to be acted for was revoked: whoever was taken out has no tickets made in their name, whoever wrote the
    /// token. A process without the store knows it by the feed of the broker that has it.
    async fn check_user(
        &self,
        token: &VerifiedToken,
        user: &Principal,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        // Ours was judged by its own names.
        if token.names().is_some() {
            return Ok(());
        }
        // Nobody has been given a token under another name than this.
        let subject = self.names.subject_of(user);
        let names = TokenNames {
            token: None,
            session: None,
            subject: subject.as_ref().map_or(user.as_str(), Subject::as_str),
            issued: token.issued(),
        };
        match &self.revocations {
            Some(revocations) => Ok(revocations.check(&names, now)?),
            None => Ok(self.delegation.check_names(&names, now, deadline).await?),
        }
    }

    /// Who a token is about: a principal of an accepted realm.
    async fn user(&self, token: &VerifiedToken, now: UnixTime, deadline: Instant) -> Result<Principal, Refusal> {
        let user = match self.policy.subjects().sought(token)? {
            Sought::Principal(principal) => principal,
            Sought::ByKdc(name) => {
                let resolve = self.delegation.resolve(&name, now, deadline);
                trace::step(Step::Resolve, resolve, |none| none.reason).await?
            }
        };
        if self.realms.iter().any(|realm| realm == user.realm()) {
            Ok(user)
        } else {
            Err(Refusal::new(
                Reason::RealmNotAllowed,
                format!("{user} is of a realm that is not on the list"),
            ))
        }
    }
}

impl Delegated {
    /// The refusal that takes its place where its event cannot be written.
    pub(super) fn withheld(&self, error: NotWritten) -> Refusal {
        Refusal {
            principal: Some(self.grant.user().as_str().into()),
            subject: Some(self.token.subject().into()),
            token_id: self.token.token_id().map(Into::into),
            withheld: true,
            ..error.into()
        }
    }

    pub(super) fn into_reply(self) -> ExchangeReply {
        ExchangeReply {
            issued_token_type: NEGOTIATE_TOKEN_TYPE.to_owned(),
            token_type: "N_A".to_owned(),
            expires_in: self.life,
            scope: String::new(),
            negotiate: None,
            access_token: std::mem::take(&mut *self.ticket.into_token()),
        }
    }
}

impl From<RevocationError> for Refusal {
    fn from(error: RevocationError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<NoTicket> for Refusal {
    fn from(none: NoTicket) -> Self {
        Self::new(none.reason, none.detail)
    }
}

impl From<DelegationDenial> for Refusal {
    fn from(denial: DelegationDenial) -> Self {
        Self::new(denial.reason(), denial.to_string())
    }
}

impl From<NotTraced> for Refusal {
    fn from(not_traced: NotTraced) -> Self {
        Self::new(not_traced.reason(), not_traced.to_string())
    }
}

#[cfg(test)]
mod tests;
