//! Writes the requests and reads the answers of LDAP (RFC 4511 §4): a subset of BER, bounded, without recursion.
//!
//! A filter is built of values, never of text, so there is nothing to escape.

use super::LdapError;
use crate::negotiate::der::{Der, INTEGER, OCTET_STRING, SEQUENCE};

/// Most attributes of an entry, and most values of one.
const MOST_VALUES: usize = 8192;

const ENUMERATED: u8 = 0x0a;
const BOOLEAN: u8 = 0x01;
const SET: u8 = 0x31;
const BIND: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND: u8 = 0x42;
const SEARCH: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
const CONTROLS: u8 = 0xa0;
/// RFC 4511 §4.14.1.
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// RFC 2696.
const PAGED_RESULTS: &[u8] = b"1.2.840.113556.1.4.319";
/// RFC 4511 §4.4.1.
const NOTICE_OF_DISCONNECTION: &[u8] = b"1.3.6.1.4.1.1466.20036";
/// RFC 4422 appendix A: who asks is known by the connection.
const EXTERNAL: &[u8] = b"EXTERNAL";
/// The whole path of memberships in one question (MS-ADTS §3.1.1.3.4.4.3).
const IN_CHAIN: &[u8] = b"1.2.840.113556.1.4.1941";

/// Which entries are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// An attribute has this value.
    Equals(String, Vec<u8>),
    /// An attribute is there, whatever it holds.
    Present(String),
    /// An attribute names this entry, or one that names it, and so on.
    InChain(String, Vec<u8>),
    /// One of these holds.
    Any(Vec<Self>),
    /// All of these hold.
    All(Vec<Self>),
}

/// How far below its base a search reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The base alone.
    Base,
    /// The base and all below.
    Subtree,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The distinguished name where it begins.
    pub base: String,
    /// How far it reaches.
    pub scope: Scope,
    /// Which entries are wanted.
    pub filter: Filter,
    /// Which attributes of them.
    pub attributes: Vec<String>,
    /// Most entries; more are an error.
    pub most: usize,
}

/// What a directory knows under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The distinguished name.
    pub name: String,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

/// One answer to a search.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// An entry.
    Entry(Entry),
    /// At this URL there may be more.
    Reference(String),
    /// That was all of this page; with a cookie there is another.
    Done {
        /// Where it begins.
        cookie: Vec<u8>,
    },
}

impl Entry {
    /// The values of an attribute, whose name is compared as LDAP does; none where it is absent.
    pub fn values(&self, attribute: &str) -> impl Iterator<Item = &[u8]> {
        let named = move |(name, _): &&(String, Vec<Vec<u8>>)| name.eq_ignore_ascii_case(attribute);
        let values = self.attributes.iter().filter(named);
        values.flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }

    /// An entry as a directory might give it.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str, attributes: &[(&str, &[&str])]) -> Self {
        let values = |values: &[&str]| values.iter().map(|value| value.as_bytes().to_vec()).collect();
        let attributes = attributes.iter();
        Self {
            name: name.to_owned(),
            attributes: attributes.map(|(name, of)| ((*name).to_owned(), values(of))).collect(),
        }
    }

    /// The first value, as text.
    pub fn text(&self, attribute: &str) -> Option<&str> {
        self.values(attribute)
            .next()
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether the server gave only a part of the attribute's values (MS-ADTS §3.1.1.3.1.3.3).
    pub fn is_partial(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|(name, _)| {
            name.split_once(';')
                .is_some_and(|(name, option)| name.eq_ignore_ascii_case(attribute) && option.starts_with("range="))
        })
    }
}

/// Messages are numbered, and each answer has its question's number.
pub(super) fn bind(number: u32, name: &str, password: &[u8]) -> Vec<u8> {
    let version = integer(INTEGER, 3);
    let content = [version, element(OCTET_STRING, name.as_bytes()), element(0x80, password)].concat();
    message(number, &element(BIND, &content), &[])
}

/// A bind as whom the connection itself shows (RFC 4422 appendix A).
pub(super) fn bind_external(number: u32) -> Vec<u8> {
    let version = integer(INTEGER, 3);
    // Credentials that are there and empty: as oneself. Absent they would be asked for.
    let sasl = element(
        0xa3,
        &[element(OCTET_STRING, EXTERNAL), element(OCTET_STRING, b"")].concat(),
    );
    let content = [version, element(OCTET_STRING, b""), sasl].concat();
    message(number, &element(BIND, &content), &[])
}

pub(super) fn start_tls(number: u32) -> Vec<u8> {
    message(number, &element(EXTENDED, &element(0x80, START_TLS)), &[])
}

pub(super) fn unbind(number: u32) -> Vec<u8> {
    message(number, &element(UNBIND, &[]), &[])
}

/// A search for one page; `seconds` is how long the server may take, 0 for as long as it likes.
pub(super) fn search(number: u32, search: &Search, seconds: u32, page: u32, cookie: &[u8]) -> Vec<u8> {
    let Search {
        base,
        scope,
        filter: wanted,
        attributes,
        most: _,
    } = search;
    let scope = match scope {
        Scope::Base => 0,
        Scope::Subtree => 2,
    };
    let names: Vec<u8> = attributes
        .iter()
        .flat_map(|name| element(OCTET_STRING, name.as_bytes()))
        .collect();
    let content = [
        element(OCTET_STRING, base.as_bytes()),
        integer(ENUMERATED, scope),
        // Aliases are not followed.
        integer(ENUMERATED, 0),
        integer(INTEGER, 0),
        integer(INTEGER, seconds),
        element(BOOLEAN, &[0]),
        filter(wanted),
        element(SEQUENCE, &names),
    ]
    .concat();
    let value = element(
        SEQUENCE,
        &[integer(INTEGER, page), element(OCTET_STRING, cookie)].concat(),
    );
    let control = [
        element(OCTET_STRING, PAGED_RESULTS),
        element(BOOLEAN, &[0xff]),
        element(OCTET_STRING, &value),
    ]
    .concat();
    message(number, &element(SEARCH, &content), &element(SEQUENCE, &control))
}

fn filter(wanted: &Filter) -> Vec<u8> {
    match wanted {
        Filter::Equals(attribute, value) => {
            let content = [
                element(OCTET_STRING, attribute.as_bytes()),
                element(OCTET_STRING, value),
            ]
            .concat();
            element(0xa3, &content)
        }
        Filter::Present(attribute) => element(0x87, attribute.as_bytes()),
        Filter::InChain(attribute, value) => {
            let content = [
                element(0x81, IN_CHAIN),
                element(0x82, attribute.as_bytes()),
                element(0x83, value),
            ]
            .concat();
            element(0xa9, &content)
        }
        Filter::Any(filters) => element(0xa1, &filters.iter().flat_map(filter).collect::<Vec<u8>>()),
        Filter::All(filters) => element(0xa0, &filters.iter().flat_map(filter).collect::<Vec<u8>>()),
    }
}

fn message(number: u32, operation: &[u8], controls: &[u8]) -> Vec<u8> {
    let mut content = [integer(INTEGER, number), operation.to_vec()].concat();
    if !controls.is_empty() {
        content.extend(element(CONTROLS, controls));
    }
    element(SEQUENCE, &content)
}

/// Lengths have four octets throughout: BER allows more than are needed.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[tag, 0x84][..], &length, content].concat()
}

/// A number in as few octets as it takes, the first of them without its highest bit, which would be a sign (X.690 §8.3.2).
/// OpenLDAP reads no number of five octets, whatever it is.
fn integer(tag: u8, value: u32) -> Vec<u8> {
    let octets = [&[0][..], &value.to_be_bytes()].concat();
    // A sign and as many bits as are used.
    let needless = usize::try_from(value.leading_zeros().saturating_add(7) / 8).unwrap_or_default();
    element(tag, octets.get(needless..).unwrap_or_default())
}

/// An answer of the right number, taken apart.
struct Envelope<'a> {
    tag: u8,
    operation: Der<'a>,
    controls: &'a [u8],
}

const NOT_LDAP: LdapError = LdapError::Protocol("it is no message of ldap");

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8], number: u32) -> Result<Self, LdapError> {
        let malformed = |_| NOT_LDAP;
        let mut content = Der::new(Der::new(bytes).only(SEQUENCE).map_err(malformed)?);
        let answered = content.expect(INTEGER).map_err(malformed)?;
        let answered = unsigned(answered);
        let (tag, operation) = content.any().map_err(malformed)?.ok_or(NOT_LDAP)?;
        if answered == Some(0) && tag == EXTENDED_RESPONSE && is_notice_of_disconnection(Der::new(operation)) {
            return Err(LdapError::Connection("the directory ended the connection".to_owned()));
        }
        if answered != Some(number) {
            return Err(LdapError::Protocol("it answers another question"));
        }
        let controls = content.optional(CONTROLS).map_err(malformed)?.unwrap_or_default();
        Ok(Self {
            tag,
            operation: Der::new(operation),
            controls,
        })
    }

    /// The result that ends an operation, or how it was refused.
    fn result(mut self, request: &'static str) -> Result<&'a [u8], LdapError> {
        let malformed = |_| NOT_LDAP;
        let code = unsigned(self.operation.expect(ENUMERATED).map_err(malformed)?).ok_or(NOT_LDAP)?;
        self.operation.expect(OCTET_STRING).map_err(malformed)?;
        let diagnosis = self.operation.expect(OCTET_STRING).map_err(malformed)?;
        if code == 0 {
            Ok(self.controls)
        } else {
            Err(LdapError::refused(request, code, diagnosis))
        }
    }
}

/// Whether the server's own word is that it ends the connection (RFC 4511 §4.4.1).
fn is_notice_of_disconnection(mut response: Der<'_>) -> bool {
    const RESPONSE_NAME: u8 = 0x8a;
    let mut named = || {
        response.expect(ENUMERATED)?;
        response.expect(OCTET_STRING)?;
        response.expect(OCTET_STRING)?;
        response.expect(RESPONSE_NAME)
    };
    named() == Ok(NOTICE_OF_DISCONNECTION)
}

/// A number that is not negative, of at most 32 bits.
fn unsigned(octets: &[u8]) -> Option<u32> {
    let first = octets.first()?;
    if first & 0x80 != 0 || octets.len() > 5 {
        return None;
    }
    let value = octets
        .iter()
        .fold(0_u64, |value, &octet| (value << 8) | u64::from(octet));
    u32::try_from(value).ok()
}

/// The answer to a bind with this number: the server knows who asks.
pub fn read_bind(bytes: &[u8], number: u32) -> Result<(), LdapError> {
    let envelope = Envelope::read(bytes, number)?;
    if envelope.tag != BIND_RESPONSE {
        return Err(NOT_LDAP);
    }
    envelope.result("bind").map(drop)
}

/// The answer to a wish for TLS with this number: the server is ready for it.
pub fn read_start_tls(bytes: &[u8], number: u32) -> Result<(), LdapError> {
    let envelope = Envelope::read(bytes, number)?;
    if envelope.tag != EXTENDED_RESPONSE {
        return Err(NOT_LDAP);
    }
    envelope.result("starttls").map(drop)
}

/// One answer to the search with this number.
pub fn read_answer(bytes: &[u8], number: u32) -> Result<Answer, LdapError> {
    let envelope = Envelope::read(bytes, number)?;
    match envelope.tag {
        SEARCH_ENTRY => entry(envelope.operation).map(Answer::Entry),
        SEARCH_REFERENCE => {
            // The URLs are of one place; the first will do (RFC 4511 §4.5.3).
            let mut urls = envelope.operation;
            let first = urls.expect(OCTET_STRING).map_err(|_| NOT_LDAP)?;
            Ok(Answer::Reference(String::from_utf8_lossy(first).into_owned()))
        }
        SEARCH_DONE => Ok(Answer::Done {
            cookie: cookie(envelope.result("search")?)?,
        }),
        _ => Err(NOT_LDAP),
    }
}

fn entry(mut content: Der<'_>) -> Result<Entry, LdapError> {
    let malformed = |_| NOT_LDAP;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NOT_LDAP);
    let name = text(content.expect(OCTET_STRING).map_err(malformed)?)?;
    let mut list = Der::new(content.expect(SEQUENCE).map_err(malformed)?);
    let (mut attributes, mut count) = (Vec::new(), 0_usize);
    while let Some(attribute) = list.optional(SEQUENCE).map_err(malformed)? {
        let mut attribute = Der::new(attribute);
        let name = text(attribute.expect(OCTET_STRING).map_err(malformed)?)?;
        let mut set = Der::new(attribute.expect(SET).map_err(malformed)?);
        let mut values = Vec::new();
        while let Some(value) = set.optional(OCTET_STRING).map_err(malformed)? {
            values.push(value.to_vec());
        }
        set.end().map_err(malformed)?;
        count = count.saturating_add(values.len()).saturating_add(1);
        if count > MOST_VALUES {
            return Err(LdapError::Protocol("an entry has too many values"));
        }
        attributes.push((name, values));
    }
    list.end().map_err(malformed)?;
    Ok(Entry { name, attributes })
}

/// Where the next page begins; empty where there is none, or where the server knows no pages.
fn cookie(controls: &[u8]) -> Result<Vec<u8>, LdapError> {
    let malformed = |_| NOT_LDAP;
    let mut controls = Der::new(controls);
    while let Some(control) = controls.optional(SEQUENCE).map_err(malformed)? {
        let mut control = Der::new(control);
        if control.expect(OCTET_STRING).map_err(malformed)? != PAGED_RESULTS {
            continue;
        }
        control.optional(BOOLEAN).map_err(malformed)?;
        let value = control.expect(OCTET_STRING).map_err(malformed)?;
        let mut value = Der::new(Der::new(value).only(SEQUENCE).map_err(malformed)?);
        value.expect(INTEGER).map_err(malformed)?;
        return value.expect(OCTET_STRING).map(<[u8]>::to_vec).map_err(malformed);
    }
    Ok(Vec::new())
}

#[cfg(test)]
pub(crate) mod said;
#[cfg(test)]
mod tests;
