//! Makes keys in a PKCS#11 token and signs with them there: they never leave it.
//!
//! One thread and one session for the process: what is asked of the token is done there, one after the other. A token that hangs
//! keeps that thread, and nobody waits for it for longer than he has time. A session that fails is opened anew once, for a token
//! that was away.

mod pair;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use zeroize::Zeroizing;

use self::pair::Pair;
use super::random;
use super::signing_key::{NotSigned, PublicKey, SigningAlgorithm, SigningKey};
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
pub(super) struct Hardware {
    thread: WorkPool<Token>,
    /// The name of a key pair that was asked for and not had: the token may have made it all the same. The next one has this name.
    begun: Mutex<Option<String>>,
}

/// A token of which the user is logged in while there is a session.
struct Token {
    config: HardwareConfig,
    module: Pkcs11,
    session: Option<Session>,
    /// Why the PIN was refused. Nothing tries it again: tokens lock their user after a few.
    refused: Option<HardwareError>,
}

/// A private key in the token.
pub(super) struct HardwareKey {
    hardware: Arc<Hardware>,
    pair: Pair,
}

/// Why the token does not do it. The text is the library's; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardwareError(String);

/// Signatures that may wait for their turn.
const QUEUE: usize = 256;
/// How long whoever starts, or makes and destroys keys, waits for the token. Some take many seconds for an RSA key.
const PATIENCE: Duration = Duration::from_secs(60);

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
            refused: None,
        };
        let pool = WorkPool::start("pkcs11", vec![move || token], QUEUE, Gauge::default());
        let hardware = Self {
            thread: pool.map_err(|error| HardwareError(error.to_string()))?,
            begun: Mutex::new(None),
        };
        hardware.wait(|_| Ok(()))?;
        Ok(hardware)
    }

    /// Does something in the session, for whoever may wait.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Fn(&Session) -> Result<T, HardwareError> + Send + 'static,
    ) -> Result<T, HardwareError> {
        match self.thread.wait(PATIENCE, move |token| token.with_session(work)) {
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
        let done = self.thread.run(move |token| token.with_session(work));
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
    fn log_in(&mut self) -> Result<Session, HardwareError> {
        let Self {
            config,
            module,
            refused,
            ..
        } = self;
        if let Some(refused) = refused {
            return Err(refused.clone());
        }
        let named = |error: Error| HardwareError(format!("the token {:?}: {error}", config.token));
        for slot in module.get_slots_with_initialized_token().map_err(named)? {
            if module.get_token_info(slot).map_err(named)?.label() != config.token {
                continue;
            }
            let session = module.open_rw_session(slot).map_err(named)?;
            let pin = AuthPin::new(config.pin.0.as_str().into());
            let Err(error) = session.login(UserType::User, Some(&pin)) else {
                return Ok(session);
            };
            if let Error::Pkcs11(RvError::UserAlreadyLoggedIn, _) = error {
                return Ok(session);
            }
            if is_of_pin(&error) {
                let problem = format!(
                    "the token {:?} does not take the PIN, which is not tried again until a restart: {error}",
                    config.token
                );
                return Err(refused.insert(HardwareError(problem)).clone());
            }
            return Err(named(error));
        }
        Err(HardwareError(format!(
            "there is no token with the label {:?}",
            config.token
        )))
    }

    /// Does something in the session; where that fails, once more in a new one: the token may have done it the first time.
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
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match &*begun {
            Some(name) => name.clone(),
            None => {
                let id = random::<16>().map_err(|error| HardwareError(error.to_string()))?;
                begun.insert(hexadecimal::digits(id.as_ref())).clone()
            }
        };
        let key = HardwareKey::of(self, Pair::new(algorithm, name.clone()), Pair::made)?;
        *begun = None;
        Ok((key, name))
    }

    /// Takes a key out of the token.
    pub(super) fn destroy(&self, name: &str) -> Result<(), HardwareError> {
        // What is destroyed is the same whatever it is for.
        let pair = Pair::new(SigningAlgorithm::default(), name.to_owned());
        self.wait(move |session| pair.destroy(session))
    }
}

impl HardwareKey {
    /// The key of a name, of which both halves must be there and belong together.
    pub(super) fn find(
        hardware: &Arc<Hardware>,
        algorithm: SigningAlgorithm,
        name: &str,
    ) -> Result<SigningKey, HardwareError> {
        Self::of(hardware, Pair::new(algorithm, name.to_owned()), Pair::proven)
    }

    fn of(
        hardware: &Arc<Hardware>,
        pair: Pair,
        public: fn(&Pair, &Session) -> Result<PublicKey, HardwareError>,
    ) -> Result<SigningKey, HardwareError> {
        let asked = pair.clone();
        let public = hardware.wait(move |session| public(&asked, session))?;
        let (algorithm, hardware) = (pair.algorithm(), Arc::clone(hardware));
        Ok(SigningKey::in_hardware(algorithm, &public, Self { hardware, pair }))
    }

    /// Signs, if the token does it by then.
    pub(super) async fn sign(&self, message: &[u8], until: Instant) -> Result<Vec<u8>, NotSigned> {
        let (pair, message) = (self.pair.clone(), message.to_vec());
        self.hardware
            .run(until, move |session| pair.sign(session, &message))
            .await
    }
}

/// Whether it is the PIN, so that the same one is refused the next time.
const fn is_of_pin(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked,
            _
        )
    )
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
