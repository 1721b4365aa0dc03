//! Reads a key file of format 1: one signing key and one session key, each sealed under the key-encryption key itself.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::CryptoError;
use super::key_encryption::{KeyEncryptionKey, Sealed};

/// What a sealed key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Purpose {
    /// Signs tokens; a PKCS#8 document of a P-256 key.
    Signing,
    /// Names sessions; 32 bytes for HMAC-SHA-256.
    Sessions,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFile {
    pub(super) format: u32,
    pub(super) keys: Vec<SealedKey>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SealedKey {
    purpose: Purpose,
    id: String,
    #[serde(flatten)]
    sealed: Sealed,
}

/// The two keys of a file.
pub(super) struct Keys {
    pub(super) signing_id: String,
    pub(super) signing: Zeroizing<Vec<u8>>,
    pub(super) sessions: Zeroizing<Vec<u8>>,
}

/// Why it does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// Another key-encryption key, or changed bytes.
    Seal,
    /// It has not one key of each.
    Keys,
}

impl KeyFile {
    pub(super) fn open(&self, key: &KeyEncryptionKey) -> Result<Keys, Unopened> {
        let signing = self.only(Purpose::Signing)?;
        let sessions = self.only(Purpose::Sessions)?;
        Ok(Keys {
            signing_id: signing.id.clone(),
            signing: signing.open(key)?,
            sessions: sessions.open(key)?,
        })
    }

    /// The one key for a purpose; none where there are two, since we would not know which.
    fn only(&self, purpose: Purpose) -> Result<&SealedKey, Unopened> {
        let mut found = self.keys.iter().filter(|key| key.purpose == purpose);
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) | (None, _) => Err(Unopened::Keys),
        }
    }
}

impl SealedKey {
    fn open(&self, key: &KeyEncryptionKey) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        self.sealed
            .open(key.aead(), &associated(self.purpose, &self.id))
            .map_err(|CryptoError| Unopened::Seal)
    }

    #[cfg(test)]
    pub(super) fn seal(purpose: Purpose, id: &str, secret: &[u8], key: &KeyEncryptionKey) -> Self {
        Self {
            purpose,
            id: id.to_owned(),
            sealed: Sealed::of(secret, key.aead(), &associated(purpose, id)).unwrap(),
        }
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
