//! Signs with one key, by the one algorithm that it is for, and says how its public half is published.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_wire::Reason;
use kerbridge_wire::filter_config::Algorithm;
use ring::digest;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde::{Deserialize, Serialize};
use superboring::rsa::Rsa;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::CryptoError;
use super::hardware::HardwareKey;

/// Bits of a new RSA key: RFC 7518 §3.3 asks for this many at least, and a key lives for weeks.
const RSA_BITS: u32 = 2048;

/// What the broker can sign with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// The text is none of the algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAlgorithm;

/// Why there is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSigned {
    /// The system's cryptography or the token does not do it.
    Failed,
    /// The token has not done it in time, or has too much to do.
    Late,
}

/// One key with its identifier.
pub struct SigningKey {
    id: String,
    algorithm: SigningAlgorithm,
    jwk: serde_json::Value,
    signer: Signer,
}

enum Signer {
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
    Hardware(HardwareKey),
}

impl SigningAlgorithm {
    /// Every algorithm, in the order of the documents.
    pub const ALL: &'static [Self] = &[Self::Es256, Self::Rs256, Self::EdDsa];

    /// The `alg` of what it signs (RFC 7518 §3.1, RFC 8037 §3.1).
    pub const fn name(self) -> &'static str {
        self.wire().name()
    }

    /// The same in the words of the filter's configuration.
    pub const fn wire(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::Es256,
            Self::Rs256 => Algorithm::Rs256,
            Self::EdDsa => Algorithm::EdDsa,
        }
    }

    /// A new secret for it: PKCS#8 (RFC 5958). RSA takes a second or so.
    pub(super) fn generate(self) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let random = SystemRandom::new();
        match self {
            Self::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .map(|document| Zeroizing::new(document.as_ref().to_vec()))
                .map_err(|_| CryptoError),
            Self::EdDsa => Ed25519KeyPair::generate_pkcs8(&random)
                .map(|document| Zeroizing::new(document.as_ref().to_vec()))
                .map_err(|_| CryptoError),
            // ring makes no RSA keys. What signs with it is ring's, in constant time.
            Self::Rs256 => Rsa::generate(RSA_BITS)
                .and_then(|pair| pair.private_key_to_der())
                .map(Zeroizing::new)
                .map_err(|_| CryptoError),
        }
    }
}

impl FromStr for SigningAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        let mut all = Self::ALL.iter();
        all.find(|algorithm| algorithm.name() == text)
            .copied()
            .ok_or(UnknownAlgorithm)
    }
}

impl SigningKey {
    /// A key of a secret as [`SigningAlgorithm::generate`] makes them.
    pub(super) fn from_secret(algorithm: SigningAlgorithm, secret: &[u8]) -> Result<Self, CryptoError> {
        match algorithm {
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, secret, &SystemRandom::new())
                    .map_err(|_| CryptoError)?;
                let public = PublicKey::p256(pair.public_key().as_ref())?;
                Ok(Self::new(algorithm, &public, Signer::Ecdsa(pair)))
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(secret).map_err(|_| CryptoError)?;
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                let public = PublicKey::rsa(&n, &e);
                Ok(Self::new(algorithm, &public, Signer::Rsa(Box::new(pair))))
            }
            SigningAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(secret).map_err(|_| CryptoError)?;
                let public = PublicKey::ed25519(pair.public_key().as_ref());
                Ok(Self::new(algorithm, &public, Signer::Ed25519(pair)))
            }
        }
    }

    /// A key that never leaves its hardware.
    pub(super) fn in_hardware(algorithm: SigningAlgorithm, public: &PublicKey, key: HardwareKey) -> Self {
        Self::new(algorithm, public, Signer::Hardware(key))
    }

    fn new(algorithm: SigningAlgorithm, public: &PublicKey, signer: Signer) -> Self {
        let id = public.thumbprint();
        Self {
            jwk: public.jwk(algorithm, &id),
            id,
            algorithm,
            signer,
        }
    }

    /// `kid`: the thumbprint of the public key (RFC 7638).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is for, and nothing else.
    pub const fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// The public half (RFC 7517 §4).
    pub const fn jwk(&self) -> &serde_json::Value {
        &self.jwk
    }

    /// Signs as JWS wants it (RFC 7518 §3.3, §3.4: r and s, 32 bytes each; RFC 8037 §3.1). Only hardware is waited for.
    pub async fn sign(&self, message: &[u8], until: Instant) -> Result<Vec<u8>, NotSigned> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Ecdsa(pair) => pair
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| NotSigned::Failed),
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| NotSigned::Failed)?;
                Ok(signature)
            }
            Signer::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Signer::Hardware(key) => key.sign(message, until).await,
        }
    }
}

/// The members of a public key that identify it.
pub(super) struct PublicKey {
    /// Names and values in lexical order, the type of the key among them (RFC 7638 §3.2).
    required: Vec<(&'static str, String)>,
}

impl PublicKey {
    /// An uncompressed point of P-256: 0x04, x, y (SEC 1 §2.3.3).
    pub(super) fn p256(point: &[u8]) -> Result<Self, CryptoError> {
        let (x, y) = match point.split_first() {
            Some((4, point)) if point.len() == 64 => point.split_at(32),
            Some(_) | None => return Err(CryptoError),
        };
        Ok(Self {
            required: vec![
                ("crv", "P-256".into()),
                ("kty", "EC".into()),
                ("x", URL_SAFE_NO_PAD.encode(x)),
                ("y", URL_SAFE_NO_PAD.encode(y)),
            ],
        })
    }

    /// Modulus and exponent, big-endian without leading zeros.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        Self {
            required: vec![
                ("e", URL_SAFE_NO_PAD.encode(exponent)),
                ("kty", "RSA".into()),
                ("n", URL_SAFE_NO_PAD.encode(modulus)),
            ],
        }
    }

    fn ed25519(point: &[u8]) -> Self {
        Self {
            required: vec![
                ("crv", "Ed25519".into()),
                ("kty", "OKP".into()),
                ("x", URL_SAFE_NO_PAD.encode(point)),
            ],
        }
    }

    /// RFC 7638 §3: required members only, in lexical order, without space. No value needs escaping.
    pub(super) fn thumbprint(&self) -> String {
        let members = self
            .required
            .iter()
            .map(|(name, value)| format!(r#""{name}":"{value}""#));
        let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
    }

    fn jwk(&self, algorithm: SigningAlgorithm, id: &str) -> serde_json::Value {
        let common = [("alg", algorithm.name()), ("use", "sig"), ("kid", id)];
        let required = self.required.iter().map(|(name, value)| (*name, value.as_str()));
        let members = required
            .chain(common)
            .map(|(name, value)| (name.to_owned(), value.into()));
        serde_json::Value::Object(members.collect())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl NotSigned {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Failed => Reason::Internal,
            Self::Late => Reason::BrokerOverloaded,
        }
    }
}

impl From<CryptoError> for NotSigned {
    fn from(CryptoError: CryptoError) -> Self {
        Self::Failed
    }
}

impl fmt::Display for NotSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the signing key does not sign",
            Self::Late => "the PKCS#11 token has not signed in time",
        })
    }
}

impl std::error::Error for NotSigned {}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected ES256, RS256 or EdDSA")
    }
}

impl std::error::Error for UnknownAlgorithm {}
