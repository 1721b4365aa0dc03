//! Names a client's certificate as Envoy and as tokens that are bound to it do (`x5t#S256`, RFC 8705 §3.1), and says whose a
//! token is.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::json::Json;

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificateDigest([u8; 32]);

/// The text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADigest;

impl CertificateDigest {
    /// One that was worked out elsewhere.
    pub const fn from_sha256(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads Envoy's attribute `connection.sha256_peer_certificate_digest`, 64 hexadecimal digits; nothing where there is no
    /// certificate.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

/// Reads the member `x5t#S256` of a token's `cnf`.
impl FromStr for CertificateDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotADigest)?;
        bytes.try_into().map(Self).map_err(|_| NotADigest)
    }
}

/// As it stands in tokens: base64url without padding, 43 characters.
impl fmt::Display for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl fmt::Debug for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateDigest({self})")
    }
}

/// Who must show that a token is theirs (`cnf`, RFC 7800 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirmation {
    /// Nobody: who bears it.
    #[default]
    Bearer,
    /// The holder of this certificate.
    Certificate(CertificateDigest),
    /// The holder of something that we do not check.
    Unknown,
}

impl Confirmation {
    /// Reads a `cnf` claim. What stands beside the certificate would be left unchecked, so nothing may.
    pub(crate) fn read(claim: Option<&Json>) -> Self {
        match claim {
            None => Self::Bearer,
            Some(Json::Object(members)) => match members.as_slice() {
                [(name, Json::String(digest))] if name == "x5t#S256" => {
                    digest.parse().map_or(Self::Unknown, Self::Certificate)
                }
                _ => Self::Unknown,
            },
            Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)) => Self::Unknown,
        }
    }

    /// Whether a client with this certificate, or none, holds the token.
    pub fn is_held_with(self, certificate: Option<CertificateDigest>) -> bool {
        match self {
            Self::Bearer => true,
            Self::Certificate(bound) => certificate == Some(bound),
            Self::Unknown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &[u8] = b"00ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1dAB";

    #[test]
    fn envoys_digest_and_a_tokens_are_one() {
        let digest = CertificateDigest::from_hex(HEX).unwrap();
        let text = digest.to_string();
        assert_eq!((text.len(), text.parse()), (43, Ok(digest)));
        for odd in [
            &b""[..],
            b"00",
            &HEX[1..],
            &[HEX, b"00"].concat(),
            &[&HEX[..62], b"zz"].concat(),
        ] {
            assert_eq!(CertificateDigest::from_hex(odd), None);
        }
    }

    #[test]
    fn a_bound_token_is_its_holders_and_one_bound_to_something_else_is_nobodys() {
        let digest = CertificateDigest::from_hex(HEX).unwrap();
        let text = digest.to_string();
        let read = |claim: &str| Confirmation::read(Json::parse(claim.as_bytes()).as_ref());
        assert!(Confirmation::read(None).is_held_with(None));
        let bound = read(&format!("{{\"x5t#S256\":\"{text}\"}}"));
        assert!(bound.is_held_with(Some(digest)));
        let other = CertificateDigest::from_hex(&[&HEX[2..], b"00"].concat());
        assert!(other.is_some() && !bound.is_held_with(other) && !bound.is_held_with(None));
        for claim in [
            "null",
            "{}",
            "{\"jkt\":\"x\"}",
            "{\"x5t#S256\":1}",
            "{\"x5t#S256\":\"AA\"}",
            &format!("{{\"x5t#S256\":\"{text}=\"}}"),
            &format!("{{\"x5t#S256\":\"{text}\",\"jkt\":\"x\"}}"),
        ] {
            assert_eq!(read(claim), Confirmation::Unknown, "{claim}");
            assert!(!read(claim).is_held_with(Some(digest)));
        }
    }
}
