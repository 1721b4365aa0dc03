//! Reads an `application/x-www-form-urlencoded` body strictly: what could be read in two ways is refused.

use zeroize::Zeroizing;

/// Most fields in one form.
const MOST_FIELDS: usize = 32;

/// The body is no form: a broken escape, a name that is not UTF-8, or too many fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotAForm;

/// A field, decoded. Values may be credentials, and need not be UTF-8.
pub(super) type Field = (String, Zeroizing<Vec<u8>>);

/// The fields in their order; those without a value count as absent (RFC 6749 §3.2).
pub(super) fn fields(body: &[u8]) -> Result<Vec<Field>, NotAForm> {
    let mut fields = Vec::new();
    for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let at = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(at);
        let name = String::from_utf8(decode(name)?).map_err(|_| NotAForm)?;
        let value = Zeroizing::new(decode(value.strip_prefix(b"=").unwrap_or(value))?);
        if fields.len() >= MOST_FIELDS {
            return Err(NotAForm);
        }
        fields.push((name, value));
    }
    Ok(fields)
}

fn decode(text: &[u8]) -> Result<Vec<u8>, NotAForm> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let plain = rest.iter().position(|byte| matches!(byte, b'+' | b'%'));
        let (plain, escaped) = rest.split_at(plain.unwrap_or(rest.len()));
        bytes.extend_from_slice(plain);
        let Some((&byte, after)) = escaped.split_first() else {
            return Ok(bytes);
        };
        rest = after;
        bytes.push(if byte == b'+' {
            b' '
        } else {
            let (&[high, low], after) = rest.split_first_chunk::<2>().ok_or(NotAForm)?;
            rest = after;
            (digit(high)? << 4) | digit(low)?
        });
    }
}

fn digit(byte: u8) -> Result<u8, NotAForm> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
        .ok_or(NotAForm)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Vec<(String, String)> {
        let fields = fields(body.as_bytes()).unwrap();
        fields
            .into_iter()
            .map(|(name, value)| (name, String::from_utf8(value.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn names_and_values_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read("a=b+c%2B%2f&&d=&e&f=g=h"),
            [pair("a", "b c+/"), pair("d", ""), pair("e", ""), pair("f", "g=h")]
        );
    }

    #[test]
    fn broken_escapes_and_other_bytes_are_refused() {
        for body in [&b"a=%"[..], b"a=%2", b"a=%zz", b"%ff=a", b"\xff=a", b"a=%+1"] {
            assert_eq!(fields(body), Err(NotAForm));
        }
        assert_eq!(fields(b"a=%ff").unwrap()[0].1.as_slice(), b"\xff");
        assert_eq!(fields("a=b&".repeat(33).as_bytes()), Err(NotAForm));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body: Vec<u8>) {
            if let Ok(fields) = fields(&body) {
                prop_assert!(fields.len() <= MOST_FIELDS);
            }
        }
    }
}
