//! Reads which service a Kerberos AP-REQ names, and where the ciphertexts of its ticket and authenticator lie (RFC 4120 §5.5.1, §5.3).

use kerbridge_gss::Principal;

use super::der::{self, Der, Malformed};
use crate::principal::{self, MOST_COMPONENTS};

/// What stands in the open in an AP-REQ.
pub(super) struct ApReq<'a> {
    /// `ticket.sname` and `ticket.realm`.
    pub(super) service: Principal,
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
    let authenticator = encrypted(request.expect(der::context(4))?)?;
    request.end()?;

    let mut ticket = Der::new(Der::new(Der::new(ticket).only(der::application(1))?).only(der::SEQUENCE)?);
    number(ticket.expect(der::context(0))?, 5)?;
    let realm = string(Der::new(ticket.expect(der::context(1))?).only(der::GENERAL_STRING)?)?;
    let service = service(ticket.expect(der::context(2))?, realm)?;
    let ciphertext = encrypted(ticket.expect(der::context(3))?)?;
    ticket.end()?;
    Ok(ApReq {
        service,
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
fn encrypted(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut data = Der::new(Der::new(bytes).only(der::SEQUENCE)?);
    Der::new(data.expect(der::context(0))?).only(der::INTEGER)?;
    if let Some(kvno) = data.optional(der::context(1))? {
        Der::new(kvno).only(der::INTEGER)?;
    }
    let cipher = Der::new(data.expect(der::context(2))?).only(der::OCTET_STRING)?;
    data.end()?;
    if cipher.is_empty() { Err(Malformed) } else { Ok(cipher) }
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
