//! Writes the little DER (ITU-T X.690) that the host's native crypto wants: public keys and ECDSA signatures.

/// `SubjectPublicKeyInfo` of a P-256 key up to its point of 65 bytes (RFC 5480 §2).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// `SubjectPublicKeyInfo` of a P-384 key up to its point of 97 bytes (RFC 5480 §2).
const P384: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22, 0x03, 0x62, 0x00,
];
/// `SubjectPublicKeyInfo` of an Ed25519 key up to its 32 bytes (RFC 8410 §4).
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The `AlgorithmIdentifier` rsaEncryption with its NULL (RFC 3279 §2.3.1).
const RSA: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// The P-256 key of an uncompressed point.
pub(crate) fn p256_key(point: &[u8]) -> Vec<u8> {
    [P256.as_slice(), point].concat()
}

/// The P-384 key of an uncompressed point.
pub(crate) fn p384_key(point: &[u8]) -> Vec<u8> {
    [P384.as_slice(), point].concat()
}

/// The Ed25519 key of these bytes.
pub(crate) fn ed25519_key(bytes: &[u8; 32]) -> Vec<u8> {
    [ED25519.as_slice(), bytes].concat()
}

/// `RSAPublicKey` of this modulus and exponent (RFC 8017 §A.1.1).
pub(crate) fn rsa_numbers(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::with_capacity(modulus.len().saturating_add(32));
    push_integer(&mut numbers, modulus);
    push_integer(&mut numbers, exponent);
    let mut out = Vec::with_capacity(numbers.len().saturating_add(4));
    push(&mut out, SEQUENCE, &[&numbers]);
    out
}

/// The RSA key of these [numbers](rsa_numbers) (RFC 5280 §4.1).
pub(crate) fn rsa_key(numbers: &[u8]) -> Vec<u8> {
    let mut key = RSA.to_vec();
    push(&mut key, BIT_STRING, &[&[0], numbers]); // no unused bits
    let mut out = Vec::with_capacity(key.len().saturating_add(4));
    push(&mut out, SEQUENCE, &[&key]);
    out
}

/// An ECDSA signature of r and s as big-endian bytes of any width (RFC 3279 §2.2.3).
pub fn ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::with_capacity(104);
    push_integer(&mut numbers, r);
    push_integer(&mut numbers, s);
    let mut out = Vec::with_capacity(108);
    push(&mut out, SEQUENCE, &[&numbers]);
    out
}

/// The bytes of a number without those that add nothing.
pub(crate) fn without_leading_zeros(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}

/// A number that is not negative, in the fewest bytes (X.690 §8.3.2): one zero before a first bit that is set, and zero
/// itself as one byte.
fn push_integer(out: &mut Vec<u8>, number: &[u8]) {
    let number = without_leading_zeros(number);
    let is_plain = number.first().is_some_and(|first| *first < 0x80);
    push(out, INTEGER, &[if is_plain { &[] } else { &[0] }, number]);
}

/// One element: tag, length in the fewest bytes (X.690 §10.1), content.
fn push(out: &mut Vec<u8>, tag: u8, content: &[&[u8]]) {
    let length = content.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    out.push(tag);
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => out.push(short),
        Ok(_) | Err(_) => {
            let bytes = length.to_be_bytes();
            let bytes = without_leading_zeros(&bytes);
            // A usize has no more than 8 bytes.
            out.push(0x80_u8.saturating_add(u8::try_from(bytes.len()).unwrap_or(8)));
            out.extend(bytes);
        }
    }
    for part in content {
        out.extend(*part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_minimal_and_never_negative() {
        let cases: [(&[u8], &[u8]); 6] = [
            (&[], &[2, 1, 0]),
            (&[0, 0], &[2, 1, 0]),
            (&[1], &[2, 1, 1]),
            (&[0, 0, 0x7f], &[2, 1, 0x7f]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0, 0xff, 0], &[2, 3, 0, 0xff, 0]),
        ];
        for (number, wanted) in cases {
            let mut out = Vec::new();
            push_integer(&mut out, number);
            assert_eq!(out, wanted, "{number:?}");
        }
    }

    #[test]
    fn lengths_are_minimal() {
        for (length, head) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (255, &[4, 0x81, 255]),
            (256, &[4, 0x82, 1, 0]),
            (65536, &[4, 0x83, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            push(&mut out, 4, &[&vec![7; length]]);
            assert_eq!(out.get(..head.len()), Some(head), "{length}");
            assert_eq!(out.len(), head.len() + length);
        }
    }

    #[test]
    fn an_rsa_key_reads_as_rfc_8017_says() {
        let info = [
            0x30, 0x1e, 0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0,
        ];
        let key = [3, 0x0d, 0, 0x30, 0x0a, 2, 3, 0, 0x80, 1, 2, 3, 1, 0, 1];
        assert_eq!(
            rsa_key(&rsa_numbers(&[0x80, 1], &[1, 0, 1])),
            [info.as_slice(), &key].concat()
        );
    }

    /// An element of this tag with a short length, and what follows it.
    fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
        match der {
            [found, length @ 0..0x80, rest @ ..] if *found == tag => rest.split_at_checked(usize::from(*length)),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn a_signature_reads_back_as_the_same_numbers(r: [u8; 48], s: [u8; 48]) {
            let der = ecdsa_signature(&r, &s);
            let (numbers, behind) = element(SEQUENCE, &der).unwrap();
            let (first, rest) = element(INTEGER, numbers).unwrap();
            let (second, end) = element(INTEGER, rest).unwrap();
            prop_assert!(behind.is_empty() && end.is_empty());
            for (number, bytes) in [(first, r), (second, s)] {
                prop_assert!(matches!(number, [0..0x80] | [1..0x80, ..] | [0, 0x80..=0xff, ..]), "{:?}", number);
                prop_assert_eq!(without_leading_zeros(number), without_leading_zeros(&bytes));
            }
        }
    }
}
