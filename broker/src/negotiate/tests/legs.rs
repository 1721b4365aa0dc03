//! First and second legs as Windows and others send them, and what strangers make of them.

use super::*;

/// How a NegoEx message begins (MS-NEGOEX §2.2.6).
const NEGO_EX_TOKEN: &[u8] = b"NEGOEXTS\0\0\0\0\0\0\0\0\x60\0\0\0\x70\0\0\0";
/// A type 1 message (MS-NLMP §2.2.1.1).
const NTLM_TOKEN: &[u8] =
    b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\x61\x4a\0\0\0\x0f";

/// `NegTokenResp` (RFC 4178 §4.2.2) of these fields.
fn neg_token_resp(fields: &[Vec<u8>]) -> Vec<u8> {
    element(der::context(1), &sequence(fields))
}

fn octets(content: &[u8]) -> Vec<u8> {
    element(der::OCTET_STRING, content)
}

/// A second leg with a ticket and a `mechListMIC`.
pub(super) fn second(token: &[u8]) -> Vec<u8> {
    neg_token_resp(&[field(2, &octets(token)), field(3, &octets(b"mic"))])
}

fn parse_second(bytes: &[u8]) -> Result<NegotiateToken, NegotiateError> {
    NegotiateToken::parse_second(&STANDARD.encode(bytes))
}

#[test]
fn kerberos_that_is_not_first_or_not_sent_in_advance_is_asked_for() {
    for bytes in [
        neg_token_init(&[NEGO_EX, KERBEROS_MICROSOFT, KERBEROS, NTLM], Some(NEGO_EX_TOKEN)),
        neg_token_init(&[NTLM, KERBEROS], Some(NTLM_TOKEN)),
        neg_token_init(&[IAKERB, KERBEROS], Some(b"anything")),
        neg_token_init(&[NEGO_EX, NTLM, KERBEROS_MICROSOFT], None),
        neg_token_init(&[KERBEROS], None),
        neg_token_init(&[KERBEROS_MICROSOFT, KERBEROS, NEGO_EX, NTLM], None),
    ] {
        let FirstToken::Opening(opening) = parse(&bytes).unwrap() else {
            panic!("{bytes:02x?}")
        };
        assert_eq!(opening.as_bytes(), bytes);
        assert!(!format!("{opening:?}").contains("NTLM"));
    }
}

#[test]
fn a_ticket_in_the_second_leg_is_read_as_in_the_first() {
    let ticket = krb5("host.test", b"cipher");
    let accept_incomplete = element(0x0a, &[1]);
    let kerberos = element(der::OBJECT_IDENTIFIER, KERBEROS);
    for bytes in [
        second(&ticket),
        neg_token_resp(&[field(2, &octets(&ticket))]),
        neg_token_resp(&[
            field(0, &accept_incomplete),
            field(1, &kerberos),
            field(2, &octets(&ticket)),
        ]),
    ] {
        let token = parse_second(&bytes).unwrap();
        assert_eq!(token.service().as_str(), "HTTP/host.test@A.TEST");
        assert_eq!(token.ticket(), b"cipher");
        assert_eq!(token.as_bytes(), bytes);
    }
}

#[test]
fn what_is_no_second_leg_is_refused_by_name() {
    let ticket = krb5("host.test", b"cipher");
    for (bytes, error) in [
        (ticket.clone(), NegotiateError::NotSecond),
        (neg_token_init(&[KERBEROS], Some(&ticket)), NegotiateError::NotSecond),
        (NTLM_TOKEN.to_vec(), NegotiateError::NotSecond),
        // Only a MIC, as a third leg has it.
        (neg_token_resp(&[field(3, &octets(b"mic"))]), NegotiateError::NotSecond),
        (
            neg_token_resp(&[field(0, &element(0x0a, &[2]))]),
            NegotiateError::NotSecond,
        ),
        (neg_token_resp(&[]), NegotiateError::NotSecond),
        (second(NTLM_TOKEN), NegotiateError::Ntlm),
        (second(&framed(IAKERB, b"x")), NegotiateError::Malformed),
        (second(&ap_req("host.test", b"cipher")), NegotiateError::Malformed),
        (second(&krb5("host.test", b"")), NegotiateError::Malformed),
        (
            neg_token_resp(&[field(2, &octets(&ticket)), field(2, &octets(&ticket))]),
            NegotiateError::Malformed,
        ),
        (
            neg_token_resp(&[field(2, &octets(&ticket)), field(9, b"more")]),
            NegotiateError::Malformed,
        ),
        ([second(&ticket), vec![0]].concat(), NegotiateError::NotSecond),
        (Vec::new(), NegotiateError::NotSecond),
    ] {
        assert_eq!(parse_second(&bytes).map(|_| ()), Err(error), "{bytes:02x?}");
    }
    let whole = second(&ticket);
    for length in 0..whole.len() {
        assert!(parse_second(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_field_that_is_not_what_it_should_be_never_reaches_gssapi() {
    let (ticket, mechanisms) = (
        krb5("host.test", b"cipher"),
        sequence(&[element(der::OBJECT_IDENTIFIER, KERBEROS)]),
    );
    let first = |more: &[Vec<u8>]| {
        let fields = [&[field(0, &mechanisms)], more].concat();
        framed(SPNEGO, &element(der::context(0), &sequence(&fields)))
    };
    let (token, mic) = (field(2, &octets(&ticket)), field(3, &octets(b"mic")));
    let flags = field(1, &element(der::BIT_STRING, &[0, 0]));
    assert!(parse(&first(&[flags, token.clone(), mic.clone()])).is_ok());
    for odd in [
        &b""[..],
        b"mic",
        &sequence(&[]),
        &[octets(b"a"), octets(b"b")].concat(),
        &[4, 9],
    ] {
        for fields in [
            vec![field(1, odd), token.clone()],
            vec![field(2, odd)],
            vec![token.clone(), field(3, odd)],
        ] {
            assert_eq!(
                parse(&first(&fields)).map(drop),
                Err(NegotiateError::Malformed),
                "{fields:02x?}"
            );
        }
        for fields in [
            vec![field(0, odd), token.clone()],
            vec![field(1, odd), token.clone()],
            vec![field(2, odd)],
            vec![token.clone(), field(3, odd)],
        ] {
            let read = parse_second(&neg_token_resp(&fields)).map(drop);
            assert_eq!(read, Err(NegotiateError::Malformed), "{fields:02x?}");
        }
    }
}

#[test]
fn a_mechanism_without_a_name_never_reaches_gssapi() {
    let ticket = krb5("host.test", b"cipher");
    for list in [&[&b""[..], KERBEROS][..], &[KERBEROS, b""]] {
        let read = parse(&neg_token_init(list, Some(&ticket))).map(drop);
        assert_eq!(read, Err(NegotiateError::Malformed), "{list:02x?}");
    }
}

#[test]
fn a_token_deep_in_others_costs_no_stack() {
    let mut nested = krb5("host.test", b"cipher");
    while nested.len() < 40_000 {
        nested = neg_token_init(&[KERBEROS], Some(&nested));
    }
    assert_eq!(parse(&nested).map(|_| ()), Err(NegotiateError::Malformed));
    assert_eq!(
        parse_second(&second(&nested)).map(|_| ()),
        Err(NegotiateError::Malformed)
    );
}

/// Tokens that read well, and one of NTLM.
fn good() -> impl Strategy<Value = Vec<u8>> {
    let ticket = krb5("host.test", b"cipher");
    prop::sample::select(vec![
        ticket.clone(),
        neg_token_init(&[KERBEROS_MICROSOFT, KERBEROS, NEGO_EX, NTLM], Some(&ticket)),
        neg_token_init(&[NEGO_EX, KERBEROS_MICROSOFT, KERBEROS, NTLM], Some(NEGO_EX_TOKEN)),
        neg_token_init(&[KERBEROS], None),
        second(&ticket),
        NTLM_TOKEN.to_vec(),
    ])
}

/// Whatever a token is, each leg takes it or has one reason against it, and what is read lies inside it.
fn read_as_both_legs(bytes: &[u8]) -> Result<(), TestCaseError> {
    let first = parse(bytes).map(|token| match token {
        FirstToken::Ticket(token) => Some(token),
        FirstToken::Opening(_) => None,
    });
    let second = parse_second(bytes).map(Some);
    prop_assert!(first.is_err() || second.is_err(), "no token is both legs");
    for outcome in [first, second] {
        match outcome {
            Ok(None) => {}
            Ok(Some(token)) => {
                prop_assert!(!token.ticket().is_empty());
                prop_assert!(token.ticket.end <= bytes.len());
            }
            Err(error) => prop_assert!(matches!(
                error.reason(),
                Reason::MalformedCredentials
                    | Reason::NtlmToken
                    | Reason::MechUnsupported
                    | Reason::ContinuationLost
                    | Reason::TokenTooLarge
            )),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_as_both_legs(&bytes)?;
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        prop_assert!(FirstToken::parse(&text).is_err());
        prop_assert!(NegotiateToken::parse_second(&text).is_err());
    }

    #[test]
    fn no_change_makes_it_panic(
        mut bytes in good(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        more in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(more);
        read_as_both_legs(&bytes)?;
    }

    #[test]
    fn no_length_makes_it_panic(
        mut bytes in good(),
        at: prop::sample::Index,
        length: u32,
        octets in 0x80_u8..=0x8f,
    ) {
        let at = at.index(bytes.len());
        bytes.splice(at..at, [&[octets][..], &length.to_be_bytes()].concat());
        read_as_both_legs(&bytes)?;
    }

    #[test]
    fn no_nesting_makes_it_panic(
        tags in proptest::collection::vec(
            prop::sample::select(vec![0x60_u8, 0xa0, 0xa1, 0xa2, 0x30, 0x04, 0x6e]),
            0..400,
        ),
        mut bytes in good(),
    ) {
        for tag in tags {
            bytes = element(tag, &bytes);
        }
        read_as_both_legs(&bytes)?;
    }
}
