//! Keeps the keys that sign tokens and name sessions: made on the first start, sealed on disk, never overwritten.
//!
//! The file holds each key sealed with AES-256-GCM under the key-encryption key, with format, purpose and key identifier
//! as associated data, so that no entry can stand in for another. A file that cannot be read stops the start: to make
//! new keys over old ones would end every session without anybody having wanted it.

mod file;
mod sealed;

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ring::{digest, hmac};
use zeroize::Zeroizing;

pub use file::KeyringError;
pub use sealed::KeyEncryptionKey;

use crate::subject_token::{Author, VerifiedToken};
use sealed::Purpose;

/// Name of the file in the state directory.
pub const FILE: &str = "keyring.json";

/// The keys in use.
pub struct KeyRing {
    signing: SigningKey,
    sessions: hmac::Key,
}

/// One ES256 key (RFC 7518 §3.4) with its identifier.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
    jwk: serde_json::Value,
}

/// Which service ticket somebody came with: the same for all exchanges of one ticket, and of the tokens that were had for it.
/// 22 characters of base64url.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(String);

/// The operating system's source of randomness failed, or ring refused a key that it made itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptoError;

impl KeyRing {
    /// Opens the keys of a state directory, or makes them where there are none yet.
    pub fn open_or_create(state_dir: &Path, key: &KeyEncryptionKey) -> Result<Self, KeyringError> {
        let path = state_dir.join(FILE);
        if !file::exists(&path)? {
            let made = file::fresh(key)?;
            file::create(&path, &made)?;
        }
        Self::open(state_dir, key)
    }

    /// Opens the keys of a state directory where there are some, and makes none.
    pub fn check(state_dir: &Path, key: &KeyEncryptionKey) -> Result<(), KeyringError> {
        if file::exists(&state_dir.join(FILE))? {
            Self::open(state_dir, key)?;
        }
        Ok(())
    }

    /// Opens the keys of a state directory.
    pub fn open(state_dir: &Path, key: &KeyEncryptionKey) -> Result<Self, KeyringError> {
        let path = state_dir.join(FILE);
        let sealed = file::read(&path)?;
        let corrupt = |what| KeyringError::Corrupt {
            path: path.clone(),
            what,
        };
        let signing = file::only(&sealed, Purpose::Signing).ok_or_else(|| corrupt("it holds no signing key"))?;
        let opened = signing
            .open(key)
            .map_err(|_| KeyringError::WrongKey { path: path.clone() })?;
        let signing_key = SigningKey::from_pkcs8(&opened).map_err(|_| corrupt("its signing key is no P-256 key"))?;
        if signing_key.id != signing.id() {
            return Err(corrupt("its signing key has another identifier"));
        }
        let sessions = file::only(&sealed, Purpose::Sessions).ok_or_else(|| corrupt("it holds no session key"))?;
        let opened = sessions
            .open(key)
            .map_err(|_| KeyringError::WrongKey { path: path.clone() })?;
        if opened.len() != 32 {
            return Err(corrupt("its session key is not 32 bytes long"));
        }
        Ok(Self {
            signing: signing_key,
            sessions: hmac::Key::new(hmac::HMAC_SHA256, &opened),
        })
    }

    /// The key that signs.
    pub fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The public keys, as a set (RFC 7517 §5).
    pub fn jwks(&self) -> String {
        serde_json::json!({ "keys": [self.signing.jwk] }).to_string()
    }

    /// Names the session that a service ticket is: the first 128 bits of an HMAC over its ciphertext.
    pub fn session(&self, ticket: &[u8]) -> SessionId {
        SessionId::of(&hmac::sign(&self.sessions, ticket))
    }

    /// Names the session of another issuer's token, by what is the same for all tokens of it: texts with their lengths, so that
    /// no two sessions are named by the same bytes.
    pub fn foreign_session(&self, issuer: &str, session: &str) -> SessionId {
        let mut named = hmac::Context::with_key(&self.sessions);
        for text in ["another issuer's session", issuer, session] {
            named.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            named.update(text.as_bytes());
        }
        SessionId::of(&named.sign())
    }
}

impl SigningKey {
    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, CryptoError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new())
            .map_err(|_| CryptoError)?;
        // Uncompressed point: 0x04, x, y (SEC 1 §2.3.3).
        let (x, y) = match pair.public_key().as_ref().split_first() {
            Some((4, point)) if point.len() == 64 => point.split_at(32),
            Some(_) | None => return Err(CryptoError),
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638 §3.2: required members only, in lexical order, without space.
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, thumbprint.as_bytes()));
        let jwk = serde_json::json!({
            "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": id,
        });
        Ok(Self { pair, id, jwk })
    }

    /// `kid`: the thumbprint of the public key (RFC 7638).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs as JWS wants it: r and s, 32 bytes each (RFC 7518 §3.4).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| CryptoError)
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
            .field("signing", &self.signing)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for CryptoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system's cryptography failed")
    }
}

impl std::error::Error for CryptoError {}

#[cfg(test)]
mod tests;
