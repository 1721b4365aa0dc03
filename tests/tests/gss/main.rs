//! kerbridge-gss against a real KDC: what a ticket proves, and every way in which one is refused.
//!
//! libkrb5 reads its configuration from the environment of the process, so each test runs in a process of its own: see
//! [`world`].

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails in a test ends the test"
)]

mod bindings;
mod established;
mod hostile;
mod local_names;
mod refused;
mod two_legs;
mod world;
