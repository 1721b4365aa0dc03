//! Checks a signature in pure Rust; the one place that uses `jwt-simple`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::algorithms::{ECDSAP256PublicKeyLike, ES256PublicKey};
use jwt_simple::claims::NoCustomClaims;
use jwt_simple::common::VerificationOptions;
use jwt_simple::prelude::{Duration, UnixTimeStamp};
use kerbridge_wire::filter_config::Algorithm;

use crate::secret::Secret;

/// A public key that fits its algorithm; for ES256 a point on P-256, checked.
#[derive(Clone)]
pub enum VerifyingKey {
    /// A point on P-256.
    Es256(ES256PublicKey),
}

impl VerifyingKey {
    /// The ES256 key with these coordinates, if that is a point on the curve (RFC 7518 §6.2.1).
    pub fn es256(x: &[u8; 32], y: &[u8; 32]) -> Option<Self> {
        let sec1 = [[4_u8].as_slice(), x, y].concat();
        ES256PublicKey::from_bytes(&sec1).ok().map(Self::Es256)
    }

    /// The algorithm that this key is for; never what a token says.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Es256(key) => key.to_bytes(),
        }
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm() == other.algorithm() && self.to_bytes() == other.to_bytes()
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?})", self.algorithm())
    }
}

/// What a signature check needs. The host's native crypto or [`SignatureInput::verify`] answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureInput {
    /// The key, chosen by issuer and `kid`.
    pub key: VerifyingKey,
    /// The signed bytes: header and payload part with the dot between them.
    pub signed: Secret,
    /// The signature as in the token; 64 bytes for ES256.
    pub signature: Vec<u8>,
}

impl SignatureInput {
    /// Whether the signature is good, checked in pure Rust.
    pub fn verify(&self) -> bool {
        let Ok(signed) = std::str::from_utf8(self.signed.expose()) else {
            return false;
        };
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&self.signature));
        // jwt-simple has no check of the signature alone. These options switch its own claims check off, which takes
        // tokens without `exp` and forgives 15 minutes; ours (`UnverifiedClaims::verify`) comes after this one.
        let options = VerificationOptions {
            accept_future: true,
            artificial_time: Some(UnixTimeStamp::from_secs(0)),
            time_tolerance: Some(Duration::from_secs(0)),
            max_validity: None,
            max_token_length: None,
            max_header_length: Some(super::compact::HEADER_LIMIT),
            ..VerificationOptions::default()
        };
        match &self.key {
            VerifyingKey::Es256(key) => key.verify_token::<NoCustomClaims>(&token, Some(options)).is_ok(),
        }
    }
}
