//! Reads which service a Kerberos AP-REQ names, and where the ciphertexts of its ticket and authenticator lie (RFC 4120 §5.5.1, §5.3).

use kerbridge_gss::{Enctype, Principal};

use super::der::{self, Der, Malformed};
use crate::principal::{self, MOST_COMPONENTS};

/// Which key a ticket says it was made with. Nobody has vouched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TicketKey {
    /// The key's version; a KDC may leave it out.
    pub kvno: Option<u32>,
    /// What it was encrypted by.
    pub enctype: Enctype,
}

/// What stands in the open in an AP-REQ.
pub(super) struct ApReq<'a> {
    /// `ticket.sname` and `ticket.realm`.
    pub(super) service: Principal,
    /// `ticket.enc-part.etype` and `kvno`.
    pub(super) key: TicketKey,
    /// `ticket.enc-part.cipher`.
    pub(super) ciphertext: &'a [u8],
    /// `authenticator.cipher`.
    pub(super) authenticator: &'a [u8],
}

pub(super) fn read(bytes: &[u8]) -> Result<ApReq<'_>, Malformed> {
    let mut request = Der::new(Der::new(Der::new(bytes).only(der::application(14))?).only(der::SEQUENCE)?);
    number(request.expect(der::context(0))?, 5)?;
    number(request.expect(der::context(1))?, 14)?;
    Der::new(request.expect(der::context(2))?).only(der::BIT_STRING)?;
    let ticket = request.expect(der::context(3))?;
    let (_, authenticator) = encrypted(request.expect(der::context(4))?)?;
    request.end()?;

    let mut ticket = Der::new(Der::new(Der::new(ticket).only(der::application(1))?).only(der::SEQUENCE)?);
    number(ticket.expect(der::context(0))?, 5)?;
    let realm = string(Der::new(ticket.expect(der::context(1))?).only(der::GENERAL_STRING)?)?;
    let service = service(ticket.expect(der::context(2))?, realm)?;
    let (key, ciphertext) = encrypted(ticket.expect(der::context(3))?)?;
    ticket.end()?;
    Ok(ApReq {
        service,
        key,
        ciphertext,
        authenticator,
    })
}

/// `PrincipalName ::= SEQUENCE { name-type [0] Int32, name-string [1] SEQUENCE OF KerberosString }`
fn service(bytes: &[u8], realm: &str) -> Result<Principal, Malformed> {
    let mut name = Der::new(Der::new(bytes).only(der::SEQUENCE)?);
    Der::new(name.expect(der::context(0))?).only(der::INTEGER)?;
    let mut strings = Der::new(Der::new(name.expect(der::context(1))?).only(der::SEQUENCE)?);
    name.end()?;
    let mut components = [""; MOST_COMPONENTS];
    let mut count: usize = 0;
    while !strings.is_empty() {
        let component = components.get_mut(count).ok_or(Malformed)?;
        *component = string(strings.expect(der::GENERAL_STRING)?)?;
        count = count.saturating_add(1);
    }
    let components = components.get(..count).ok_or(Malformed)?;
    principal::from_components(components, realm).map_err(|_| Malformed)
}

/// `EncryptedData ::= SEQUENCE { etype [0] Int32, kvno [1] UInt32 OPTIONAL, cipher [2] OCTET STRING }`
fn encrypted(bytes: &[u8]) -> Result<(TicketKey, &[u8]), Malformed> {
    let mut data = Der::new(Der::new(bytes).only(der::SEQUENCE)?);
    let enctype = integer(Der::new(data.expect(der::context(0))?).only(der::INTEGER)?)?;
    let enctype = Enctype::from(i32::try_from(enctype).map_err(|_| Malformed)?);
    let kvno = match data.optional(der::context(1))? {
        Some(kvno) => Some(unsigned(integer(Der::new(kvno).only(der::INTEGER)?)?)?),
        None => None,
    };
    let cipher = Der::new(data.expect(der::context(2))?).only(der::OCTET_STRING)?;
    data.end()?;
    if cipher.is_empty() {
        return Err(Malformed);
    }
    Ok((TicketKey { kvno, enctype }, cipher))
}

/// Five octets are what a number of 32 bits needs at most.
fn integer(bytes: &[u8]) -> Result<i64, Malformed> {
    let negative = bytes.first().ok_or(Malformed)? & 0x80 != 0;
    if bytes.len() > 5 {
        return Err(Malformed);
    }
    let sign = if negative { -1 } else { 0 };
    Ok(bytes
        .iter()
        .fold(sign, |number, &octet| (number << 8) | i64::from(octet)))
}

/// A read-only domain controller has versions beyond 2^31, and some write them as negative numbers (MIT asn1_k_encode.c).
fn unsigned(number: i64) -> Result<u32, Malformed> {
    u32::try_from(number)
        .or_else(|_| i32::try_from(number).map(i32::cast_unsigned))
        .map_err(|_| Malformed)
}

fn number(bytes: &[u8], wanted: u8) -> Result<(), Malformed> {
    match Der::new(bytes).only(der::INTEGER)? {
        [found] if *found == wanted => Ok(()),
        _ => Err(Malformed),
    }
}

fn string(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_ticket_is_read_as_it_stands_in_the_open() {
        let key = |enctype: &[u8], kvno: Option<&[u8]>| {
            let element = |tag, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
            let number = |at, number| element(der::context(at), &element(der::INTEGER, number));
            let cipher = element(der::context(2), &element(der::OCTET_STRING, b"x"));
            let kvno = kvno.map(|kvno| number(1, kvno)).unwrap_or_default();
            let data = element(der::SEQUENCE, &[number(0, enctype), kvno, cipher].concat());
            encrypted(&data).map(|(key, _)| (key.enctype.number(), key.kvno))
        };
        assert_eq!(key(&[18], None), Ok((18, None)));
        assert_eq!(key(&[23], Some(&[2])), Ok((23, Some(2))));
        // As Windows numbers a type of its own, and a read-only domain controller its keys.
        assert_eq!(
            key(&[0xff, 0x7b], Some(&[0x12, 0x34, 0, 1])),
            Ok((-133, Some(0x1234_0001)))
        );
        assert_eq!(key(&[18], Some(&[0x92, 0x34, 0, 1])), Ok((18, Some(0x9234_0001))));
        assert_eq!(key(&[18], Some(&[0, 0x92, 0x34, 0, 1])), Ok((18, Some(0x9234_0001))));
        for wrong in [&[][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 1]] {
            assert_eq!(key(&[18], Some(wrong)), Err(Malformed), "{wrong:?}");
            assert_eq!(key(wrong, None), Err(Malformed), "{wrong:?}");
        }
    }
}
