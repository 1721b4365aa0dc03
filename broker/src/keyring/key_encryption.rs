//! Seals bytes under a key, and keys under the key-encryption key; each is bound to what it is for.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::{aead, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{CryptoError, random};
use crate::hexadecimal;

/// The key under which all others are sealed: 32 bytes.
#[derive(Clone)]
pub struct KeyEncryptionKey {
    key: aead::LessSafeKey,
    id: KekId,
}

/// Tells key-encryption keys apart without giving anything of them away: 64 bits of a hash, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekId(String);

/// The text is not 32 bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl KeyEncryptionKey {
    /// Reads 32 bytes as base64, with or without padding; white space around it does not count.
    pub fn from_base64(text: &str) -> Result<Self, NotAKey> {
        let text = text.trim().trim_end_matches('=');
        let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(text).map_err(|_| NotAKey)?);
        let key = aes_256_gcm(&bytes).ok_or(NotAKey)?;
        Ok(Self {
            key,
            id: KekId::of(&bytes),
        })
    }

    /// What it is called in the key file.
    pub const fn id(&self) -> &KekId {
        &self.id
    }

    pub(super) const fn aead(&self) -> &aead::LessSafeKey {
        &self.key
    }
}

impl KekId {
    fn of(key: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"kerbridge key-encryption key\0");
        context.update(key);
        let hash = context.finish();
        Self(hexadecimal::digits(hash.as_ref()).chars().take(16).collect())
    }

    /// 16 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes as they lie on disk: AES-256-GCM under a random nonce.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    nonce: String,
    sealed: String,
}

impl Sealed {
    /// Seals a secret; it opens only under the same words.
    pub(super) fn of(secret: &[u8], key: &aead::LessSafeKey, words: &[u8]) -> Result<Self, CryptoError> {
        let nonce = random::<{ aead::NONCE_LEN }>()?;
        // The tag goes behind the text: room for it, or a move would leave a copy of the secret.
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len().saturating_add(aead::MAX_TAG_LEN)));
        text.extend_from_slice(secret);
        let nonce_bytes = aead::Nonce::assume_unique_for_key(*nonce);
        key.seal_in_place_append_tag(nonce_bytes, aead::Aad::from(words), &mut *text)
            .map_err(|_| CryptoError)?;
        Ok(Self {
            nonce: STANDARD.encode(nonce.as_ref()),
            sealed: STANDARD.encode(text.as_slice()),
        })
    }

    pub(super) fn open(&self, key: &aead::LessSafeKey, words: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let nonce = STANDARD.decode(&self.nonce).map_err(|_| CryptoError)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(&nonce).map_err(|_| CryptoError)?;
        let mut text = Zeroizing::new(STANDARD.decode(&self.sealed).map_err(|_| CryptoError)?);
        let length = key
            .open_in_place(nonce, aead::Aad::from(words), &mut text)
            .map_err(|_| CryptoError)?
            .len();
        text.truncate(length);
        Ok(text)
    }
}

pub(super) fn aes_256_gcm(bytes: &[u8]) -> Option<aead::LessSafeKey> {
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, bytes).ok()?;
    Some(aead::LessSafeKey::new(key))
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEncryptionKey({}, [redacted])", self.id)
    }
}

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
