//! Names a client's certificate, as tokens that are bound to it do (`x5t#S256`, RFC 8705 §3.1).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

/// SHA-256 of a certificate in DER. As text: base64url without padding, 43 characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificateDigest([u8; 32]);

/// The text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADigest;

impl CertificateDigest {
    /// That of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(digest::digest(&digest::SHA256, der).as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }
}

impl FromStr for CertificateDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotADigest)?;
        bytes.try_into().map(Self).map_err(|_| NotADigest)
    }
}

impl fmt::Display for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_text() {
        let digest = CertificateDigest::of(b"certificate");
        let text = digest.to_string();
        assert_eq!((text.len(), text.parse()), (43, Ok(digest)));
        assert_ne!(CertificateDigest::of(b"another"), digest);
        for other in [
            String::new(),
            format!("{text}="),
            text.replacen(|_| true, "", 1),
            format!("{text}AAAA"),
        ] {
            assert_eq!(other.parse::<CertificateDigest>(), Err(NotADigest), "{other}");
        }
    }
}
