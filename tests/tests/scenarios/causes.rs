//! Every reason for which a ticket can be refused, brought about for real: the answer's details, the broker's log, its metric and
//! its word to the filter have the same name for it, and the doctor names what can be seen of the cause from its place.

mod cause;
mod complete;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_tests::World;
use kerbridge_tests::certificates::fingerprint;
use kerbridge_tests::http::Request;
use kerbridge_tests::initiator::token_in_child;
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::spnego::{KERBEROS_MICROSOFT, NEGO_EX, NEGO_EX_TOKEN, NTLM, NTLM_TOKEN, init};
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::{SERVICE, lab_program};
use kerbridge_wire::Reason;

use cause::{Cause, Doctor, check_all, negotiate};

const OTHER_SERVICE: &str = "HTTP/other.localhost@LAB.TEST";

fn altered(mut token: Vec<u8>, at: usize) -> Vec<u8> {
    token[at] ^= 1;
    token
}

fn opening() -> Request {
    negotiate(&init(&[NEGO_EX, KERBEROS_MICROSOFT], Some(NEGO_EX_TOKEN)))
}

#[test]
fn what_a_client_sends_and_what_becomes_of_the_brokers_keys() {
    check_all(
        "",
        &[
            Cause {
                reason: Reason::MalformedCredentials,
                // The authenticator's last byte.
                act: |lab| {
                    let token = lab.alices_token();
                    let last = token.len() - 1;
                    lab.send(&altered(token, last))
                },
                doctor: Doctor::IsWell,
            },
            Cause {
                reason: Reason::NtlmToken,
                act: |lab| lab.send(&init(&[NTLM], Some(NTLM_TOKEN))),
                doctor: Doctor::IsWell,
            },
            Cause {
                reason: Reason::MechUnsupported,
                act: |lab| lab.send(&init(&[NEGO_EX], Some(NEGO_EX_TOKEN))),
                doctor: Doctor::IsWell,
            },
            Cause {
                reason: Reason::ContinueNeeded,
                act: |lab| lab.world.send(&opening()).unwrap(),
                doctor: Doctor::IsWell,
            },
            Cause {
                reason: Reason::ContinuationLost,
                // The second leg of a handshake that a broker before this one began.
                act: |lab| {
                    let mut connection = lab.world.connect().unwrap();
                    assert_eq!(connection.exchange(&opening()).unwrap().status, 401);
                    lab.world.broker().kill().unwrap();
                    lab.world.broker().start().unwrap();
                    let token = lab.world.bare_token("alice", SERVICE, b"").unwrap().token;
                    let second = kerbridge_tests::spnego::response(&token, None);
                    connection.exchange(&negotiate(&second)).unwrap()
                },
                doctor: Doctor::IsWell,
            },
            Cause {
                reason: Reason::Replay,
                act: |lab| {
                    let token = lab.alices_token();
                    assert_eq!(lab.send(&token).status, 200);
                    lab.send(&token)
                },
                doctor: Doctor::IsWell,
            },
            Cause {
                reason: Reason::SpnUnknown,
                act: |lab| {
                    let token = lab.world.negotiate_token("alice", OTHER_SERVICE).unwrap();
                    lab.send(&STANDARD.decode(token).unwrap())
                },
                doctor: Doctor::IsWell,
            },
            Cause {
                reason: Reason::TicketExpired,
                // Tickets that have ended since the token was made; MIT takes them for the clock skew longer.
                act: |lab| {
                    let token = lab.token_of("alice", &["-l", "2s"]);
                    wait_until("the end of the ticket", Duration::from_secs(10), || {
                        let tickets = lab.tickets.as_ref().unwrap();
                        let klist = Command::new("klist").arg("-s").arg(tickets.path()).status();
                        !klist.unwrap().success()
                    })
                    .unwrap();
                    lab.send(&token)
                },
                doctor: Doctor::Finds(&["ticket ticket_expired"]),
            },
            Cause {
                reason: Reason::KvnoMismatch,
                // The account has a new key, and the keytab did not follow.
                act: |lab| {
                    lab.world.kdc().rotate_key(SERVICE).unwrap();
                    let token = lab.token_of("alice", &[]);
                    lab.send(&token)
                },
                doctor: Doctor::Finds(&["ticket kvno_mismatch"]),
            },
            Cause {
                reason: Reason::EtypeUnavailable,
                // It has one of RC4 only, and the keytab has that beside its old ones.
                act: |lab| {
                    let kdc = lab.world.kdc();
                    kdc.kadmin("cpw -randkey -e arcfour-hmac:normal HTTP/localhost")
                        .unwrap();
                    kdc.extract_keytab(&["HTTP/localhost"], &keytab(&lab.world)).unwrap();
                    let token = lab.token_of("alice", &[]);
                    lab.send(&token)
                },
                doctor: Doctor::Finds(&["keytab etype_unavailable"]),
            },
            Cause {
                reason: Reason::Internal,
                act: |lab| {
                    let token = lab.token_of("alice", &[]);
                    std::fs::remove_file(keytab(&lab.world)).unwrap();
                    lab.send(&token)
                },
                doctor: Doctor::Stops("kerberos.acceptor[0].keytab: "),
            },
        ],
    );
}

fn keytab(world: &World) -> std::path::PathBuf {
    world.folder().join("http.keytab")
}

#[test]
fn whose_ticket_it_is_and_how_long_it_lives() {
    check_all(
        "[limits]\nticket_floor = \"10m\"\n[names]\ninstances = \"refuse\"\n",
        &[
            Cause {
                reason: Reason::TicketTooShort,
                act: |lab| {
                    let token = lab.token_of("alice", &["-l", "9m"]);
                    lab.send(&token)
                },
                doctor: Doctor::Finds(&["user ticket_too_short"]),
            },
            Cause {
                reason: Reason::PrincipalNotMapped,
                act: |lab| {
                    lab.world.kdc().add_user("alice/root", "one more").unwrap();
                    let token = lab.token_of("alice/root", &[]);
                    lab.send(&token)
                },
                doctor: Doctor::Finds(&["user principal_not_mapped"]),
            },
            Cause {
                reason: Reason::RealmNotAllowed,
                act: |lab| {
                    let other = Kdc::start("A.TEST").unwrap();
                    other.add_user("alice", "alice of A").unwrap();
                    lab.world.kdc().trust(&other).unwrap();
                    let tickets = other.kinit("alice").unwrap();
                    let token = token_in_child(&lab_program().unwrap(), lab.world.kdc(), &tickets, SERVICE).unwrap();
                    lab.tickets = Some(tickets);
                    lab.others.push(other);
                    lab.send(&STANDARD.decode(token).unwrap())
                },
                doctor: Doctor::Finds(&["user realm_not_allowed"]),
            },
            Cause {
                reason: Reason::TicketNotYetValid,
                act: |lab| {
                    lab.tickets = None;
                    lab.set_clock("-20m");
                    lab.send(&lab.alices_token())
                },
                // What makes good tickets begin later is the clock.
                doctor: Doctor::Finds(&["clock ticket_not_yet_valid"]),
            },
            Cause {
                reason: Reason::ClockSkew,
                act: |lab| {
                    lab.set_clock("+20m");
                    lab.send(&lab.alices_token())
                },
                doctor: Doctor::Finds(&["clock clock_skew"]),
            },
        ],
    );
}

#[test]
fn what_a_ticket_is_bound_to() {
    // The certificate of another server, where Envoy's should be.
    let rules = "[kerberos.channel_bindings]\nmode = \"allow\"\n\
                 [[kerberos.channel_bindings.certificate]]\nserver_names = [\"localhost\"]\nfile = \"ca.pem\"\n";
    check_all(
        rules,
        &[
            Cause {
                reason: Reason::ChannelBindingMismatch,
                act: |lab| {
                    let shown = fingerprint(&lab.world.certificates().certificate, "sha256").unwrap();
                    let token = lab.world.bound_token("alice", &shown).unwrap();
                    lab.send(&STANDARD.decode(token).unwrap())
                },
                doctor: Doctor::Finds(&["channel_bindings channel_binding_mismatch"]),
            },
            Cause {
                reason: Reason::ChannelBindingMissing,
                act: |lab| {
                    let broker = lab.world.broker();
                    broker.stop().unwrap();
                    broker.configure("mode = \"allow\"", "mode = \"require\"").unwrap();
                    broker
                        .configure("file = \"ca.pem\"", "file = \"listener.pem\"")
                        .unwrap();
                    broker.start().unwrap();
                    lab.send(&lab.alices_token())
                },
                doctor: Doctor::IsWell,
            },
        ],
    );
}

#[test]
fn what_the_broker_needs_besides() {
    check_all(
        "[groups]\nsource = \"pac\"\nunmapped_sids = \"sid\"\n",
        &[
            Cause {
                reason: Reason::GroupsUnavailable,
                // MIT's KDC has no groups to tell.
                act: |lab| {
                    let token = lab.token_of("alice", &[]);
                    lab.send(&token)
                },
                doctor: Doctor::Finds(&["user groups_unavailable"]),
            },
            Cause {
                reason: Reason::StoreUnavailable,
                act: |lab| {
                    let token = lab.alices_token();
                    let state = lab.world.folder().join("state");
                    std::fs::rename(&state, lab.world.folder().join("away")).unwrap();
                    std::fs::write(&state, "no folder").unwrap();
                    std::fs::set_permissions(&state, Permissions::from_mode(0o600)).unwrap();
                    lab.send(&token)
                },
                doctor: Doctor::Stops("state_dir: "),
            },
        ],
    );
    check_all(
        "[limits]\nfailures_per_minute = 1\n",
        &[Cause {
            reason: Reason::RateLimited,
            act: |lab| {
                lab.send(b"one failure");
                lab.send(&lab.alices_token())
            },
            doctor: Doctor::IsWell,
        }],
    );
}
