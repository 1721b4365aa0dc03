//! Checks signatures by native crypto, which takes a fraction of the time of the pure Rust that is made small for the filter's
//! sake.
//!
//! Key, algorithm and length were settled before, by the gate's own types: a key is for one algorithm, RSA has 2,048 bits at
//! least, a signature its one length. What is left is arithmetic, and the answers are those of pure Rust, but for one kind of
//! Ed25519 signature that nobody but the key's owner can make, and makes by intent only: RFC 8032 §5.1.7 lets a verifier multiply
//! by the cofactor or not. Pure Rust does, and this does not.

use kerbridge_gate::jwt::SignatureInput;
use kerbridge_wire::filter_config::Algorithm;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};

/// Whether a signature is good.
pub(crate) fn is_good(input: &SignatureInput) -> bool {
    let algorithm: &dyn VerificationAlgorithm = match input.algorithm() {
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        // With a salt as long as the hash, as RFC 7518 §3.5 has it.
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::EdDsa => &ED25519,
    };
    UnparsedPublicKey::new(algorithm, input.key().bits())
        .verify(input.text(), input.signature())
        .is_ok()
}

#[cfg(test)]
mod tests;
