//! A ticket becomes a token, and the token a ticket again: the service sees the user, and nobody whom the policy or the KDC does
//! not let through.

use std::time::Duration;

use kerbridge_tests::delegation::{ACCEPTOR, DelegationRealm, NO_TARGETS, OTHER, SENSITIVE, UNKNOWN};
use kerbridge_tests::token::decode;
use kerbridge_tests::wait::wait_until;

use crate::bridge::{Plan, Service, seen};
use crate::realms::{mit, samba};

/// More than a brief token's life.
const BRIEFLY: Duration = Duration::from_secs(20);

fn a_circle(realm: &DelegationRealm) {
    let plan = Plan {
        principals: &["alice"],
        users: &["alice", "bob"],
        ..Plan::default()
    };
    let bridge = plan.start(realm);
    let alice = realm.principal("alice");

    // By a ticket, which becomes a token and that a ticket; and by the token alone.
    let answer = bridge.world.curl_as("alice", "/legacy/1").send().unwrap();
    assert_eq!(seen(&answer), alice, "{}", bridge.apache.log());
    let token = answer.header("x-kerbridge-token").unwrap().to_owned();
    for path in ["/legacy/2", "/legacy/3?page=1"] {
        let answer = bridge.ask(&token, path);
        assert_eq!(seen(&answer), alice);
        assert_eq!(answer.header("www-authenticate"), None);
        let shown = answer.json();
        assert_eq!(shown["target"], path);
        let authorization: Vec<&str> = shown["headers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case("authorization"))
            .map(|header| header[1].as_str().unwrap())
            .collect();
        assert!(
            matches!(authorization.as_slice(), [one] if one.starts_with("Negotiate YI")),
            "{authorization:?}"
        );
        assert!(!answer.text().contains(&token));
    }

    // Somebody for whom the policy has no line, by ticket and by token.
    let refused = bridge.world.curl_as("bob", "/legacy/1").send().unwrap();
    let denied = (403, "denied_by_policy".to_owned());
    assert_eq!(bridge.world.reason(&refused).unwrap(), denied);
    let bobs = bridge.token("bob");
    assert_eq!(bridge.refused(&bobs, "/legacy/1"), denied);
    // A token for another audience opens nothing here.
    let orders = bridge.world.token("alice", "/orders/1").unwrap();
    assert_eq!(bridge.refused(&orders, "/legacy/1"), (401, "wrong_audience".to_owned()));

    // What Apache noted: alice only, each time with another ticket.
    wait_until("three requests in Apache's log", Duration::from_secs(5), || {
        bridge.apache.served().unwrap().len() >= 3
    })
    .unwrap();
    let served = bridge.apache.served().unwrap();
    assert!(
        served.iter().all(|one| one.user.as_deref() == Some(alice.as_str())),
        "{served:?}"
    );
    let mut tickets: Vec<_> = served.iter().map(|one| one.authorization.clone()).collect();
    tickets.sort_unstable();
    tickets.dedup();
    assert_eq!((served.len(), tickets.len()), (3, 3));
}

/// Where the token, the user or the target is such that there is no ticket.
fn refusals(realm: &DelegationRealm) {
    let service = |path, name, is_in_policy| Service {
        path,
        name,
        is_in_policy,
    };
    let plan = Plan {
        users: &["alice", SENSITIVE],
        services: &[
            service("other", OTHER, true),
            service("unknown", UNKNOWN, true),
            service("elsewhere", "HTTP/elsewhere.lab.test", false),
            service("itself", ACCEPTOR, false),
        ],
        ..Plan::default()
    };
    let mut bridge = plan.start(realm);
    let brief = bridge.world.token("alice", "/legacy/brief/1").unwrap();
    let (alice, sensitive, revoked) = (bridge.token("alice"), bridge.token(SENSITIVE), bridge.token("alice"));
    let jti = decode(&revoked).unwrap().claims["jti"].as_str().unwrap().to_owned();
    bridge.world.broker().revoke(&["--jti", &jti]).unwrap();
    for (token, path, status, reason) in [
        (&sensitive, "/legacy/1", 403, "evidence_not_forwardable"),
        (&revoked, "/legacy/1", 401, "revoked"),
        // On no list of the account's at the KDC.
        (&alice, "/other/1", 403, "delegation_denied"),
        // What the KDC does not know, what no line names, and the broker itself: that filter, policy and KDC do not agree is
        // nothing that a client could mend. The broker's log says which it is.
        (&alice, "/unknown/1", 503, "internal"),
        (&alice, "/elsewhere/1", 503, "internal"),
        (&alice, "/itself/1", 503, "internal"),
    ] {
        assert_eq!(bridge.refused(token, path), (status, reason.to_owned()), "{path}");
    }
    let log = bridge.world.broker().log();
    for target in [UNKNOWN, "HTTP/elsewhere.lab.test", ACCEPTOR] {
        let target = realm.principal(target);
        let mut lines = log
            .lines()
            .filter(|line| line.contains("\"reason\":\"invalid_target\""));
        assert!(lines.any(|line| line.contains(&target)), "{target}: {log}");
    }
    assert_eq!(seen(&bridge.ask(&alice, "/legacy/1")), realm.principal("alice"));
    wait_until("the end of a brief token", BRIEFLY, || {
        bridge.ask(&brief, "/legacy/brief/2").status != 200
    })
    .unwrap();
    assert_eq!(bridge.refused(&brief, "/legacy/brief/2"), (401, "expired".to_owned()));
    // Nobody else came through.
    let served = bridge.apache.served().unwrap();
    assert!(
        served.iter().all(|one| one.user == Some(realm.principal("alice"))),
        "{served:?}"
    );
}

/// The account has a right less.
fn an_account_without_targets(realm: &DelegationRealm) {
    let plan = Plan {
        account: NO_TARGETS,
        ..Plan::default()
    };
    let bridge = plan.start(realm);
    let refused = bridge.world.curl_as("alice", "/legacy/1").send().unwrap();
    let denied = (403, "delegation_denied".to_owned());
    assert_eq!(bridge.world.reason(&refused).unwrap(), denied);
    // What was refused is not asked for again at once.
    let token = bridge.token("alice");
    let asked = bridge.asked("s4u2proxy");
    for _ in 0..20 {
        assert_eq!(bridge.refused(&token, "/legacy/2"), denied);
    }
    let again = bridge.asked("s4u2proxy").saturating_sub(asked);
    assert!(asked >= 1 && again <= 2, "{again} questions for 20 requests");
    assert!(bridge.apache.served().unwrap().is_empty());
}

#[test]
fn a_ticket_becomes_a_token_and_that_a_ticket_of_the_same_user() {
    a_circle(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_ticket_becomes_a_token_and_that_a_ticket_of_the_same_user_in_a_domain() {
    a_circle(samba());
}

#[test]
fn each_refusal_reaches_the_client_of_envoy_under_its_reason() {
    refusals(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn each_refusal_reaches_the_client_of_envoy_under_its_reason_in_a_domain() {
    refusals(samba());
}

#[test]
fn what_the_kdc_refuses_is_403_and_is_not_asked_for_again_at_once() {
    an_account_without_targets(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn what_the_kdc_refuses_is_403_and_is_not_asked_for_again_at_once_in_a_domain() {
    an_account_without_targets(samba());
}

/// A service of the KDC's own is not even a name for one: neither policy nor filter takes it.
#[test]
fn no_envoy_starts_that_would_ask_for_a_service_of_the_kdcs() {
    let realm = mit();
    let krbtgt = format!("krbtgt/{}", realm.realm());
    let plan = Plan {
        services: &[Service {
            path: "kdc",
            name: &krbtgt,
            is_in_policy: false,
        }],
        ..Plan::default()
    };
    let refused = plan.in_front_of(realm, 1).start().err().unwrap().to_string();
    assert!(refused.contains("krbtgt, kadmin and changepw"), "{refused}");
}
