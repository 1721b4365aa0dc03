//! Every reason for which a ticket can be refused, brought about for real: the answer's details, the broker's log, its metric and
//! its word to the filter have the same name for it, and the doctor names what can be seen of the cause from its place.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_tests::World;
use kerbridge_tests::broker::{ask, find_kerbridge};
use kerbridge_tests::certificates::fingerprint;
use kerbridge_tests::http::{Request, Response};
use kerbridge_tests::initiator::token_in_child;
use kerbridge_tests::kdc::{Ccache, Kdc};
use kerbridge_tests::spnego::{KERBEROS_MICROSOFT, NEGO_EX, NEGO_EX_TOKEN, NTLM, NTLM_TOKEN, init};
use kerbridge_tests::wait::wait_until;
use kerbridge_tests::world::{SERVICE, lab_program};
use kerbridge_wire::Reason;
use kerbridge_wire::reason::ChallengeRule;
use serde_json::Value;

use super::doctor::{bad, examine};

const OTHER_SERVICE: &str = "HTTP/other.localhost@LAB.TEST";
const OBSERVE: &str = "[listen.observe]\nunix = \"observe.sock\"\n";

/// A way to be refused.
struct Cause {
    reason: Reason,
    /// Brings it about, and returns the answer that has it.
    act: fn(&mut Lab) -> Response,
    doctor: Doctor,
}

/// What the doctor, on the broker's machine, can know of a cause.
enum Doctor {
    /// All bad findings, each as check and reason.
    Finds(&'static [&'static str]),
    /// The configuration cannot be used any more, and this field says why.
    Stops(&'static str),
    /// Nothing is wrong that it could see: the cause is in what one client sends.
    IsWell,
}

/// A world, and what the doctor is told beside its configuration.
struct Lab {
    world: World,
    /// The tickets of whoever was refused.
    tickets: Option<Ccache>,
    /// By how much the broker's machine is off, as faketime says it.
    clock: Option<&'static str>,
    /// What must live as long as the cause.
    others: Vec<Kdc>,
}

impl Lab {
    fn start(tables: &str) -> Self {
        let tables = format!("{OBSERVE}{tables}");
        Self {
            world: World::builder().record().broker_table(&tables).start().unwrap(),
            tickets: None,
            clock: None,
            others: Vec::new(),
        }
    }

    fn send(&self, token: &[u8]) -> Response {
        self.world.send(&negotiate(token)).unwrap()
    }

    /// Logs a user in, whom the doctor is told about, and makes a token of that user's.
    fn token_of(&mut self, user: &str, options: &[&str]) -> Vec<u8> {
        let tickets = self.world.kdc().kinit_with(user, options).unwrap();
        let token = token_in_child(&lab_program().unwrap(), self.world.kdc(), &tickets, SERVICE).unwrap();
        self.tickets = Some(tickets);
        STANDARD.decode(token).unwrap()
    }

    fn alices_token(&self) -> Vec<u8> {
        STANDARD
            .decode(self.world.negotiate_token("alice", SERVICE).unwrap())
            .unwrap()
    }

    /// Starts the broker anew on a machine whose clock is off.
    fn set_clock(&mut self, offset: &'static str) {
        self.clock = Some(offset);
        let broker = self.world.broker();
        // faketime does not pass SIGTERM on.
        broker.kill().unwrap();
        broker.start_through(&["faketime", "-f", offset]);
        broker.start().unwrap();
    }

    fn counted(&self, reason: Reason) -> u64 {
        let answer = ask(&self.world.folder().join("observe.sock"), &Request::get("/metrics")).unwrap();
        let line = format!("kerbridge_exchanges_total{{reason=\"{reason}\"}} ");
        let text = answer.text();
        text.lines()
            .find_map(|found| found.strip_prefix(&line)?.parse().ok())
            .unwrap()
    }

    /// The last word of the broker to the filter.
    fn told(&self) -> Value {
        let recorded = self.world.relay().unwrap().recorded();
        let mut exchanges = recorded
            .iter()
            .filter(|recorded| recorded.call.line.starts_with("POST /oauth2/token "));
        let answer = exchanges.next_back().and_then(|recorded| recorded.answer.as_ref());
        serde_json::from_slice(&answer.unwrap().body).unwrap()
    }

    fn check(&mut self, cause: &Cause) {
        let Cause { reason, act, doctor } = cause;
        let word = reason.as_str();
        let before = self.counted(*reason);
        let answer = act(self);
        let refusal = self.world.refusal(answer.status, &answer.body).unwrap();
        assert_eq!(
            (refusal.status, refusal.reason.as_str()),
            (reason.status(), word),
            "the answer"
        );
        let told = self.told();
        assert_eq!(told["reason"], word, "what the filter is told");
        // The acceptor's own word for the client, where the client may try again.
        let challenges: Vec<_> = answer.all("www-authenticate").map(String::from_utf8_lossy).collect();
        let challenge = match (reason.challenge(), told["negotiate"].as_str()) {
            (ChallengeRule::Negotiate, Some(token)) => Some(format!("Negotiate {token}")),
            (ChallengeRule::Negotiate, None) => Some("Negotiate".to_owned()),
            (_, _) => None,
        };
        let first = challenges.iter().find(|line| line.starts_with("Negotiate"));
        assert_eq!(first.map(AsRef::as_ref), challenge.as_deref(), "{word}: {challenges:?}");
        let has_token = matches!(
            reason,
            Reason::Replay
                | Reason::TicketNotYetValid
                | Reason::ClockSkew
                | Reason::ChannelBindingMismatch
                | Reason::ContinueNeeded
        );
        assert!(!has_token || told["negotiate"].is_string(), "{word}: GSSAPI makes one");
        assert_eq!(self.counted(*reason), before.saturating_add(1), "{word}: the metric");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let request = body["request_id"].as_str().unwrap();
        let log = self.world.broker().logged(request);
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["request_id"] == request).unwrap();
        assert_eq!(
            (&line["reason"], &line["message"]),
            (&word.into(), &"refused".into()),
            "{line}"
        );
        self.consult(word, doctor);
    }

    fn consult(&mut self, word: &str, doctor: &Doctor) {
        let listener = format!("127.0.0.1:{}", self.world.port());
        let mut more = vec!["--envoy-listener", &listener];
        let tickets = self
            .tickets
            .as_ref()
            .map(|tickets| tickets.path().display().to_string());
        if let Some(tickets) = &tickets {
            more.extend(["--ccache", tickets]);
        }
        let expected = match doctor {
            Doctor::Finds(expected) => expected,
            Doctor::IsWell => &[][..],
            Doctor::Stops(field) => {
                let config = self.world.broker().config();
                let output = Command::new(find_kerbridge().unwrap())
                    .args(["doctor", "--config"])
                    .arg(config)
                    .output()
                    .unwrap();
                let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(78), "{word}: {complaint}");
                assert!(complaint.contains(field), "{word}: {complaint}");
                return;
            }
        };
        let (findings, _) = examine(&mut self.world, &more, self.clock);
        assert_eq!(bad(&findings), expected, "{word}: {findings:#?}");
    }
}

fn negotiate(token: &[u8]) -> Request {
    Request::get("/orders/1").header("authorization", format!("Negotiate {}", STANDARD.encode(token)))
}

fn check_all(tables: &str, causes: &[Cause]) {
    let mut lab = Lab::start(tables);
    for cause in causes {
        lab.check(cause);
    }
    if lab.clock.is_some() {
        lab.world.broker().kill().unwrap();
    }
}

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

/// Where each reason is brought about that the broker can give for a ticket.
const fn brought_about(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::MalformedCredentials
        | Reason::NtlmToken
        | Reason::MechUnsupported
        | Reason::ContinueNeeded
        | Reason::ContinuationLost
        | Reason::Replay
        | Reason::SpnUnknown
        | Reason::TicketExpired
        | Reason::KvnoMismatch
        | Reason::EtypeUnavailable
        | Reason::Internal
        | Reason::TicketTooShort
        | Reason::PrincipalNotMapped
        | Reason::RealmNotAllowed
        | Reason::TicketNotYetValid
        | Reason::ClockSkew
        | Reason::ChannelBindingMismatch
        | Reason::ChannelBindingMissing
        | Reason::GroupsUnavailable
        | Reason::StoreUnavailable
        | Reason::RateLimited => Some("causes.rs"),
        Reason::BrokerOverloaded => {
            Some("limits.rs::more_than_the_broker_can_queue_is_503_at_once_and_the_next_ticket_passes")
        }
        Reason::TokenTooLarge => Some("tickets.rs::a_broken_negotiate_token_is_refused_and_the_next_request_passes"),
        Reason::DeniedByPolicy | Reason::InsufficientScope => {
            Some("tickets.rs::a_user_gets_no_more_than_the_grants_say")
        }
        // Of tokens, of requests, of the exchange's callers, and of tickets that are brought to upstreams.
        Reason::Ok
        | Reason::NoCredentials
        | Reason::LoggedOut
        | Reason::TokenMalformed
        | Reason::AlgorithmNotAllowed
        | Reason::UnknownIssuer
        | Reason::UnknownKey
        | Reason::BadSignature
        | Reason::Expired
        | Reason::NotYetValid
        | Reason::WrongAudience
        | Reason::WrongType
        | Reason::MissingClaim
        | Reason::Revoked
        | Reason::CertificateMismatch
        | Reason::MultipleCredentials
        | Reason::TokenInQuery
        | Reason::PathAmbiguous
        | Reason::DelegationDenied
        | Reason::EvidenceNotForwardable
        | Reason::CrossSite
        | Reason::InsecureTransport
        | Reason::ClientUnauthenticated
        | Reason::InvalidTarget
        | Reason::InvalidRequest
        | Reason::UnsupportedGrantType
        | Reason::InvalidScope
        | Reason::UpstreamRefusedTicket
        | Reason::KdcUnreachable
        | Reason::KeysUnavailable
        | Reason::FeedStale
        | Reason::BrokerUnavailable => None,
    }
}

#[test]
fn no_reason_for_which_a_ticket_can_be_refused_is_left_out() {
    let folder = kerbridge_tests::shipped::repository().join("tests/tests/scenarios");
    let read = |name: &str| std::fs::read_to_string(folder.join(Path::new(name))).unwrap();
    for &reason in Reason::ALL {
        let Some(place) = brought_about(reason) else { continue };
        let (file, test) = place.split_once("::").unwrap_or((place, ""));
        let expected = if test.is_empty() {
            format!("reason: Reason::{reason:?},")
        } else {
            format!("fn {test}(")
        };
        assert!(read(file).contains(&expected), "{reason}: {place}");
    }
}
