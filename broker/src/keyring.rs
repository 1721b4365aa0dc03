//! Keeps the keys that sign tokens and name sessions: made on the first start, replaced by the schedule or a command, sealed on
//! disk, never begun anew over what cannot be read.
//!
//! What is in use is swapped whole, and only after the disk has it: a key never signs that a restart would not know, and one that
//! was taken out does not come back. A file that cannot be read stops the start: to make new keys over old ones would end every
//! session without anybody having wanted it.

mod content;
mod error;
mod file;
mod format_1;
mod hardware;
mod key_encryption;
mod place;
mod rotation;
mod signing_key;
mod stages;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_wire::Span;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use error::{ChangeError, CryptoError, RotateError};
pub use file::KeyringError;
pub use hardware::{HardwareConfig, HardwareError, Pin};
pub use key_encryption::{KekId, KeyEncryptionKey};
pub use place::KeyringPlace;
pub use rotation::{By, follow_schedule};
pub use signing_key::{NotSigned, SigningAlgorithm, SigningKey, UnknownAlgorithm};
pub use stages::{MOST_KEYS, Stage};

use self::content::{Content, Held, Seal, SessionsKey};
use self::file::KeyFile;
use self::hardware::Hardware;
use self::place::{Place, Stamp};
use self::stages::{Entry, Ring};
use crate::subject_token::{Author, VerifiedToken};
use crate::time::UnixTime;

/// Name of the file in the state directory.
pub const FILE: &str = "keyring.json";
/// How long keys are published that could not be compared with what other brokers have written, as revocations are trusted.
const CURRENT_FOR: Duration = Duration::from_secs(30);

/// How keys are made, and when.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// What new keys are for.
    pub algorithm: SigningAlgorithm,
    /// How long a key signs; `None` is until a command.
    pub every: Option<Span>,
    /// How long a key is published before it signs.
    pub lead: Span,
    /// Where new keys are; in the file where absent.
    pub hardware: Option<HardwareConfig>,
}

/// The keys in use. Clones are the same keys.
#[derive(Clone)]
pub struct KeyRing(Arc<Shared>);

struct Shared {
    place: Place,
    /// Opens what another broker wrote.
    key: KeyEncryptionKey,
    rotation: Rotation,
    hardware: Option<Arc<Hardware>>,
    /// From when on it has published what it holds.
    started: UnixTime,
    /// Who changes anything holds it, and with it the file.
    kept: Mutex<Kept>,
    /// What opens them, for those who must not wait for a database.
    keks: Mutex<Vec<KekId>>,
    seen: watch::Sender<Arc<Seen>>,
    /// When a database was asked last, and answered.
    refreshed: Mutex<Instant>,
}

/// What was written down last.
struct Kept {
    seal: Seal,
    stamp: Stamp,
    /// Keys that were made for changes that failed: whether what is written down names them is not known.
    spares: Vec<Held>,
}

/// What is in use at a moment.
pub struct Seen {
    ring: Ring<Held>,
    sessions: SessionsKey,
    jwks: Box<str>,
}

/// A signing key as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// `kid`
    pub id: String,
    /// What it is for.
    pub algorithm: SigningAlgorithm,
    /// When it was published first.
    pub published: UnixTime,
    /// Where it stands.
    pub stage: Stage,
    /// Whether it is in a PKCS#11 token.
    pub in_hardware: bool,
}

/// Which service ticket somebody came with: the same for all exchanges of one ticket, and of the tokens that were had for it.
/// 22 characters of base64url.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl Default for Rotation {
    fn default() -> Self {
        Self {
            algorithm: SigningAlgorithm::default(),
            every: None,
            lead: Span::FIFTEEN_MINUTES,
            hardware: None,
        }
    }
}

impl KeyRing {
    /// Opens the keys of a place, or makes them where there are none yet. A file of the format before is brought up to this one.
    pub fn start(
        place: impl Into<KeyringPlace>,
        key: &KeyEncryptionKey,
        rotation: &Rotation,
        now: UnixTime,
    ) -> Result<Self, KeyringError> {
        let place = Place::of(&place.into());
        let hardware = open_hardware(rotation, place.path())?;
        let mut first = None;
        if !place.exists()? {
            let held = make(rotation, hardware.as_ref(), place.path())?;
            let content = Content {
                ring: Ring::new(held.clone(), now),
                sessions: SessionsKey::generate()?,
            };
            let created = place.create(&Seal::new(key)?.seal(&content)?);
            if created.is_err() && matches!(place.exists(), Ok(false)) {
                destroy(&held, hardware.as_ref());
            }
            created?;
            first = Some(held);
        }
        let (ring, format) = Self::read(place, hardware, key, rotation, now)?;
        // Of two first starts at once the keys are those of the other.
        if let Some(first) = first
            && !ring.seen().ring.has(|held| held.key.id() == first.key.id())
        {
            destroy(&first, ring.0.hardware.as_ref());
        }
        if format != content::FORMAT {
            ring.0.place.keep_aside(format)?;
            ring.write_anew()?;
        }
        Ok(ring)
    }

    /// Whether there are keys in a place.
    pub fn exists(place: impl Into<KeyringPlace>) -> Result<bool, KeyringError> {
        Place::of(&place.into()).exists()
    }

    /// Opens the keys of a place where there are some, and otherwise only what they would be made in; makes none.
    pub fn check(
        place: impl Into<KeyringPlace>,
        key: &KeyEncryptionKey,
        rotation: &Rotation,
    ) -> Result<(), KeyringError> {
        let place = place.into();
        let at = Place::of(&place);
        if at.exists()? {
            Self::open(place, key, rotation, UnixTime::default())?;
        } else {
            // The first keys will be made in it.
            open_hardware(rotation, at.path())?;
        }
        Ok(())
    }

    /// Opens the keys of a place, and writes nothing until something is to be changed.
    pub fn open(
        place: impl Into<KeyringPlace>,
        key: &KeyEncryptionKey,
        rotation: &Rotation,
        now: UnixTime,
    ) -> Result<Self, KeyringError> {
        let place = Place::of(&place.into());
        let hardware = open_hardware(rotation, place.path())?;
        Ok(Self::read(place, hardware, key, rotation, now)?.0)
    }

    /// The keys of a place, and the format in which they stand there.
    fn read(
        place: Place,
        hardware: Option<Arc<Hardware>>,
        key: &KeyEncryptionKey,
        rotation: &Rotation,
        now: UnixTime,
    ) -> Result<(Self, u32), KeyringError> {
        let (file, stamp) = place.read()?;
        let (seal, content, format) = open(place.path(), file, key, hardware.as_ref(), now)?;
        let ring = Self(Arc::new(Shared {
            place,
            key: key.clone(),
            rotation: rotation.clone(),
            hardware,
            started: now,
            keks: Mutex::new(seal.keks()),
            kept: Mutex::new(Kept {
                seal,
                stamp,
                spares: Vec::new(),
            }),
            seen: watch::Sender::new(Arc::new(Seen::of(content))),
            refreshed: Mutex::new(Instant::now()),
        }));
        Ok((ring, format))
    }

    /// Takes over what another broker has written since, and says whether there was anything.
    pub fn refresh(&self, now: UnixTime) -> Result<bool, KeyringError> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = self.0.place.read_newer(kept.stamp)?;
        let Some((file, stamp)) = newer else {
            self.note_refreshed();
            return Ok(false);
        };
        let opened = open(self.0.place.path(), file, &self.0.key, self.0.hardware.as_ref(), now)?;
        let (seal, content, _) = opened;
        *self.0.keks.lock().unwrap_or_else(PoisonError::into_inner) = seal.keks();
        kept.seal = seal;
        kept.stamp = stamp;
        // A change that seemed to fail may have been written down after all.
        kept.spares
            .retain(|spare| !content.ring.has(|held| held.key.id() == spare.key.id()));
        self.0.seen.send_replace(Arc::new(Seen::of(content)));
        self.note_refreshed();
        tracing::info!("another broker changed the signing keys, and they are in use here");
        Ok(true)
    }

    fn note_refreshed(&self) {
        *self.0.refreshed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing has been known of what other brokers did with the keys; nothing where there are no others.
    fn unheard(&self) -> Duration {
        match self.0.place {
            Place::File(_) => Duration::ZERO,
            Place::Row(..) => self
                .0
                .refreshed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed(),
        }
    }

    /// Whether these are the keys: another broker may have retired one that this one, cut off from it, still has.
    pub fn is_current(&self) -> bool {
        self.unheard() <= CURRENT_FOR
    }

    fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.0.seen.borrow())
    }

    /// The key that signs.
    pub fn signing(&self) -> Arc<SigningKey> {
        Arc::clone(&self.seen().ring.signing().key)
    }

    /// The public keys, as a set (RFC 7517 §5).
    pub fn jwks(&self) -> String {
        self.seen().jwks().to_owned()
    }

    /// Tells of each change of the keys, and says what is in use from then on.
    pub fn news(&self) -> watch::Receiver<Arc<Seen>> {
        self.0.seen.subscribe()
    }

    /// All keys that are published: the one that signs, the next, then those that did, the newest first.
    pub fn list(&self) -> Vec<KeyState> {
        let entries = self.seen().ring.entries().into_iter();
        let state = |Entry { key, published, stage }: Entry<Held>| KeyState {
            id: key.key.id().to_owned(),
            algorithm: key.key.algorithm(),
            published,
            stage,
            in_hardware: key.hardware_name().is_some(),
        };
        entries.map(state).collect()
    }

    /// The names of the key-encryption keys that open the file: more than one while one takes the other's place.
    pub fn keks(&self) -> Vec<KekId> {
        self.0.keks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names the session that a service ticket is: the first 128 bits of an HMAC over its ciphertext.
    pub fn session(&self, ticket: &[u8]) -> SessionId {
        SessionId::of(&hmac::sign(&self.seen().sessions.key, ticket))
    }

    /// Names the session of another issuer's token, by what is the same for all tokens of it: texts with their lengths, so that
    /// no two sessions are named by the same bytes.
    pub fn foreign_session(&self, issuer: &str, session: &str) -> SessionId {
        let mut named = hmac::Context::with_key(&self.seen().sessions.key);
        for text in ["another issuer's session", issuer, session] {
            named.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            named.update(text.as_bytes());
        }
        SessionId::of(&named.sign())
    }

    /// Those of a test, made at 1000 and never replaced by themselves.
    #[cfg(test)]
    pub(crate) fn open_or_create(state_dir: &Path, key: &KeyEncryptionKey) -> Result<Self, KeyringError> {
        Self::start(state_dir, key, &Rotation::default(), UnixTime::from_seconds(1000))
    }
}

impl Seen {
    /// The public keys, as a set (RFC 7517 §5).
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    fn of(Content { ring, sessions }: Content) -> Self {
        let keys: Vec<_> = ring.entries().iter().map(|entry| entry.key.key.jwk().clone()).collect();
        Self {
            jwks: serde_json::json!({ "keys": keys }).to_string().into(),
            ring,
            sessions,
        }
    }
}

fn open_hardware(rotation: &Rotation, path: &Path) -> Result<Option<Arc<Hardware>>, KeyringError> {
    let opened = rotation.hardware.as_ref().map(Hardware::open).transpose();
    opened
        .map(|hardware| hardware.map(Arc::new))
        .map_err(|error| KeyringError::hardware(path, &error))
}

/// A new key, as they are to be made.
fn make(rotation: &Rotation, hardware: Option<&Arc<Hardware>>, path: &Path) -> Result<Held, KeyringError> {
    match hardware {
        None => Ok(Held::generate(rotation.algorithm)?),
        Some(hardware) => hardware
            .generate(rotation.algorithm)
            .map(|(key, name)| Held::in_hardware(key, name))
            .map_err(|error| KeyringError::hardware(path, &error)),
    }
}

/// Takes a key that nobody needs out of its hardware.
fn destroy(held: &Held, hardware: Option<&Arc<Hardware>>) {
    if let (Some(hardware), Some(name)) = (hardware, held.hardware_name())
        && let Err(error) = hardware.destroy(name)
    {
        tracing::warn!(kid = held.key.id(), %error, "a key that is out of use is still in its token");
    }
}

/// What a file holds, and its format.
fn open(
    path: &Path,
    file: KeyFile,
    key: &KeyEncryptionKey,
    hardware: Option<&Arc<Hardware>>,
    now: UnixTime,
) -> Result<(Seal, Content, u32), KeyringError> {
    let corrupt = |what| KeyringError::Corrupt {
        path: path.to_owned(),
        what,
    };
    match file {
        KeyFile::Two(file) => {
            let opened = file.open(key, hardware);
            let (seal, content) = opened.map_err(|why| KeyringError::unopened(path, why, key.id()))?;
            Ok((seal, content, file.format))
        }
        KeyFile::One(file) => {
            let keys = file.open(key).map_err(|why| match why {
                format_1::Unopened::Keys => corrupt("it has not one key of each"),
                format_1::Unopened::Seal => KeyringError::AnotherKey {
                    path: path.to_owned(),
                    opened_by: Vec::new(),
                    tried: key.id().clone(),
                },
            })?;
            let held = Held::known(SigningAlgorithm::Es256, &keys.signing);
            let held = held.map_err(|CryptoError| corrupt("its signing key is no P-256 key"))?;
            if held.key.id() != keys.signing_id {
                return Err(corrupt("its signing key has another identifier"));
            }
            if keys.sessions.len() != 32 {
                return Err(corrupt("its session key is not 32 bytes long"));
            }
            let content = Content {
                ring: Ring::new(held, now),
                sessions: SessionsKey::of(&keys.sessions),
            };
            Ok((Seal::new(key)?, content, file.format))
        }
    }
}

impl SessionId {
    fn of(tag: &hmac::Tag) -> Self {
        let first = tag.as_ref().get(..16).unwrap_or_default();
        Self(URL_SAFE_NO_PAD.encode(first))
    }

    /// That of a token of ours.
    pub fn of_token(token: &VerifiedToken) -> Option<Self> {
        match token.author() {
            Author::Ours { .. } => token.session().map(|session| Self(session.to_owned())),
            Author::Another { .. } => None,
        }
    }

    /// The text of `sid`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self("session".into())
    }
}

/// Random bytes of the operating system.
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, CryptoError> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut()).map_err(|_| CryptoError)?;
    Ok(bytes)
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("signing", &self.signing())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
