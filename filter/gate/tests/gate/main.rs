//! The gate as the filter uses it: real keys and signatures in, steps out. Each module is one side of it.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "a fixture that does not hold must fail the test, helpers included"
)]

mod bound;
mod configuration;
mod exchanges;
mod logout;
mod model;
mod requests;
mod rules;
mod tokens;
mod upstream;
mod world;
