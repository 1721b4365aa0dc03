//! Says what a token of ours says, to a service that it is for (RFC 7662): all that cannot be used is `{"active":false}` and
//! nothing more, whatever the reason.

use kerbridge_gate::certificate::Confirmation;
use kerbridge_wire::{Fault, Reason};
use serde::Serialize;
use tokio::time::Instant;

use super::request::IntrospectionRequest;
use super::to_token::TicketToToken;
use super::{Caller, Exchange, Hints, Refusal, event};
use crate::subject_token::{Actors, NotVerified, VerifiedToken};
use crate::time::UnixTime;

/// The answer (RFC 7662 §2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Introspected {
    active: bool,
    #[serde(flatten)]
    said: Option<Said>,
}

/// What a token says that is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Said {
    /// Absent where there are none (RFC 6749 §3.3).
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<Box<str>>,
    token_type: &'static str,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    sub: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<Box<str>>,
    iss: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Actors::is_empty")]
    act: Actors,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Bound>,
}

/// RFC 8705 §3.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Bound {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

impl Exchange {
    /// Answers one request body.
    pub async fn introspect(&self, body: &[u8], caller: &Caller, now: UnixTime) -> Result<Introspected, Refusal> {
        let began = Instant::now();
        let (claim, request) = IntrospectionRequest::read(body, caller.listener);
        let known = self.client(claim, caller, now, began).await;
        let known = known.map_err(|refusal| self.refuse_introspection(refusal, caller))?;
        let caller = known.as_ref().unwrap_or(caller);
        let outcome = match request {
            Ok(request) => self.look_at(request, caller, now, began).await,
            Err(error) => Err(error.into()),
        };
        outcome.map_err(|refusal| self.refuse_introspection(refusal, caller))
    }

    async fn look_at(
        &self,
        request: IntrospectionRequest,
        caller: &Caller,
        now: UnixTime,
        began: Instant,
    ) -> Result<Introspected, Refusal> {
        let client = caller.authenticated().ok_or_else(|| {
            let detail = "tokens are shown to clients that say who they are";
            Refusal::new(Reason::ClientUnauthenticated, detail)
        })?;
        let (Some(direction), Some(trade)) = (&self.to_token, &self.trade) else {
            // Who makes no tokens knows none.
            return Ok(Introspected::INACTIVE);
        };
        let deadline = began.checked_add(direction.deadline).unwrap_or(began);
        let verified = trade.verifiers.verify(request.token, now, deadline).await;
        let outcome = verified
            .map_err(|NotVerified { reason }| reason)
            .and_then(|token| usable(direction, token, client, now));
        let reason = outcome.as_ref().map_or_else(|reason| *reason, |_| Reason::Ok);
        if reason.fault() == Fault::Us {
            return Err(Refusal::new(reason, "the token could not be looked at"));
        }
        self.metrics.introspected(reason);
        event::introspected(outcome.as_ref().ok(), reason, caller);
        Ok(outcome.map_or(Introspected::INACTIVE, |token| Introspected::active(&token)))
    }

    /// Counts and logs a refusal, one of before there was a body to look at too.
    pub fn refuse_introspection(&self, refusal: Refusal, caller: &Caller) -> Refusal {
        self.metrics.introspected(refusal.reason);
        self.note_refusal(&refusal, caller, &Hints::default());
        refusal
    }
}

impl Introspected {
    const INACTIVE: Self = Self {
        active: false,
        said: None,
    };

    fn active(token: &VerifiedToken) -> Self {
        Self {
            active: true,
            said: Some(Said {
                scope: token.scopes().join(" "),
                client_id: token.client().map(Into::into),
                token_type: "Bearer",
                exp: token.expires().seconds(),
                iat: token.issued().map(UnixTime::seconds),
                sub: token.subject().into(),
                aud: token.audience().map(Into::into),
                iss: token.issuer().into(),
                jti: token.token_id().map(Into::into),
                sid: token.session().map(Into::into),
                auth_time: token.auth_time().map(UnixTime::seconds),
                groups: token.groups().to_vec(),
                act: token.actors().clone(),
                cnf: match token.confirmation() {
                    Confirmation::Certificate(digest) => Some(Bound {
                        certificate: digest.to_string(),
                    }),
                    Confirmation::Bearer | Confirmation::Unknown => None,
                },
            }),
        }
    }
}

/// The token, if it is ours, may still be used, and is for a service that may ask about it.
fn usable(
    direction: &TicketToToken,
    token: VerifiedToken,
    client: &str,
    now: UnixTime,
) -> Result<VerifiedToken, Reason> {
    let names = token.names().ok_or(Reason::UnknownIssuer)?;
    direction
        .revocations
        .check(&names, now)
        .map_err(|error| error.reason())?;
    if direction.policy.may_look_at(&token, client) {
        Ok(token)
    } else {
        Err(Reason::DeniedByPolicy)
    }
}
