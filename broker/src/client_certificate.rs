//! Names a client's certificate, as tokens that are bound to it do (`x5t#S256`, RFC 8705 §3.1).

use kerbridge_gate::certificate::CertificateDigest;
use ring::digest;

/// The digest of a certificate in DER.
pub fn digest_of(der: &[u8]) -> CertificateDigest {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(digest::digest(&digest::SHA256, der).as_ref()) {
        *to = *from;
    }
    CertificateDigest::from_sha256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_sha_256_of_the_certificate() {
        // That of nothing (FIPS 180-4).
        let empty = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(CertificateDigest::from_hex(empty), Some(digest_of(b"")));
        assert_ne!(digest_of(b"a"), digest_of(b""));
    }
}
