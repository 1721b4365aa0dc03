mod legs;

use proptest::prelude::*;

use super::*;

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => bytes.push(length),
        Ok(_) | Err(_) => {
            bytes.push(0x84);
            bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend(content);
    bytes
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(der::SEQUENCE, &parts.concat())
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    element(der::context(number), content)
}

fn integer(value: u8) -> Vec<u8> {
    element(der::INTEGER, &[value])
}

fn string(text: &str) -> Vec<u8> {
    element(der::GENERAL_STRING, text.as_bytes())
}

fn encrypted(cipher: &[u8]) -> Vec<u8> {
    let cipher = element(der::OCTET_STRING, cipher);
    sequence(&[field(0, &integer(18)), field(1, &integer(2)), field(2, &cipher)])
}

/// An AP-REQ for `HTTP/<host>@A.TEST` with this ciphertext.
fn ap_req(host: &str, cipher: &[u8]) -> Vec<u8> {
    ap_req_and(host, cipher, &[], &[])
}

/// The same with something more at the end of the ticket and of the request.
fn ap_req_and(host: &str, cipher: &[u8], in_ticket: &[u8], in_request: &[u8]) -> Vec<u8> {
    let names = sequence(&[string("HTTP"), string(host)]);
    let ticket = sequence(&[
        field(0, &integer(5)),
        field(1, &string("A.TEST")),
        field(2, &sequence(&[field(0, &integer(2)), field(1, &names)])),
        field(3, &encrypted(cipher)),
        in_ticket.to_vec(),
    ]);
    let request = sequence(&[
        field(0, &integer(5)),
        field(1, &integer(14)),
        field(2, &element(der::BIT_STRING, &[0, 0x20, 0, 0, 0])),
        field(3, &element(der::application(1), &ticket)),
        field(4, &encrypted(b"authenticator")),
        in_request.to_vec(),
    ]);
    element(der::application(14), &request)
}

fn framed(mechanism: &[u8], inner: &[u8]) -> Vec<u8> {
    element(
        der::application(0),
        &[element(der::OBJECT_IDENTIFIER, mechanism), inner.to_vec()].concat(),
    )
}

fn krb5(host: &str, cipher: &[u8]) -> Vec<u8> {
    framed(KERBEROS, &[&[1, 0][..], &ap_req(host, cipher)].concat())
}

fn neg_token_init(mechanisms: &[&[u8]], token: Option<&[u8]>) -> Vec<u8> {
    let list: Vec<Vec<u8>> = mechanisms
        .iter()
        .map(|oid| element(der::OBJECT_IDENTIFIER, oid))
        .collect();
    let mut parts = vec![field(0, &sequence(&list))];
    parts.extend(token.map(|token| field(2, &element(der::OCTET_STRING, token))));
    framed(SPNEGO, &field(0, &sequence(&parts)))
}

fn parse(bytes: &[u8]) -> Result<FirstToken, NegotiateError> {
    FirstToken::parse(&STANDARD.encode(bytes))
}

/// A first token that has its ticket.
fn ticketed(bytes: &[u8]) -> NegotiateToken {
    match parse(bytes).unwrap() {
        FirstToken::Ticket(token) => token,
        FirstToken::Opening(token) => panic!("{token:?}"),
    }
}

/// What `mechTypes` of tokens may say beside Kerberos: 1.3.6.1.4.1.311.2.2.30 and 1.3.6.1.5.2.5.
const NEGO_EX: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x1e";
const IAKERB: &[u8] = b"\x2b\x06\x01\x05\x02\x05";

/// A token that reads well.
pub(crate) fn token() -> NegotiateToken {
    ticketed(&neg_token_init(&[KERBEROS], Some(&krb5("host.test", b"cipher"))))
}

/// A token for `HTTP/<host>@A.TEST` that reads well, with a ticket of its own.
pub(crate) fn token_for(host: &str, cipher: &[u8]) -> Vec<u8> {
    neg_token_init(&[KERBEROS], Some(&krb5(host, cipher)))
}

/// The same, as it stands in the header.
pub(crate) fn token_text() -> String {
    STANDARD.encode(token().as_bytes())
}

/// Kerberos offered without a ticket, as it stands in the header.
pub(crate) fn opening_text() -> String {
    STANDARD.encode(neg_token_init(&[NTLM, KERBEROS], Some(b"NTLMSSP\0")))
}

/// A second leg that reads well, as it stands in the header.
pub(crate) fn second_text() -> String {
    STANDARD.encode(legs::second(&krb5("host.test", b"cipher")))
}

#[test]
fn kerberos_is_found_bare_and_in_spnego_under_both_identifiers() {
    let bare = krb5("host.test", b"cipher");
    let microsoft = framed(
        KERBEROS_MICROSOFT,
        &[&[1, 0][..], &ap_req("host.test", b"cipher")].concat(),
    );
    let windows = |token| neg_token_init(&[KERBEROS_MICROSOFT, KERBEROS, NEGO_EX, NTLM], Some(token));
    // What GSSAPI gets has the token, but not the list, under Kerberos' own identifier.
    for (bytes, for_gssapi) in [
        (bare.clone(), bare.clone()),
        (microsoft.clone(), bare.clone()),
        (
            neg_token_init(&[KERBEROS], Some(&bare)),
            neg_token_init(&[KERBEROS], Some(&bare)),
        ),
        (windows(&bare), windows(&bare)),
        (windows(&microsoft), windows(&bare)),
    ] {
        let token = ticketed(&bytes);
        assert_eq!(token.service().as_str(), "HTTP/host.test@A.TEST");
        assert_eq!(token.ticket(), b"cipher");
        assert_eq!(token.authenticator(), b"authenticator");
        assert_eq!(token.as_bytes(), for_gssapi);
    }
}

#[test]
fn a_ticket_larger_than_a_short_length_is_found() {
    let cipher = vec![7; 40_000];
    let token = ticketed(&neg_token_init(&[KERBEROS], Some(&krb5("host.test", &cipher))));
    assert_eq!(token.ticket(), cipher);
}

#[test]
fn what_is_not_kerberos_is_refused_by_name() {
    let bare = krb5("host.test", b"cipher");
    for (bytes, error) in [
        (b"NTLMSSP\0\x01\0\0\0".to_vec(), NegotiateError::Ntlm),
        (framed(NTLM, b"NTLMSSP\0"), NegotiateError::Ntlm),
        (neg_token_init(&[NTLM], Some(b"NTLMSSP\0")), NegotiateError::Ntlm),
        (
            neg_token_init(&[NEGO_EX, NTLM], Some(b"NTLMSSP\0")),
            NegotiateError::NoKerberos,
        ),
        (neg_token_init(&[IAKERB], Some(b"x")), NegotiateError::NoKerberos),
        (framed(IAKERB, b"\x05\x01"), NegotiateError::NoKerberos),
        (
            neg_token_init(&[KERBEROS, NTLM], Some(b"NTLMSSP\0")),
            NegotiateError::Ntlm,
        ),
        (field(1, &sequence(&[])), NegotiateError::LaterLeg),
        (neg_token_init(&[], None), NegotiateError::Malformed),
        (neg_token_init(&[KERBEROS; 33], Some(&bare)), NegotiateError::Malformed),
        (
            neg_token_init(&[KERBEROS], Some(&framed(NTLM, b""))),
            NegotiateError::Malformed,
        ),
        (framed(KERBEROS, b"\x02\x00"), NegotiateError::Malformed),
        (krb5("", b"cipher"), NegotiateError::Malformed),
        (krb5("host\n", b"cipher"), NegotiateError::Malformed),
        (krb5("host.test", b""), NegotiateError::Malformed),
        ([bare, vec![0]].concat(), NegotiateError::Malformed),
        (b"hello".to_vec(), NegotiateError::Malformed),
        (Vec::new(), NegotiateError::Malformed),
        // An indefinite length is BER, not DER.
        (
            b"\x60\x80\x06\x06\x2b\x06\x01\x05\x05\x02\0\0".to_vec(),
            NegotiateError::Malformed,
        ),
    ] {
        assert_eq!(parse(&bytes).map(|_| ()), Err(error), "{bytes:02x?}");
    }
}

#[test]
fn nothing_may_hide_behind_what_is_read() {
    let more = field(9, b"more");
    for (in_ticket, in_request) in [(&more[..], &[][..]), (&[], &more)] {
        let request = ap_req_and("host.test", b"cipher", in_ticket, in_request);
        let bytes = framed(KERBEROS, &[&[1, 0][..], &request].concat());
        assert_eq!(parse(&bytes).map(|_| ()), Err(NegotiateError::Malformed));
    }
}

#[test]
fn the_text_is_bounded_and_strict_base64() {
    let limit = "A".repeat(NEGOTIATE_LIMIT);
    assert_eq!(FirstToken::parse(&limit).map(|_| ()), Err(NegotiateError::Malformed));
    assert_eq!(
        FirstToken::parse(&format!("{limit}AAAA")).map(|_| ()),
        Err(NegotiateError::TooLarge)
    );
    let good = token_text();
    for text in [
        &format!(" {good}"),
        &format!("{good}\n"),
        &good.replace('/', "_").replace('+', "-"),
        "AA",
        "AAB=",
    ] {
        if *text != good {
            assert_eq!(
                FirstToken::parse(text).map(|_| ()),
                Err(NegotiateError::NotBase64),
                "{text}"
            );
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let whole = neg_token_init(&[KERBEROS], Some(&krb5("host.test", b"cipher")));
    for length in 0..whole.len() {
        assert!(parse(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_token_does_not_show_in_debug_output() {
    let shown = format!("{:?}", token());
    assert!(shown.contains("HTTP/host.test@A.TEST"));
    assert!(!shown.contains("99, 105, 112") && !shown.contains("cipher"), "{shown}");
}

#[test]
fn what_a_client_begins_with_is_in_a_second_leg_its_kerberos_token() {
    let kerberos = krb5("api.a.test", b"ticket");
    let second = field(1, &sequence(&[field(2, &element(der::OCTET_STRING, &kerberos))]));
    let token = NegotiateToken::parse_second(&STANDARD.encode(second)).unwrap();
    assert_eq!(token.as_beginning(), kerberos);
    let first = neg_token_init(&[KERBEROS], Some(&kerberos));
    let Ok(FirstToken::Ticket(token)) = parse(&first) else {
        panic!("a ticket")
    };
    assert_eq!(token.as_beginning(), first);
}
