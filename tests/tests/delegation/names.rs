//! Whom a token is about, and whom the KDC takes for that: nobody is acted for by another name of their account, and no ticket
//! leaves to an account of the broker's by another name of it.

use std::path::Path;
use std::time::Duration;

use kerbridge_tests::apache::Apache;
use kerbridge_tests::delegation::{
    ACCENTED, ACCEPTOR, ALIASES, BRIDGE, DelegationRealm, Kind, LEGACY, MACHINE, SENSITIVE,
};
use kerbridge_tests::exchange_world::{Exchanged, exchange};
use kerbridge_tests::initiator::token_in_child;
use kerbridge_tests::wait::wait_until;

use crate::broker::{both_ways, both_ways_with, seen_by, token};
use crate::realms::{mit, samba};
use crate::trader::{Plan, Traded, subject, trade};

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

/// Lines of the policy that let everybody be acted for towards the broker's own accounts, by their other names.
pub(crate) fn towards_aliases(realm: &DelegationRealm) -> String {
    ALIASES
        .map(|alias| {
            format!(
                "[[delegation]]\ntarget = \"{}\"\naudience = \"orders\"\nprincipals = [\"*@{}\"]\nclients = [\"mesh\"]\n",
                realm.principal(alias),
                realm.realm()
            )
        })
        .concat()
}

/// A domain knows more names of an account than the configuration. No ticket to an account of the broker's leaves, by whatever name.
fn aliases(realm: &DelegationRealm) {
    let lines = towards_aliases(realm);
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

/// Another issuer's tokens are about whom its line says, and about nobody without one.
fn other_issuers(realm: &DelegationRealm) {
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let (name, alice) = (realm.realm(), realm.principal("alice"));
    let (service, tickets) = (realm.principal(LEGACY), realm.principal(&format!("krbtgt/{name}")));
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
        // It speaks for people alone: not for a service, not for the KDC.
        ("upn", service.as_str(), "principal_not_mapped"),
        ("upn", tickets.as_str(), "principal_not_mapped"),
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
fn tokens_of_another_issuer_are_about_whom_the_policy_says() {
    other_issuers(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn tokens_of_another_issuer_are_about_whom_the_policy_says_in_a_domain() {
    other_issuers(samba());
}
