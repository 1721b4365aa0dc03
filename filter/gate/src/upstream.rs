//! Gets each attempt at a Kerberos service a ticket in its caller's name: only behind verified claims that still stand, only
//! for the service that the route names, and only for the place that is that service.
//!
//! The gate lets a request pass once, and Envoy may try to deliver it more than once. A ticket is good for one attempt, so the
//! filter of the cluster comes back here for each.

use kerbridge_wire::{Reason, Spn};

use crate::exchange::{BrokerCall, BrokerReply, Wanted, read_ticket};
use crate::header_map::HeaderMap;
use crate::refusal::{Asked, LocalReply};
use crate::request::RequestHead;
use crate::response::{Admitted, removals};
use crate::secret::Secret;
use crate::snapshot::Snapshot;
use crate::step::{Decision, HeaderEdit, HeaderEdits};
use crate::time::UnixTime;

/// Envoy's response-code details of an answer that came from the service.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// Where a service's challenges stand.
const CHALLENGES: &[&str] = &["www-authenticate", "proxy-authenticate"];

/// What a ticket is got by: the verified token of a request that passed on a route to a Kerberos service, and what it takes to
/// answer in the service's place.
#[derive(Debug)]
pub(crate) struct Caller {
    asked: Asked,
    token: Secret,
    spn: Spn,
}

/// What happens to an attempt now. `Call` comes with the state that the answer must be brought to, which consumes it.
#[derive(Debug)]
pub enum TicketStep {
    /// It goes to the service, with this edit.
    Continue(HeaderEdit, Decision),
    /// It is answered here, and with it the request.
    Respond(LocalReply),
    /// The broker is to be asked; the attempt waits.
    Call(BrokerCall, PendingTicket),
}

/// An attempt that waits for its ticket. Consumed by the answer.
#[derive(Debug)]
pub struct PendingTicket(Asked);

/// The answer to an attempt of which the gate knows nothing: no ticket is to be had for it. `denied_by_policy` where it did
/// not pass as one for a Kerberos service, `internal` where what was known of it is lost.
pub fn refuse_unknown(head: &RequestHead<'_>, is_lost: bool) -> LocalReply {
    let reason = if is_lost {
        Reason::Internal
    } else {
        Reason::DeniedByPolicy
    };
    Asked::closed(head).reply(reason.into())
}

impl Caller {
    pub(crate) const fn new(asked: Asked, token: Secret, spn: Spn) -> Self {
        Self { asked, token, spn }
    }

    fn refuse(&self, reason: Reason) -> LocalReply {
        self.asked.clone().reply(reason.into())
    }
}

impl Admitted {
    /// The service to which its attempts bring tickets; `None` where they need none.
    pub fn spn(&self) -> Option<&Spn> {
        self.caller.as_deref().map(|caller| &caller.spn)
    }

    /// Begins an attempt at the service `spn`. What the token says is judged again, since time has passed since the gate let
    /// the request through: whoever has logged out gets no more tickets.
    pub fn attempt(&self, now: UnixTime, snapshot: &Snapshot, spn: &Spn) -> TicketStep {
        let (Some(caller), Some(verified)) = (&self.caller, self.verified()) else {
            return TicketStep::Respond(self.ended(Reason::Internal, None));
        };
        // Envoy's routes and the policy's are not of one mind: a ticket for one service is never brought to another.
        if caller.spn != *spn {
            return TicketStep::Respond(caller.refuse(Reason::Internal));
        }
        let stands = if verified.claims().ends() <= now {
            Err(Reason::Expired)
        } else {
            verified.still_stands(snapshot, now)
        };
        if let Err(reason) = stands {
            return TicketStep::Respond(caller.refuse(reason));
        }
        let Some(broker) = caller.asked.config.as_ref().and_then(|config| config.broker.as_ref()) else {
            return TicketStep::Respond(caller.refuse(Reason::Internal));
        };
        let wanted = Wanted::Ticket {
            token: caller.token.expose(),
            spn: &caller.spn,
        };
        let call = BrokerCall::new(broker, &caller.asked, &wanted);
        TicketStep::Call(call, PendingTicket(caller.asked.clone()))
    }

    /// What is done to the head of an answer on its way from a Kerberos service, before all else: its own challenges go, since
    /// they are for us. `details` are Envoy's response-code details: answers of Envoy's filters, ours among them, stay. Those of
    /// another module have none.
    ///
    /// # Errors
    /// The answer in place of one that refuses our ticket.
    pub fn keep_back(&self, head: &HeaderMap, details: Option<&[u8]>) -> Result<HeaderEdits, LocalReply> {
        let Some(caller) = self.caller.as_ref().filter(|_| details == Some(VIA_UPSTREAM)) else {
            return Ok(HeaderEdits::new());
        };
        if head.first(b":status") == Some(b"401") {
            return Err(caller.refuse(Reason::UpstreamRefusedTicket));
        }
        Ok(removals(CHALLENGES, head))
    }

    /// The same for the trailers of an answer: only a service sends any.
    pub fn keep_back_trailers(&self, trailers: &HeaderMap) -> HeaderEdits {
        match self.caller {
            Some(_) => removals(CHALLENGES, trailers),
            None => HeaderEdits::new(),
        }
    }
}

impl PendingTicket {
    /// Goes on with the broker's answer.
    pub fn resume(self, reply: BrokerReply<'_>) -> TicketStep {
        match read_ticket(reply) {
            Ok(ticket) => {
                let value = [b"Negotiate ".as_slice(), ticket.expose()].concat();
                let decision = self.0.decision(Reason::Ok, None);
                TicketStep::Continue(HeaderEdit::Set("authorization".into(), Secret::new(value)), decision)
            }
            Err(reason) => TicketStep::Respond(self.0.reply(reason.into())),
        }
    }
}
