//! Verifies tokens: sizes first, then the shape, the key by issuer and `kid`, the signature, and last the claims.
//!
//! [`compact`] takes a token apart, [`signature`] checks its signature in pure Rust where the host's native one is not
//! used, [`claims`] holds the one claims check that both share (RFC 7515, 7519, 8725, 9068).

pub mod claims;
pub mod compact;
pub mod signature;

pub use claims::{UnverifiedClaims, VerifiedClaims};
pub use compact::CompactJws;
pub use signature::SignatureInput;
