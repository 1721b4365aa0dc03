//! SPNEGO that takes two legs: Kerberos is in the client's list, but not first.

use kerbridge_gss::{AcceptErrorKind, AcceptOutcome, Mechanism};
use kerbridge_tests::spnego::{NTLM, init, mechanisms, response};

use crate::world::{HTTP, OTHER, in_world, request};

#[test]
fn kerberos_behind_a_foreign_mechanism_takes_a_second_leg() {
    in_world(
        "two_legs::kerberos_behind_a_foreign_mechanism_takes_a_second_leg",
        |world| {
            let (acceptor, alice) = (world.acceptor(), world.alice());
            let offered: [&[u8]; 2] = [NTLM, Mechanism::Krb5.der_content()];
            let first = acceptor
                .accept(&init(&offered, Some(b"NTLMSSP\0 of a kind")), None)
                .unwrap();
            let AcceptOutcome::ContinueNeeded { context, reply } = first else {
                panic!("{first:?}")
            };
            assert_eq!(reply.as_bytes().first(), Some(&0xa1));

            let mut request = request(HTTP, Mechanism::Krb5);
            request.mutual = false;
            let initiation = alice.initiate(&request).unwrap();
            let mic = initiation.context.mic(&mechanisms(&offered)).unwrap();
            let second = response(initiation.token.as_bytes(), Some(&mic));
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
            let first = acceptor
                .accept(&init(&offered, Some(b"NTLMSSP\0 of a kind")), None)
                .unwrap();
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
            let second = response(initiation.token.as_bytes(), Some(&mic));
            let error = context.accept(&acceptor, &second, None).unwrap_err();
            assert_eq!(error.kind(), AcceptErrorKind::BadMic, "{error}");
        },
    );
}

#[test]
fn the_second_leg_may_be_accepted_by_another_credential_than_the_first() {
    in_world(
        "two_legs::the_second_leg_may_be_accepted_by_another_credential_than_the_first",
        |world| {
            world.kdc.extract_keytab(&[OTHER], &world.file("other.keytab")).unwrap();
            let (acceptor, other) = (world.acceptor(), world.acceptor_of(OTHER, &world.file("other.keytab")));
            let alice = world.alice();
            let opening = init(&[NTLM, Mechanism::Krb5.der_content()], Some(b"NTLMSSP\0"));
            // A ticket for the one service proves nothing to the other, whoever asked for it.
            for (first, second, target) in [(&acceptor, &other, OTHER), (&other, &acceptor, HTTP)] {
                let (mut request, list) = (request(target, Mechanism::Krb5), [NTLM, Mechanism::Krb5.der_content()]);
                request.mutual = false;
                let half_open = || match first.accept(&opening, None).unwrap() {
                    AcceptOutcome::ContinueNeeded { context, .. } => context,
                    other @ AcceptOutcome::Established(_) => panic!("{other:?}"),
                };
                let leg = || {
                    let initiation = alice.initiate(&request).unwrap();
                    let mic = initiation.context.mic(&mechanisms(&list)).unwrap();
                    response(initiation.token.as_bytes(), Some(&mic))
                };
                let AcceptOutcome::Established(established) = half_open().accept(second, &leg(), None).unwrap() else {
                    panic!()
                };
                assert_eq!(established.target().as_principal().as_str(), target);
                assert_eq!(established.initiator().as_str(), "alice@LAB.TEST");
                assert!(half_open().accept(first, &leg(), None).is_err());
            }
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
                let first = acceptor.accept(&init(&offered, Some(b"x")), None).unwrap();
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
            let error = world
                .acceptor()
                .accept(&init(&[NTLM], Some(b"NTLMSSP\0")), None)
                .unwrap_err();
            assert_eq!(error.kind(), AcceptErrorKind::BadMechanism, "{error}");
            assert!(error.reply().is_some());
            let iakerb = Mechanism::Iakerb;
            let error = world
                .acceptor()
                .accept(&init(&[iakerb.der_content()], Some(b"x")), None)
                .unwrap_err();
            assert_eq!(error.kind(), AcceptErrorKind::BadMechanism, "{error}");
        },
    );
}
