//! Makes keys in a PKCS#11 token and signs with them there: they never leave it.
//!
//! One session for the process: signatures of one token are made one after the other. A session that fails is opened anew
//! once, for a token that was away.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use ring::digest;
use zeroize::Zeroizing;

use super::signing_key::{PublicKey, SigningAlgorithm, SigningKey};
use super::{CryptoError, random};
use crate::hexadecimal;

/// The token, and what opens it.
#[derive(Clone)]
pub struct HardwareConfig {
    /// The library that speaks to it.
    pub module: PathBuf,
    /// Its label.
    pub token: String,
    /// The PIN of its user.
    pub pin: Zeroizing<String>,
}

/// A token of which the user is logged in.
pub(super) struct Hardware {
    config: HardwareConfig,
    module: Pkcs11,
    session: Mutex<Option<Session>>,
}

/// A private key in the token.
pub(super) struct HardwareKey {
    hardware: Arc<Hardware>,
    algorithm: SigningAlgorithm,
    /// `CKA_ID` in hexadecimal.
    name: String,
}

/// Why the token does not do it. The text is the library's; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardwareError(String);

/// P-256, as the DER of its object identifier (RFC 5480 §2.1.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Bits of a new RSA key.
const RSA_BITS: u64 = 2048;
/// 65537
const RSA_EXPONENT: &[u8] = &[1, 0, 1];
/// What a person sees in the token.
const LABEL: &[u8] = b"kerbridge signing key";

impl Hardware {
    /// Loads the library and logs in.
    pub(super) fn open(config: &HardwareConfig) -> Result<Self, HardwareError> {
        let named = |error: Error| HardwareError(format!("{}: {error}", config.module.display()));
        let module = Pkcs11::new(&config.module).map_err(named)?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Somebody in this process had it before.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(named(error)),
        }
        let hardware = Self {
            config: config.clone(),
            module,
            session: Mutex::new(None),
        };
        hardware.with_session(|_| Ok(()))?;
        Ok(hardware)
    }

    fn log_in(&self) -> Result<Session, HardwareError> {
        let Self { config, module, .. } = self;
        let named = |error: Error| HardwareError(format!("the token {:?}: {error}", config.token));
        for slot in module.get_slots_with_initialized_token().map_err(named)? {
            if module.get_token_info(slot).map_err(named)?.label() != config.token {
                continue;
            }
            let session = module.open_rw_session(slot).map_err(named)?;
            let pin = AuthPin::new(config.pin.as_str().into());
            return match session.login(UserType::User, Some(&pin)) {
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
                Err(error) => Err(named(error)),
            };
        }
        Err(HardwareError(format!(
            "there is no token with the label {:?}",
            config.token
        )))
    }

    /// Does something in the session; where that fails, once more in a new one.
    fn with_session<T>(&self, work: impl Fn(&Session) -> Result<T, HardwareError>) -> Result<T, HardwareError> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*kept
            && let Ok(done) = work(session)
        {
            return Ok(done);
        }
        *kept = None;
        let session = self.log_in()?;
        let done = work(&session)?;
        *kept = Some(session);
        Ok(done)
    }

    /// Makes a key pair, and says its name.
    pub(super) fn generate(
        self: &Arc<Self>,
        algorithm: SigningAlgorithm,
    ) -> Result<(SigningKey, String), HardwareError> {
        let id = random::<16>().map_err(|error| HardwareError(error.to_string()))?;
        let about = [
            Attribute::Id(id.to_vec()),
            Attribute::Label(LABEL.to_vec()),
            Attribute::Token(true),
        ];
        let (mechanism, kind) = match algorithm {
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
        let mut public = kind;
        public.extend([Attribute::Private(false), Attribute::Verify(true)]);
        public.extend(about.clone());
        let mut private = vec![
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        private.extend(about);
        self.with_session(|session| Ok(session.generate_key_pair(&mechanism, &public, &private)?))?;
        let name = hexadecimal::digits(id.as_ref());
        Ok((HardwareKey::find(self, algorithm, &name)?, name))
    }

    /// Takes a key out of the token.
    pub(super) fn destroy(&self, name: &str) -> Result<(), HardwareError> {
        self.with_session(|session| {
            for object in session.find_objects(&[id_of(name)?])? {
                session.destroy_object(object)?;
            }
            Ok(())
        })
    }
}

impl HardwareKey {
    /// The key of a name, both halves of which must be there.
    pub(super) fn find(
        hardware: &Arc<Hardware>,
        algorithm: SigningAlgorithm,
        name: &str,
    ) -> Result<SigningKey, HardwareError> {
        let key = Self {
            hardware: Arc::clone(hardware),
            algorithm,
            name: name.to_owned(),
        };
        let public = hardware.with_session(|session| {
            key.object(session, ObjectClass::PRIVATE_KEY)?;
            key.public(session)
        })?;
        Ok(SigningKey::in_hardware(algorithm, &public, key))
    }

    fn object(&self, session: &Session, class: ObjectClass) -> Result<ObjectHandle, HardwareError> {
        let found = session.find_objects(&[id_of(&self.name)?, Attribute::Class(class)])?;
        match found.as_slice() {
            [object] => Ok(*object),
            [] => Err(HardwareError(format!(
                "the token holds no {class} with the identifier {}",
                self.name
            ))),
            [_, _, ..] => Err(HardwareError(format!("the token holds several of {}", self.name))),
        }
    }

    fn public(&self, session: &Session) -> Result<PublicKey, HardwareError> {
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
            (Some(point), _, _) => match point.strip_prefix(&[0x04, 0x41]).map(PublicKey::p256) {
                Some(Ok(public)) => Ok(public),
                Some(Err(CryptoError)) | None => Err(HardwareError("the public key is no point of P-256".into())),
            },
            (None, Some(modulus), Some(exponent)) => {
                let modulus = without_zeros(&modulus);
                if modulus.len() < 256 {
                    return Err(HardwareError("the RSA key has less than 2048 bits".into()));
                }
                Ok(PublicKey::rsa(modulus, without_zeros(&exponent)))
            }
            (None, _, _) => Err(HardwareError("the token does not say the public key".into())),
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let signed = self.hardware.with_session(|session| {
            let key = self.object(session, ObjectClass::PRIVATE_KEY)?;
            Ok(match self.algorithm {
                SigningAlgorithm::Es256 => {
                    let hash = digest::digest(&digest::SHA256, message);
                    session.sign(&Mechanism::Ecdsa, key, hash.as_ref())?
                }
                SigningAlgorithm::Rs256 => session.sign(&Mechanism::Sha256RsaPkcs, key, message)?,
                SigningAlgorithm::EdDsa => return Err(no_eddsa()),
            })
        });
        signed.map_err(|error| {
            tracing::error!(%error, "the PKCS#11 token does not sign");
            CryptoError
        })
    }
}

fn no_eddsa() -> HardwareError {
    HardwareError("EdDSA is not to be had from a token".into())
}

fn id_of(name: &str) -> Result<Attribute, HardwareError> {
    let pairs = name.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| {
        std::str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    let id: Option<Vec<u8>> = bytes.collect();
    id.map(Attribute::Id)
        .ok_or_else(|| HardwareError(format!("{name:?} is no identifier")))
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

impl From<Error> for HardwareError {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for HardwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HardwareError {}

impl fmt::Debug for HardwareConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HardwareConfig")
            .field("module", &self.module)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
