//! Makes the keys and tokens that all candidates share: one issuer with an ES256 key, one with an RS256 key.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use crate::error::HarnessError;
use crate::process::{OwnedProcess, Spawn};
use crate::shipped::ISSUER;
use crate::token::{self, LabKey};

/// The audience of every token.
pub const AUDIENCE: &str = "orders";
/// The scope that guarded candidates want.
pub const SCOPE: &str = "orders:read";
/// Longer than any run, so that no cache runs dry in the middle of one.
const LIFETIME: u64 = 12 * 60 * 60;

/// An issuer's signing key.
pub enum Signer {
    /// ECDSA on P-256.
    Es256(LabKey),
    /// RSASSA-PKCS1-v1_5, 2048 bits.
    Rs256(RsaKey),
}

/// An RSA key and its public half.
pub struct RsaKey {
    pair: RsaKeyPair,
    modulus: String,
    exponent: String,
}

impl Signer {
    /// A new P-256 key.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn es256() -> Result<Self, HarnessError> {
        LabKey::generate()
            .map(Self::Es256)
            .map_err(|ring::error::Unspecified| failed("make a P-256 key"))
    }

    /// A new RSA key of 2048 bits, made by openssl in this folder.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`], [`HarnessError::Exited`] or [`HarnessError::Io`].
    pub fn rs256(folder: &Path) -> Result<Self, HarnessError> {
        let file = folder.join("rsa.der");
        let spawn = Spawn::new("openssl", folder)
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .args(["-outform", "DER", "-out"])
            .arg(&file);
        let mut openssl = OwnedProcess::start(spawn)?;
        let status = openssl.wait_exit(Duration::from_secs(60))?;
        if !status.success() {
            return Err(HarnessError::Exited {
                name: "openssl".to_owned(),
                status,
                log: openssl.log_tail(),
            });
        }
        let document = std::fs::read(&file).map_err(|source| HarnessError::io("read the RSA key", source))?;
        // Releases of openssl differ in the wrapping of what they write as DER.
        let pair = RsaKeyPair::from_pkcs8(&document)
            .or_else(|_other_wrapping| RsaKeyPair::from_der(&document))
            .map_err(|_rejected| failed("read the RSA key"))?;
        let PublicKeyComponents { n, e }: PublicKeyComponents<Vec<u8>> = pair.public().into();
        Ok(Self::Rs256(RsaKey {
            pair,
            modulus: URL_SAFE_NO_PAD.encode(n),
            exponent: URL_SAFE_NO_PAD.encode(e),
        }))
    }

    /// `ES256` or `RS256`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        }
    }

    /// The public key as a key set of one (RFC 7517 §5).
    #[must_use]
    pub fn key_set(&self) -> Value {
        match self {
            Self::Es256(key) => key.key_set(),
            Self::Rs256(key) => json!({"keys": [{
                "kty": "RSA", "n": key.modulus, "e": key.exponent, "alg": "RS256", "use": "sig", "kid": key.key_id(),
            }]}),
        }
    }

    /// A token with these claims.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn token(&self, claims: &Value) -> Result<String, HarnessError> {
        self.sign("at+jwt", claims)
    }

    /// A compact JWS of this `typ` with these claims.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn sign(&self, kind: &str, claims: &Value) -> Result<String, HarnessError> {
        match self {
            Self::Es256(key) => key
                .sign(&token::with(key.header(), "typ", json!(kind)), claims)
                .map_err(|ring::error::Unspecified| failed("sign a token")),
            Self::Rs256(key) => key.sign(kind, claims),
        }
    }

    /// So many good tokens, all different.
    ///
    /// # Errors
    ///
    /// As [`Signer::token`].
    pub fn tokens(&self, count: usize) -> Result<Vec<String>, HarnessError> {
        (0..count).map(|number| self.token(&claims(number))).collect()
    }
}

impl RsaKey {
    /// The RFC 7638 thumbprint.
    fn key_id(&self) -> String {
        let canonical = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, self.exponent, self.modulus);
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
    }

    fn sign(&self, kind: &str, claims: &Value) -> Result<String, HarnessError> {
        let header = json!({"typ": kind, "alg": "RS256", "kid": self.key_id()});
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", encoded(&header), encoded(claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                input.as_bytes(),
                &mut signature,
            )
            .map_err(|ring::error::Unspecified| failed("sign a token"))?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The claims of a good token, as the broker mints them, each number a different token of a different session.
#[must_use]
pub fn claims(number: usize) -> Value {
    let base = token::claims(ISSUER, "alice@EXAMPLE.COM", AUDIENCE, "orders:read orders:write");
    let issued = base.get("iat").and_then(Value::as_u64).unwrap_or_default();
    // As long as the broker's: 128 random bits in base64url.
    let base = token::with(base, "jti", json!(format!("token-{number:016}")));
    let base = token::with(base, "sid", json!(format!("session-{number:014}")));
    token::with(base, "exp", json!(issued.saturating_add(LIFETIME)))
}

/// Ring says no more than that it failed.
fn failed(what: &str) -> HarnessError {
    HarnessError::io(what, std::io::Error::other("ring refused"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    #[test]
    fn an_rs256_token_verifies_with_its_published_key() {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::rs256(folder.path()).unwrap();
        let token = signer.token(&claims(1)).unwrap();
        let set = signer.key_set();
        let part = |name: &str| URL_SAFE_NO_PAD.decode(set["keys"][0][name].as_str().unwrap()).unwrap();
        let (input, signature) = token.rsplit_once('.').unwrap();
        let public = RsaPublicKeyComponents {
            n: part("n"),
            e: part("e"),
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        public
            .verify(&RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &signature)
            .unwrap();
        assert_eq!(token::decode(&token).unwrap().header["kid"], set["keys"][0]["kid"]);
    }

    #[test]
    fn tokens_of_one_run_differ_and_are_as_long_as_the_brokers() {
        let tokens = Signer::es256().unwrap().tokens(3).unwrap();
        let jti = |at: usize| token::decode(&tokens[at]).unwrap().claims["jti"].clone();
        assert_ne!(jti(0), jti(1));
        assert!(
            tokens.iter().all(|token| (560..640).contains(&token.len())),
            "{}",
            tokens[0].len()
        );
    }
}
