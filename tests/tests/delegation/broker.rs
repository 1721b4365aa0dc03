//! The broker trades a token for a ticket in its subject's name: who gets one, for what, and how each refusal is named.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kerbridge_tests::apache::{Apache, remote_user};
use kerbridge_tests::broker::{Broker, BrokerSettings};
use kerbridge_tests::delegation::{
    ACCEPTOR, BRIDGE, DISABLED, DelegationRealm, EXPIRED, KERBEROS_ONLY, Kind, LEGACY, NO_TARGETS, OTHER, SENSITIVE,
    UNKNOWN, crowd_member,
};
use kerbridge_tests::document::blocks;
use kerbridge_tests::exchange_world::{Exchanged, exchange};
use kerbridge_tests::http::{Connection, Request};
use kerbridge_tests::initiator::token_in_child;
use kerbridge_tests::shipped::repository;
use kerbridge_tests::token::{LabKey, now, with};
use kerbridge_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::realms::{CROWD, mit, samba};
use crate::trader::{IDP, ISSUER, Plan, Traded, subject, trade};

/// Whom the service sees behind a ticket.
pub(crate) fn seen_by(apache: &Apache, ticket: &str) -> String {
    let mut connection = Connection::tcp(apache.port()).unwrap();
    let request = Request::get("/").header("authorization", format!("Negotiate {ticket}"));
    let answer = connection.exchange(&request).unwrap();
    assert_eq!(answer.status, 200, "{}", apache.log());
    let seen = serde_json::from_slice(&answer.body).unwrap();
    remote_user(&seen).unwrap().to_owned()
}

/// A broker of both directions: what it is shown for `orders` it trades for tickets to [`LEGACY`].
pub(crate) fn both_ways(realm: &DelegationRealm, folder: &Path) -> Broker {
    both_ways_with(realm, folder, ("", ""))
}

/// The same with more of the policy and of the configuration.
pub(crate) fn both_ways_with(realm: &DelegationRealm, folder: &Path, (policy, section): (&str, &str)) -> Broker {
    let name = realm.realm();
    let settings = BrokerSettings {
        issuer: ISSUER.to_owned(),
        realms: vec![name.to_owned()],
        acceptors: vec![realm.principal(ACCEPTOR)],
        keytab: realm.keytab(ACCEPTOR),
        policy: format!(
            r#"
            [[audience]]
            name = "orders"
            [[grant]]
            principals = ["*@{name}"]
            audience = "orders"
            [[delegation]]
            target = "{LEGACY}@{name}"
            audience = "orders"
            principals = ["*@{name}"]
            clients = ["mesh"]
            [[route]]
            path_prefix = "/"
            accept = ["negotiate", "bearer"]
            audience = "orders"
            {policy}
            "#
        ),
        // The token's name is not the principal's, which the token says besides.
        more: format!("{}[names]\nstrip_realm_of = [{name:?}]\n{section}", realm.table(BRIDGE)),
    };
    let mut broker = Broker::prepare(folder, &settings).unwrap();
    broker.set_krb5_config(realm.clients().krb5_config());
    broker.start().unwrap();
    broker
}

/// Of the policy: the other issuer, whose `upn` says the principal, for `orders`.
pub(crate) fn another_issuer(realm: &DelegationRealm) -> String {
    let line = subject("upn", &format!("form = \"principal\"\nrealms = [{:?}]", realm.realm()));
    format!(
        "[[issuer]]\nissuer = {IDP:?}\naudiences = {{ orders = [\"client-1\"] }}\ntypes = [\"JWT\"]\njwks = {{ cluster = \"idp\" }}\n{line}"
    )
}

/// Of the configuration: its keys are in a file.
pub(crate) const ANOTHERS_KEYS: &str = "[[delegation.keys]]\nissuer = \"https://id.lab.test\"\nfile = \"idp.json\"\n";

/// The token that a user's ticket becomes.
pub(crate) fn token(realm: &DelegationRealm, broker: &Broker, user: &str) -> String {
    let lab = Path::new(env!("CARGO_BIN_EXE_kerbridge-lab"));
    let tickets = realm.kinit(user).unwrap();
    let ticket = token_in_child(lab, realm.clients(), &tickets, &realm.principal(ACCEPTOR)).unwrap();
    match exchange(&broker.socket(), &ticket).unwrap() {
        Exchanged::Token(token) => token,
        Exchanged::Refused(..) => panic!("{}", broker.log()),
    }
}

/// A user's ticket becomes a token at one broker, and that a ticket for another service in the user's name.
fn there_and_back(realm: &DelegationRealm) {
    let folder = tempfile::tempdir().unwrap();
    let broker = both_ways(realm, folder.path());
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    for user in ["alice", "bob"] {
        let token = token(realm, &broker, user);
        let claims = kerbridge_tests::token::decode(&token).unwrap().claims;
        assert_eq!(
            (&claims["sub"], &claims["kerbridge_principal"]),
            (&json!(user), &json!(realm.principal(user)))
        );
        let ticket = trade(&broker, &token, &realm.principal(LEGACY)).ticket();
        assert_eq!(seen_by(&apache, &ticket), realm.principal(user));
    }
    // Of the whole line: that of the token names the subject too.
    let log = broker.logged(&format!(
        "\"message\":\"delegated\",\"reason\":\"ok\",\"principal\":\"{}\"",
        realm.principal("bob")
    ));
    let delegated: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("\"message\":\"delegated\""))
        .collect();
    assert_eq!(delegated.len(), 2, "{log}");
    let principal = format!("\"principal\":\"{}\"", realm.principal("alice"));
    assert!(
        delegated[0].contains(&principal) && delegated[0].contains("\"kdc_asked\":true"),
        "{log}"
    );
}

/// SHA-256 of some certificate.
const CERTIFICATE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn bound_to(certificate: &str) -> Value {
    json!({ "x5t#S256": certificate })
}

/// Each refusal before the KDC is asked, and each of the KDC's, has its reason.
fn refusals(realm: &DelegationRealm) {
    let trader = Plan::of(BRIDGE).start(realm);
    let other_key = LabKey::generate().unwrap();
    let good = trader.claims("alice");
    let changed = |member: &str, value| trader.sign(&with(good.clone(), member, value));
    for (token, status, reason) in [
        (changed("exp", json!(now())), 400, "expired"),
        (changed("iat", json!(now().saturating_add(300))), 400, "not_yet_valid"),
        (changed("aud", json!("orders")), 400, "wrong_audience"),
        (changed("aud", json!(["legacy", "orders"])), 400, "wrong_audience"),
        (changed("iss", json!("https://evil.test")), 400, "unknown_issuer"),
        (changed("jti", json!(null)), 400, "missing_claim"),
        (changed("may_act", json!({"sub": "billing"})), 400, "denied_by_policy"),
        (changed("cnf", json!({"jkt": "x"})), 400, "certificate_mismatch"),
        (changed("cnf", bound_to(CERTIFICATE)), 400, "certificate_mismatch"),
        (changed("sub", json!("alice")), 400, "principal_not_mapped"),
        (changed("sub", json!("alice@OTHER.TEST")), 400, "realm_not_allowed"),
        (
            changed("sub", json!(format!("alice/admin@{}", realm.realm()))),
            400,
            "denied_by_policy",
        ),
        (
            other_key.sign(&trader.key.header(), &good).unwrap(),
            400,
            "bad_signature",
        ),
        (other_key.sign(&other_key.header(), &good).unwrap(), 400, "unknown_key"),
        (trader.foreign("upn", "alice"), 400, "unknown_issuer"),
        ("a.b.c".to_owned(), 400, "token_malformed"),
        ("a".repeat(17_000), 400, "token_too_large"),
        // Our account at the KDC is nobody's subject: it is no person's principal, and would be refused even so.
        (trader.token(BRIDGE), 400, "delegation_denied"),
        (trader.token("nobody"), 400, "delegation_denied"),
        (trader.token(DISABLED), 400, "delegation_denied"),
        (trader.token(EXPIRED), 400, "delegation_denied"),
        (trader.token(SENSITIVE), 400, "evidence_not_forwardable"),
    ] {
        let shown: String = token.chars().take(40).collect();
        assert_eq!(trader.trade(&token), Traded::refused(status, reason), "{shown}");
    }
    let bound = changed("cnf", bound_to(CERTIFICATE));
    let other = CERTIFICATE.replace('A', "B");
    assert_eq!(
        trader.trade_held_with(&bound, &other),
        Traded::refused(400, "certificate_mismatch")
    );
    assert!(matches!(
        trader.trade_held_with(&bound, CERTIFICATE),
        Traded::Ticket(..)
    ));
    let alice = trader.token("alice");
    for (target, reason) in [
        ("HTTP/nobodys.lab.test", "invalid_target"),
        ("krbtgt/LAB.TEST", "invalid_target"),
        (BRIDGE, "invalid_target"),
        ("HTTP/elsewhere.lab.test", "denied_by_policy"),
        // The policy allows these; the KDC does not, or does not know them.
        (OTHER, "delegation_denied"),
        (UNKNOWN, "invalid_target"),
    ] {
        assert_eq!(
            trader.trade_for(&alice, target),
            Traded::refused(400, reason),
            "{target}"
        );
    }
    assert!(matches!(trader.trade(&alice), Traded::Ticket(..)));
    // The last one: the KDC was asked for the one before.
    let log = trader.broker.logged("\"kdc_asked\":false");
    let count = |message: &str| log.lines().filter(|line| line.contains(message)).count();
    assert_eq!(
        (count("\"message\":\"refused\""), count("\"message\":\"delegated\"")),
        (29, 2),
        "{log}"
    );
    assert!(!log.contains(&alice), "a token in the log");
}

/// The request of the page, as it stands there.
#[test]
fn the_request_of_the_page_gets_a_ticket() {
    let realm = mit();
    let trader = Plan::of(BRIDGE).start(realm);
    let page = std::fs::read_to_string(repository().join("docs/delegation.md")).unwrap();
    let found: Vec<_> = blocks(&page)
        .into_iter()
        .filter(|block| block.info == "sh lab=mesh")
        .collect();
    let [block] = found.as_slice() else {
        panic!("one request: {found:?}")
    };
    let command = block
        .text
        .replace("HTTP/legacy.example.com@EXAMPLE.COM", &realm.principal(LEGACY))
        .replace("mesh.sock", &trader.broker.socket().display().to_string());
    let output = Command::new("sh")
        .args(["-ec", &command])
        .env("TOKEN", trader.token("alice"))
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["token_type"], "N_A", "{answer}");
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let ticket = answer["access_token"].as_str().unwrap();
    assert_eq!(seen_by(&apache, ticket), realm.principal("alice"));
}

/// What is missing at the KDC is told apart: the account's right to act for who showed it no ticket, and towards whom.
fn rights(realm: &DelegationRealm) {
    for (account, reason) in [
        (KERBEROS_ONLY, "evidence_not_forwardable"),
        (NO_TARGETS, "delegation_denied"),
    ] {
        let trader = Plan::of(account).start(realm);
        let refused = trader.trade(&trader.token("alice"));
        assert_eq!(refused, Traded::refused(400, reason), "{account}");
    }
}

/// Many users, shuffled, on many connections at once: no ticket is ever another user's.
fn never_crossed(realm: &'static DelegationRealm) {
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let trader = Plan::of(BRIDGE).start(realm);
    let tokens: Vec<(String, String)> = (0..CROWD)
        .map(|number| {
            (
                realm.principal(&crowd_member(number)),
                trader.token(&crowd_member(number)),
            )
        })
        .collect();
    let (apache, trader, tokens) = (&apache, &trader, &tokens);
    std::thread::scope(|scope| {
        for client in 0..6_usize {
            scope.spawn(move || {
                // Each client in an order of its own: 7, 11, … have no factor in common with fifty.
                let step = [7, 11, 13, 17, 19, 23][client];
                for turn in 0..CROWD.saturating_mul(2) {
                    let (user, token) = &tokens[turn.wrapping_mul(step).wrapping_add(client) % CROWD];
                    assert_eq!(&seen_by(apache, &trader.trade(token).ticket()), user);
                }
            });
        }
    });
    // Each once for each user.
    for question in ["s4u2self", "s4u2proxy"] {
        let asked = trader.metric(&format!(
            "kerbridge_kdc_requests_total{{question=\"{question}\",outcome=\"ok\"}}"
        ));
        assert_eq!(usize::try_from(asked).unwrap(), CROWD, "{question}");
    }
    assert_eq!(trader.metric("kerbridge_delegations_total{reason=\"ok\"}"), 600);
}

/// How long a ticket is of use is the least of what token, policy and KDC say.
fn lives(realm: &DelegationRealm) {
    let trader = Plan {
        policy: format!(
            "[[delegation]]\ntarget = \"{LEGACY}@{name}\"\naudience = \"orders\"\nprincipals = [\"*@{name}\"]\nclients = [\"mesh\"]\nmax_life = \"1m\"\n",
            name = realm.realm()
        ),
        ..Plan::of(BRIDGE)
    }
    .start(realm);
    let life = |member: &str, value| {
        let claims = with(trader.claims("alice"), member, value);
        trader.trade(&trader.sign(&claims)).life()
    };
    let short = life("exp", json!(now().saturating_add(30)));
    assert!((20..=30).contains(&short), "{short}");
    let whole = life("exp", json!(now().saturating_add(600)));
    assert!((590..=600).contains(&whole), "{whole}");
    let a_day = life("exp", json!(now().saturating_add(86_400)));
    assert!((880..=900).contains(&a_day), "the policy's quarter of an hour: {a_day}");
    let a_minute = life("aud", json!("orders"));
    assert!((30..=60).contains(&a_minute), "{a_minute}");
}

#[test]
fn a_ticket_becomes_a_token_and_that_a_ticket_for_another_service() {
    there_and_back(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_ticket_becomes_a_token_and_that_a_ticket_for_another_service_in_a_domain() {
    there_and_back(samba());
}

#[test]
fn each_refusal_has_its_reason_and_one_event() {
    refusals(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn each_refusal_has_its_reason_and_one_event_in_a_domain() {
    refusals(samba());
}

#[test]
fn what_the_account_may_not_is_told_apart() {
    rights(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn what_the_account_may_not_is_told_apart_in_a_domain() {
    rights(samba());
}

#[test]
fn many_at_once_are_never_crossed_and_the_kdc_is_asked_once_for_each() {
    never_crossed(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn many_at_once_are_never_crossed_and_the_kdc_is_asked_once_for_each_in_a_domain() {
    never_crossed(samba());
}

#[test]
fn a_ticket_is_of_use_no_longer_than_token_policy_and_kdc_say() {
    lives(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_ticket_is_of_use_no_longer_than_token_policy_and_kdc_say_in_a_domain() {
    lives(samba());
}

/// The KDC gives tickets to the service for a few seconds.
#[test]
fn a_ticket_that_ends_is_had_anew() {
    let realm = DelegationRealm::start(Kind::Mit, 0).unwrap();
    realm.clients().modify(LEGACY, "-maxlife 4s").unwrap();
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let trader = Plan::of(BRIDGE).start(&realm);
    let token = trader.token("alice");
    let asked = || trader.metric("kerbridge_kdc_requests_total{question=\"s4u2proxy\",outcome=\"ok\"}");
    let first = trader.trade(&token).life();
    assert_eq!(((1..=4).contains(&first), asked()), (true, 1), "{first}");
    // What comes until then, and in the second of its end, is a ticket that the service takes.
    wait_until("the ticket's end", Duration::from_secs(20), || {
        assert_eq!(
            seen_by(&apache, &trader.trade(&token).ticket()),
            realm.principal("alice")
        );
        asked() == 2
    })
    .unwrap();
}
