//! Signs tokens for the tests, with any algorithm and whatever header and payload.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
    RsaKeyPair,
};
use serde_json::{Value, json};

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One key of each type.
pub(crate) struct Signer {
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

impl Signer {
    /// Fresh keys, but for RSA: making one takes long, so that is always the same, of these tests only.
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let elliptic = |algorithm: &'static EcdsaSigningAlgorithm| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
        };
        let edwards = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            p256: elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed25519: Ed25519KeyPair::from_pkcs8(edwards.as_ref()).unwrap(),
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("signer.pk8")).unwrap(),
        }
    }

    /// The public key for an algorithm, without `alg`.
    pub(crate) fn jwk(&self, algorithm: &str, kid: &str) -> Value {
        let point = |pair: &EcdsaKeyPair, crv: &str| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
            json!({"kty": "EC", "crv": crv, "x": base64url(x), "y": base64url(y), "kid": kid})
        };
        match algorithm {
            "ES256" => point(&self.p256, "P-256"),
            "ES384" => point(&self.p384, "P-384"),
            "EdDSA" => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(self.ed25519.public_key()), "kid": kid})
            }
            _ => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public_key());
                json!({"kty": "RSA", "n": base64url(n), "e": base64url(e), "kid": kid})
            }
        }
    }

    /// The same with its `alg`.
    pub(crate) fn jwk_for(&self, algorithm: &str, kid: &str) -> Value {
        let mut jwk = self.jwk(algorithm, kid);
        jwk["alg"] = algorithm.into();
        jwk
    }

    /// A token of this header and payload, truly signed with this algorithm, whatever the header says.
    pub(crate) fn sign(&self, algorithm: &str, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.signature(algorithm, signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    }

    pub(crate) fn signature(&self, algorithm: &str, text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(encoding, &random, text, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "ES256" => self.p256.sign(&random, text).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, text).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(text).as_ref().to_vec(),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            other => panic!("{other}"),
        }
    }
}

/// What somebody who knows only a public key can make of it: a keyed hash with these bytes as the secret.
pub(crate) fn hmac(algorithm: hmac::Algorithm, secret: &[u8], header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(payload));
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
    format!("{signed}.{}", base64url(tag))
}
