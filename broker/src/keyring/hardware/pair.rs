//! Makes one key pair in a token, finds it by its name, signs with it, and destroys it.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use ring::digest;
use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::HardwareError;
use crate::keyring::CryptoError;
use crate::keyring::signing_key::{PublicKey, SigningAlgorithm};

/// A key pair of the token.
#[derive(Clone)]
pub(super) struct Pair {
    algorithm: SigningAlgorithm,
    /// `CKA_ID` in hexadecimal.
    name: String,
}

/// The half that the token tells.
enum PublicHalf {
    /// An uncompressed point of P-256.
    Point(Vec<u8>),
    /// Modulus and exponent, without leading zeros.
    Rsa(PublicKeyComponents<Vec<u8>>),
}

/// P-256, as the DER of its object identifier (RFC 5480 §2.1.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Bits of a new RSA key.
const RSA_BITS: u64 = 2048;
/// 65537
const RSA_EXPONENT: &[u8] = &[1, 0, 1];
/// What a person sees in the token.
const LABEL: &[u8] = b"kerbridge signing key";
/// What is signed as a proof. It is no JWS: those have dots in them.
const PROBE: &[u8] = b"kerbridge: both halves are of one key";

impl Pair {
    pub(super) const fn new(algorithm: SigningAlgorithm, name: String) -> Self {
        Self { algorithm, name }
    }

    pub(super) const fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// The public half of the pair that an earlier try has made, or of one that is made now and cannot be taken out. Half of one
    /// goes first.
    pub(super) fn made(&self, session: &Session) -> Result<PublicKey, HardwareError> {
        if let Ok(public) = self.proven(session) {
            return Ok(public);
        }
        self.destroy(session)?;
        self.make(session)?;
        self.proven(session)
    }

    fn make(&self, session: &Session) -> Result<(), HardwareError> {
        let about = [self.id()?, Attribute::Label(LABEL.to_vec()), Attribute::Token(true)];
        let (mechanism, mut public) = match self.algorithm {
            SigningAlgorithm::Es256 => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(P256.to_vec())]),
            SigningAlgorithm::Rs256 => (
                Mechanism::RsaPkcsKeyPairGen,
                vec![
                    Attribute::ModulusBits(RSA_BITS.into()),
                    Attribute::PublicExponent(RSA_EXPONENT.to_vec()),
                ],
            ),
            SigningAlgorithm::EdDsa => return Err(no_eddsa()),
        };
        public.extend([Attribute::Private(false), Attribute::Verify(true)]);
        public.extend(about.clone());
        let mut private = vec![
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        private.extend(about);
        session.generate_key_pair(&mechanism, &public, &private)?;
        Ok(())
    }

    /// Takes all of it out of the token, where any is there.
    pub(super) fn destroy(&self, session: &Session) -> Result<(), HardwareError> {
        for object in session.find_objects(&[self.id()?])? {
            session.destroy_object(object)?;
        }
        Ok(())
    }

    /// The public half, once it has verified what the private half signs: a token may hold halves of two keys under one name.
    pub(super) fn proven(&self, session: &Session) -> Result<PublicKey, HardwareError> {
        let public = self.public(session)?;
        if public.verifies(PROBE, &self.sign(session, PROBE)?) {
            public.key()
        } else {
            Err(HardwareError(format!(
                "what the private key {} signs does not verify with its public key",
                self.name
            )))
        }
    }

    pub(super) fn sign(&self, session: &Session, message: &[u8]) -> Result<Vec<u8>, HardwareError> {
        let key = self.object(session, ObjectClass::PRIVATE_KEY)?;
        Ok(match self.algorithm {
            SigningAlgorithm::Es256 => {
                let hash = digest::digest(&digest::SHA256, message);
                session.sign(&Mechanism::Ecdsa, key, hash.as_ref())?
            }
            SigningAlgorithm::Rs256 => session.sign(&Mechanism::Sha256RsaPkcs, key, message)?,
            SigningAlgorithm::EdDsa => return Err(no_eddsa()),
        })
    }

    fn object(&self, session: &Session, class: ObjectClass) -> Result<ObjectHandle, HardwareError> {
        let found = session.find_objects(&[self.id()?, Attribute::Class(class)])?;
        match found.as_slice() {
            [object] => Ok(*object),
            [] => Err(HardwareError(format!(
                "the token holds no {class} with the identifier {}",
                self.name
            ))),
            [_, _, ..] => Err(HardwareError(format!("the token holds several of {}", self.name))),
        }
    }

    fn public(&self, session: &Session) -> Result<PublicHalf, HardwareError> {
        let object = self.object(session, ObjectClass::PUBLIC_KEY)?;
        let wanted = [
            AttributeType::EcPoint,
            AttributeType::Modulus,
            AttributeType::PublicExponent,
        ];
        let (mut point, mut modulus, mut exponent) = (None, None, None);
        let wanted = match self.algorithm {
            SigningAlgorithm::Es256 => wanted.get(..1),
            SigningAlgorithm::Rs256 => wanted.get(1..),
            SigningAlgorithm::EdDsa => return Err(no_eddsa()),
        };
        for attribute in session.get_attributes(object, wanted.unwrap_or_default())? {
            #[expect(clippy::wildcard_enum_match_arm, reason = "others were not asked for")]
            match attribute {
                Attribute::EcPoint(bytes) => point = Some(bytes),
                Attribute::Modulus(bytes) => modulus = Some(bytes),
                Attribute::PublicExponent(bytes) => exponent = Some(bytes),
                _ => {}
            }
        }
        match (point, modulus, exponent) {
            // An OCTET STRING in DER (PKCS#11 §6.3.3) of 65 bytes.
            (Some(point), _, _) => match point.strip_prefix(&[0x04, 0x41]) {
                Some(point) => Ok(PublicHalf::Point(point.to_vec())),
                None => Err(no_point()),
            },
            (None, Some(n), Some(e)) => {
                let (n, e) = (without_zeros(&n).to_vec(), without_zeros(&e).to_vec());
                if n.len() < 256 {
                    return Err(HardwareError("the RSA key has less than 2048 bits".into()));
                }
                Ok(PublicHalf::Rsa(PublicKeyComponents { n, e }))
            }
            (None, _, _) => Err(HardwareError("the token does not say the public key".into())),
        }
    }

    fn id(&self) -> Result<Attribute, HardwareError> {
        let pairs = self.name.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let id: Option<Vec<u8>> = bytes.collect();
        id.map(Attribute::Id)
            .ok_or_else(|| HardwareError(format!("{:?} is no identifier", self.name)))
    }
}

impl PublicHalf {
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Point(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
        }
        .is_ok()
    }

    fn key(&self) -> Result<PublicKey, HardwareError> {
        match self {
            Self::Point(point) => PublicKey::p256(point).map_err(|CryptoError| no_point()),
            Self::Rsa(PublicKeyComponents { n, e }) => Ok(PublicKey::rsa(n, e)),
        }
    }
}

fn no_point() -> HardwareError {
    HardwareError("the public key is no point of P-256".into())
}

fn no_eddsa() -> HardwareError {
    HardwareError("EdDSA is not to be had from a token".into())
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
