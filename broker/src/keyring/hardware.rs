//! Makes keys in a PKCS#11 token and signs with them there: they never leave it.
//!
//! One thread and one session for the process: what is asked of the token is done there, one after the other. A token that hangs
//! keeps that thread, and nobody waits for it for longer than he has time. A session that fails is opened anew once, for a token
//! that was away.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use prometheus_client::metrics::gauge::Gauge;
use ring::digest;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::signing_key::{NotSigned, PublicKey, SigningAlgorithm, SigningKey};
use super::{CryptoError, random};
use crate::hexadecimal;
use crate::work_pool::{NotDone, WorkPool};

/// The token, and what opens it.
#[derive(Clone, Debug)]
pub struct HardwareConfig {
    /// The library that speaks to it.
    pub module: PathBuf,
    /// Its label.
    pub token: String,
    /// The PIN of its user.
    pub pin: Pin,
}

/// A PIN, which does not show itself and is wiped when it goes.
#[derive(Clone)]
pub struct Pin(Zeroizing<String>);

/// The thread that speaks to a token.
pub(super) struct Hardware(WorkPool<Token>);

/// A token of which the user is logged in while there is a session.
struct Token {
    config: HardwareConfig,
    module: Pkcs11,
    session: Option<Session>,
}

/// A private key in the token.
pub(super) struct HardwareKey {
    hardware: Arc<Hardware>,
    place: Place,
}

/// Where a key pair is in the token, and what for.
#[derive(Clone)]
struct Place {
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
/// Signatures that may wait for their turn.
const QUEUE: usize = 256;
/// How long whoever starts, or makes and destroys keys, waits for the token. Some take many seconds for an RSA key.
const PATIENCE: Duration = Duration::from_secs(60);
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
        let token = Token {
            config: config.clone(),
            module,
            session: None,
        };
        let pool = WorkPool::start("pkcs11", vec![move || token], QUEUE, Gauge::default());
        let hardware = Self(pool.map_err(|error| HardwareError(error.to_string()))?);
        hardware.wait(|_| Ok(()))?;
        Ok(hardware)
    }

    /// Does something in the session, for whoever may wait.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Fn(&Session) -> Result<T, HardwareError> + Send + 'static,
    ) -> Result<T, HardwareError> {
        match self.0.wait(PATIENCE, move |token| token.with_session(work)) {
            Some(Ok(outcome)) => outcome,
            Some(Err(not_done)) => Err(HardwareError(format!("the token: {not_done}"))),
            None => Err(HardwareError(format!(
                "the token does not answer within {} s",
                PATIENCE.as_secs()
            ))),
        }
    }

    /// The same, for whoever has until then.
    async fn run<T: Send + 'static>(
        &self,
        until: Instant,
        work: impl Fn(&Session) -> Result<T, HardwareError> + Send + 'static,
    ) -> Result<T, NotSigned> {
        let done = self.0.run(move |token| token.with_session(work));
        match tokio::time::timeout_at(until, done).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "the PKCS#11 token does not sign");
                Err(NotSigned::Failed)
            }
            Ok(Err(NotDone::Full)) | Err(_) => {
                tracing::error!("the PKCS#11 token does not sign in time");
                Err(NotSigned::Late)
            }
            Ok(Err(NotDone::Panicked | NotDone::Ended)) => Err(NotSigned::Failed),
        }
    }
}

impl Token {
    fn log_in(&self) -> Result<Session, HardwareError> {
        let Self { config, module, .. } = self;
        let named = |error: Error| HardwareError(format!("the token {:?}: {error}", config.token));
        for slot in module.get_slots_with_initialized_token().map_err(named)? {
            if module.get_token_info(slot).map_err(named)?.label() != config.token {
                continue;
            }
            let session = module.open_rw_session(slot).map_err(named)?;
            let pin = AuthPin::new(config.pin.0.as_str().into());
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
    fn with_session<T>(&mut self, work: impl Fn(&Session) -> Result<T, HardwareError>) -> Result<T, HardwareError> {
        if let Some(session) = &self.session
            && let Ok(done) = work(session)
        {
            return Ok(done);
        }
        self.session = None;
        let session = self.log_in()?;
        let done = work(&session)?;
        self.session = Some(session);
        Ok(done)
    }
}

impl Hardware {
    /// Makes a key pair, and says its name.
    pub(super) fn generate(
        self: &Arc<Self>,
        algorithm: SigningAlgorithm,
    ) -> Result<(SigningKey, String), HardwareError> {
        let id = random::<16>().map_err(|error| HardwareError(error.to_string()))?;
        let name = hexadecimal::digits(id.as_ref());
        self.wait(move |session| make(session, algorithm, id.as_ref()))?;
        Ok((HardwareKey::find(self, algorithm, &name)?, name))
    }

    /// Takes a key out of the token.
    pub(super) fn destroy(&self, name: &str) -> Result<(), HardwareError> {
        let id = id_of(name)?;
        self.wait(move |session| {
            for object in session.find_objects(std::slice::from_ref(&id))? {
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
        let place = Place {
            algorithm,
            name: name.to_owned(),
        };
        let looked_for = place.clone();
        let public = hardware.wait(move |session| {
            looked_for.object(session, ObjectClass::PRIVATE_KEY)?;
            looked_for.public(session)
        })?;
        let key = Self {
            hardware: Arc::clone(hardware),
            place,
        };
        Ok(SigningKey::in_hardware(algorithm, &public, key))
    }

    /// Signs, if the token does it by then.
    pub(super) async fn sign(&self, message: &[u8], until: Instant) -> Result<Vec<u8>, NotSigned> {
        let (place, message) = (self.place.clone(), message.to_vec());
        self.hardware
            .run(until, move |session| place.sign(session, &message))
            .await
    }
}

impl Place {
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

    fn sign(&self, session: &Session, message: &[u8]) -> Result<Vec<u8>, HardwareError> {
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
}

/// Makes a key pair that cannot be taken out.
fn make(session: &Session, algorithm: SigningAlgorithm, id: &[u8]) -> Result<(), HardwareError> {
    let about = [
        Attribute::Id(id.to_vec()),
        Attribute::Label(LABEL.to_vec()),
        Attribute::Token(true),
    ];
    let (mechanism, mut public) = match algorithm {
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

impl Pin {
    /// The PIN in a text, without the end of its line.
    pub fn of(text: &str) -> Self {
        Self(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_its_line_and_does_not_show_itself() {
        let config = HardwareConfig {
            module: "/lib/module.so".into(),
            token: "kerbridge".into(),
            pin: Pin::of("canary-1234\r\n"),
        };
        assert_eq!(config.pin.0.as_str(), "canary-1234");
        let shown = format!("{config:?}");
        assert!(shown.contains("module.so") && !shown.contains("1234"), "{shown}");
    }
}
