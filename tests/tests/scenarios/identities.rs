//! Who comes: names that are hard to read, somebody who is nobody, and clients that hand over more than is asked for.

use std::ffi::OsString;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_tests::World;
use kerbridge_tests::curl::{Answer, Curl};
use kerbridge_tests::http::Request;
use kerbridge_tests::kdc::Ccache;
use kerbridge_tests::odd_tokens::{OddTokens, compile};
use kerbridge_tests::spnego::der;
use kerbridge_tests::token::decode;
use kerbridge_tests::world::SERVICE;
use serde_json::Value;

const POLICY: &str = r#"
[[audience]]
name = "orders"
[[grant]]
principals = ["*@LAB.TEST", "alice/admin@LAB.TEST", "WELLKNOWN/ANONYMOUS@LAB.TEST"]
audience = "orders"
scopes = ["orders:read"]
[[route]]
name = "orders"
host = "localhost"
path_prefix = "/"
accept = ["negotiate"]
audience = "orders"
deliver = "header"
"#;

fn with_tickets(world: &World, tickets: &Ccache) -> Curl {
    let mut cache = OsString::from("FILE:");
    cache.push(tickets.path());
    world.curl("/orders/1").negotiate([
        ("KRB5_CONFIG", world.kdc().krb5_config().as_os_str().to_owned()),
        ("KRB5CCNAME", cache),
    ])
}

fn claims(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    decode(answer.header("x-kerbridge-token").unwrap()).unwrap().claims
}

/// What the service was told of the caller.
fn told(answer: &Answer) -> String {
    let shown = answer.json()["headers"].as_array().cloned().unwrap_or_default();
    let told = shown.iter().find(|pair| pair[0] == "x-kerbridge-subject").unwrap();
    // The echo writes `%` as `%25`.
    told[1].as_str().unwrap().replace("%25", "%")
}

/// MIT's KDC does not take back its own PACs of names with separators.
fn without_pac(world: &World) {
    for service in ["krbtgt/LAB.TEST", "HTTP/localhost"] {
        world.kdc().modify(service, "+no_auth_data_required").unwrap();
    }
}

#[test]
fn each_name_is_somebody_of_its_own_and_reaches_the_service_in_visible_ascii() {
    let world = World::builder().policy(POLICY).start().unwrap();
    without_pac(&world);
    // As kadmin and kinit take them; what the token says; what the header says.
    for (user, subject, header) in [
        ("alice/admin", "alice/admin@LAB.TEST", "alice/admin@LAB.TEST"),
        (r"alice\/admin", r"alice\/admin@LAB.TEST", r"alice\/admin@LAB.TEST"),
        (
            r"alice\@OTHER.TEST",
            r"alice\@OTHER.TEST@LAB.TEST",
            r"alice\@OTHER.TEST@LAB.TEST",
        ),
        (r"al\\ice", r"al\\ice@LAB.TEST", r"al\\ice@LAB.TEST"),
        ("Alice", "Alice@LAB.TEST", "Alice@LAB.TEST"),
        ("al ice", "al ice@LAB.TEST", "al%20ice@LAB.TEST"),
        ("al,ice;%41", "al,ice;%41@LAB.TEST", "al,ice;%2541@LAB.TEST"),
        ("ærø", "ærø@LAB.TEST", "%C3%A6r%C3%B8@LAB.TEST"),
    ] {
        world.kdc().add_user(user, "one more").unwrap();
        let tickets = world.kdc().kinit(user).unwrap();
        let answer = with_tickets(&world, &tickets).send().unwrap();
        assert_eq!(claims(&answer)["sub"], subject, "{user}");
        assert_eq!(told(&answer), header, "{user}");
    }
}

#[test]
fn a_name_with_a_control_character_is_nobody() {
    let mut world = World::builder().policy(POLICY).start().unwrap();
    without_pac(&world);
    // To kadmin and kinit these are a tabulator and a line feed.
    for user in [r"al\tice", r"al\nice"] {
        world.kdc().add_user(user, "one more").unwrap();
        let tickets = world.kdc().kinit(user).unwrap();
        let answer = with_tickets(&world, &tickets).send().unwrap();
        let reason = world.reason(&answer).unwrap();
        assert_eq!(reason, (403, "principal_not_mapped".to_owned()), "{user}");
    }
    // The log stays one of lines.
    let log = world.broker().logged("principal_not_mapped");
    assert!(
        log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{log}"
    );
}

#[test]
fn whoever_is_well_known_as_nobody_is_refused_by_name_though_a_grant_names_them() {
    let mut world = World::builder().policy(POLICY).start().unwrap();
    let odd = OddTokens::compile(world.folder()).unwrap();
    let keytab = world.folder().join("http.keytab").display().to_string();
    // By the service's own key, without the flag of an anonymous ticket: the name alone.
    for (client, status, reason) in [
        ("mallory@LAB.TEST", 200, "ok"),
        ("WELLKNOWN/ANONYMOUS@LAB.TEST", 403, "principal_not_mapped"),
        ("WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", 403, "realm_not_allowed"),
    ] {
        let token = &odd.make(&["forged", &keytab, SERVICE, client], []).unwrap()[0];
        let answer = world.send(&negotiate(token)).unwrap();
        assert_eq!(answer.status, status, "{client}: {}", answer.text());
        if status != 200 {
            let refusal = world.refusal(answer.status, &answer.body).unwrap();
            assert_eq!(refusal.reason, reason, "{client}");
        }
    }
    let log = world.broker().logged("realm_not_allowed");
    assert!(
        log.contains("WELLKNOWN: such a name is nobody's in particular"),
        "{log}"
    );
}

fn negotiate(token: &[u8]) -> Request {
    Request::get("/orders/1").header("authorization", format!("Negotiate {}", STANDARD.encode(token)))
}

/// A library that ends whatever process lets libkrb5 read a ticket that was handed over.
const TRAP: &str = "#include <stdlib.h>\nvoid krb5_rd_cred(void) { abort(); }\n";

#[test]
fn a_ticket_granting_ticket_that_a_client_hands_over_is_neither_read_nor_kept() {
    let mut world = World::builder().policy(POLICY).start().unwrap();
    let (source, trap) = (world.folder().join("trap.c"), world.folder().join("trap.so"));
    std::fs::write(&source, TRAP).unwrap();
    compile(&source, &trap, &["-shared", "-fPIC"]).unwrap();
    let preload = format!("LD_PRELOAD={}", trap.display());
    let broker = world.broker();
    broker.stop().unwrap();
    broker.start_through(&["env", &preload]);
    broker.start().unwrap();
    let maps = format!("/proc/{}/maps", broker.pid().unwrap());
    assert!(std::fs::read_to_string(maps).unwrap().contains("trap.so"));

    let forwarded = |world: &World| {
        let log = world.kdc().log();
        log.matches("alice@LAB.TEST for krbtgt/LAB.TEST@LAB.TEST").count()
    };
    let state = |world: &World| {
        let entries = std::fs::read_dir(world.folder().join("state")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let plain = claims(&world.curl_as("alice", "/orders/1").send().unwrap());
    let (before, kept) = (forwarded(&world), state(&world));
    let handing_over = world.curl_as("alice", "/orders/1").arg("--delegation").arg("always");
    let given = claims(&handing_over.send().unwrap());
    assert!(
        forwarded(&world) > before,
        "curl got no ticket to hand over: {}",
        world.kdc().log()
    );
    for claim in ["sub", "aud", "scope", "sid", "auth_time"] {
        assert_eq!(given[claim], plain[claim], "{claim}");
    }
    assert_eq!(state(&world), kept);
}

/// `KRB-CRED ::= [APPLICATION 22] SEQUENCE { pvno, msg-type, tickets, enc-part }` (RFC 4120 §5.8.1), its part in the open
/// (encryption type 0) as MIT's clients have it inside the authenticator.
fn krb_cred(tickets: &[Vec<u8>], infos: &[Vec<u8>]) -> Vec<u8> {
    let part = der(0x7d, &sequence(&[der(0xa0, &der(0x30, &infos.concat()))]));
    let fields = [
        der(0xa0, &number(5)),
        der(0xa1, &number(22)),
        der(0xa2, &der(0x30, &tickets.concat())),
        der(0xa3, &sequence(&[der(0xa0, &number(0)), der(0xa2, &der(0x04, &part))])),
    ];
    der(0x76, &sequence(&fields))
}

fn sequence(fields: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &fields.concat())
}

fn number(number: u8) -> Vec<u8> {
    der(0x02, &[number])
}

fn name(components: &[&str]) -> Vec<u8> {
    let components: Vec<Vec<u8>> = components.iter().map(|one| der(0x1b, one.as_bytes())).collect();
    sequence(&[der(0xa0, &number(1)), der(0xa1, &sequence(&components))])
}

/// A ticket that nobody can open.
fn ticket() -> Vec<u8> {
    let fields = [
        der(0xa0, &number(5)),
        der(0xa1, &der(0x1b, b"LAB.TEST")),
        der(0xa2, &name(&["krbtgt", "LAB.TEST"])),
        der(
            0xa3,
            &sequence(&[der(0xa0, &number(18)), der(0xa2, &der(0x04, &[7; 60]))]),
        ),
    ];
    der(0x61, &sequence(&fields))
}

/// `KrbCredInfo`, in which names may be left out.
fn info(is_named: bool) -> Vec<u8> {
    let realm = || der(0x1b, b"LAB.TEST");
    let key = sequence(&[der(0xa0, &number(18)), der(0xa1, &der(0x04, &[7; 32]))]);
    let mut fields = vec![der(0xa0, &key)];
    if is_named {
        fields.extend([
            der(0xa1, &realm()),
            der(0xa2, &name(&["mallory"])),
            der(0xa8, &realm()),
            der(0xa9, &name(&["krbtgt", "LAB.TEST"])),
        ]);
    }
    sequence(&fields)
}

#[test]
fn whatever_a_client_hands_over_the_broker_lives_and_the_client_is_who_its_ticket_says() {
    let mut world = World::builder().policy(POLICY).start().unwrap();
    let odd = OddTokens::compile(world.folder()).unwrap();
    let pid = world.broker().pid();
    for (what, handed_over) in [
        ("a ticket", krb_cred(&[ticket()], &[info(true)])),
        ("no ticket at all", krb_cred(&[], &[])),
        (
            "a ticket of which nothing is said",
            krb_cred(&[ticket(), ticket()], &[info(true)]),
        ),
        ("a ticket of nobody", krb_cred(&[ticket()], &[info(false)])),
        ("no message", vec![0xff; 30]),
        ("nothing", Vec::new()),
    ] {
        let hex: String = handed_over.iter().map(|byte| format!("{byte:02x}")).collect();
        let token = &odd
            .make(&["handing-over", SERVICE, &hex], world.client("alice"))
            .unwrap()[0];
        let answer = world.send(&negotiate(token)).unwrap();
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let token = decode(&answer.header_text("x-kerbridge-token").unwrap()).unwrap();
        assert_eq!(token.claims["sub"], "alice@LAB.TEST", "{what}");
    }
    assert_eq!(world.broker().pid(), pid);
    assert_eq!(world.curl_as("bob", "/orders/1").send().unwrap().status, 200);
}
