//! Asks the real Envoy what the design rests on, so that a version that answers differently is noticed.
//!
//! The module `kerbridge_probe.wasm` does what a script tells it (see its crate); each test is a row of
//! `docs/envoy-facts.md`.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails in a test ends the test")]

mod attempts;
mod bootstrap;
mod callouts;
mod filter_state;
mod handover;
mod holding;
mod properties;
mod requests;
mod routes;
mod shared_data;
mod signatures;
mod startup;
mod traps;
