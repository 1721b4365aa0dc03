//! Measures, and says what was measured: the parts of `make bench` that can be tested without a machine to themselves.
//!
//! - [`statistics`] makes one number of many rounds.
//! - [`processor`] places processes on cores and reads what they used.
//! - [`wrk`] is the load.
//! - [`signer`] makes the keys and tokens that all candidates share.
//! - [`machine`] names the machine.
//! - [`record`] is the JSON under `target/bench/`.
//! - [`goals`] holds what was measured against what is wanted.
//! - [`chart`] draws, and [`page`] writes the figures into the document.
//!
//! The candidates themselves are in `tests/benches/envoy`.

pub mod chart;
pub mod goals;
pub mod machine;
pub mod page;
pub mod processor;
pub mod record;
pub mod signer;
pub mod statistics;
pub mod wrk;
