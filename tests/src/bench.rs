//! Measures, and says what was measured: the parts of `make bench` that can be tested without a machine to themselves.
//!
//! - [`statistics`] makes one number of many rounds.
//! - [`processor`] places processes on cores and reads what they used.
//! - [`settings`] is what the environment may choose.
//! - [`wrk`] is the load of Envoys, [`load`] that of acceptors, which want another ticket with each request.
//! - [`raw`] compiles and runs the loops of the library alone.
//! - [`signer`] makes the keys and tokens that all candidates share.
//! - [`machine`] names the machine.
//! - [`record`], [`mod@exchange`] and [`mod@delegation`] are the JSON under `target/bench/`.
//! - [`goals`] holds what was measured against what is wanted.
//! - [`program`] is what the programs have in common.
//! - [`chart`] draws, and [`page`] writes the figures into the document.
//!
//! The candidates themselves are in `tests/benches/envoy`, `tests/benches/exchange` and `tests/benches/delegation`.

pub mod chart;
pub mod delegation;
pub mod exchange;
pub mod goals;
pub mod load;
pub mod machine;
pub mod page;
pub mod processor;
pub mod program;
pub mod raw;
pub mod record;
pub mod settings;
pub mod signer;
pub mod statistics;
pub mod wrk;
