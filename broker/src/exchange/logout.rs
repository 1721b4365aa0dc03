//! Decides which sessions a logout ends: those of the tokens that the browser had, up to now, at every proxy.
//!
//! A session is a service ticket, and has tokens of several audiences; its other tokens end with those that are shown. The ticket
//! stays good for a later login. Whoever has a token of a session can end it: of what a token is good for that is the least.

use std::net::IpAddr;

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_wire::Reason;
use kerbridge_wire::exchange::LogoutReply;
use tokio::time::Instant;

use super::event::{self, About};
use super::request::LogoutRequest;
use super::revocation::{revoke, stands};
use super::to_token::{TicketToToken, certificate};
use super::{Caller, Exchange, Hints, Refusal, TokenToToken, source, too_often};
use crate::revocation::{By, Order, Right};
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
        let source = source(caller, &hints);
        let outcome = match (request, &self.to_token, &self.trade) {
            // Each token costs a signature to verify.
            _ if source.is_some_and(|source| self.failures.is_exceeded(source, began)) => Err(too_often()),
            (Ok(request), Some(direction), Some(trade)) => {
                let asked = Asked {
                    direction,
                    trade,
                    caller,
                    certificate: certificate(caller, &hints),
                    source,
                    clock,
                    deadline: began.checked_add(direction.deadline).unwrap_or(began),
                };
                asked.end(request).await
            }
            // Who makes no tokens knows no session.
            (Ok(_), _, _) => Ok((0, Vec::new())),
            (Err(error), _, _) => Err(error.into()),
        };
        let (sessions, nothing) = outcome.map_err(|refusal| self.refuse_logout(refusal, caller, &hints))?;
        for why in nothing {
            event::nothing_to_revoke(why, caller, &hints);
            // What was good once may be shown late.
            if !matches!(why, Reason::Expired | Reason::Revoked) {
                self.note_failure(why, caller.listener, source, began);
            }
        }
        event::logged_out(sessions, caller, &hints);
        self.metrics.revocations().logged_out(Reason::Ok);
        Ok(LogoutReply { sessions })
    }

    /// Counts and logs a refusal, one of before there was a body to look at too.
    pub fn refuse_logout(&self, refusal: Refusal, caller: &Caller, hints: &Hints) -> Refusal {
        self.metrics.revocations().logged_out(refusal.reason);
        let about = About {
            caller,
            hints,
            audience: None,
        };
        event::refused(&refusal, &about);
        self.note_failure(refusal.reason, caller.listener, source(caller, hints), Instant::now());
        refusal
    }
}

struct Asked<'a> {
    direction: &'a TicketToToken,
    trade: &'a TokenToToken,
    caller: &'a Caller,
    certificate: Option<CertificateDigest>,
    source: Option<IpAddr>,
    clock: Clock,
    deadline: Instant,
}

impl Asked<'_> {
    /// Ends what is shown: how many sessions that were, and why there was nothing to end of other tokens.
    async fn end(&self, request: LogoutRequest) -> Result<(u32, Vec<Reason>), Refusal> {
        let now = self.clock.now();
        let mut named = Named::default();
        for token in request.tokens {
            match stands(self.direction, self.trade, token, now, self.deadline).await? {
                Ok(token) if !token.confirmation().is_held_with(self.certificate) => {
                    named.nothing.push(Reason::CertificateMismatch);
                }
                Ok(token) => named.add(&token, now),
                Err(why) => named.nothing.push(why),
            }
        }
        let mut ended: u32 = 0;
        for session in named.sessions {
            let by = By::Client {
                right: Right::Logout,
                listener: self.caller.listener.as_str(),
                client: &self.caller.client,
                subject: Some(&session.subject),
                source: self.source,
            };
            let order = match session.target.kind() {
                Kind::Token => Order::token(session.target, Some(session.expires)),
                Kind::Session | Kind::Subject => Order::up_to(session.target, session.issued),
            };
            revoke(&self.direction.revocations, order, &by, self.clock, self.deadline).await?;
            ended = ended.saturating_add(1);
        }
        Ok((ended, named.nothing))
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
