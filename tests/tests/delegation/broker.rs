//! The broker trades a token for a ticket in its subject's name: who gets one, for what, and how each refusal is named.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kerbridge_tests::apache::{Apache, remote_user};
use kerbridge_tests::broker::{Broker, BrokerSettings};
use kerbridge_tests::delegation::{
    ACCENTED, ACCEPTOR, ALIASES, BRIDGE, DISABLED, DelegationRealm, EXPIRED, KERBEROS_ONLY, Kind, LEGACY, MACHINE,
    NO_TARGETS, OTHER, SENSITIVE, UNKNOWN, crowd_member,
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
use crate::trader::{IDP, ISSUER, Plan, Traded, foreign_token, subject, trade};

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

/// A domain knows a machine without its `$` as well, and gives it a ticket of that name: it is not taken for somebody of that name.
fn machines(realm: &DelegationRealm) {
    let folder = tempfile::tempdir().unwrap();
    let broker = both_ways(realm, folder.path());
    let lab = Path::new(env!("CARGO_BIN_EXE_kerbridge-lab"));
    for (name, reason) in [
        (MACHINE.to_owned(), "principal_not_mapped"),
        // `*` is for people.
        (format!("{MACHINE}$"), "denied_by_policy"),
    ] {
        let tickets = realm.kinit(&name).unwrap();
        let ticket = token_in_child(lab, realm.clients(), &tickets, &realm.principal(ACCEPTOR)).unwrap();
        assert!(
            matches!(exchange(&broker.socket(), &ticket).unwrap(), Exchanged::Refused(..)),
            "{name}"
        );
        let said = format!("\"reason\":\"{reason}\"");
        wait_until(&said, Duration::from_secs(20), || broker.log().contains(&said)).unwrap();
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

/// A domain finds accounts by other names than theirs: a machine's without its `$`, anybody's in another case of any letter.
/// Whoever the policy let through is whom the KDC acts for, or there is no ticket.
fn other_names(realm: &DelegationRealm) {
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let trader = Plan::of(BRIDGE).start(realm);
    let seen = |user: &str| seen_by(&apache, &trader.trade(&trader.token(user)).ticket());
    for user in ["alice", "ALICE"] {
        assert!(seen(user).eq_ignore_ascii_case(&realm.principal("alice")), "{user}");
    }
    assert!(matches!(trader.trade(&trader.token(ACCENTED)), Traded::Ticket(..)));
    for (user, reason) in [
        // `*` is for people.
        (format!("{MACHINE}$"), "denied_by_policy"),
        (MACHINE.to_owned(), "principal_not_mapped"),
        (MACHINE.to_lowercase(), "principal_not_mapped"),
        (ACCENTED.to_uppercase(), "principal_not_mapped"),
        (ACCENTED.replace('é', "e"), "delegation_denied"),
        ("alicé".to_owned(), "delegation_denied"),
    ] {
        assert_eq!(
            trader.trade(&trader.token(&user)),
            Traded::refused(400, reason),
            "{user}"
        );
    }
}

/// A domain knows more names of an account than the configuration. No ticket to an account of the broker's leaves, by whatever name.
fn aliases(realm: &DelegationRealm) {
    let lines: String = ALIASES
        .map(|alias| {
            format!(
                "[[delegation]]\ntarget = \"{}\"\naudience = \"orders\"\nprincipals = [\"*@{}\"]\nclients = [\"mesh\"]\n",
                realm.principal(alias),
                realm.realm()
            )
        })
        .concat();
    let folder = tempfile::tempdir().unwrap();
    let broker = both_ways_with(realm, folder.path(), (&lines, ""));
    let token = token(realm, &broker, "alice");
    let trade = |target: &str| trade(&broker, &token, &realm.principal(target));
    assert!(matches!(trade(LEGACY), Traded::Ticket(..)));
    for (alias, own) in ALIASES.into_iter().zip([BRIDGE, ACCEPTOR]) {
        assert_eq!(trade(alias), Traded::refused(400, "delegation_denied"), "{alias}");
        let said = format!(
            "{} is this broker itself, by another name of {}",
            realm.principal(alias),
            realm.principal(own)
        );
        // The event may be written after the answer has gone.
        wait_until(&said, Duration::from_secs(20), || broker.log().contains(&said)).unwrap();
    }
    // A process that knows neither the acceptor's key nor that name of it lets it through: it must be told.
    let trader = Plan::of(BRIDGE);
    let trader = Plan {
        policy: lines.replace("\"orders\"", "\"legacy\""),
        ..trader
    };
    let trader = trader.start(realm);
    let token = trader.token("alice");
    assert_eq!(
        trader.trade_for(&token, ALIASES[0]),
        Traded::refused(400, "delegation_denied")
    );
    assert!(matches!(trader.trade_for(&token, ALIASES[1]), Traded::Ticket(..)));
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

/// Another issuer's tokens are about whom its line says, and about nobody without one.
fn other_issuers(realm: &DelegationRealm) {
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let (name, alice) = (realm.realm(), realm.principal("alice"));
    let with_line = |claim: &str, rest: String| {
        Plan {
            policy: subject(claim, &rest),
            ..Plan::of(BRIDGE)
        }
        .start(realm)
    };

    let trader = with_line("upn", format!("form = \"principal\"\nrealms = [{name:?}]"));
    let ticket = trader.trade(&trader.foreign("upn", &alice)).ticket();
    assert_eq!(seen_by(&apache, &ticket), alice);
    for (claim, value, reason) in [
        ("upn", "alice@OTHER.TEST", "realm_not_allowed"),
        ("upn", "alice", "principal_not_mapped"),
        ("name", alice.as_str(), "missing_claim"),
        ("kerbridge_principal", alice.as_str(), "missing_claim"),
    ] {
        let refused = trader.trade(&trader.foreign(claim, value));
        assert_eq!(refused, Traded::refused(400, reason), "{claim} {value}");
    }
    drop(trader);

    let trader = with_line("/name", format!("form = \"account\"\nrealm = {name:?}"));
    let ticket = trader.trade(&trader.foreign("name", "bob")).ticket();
    assert_eq!(seen_by(&apache, &ticket), realm.principal("bob"));
    for (value, reason) in [
        ("alice@LAB.TEST", "principal_not_mapped"),
        ("alice/admin", "principal_not_mapped"),
        ("nobody", "delegation_denied"),
        (SENSITIVE, "evidence_not_forwardable"),
    ] {
        assert_eq!(
            trader.trade(&trader.foreign("name", value)),
            Traded::refused(400, reason),
            "{value}"
        );
    }
    drop(trader);

    let trader = with_line("upn", format!("form = \"upn\"\nrealm = {name:?}\nrealms = [{name:?}]"));
    let answer = trader.trade(&trader.foreign("upn", "alice@ad.test"));
    match realm.kind() {
        Kind::Samba => {
            assert_eq!(seen_by(&apache, &answer.ticket()), alice);
            let renamed = trader.trade(&trader.foreign("upn", "ALICE@ad.test"));
            assert_eq!(
                seen_by(&apache, &renamed.ticket()),
                alice,
                "the account, as it is written"
            );
        }
        // MIT's KDC has no such names of its own.
        Kind::Mit => assert_eq!(answer, Traded::refused(400, "delegation_denied")),
    }
    let refused = trader.trade(&trader.foreign("upn", "nobody@ad.test"));
    assert_eq!(refused, Traded::refused(400, "delegation_denied"));
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
#[ignore = "runs a domain controller, as root"]
fn nobody_is_acted_for_by_another_name_of_their_account_in_a_domain() {
    other_names(samba());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_machines_ticket_in_a_name_of_people_becomes_no_token_in_a_domain() {
    machines(samba());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn no_ticket_leaves_to_an_account_of_the_brokers_by_another_name_of_it_in_a_domain() {
    aliases(samba());
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
fn tokens_of_another_issuer_are_about_whom_the_policy_says() {
    other_issuers(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn tokens_of_another_issuer_are_about_whom_the_policy_says_in_a_domain() {
    other_issuers(samba());
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

#[test]
fn a_revoked_token_gets_no_ticket_though_one_was_just_made_for_it_and_others_do() {
    let realm = mit();
    let folder = tempfile::tempdir().unwrap();
    let broker = both_ways(realm, folder.path());
    let (alice, bob) = (token(realm, &broker, "alice"), token(realm, &broker, "bob"));
    let trade = |token: &str| trade(&broker, token, &realm.principal(LEGACY));
    let is_given = |token: &str| matches!(trade(token), Traded::Ticket(..));
    assert!(is_given(&alice));
    let claims = kerbridge_tests::token::decode(&alice).unwrap().claims;
    for (option, claim) in [("--jti", "jti"), ("--sid", "sid"), ("--subject", "sub")] {
        let value = claims[claim].as_str().unwrap();
        broker.revoke(&[option, value]).unwrap();
        assert_eq!(trade(&alice), Traded::refused(400, "revoked"), "{option}");
        assert!(is_given(&bob), "{option}");
        broker.revoke(&[option, value, "--lift"]).unwrap();
        assert!(is_given(&alice), "{option}");
    }
}

#[test]
fn whoever_was_taken_out_gets_no_ticket_by_another_issuers_token_either() {
    let realm = mit();
    let folder = tempfile::tempdir().unwrap();
    let idp = LabKey::generate().unwrap();
    std::fs::write(folder.path().join("idp.json"), idp.key_set().to_string()).unwrap();
    let broker = both_ways_with(realm, folder.path(), (&another_issuer(realm), ANOTHERS_KEYS));
    let trade = |user: &str| {
        let token = foreign_token(&idp, "upn", &realm.principal(user));
        trade(&broker, &token, &realm.principal(LEGACY))
    };
    let is_given = |user: &str| matches!(trade(user), Traded::Ticket(..));
    assert!(is_given("alice") && is_given("bob"));
    // By the name that tokens of ours have for her, which is not the principal.
    broker.revoke(&["--subject", "alice"]).unwrap();
    assert_eq!(trade("alice"), Traded::refused(400, "revoked"));
    assert!(is_given("bob"));
    broker.revoke(&["--subject", "alice", "--lift"]).unwrap();
    assert!(is_given("alice"));
}
