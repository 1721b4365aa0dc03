//! Decides which sessions a logout ends: those of the tokens that the browser had, up to now, at every proxy.
//!
//! A session is a service ticket, and has tokens of several audiences; its other tokens end with those that are shown. The ticket
//! stays good for a later login. Whoever has a token of a session can end it: of what a token is good for that is the least.

use kerbridge_wire::Reason;
use kerbridge_wire::exchange::LogoutReply;
use tokio::time::Instant;

use super::asked::Asked;
use super::request::LogoutRequest;
use super::{Caller, Exchange, Hints, Refusal, event, source, too_often};
use crate::revocation::{Order, Right};
use crate::store::{Kind, Target};
use crate::subject_token::VerifiedToken;
use crate::time::{Clock, UnixTime};

/// What the tokens of one logout come to.
#[derive(Default)]
struct Named {
    sessions: Vec<Session>,
    /// Why a token names none.
    nothing: Vec<Reason>,
}

/// A session that is to end, or a token without one.
struct Session {
    target: Target,
    subject: Box<str>,
    /// The newest of its tokens that were shown.
    issued: UnixTime,
    expires: UnixTime,
}

impl Exchange {
    /// Ends the sessions of the tokens in one request body. Every answer is one event, and is counted.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn log_out(&self, body: &[u8], caller: &Caller, clock: Clock) -> Result<LogoutReply, Refusal> {
        let began = Instant::now();
        let (hints, request) = LogoutRequest::read(body, caller.listener);
        let outcome = match (request, &self.to_token, &self.trade) {
            // Each token costs a signature to verify.
            _ if source(caller, &hints).is_some_and(|source| self.failures.is_exceeded(source, began)) => {
                Err(too_often())
            }
            (Ok(request), Some(direction), Some(trade)) => {
                let asked = Asked::new(direction, trade, caller, &hints, clock, began);
                asked.end(request, clock.now()).await
            }
            // Who makes no tokens knows no session.
            (Ok(_), _, _) => Ok((0, Vec::new())),
            (Err(error), _, _) => Err(error.into()),
        };
        let (sessions, nothing) = outcome.map_err(|refusal| self.refuse_logout(refusal, caller, &hints))?;
        for why in nothing {
            self.note_nothing(why, caller, &hints);
        }
        event::logged_out(sessions, caller, &hints);
        self.metrics.revocations().logged_out(Reason::Ok);
        Ok(LogoutReply { sessions })
    }

    /// Counts and logs a refusal, one of before there was a body to look at too.
    pub fn refuse_logout(&self, refusal: Refusal, caller: &Caller, hints: &Hints) -> Refusal {
        self.metrics.revocations().logged_out(refusal.reason);
        self.note_refusal(&refusal, caller, hints);
        refusal
    }
}

impl Asked<'_> {
    /// Ends what is shown: how many sessions that were, and why there was nothing to end of other tokens.
    async fn end(&self, request: LogoutRequest, now: UnixTime) -> Result<(u32, Vec<Reason>), Refusal> {
        let mut named = Named::default();
        for token in request.tokens {
            match self.stands(token, now).await? {
                Ok(token) if !token.confirmation().is_held_with(self.certificate) => {
                    named.nothing.push(Reason::CertificateMismatch);
                }
                Ok(token) => named.add(&token, now),
                Err(why) => named.nothing.push(why),
            }
        }
        let orders: Vec<_> = named.sessions.iter().map(Session::order).collect();
        if orders.is_empty() {
            return Ok((0, named.nothing));
        }
        let ended = u32::try_from(orders.len()).unwrap_or(u32::MAX);
        self.revoke(Right::Logout, orders).await?;
        Ok((ended, named.nothing))
    }
}

impl Session {
    /// What ends it, and whose it is.
    fn order(&self) -> (Order, Option<&str>) {
        let target = self.target.clone();
        let order = match target.kind() {
            Kind::Token => Order::token(target, Some(self.expires)),
            Kind::Session | Kind::Subject => Order::up_to(target, self.issued),
        };
        (order, Some(&self.subject))
    }
}

impl Named {
    /// Notes the session of a token that stands. Tokens of a moment after a logout are issued a second ahead: they are meant, too.
    fn add(&mut self, token: &VerifiedToken, now: UnixTime) {
        let issued = token.issued().map_or(now, |issued| issued.max(now));
        let target = match (token.session(), token.token_id()) {
            (Some(session), _) => Target::known(Kind::Session, session),
            (None, Some(id)) => Target::known(Kind::Token, id),
            (None, None) => return self.nothing.push(Reason::MissingClaim),
        };
        let Ok(target) = target else {
            return self.nothing.push(Reason::MissingClaim);
        };
        match self.sessions.iter_mut().find(|known| known.target == target) {
            Some(known) => known.issued = known.issued.max(issued),
            None => self.sessions.push(Session {
                target,
                subject: token.subject().into(),
                issued,
                expires: token.expires(),
            }),
        }
    }
}
