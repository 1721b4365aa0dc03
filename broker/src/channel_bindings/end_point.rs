//! Computes the `tls-server-end-point` binding of a certificate (RFC 5929 §4.1), or says why it has none.

use std::fmt;

use kerbridge_gss::ChannelBindings;
use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};

use crate::negotiate::der::{self, Der, Malformed};

/// Why a certificate has no such binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndPoint {
    /// Not a certificate in DER (RFC 5280 §4.1).
    Malformed,
    /// Signed with Ed25519 or Ed448, which use no hash function of their own choice: RFC 5929 leaves the binding undefined,
    /// and clients differ.
    Undefined,
    /// Signed by an algorithm that is not known here, or with a hash function that is not.
    Unknown,
}

impl fmt::Display for NoEndPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "is no certificate in DER",
            Self::Undefined => "is signed with an Edwards curve, for which tls-server-end-point is not defined",
            Self::Unknown => "is signed by an algorithm whose hash function is not known here",
        })
    }
}

impl std::error::Error for NoEndPoint {}

impl From<Malformed> for NoEndPoint {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Hash functions by themselves: SHA-1 (1.3.14.3.2.26), SHA-256, SHA-384, SHA-512 (RFC 5754 §2).
const SHA_1: &[u8] = b"\x2b\x0e\x03\x02\x1a";
const SHA_2: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02";
/// PKCS #1 (RFC 8017, RFC 4055): one more octet says what.
const PKCS_1: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01";
/// `ecdsa-with-SHA1` (RFC 3279 §2.2.3) and, one more octet behind it, `ecdsa-with-SHA2` (RFC 5758 §3.2).
const ECDSA_SHA_1: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x01";
const ECDSA_SHA_2: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03";
/// Ed25519 and Ed448 (RFC 8410 §3).
const EDWARDS: [&[u8]; 2] = [b"\x2b\x65\x70", b"\x2b\x65\x71"];

const MD5_WITH_RSA: u8 = 4;
const SHA_1_WITH_RSA: u8 = 5;
const MGF_1: u8 = 8;
const RSASSA_PSS: u8 = 10;
const SHA_256_WITH_RSA: u8 = 11;
const SHA_384_WITH_RSA: u8 = 12;
const SHA_512_WITH_RSA: u8 = 13;

/// The binding to the channels of a server with this certificate.
pub fn bindings_of(certificate: &[u8]) -> Result<ChannelBindings, NoEndPoint> {
    Ok(ChannelBindings::tls_server_end_point(&end_point_hash(certificate)?))
}

/// The hash that names a server by its certificate.
pub(crate) fn end_point_hash(certificate: &[u8]) -> Result<Vec<u8>, NoEndPoint> {
    Ok(digest::digest(hash_function(certificate)?, certificate)
        .as_ref()
        .to_vec())
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue BIT STRING }`
fn hash_function(certificate: &[u8]) -> Result<&'static Algorithm, NoEndPoint> {
    let mut parts = Der::new(Der::new(certificate).only(der::SEQUENCE)?);
    parts.expect(der::SEQUENCE)?;
    let mut algorithm = Der::new(parts.expect(der::SEQUENCE)?);
    parts.expect(der::BIT_STRING)?;
    parts.end()?;
    let identifier = algorithm.expect(der::OBJECT_IDENTIFIER)?;
    if EDWARDS.contains(&identifier) {
        return Err(NoEndPoint::Undefined);
    }
    if identifier == ECDSA_SHA_1 {
        return Ok(&SHA256);
    }
    match (identifier.strip_prefix(PKCS_1), identifier.strip_prefix(ECDSA_SHA_2)) {
        // "If the hash function is MD5 or SHA-1, then use SHA-256."
        (Some([MD5_WITH_RSA | SHA_1_WITH_RSA | SHA_256_WITH_RSA]), _) | (_, Some([2])) => Ok(&SHA256),
        (Some([SHA_384_WITH_RSA]), _) | (_, Some([3])) => Ok(&SHA384),
        (Some([SHA_512_WITH_RSA]), _) | (_, Some([4])) => Ok(&SHA512),
        (Some([RSASSA_PSS]), _) => pss(algorithm),
        (_, _) => Err(NoEndPoint::Unknown),
    }
}

/// `RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0], maskGenAlgorithm [1], saltLength [2], trailerField [3] }`, where SHA-1
/// is the default of both (RFC 4055 §3.1). Two different hash functions leave the binding undefined (RFC 5929 §4.1).
fn pss(mut algorithm: Der<'_>) -> Result<&'static Algorithm, NoEndPoint> {
    let mut parameters = Der::new(algorithm.expect(der::SEQUENCE)?);
    let hash = match parameters.optional(der::context(0))? {
        None => SHA_1,
        Some(hash) => Der::new(Der::new(hash).only(der::SEQUENCE)?).expect(der::OBJECT_IDENTIFIER)?,
    };
    let mask_hash = match parameters.optional(der::context(1))? {
        None => SHA_1,
        Some(mask) => {
            let mut mask = Der::new(Der::new(mask).only(der::SEQUENCE)?);
            if mask.expect(der::OBJECT_IDENTIFIER)?.strip_prefix(PKCS_1) != Some(&[MGF_1]) {
                return Err(NoEndPoint::Unknown);
            }
            Der::new(mask.only(der::SEQUENCE)?).expect(der::OBJECT_IDENTIFIER)?
        }
    };
    if hash != mask_hash {
        return Err(NoEndPoint::Undefined);
    }
    match hash.strip_prefix(SHA_2) {
        _ if hash == SHA_1 => Ok(&SHA256),
        Some([1]) => Ok(&SHA256),
        Some([2]) => Ok(&SHA384),
        Some([3]) => Ok(&SHA512),
        Some(_) | None => Err(NoEndPoint::Unknown),
    }
}

#[cfg(test)]
mod tests;
