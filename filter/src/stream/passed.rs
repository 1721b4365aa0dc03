//! Carries out what becomes of a request that passed: the tickets that it is delivered with, its response, its end.

use std::rc::Rc;

use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::response::SET_COOKIE;
use kerbridge_gate::upstream::TicketStep;
use kerbridge_gate::{Reason, UnixTime};
use kerbridge_wire::Spn;
use proxy_wasm::types::MapType;

use super::Request;
use crate::answer::{complain, respond};
use crate::host;

impl Request {
    /// The Kerberos service to which it is to be delivered.
    pub(crate) fn spn(&self) -> Option<Spn> {
        self.admitted.borrow().as_ref()?.spn().cloned()
    }

    /// Begins an attempt to deliver it to this service.
    pub(crate) fn attempt(&self, now: UnixTime, spn: &Spn) -> Option<TicketStep> {
        let gate = self.shared.gate.borrow();
        Some(self.admitted.borrow().as_ref()?.attempt(now, gate.snapshot(), spn))
    }

    /// Edits the head of its response. What is to be answered in its place, if anything is.
    pub(super) fn edit_response(&self) -> Result<Option<LocalReply>, host::HostError> {
        let mut admitted = self.admitted.borrow_mut();
        let Some(admitted) = admitted.as_mut() else {
            return Ok(None);
        };
        let sets_cookies = || host::header(MapType::HttpResponseHeaders, SET_COOKIE).map(|line| line.is_some());
        let is_looked_at = admitted.looks_at_the_response() || (admitted.guards_cookies() && sets_cookies()?);
        if !is_looked_at {
            return Ok(None);
        }
        let now = host::now().ok_or(host::HostError)?;
        let head = host::header_map(MapType::HttpResponseHeaders)?;
        if admitted.spn().is_some() {
            let details = host::attribute(&["response", "code_details"])?;
            match admitted.keep_back(&head, details.as_deref()) {
                Ok(edits) => host::edit(MapType::HttpResponseHeaders, &edits)?,
                Err(reply) => return Ok(Some(reply)),
            }
        }
        host::edit(MapType::HttpResponseHeaders, &admitted.respond(now, &head))?;
        Ok(None)
    }

    pub(super) fn edit_response_trailers(&self) -> Result<(), host::HostError> {
        let trailers = host::header_map(MapType::HttpResponseTrailers)?;
        let admitted = self.admitted.borrow();
        let edits = admitted.as_ref().map(|admitted| admitted.keep_back_trailers(&trailers));
        host::edit(MapType::HttpResponseTrailers, &edits.unwrap_or_default())
    }

    pub(super) fn replace_response(&self, reply: &LocalReply) {
        self.shared.forget(self.id);
        // The callbacks of the response's body do nothing; nothing else may end it again.
        let _was_open = self.callbacks.borrow_mut().end();
        complain(&reply.decision);
        self.shared.metrics.count_ticket(&reply.decision);
        respond(reply);
    }

    /// Why it must not go on any longer, though it had passed.
    pub(crate) fn over(&self, now: UnixTime) -> Option<Reason> {
        let admitted = self.admitted.borrow();
        let admitted = admitted.as_ref()?;
        if admitted.ends_at().is_some_and(|ends| ends <= now) {
            return Some(Reason::Expired);
        }
        admitted.is_still_good(self.shared.gate.borrow().snapshot(), now).err()
    }

    /// Ends it. The host acts for it already.
    pub(crate) fn end(&self, reason: Reason) {
        self.shared.forget(self.id);
        if !self.callbacks.borrow_mut().end() {
            return;
        }
        let admitted = self.admitted.borrow();
        let Some(admitted) = admitted.as_ref() else { return };
        let decision = admitted.decision();
        log::info!(
            "open request ended reason={reason} route={} issuer={}",
            decision.route_name(),
            decision.issuer_name()
        );
        self.shared.metrics.count_end(reason, decision.issuer.as_ref());
        // Where the response has begun, Envoy resets the stream and keeps the details for its log.
        let snapshot = Rc::clone(self.shared.gate.borrow().snapshot());
        respond(&admitted.ended(reason, snapshot.config().map(|config| &**config)));
    }
}
