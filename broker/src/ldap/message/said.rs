//! What a directory says, for tests: its messages, good and bad.

use super::{
    BIND_RESPONSE, ENUMERATED, EXTENDED_RESPONSE, INTEGER, NOTICE_OF_DISCONNECTION, OCTET_STRING, PAGED_RESULTS,
    SEARCH_DONE, SEARCH_ENTRY, SEARCH_REFERENCE, SEQUENCE, SET, element, integer, message,
};

pub(super) fn answer(number: u32, tag: u8, content: &[Vec<u8>], controls: &[u8]) -> Vec<u8> {
    message(number, &element(tag, &content.concat()), controls)
}

/// `resultCode`, `matchedDN`, `diagnosticMessage`.
pub(super) fn result(code: u32, diagnosis: &str) -> [Vec<u8>; 3] {
    [
        integer(ENUMERATED, code),
        element(OCTET_STRING, b""),
        element(OCTET_STRING, diagnosis.as_bytes()),
    ]
}

pub(super) fn attribute(name: &str, values: &[&[u8]]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| element(OCTET_STRING, value)).collect();
    element(
        SEQUENCE,
        &[element(OCTET_STRING, name.as_bytes()), element(SET, &values)].concat(),
    )
}

/// The bind is taken, or refused.
pub(crate) fn bound(number: u32, code: u32) -> Vec<u8> {
    answer(number, BIND_RESPONSE, &result(code, ""), &[])
}

/// The answer to a request for TLS.
pub(crate) fn tls(number: u32, code: u32) -> Vec<u8> {
    answer(number, EXTENDED_RESPONSE, &result(code, ""), &[])
}

/// An entry with one value of each attribute.
pub(crate) fn entry(number: u32, name: &str, attributes: &[(&str, &str)]) -> Vec<u8> {
    let attributes = attributes.iter();
    let attributes: Vec<u8> = attributes
        .flat_map(|(name, value)| attribute(name, &[value.as_bytes()]))
        .collect();
    let content = [element(OCTET_STRING, name.as_bytes()), element(SEQUENCE, &attributes)];
    answer(number, SEARCH_ENTRY, &content, &[])
}

/// Somewhere else there may be more.
pub(crate) fn references(number: u32, urls: &[&str]) -> Vec<u8> {
    let urls: Vec<Vec<u8>> = urls.iter().map(|url| element(OCTET_STRING, url.as_bytes())).collect();
    answer(number, SEARCH_REFERENCE, &urls, &[])
}

/// The end of a search.
pub(crate) fn done(number: u32, code: u32) -> Vec<u8> {
    answer(number, SEARCH_DONE, &result(code, ""), &[])
}

/// The end of a page that is not the last.
pub(crate) fn page(number: u32) -> Vec<u8> {
    let value = [integer(INTEGER, 0), element(OCTET_STRING, b"more")].concat();
    let control = [
        element(OCTET_STRING, PAGED_RESULTS),
        element(OCTET_STRING, &element(SEQUENCE, &value)),
    ];
    let controls = element(SEQUENCE, &control.concat());
    answer(number, SEARCH_DONE, &result(0, ""), &controls)
}

/// The server's word that it ends the connection.
pub(crate) fn notice() -> Vec<u8> {
    let name = element(0x8a, NOTICE_OF_DISCONNECTION);
    let content = [&result(52, "")[..], &[name]].concat();
    answer(0, EXTENDED_RESPONSE, &content, &[])
}
