//! The revocation feed through the gate's own doors: pages truly signed, read slice by slice, compared with a plain model.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a fixture that does not hold, or overflows, must fail the test, helpers included"
)]

mod issuer;
mod model;
mod pages;
