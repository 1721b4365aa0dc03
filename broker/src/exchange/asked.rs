//! What taking one token back and a logout have in common: who asks, whether a token of ours stands, and how it is revoked.

use std::net::IpAddr;

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_wire::{Fault, Reason};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::to_token::{TicketToToken, certificate};
use super::{Caller, Exchange, Hints, Refusal, TokenToToken, event, source};
use crate::revocation::{By, Order, RevocationError, Right};
use crate::store::StoreError;
use crate::subject_token::{NotVerified, VerifiedToken};
use crate::time::{Clock, UnixTime};

impl Exchange {
    /// Logs why a token leaves nothing to revoke. One that was good once may be shown late, and twice, and is held against nobody.
    pub(super) fn note_nothing(&self, why: Reason, caller: &Caller, hints: &Hints) {
        event::nothing_to_revoke(why, caller, hints);
        if !matches!(why, Reason::Expired | Reason::Revoked) {
            self.note_failure(why, caller.listener, source(caller, hints), Instant::now());
        }
    }
}

/// One request about tokens of ours.
pub(super) struct Asked<'a> {
    direction: &'a TicketToToken,
    trade: &'a TokenToToken,
    pub(super) caller: &'a Caller,
    /// That of the client, where it has shown one.
    pub(super) certificate: Option<CertificateDigest>,
    source: Option<IpAddr>,
    clock: Clock,
    deadline: Instant,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        direction: &'a TicketToToken,
        trade: &'a TokenToToken,
        caller: &'a Caller,
        hints: &Hints,
        clock: Clock,
        began: Instant,
    ) -> Self {
        Self {
            direction,
            trade,
            caller,
            certificate: certificate(caller, hints),
            source: source(caller, hints),
            clock,
            deadline: began.checked_add(direction.deadline).unwrap_or(began),
        }
    }

    /// A token of ours that stands, or why it is none; whether it is may not be known.
    pub(super) async fn stands(
        &self,
        token: Zeroizing<String>,
        now: UnixTime,
    ) -> Result<Result<VerifiedToken, Reason>, Refusal> {
        let unknown = |reason| Err(Refusal::new(reason, "the token cannot be judged now"));
        let token = match self.trade.verifiers.verify(token, now, self.deadline).await {
            Ok(token) => token,
            // It will be good once the clocks agree.
            Err(NotVerified {
                reason: Reason::NotYetValid,
            }) => return unknown(Reason::Internal),
            Err(NotVerified { reason }) if reason.fault() == Fault::Us => return unknown(reason),
            Err(NotVerified { reason }) => return Ok(Err(reason)),
        };
        // Another issuer's is not ours to revoke.
        let Some(names) = token.names() else {
            return Ok(Err(Reason::UnknownIssuer));
        };
        match self.direction.revocations.check(&names, now) {
            Ok(()) => Ok(Ok(token)),
            Err(RevocationError::Revoked(_)) => Ok(Err(Reason::Revoked)),
            Err(error @ RevocationError::Unknown) => Err(Refusal::new(error.reason(), error.to_string())),
        }
    }

    /// Revokes all of it in one commit, each order in the name of a subject, or says by the deadline that it cannot be said. What came
    /// to the store before may be done there all the same: whoever asks again hears that it is.
    pub(super) async fn revoke(&self, right: Right, orders: Vec<(Order, Option<&str>)>) -> Result<(), Refusal> {
        let by = |subject| By::Client {
            right,
            listener: self.caller.listener.as_str(),
            client: &self.caller.client,
            subject,
            source: self.source,
        };
        let orders = orders.into_iter().map(|(order, subject)| (order, by(subject)));
        let revoked = self.direction.revocations.revoke_all(orders.collect(), self.clock);
        let outcome = tokio::time::timeout_at(self.deadline, revoked).await;
        match outcome.unwrap_or(Err(StoreError::Late)) {
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal::new(Reason::StoreUnavailable, error.to_string())),
        }
    }
}
