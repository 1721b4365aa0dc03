//! Says a signature check in the words of Envoy's foreign function `verify_signature`, and reads its answer.
//!
//! Both are protobuf messages (`verify_signature.proto` in Envoy's wasm extension), so small that they are written by
//! hand: request 1 `hash_function`, 2 `public_key`, 3 `signature`, 4 `text`; answer 1 `result`, 2 `error`.

use std::borrow::Cow;

/// A check that the host's native crypto can do: ECDSA and RSASSA-PKCS1-v1_5. It knows neither PSS nor Ed25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeCheck<'a> {
    /// `sha256`, `sha384` or `sha512`.
    pub hash: &'static str,
    /// `SubjectPublicKeyInfo` in DER.
    pub key: &'a [u8],
    /// DER for ECDSA, the bytes as they are for RSA.
    pub signature: Cow<'a, [u8]>,
    /// What is signed.
    pub text: &'a [u8],
}

/// Tag of a length-delimited field; numbers under 16 only.
const fn bytes_field(number: u8) -> u8 {
    number << 3 | 2
}

/// Tag of the answer's `result`: field 1, a varint.
const RESULT: u64 = 1 << 3;
/// Tag of the answer's `error`: field 2, bytes.
const ERROR: u64 = 2 << 3 | 2;

impl NativeCheck<'_> {
    /// The foreign function's argument.
    pub fn request(&self) -> Vec<u8> {
        let fields = [self.hash.as_bytes(), self.key, &self.signature, self.text];
        let size = fields
            .iter()
            .fold(0_usize, |sum, field| sum.saturating_add(field.len()).saturating_add(11));
        let mut out = Vec::with_capacity(size);
        for (number, field) in (1..).zip(fields) {
            out.push(bytes_field(number));
            push_varint(&mut out, field.len());
            out.extend(field);
        }
        out
    }
}

/// The foreign function's answer: whether the signature is good; `None` if it is no such message, or if the host says that
/// it cannot read the key or does not know the hash, which says nothing about the signature. An absent `result` is false
/// (proto3 leaves the default out).
pub fn read_answer(mut answer: &[u8]) -> Option<bool> {
    let mut result = false;
    let mut error: &[u8] = &[];
    while !answer.is_empty() {
        let (tag, rest) = varint(answer)?;
        answer = match tag & 7 {
            0 => {
                let (value, rest) = varint(rest)?;
                if tag == RESULT {
                    result = value == 1;
                }
                rest
            }
            2 if tag != RESULT | 2 => {
                let (length, rest) = varint(rest)?;
                let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                if tag == ERROR {
                    error = bytes;
                }
                rest
            }
            _ => return None,
        };
    }
    // Envoy's words for the two (source/common/crypto/utility_impl.cc, 1.33 to 1.40).
    let could_not = error.starts_with(b"Failed to initialize") || error.ends_with(b"is not supported.");
    (result || !could_not).then_some(result)
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    loop {
        // The mask leaves seven bits.
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        let shift = u32::try_from(at).ok()?.checked_mul(7)?;
        let moved = bits.checked_shl(shift)?;
        if moved.checked_shr(shift) != Some(bits) {
            return None;
        }
        value |= moved;
        if *byte < 0x80 {
            return Some((value, bytes.get(at.checked_add(1)?..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_the_protobuf_that_the_host_reads() {
        let text = [b'x'; 300];
        let check = NativeCheck {
            hash: "sha256",
            key: b"key",
            signature: Cow::Borrowed(b"sig"),
            text: &text,
        };
        let head = b"\x0a\x06sha256\x12\x03key\x1a\x03sig\x22\xac\x02";
        assert_eq!(check.request(), [head.as_slice(), &text].concat());
    }

    #[test]
    fn only_a_true_result_is_a_good_signature() {
        let cases: [(&[u8], Option<bool>); 14] = [
            (b"\x08\x01", Some(true)),
            (b"\x08\x01\x12\x00", Some(true)),
            (b"\x12\x02no\x08\x01", Some(true)),
            (b"", Some(false)),
            (b"\x08\x00", Some(false)),
            (b"\x08\x02", Some(false)),
            (b"\x08\x01\x08\x00", Some(false)),
            (b"\x12\x06failed", Some(false)),
            (b"\x12\x26Failed to verify digest. Error code: 0", Some(false)),
            (b"\x12\x23Failed to initialize digest verify.", None),
            (b"\x12\x18sha999 is not supported.", None),
            (b"\x08", None),
            (b"\x12\x09cut", None),
            (b"\x0a\x01\x01", None),
        ];
        for (answer, wanted) in cases {
            assert_eq!(read_answer(answer), wanted, "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes: Vec<u8>) {
            let _: Option<bool> = read_answer(&bytes);
        }
    }
}
