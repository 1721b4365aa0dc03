//! Lets the filter of a cluster find the request that the filter of the chain let through.
//!
//! Both run in one VM where `vm_id` and code are the same, and a request stays on its worker. So what is known of it, the
//! token above all, stays in the VM's memory; filter state, which no client can write, has a handle to it: a number that
//! this VM drew when it was loaded, so that no handle of another one fits, and the request's own. It is gone with the request.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::host::{self, HostError};
use crate::root::random;
use crate::stream::Request;

/// The name of the handle in filter state, without the `wasm.` that Envoy puts before it.
const HANDLE: &str = "kerbridge.handle";

struct Handover {
    vm: u64,
    requests: RefCell<BTreeMap<u32, Rc<Request>>>,
}

thread_local! {
    /// Of all filters of this VM, whatever their configuration.
    static VM: Handover = Handover { vm: random(), requests: RefCell::default() };
}

/// There is a handle, and nothing behind it here.
pub(crate) struct Lost;

/// Declares the handle, to be asked in the root: filter state that is written once on a request's way through the chain.
pub(crate) fn declare() -> Result<(), String> {
    host::declare_filter_state(HANDLE, true).map_err(|HostError| format!("the host does not declare {HANDLE}"))
}

/// Hands a request that passed to the filter of its cluster.
pub(crate) fn hand_on(request: &Rc<Request>) -> Result<(), HostError> {
    VM.with(|own| {
        host::set_filter_state(HANDLE, own.handle(request.id()).as_bytes())?;
        own.requests.borrow_mut().insert(request.id(), Rc::clone(request));
        Ok(())
    })
}

/// Forgets a request that is over.
pub(crate) fn take_back(id: u32) {
    VM.with(|own| own.requests.borrow_mut().remove(&id));
}

/// The request to which this attempt belongs; `None` where none was handed on.
pub(crate) fn find() -> Result<Option<Rc<Request>>, Lost> {
    let handle = host::property(&[HANDLE]);
    if handle.is_empty() {
        return Ok(None);
    }
    VM.with(|own| {
        let id = std::str::from_utf8(&handle)
            .ok()
            .and_then(|handle| handle.split_once('.'))
            .and_then(|(_, id)| id.parse().ok())
            .filter(|id| own.handle(*id).as_bytes() == handle)
            .ok_or(Lost)?;
        own.requests.borrow().get(&id).cloned().map(Some).ok_or(Lost)
    })
}

impl Handover {
    fn handle(&self, id: u32) -> String {
        format!("{}.{id}", self.vm)
    }
}
