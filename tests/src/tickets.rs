//! Finds the Kerberos tickets in whatever somebody printed, sent or kept, by their structure and not by their name.
//!
//! A ticket (RFC 4120 §5.3) is DER in the clear wherever it goes: in an AP-REQ, in a KDC's answer, in a credential cache, in
//! `KRB-CRED`. Only what is encrypted hides one, and base64, which is undone here, as often as it was done.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::spnego::element;

/// Shorter than the base64 of any ticket, in characters.
const SHORTEST: usize = 64;
/// How often base64 of base64 is undone.
const DEPTH: usize = 3;

/// `[APPLICATION 1]`: a ticket.
const TICKET: u8 = 0x61;
/// `SEQUENCE`, `INTEGER`, `GeneralString`, and context tags.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const GENERAL_STRING: u8 = 0x1b;
const FIELDS: [u8; 4] = [0xa0, 0xa1, 0xa2, 0xa3];

/// Whatever follows the last whole byte is no reason to read nothing.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The services that the tickets in these bytes are for, with their realms: `HTTP/localhost@LAB.TEST`.
#[must_use]
pub fn services(bytes: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    search(bytes, DEPTH, &mut found);
    found
}

fn search(bytes: &[u8], depth: usize, found: &mut BTreeSet<String>) {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == TICKET);
    found.extend(starts.filter_map(|(at, _)| ticket(bytes.get(at..)?)));
    let Some(deeper) = depth.checked_sub(1) else { return };
    let is_of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    for run in bytes
        .split(|byte| !is_of_base64(byte))
        .filter(|run| run.len() >= SHORTEST)
    {
        let standard: Vec<u8> = run
            .iter()
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect();
        // What stands before it may be of the same characters.
        for shift in 0..4 {
            let text = standard.get(shift..).unwrap_or_default();
            // One character is left over where the length says that there is half a byte of it.
            let whole = text.len().saturating_sub(usize::from(text.len().wrapping_rem(4) == 1));
            if let Ok(inner) = LENIENT.decode(text.get(..whole).unwrap_or_default()) {
                search(&inner, deeper, found);
            }
        }
    }
}

/// The service of the ticket that begins here.
fn ticket(bytes: &[u8]) -> Option<String> {
    let inside = |bytes, wanted| element(bytes).filter(|(tag, ..)| *tag == wanted);
    let (_, content, _) = inside(bytes, TICKET)?;
    let (_, mut rest, after) = inside(content, SEQUENCE)?;
    if !after.is_empty() {
        return None;
    }
    let mut fields = Vec::new();
    for tag in FIELDS {
        let (_, field, following) = inside(rest, tag)?;
        fields.push(field);
        rest = following;
    }
    let [version, realm, name, _encrypted] = fields.as_slice() else {
        return None;
    };
    let is_version_five = inside(version, INTEGER).is_some_and(|(_, number, _)| number == [5]);
    let (_, realm, _) = inside(realm, GENERAL_STRING)?;
    let (_, name, _) = inside(name, SEQUENCE)?;
    let (_, _type, parts) = inside(name, FIELDS[0])?;
    let (_, parts, _) = inside(parts, FIELDS[1])?;
    let (_, mut parts, _) = inside(parts, SEQUENCE)?;
    let mut words = Vec::new();
    while let Some((_, word, following)) = inside(parts, GENERAL_STRING) {
        words.push(String::from_utf8_lossy(word).into_owned());
        parts = following;
    }
    (is_version_five && !words.is_empty()).then(|| format!("{}@{}", words.join("/"), String::from_utf8_lossy(realm)))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;
    use crate::kdc::Kdc;

    #[test]
    fn tickets_are_found_in_a_credential_cache_and_however_they_are_wrapped() {
        let kdc = Kdc::start("LAB.TEST").unwrap();
        kdc.add_users(&["alice"]).unwrap();
        let cache = std::fs::read(kdc.kinit("alice").unwrap().path()).unwrap();
        let granting = BTreeSet::from(["krbtgt/LAB.TEST@LAB.TEST".to_owned()]);
        assert_eq!(services(&cache), granting);
        let text = STANDARD.encode(&cache);
        let url = URL_SAFE_NO_PAD.encode(&cache);
        for wrapped in [
            text.clone(),
            format!("{{\"access_token\":\"{text}\",\"scope\":\"\"}}"),
            format!("Negotiate {text}\r\n"),
            format!("token{text}"),
            format!("e30.{url}.c2ln"),
            STANDARD.encode(format!("{{\"ticket\":\"{url}\"}}")),
        ] {
            assert_eq!(services(wrapped.as_bytes()), granting, "{wrapped}");
        }
        assert_eq!(services(b"krbtgt/LAB.TEST@LAB.TEST"), BTreeSet::new());
        // A cut one is none that anybody could use; it stands at the end of the cache.
        assert_eq!(services(&cache[..cache.len() - 20]), BTreeSet::new());
    }
}
