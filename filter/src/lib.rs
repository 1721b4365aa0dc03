//! Hangs the gate into Envoy: the entry point and the list of modules, nothing else.
//!
//! [`root`] configures and ticks; [`polling`] fetches and shares keys; [`feeds`] follows revocations; [`stream`] carries one request's
//! steps out, [`attempt`] those of one try to deliver it to a Kerberos service; [`handover`] is how the second finds the first;
//! [`answer`] brings answers to the client and from the broker; [`shared`] is what root and streams have in common; [`native`] lets the host check signatures; [`host`] is the
//! only file that talks to the host; [`metrics`] counts decisions.
//!
//! With `trap`, which only the package in `tests/trap` has, a request can make the module panic.

mod answer;
mod attempt;
mod feeds;
mod handover;
mod host;
mod metrics;
mod native;
mod polling;
mod root;
mod shared;
mod stream;
#[cfg(feature = "trap")]
mod trap;

/// The SDK's entry point; in a module of its own, since the macro exports a function without documentation.
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
        proxy_wasm::set_root_context(|context| Box::new(crate::root::Root::new(context)));
    }}
}
