//! Builds public keys from their numbers and refuses those that no algorithm should trust; what `jwt-simple` is given.

use std::fmt;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::Error;
use jwt_simple::algorithms::{
    ECDSAP256PublicKeyLike, ECDSAP384PublicKeyLike, ES256PublicKey, ES384PublicKey, Ed25519PublicKey,
    EdDSAPublicKeyLike, PS256PublicKey, RS256PublicKey, RS384PublicKey, RS512PublicKey, RSAPublicKeyLike,
};
use jwt_simple::claims::{JWTClaims, NoCustomClaims};
use jwt_simple::common::VerificationOptions;
use jwt_simple::prelude::{Duration, UnixTimeStamp};
use kerbridge_wire::filter_config::Algorithm;

use crate::der;

/// A public key together with the one algorithm that it is for. Cheap to clone.
#[derive(Clone)]
pub struct VerifyingKey(Rc<Inner>);

struct Inner {
    key: Key,
    /// `SubjectPublicKeyInfo` in DER (RFC 5280 §4.1), which is the key's identity as well.
    spki: Vec<u8>,
    /// How many bytes at its end are the bit string that is the key itself.
    bits: usize,
    signature_length: usize,
}

enum Key {
    Es256(ES256PublicKey),
    Es384(ES384PublicKey),
    Rs256(RS256PublicKey),
    Rs384(RS384PublicKey),
    Rs512(RS512PublicKey),
    Ps256(PS256PublicKey),
    EdDsa(Ed25519PublicKey),
}

impl VerifyingKey {
    /// The ES256 key with these coordinates; `None` unless that is a point on P-256 (RFC 7518 §6.2.1).
    pub fn es256(x: &[u8; 32], y: &[u8; 32]) -> Option<Self> {
        let point = uncompressed(x, y);
        let key = Key::Es256(ES256PublicKey::from_bytes(&point).ok()?);
        Some(Self::new(key, der::p256_key(&point), point.len(), 64))
    }

    /// The ES384 key with these coordinates; `None` unless that is a point on P-384 (RFC 7518 §6.2.1).
    pub fn es384(x: &[u8; 48], y: &[u8; 48]) -> Option<Self> {
        let point = uncompressed(x, y);
        let key = Key::Es384(ES384PublicKey::from_bytes(&point).ok()?);
        Some(Self::new(key, der::p384_key(&point), point.len(), 96))
    }

    /// The EdDSA key of these bytes; `None` unless they are the canonical form of an Ed25519 point that is not of small
    /// order, under which anybody could sign (RFC 8037 §2, RFC 8032 §5.1.3).
    pub fn ed25519(bytes: &[u8; 32]) -> Option<Self> {
        let key = Key::EdDsa(Ed25519PublicKey::from_bytes(bytes).ok()?);
        Some(Self::new(key, der::ed25519_key(bytes), bytes.len(), 64))
    }

    /// The RSA key of this modulus and exponent, both big-endian, for this algorithm (RFC 7518 §6.3.1); `None` unless the
    /// modulus is odd and has 2,048 to 4,096 bits, the exponent is 65537, and the algorithm one of RSA.
    pub fn rsa(algorithm: Algorithm, modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let (n, e) = (
            der::without_leading_zeros(modulus),
            der::without_leading_zeros(exponent),
        );
        let key = match algorithm {
            Algorithm::Rs256 => Key::Rs256(RS256PublicKey::from_components(n, e).ok()?),
            Algorithm::Rs384 => Key::Rs384(RS384PublicKey::from_components(n, e).ok()?),
            Algorithm::Rs512 => Key::Rs512(RS512PublicKey::from_components(n, e).ok()?),
            Algorithm::Ps256 => Key::Ps256(PS256PublicKey::from_components(n, e).ok()?),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
        };
        let numbers = der::rsa_numbers(n, e);
        Some(Self::new(key, der::rsa_key(&numbers), numbers.len(), n.len()))
    }

    fn new(key: Key, spki: Vec<u8>, bits: usize, signature_length: usize) -> Self {
        Self(Rc::new(Inner {
            key,
            spki,
            bits,
            signature_length,
        }))
    }

    /// The algorithm that this key is for; never what a token says.
    pub fn algorithm(&self) -> Algorithm {
        match self.0.key {
            Key::Es256(_) => Algorithm::Es256,
            Key::Es384(_) => Algorithm::Es384,
            Key::Rs256(_) => Algorithm::Rs256,
            Key::Rs384(_) => Algorithm::Rs384,
            Key::Rs512(_) => Algorithm::Rs512,
            Key::Ps256(_) => Algorithm::Ps256,
            Key::EdDsa(_) => Algorithm::EdDsa,
        }
    }

    /// The only length of a signature by this key, in bytes: r and s of full width (RFC 7518 §3.4), the modulus (RFC 8017
    /// §8), 64 for Ed25519.
    pub fn signature_length(&self) -> usize {
        self.0.signature_length
    }

    /// The key as `SubjectPublicKeyInfo` in DER.
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// The bit string in it: the uncompressed point (RFC 5480 §2.2), the numbers of RSA in DER (RFC 8017 §A.1.1), the 32 bytes of
    /// Ed25519 (RFC 8410 §4).
    pub fn bits(&self) -> &[u8] {
        let head = self.0.spki.len().saturating_sub(self.0.bits);
        self.0.spki.get(head..).unwrap_or_default()
    }

    /// Whether this is a signature of header and payload part with the dot between them (RFC 7515 §5.2). Says nothing of
    /// what stands in them: sizes, header and claims are the caller's to judge.
    pub fn verify(&self, signed: &str, signature: &[u8]) -> bool {
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        // jwt-simple has no check of the signature alone. These options switch its own claims check off, which takes
        // tokens without `exp` and forgives 15 minutes.
        let options = VerificationOptions {
            accept_future: true,
            artificial_time: Some(UnixTimeStamp::from_secs(0)),
            time_tolerance: Some(Duration::from_secs(0)),
            max_validity: None,
            max_token_length: None,
            max_header_length: Some(signed.len()),
            ..VerificationOptions::default()
        };
        self.verify_token(&token, options).is_ok()
    }

    /// Runs the check of `jwt-simple` for this key's algorithm.
    fn verify_token(&self, token: &str, options: VerificationOptions) -> Result<JWTClaims<NoCustomClaims>, Error> {
        let options = Some(options);
        match &self.0.key {
            Key::Es256(key) => key.verify_token(token, options),
            Key::Es384(key) => key.verify_token(token, options),
            Key::Rs256(key) => key.verify_token(token, options),
            Key::Rs384(key) => key.verify_token(token, options),
            Key::Rs512(key) => key.verify_token(token, options),
            Key::Ps256(key) => key.verify_token(token, options),
            Key::EdDsa(key) => key.verify_token(token, options),
        }
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0) || (self.algorithm() == other.algorithm() && self.0.spki == other.0.spki)
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm().name())
    }
}

/// SEC 1 §2.3.3, the form that no parser has to decompress.
fn uncompressed(x: &[u8], y: &[u8]) -> Vec<u8> {
    [[4].as_slice(), x, y].concat()
}
