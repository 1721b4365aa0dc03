//! Decides, before GSSAPI sees it, whether a Negotiate token can be a Kerberos ticket, and for which service.
//!
//! What is not Kerberos is refused by name here, since GSSAPI would only say "failure". What GSSAPI would accept but we
//! cannot read is refused too: a session is named after the ticket's ciphertext (RFC 4120 §5.3).

mod ap_req;
pub(crate) mod der;

use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gss::Principal;
use kerbridge_wire::Reason;
use kerbridge_wire::exchange::NEGOTIATE_LIMIT;
use zeroize::Zeroizing;

pub use ap_req::TicketKey;
use der::{Der, Malformed};

/// A SPNEGO (RFC 4178) or Kerberos (RFC 4121) token that holds an AP-REQ. Not yet believed.
pub struct NegotiateToken {
    bytes: Zeroizing<Vec<u8>>,
    /// All of a first leg, the Kerberos token in a second.
    beginning: Range<usize>,
    ticket: Range<usize>,
    authenticator: Range<usize>,
    service: Principal,
    key: TicketKey,
}

/// What a client may begin with.
#[derive(Debug)]
pub enum FirstToken {
    /// A token with its ticket: all that most clients ever send.
    Ticket(NegotiateToken),
    /// Kerberos is offered, and its ticket is to be asked for.
    Opening(OpeningToken),
}

/// A SPNEGO initial token that offers Kerberos without a ticket, since something else is preferred (MS-SPNG §3.1.5) or
/// nothing was sent in advance (RFC 4178 §4.2.1).
pub struct OpeningToken {
    bytes: Zeroizing<Vec<u8>>,
}

/// Why a text is no such token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiateError {
    /// More than [`NEGOTIATE_LIMIT`] characters.
    TooLarge,
    /// Not base64 with padding (RFC 4648 §4).
    NotBase64,
    /// Not what SPNEGO or Kerberos say it should be.
    Malformed,
    /// NTLM, bare or as the only mechanism that SPNEGO offers.
    Ntlm,
    /// Mechanisms, but not Kerberos among them; IAKERB counts as another.
    NoKerberos,
    /// A later leg (`NegTokenResp`) of a handshake that this broker does not hold.
    LaterLeg,
    /// Not the second leg of the handshake that it came with.
    NotSecond,
}

impl NegotiateError {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::TooLarge => Reason::TokenTooLarge,
            Self::NotBase64 | Self::Malformed => Reason::MalformedCredentials,
            Self::Ntlm => Reason::NtlmToken,
            Self::NoKerberos => Reason::MechUnsupported,
            Self::LaterLeg | Self::NotSecond => Reason::ContinuationLost,
        }
    }
}

impl fmt::Display for NegotiateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "longer than 64 KiB of base64",
            Self::NotBase64 => "not base64",
            Self::Malformed => "neither a SPNEGO nor a Kerberos token with a ticket",
            Self::Ntlm => "NTLM",
            Self::NoKerberos => "no Kerberos mechanism is offered",
            Self::LaterLeg => {
                "a later leg without the first: both must come over one HTTP/1.1 connection, to one broker, within 10 s"
            }
            Self::NotSecond => "not the second leg of a handshake",
        })
    }
}

impl std::error::Error for NegotiateError {}

impl From<Malformed> for NegotiateError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
const KERBEROS: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// Kerberos with a bit lost, as Windows 2000 sent it and all since (MS-SPNG §3.1.5.2).
const KERBEROS_MICROSOFT: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";
const _: () = assert!(KERBEROS.len() == KERBEROS_MICROSOFT.len());
/// The identifier of a Kerberos token with an AP-REQ (RFC 4121 §4.1).
const AP_REQ_TOKEN: &[u8] = &[1, 0];
const NTLM: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
const NTLM_SIGNATURE: &[u8] = b"NTLMSSP\0";
/// Mechanisms that are looked at; browsers send up to four.
const MOST_MECHANISMS: usize = 32;

impl FirstToken {
    /// Reads what follows `Negotiate ` in the header of a client that begins.
    pub fn parse(text: &str) -> Result<Self, NegotiateError> {
        let bytes = decode(text)?;
        match first_leg(&bytes)? {
            Some(ap_req) => {
                let ap_req = read_in(&bytes, ap_req)?;
                let beginning = 0..bytes.len();
                Ok(Self::Ticket(NegotiateToken::new(bytes, beginning, ap_req)))
            }
            None => Ok(Self::Opening(OpeningToken { bytes })),
        }
    }
}

impl OpeningToken {
    /// All of it, for GSSAPI.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for OpeningToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningToken({} bytes)", self.bytes.len())
    }
}

impl NegotiateToken {
    /// Reads what follows `Negotiate ` in the header of a client that was asked for its ticket.
    pub fn parse_second(text: &str) -> Result<Self, NegotiateError> {
        let bytes = decode(text)?;
        let token = second_leg(&bytes)?;
        let ap_req = read_in(&bytes, ticket_of(token)?)?;
        let beginning = range_in(&bytes, token).ok_or(NegotiateError::Malformed)?;
        Ok(Self::new(bytes, beginning, ap_req))
    }

    fn new(mut bytes: Zeroizing<Vec<u8>>, beginning: Range<usize>, ap_req: Found) -> Self {
        let Found {
            service,
            key,
            ticket,
            authenticator,
            mechanism,
        } = ap_req;
        if let Some(mechanism) = bytes.get_mut(mechanism) {
            mechanism.copy_from_slice(KERBEROS);
        }
        Self {
            bytes,
            beginning,
            ticket,
            authenticator,
            service,
            key,
        }
    }

    /// All of it, for GSSAPI, with the Kerberos token under Kerberos' own identifier: MIT's acceptor credential knows no other,
    /// and nothing that a client signs covers it (RFC 4178 §5: the MIC is over the list of mechanisms).
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As much of it as GSSAPI takes from a client that begins: all of a first leg, the Kerberos token in a second.
    pub fn as_beginning(&self) -> &[u8] {
        self.bytes.get(self.beginning.clone()).unwrap_or_default()
    }

    /// The ticket's ciphertext: the same for every token made from one ticket.
    pub fn ticket(&self) -> &[u8] {
        self.bytes.get(self.ticket.clone()).unwrap_or_default()
    }

    /// The authenticator's ciphertext: another in every token that a client makes, and the same however a token is wrapped.
    pub fn authenticator(&self) -> &[u8] {
        self.bytes.get(self.authenticator.clone()).unwrap_or_default()
    }

    /// The service that the ticket names. Nobody has vouched for it.
    pub fn service(&self) -> &Principal {
        &self.service
    }

    /// The key that the ticket names.
    pub fn key(&self) -> TicketKey {
        self.key
    }
}

impl fmt::Debug for NegotiateToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NegotiateToken")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// What an AP-REQ says in the open, and where.
struct Found {
    service: Principal,
    key: TicketKey,
    ticket: Range<usize>,
    authenticator: Range<usize>,
    /// The identifier of the frame around the AP-REQ.
    mechanism: Range<usize>,
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, NegotiateError> {
    if text.len() > NEGOTIATE_LIMIT {
        return Err(NegotiateError::TooLarge);
    }
    let bytes = STANDARD.decode(text).map_err(|_| NegotiateError::NotBase64)?;
    Ok(Zeroizing::new(bytes))
}

fn read_in(token: &[u8], ap_req: &[u8]) -> Result<Found, NegotiateError> {
    // Both identifiers have this length, and the token identifier stands between.
    let begin = range_in(token, ap_req).ok_or(NegotiateError::Malformed)?.start;
    let end = begin.checked_sub(AP_REQ_TOKEN.len()).ok_or(NegotiateError::Malformed)?;
    let mechanism = end.checked_sub(KERBEROS.len()).ok_or(NegotiateError::Malformed)?..end;
    let ap_req = ap_req::read(ap_req)?;
    Ok(Found {
        mechanism,
        ticket: range_in(token, ap_req.ciphertext).ok_or(NegotiateError::Malformed)?,
        authenticator: range_in(token, ap_req.authenticator).ok_or(NegotiateError::Malformed)?,
        service: ap_req.service,
        key: ap_req.key,
    })
}

/// The AP-REQ inside a first token, if it has one.
fn first_leg(bytes: &[u8]) -> Result<Option<&[u8]>, NegotiateError> {
    if bytes.starts_with(NTLM_SIGNATURE) {
        return Err(NegotiateError::Ntlm);
    }
    if bytes.first() == Some(&der::context(1)) && Der::new(bytes).only(der::context(1)).is_ok() {
        return Err(NegotiateError::LaterLeg);
    }
    let (mechanism, inner) = initial_token(bytes)?;
    match mechanism {
        SPNEGO => spnego(inner),
        KERBEROS | KERBEROS_MICROSOFT => kerberos(inner).map(Some),
        NTLM => Err(NegotiateError::Ntlm),
        _ => Err(NegotiateError::NoKerberos),
    }
}

/// RFC 4178 §4.2.2: the mechanism's token inside a `NegTokenResp`.
fn second_leg(bytes: &[u8]) -> Result<&[u8], NegotiateError> {
    let Ok(response) = Der::new(bytes).only(der::context(1)) else {
        return Err(NegotiateError::NotSecond);
    };
    let mut fields = Der::new(Der::new(response).only(der::SEQUENCE)?);
    // negState [0], supportedMech [1] and mechListMIC [3] are GSSAPI's affair, as long as they are what they should be.
    field(&mut fields, 0, der::ENUMERATED)?;
    field(&mut fields, 1, der::OBJECT_IDENTIFIER)?;
    let token = field(&mut fields, 2, der::OCTET_STRING)?;
    field(&mut fields, 3, der::OCTET_STRING)?;
    fields.end()?;
    token.ok_or(NegotiateError::NotSecond)
}

/// The value of `[number]`, one element with this tag, where there is such a field. MIT 1.22 follows a null pointer where a
/// `mechListMIC` is none (its ticket 9213).
fn field<'a>(fields: &mut Der<'a>, number: u8, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
    let value = fields.optional(der::context(number))?;
    value.map(|value| Der::new(value).only(tag)).transpose()
}

/// RFC 2743 §3.1: `[APPLICATION 0] { thisMech OBJECT IDENTIFIER, innerToken }`.
fn initial_token(bytes: &[u8]) -> Result<(&[u8], &[u8]), NegotiateError> {
    let mut token = Der::new(Der::new(bytes).only(der::application(0))?);
    let mechanism = token.expect(der::OBJECT_IDENTIFIER)?;
    Ok((mechanism, token.rest()))
}

/// RFC 4121 §4.1: token identifier 01 00, then the AP-REQ.
fn kerberos(inner: &[u8]) -> Result<&[u8], NegotiateError> {
    inner.strip_prefix(AP_REQ_TOKEN).ok_or(NegotiateError::Malformed)
}

/// RFC 4178 §4.2.1: `NegTokenInit`.
fn spnego(inner: &[u8]) -> Result<Option<&[u8]>, NegotiateError> {
    let mut fields = Der::new(Der::new(Der::new(inner).only(der::context(0))?).only(der::SEQUENCE)?);
    let mut mechanisms = Der::new(Der::new(fields.expect(der::context(0))?).only(der::SEQUENCE)?);
    let (mut first, mut has_kerberos, mut only_ntlm) = (None, false, true);
    for count in 0.. {
        if mechanisms.is_empty() {
            break;
        }
        if count == MOST_MECHANISMS {
            return Err(NegotiateError::Malformed);
        }
        let mechanism = mechanisms.expect(der::OBJECT_IDENTIFIER)?;
        // X.690 §8.19.2. MIT before 1.20.2 reads beyond its list where there is one that it cannot keep (its ticket 9085).
        if mechanism.is_empty() {
            return Err(NegotiateError::Malformed);
        }
        first = first.or(Some(mechanism));
        has_kerberos |= matches!(mechanism, KERBEROS | KERBEROS_MICROSOFT);
        only_ntlm &= mechanism == NTLM;
    }
    let first = first.ok_or(NegotiateError::Malformed)?;
    if only_ntlm {
        return Err(NegotiateError::Ntlm);
    }
    if !has_kerberos {
        return Err(NegotiateError::NoKerberos);
    }
    // reqFlags [1] say nothing (§4.2.1); mechToken [2] is the first mechanism's; mechListMIC [3] is GSSAPI's affair.
    field(&mut fields, 1, der::BIT_STRING)?;
    let token = field(&mut fields, 2, der::OCTET_STRING)?;
    field(&mut fields, 3, der::OCTET_STRING)?;
    fields.end()?;
    match (first, token) {
        (KERBEROS | KERBEROS_MICROSOFT, Some(token)) => ticket_of(token).map(Some),
        // Another mechanism's token (NTLM's, NegoEx's) is dropped unread, by GSSAPI too.
        (_, _) => Ok(None),
    }
}

/// The AP-REQ inside a mechanism's token, which is to be Kerberos'.
fn ticket_of(token: &[u8]) -> Result<&[u8], NegotiateError> {
    if token.starts_with(NTLM_SIGNATURE) {
        return Err(NegotiateError::Ntlm);
    }
    match initial_token(token)? {
        (KERBEROS | KERBEROS_MICROSOFT, inner) => kerberos(inner),
        (_, _) => Err(NegotiateError::Malformed),
    }
}

/// Where a part lies in the whole.
fn range_in(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let range = start..start.checked_add(part.len())?;
    whole.get(range.clone()).map(|_| range)
}

#[cfg(test)]
pub(crate) mod tests;
