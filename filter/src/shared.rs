//! Holds what the root and the streams of one VM share: the gate, the counters, and the requests that the root looks after.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use kerbridge_gate::demand::PATIENCE;
use kerbridge_gate::{Gate, Snapshot, UnixTime};

use crate::host;
use crate::metrics::Metrics;
use crate::native::Native;
use crate::stream::Request;

/// Milliseconds between two ticks.
const CALM: u32 = 500;
/// Milliseconds between two ticks while somebody or something waits for the next one.
const HURRY: u32 = 20;

/// What the streams of one VM share.
pub(crate) struct Shared {
    pub(crate) gate: RefCell<Gate>,
    pub(crate) metrics: Rc<Metrics>,
    pub(crate) native: RefCell<Native>,
    /// Requests that wait for keys or revocations, and those that passed and end with their token.
    requests: RefCell<BTreeMap<u32, Rc<Request>>>,
    /// Requests that wait for the broker, by callout. The SDK brings the answer to whom it believes to have called: the root,
    /// where it was the root that went on with a held request.
    callers: RefCell<BTreeMap<u32, Rc<Request>>>,
    root: u32,
    /// Milliseconds between two ticks, as they are now.
    period: Cell<u32>,
    /// When the first request came.
    first: Cell<Option<UnixTime>>,
}

impl Shared {
    pub(crate) fn new(root: u32) -> Self {
        Self {
            gate: RefCell::new(Gate::new(Rc::new(Snapshot::closed()))),
            metrics: Rc::default(),
            native: RefCell::default(),
            requests: RefCell::default(),
            callers: RefCell::default(),
            root,
            period: Cell::new(0),
            first: Cell::default(),
        }
    }

    /// Whether this VM has got a request.
    pub(crate) fn serves(&self) -> bool {
        self.first.get().is_some()
    }

    /// Notes that a request comes. Until when it is to be held, if revocations are missing that are being read since the
    /// first request came.
    pub(crate) fn greet(&self, now: UnixTime) -> Option<UnixTime> {
        if self.first.get().is_none() {
            self.first.set(Some(now));
            self.hurry();
        }
        let until = self.first.get()?.plus(PATIENCE);
        (now < until && self.gate.borrow().snapshot().lacks_revocations()).then_some(until)
    }

    pub(crate) fn look_after(&self, request: Rc<Request>) {
        self.requests.borrow_mut().insert(request.id(), request);
    }

    pub(crate) fn forget(&self, id: u32) {
        self.requests.borrow_mut().remove(&id);
    }

    /// Notes who waits for the answer of a callout.
    pub(crate) fn expect_answer(&self, callout: u32, request: Rc<Request>) {
        self.callers.borrow_mut().insert(callout, request);
    }

    pub(crate) fn forget_callout(&self, callout: u32) {
        self.callers.borrow_mut().remove(&callout);
    }

    /// Brings the answer of a callout to the request that waits for it. Whether one does. To be called by the root.
    pub(crate) fn answer(&self, callout: u32, headers: usize) -> bool {
        let caller = self.callers.borrow_mut().remove(&callout);
        let Some(caller) = caller else { return false };
        self.act_for(&caller, |request| request.answered(callout, headers));
        self.act_for_root();
        true
    }

    /// Ticks soon.
    pub(crate) fn hurry(&self) {
        self.set_period(HURRY);
    }

    /// Ticks at leisure, unless a request waits.
    pub(crate) fn calm_down(&self) {
        if !self.requests.borrow().values().any(|request| request.is_waiting()) {
            self.set_period(CALM);
        }
    }

    fn set_period(&self, milliseconds: u32) {
        if self.period.replace(milliseconds) != milliseconds && host::set_tick_period(milliseconds).is_err() {
            log::error!("the host changes no ticks");
        }
    }

    /// Goes on with the requests that waited for keys or revocations: with all when there is news, else with those whose time
    /// is over. To be called by the root.
    pub(crate) fn resume_waiting(&self, now: UnixTime, news: bool) {
        self.for_each(
            |request| request.is_waiting() && (news || request.is_out_of_patience(now)),
            |request| request.go_on(now),
        );
    }

    /// Ends the requests that passed and whose token has ended or was revoked since. To be called by the root.
    pub(crate) fn end_those_over(&self, now: UnixTime) {
        self.for_each(
            |request| request.over(now).is_some(),
            |request| {
                if let Some(reason) = request.over(now) {
                    request.end(reason);
                }
            },
        );
    }

    fn for_each(&self, which: impl Fn(&Request) -> bool, act: impl Fn(&Rc<Request>)) {
        // What is done to a request takes it out of the table.
        let chosen: Vec<Rc<Request>> = self
            .requests
            .borrow()
            .values()
            .filter(|request| which(request))
            .map(Rc::clone)
            .collect();
        for request in &chosen {
            self.act_for(request, &act);
        }
        if !chosen.is_empty() {
            self.act_for_root();
        }
    }

    fn act_for(&self, request: &Rc<Request>, act: impl Fn(&Rc<Request>)) {
        match host::act_for(request.id()) {
            Ok(()) => act(request),
            // The host has no such stream any more.
            Err(host::HostError) => self.forget(request.id()),
        }
    }

    fn act_for_root(&self) {
        if host::act_for(self.root).is_err() {
            log::error!("the host does not go back to the root");
        }
    }
}
