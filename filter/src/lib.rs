//! Hangs the gate into Envoy: the entry point and the list of modules, nothing else.
//!
//! [`root`] configures, ticks and fetches keys; [`stream`] carries one request's steps out; [`host`] is the only file
//! that talks to the host; [`metrics`] counts decisions.

mod host;
mod metrics;
mod root;
mod stream;

/// The SDK's entry point; in a module of its own, since the macro exports a function without documentation.
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
        proxy_wasm::set_root_context(|_| Box::new(crate::root::Root::new()));
    }}
}
