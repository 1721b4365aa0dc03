//! Every refusal of a real ticket, with the kind that the rest of kerbridge decides by.
//!
//! Each kind is tried in SPNEGO and bare, since the library's number for it survives only the latter.

use std::io::Write;
use std::process::{Command, Stdio};

use kerbridge_gss::{AcceptErrorKind, AcceptorCredential, ChannelBindings, InitiatorCredential, Mechanism};
use kerbridge_tests::process::find_program;

use crate::world::{HTTP, OTHER, World, established, in_world, refused, request, token};

/// Both ways of sending a ticket.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Spnego, Mechanism::Krb5];

/// Accepts a fresh ticket of alice's for `target`, which must be refused.
fn kind_for(world: &World, acceptor: &AcceptorCredential, target: &str, kind: AcceptErrorKind, says: &str) {
    for mechanism in MECHANISMS {
        let error = refused(
            acceptor,
            token(&world.alice(), &request(target, mechanism.clone())).as_bytes(),
        );
        assert_eq!(error.kind(), kind, "{mechanism}: {error}");
        assert!(error.detail().minor_text().contains(says), "{mechanism}: {error}");
    }
}

#[test]
fn an_authenticator_is_accepted_once() {
    in_world("refused::an_authenticator_is_accepted_once", |world| {
        for mechanism in MECHANISMS {
            let acceptor = world.acceptor();
            let token = world.token(mechanism.clone());
            established(&acceptor, &token, None);
            let error = refused(&acceptor, token.as_bytes());
            assert_eq!(error.kind(), AcceptErrorKind::Replay, "{error}");
            assert!(
                error.reply().is_some(),
                "{mechanism}: the client asked for mutual authentication"
            );
            drop(acceptor);
            // The cache is a file: a new credential, as after a restart, remembers.
            assert_eq!(
                refused(&world.acceptor(), token.as_bytes()).kind(),
                AcceptErrorKind::Replay
            );
        }
    });
}

#[test]
fn an_authenticator_sent_many_times_at_once_is_accepted_once() {
    in_world(
        "refused::an_authenticator_sent_many_times_at_once_is_accepted_once",
        |world| {
            const THREADS: usize = 8;
            for _ in 0..25 {
                let token = world.token(Mechanism::Spnego);
                let start = std::sync::Barrier::new(THREADS);
                let accept = || {
                    let acceptor = world.acceptor();
                    start.wait();
                    acceptor.accept(token.as_bytes(), None).map_err(|error| error.kind())
                };
                let outcomes: Vec<_> = std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(accept)).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
                assert_eq!(refused.collect::<Vec<_>>(), [&AcceptErrorKind::Replay; THREADS - 1]);
            }
        },
    );
}

#[test]
fn an_authenticator_in_another_wrapper_is_a_replay() {
    in_world("refused::an_authenticator_in_another_wrapper_is_a_replay", |world| {
        let acceptor = world.acceptor();
        let wrapped = world.token(Mechanism::Spnego);
        established(&acceptor, &wrapped, None);
        // The mechanism token is a part of the SPNEGO token: from its own tag (0x60) and identifier to its end.
        let krb5 = [&[0x06, 0x09][..], Mechanism::Krb5.der_content(), &[0x01, 0x00]].concat();
        let bytes = wrapped.as_bytes();
        let inside = bytes.windows(krb5.len()).position(|window| window == krb5).unwrap();
        let start = bytes[..inside].iter().rposition(|byte| *byte == 0x60).unwrap();
        assert_eq!(refused(&acceptor, &bytes[start..]).kind(), AcceptErrorKind::Replay);
    });
}

#[test]
fn a_ticket_for_another_service_is_refused_though_its_key_is_here() {
    in_world(
        "refused::a_ticket_for_another_service_is_refused_though_its_key_is_here",
        |world| {
            kind_for(
                world,
                &world.acceptor(),
                OTHER,
                AcceptErrorKind::WrongPrincipal,
                "other.localhost",
            );
            world.kdc.extract_keytab(&[OTHER], &world.keytab()).unwrap();
            kind_for(
                world,
                &world.acceptor(),
                OTHER,
                AcceptErrorKind::WrongPrincipal,
                "other.localhost",
            );
        },
    );
}

#[test]
fn a_ticket_of_a_key_version_that_the_keytab_lacks_is_refused() {
    in_world(
        "refused::a_ticket_of_a_key_version_that_the_keytab_lacks_is_refused",
        |world| {
            world.kdc.rotate_key(HTTP).unwrap();
            kind_for(
                world,
                &world.acceptor(),
                HTTP,
                AcceptErrorKind::KvnoMismatch,
                "HTTP/localhost@LAB.TEST kvno 2",
            );
        },
    );
}

#[test]
fn a_ticket_of_an_enctype_that_the_keytab_lacks_is_refused() {
    in_world(
        "refused::a_ticket_of_an_enctype_that_the_keytab_lacks_is_refused",
        |world| {
            let without_aes256 = world.file("aes128.keytab");
            let script = format!(
                "rkt {}\ndelent 1\nwkt {}\nq\n",
                world.keytab().display(),
                without_aes256.display()
            );
            let mut ktutil = Command::new(find_program("ktutil").unwrap())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            ktutil.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(ktutil.wait().unwrap().success());
            let acceptor = world.acceptor_of(HTTP, &without_aes256);
            kind_for(
                world,
                &acceptor,
                HTTP,
                AcceptErrorKind::EnctypeUnavailable,
                "HTTP/localhost@LAB.TEST",
            );
        },
    );
}

#[test]
fn a_keytab_that_has_gone_is_our_fault_and_not_the_clients() {
    in_world(
        "refused::a_keytab_that_has_gone_is_our_fault_and_not_the_clients",
        |world| {
            let acceptor = world.acceptor();
            std::fs::remove_file(world.keytab()).unwrap();
            kind_for(
                world,
                &acceptor,
                HTTP,
                AcceptErrorKind::KeytabUnavailable,
                "http.keytab",
            );
        },
    );
}

#[test]
fn a_replay_cache_that_cannot_be_written_is_our_fault() {
    in_world("refused::a_replay_cache_that_cannot_be_written_is_our_fault", |world| {
        let cache = world.file("no-such-folder").join("rcache");
        let service = crate::world::service_principal(HTTP);
        let acceptor = AcceptorCredential::acquire(&service, &world.keytab(), &cache).unwrap();
        kind_for(
            world,
            &acceptor,
            HTTP,
            AcceptErrorKind::System,
            "No such file or directory",
        );
    });
}

#[test]
fn a_ticket_outside_its_time_is_refused() {
    in_world("refused::a_ticket_outside_its_time_is_refused", |world| {
        for mechanism in MECHANISMS {
            assert_eq!(world.accept_at("+2d", &world.token(mechanism.clone())), "TicketExpired");
            assert_eq!(world.accept_at("-10m", &world.token(mechanism)), "TicketNotYetValid");
        }
    });
}

#[test]
fn a_client_whose_clock_is_off_is_refused_though_its_ticket_is_good() {
    in_world(
        "refused::a_client_whose_clock_is_off_is_refused_though_its_ticket_is_good",
        |world| {
            let ccache = world.kdc.kinit("alice").unwrap();
            // The service ticket is fetched with the right clock.
            token(
                &InitiatorCredential::from_ccache(ccache.path()).unwrap(),
                &request(HTTP, Mechanism::Spnego),
            );
            let late = world.token_at("+10m", &ccache);
            let error = refused(&world.acceptor(), late.as_bytes());
            assert_eq!(error.kind(), AcceptErrorKind::ClockSkew, "{error}");
            established(&world.acceptor(), &world.token_at("+2m", &ccache), None);
        },
    );
}

#[test]
fn another_channels_binding_is_refused() {
    in_world("refused::another_channels_binding_is_refused", |world| {
        let ours = ChannelBindings::tls_server_end_point(&[0xa5; 32]);
        for mechanism in MECHANISMS {
            let mut request = request(HTTP, mechanism);
            request.bindings = Some(ChannelBindings::tls_server_end_point(&[0x5a; 32]));
            let token = token(&world.alice(), &request);
            let error = world.acceptor().accept(token.as_bytes(), Some(&ours)).unwrap_err();
            assert_eq!(error.kind(), AcceptErrorKind::BindingsMismatch, "{error}");
        }
    });
}

#[test]
fn a_changed_ticket_or_authenticator_is_refused() {
    in_world("refused::a_changed_ticket_or_authenticator_is_refused", |world| {
        let acceptor = world.acceptor();
        for mechanism in MECHANISMS {
            let bytes = world.token(mechanism).into_bytes();
            for (position, kind) in [
                (bytes.len() / 2, AcceptErrorKind::TicketNotOpened),
                (bytes.len() - 1, AcceptErrorKind::BadAuthenticator),
            ] {
                let mut changed = bytes.clone();
                changed[position] ^= 1;
                let error = refused(&acceptor, &changed);
                assert_eq!(error.kind(), kind, "{error}");
            }
        }
    });
}

#[test]
fn a_ticket_made_with_another_key_of_the_same_version_is_not_opened() {
    in_world(
        "refused::a_ticket_made_with_another_key_of_the_same_version_is_not_opened",
        |world| {
            // As where the account was deleted and made again: its versions begin anew.
            let again = format!("delprinc -force {HTTP}\naddprinc -randkey {HTTP}");
            world.kdc.kadmin(&again).unwrap();
            kind_for(
                world,
                &world.acceptor(),
                HTTP,
                AcceptErrorKind::TicketNotOpened,
                "HTTP/localhost@LAB.TEST",
            );
        },
    );
}

#[test]
fn each_failure_on_one_thread_keeps_its_own_kind_and_words() {
    in_world(
        "refused::each_failure_on_one_thread_keeps_its_own_kind_and_words",
        |world| {
            let acceptor = world.acceptor();
            let replayed = world.token(Mechanism::Spnego);
            established(&acceptor, &replayed, None);
            let strange = token(&world.alice(), &request(OTHER, Mechanism::Spnego));
            let bare = token(&world.alice(), &request(OTHER, Mechanism::Krb5));
            for _ in 0..3 {
                let replay = refused(&acceptor, replayed.as_bytes());
                assert_eq!(
                    (replay.kind(), replay.detail().minor_text()),
                    (AcceptErrorKind::Replay, "Request is a replay")
                );
                for other in [&strange, &bare] {
                    let error = refused(&acceptor, other.as_bytes());
                    assert_eq!(error.kind(), AcceptErrorKind::WrongPrincipal, "{error}");
                }
            }
            // On a thread that has seen none of these, and with the texts of the first one gone.
            let kind = std::thread::spawn(move || refused(&acceptor, replayed.as_bytes()).kind())
                .join()
                .unwrap();
            assert_eq!(kind, AcceptErrorKind::Replay);
        },
    );
}
