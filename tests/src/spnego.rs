//! Builds SPNEGO tokens (RFC 4178) as clients of all kinds send them, from the specifications and not from any library.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Kerberos, 1.2.840.113554.1.2.2.
pub const KERBEROS: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// Kerberos as Windows names it first, 1.2.840.48018.1.2.2 (MS-SPNG §3.1.5.2).
pub const KERBEROS_MICROSOFT: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";
/// NTLM, 1.3.6.1.4.1.311.2.2.10.
pub const NTLM: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
/// NegoEx, 1.3.6.1.4.1.311.2.2.30 (MS-NEGOEX §2).
pub const NEGO_EX: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x1e";
/// Kerberos through the acceptor as a proxy, 1.3.6.1.5.2.5.
pub const IAKERB: &[u8] = b"\x2b\x06\x01\x05\x02\x05";
const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";

/// A type 1 message (MS-NLMP §2.2.1.1) of a Windows 10 client without a domain.
pub const NTLM_TOKEN: &[u8] =
    b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\x61\x4a\0\0\0\x0f";
/// How an `INITIATOR_NEGO` message begins (MS-NEGOEX §2.2.6.3).
pub const NEGO_EX_TOKEN: &[u8] = b"NEGOEXTS\0\0\0\0\0\0\0\0\x60\0\0\0\x70\0\0\0";

/// A DER element (X.690 §10.1) with at most 65,535 bytes of content.
#[must_use]
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(length @ ..128), _) => element.push(length),
        (_, Ok(length)) => {
            element.push(0x82);
            element.extend(length.to_be_bytes());
        }
        // Cut where no length says so: no test makes one, and one that did would see it refused.
        (_, Err(_)) => element.extend([0x82, 0xff, 0xff]),
    }
    element.extend(content);
    element
}

/// `MechTypeList` (RFC 4178 §4.1), over which `mechListMIC` is made.
#[must_use]
pub fn mechanisms(list: &[&[u8]]) -> Vec<u8> {
    let elements: Vec<u8> = list.iter().flat_map(|content| der(0x06, content)).collect();
    der(0x30, &elements)
}

/// A mechanism's initial token in its frame (RFC 2743 §3.1).
#[must_use]
pub fn framed(mechanism: &[u8], inner: &[u8]) -> Vec<u8> {
    der(0x60, &[&der(0x06, mechanism), inner].concat())
}

/// `NegTokenInit` (RFC 4178 §4.2.1) in its frame, with the first mechanism's token or none.
#[must_use]
pub fn init(list: &[&[u8]], token: Option<&[u8]>) -> Vec<u8> {
    let mut fields = der(0xa0, &mechanisms(list));
    fields.extend(token.map(|token| der(0xa2, &der(0x04, token))).unwrap_or_default());
    framed(SPNEGO, &der(0xa0, &der(0x30, &fields)))
}

/// `NegTokenResp` (RFC 4178 §4.2.2) with a token and, where one is made, a `mechListMIC`.
#[must_use]
pub fn response(token: &[u8], mic: Option<&[u8]>) -> Vec<u8> {
    let mut fields = der(0xa2, &der(0x04, token));
    fields.extend(mic.map(|mic| der(0xa3, &der(0x04, mic))).unwrap_or_default());
    der(0xa1, &der(0x30, &fields))
}

/// What is in a `NegTokenResp` of an acceptor, as far as a client looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `negState`: 0 accept-completed, 1 accept-incomplete, 2 reject, 3 request-mic.
    pub state: Option<u8>,
    /// `supportedMech`.
    pub mechanism: Option<Vec<u8>>,
    /// `responseToken`.
    pub token: Option<Vec<u8>>,
    /// `mechListMIC`.
    pub mic: Option<Vec<u8>>,
}

impl Answer {
    /// Reads the value of a `WWW-Authenticate` header; `None` where it is no `Negotiate` with a `NegTokenResp`.
    #[must_use]
    pub fn of(challenge: &[u8]) -> Option<Self> {
        let bytes = STANDARD.decode(challenge.strip_prefix(b"Negotiate ")?).ok()?;
        let (_, response, _) = element(&bytes).filter(|(tag, _, rest)| *tag == 0xa1 && rest.is_empty())?;
        let (_, mut fields, _) = element(response).filter(|(tag, ..)| *tag == 0x30)?;
        let mut answer = Self::default();
        while let Some((tag, field, rest)) = element(fields) {
            fields = rest;
            let (_, content, _) = element(field)?;
            match tag {
                0xa0 => answer.state = content.first().copied(),
                0xa1 => answer.mechanism = Some(content.to_vec()),
                0xa2 => answer.token = Some(content.to_vec()),
                0xa3 => answer.mic = Some(content.to_vec()),
                _ => return None,
            }
        }
        Some(answer)
    }
}

/// Tag, content and what follows.
pub(crate) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest
            .split_first_chunk::<2>()
            .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acceptors_answer_is_read_back() {
        let mut fields = der(0xa0, &der(0x0a, &[1]));
        fields.extend(der(0xa1, &der(0x06, KERBEROS)));
        fields.extend(der(0xa2, &der(0x04, &[7; 300])));
        let token = der(0xa1, &der(0x30, &fields));
        let challenge = format!("Negotiate {}", STANDARD.encode(&token));
        assert_eq!(
            Answer::of(challenge.as_bytes()),
            Some(Answer {
                state: Some(1),
                mechanism: Some(KERBEROS.to_vec()),
                token: Some(vec![7; 300]),
                mic: None,
            })
        );
        let mine = format!("Negotiate {}", STANDARD.encode(response(b"token", Some(b"mic"))));
        assert_eq!(Answer::of(mine.as_bytes()).unwrap().mic.as_deref(), Some(&b"mic"[..]));
        assert_eq!(Answer::of(b"Negotiate"), None);
    }
}
