//! Seals one key under the key-encryption key, bound to what it is for.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::aead;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{CryptoError, random};

/// The key under which all others are sealed: 32 bytes.
pub struct KeyEncryptionKey(aead::LessSafeKey);

/// The text is not 32 bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl KeyEncryptionKey {
    /// Reads 32 bytes as base64, with or without padding; white space around it does not count.
    pub fn from_base64(text: &str) -> Result<Self, NotAKey> {
        let text = text.trim().trim_end_matches('=');
        let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(text).map_err(|_| NotAKey)?);
        Self::from_bytes(&bytes).ok_or(NotAKey)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, bytes).ok()?;
        Some(Self(aead::LessSafeKey::new(key)))
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEncryptionKey([redacted])")
    }
}

/// What a sealed key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Purpose {
    /// Signs tokens; a PKCS#8 document of a P-256 key.
    Signing,
    /// Names sessions; 32 bytes for HMAC-SHA-256.
    Sessions,
}

/// A key as it lies on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedKey {
    purpose: Purpose,
    id: String,
    nonce: String,
    sealed: String,
}

impl SealedKey {
    pub(super) fn seal(purpose: Purpose, id: &str, secret: &[u8], key: &KeyEncryptionKey) -> Result<Self, CryptoError> {
        let nonce = random::<{ aead::NONCE_LEN }>()?;
        // The tag goes behind the text: room for it, or a move would leave a copy of the secret.
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len().saturating_add(aead::MAX_TAG_LEN)));
        text.extend_from_slice(secret);
        key.0
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(*nonce),
                aead::Aad::from(associated(purpose, id)),
                &mut *text,
            )
            .map_err(|_| CryptoError)?;
        Ok(Self {
            purpose,
            id: id.to_owned(),
            nonce: STANDARD.encode(nonce.as_ref()),
            sealed: STANDARD.encode(text.as_slice()),
        })
    }

    pub(super) fn open(&self, key: &KeyEncryptionKey) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let nonce = STANDARD.decode(&self.nonce).map_err(|_| CryptoError)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(&nonce).map_err(|_| CryptoError)?;
        let mut text = Zeroizing::new(STANDARD.decode(&self.sealed).map_err(|_| CryptoError)?);
        let length = key
            .0
            .open_in_place(nonce, aead::Aad::from(associated(self.purpose, &self.id)), &mut text)
            .map_err(|_| CryptoError)?
            .len();
        text.truncate(length);
        Ok(text)
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

fn associated(purpose: Purpose, id: &str) -> Vec<u8> {
    let purpose = match purpose {
        Purpose::Signing => "signing",
        Purpose::Sessions => "sessions",
    };
    // Neither part holds a zero byte, so no two pairs have the same bytes.
    format!("kerbridge keyring 1\0{purpose}\0{id}").into_bytes()
}
