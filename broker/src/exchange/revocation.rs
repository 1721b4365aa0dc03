//! Decides what comes of a request to take one token back (RFC 7009): who may, and what there is to take back.
//!
//! A token is taken back by the client to which it was issued, by who shows a token of the same subject, this one too, as
//! Bearer, and by who shows one with the scope [`ADMIN_SCOPE`], for which the policy has an audience that no route sends to a
//! service. So who was sent a token can end it, and nothing but it, by showing it: what a bearer can use, a bearer can end. A
//! token that is none of ours, or none any more, is answered as one that was taken back (RFC 7009 §2.2): whoever asks has what it
//! wanted.

use kerbridge_wire::Reason;
use kerbridge_wire::exchange::{ADMIN_SCOPE, OauthError};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::asked::Asked;
use super::request::RevocationRequest;
use super::{Caller, Exchange, Hints, Refusal, source, too_often};
use crate::revocation::{Order, Right};
use crate::store::{Kind, Target};
use crate::subject_token::VerifiedToken;
use crate::time::{Clock, UnixTime};

/// What stands in the `Authorization` header.
#[derive(Clone, Copy)]
pub enum Shown<'h> {
    /// There is none.
    Nothing,
    /// A Bearer token (RFC 6750 §2.1).
    Bearer(&'h str),
    /// Something else, or more than one.
    Other,
}

/// What was taken back, or why there was nothing.
enum Outcome {
    Revoked,
    Nothing(Reason),
}

impl Exchange {
    /// Takes the token of one request body back, or one that nobody need take back. Every answer is one event, and is counted.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn revoke(&self, body: &[u8], shown: Shown<'_>, caller: &Caller, clock: Clock) -> Result<(), Refusal> {
        let (began, now) = (Instant::now(), clock.now());
        let (hints, claim, request) = RevocationRequest::read(body, caller.listener);
        let known = self.client(claim, caller, now, began).await;
        let known = known.map_err(|refusal| self.refuse_revocation(refusal, caller, &hints))?;
        let caller = known.as_ref().unwrap_or(caller);
        let outcome = match (request, &self.to_token, &self.trade) {
            // Anybody may ask, and each token costs a signature to verify.
            _ if source(caller, &hints).is_some_and(|source| self.failures.is_exceeded(source, began)) => {
                Err(too_often())
            }
            (Ok(RevocationRequest { token }), Some(direction), Some(trade)) => {
                let asked = Asked::new(direction, trade, caller, &hints, clock, began);
                asked.decide(token, shown, now).await
            }
            // Who makes no tokens knows none.
            (Ok(_), _, _) => Ok(Outcome::Nothing(Reason::UnknownIssuer)),
            (Err(error), _, _) => Err(error.into()),
        };
        match outcome {
            // The event is that of the revocation.
            Ok(Outcome::Revoked) => {}
            Ok(Outcome::Nothing(why)) => self.note_nothing(why, caller, &hints),
            Err(refusal) => return Err(self.refuse_revocation(refusal, caller, &hints)),
        }
        self.metrics.revocations().answered(Reason::Ok);
        Ok(())
    }

    /// Counts and logs a refusal, one of before there was a body to look at too.
    pub fn refuse_revocation(&self, refusal: Refusal, caller: &Caller, hints: &Hints) -> Refusal {
        self.metrics.revocations().answered(refusal.reason);
        self.note_refusal(&refusal, caller, hints);
        refusal
    }
}

impl Asked<'_> {
    async fn decide(&self, token: Zeroizing<String>, shown: Shown<'_>, now: UnixTime) -> Result<Outcome, Refusal> {
        let is_same = matches!(shown, Shown::Bearer(own) if *own == **token);
        let found = self.stands(token, now).await?;
        // First who asks (RFC 7009 §2.1). Whoever shows the token itself may do so again: the first answer may be lost.
        let user = match (shown, &found) {
            (Shown::Nothing, _) => None,
            (Shown::Bearer(_), Err(reason)) if is_same => return Ok(Outcome::Nothing(*reason)),
            (Shown::Bearer(own), found) => {
                let own = match found {
                    // It was verified a moment ago.
                    Ok(token) if is_same => Ok(token.clone()),
                    Ok(_) | Err(_) => self.stands(Zeroizing::new(own.to_owned()), now).await?,
                };
                let own = own.map_err(|reason| unauthenticated(reason.as_str()))?;
                if !own.confirmation().is_held_with(self.certificate) {
                    return Err(unauthenticated(Reason::CertificateMismatch.as_str()));
                }
                Some(own)
            }
            (Shown::Other, _) => return Err(unauthenticated("Authorization is no Bearer token")),
        };
        let token = match found {
            Ok(token) => token,
            Err(reason) => return Ok(Outcome::Nothing(reason)),
        };
        let Some(token_id) = token.token_id() else {
            return Ok(Outcome::Nothing(Reason::MissingClaim));
        };
        let right = match &user {
            _ if token.client() == Some(&*self.caller.client) => Right::Client,
            Some(user) if user.subject() == token.subject() => Right::User,
            Some(user) if user.scopes().iter().any(|scope| **scope == *ADMIN_SCOPE) => Right::Administrator,
            Some(_) | None => return Err(another_s(&token)),
        };
        let target = Target::new(Kind::Token, token_id).map_err(|_| Refusal::new(Reason::Internal, "an odd jti"))?;
        let order = Order::token(target, Some(token.expires()));
        let subject = user.as_ref().map(VerifiedToken::subject);
        self.revoke(right, vec![(order, subject)]).await?;
        Ok(Outcome::Revoked)
    }
}

fn unauthenticated(detail: &str) -> Refusal {
    Refusal {
        advice: Some("show a token of this issuer that stands, as Bearer"),
        ..Refusal::new(Reason::ClientUnauthenticated, detail)
    }
}

fn another_s(token: &VerifiedToken) -> Refusal {
    Refusal {
        error: Some(OauthError::UnauthorizedClient),
        advice: Some("show, as Bearer, the token itself, or another one of its user"),
        subject: Some(token.subject().into()),
        token_id: token.token_id().map(Into::into),
        ..Refusal::new(
            Reason::DeniedByPolicy,
            "the token is another client's and another user's",
        )
    }
}
