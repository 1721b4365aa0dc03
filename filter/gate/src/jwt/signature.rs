//! Checks signatures: in pure Rust through `jwt-simple`, or as a question that the host's native crypto answers.
//!
//! | module | what it does |
//! |---|---|
//! | `key` | a public key with the one algorithm that it is for |
//! | [`native`] | the same check as a message to the host |
//! | `der` | the DER in that message |
//! | [`known`] | answers that are known, to try a host with before it is trusted |

mod der;
mod key;
pub mod known;
pub mod native;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::common::VerificationOptions;
use jwt_simple::prelude::{Duration, UnixTimeStamp};
use kerbridge_wire::Reason;
use kerbridge_wire::filter_config::Algorithm;

use super::compact::{CompactJws, HEADER_LIMIT};
use crate::secret::Secret;

pub use key::VerifyingKey;
pub use native::NativeCheck;

/// What a signature check needs. The host's native crypto or [`SignatureInput::verify`] answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureInput {
    key: VerifyingKey,
    /// Header and payload part with the dot between them.
    signed: Secret,
    /// As long as a signature by this key is.
    signature: Vec<u8>,
}

impl SignatureInput {
    /// The check of a token's signature by a key that was chosen by issuer, `kid` and `alg`.
    ///
    /// # Errors
    /// `algorithm_not_allowed` if the token names another algorithm than the key is for, `bad_signature` if the signature
    /// has not the one length that it can have.
    pub fn new(key: VerifyingKey, jws: &CompactJws) -> Result<Self, Reason> {
        if jws.algorithm != key.algorithm().name() {
            return Err(Reason::AlgorithmNotAllowed);
        }
        if jws.signature.len() != key.signature_length() {
            return Err(Reason::BadSignature);
        }
        Ok(Self {
            key,
            signed: jws.signed.clone(),
            signature: jws.signature.clone(),
        })
    }

    /// The algorithm, which is the key's.
    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

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
            max_header_length: Some(HEADER_LIMIT),
            ..VerificationOptions::default()
        };
        self.key.verify_token(&token, options).is_ok()
    }

    /// The same check for the host's native crypto; `None` where that does not know the algorithm (PSS, Ed25519).
    pub fn native(&self) -> Option<NativeCheck<'_>> {
        let hash = match self.algorithm() {
            Algorithm::Es256 | Algorithm::Rs256 => "sha256",
            Algorithm::Es384 | Algorithm::Rs384 => "sha384",
            Algorithm::Rs512 => "sha512",
            Algorithm::Ps256 | Algorithm::EdDsa => return None,
        };
        let signature = match self.algorithm() {
            Algorithm::Es256 | Algorithm::Es384 => {
                // r and s, each half of it (RFC 7518 §3.4).
                let (r, s) = self.signature.split_at_checked(self.signature.len() >> 1)?;
                Cow::Owned(der::ecdsa_signature(r, s))
            }
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256 | Algorithm::EdDsa => {
                Cow::Borrowed(self.signature.as_slice())
            }
        };
        Some(NativeCheck {
            hash,
            key: self.key.spki(),
            signature,
            text: self.signed.expose(),
        })
    }
}
