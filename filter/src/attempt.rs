//! Carries out the steps of one attempt to deliver a request to a Kerberos service, as the filter of the service's cluster.

use std::rc::Rc;

use kerbridge_gate::callbacks::{Callbacks, Flow, Outcome};
use kerbridge_gate::exchange::{BrokerReply, Connection};
use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::upstream::{PendingTicket, TicketStep, refuse_unknown};
use kerbridge_gate::{RequestHead, UnixTime};
use kerbridge_wire::Spn;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::answer::{complain, fail, respond, with_reply};
use crate::handover::{self, Lost};
use crate::host::{self, HostError};
use crate::metrics::Metrics;

/// One attempt, as the host calls it back.
pub(crate) struct Attempt {
    /// The service that its cluster is.
    spn: Rc<Spn>,
    metrics: Rc<Metrics>,
    callbacks: Callbacks<PendingTicket, (), ()>,
}

impl Attempt {
    pub(crate) fn new(spn: Rc<Spn>, metrics: Rc<Metrics>) -> Self {
        Self {
            spn,
            metrics,
            callbacks: Callbacks::default(),
        }
    }

    fn begin(&self, now: UnixTime) -> Result<TicketStep, HostError> {
        let is_lost = match handover::find() {
            Ok(Some(request)) => {
                if let Some(other) = request.spn().filter(|other| *other != *self.spn) {
                    log::error!(
                        "the policy leads to {other}, Envoy's routes lead to a cluster that is {}",
                        self.spn
                    );
                }
                return request.attempt(now, &self.spn).ok_or(HostError);
            }
            Ok(None) => {
                log::warn!(
                    "no route with `upstream` in the policy let through what came to {}",
                    self.spn
                );
                false
            }
            // So it is too where the module was loaded anew in between.
            Err(Lost) => {
                log::error!("vm_id and code must be those of the listener's filter at {}", self.spn);
                true
            }
        };
        let headers = host::header_map(MapType::HttpRequestHeaders)?;
        let head = RequestHead {
            headers: &headers,
            secure: false,
            source: None,
            certificate: None,
        };
        Ok(TicketStep::Respond(refuse_unknown(&head, is_lost)))
    }

    /// Carries a step out until the attempt goes on, is answered or waits. The one exit of every decision.
    fn perform(&mut self, mut step: TicketStep) -> Action {
        let outcome = loop {
            step = match step {
                TicketStep::Continue(edit, decision) => {
                    if host::edit(MapType::HttpRequestHeaders, &[edit]).is_err() {
                        return self.fail();
                    }
                    self.metrics.count_ticket(&decision);
                    break Outcome::Pass(());
                }
                TicketStep::Respond(reply) => {
                    self.answer(&reply);
                    break Outcome::Answered;
                }
                TicketStep::Call(call, pending) => {
                    let source = host::property(&["source", "address"]);
                    let client = Connection {
                        source: &source,
                        ..Connection::default()
                    };
                    match host::ask_broker(&call, &client) {
                        Ok(callout) => break Outcome::Called(callout, pending),
                        Err(HostError) => pending.resume(BrokerReply::Nothing),
                    }
                }
            };
        };
        match self.callbacks.decided(outcome) {
            Flow::Continue => Action::Continue,
            Flow::Pause => Action::Pause,
            Flow::Resume => {
                if host::resume_request().is_err() {
                    log::error!("the host does not resume an attempt that has its ticket");
                }
                Action::Continue
            }
        }
    }

    fn answer(&self, reply: &LocalReply) {
        complain(&reply.decision);
        self.metrics.count_ticket(&reply.decision);
        respond(reply);
    }

    /// Answers for a host that does not do what it is asked.
    fn fail(&mut self) -> Action {
        fail(self.callbacks.fail());
        Action::Pause
    }
}

impl Context for Attempt {
    fn on_http_call_response(&mut self, callout: u32, headers: usize, _body: usize, _trailers: usize) {
        if let Some(pending) = self.callbacks.replied(callout) {
            let step = with_reply(headers, |reply| pending.resume(reply));
            self.perform(step);
        }
    }
}

impl HttpContext for Attempt {
    fn on_http_request_headers(&mut self, _headers: usize, _end: bool) -> Action {
        if !self.callbacks.head() {
            return Action::Pause;
        }
        match host::now().ok_or(HostError).and_then(|now| self.begin(now)) {
            Ok(step) => self.perform(step),
            Err(HostError) => self.fail(),
        }
    }

    fn on_http_request_body(&mut self, _size: usize, _end: bool) -> Action {
        later(&self.callbacks)
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        later(&self.callbacks)
    }
}

/// Body and trailers go where their head went.
fn later(callbacks: &Callbacks<PendingTicket, (), ()>) -> Action {
    match callbacks.later() {
        Flow::Continue => Action::Continue,
        Flow::Pause | Flow::Resume => Action::Pause,
    }
}
