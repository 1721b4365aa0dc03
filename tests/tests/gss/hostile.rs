//! Tokens that nobody honest sends: an error each time, the next good one works, and nothing is left behind.

use kerbridge_gss::accept::LONGEST_TOKEN;
use kerbridge_gss::{AcceptErrorKind, AcceptorCredential, Mechanism};
use kerbridge_tests::spnego::{framed, init};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::{established, in_world, refused};

fn kind(acceptor: &AcceptorCredential, token: &[u8]) -> AcceptErrorKind {
    refused(acceptor, token).kind()
}

#[test]
fn what_is_no_token_is_named_and_the_next_ticket_works() {
    in_world(
        "hostile::what_is_no_token_is_named_and_the_next_ticket_works",
        |world| {
            let acceptor = world.acceptor();
            let framed = |mechanism: &Mechanism, content: &[u8]| framed(mechanism.der_content(), content);
            let krb5 = Mechanism::Krb5;
            let defective: [&[u8]; 8] = [
                b"",
                b"\0",
                b"garbage",
                &[0x60],
                &vec![0x60; LONGEST_TOKEN + 1],
                // An AP-REP where an AP-REQ belongs: MIT asks for more, with nothing to send.
                &framed(&krb5, b"\x02\x00\x6f\x00"),
                &framed(&krb5, b"\x01\x00"),
                &framed(&krb5, b"\x01\x00\x6e\x03\x30\x01\x00"),
            ];
            for token in defective {
                let error = refused(&acceptor, token);
                let shown = token.get(..8).unwrap_or(token);
                assert_eq!(error.kind(), AcceptErrorKind::DefectiveToken, "{shown:x?}: {error}");
            }
            assert_eq!(kind(&acceptor, b"NTLMSSP\0\x01\0\0\0"), AcceptErrorKind::BadMechanism);
            assert_eq!(
                kind(&acceptor, &framed(&Mechanism::Iakerb, b"\x05\x01")),
                AcceptErrorKind::NoCredential
            );
            assert_eq!(
                kind(&acceptor, &init(&[krb5.der_content()], Some(b"garbage"))),
                AcceptErrorKind::DefectiveToken
            );
            established(&acceptor, &world.token(Mechanism::Spnego), None);
        },
    );
}

#[test]
fn a_token_cut_anywhere_is_refused() {
    in_world("hostile::a_token_cut_anywhere_is_refused", |world| {
        let acceptor = world.acceptor();
        for mechanism in [Mechanism::Spnego, Mechanism::Krb5] {
            let token = world.token(mechanism.clone());
            for end in 0..token.as_bytes().len() {
                let error = refused(&acceptor, &token.as_bytes()[..end]);
                assert_eq!(
                    error.kind(),
                    AcceptErrorKind::DefectiveToken,
                    "{mechanism} cut at {end}: {error}"
                );
            }
            established(&acceptor, &token, None);
        }
    });
}

#[test]
fn changed_and_random_tokens_neither_pass_nor_leave_anything_behind() {
    in_world(
        "hostile::changed_and_random_tokens_neither_pass_nor_leave_anything_behind",
        |world| {
            let acceptor = world.acceptor();
            let good = world.token(Mechanism::Spnego).into_bytes();
            established(&acceptor, &kerbridge_gss::MechToken::new(good.clone()).unwrap(), None);
            let changes = proptest::collection::vec((0..good.len(), any::<u8>()), 1..4);
            let token = prop_oneof![
                changes.prop_map(move |changes| {
                    let mut token = good.clone();
                    for (position, byte) in changes {
                        token[position] = byte;
                    }
                    token
                }),
                proptest::collection::vec(any::<u8>(), 0..512),
                proptest::collection::vec(any::<u8>(), 0..64).prop_map(|content| init(&[&content], Some(&content))),
                proptest::collection::vec(any::<u8>(), 0..64)
                    .prop_map(|content| init(&[Mechanism::Krb5.der_content()], Some(&content))),
            ];
            let run = |cases| {
                // A token that was good is a replay even if a change hit what no checksum covers.
                let config = Config {
                    cases,
                    failure_persistence: None,
                    ..Config::default()
                };
                let mut runner = TestRunner::new(config);
                let outcome = runner.run(&token, |token| {
                    prop_assert!(!matches!(
                        acceptor.accept(&token, None),
                        Ok(kerbridge_gss::AcceptOutcome::Established(_))
                    ));
                    Ok(())
                });
                outcome.unwrap();
                (resident_kib(), open_files())
            };
            run(500);
            let (kib, files) = run(500);
            let (kib_later, files_later) = run(4000);
            assert_eq!(files_later, files, "open files");
            assert!(kib_later < kib + 512, "{kib} KiB became {kib_later}");
            established(&acceptor, &world.token(Mechanism::Spnego), None);
        },
    );
}

#[test]
fn accepting_over_and_over_leaves_nothing_behind() {
    in_world("hostile::accepting_over_and_over_leaves_nothing_behind", |world| {
        let (acceptor, alice) = (world.acceptor(), world.alice());
        let request = crate::world::request(crate::world::HTTP, Mechanism::Spnego);
        let run = |times: u32| {
            for _ in 0..times {
                established(&acceptor, &crate::world::token(&alice, &request), None);
            }
            (resident_kib(), open_files())
        };
        let (kib, files) = run(300);
        let (kib_later, files_later) = run(4000);
        assert_eq!(files_later, files, "open files");
        assert!(kib_later < kib + 512, "{kib} KiB became {kib_later}");
    });
}

/// This process's resident memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
