//! Stands in for Envoy's `verify_signature`: reads the request as protobuf, the key as DER, and asks `ring`, which has its
//! RSA and ECDSA from BoringSSL, as Envoy has.

use kerbridge_gate::jwt::SignatureInput;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};

/// The host's answer; `None` where it is not asked.
pub(crate) fn verify(input: &SignatureInput) -> Option<bool> {
    let request = input.native()?.request();
    let [hash, spki, signature, text] = fields(&request).expect("the four fields of the request, in order");
    let (key, elliptic) = read_key(spki).expect("a SubjectPublicKeyInfo of RSA or EC");
    let algorithm: &dyn VerificationAlgorithm = match (hash, elliptic) {
        (b"sha256", true) => &ECDSA_P256_SHA256_ASN1,
        (b"sha384", true) => &ECDSA_P384_SHA384_ASN1,
        (b"sha256", false) => &RSA_PKCS1_2048_8192_SHA256,
        (b"sha384", false) => &RSA_PKCS1_2048_8192_SHA384,
        (b"sha512", false) => &RSA_PKCS1_2048_8192_SHA512,
        other => panic!("no such check: {other:?}"),
    };
    Some(UnparsedPublicKey::new(algorithm, key).verify(text, signature).is_ok())
}

/// Fields 1 to 4, each of bytes.
fn fields(mut message: &[u8]) -> Option<[&[u8]; 4]> {
    let mut out: [&[u8]; 4] = [&[]; 4];
    for (number, field) in (1_u8..).zip(&mut out) {
        let (tag, rest) = message.split_first()?;
        if *tag != number << 3 | 2 {
            return None;
        }
        let (mut length, mut shift, mut rest) = (0_usize, 0, rest);
        loop {
            let (byte, behind) = rest.split_first()?;
            length |= usize::from(byte & 0x7f) << shift;
            (shift, rest) = (shift + 7, behind);
            if *byte < 0x80 {
                break;
            }
        }
        (*field, message) = rest.split_at_checked(length)?;
    }
    message.is_empty().then_some(out)
}

/// The key's bit string, and whether it is a point: from SEQUENCE { SEQUENCE { OID .. }, BIT STRING }.
fn read_key(spki: &[u8]) -> Option<(&[u8], bool)> {
    let (info, []) = element(0x30, spki)? else { return None };
    let (algorithm, rest) = element(0x30, info)?;
    let (bits, []) = element(0x03, rest)? else { return None };
    let (oid, _) = element(0x06, algorithm)?;
    let [0, key @ ..] = bits else { return None };
    match oid {
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01] => Some((key, true)),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01] => Some((key, false)),
        _ => None,
    }
}

fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = der else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match *length {
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (
            usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])),
            rest.get(2..)?,
        ),
        short => (usize::from(short), rest),
    };
    rest.split_at_checked(length)
}
