//! The broker's GSSAPI acting for users, without the broker: who gets where, what comes out, and how each refusal is named.
//!
//! libkrb5 reads its configuration from the environment of the process, so each body runs in a process of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gss::{
    DelegationErrorKind as Kind, DelegationStep as Step, DelegationTarget, Delegator, Principal, ServicePrincipal,
};
use kerbridge_tests::apache::{Apache, remote_user};
use kerbridge_tests::delegation::{
    BRIDGE, DISABLED, DelegationRealm, EXPIRED, KERBEROS_ONLY, LEGACY, NO_TARGETS, OTHER, RESOURCE_BASED, SENSITIVE,
    UNKNOWN, crowd_member, keytab_file,
};
use kerbridge_tests::http::{Connection, Request};
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::tickets::services;
use kerbridge_tests::token::now;
use kerbridge_tests::wait::wait_until;

use crate::realms::{CROWD, mit, samba};

const FOLDER: &str = "KERBRIDGE_DELEGATION_FOLDER";
const PASSED: &str = "KERBRIDGE_DELEGATION_PASSED";
/// How often each of the crowd comes.
const TURNS: usize = 4;

/// Runs `body` with this libkrb5 setting for `forwardable`, which the broker's own krb5.conf has. `test` is the path of the
/// calling test, as libtest names it.
fn in_realm(realm: fn() -> &'static DelegationRealm, test: &str, forwardable: bool, body: fn(&Kdc)) {
    with_settings(realm, test, &format!("forwardable = {forwardable}\n"), body);
}

fn with_settings(realm: fn() -> &'static DelegationRealm, test: &str, settings: &str, body: fn(&Kdc)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        body(&Kdc::attach(folder.as_ref()).unwrap());
        std::fs::write(std::env::var_os(PASSED).unwrap(), test).unwrap();
        return;
    }
    let realm = realm();
    let folder = tempfile::tempdir().unwrap();
    let setting = folder.path().join("krb5.conf");
    std::fs::write(&setting, format!("[libdefaults]\n{settings}")).unwrap();
    // What comes first wins.
    let config = format!("{}:{}", setting.display(), realm.clients().krb5_config().display());
    let passed = folder.path().join("passed");
    let spawn = Spawn::new(std::env::current_exe().unwrap(), folder.path())
        .name("child")
        .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, realm.folder())
        .env(PASSED, &passed)
        .env("KRB5_CONFIG", config);
    let mut child = OwnedProcess::start(spawn).unwrap();
    let status = child.wait_exit(Duration::from_secs(60)).unwrap();
    assert!(status.success(), "{}", child.log());
    // A name with a slip would run no test, and that succeeds.
    assert_eq!(std::fs::read_to_string(passed).unwrap(), test);
}

fn delegator(kdc: &Kdc, bridge: &str) -> Delegator {
    Delegator::new(&principal(kdc, bridge), &kdc.folder().join(keytab_file(bridge))).unwrap()
}

fn principal(kdc: &Kdc, name: &str) -> Principal {
    Principal::parse(&format!("{name}@{}", kdc.realm())).unwrap()
}

fn target(kdc: &Kdc, name: &str) -> DelegationTarget {
    DelegationTarget::new(ServicePrincipal::parse(&format!("{name}@{}", kdc.realm())).unwrap()).unwrap()
}

/// Fifty users in turn on a few connections that stay open: each request is its own user's.
fn a_crowd(kdc: &Kdc) {
    let apache = Apache::start(&kdc.folder().join(keytab_file(LEGACY))).unwrap();
    let mut bridge = delegator(kdc, BRIDGE);
    let target = target(kdc, LEGACY);
    let crowd: Vec<_> = (0..CROWD)
        .map(|number| bridge.impersonate(&principal(kdc, &crowd_member(number))).unwrap())
        .collect();
    let mut connections: Vec<_> = (0..3).map(|_| Connection::tcp(apache.port()).unwrap()).collect();
    // Never in the order of the round before, and each round on other connections.
    let order = (0..CROWD).cycle().step_by(17).take(TURNS.saturating_mul(CROWD));
    for (turn, number) in order.enumerate() {
        let token = crowd[number].token(&target, None).unwrap();
        let service = format!("{}", target.service());
        assert_eq!(services(token.token.as_bytes()), BTreeSet::from([service]));
        let value = format!("Negotiate {}", STANDARD.encode(token.token.as_bytes()));
        let request = Request::get("/").header("authorization", value);
        let answer = connections[turn.wrapping_rem(3)].exchange(&request).unwrap();
        assert_eq!(answer.status, 200, "{}", apache.log());
        let seen = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(remote_user(&seen), Some(principal(kdc, &crowd_member(number)).as_str()));
    }
}

fn refusals(kdc: &Kdc) {
    let is_samba = kdc.realm() == kerbridge_tests::samba::REALM;
    // Samba says of a closed account that its policy rejects it.
    let closed = if is_samba { Kind::NotAllowed } else { Kind::UserRevoked };
    for (bridge, name, to, expected) in [
        (BRIDGE, "alice", LEGACY, None),
        (BRIDGE, "alice", OTHER, Some((Step::Proxy, Kind::NotAllowed))),
        (BRIDGE, "alice", UNKNOWN, Some((Step::Proxy, Kind::TargetUnknown))),
        (
            BRIDGE,
            SENSITIVE,
            LEGACY,
            Some((Step::Proxy, Kind::EvidenceNotForwardable)),
        ),
        (BRIDGE, "nobody", LEGACY, Some((Step::Impersonate, Kind::UserUnknown))),
        (BRIDGE, DISABLED, LEGACY, Some((Step::Impersonate, closed))),
        (BRIDGE, EXPIRED, LEGACY, Some((Step::Impersonate, Kind::UserRevoked))),
        (
            KERBEROS_ONLY,
            "alice",
            LEGACY,
            Some((Step::Proxy, Kind::EvidenceNotForwardable)),
        ),
        (NO_TARGETS, "alice", LEGACY, Some((Step::Proxy, Kind::NotAllowed))),
        // Neither kind of KDC at hand has it.
        (RESOURCE_BASED, "alice", LEGACY, Some((Step::Proxy, Kind::NotAllowed))),
    ] {
        let outcome = delegator(kdc, bridge)
            .impersonate(&principal(kdc, name))
            .and_then(|acting| acting.token(&target(kdc, to), None));
        let refusal = outcome.as_ref().err().map(|error| (error.step(), error.kind()));
        assert_eq!(refusal, expected, "{bridge} for {name} to {to}: {outcome:?}");
    }
    // Keys of somebody else.
    let stranger = Delegator::new(&principal(kdc, BRIDGE), &kdc.folder().join(keytab_file(LEGACY)));
    let error = stranger.unwrap().impersonate(&principal(kdc, "alice")).unwrap_err();
    assert_eq!((error.step(), error.kind()), (Step::LogIn, Kind::KeytabUnavailable));
}

/// What a krb5.conf that does not ask for forwardable tickets costs: an account that has all rights acts for nobody.
fn not_forwardable(kdc: &Kdc) {
    let acting = delegator(kdc, BRIDGE).impersonate(&principal(kdc, "alice")).unwrap();
    let error = acting.token(&target(kdc, LEGACY), None).unwrap_err();
    assert_eq!(
        (error.step(), error.kind()),
        (Step::Proxy, Kind::EvidenceNotForwardable),
        "{error}"
    );
}

/// Our own ticket ends while we run: it is had anew.
fn outlives_its_own_ticket(kdc: &Kdc) {
    let mut bridge = delegator(kdc, BRIDGE);
    let target = target(kdc, LEGACY);
    let mut act = || {
        let acting = bridge.impersonate(&principal(kdc, "alice")).unwrap();
        acting.token(&target, None).unwrap().ticket_end
    };
    let first_end = act();
    wait_until("the end of our own ticket", Duration::from_secs(20), || {
        now() > first_end
    })
    .unwrap();
    assert!(act() > first_end);
}

#[test]
fn who_acts_for_users_outlives_the_ticket_that_it_began_with() {
    with_settings(
        mit,
        "s4u::who_acts_for_users_outlives_the_ticket_that_it_began_with",
        "forwardable = true\nticket_lifetime = 4s\n",
        outlives_its_own_ticket,
    );
}

#[test]
fn a_crowd_on_shared_connections_is_never_mixed_up() {
    in_realm(
        mit,
        "s4u::a_crowd_on_shared_connections_is_never_mixed_up",
        true,
        a_crowd,
    );
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_crowd_on_shared_connections_is_never_mixed_up_in_a_domain() {
    in_realm(
        samba,
        "s4u::a_crowd_on_shared_connections_is_never_mixed_up_in_a_domain",
        true,
        a_crowd,
    );
}

#[test]
fn each_refusal_has_its_step_and_its_kind() {
    in_realm(mit, "s4u::each_refusal_has_its_step_and_its_kind", true, refusals);
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn each_refusal_has_its_step_and_its_kind_in_a_domain() {
    in_realm(
        samba,
        "s4u::each_refusal_has_its_step_and_its_kind_in_a_domain",
        true,
        refusals,
    );
}

#[test]
fn without_forwardable_tickets_an_account_acts_for_nobody() {
    in_realm(
        mit,
        "s4u::without_forwardable_tickets_an_account_acts_for_nobody",
        false,
        not_forwardable,
    );
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn without_forwardable_tickets_an_account_acts_for_nobody_in_a_domain() {
    in_realm(
        samba,
        "s4u::without_forwardable_tickets_an_account_acts_for_nobody_in_a_domain",
        false,
        not_forwardable,
    );
}
