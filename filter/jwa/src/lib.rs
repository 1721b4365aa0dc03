//! Decides which public keys are usable, and checks signatures with them in pure Rust (RFC 7518, RFC 8037).
//!
//! The only crate that knows `jwt-simple`, and one of its own because it is compiled small: what is generic is made where it is
//! used, the host's native crypto checks most signatures, and in the gate the same code takes 30 KB more.

#![forbid(unsafe_code)]

pub mod der;
mod key;

pub use key::VerifyingKey;
