//! Reads tokens without judging them, and forges those that a filter must refuse.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// Seconds since 1970, by this machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests own the clock that they forge times against"
)]
#[must_use]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

/// A token taken apart, its signature not looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The protected header.
    pub header: Value,
    /// The claims.
    pub claims: Value,
    /// The signature's length, in bytes.
    pub signature_bytes: usize,
}

/// Takes a compact JWS apart (RFC 7515 §7.1), or nothing where it is none.
#[must_use]
pub fn decode(token: &str) -> Option<Decoded> {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let decoded = Decoded {
        header: serde_json::from_slice(&parts.next()??).ok()?,
        claims: serde_json::from_slice(&parts.next()??).ok()?,
        signature_bytes: parts.next()??.len(),
    };
    parts.next().is_none().then_some(decoded)
}

/// A P-256 key that the test holds, to sign what no broker would.
pub struct LabKey {
    pair: EcdsaKeyPair,
    private: Vec<u8>,
    random: SystemRandom,
}

impl LabKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] where the system has no randomness.
    pub fn generate() -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
            .map_err(|_rejected| Unspecified)?;
        Ok(Self {
            pair,
            private: document.as_ref().to_vec(),
            random,
        })
    }

    /// The private key in PEM (PKCS#8), for a client that signs by itself.
    #[must_use]
    pub fn private_pem(&self) -> String {
        let text = STANDARD.encode(&self.private);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    fn coordinates(&self) -> (String, String) {
        // SEC 1 §2.3.3: one byte 0x04, then x and y of 32 bytes each.
        let point = self.pair.public_key().as_ref();
        let part = |range| URL_SAFE_NO_PAD.encode(point.get::<std::ops::Range<usize>>(range).unwrap_or_default());
        (part(1..33), part(33..65))
    }

    /// The key's RFC 7638 thumbprint.
    #[must_use]
    pub fn key_id(&self) -> String {
        let (x, y) = self.coordinates();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
    }

    /// The public key as a key set of one (RFC 7517 §5).
    #[must_use]
    pub fn key_set(&self) -> Value {
        let (x, y) = self.coordinates();
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": self.key_id(),
        }]})
    }

    /// The header that a good token of this key has.
    #[must_use]
    pub fn header(&self) -> Value {
        json!({"typ": "at+jwt", "alg": "ES256", "kid": self.key_id()})
    }

    /// Signs header and claims as they are.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] where the system has no randomness.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String, Unspecified> {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs two texts, JSON or not.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] where the system has no randomness.
    pub fn sign_text(&self, header: &str, claims: &str) -> Result<String, Unspecified> {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&self.random, input.as_bytes())?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

/// The claims of a good token, valid for five minutes.
#[must_use]
pub fn claims(issuer: &str, subject: &str, audience: &str, scope: &str) -> Value {
    let now = now();
    json!({
        "iss": issuer, "sub": subject, "aud": audience, "client_id": "test", "scope": scope,
        "iat": now, "exp": now.saturating_add(300), "auth_time": now, "amr": ["kerberos"],
        "jti": format!("lab-{now}-{subject}-{audience}"), "sid": "lab", "kerbridge_cb": false,
    })
}

/// The same object with one member set, or removed where the value is null.
#[must_use]
pub fn with(mut object: Value, member: &str, value: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        if value.is_null() {
            map.remove(member);
        } else {
            map.insert(member.to_owned(), value);
        }
    }
    object
}

/// The token with other claims and its old signature.
#[must_use]
pub fn alter_claims(token: &str, change: impl FnOnce(Value) -> Value) -> Option<String> {
    let decoded = decode(token)?;
    let mut parts = token.split('.');
    let (header, _claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.encode(change(decoded.claims).to_string());
    Some(format!("{header}.{claims}.{signature}"))
}

/// The token's claims under `"alg":"none"` without a signature (RFC 7515 appendix A.5).
#[must_use]
pub fn unsigned(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let header = URL_SAFE_NO_PAD.encode(json!({"typ": "at+jwt", "alg": "none"}).to_string());
    Some(format!("{header}.{claims}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn a_lab_token_verifies_with_its_own_key_and_an_altered_one_does_not() {
        let key = LabKey::generate().unwrap();
        let token = key.sign(&key.header(), &claims("i", "s", "a", "x")).unwrap();
        let verify = |token: &str| {
            let (input, signature) = token.rsplit_once('.').unwrap();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key())
                .verify(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
                .is_ok()
        };
        assert!(verify(&token));
        let altered = alter_claims(&token, |claims| with(claims, "sub", json!("root"))).unwrap();
        assert!(!verify(&altered));
        let decoded = decode(&altered).unwrap();
        assert_eq!(
            (decoded.claims["sub"].as_str(), decoded.signature_bytes),
            (Some("root"), 64)
        );
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let key = LabKey::generate().unwrap();
        let set = key.key_set();
        let jwk = &set["keys"][0];
        // Members required for EC in lexical order (RFC 7638 §3.2).
        let canonical = json!({"crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"]}).to_string();
        let digest = digest::digest(&digest::SHA256, canonical.as_bytes());
        assert_eq!(jwk["kid"], URL_SAFE_NO_PAD.encode(digest.as_ref()));
    }

    #[test]
    fn what_is_not_a_compact_jws_is_not_decoded() {
        let key = LabKey::generate().unwrap();
        let token = key.sign(&key.header(), &json!({})).unwrap();
        assert!(decode(&token).is_some());
        assert!(decode(&unsigned(&token).unwrap()).is_some());
        for broken in ["", "a.b.c", "e30.e30", &format!("{token}.e30")] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
