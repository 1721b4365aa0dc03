//! Checks signatures: in pure Rust through `jwt-simple`, as a question that the host's native crypto answers, or by whatever the
//! broker has.
//!
//! | module | what it does |
//! |---|---|
//! | [`VerifyingKey`] | a public key with the one algorithm that it is for, in a crate of its own |
//! | [`native`] | the same check as a message to the host |
//! | [`known`] | answers that are known, to try a host with before it is trusted |

pub mod known;
pub mod native;

use std::borrow::Cow;

use kerbridge_jwa::der;
use kerbridge_wire::Reason;
use kerbridge_wire::filter_config::Algorithm;

use super::compact::CompactJws;
use crate::secret::Secret;

pub use kerbridge_jwa::VerifyingKey;
pub use native::NativeCheck;

/// What a signature check needs. Native crypto, the host's or the broker's, or [`SignatureInput::verify`] answers it.
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

    /// The key that must have signed.
    pub const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// What must have been signed.
    pub fn text(&self) -> &[u8] {
        self.signed.expose()
    }

    /// The signature, as long as one by the key is.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whether the signature is good, checked in pure Rust. The claims check (`UnverifiedClaims::verify`) comes after this one.
    pub fn verify(&self) -> bool {
        std::str::from_utf8(self.signed.expose()).is_ok_and(|signed| self.key.verify(signed, &self.signature))
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
