//! Gives the key file its content and its seal: all keys as one text, sealed under a data key, which is sealed under each
//! key-encryption key that is to open it.
//!
//! Sealed as one, no key can stand in for another, none can be put back that was taken out, and no time can be changed. What
//! cannot be seen is a whole file of before put in its place: that takes a place that nobody can turn back.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{aead, hmac};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::hardware::{Hardware, HardwareKey};
use super::key_encryption::{KekId, KeyEncryptionKey, Sealed, aes_256_gcm};
use super::signing_key::{SigningAlgorithm, SigningKey};
use super::stages::{Entry, Ring, Stage};
use super::{CryptoError, random};
use crate::time::UnixTime;

/// What this release writes.
pub(super) const FORMAT: u32 = 2;
/// What the keys are sealed for.
const WORDS: &[u8] = b"kerbridge keyring 2\0keys";
/// Room for the text of all keys, so that it never moves and leaves a copy behind: 60 RSA keys take some 100 KB.
const ROOM: usize = 256 * 1024;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFile {
    pub(super) format: u32,
    wrapped: Vec<Wrapped>,
    keys: Sealed,
}

/// The data key under one key-encryption key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    kek: KekId,
    data_key: Sealed,
}

/// Why a file does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It is for these key-encryption keys, and this is none of them.
    AnotherKey(Vec<KekId>),
    /// Its bytes were changed.
    Seal,
    /// What was sealed is none of ours.
    Content(&'static str),
    /// A key in hardware that is not at hand.
    Hardware(String),
}

/// A signing key and what it is made of.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) key: Arc<SigningKey>,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    /// Base64 of what [`SigningAlgorithm::generate`] made.
    Known(Arc<Zeroizing<String>>),
    /// The object's name in the hardware.
    InHardware(String),
}

/// All that the file holds.
pub(super) struct Content {
    pub(super) ring: Ring<Held>,
    pub(super) sessions: SessionsKey,
}

/// What names sessions.
#[derive(Clone)]
pub(super) struct SessionsKey {
    pub(super) key: hmac::Key,
    secret: Arc<Zeroizing<String>>,
}

/// The data key, and under what it is sealed.
#[derive(Clone)]
pub(super) struct Seal {
    data_key: Zeroizing<[u8; 32]>,
    aead: aead::LessSafeKey,
    wrapped: Vec<Wrapped>,
}

/// The text that is sealed. It borrows, so that no copy of a secret is left where nobody wipes it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    sessions: &'a str,
    #[serde(borrow)]
    signing: Vec<KeyText<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText<'a> {
    id: &'a str,
    algorithm: SigningAlgorithm,
    published: u64,
    stage: StageText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardware: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StageText {
    Next,
    Signing { since: u64 },
    Old { stopped: u64, kept_until: u64 },
}

impl Held {
    /// A new key of this algorithm.
    pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Self, CryptoError> {
        Self::known(algorithm, &algorithm.generate()?)
    }

    /// The key of a secret.
    pub(super) fn known(algorithm: SigningAlgorithm, secret: &[u8]) -> Result<Self, CryptoError> {
        Ok(Self {
            key: Arc::new(SigningKey::from_secret(algorithm, secret)?),
            secret: Secret::Known(Arc::new(Zeroizing::new(STANDARD.encode(secret)))),
        })
    }

    /// A key that is in hardware.
    pub(super) fn in_hardware(key: SigningKey, name: String) -> Self {
        Self {
            key: Arc::new(key),
            secret: Secret::InHardware(name),
        }
    }

    /// Its name in the hardware, where it is there.
    pub(super) fn hardware_name(&self) -> Option<&str> {
        match &self.secret {
            Secret::InHardware(name) => Some(name),
            Secret::Known(_) => None,
        }
    }

    fn read(text: &KeyText<'_>, hardware: Option<&Arc<Hardware>>) -> Result<Self, Unopened> {
        let no_key = Unopened::Content("a signing key is none of its algorithm");
        let held = match (text.secret, text.hardware) {
            (Some(secret), None) => {
                let secret = Zeroizing::new(STANDARD.decode(secret).map_err(|_| no_key.clone())?);
                Self::known(text.algorithm, &secret).map_err(|_| no_key)?
            }
            (None, Some(name)) => {
                let hardware = hardware.ok_or_else(|| {
                    Unopened::Hardware(format!(
                        "the key {} is in a PKCS#11 token, and [keys.pkcs11] is not set",
                        text.id
                    ))
                })?;
                let key = HardwareKey::find(hardware, text.algorithm, name);
                let key = key.map_err(|error| Unopened::Hardware(format!("the key {}: {error}", text.id)))?;
                Self::in_hardware(key, name.to_owned())
            }
            (Some(_), Some(_)) | (None, None) => return Err(no_key),
        };
        if held.key.id() == text.id {
            Ok(held)
        } else {
            Err(Unopened::Content("a signing key has another identifier"))
        }
    }
}

impl SessionsKey {
    /// A new one.
    pub(super) fn generate() -> Result<Self, CryptoError> {
        Ok(Self::of(random::<32>()?.as_ref()))
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, bytes),
            secret: Arc::new(Zeroizing::new(STANDARD.encode(bytes))),
        }
    }

    fn read(text: &str) -> Result<Self, Unopened> {
        let bytes = STANDARD.decode(text).map(Zeroizing::new);
        match bytes {
            Ok(bytes) if bytes.len() == 32 => Ok(Self::of(&bytes)),
            Ok(_) | Err(_) => Err(Unopened::Content("its session key is not 32 bytes long")),
        }
    }
}

impl Content {
    fn read(text: &[u8], hardware: Option<&Arc<Hardware>>) -> Result<Self, Unopened> {
        let Text { sessions, signing } =
            serde_json::from_slice(text).map_err(|_| Unopened::Content("its members are not those of its format"))?;
        let mut entries = Vec::with_capacity(signing.len());
        for key in &signing {
            let time = UnixTime::from_seconds;
            entries.push(Entry {
                key: Held::read(key, hardware)?,
                published: time(key.published),
                stage: match key.stage {
                    StageText::Next => Stage::Next,
                    StageText::Signing { since } => Stage::Signing { since: time(since) },
                    StageText::Old { stopped, kept_until } => Stage::Old {
                        stopped: time(stopped),
                        kept_until: time(kept_until),
                    },
                },
            });
        }
        Ok(Self {
            ring: Ring::from_entries(entries)
                .map_err(|_| Unopened::Content("not exactly one of its keys signs, or more than one is next"))?,
            sessions: SessionsKey::read(sessions)?,
        })
    }

    fn write(&self) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let entries = self.ring.entries();
        let signing = entries.iter().map(|Entry { key, published, stage }| KeyText {
            id: key.key.id(),
            algorithm: key.key.algorithm(),
            published: published.seconds(),
            stage: match stage {
                Stage::Next => StageText::Next,
                Stage::Signing { since } => StageText::Signing { since: since.seconds() },
                Stage::Old { stopped, kept_until } => StageText::Old {
                    stopped: stopped.seconds(),
                    kept_until: kept_until.seconds(),
                },
            },
            secret: match &key.secret {
                Secret::Known(secret) => Some(secret.as_str()),
                Secret::InHardware(_) => None,
            },
            hardware: key.hardware_name(),
        });
        let text = Text {
            sessions: &self.sessions.secret,
            signing: signing.collect(),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
        serde_json::to_writer(&mut *bytes, &text).map_err(|_| CryptoError)?;
        Ok(bytes)
    }
}

impl Seal {
    /// A new data key, under this key-encryption key alone.
    pub(super) fn new(key: &KeyEncryptionKey) -> Result<Self, CryptoError> {
        let data_key = random::<32>()?;
        let mut seal = Self {
            aead: aes_256_gcm(data_key.as_ref()).ok_or(CryptoError)?,
            data_key,
            wrapped: Vec::new(),
        };
        seal.add(key)?;
        Ok(seal)
    }

    /// Lets this key-encryption key open it, too.
    pub(super) fn add(&mut self, key: &KeyEncryptionKey) -> Result<(), CryptoError> {
        let wrapped = Wrapped {
            kek: key.id().clone(),
            data_key: Sealed::of(self.data_key.as_ref(), key.aead(), &words_for(key.id()))?,
        };
        self.wrapped.retain(|known| known.kek != wrapped.kek);
        self.wrapped.push(wrapped);
        Ok(())
    }

    /// Whether this key-encryption key was added last.
    pub(super) fn is_newest(&self, id: &KekId) -> bool {
        self.wrapped.last().is_some_and(|wrapped| wrapped.kek == *id)
    }

    /// Whether a key-encryption key of this name opens it.
    pub(super) fn opens_under(&self, id: &KekId) -> bool {
        self.wrapped.iter().any(|wrapped| wrapped.kek == *id)
    }

    /// What opens it.
    pub(super) fn keks(&self) -> Vec<KekId> {
        self.wrapped.iter().map(|wrapped| wrapped.kek.clone()).collect()
    }

    /// The file.
    pub(super) fn seal(&self, content: &Content) -> Result<KeyFile, CryptoError> {
        Ok(KeyFile {
            format: FORMAT,
            wrapped: self.wrapped.clone(),
            keys: Sealed::of(&content.write()?, &self.aead, WORDS)?,
        })
    }
}

impl KeyFile {
    pub(super) fn open(
        &self,
        key: &KeyEncryptionKey,
        hardware: Option<&Arc<Hardware>>,
    ) -> Result<(Seal, Content), Unopened> {
        let Some(own) = self.wrapped.iter().find(|wrapped| wrapped.kek == *key.id()) else {
            let known = self.wrapped.iter().map(|wrapped| wrapped.kek.clone());
            return Err(Unopened::AnotherKey(known.collect()));
        };
        let opened = own.data_key.open(key.aead(), &words_for(key.id()));
        let opened = opened.map_err(|CryptoError| Unopened::Seal)?;
        let mut data_key = Zeroizing::new([0; 32]);
        if opened.len() != data_key.len() {
            return Err(Unopened::Seal);
        }
        data_key.copy_from_slice(&opened);
        let aead = aes_256_gcm(data_key.as_ref()).ok_or(Unopened::Seal)?;
        let text = self.keys.open(&aead, WORDS).map_err(|CryptoError| Unopened::Seal)?;
        let content = Content::read(&text, hardware)?;
        Ok((
            Seal {
                data_key,
                aead,
                wrapped: self.wrapped.clone(),
            },
            content,
        ))
    }
}

fn words_for(kek: &KekId) -> Vec<u8> {
    format!("kerbridge keyring 2\0data key\0{kek}").into_bytes()
}
