//! Carries out the steps of one request: host events to the gate, steps to host calls, one exit.

use std::rc::Rc;
use std::time::Duration;

use kerbridge_gate::exchange::{BrokerCall, BrokerReply, PendingExchange, REPLY_LIMIT};
use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::response::Admitted;
use kerbridge_gate::step::HeaderEdits;
use kerbridge_gate::{Reason, RequestHead, Step, UnixTime};
use kerbridge_wire::Fault;
use kerbridge_wire::exchange::FORM;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::host;
use crate::root::Shared;

/// One request.
pub(crate) struct Stream {
    shared: Rc<Shared>,
    state: State,
}

/// Where the request stands. Nothing goes upstream but in `Admitted` and `Passed`.
enum State {
    /// Its head has not come.
    Fresh,
    /// The broker is asked; the callout's number.
    Waiting(u32, PendingExchange),
    /// It is on its way upstream.
    Admitted(Admitted),
    /// Its response is on its way down.
    Passed,
    /// It was answered here.
    Answered,
}

impl Stream {
    pub(crate) const fn new(shared: Rc<Shared>) -> Self {
        Self {
            shared,
            state: State::Fresh,
        }
    }

    fn admit(&self, now: UnixTime) -> Option<Step> {
        let headers = host::header_map(MapType::HttpRequestHeaders).ok()?;
        let secure = !host::property(&["connection", "tls_version"]).is_empty();
        Some(self.shared.gate.borrow().admit(
            now,
            &RequestHead {
                headers: &headers,
                secure,
            },
        ))
    }

    /// Carries a step out until the request passes, is answered or waits. The one exit of every decision.
    fn perform(&mut self, now: UnixTime, mut step: Step) -> Action {
        loop {
            step = match step {
                Step::Continue(edits, admitted) => return self.pass(&edits, admitted),
                Step::Respond(reply) => return self.answer(&reply),
                Step::Verify(input, pending) => pending.resume(now, input.verify()),
                Step::Call(call, pending) => match dispatch(&call) {
                    Ok(callout) => {
                        self.state = State::Waiting(callout, pending);
                        return Action::Pause;
                    }
                    Err(host::HostError) => pending.resume(now, BrokerReply::Nothing),
                },
            };
        }
    }

    fn pass(&mut self, edits: &HeaderEdits, admitted: Admitted) -> Action {
        // An edit that the host refuses could leave a header of the client's where ours should be.
        if host::edit(MapType::HttpRequestHeaders, edits).is_err() {
            return self.fail();
        }
        self.shared.metrics.count(admitted.decision().reason);
        self.state = State::Admitted(admitted);
        Action::Continue
    }

    fn answer(&mut self, reply: &LocalReply) -> Action {
        let reason = reply.decision.reason;
        if reason.fault() == Fault::Us {
            log::warn!(
                "request refused by our own fault reason={reason} route={}",
                reply.decision.route_name()
            );
        }
        self.shared.metrics.count(reason);
        self.state = State::Answered;
        let headers: Vec<(&str, &[u8])> = reply
            .headers
            .iter()
            .map(|(name, value)| (*name, value.expose()))
            .collect();
        if host::respond(reason, reply.status, &headers, &reply.body).is_err() {
            log::error!("the host refuses a local reply, the request stays held reason={reason}");
        }
        Action::Pause
    }

    /// Answers for a host that does not do what it is asked.
    fn fail(&mut self) -> Action {
        let reason = Reason::Internal;
        log::error!("the host refuses a call, the request is refused reason={reason}");
        self.shared.metrics.count(reason);
        self.state = State::Answered;
        let body = b"{\"error\":\"temporarily_unavailable\",\"request_id\":\"\"}\n";
        let headers: [(&str, &[u8]); 3] = [
            ("cache-control", b"no-store"),
            ("retry-after", b"5"),
            ("content-type", b"application/json"),
        ];
        if host::respond(reason, reason.status(), &headers, body).is_err() {
            log::error!("the host refuses a local reply, the request stays held reason={reason}");
        }
        Action::Pause
    }

    /// What a body or trailer may do: go on only where the head went on.
    const fn later(&self) -> Action {
        match self.state {
            State::Admitted(_) | State::Passed => Action::Continue,
            State::Fresh | State::Waiting(..) | State::Answered => Action::Pause,
        }
    }
}

fn dispatch(call: &BrokerCall) -> Result<u32, host::HostError> {
    let source = host::property(&["source", "address"]);
    let server_name = host::property(&["connection", "requested_server_name"]);
    let form = call.form(&source, &server_name);
    let timeout = Duration::from_millis(call.timeout);
    host::call(
        &call.cluster,
        "POST",
        &call.authority,
        call.path,
        Some((FORM, &form)),
        timeout,
    )
}

impl Context for Stream {
    fn on_http_call_response(&mut self, callout: u32, headers: usize, _body: usize, _trailers: usize) {
        let pending = match std::mem::replace(&mut self.state, State::Answered) {
            State::Waiting(waited, pending) if waited == callout => pending,
            other @ (State::Fresh | State::Waiting(..) | State::Admitted(_) | State::Passed | State::Answered) => {
                self.state = other;
                return;
            }
        };
        let Some(now) = host::now() else {
            self.fail();
            return;
        };
        // No headers: the call was reset, or the answer was over Envoy's limit; there is nothing to read then.
        let head = if headers == 0 {
            None
        } else {
            host::header_map(MapType::HttpCallResponseHeaders).ok()
        };
        let body = head
            .as_ref()
            .map(|_| host::callout_body(REPLY_LIMIT.saturating_add(1)).unwrap_or_default());
        let reply = match (&head, &body) {
            (Some(head), Some(body)) => BrokerReply::Response {
                status: head.first(b":status"),
                content_type: head.first(b"content-type"),
                body,
            },
            (None, _) | (_, None) => BrokerReply::Nothing,
        };
        if self.perform(now, pending.resume(now, reply)) == Action::Continue && host::resume_request().is_err() {
            log::error!("the host does not resume a request that passed");
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end: bool) -> Action {
        match host::now().and_then(|now| self.admit(now).map(|step| (now, step))) {
            Some((now, step)) => self.perform(now, step),
            None => self.fail(),
        }
    }

    fn on_http_request_body(&mut self, _size: usize, _end: bool) -> Action {
        self.later()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        // Whatever the state: with `allow_on_headers_stop_iteration` trailers come while the head is held, and Envoy does
        // not bring them again when it goes on.
        let gate = self.shared.gate.borrow();
        let cleaned = host::header_map(MapType::HttpRequestTrailers)
            .and_then(|trailers| host::edit(MapType::HttpRequestTrailers, &gate.clean_trailers(&trailers)));
        drop(gate);
        if cleaned.is_err() {
            return self.fail();
        }
        self.later()
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end: bool) -> Action {
        match std::mem::replace(&mut self.state, State::Answered) {
            State::Admitted(admitted) => {
                self.state = State::Passed;
                let edited = host::now().ok_or(host::HostError).and_then(|now| {
                    let head = host::header_map(MapType::HttpResponseHeaders)?;
                    host::edit(MapType::HttpResponseHeaders, &admitted.respond(now, &head))
                });
                if edited.is_err() {
                    log::error!("the host does not edit a response head; it goes down as the upstream sent it");
                }
            }
            other @ (State::Fresh | State::Waiting(..) | State::Passed | State::Answered) => self.state = other,
        }
        Action::Continue
    }
}
