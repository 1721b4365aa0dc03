//! Carries out the steps of one request: host events to the gate, steps to host calls, one exit.

mod passed;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use kerbridge_gate::callbacks::{Callbacks, Flow, Outcome};
use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_gate::continuation::ConnectionId;
use kerbridge_gate::exchange::{BrokerCall, BrokerReply, Connection, PendingCall};
use kerbridge_gate::gate::{PendingKeys, WarmHead};
use kerbridge_gate::outcome::filter_state;
use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::response::Admitted;
use kerbridge_gate::step::{Decision, HeaderEdits};
use kerbridge_gate::verified::Verified;
use kerbridge_gate::{Config, Gate, Reason, RequestHead, Step, UnixTime, network};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::answer::{complain, fail, respond, with_reply};
use crate::shared::Shared;
use crate::{handover, host};

/// One request, as the host calls it back.
pub(crate) struct Stream(Rc<Request>);

/// One request. The root has a part in it too: it resumes those that wait for keys and ends those whose time is over.
pub(crate) struct Request {
    id: u32,
    shared: Rc<Shared>,
    callbacks: RefCell<Callbacks<PendingCall, PendingKeys, ()>>,
    /// The proof that it passed.
    admitted: RefCell<Option<Admitted>>,
    /// Until when it waits for keys or revocations.
    patience: Cell<Option<UnixTime>>,
    /// The callout whose answer it waits for.
    callout: Cell<Option<u32>>,
}

impl Stream {
    pub(crate) fn new(id: u32, shared: Rc<Shared>) -> Self {
        Self(Rc::new(Request {
            id,
            shared,
            callbacks: RefCell::default(),
            admitted: RefCell::default(),
            patience: Cell::default(),
            callout: Cell::default(),
        }))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.callbacks.borrow_mut().closed();
        self.0.shared.forget(self.0.id);
        handover::take_back(self.0.id);
        if let Some(callout) = self.0.callout.take() {
            self.0.shared.forget_callout(callout);
        }
    }
}

impl Request {
    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// Judges the head: by few single reads where that is enough, else with every header in view.
    fn judge(&self, now: UnixTime) -> Option<Step> {
        if let Some(step) = self.judge_warm(now) {
            return Some(step);
        }
        self.with_head(|gate, head| gate.admit(now, head))
    }

    /// Shows every header to the gate.
    fn with_head<T>(&self, show: impl FnOnce(&mut Gate, &RequestHead<'_>) -> T) -> Option<T> {
        let headers = host::header_map(MapType::HttpRequestHeaders).ok()?;
        let mut gate = self.shared.gate.borrow_mut();
        let reads = |what: fn(&Config) -> bool| gate.snapshot().config().is_some_and(|config| what(config));
        let (reads_source, reads_certificate) = (reads(Config::reads_source), reads(Config::reads_certificate));
        let head = RequestHead {
            headers: &headers,
            secure: is_secure(),
            source: reads_source
                .then(|| network::address_of(&host::property(&["source", "address"])))
                .flatten(),
            certificate: reads_certificate.then(certificate).flatten(),
        };
        Some(show(&mut gate, &head))
    }

    fn judge_warm(&self, now: UnixTime) -> Option<Step> {
        let mut gate = self.shared.gate.borrow_mut();
        gate.warm_path()?;
        // The attribute has all lines, so that a second one shows.
        let authorization = host::property(&["request", "headers", "authorization"]);
        let recalled = gate.recall(now, &authorization)?;
        let read = |name: &str| host::header(MapType::HttpRequestHeaders, name).ok();
        if !gate.warm_path()?.iter().all(|name| read(name) == Some(None)) {
            return None;
        }
        let (method, path, authority) = (read(":method")??, read(":path")??, read(":authority")??);
        let head = WarmHead {
            method: &method,
            path: &path,
            authority: &authority,
            secure: is_secure(),
            certificate: recalled.is_bound().then(certificate).flatten(),
        };
        gate.admit_warm(now, &head, recalled)
    }

    /// Carries a step out until the request passes, is answered or waits. The one exit of every decision.
    fn perform(self: &Rc<Self>, now: UnixTime, mut step: Step) -> Action {
        let outcome = loop {
            step = match step {
                Step::Continue(edits, admitted) => match self.pass(&edits, admitted) {
                    Ok(()) => break Outcome::Pass(()),
                    Err(host::HostError) => return self.fail(),
                },
                Step::Respond(reply) => {
                    self.answer(now, &reply);
                    break Outcome::Answered;
                }
                Step::Verify(input, pending) => {
                    let valid = self.shared.native.borrow().verify(&input);
                    pending.resume(&mut self.shared.gate.borrow_mut(), now, valid)
                }
                Step::Call(call, pending) => match self.dispatch(now, &call) {
                    Ok(callout) => {
                        self.callout.set(Some(callout));
                        self.shared.expect_answer(callout, Rc::clone(self));
                        break Outcome::Called(callout, pending);
                    }
                    Err(host::HostError) => {
                        pending.resume(&mut self.shared.gate.borrow_mut(), now, BrokerReply::Nothing)
                    }
                },
                Step::Wait(pending) => {
                    self.wait_until(pending.deadline());
                    self.shared.hurry();
                    break Outcome::Waiting(pending);
                }
            };
        };
        let flow = self.callbacks.borrow_mut().decided(outcome);
        match flow {
            Flow::Continue => Action::Continue,
            Flow::Pause => Action::Pause,
            Flow::Resume => {
                if host::resume_request().is_err() {
                    log::error!("the host does not resume a request that passed");
                }
                Action::Continue
            }
        }
    }

    /// Judges the head, or holds it while the revocations that it needs are being read.
    fn begin(self: &Rc<Self>) -> Action {
        let Some(now) = host::now() else {
            return self.fail();
        };
        if let Some(until) = self.shared.greet(now)
            && self.with_head(|gate, head| gate.needs_revocations(head)) == Some(true)
        {
            if self.callbacks.borrow_mut().hold() {
                self.wait_until(until);
            }
            return Action::Pause;
        }
        if !self.callbacks.borrow_mut().head() {
            return Action::Pause;
        }
        self.begin_judgement(now)
    }

    fn begin_judgement(self: &Rc<Self>, now: UnixTime) -> Action {
        match self.judge(now) {
            Some(step) => self.perform(now, step),
            None => self.fail(),
        }
    }

    fn pass(self: &Rc<Self>, edits: &HeaderEdits, admitted: Admitted) -> Result<(), host::HostError> {
        // An edit that the host refuses could leave a header of the client's where ours should be.
        host::edit(MapType::HttpRequestHeaders, edits)?;
        let decision = admitted.decision();
        if decision.dry_run && decision.reason != Reason::Ok {
            log::info!("request would be refused {}", decision.logged());
        }
        self.shared.metrics.count(decision);
        self.tell(decision, admitted.verified());
        let ends = admitted.ends_at().is_some();
        let needs_tickets = admitted.spn().is_some();
        *self.admitted.borrow_mut() = Some(admitted);
        if needs_tickets {
            handover::hand_on(self)?;
        }
        if ends {
            self.shared.look_after(Rc::clone(self));
        }
        Ok(())
    }

    fn answer(&self, now: UnixTime, reply: &LocalReply) {
        let decision = &reply.decision;
        complain(decision);
        self.shared.metrics.count(decision);
        self.tell(decision, None);
        if let Some(handle) = &reply.continuation
            && let Some(connection) = connection()
        {
            let mut gate = self.shared.gate.borrow_mut();
            gate.continuations().keep(now, connection, handle.clone());
        }
        respond(reply);
    }

    fn dispatch(&self, now: UnixTime, call: &BrokerCall) -> Result<u32, host::HostError> {
        let source = host::property(&["source", "address"]);
        let server_name = host::property(&["connection", "requested_server_name"]);
        let connection = call.is_second_leg.then(connection).flatten();
        let continuation =
            connection.and_then(|connection| self.shared.gate.borrow_mut().continuations().take(now, connection));
        let client = Connection {
            source: &source,
            server_name: &server_name,
            continuation: continuation.as_ref(),
        };
        host::ask_broker(call, &client)
    }

    /// Tells the filters and the log behind us what was decided, where the configuration says so.
    fn tell(&self, decision: &Decision, verified: Option<&Verified>) {
        let gate = self.shared.gate.borrow();
        let Some(config) = gate.snapshot().config().filter(|config| config.filter_state()) else {
            return;
        };
        for (name, value) in filter_state(config, decision, verified) {
            if host::set_filter_state(name, &value).is_err() {
                log::error!("the host does not take filter state name={name}");
            }
        }
    }

    /// Answers for a host that does not do what it is asked.
    fn fail(&self) -> Action {
        self.shared.metrics.count_failure();
        // Not borrowed while the host acts: it may end the stream there and then.
        let failure = self.callbacks.borrow_mut().fail();
        fail(failure);
        Action::Pause
    }

    fn later(&self) -> Action {
        match self.callbacks.borrow().later() {
            Flow::Continue => Action::Continue,
            Flow::Pause | Flow::Resume => Action::Pause,
        }
    }

    /// Whether it waits for keys or revocations, and its time is over.
    pub(crate) fn is_out_of_patience(&self, now: UnixTime) -> bool {
        self.patience.get().is_some_and(|patience| patience <= now)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.patience.get().is_some()
    }

    /// Goes on with a request that waited for keys or revocations. The host acts for it already.
    pub(crate) fn go_on(self: &Rc<Self>, now: UnixTime) {
        self.shared.forget(self.id);
        self.patience.set(None);
        let pending = self.callbacks.borrow_mut().keys_settled();
        if let Some(pending) = pending {
            let step = pending.resume(&mut self.shared.gate.borrow_mut(), now);
            self.perform(now, step);
        } else if let Some(until) = self.shared.greet(now) {
            // There is news, but not all that is missing.
            self.wait_until(until);
        } else if self.callbacks.borrow_mut().head_settled() {
            self.begin_judgement(now);
        }
    }

    fn wait_until(self: &Rc<Self>, until: UnixTime) {
        self.patience.set(Some(until));
        self.shared.look_after(Rc::clone(self));
    }

    /// Goes on with the broker's answer, where it waits for that of this callout. The host acts for it already.
    pub(crate) fn answered(self: &Rc<Self>, callout: u32, headers: usize) {
        self.shared.forget_callout(callout);
        let pending = self.callbacks.borrow_mut().replied(callout);
        let Some(pending) = pending else { return };
        self.callout.set(None);
        let Some(now) = host::now() else {
            self.fail();
            return;
        };
        let step = with_reply(headers, |reply| {
            pending.resume(&mut self.shared.gate.borrow_mut(), now, reply)
        });
        self.perform(now, step);
    }
}

fn is_secure() -> bool {
    !host::property(&["connection", "tls_version"]).is_empty()
}

/// The client's certificate, whoever signed it.
fn certificate() -> Option<CertificateDigest> {
    CertificateDigest::from_hex(&host::property(&["connection", "sha256_peer_certificate_digest"]))
}

/// The connection, where it can be told from others by its number.
fn connection() -> Option<ConnectionId> {
    ConnectionId::read(
        &host::property(&["connection", "id"]),
        &host::property(&["request", "protocol"]),
    )
}

impl Context for Stream {
    fn on_http_call_response(&mut self, callout: u32, headers: usize, _body: usize, _trailers: usize) {
        self.0.answered(callout, headers);
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end: bool) -> Action {
        #[cfg(feature = "trap")]
        crate::trap::spring();
        self.0.begin()
    }

    fn on_http_request_body(&mut self, _size: usize, _end: bool) -> Action {
        self.0.later()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        let request = &self.0;
        // Whatever the state: with `allow_on_headers_stop_iteration` trailers come while the head is held, and Envoy does
        // not bring them again when it goes on.
        let gate = request.shared.gate.borrow();
        let cleaned = host::header_map(MapType::HttpRequestTrailers)
            .and_then(|trailers| host::edit(MapType::HttpRequestTrailers, &gate.clean_trailers(&trailers)));
        drop(gate);
        if cleaned.is_err() {
            return request.fail();
        }
        request.later()
    }

    fn on_http_response_trailers(&mut self, _trailers: usize) -> Action {
        let request = &self.0;
        if request.spn().is_none() {
            return Action::Continue;
        }
        match request.edit_response_trailers() {
            Ok(()) => Action::Continue,
            // A challenge of the service's must not go down.
            Err(host::HostError) => request.fail(),
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end: bool) -> Action {
        let request = &self.0;
        if request.callbacks.borrow_mut().response().is_none() {
            return Action::Continue;
        }
        match request.edit_response() {
            Ok(None) => Action::Continue,
            Ok(Some(reply)) => {
                request.replace_response(&reply);
                Action::Pause
            }
            // A challenge of the service's must not go down.
            Err(host::HostError) if request.spn().is_some() => request.fail(),
            Err(host::HostError) => {
                log::error!("the host does not edit a response head; it goes down as the upstream sent it");
                Action::Continue
            }
        }
    }
}
