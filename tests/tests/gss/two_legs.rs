//! SPNEGO that takes two legs: Kerberos is in the client's list, but not first.

use kerbridge_gss::{AcceptErrorKind, AcceptOutcome, Mechanism};

use crate::world::{HTTP, in_world, request};

/// NTLM's identifier, 1.3.6.1.4.1.311.2.2.10.
const NTLM: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";

/// A DER element.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut element = vec![tag];
    if length < 128 {
        element.push(u8::try_from(length).unwrap());
    } else {
        element.push(0x82);
        element.extend(u16::try_from(length).unwrap().to_be_bytes());
    }
    element.extend(content);
    element
}

/// `MechTypeList` (RFC 4178 §4.1).
fn mechanisms(list: &[&[u8]]) -> Vec<u8> {
    der(
        0x30,
        &list.iter().flat_map(|content| der(0x06, content)).collect::<Vec<_>>(),
    )
}

/// `NegTokenInit` in its GSSAPI frame (RFC 4178 §4.2.1).
pub(crate) fn init(list: &[&[u8]], token: &[u8]) -> Vec<u8> {
    let fields = [der(0xa0, &mechanisms(list)), der(0xa2, &der(0x04, token))].concat();
    let body = [
        der(0x06, Mechanism::Spnego.der_content()),
        der(0xa0, &der(0x30, &fields)),
    ]
    .concat();
    der(0x60, &body)
}

/// `NegTokenResp` with a token and a `mechListMIC` (RFC 4178 §4.2.2).
fn response(token: &[u8], mic: &[u8]) -> Vec<u8> {
    let fields = [der(0xa2, &der(0x04, token)), der(0xa3, &der(0x04, mic))].concat();
    der(0xa1, &der(0x30, &fields))
}

#[test]
fn kerberos_behind_a_foreign_mechanism_takes_a_second_leg() {
    in_world(
        "two_legs::kerberos_behind_a_foreign_mechanism_takes_a_second_leg",
        |world| {
            let (acceptor, alice) = (world.acceptor(), world.alice());
            let offered: [&[u8]; 2] = [NTLM, Mechanism::Krb5.der_content()];
            let first = acceptor.accept(&init(&offered, b"NTLMSSP\0 of a kind"), None).unwrap();
            let AcceptOutcome::ContinueNeeded { context, reply } = first else {
                panic!("{first:?}")
            };
            assert_eq!(reply.as_bytes().first(), Some(&0xa1));

            let mut request = request(HTTP, Mechanism::Krb5);
            request.mutual = false;
            let initiation = alice.initiate(&request).unwrap();
            let mic = initiation.context.mic(&mechanisms(&offered)).unwrap();
            let second = response(initiation.token.as_bytes(), &mic);
            let outcome = context.accept(&acceptor, &second, None).unwrap();
            let AcceptOutcome::Established(established) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(established.initiator().as_str(), "alice@LAB.TEST");
            assert_eq!(established.mechanism(), &Mechanism::Krb5);
            assert!(established.ticket_end() > established.auth_time());
        },
    );
}

#[test]
fn a_second_leg_whose_list_was_changed_on_the_way_is_refused() {
    in_world(
        "two_legs::a_second_leg_whose_list_was_changed_on_the_way_is_refused",
        |world| {
            let (acceptor, alice) = (world.acceptor(), world.alice());
            let offered: [&[u8]; 2] = [NTLM, Mechanism::Krb5.der_content()];
            let first = acceptor.accept(&init(&offered, b"NTLMSSP\0 of a kind"), None).unwrap();
            let AcceptOutcome::ContinueNeeded { context, .. } = first else {
                panic!("{first:?}")
            };
            let mut request = request(HTTP, Mechanism::Krb5);
            request.mutual = false;
            let initiation = alice.initiate(&request).unwrap();
            let mic = initiation
                .context
                .mic(&mechanisms(&[Mechanism::Krb5.der_content()]))
                .unwrap();
            let second = response(initiation.token.as_bytes(), &mic);
            let error = context.accept(&acceptor, &second, None).unwrap_err();
            assert_eq!(error.kind(), AcceptErrorKind::BadIntegrity, "{error}");
        },
    );
}

#[test]
fn a_half_open_context_can_move_to_another_thread_or_be_dropped() {
    in_world(
        "two_legs::a_half_open_context_can_move_to_another_thread_or_be_dropped",
        |world| {
            let acceptor = world.acceptor();
            let offered: [&[u8]; 2] = [NTLM, Mechanism::Krb5.der_content()];
            for _ in 0..100 {
                let first = acceptor.accept(&init(&offered, b"x"), None).unwrap();
                std::thread::spawn(move || drop(first)).join().unwrap();
            }
        },
    );
}

#[test]
fn a_list_without_kerberos_is_a_bad_mechanism_with_an_error_token() {
    in_world(
        "two_legs::a_list_without_kerberos_is_a_bad_mechanism_with_an_error_token",
        |world| {
            let error = world.acceptor().accept(&init(&[NTLM], b"NTLMSSP\0"), None).unwrap_err();
            assert_eq!(error.kind(), AcceptErrorKind::BadMechanism, "{error}");
            assert!(error.reply().is_some());
            let iakerb = Mechanism::Iakerb;
            let error = world
                .acceptor()
                .accept(&init(&[iakerb.der_content()], b"x"), None)
                .unwrap_err();
            assert_eq!(error.kind(), AcceptErrorKind::BadMechanism, "{error}");
        },
    );
}
