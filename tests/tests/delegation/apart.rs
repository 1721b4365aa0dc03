//! A process of its own that acts for users: it has neither the keys nor the store of the broker that makes the tokens, and hears
//! from that one what is revoked.

use std::path::Path;
use std::time::Duration;

use kerbridge_tests::broker::{Broker, BrokerSettings};
use kerbridge_tests::delegation::{ACCEPTOR, BRIDGE, DelegationRealm, LEGACY};
use kerbridge_tests::http::Request;
use kerbridge_tests::token::LabKey;
use kerbridge_tests::wait::wait_until;

use crate::broker::{ANOTHERS_KEYS, another_issuer, both_ways, both_ways_with, token};
use crate::doctor::answer::Answer;
use crate::realms::mit;
use crate::trader::{ISSUER, Traded, foreign_token, trade};

/// Prepares one beside a broker that makes tokens.
fn beside(minting: &Broker, realm: &DelegationRealm, folder: &Path) -> Broker {
    beside_with(minting, realm, folder, "")
}

/// The same with more of the configuration.
fn beside_with(minting: &Broker, realm: &DelegationRealm, folder: &Path, more: &str) -> Broker {
    let name = realm.realm();
    let socket = minting.socket();
    let settings = BrokerSettings {
        issuer: ISSUER.to_owned(),
        realms: vec![name.to_owned()],
        acceptors: Vec::new(),
        keytab: realm.keytab(BRIDGE),
        policy: std::fs::read_to_string(minting.folder().join("policy.toml")).unwrap(),
        more: format!(
            "{}refused_targets = [{:?}]\n\
             [[delegation.keys]]\nissuer = {ISSUER:?}\nunix = {socket:?}\n\
             [[delegation.feeds]]\nissuer = {ISSUER:?}\nunix = {socket:?}\npoll = \"1s\"\nmax_staleness = \"3s\"\n{more}",
            realm.table(BRIDGE),
            realm.principal(ACCEPTOR),
        ),
    };
    let mut broker = Broker::prepare(folder, &settings).unwrap();
    broker.set_krb5_config(realm.clients().krb5_config());
    broker
}

#[test]
fn a_process_of_its_own_hears_of_revocations_and_gives_nothing_out_when_it_hears_nothing() {
    let realm = mit();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = folders.each_ref().map(tempfile::TempDir::path);
    let mut minting = both_ways(realm, first);
    let (alice, bob) = (token(realm, &minting, "alice"), token(realm, &minting, "bob"));
    let mut delegating = beside(&minting, realm, second);
    delegating.start().unwrap();
    let trade = |token: &str| trade(&delegating, token, &realm.principal(LEGACY));
    let is_given = |token: &str| matches!(trade(token), Traded::Ticket(..));
    let comes_to = |token: &str, refused: &Traded| {
        let within = Duration::from_secs(20);
        wait_until("the refusal", within, || trade(token) == *refused).unwrap();
    };
    assert!(is_given(&alice) && is_given(&bob));

    let claims = kerbridge_tests::token::decode(&alice).unwrap().claims;
    minting.revoke(&["--jti", claims["jti"].as_str().unwrap()]).unwrap();
    comes_to(&alice, &Traded::refused(400, "revoked"));
    assert!(is_given(&bob));

    minting.stop().unwrap();
    comes_to(&bob, &Traded::refused(503, "feed_stale"));
    // What is revoked stays revoked.
    assert_eq!(trade(&alice), Traded::refused(400, "revoked"));
    minting.start().unwrap();
    wait_until("a ticket", Duration::from_secs(20), || is_given(&bob)).unwrap();
    drop(delegating);
}

#[test]
fn a_process_of_its_own_refuses_whoever_was_taken_out_by_another_issuers_token_too() {
    let realm = mit();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = folders.each_ref().map(tempfile::TempDir::path);
    let idp = LabKey::generate().unwrap();
    for folder in [first, second] {
        std::fs::write(folder.join("idp.json"), idp.key_set().to_string()).unwrap();
    }
    let mut minting = both_ways_with(realm, first, (&another_issuer(realm), ANOTHERS_KEYS));
    let more = format!("{ANOTHERS_KEYS}[names]\nstrip_realm_of = [{:?}]\n", realm.realm());
    let mut delegating = beside_with(&minting, realm, second, &more);
    delegating.start().unwrap();
    let trade = |user: &str| {
        let token = foreign_token(&idp, "upn", &realm.principal(user));
        trade(&delegating, &token, &realm.principal(LEGACY))
    };
    let is_given = |user: &str| matches!(trade(user), Traded::Ticket(..));
    let comes_to = |user: &str, what: &str, is_so: &dyn Fn() -> bool| {
        wait_until(&format!("{what} {user}"), Duration::from_secs(20), is_so).unwrap();
    };
    assert!(is_given("alice") && is_given("bob"));

    // By the name that tokens of ours have for her, which is not the principal.
    minting.revoke(&["--subject", "alice"]).unwrap();
    comes_to("alice", "no ticket for", &|| {
        trade("alice") == Traded::refused(400, "revoked")
    });
    assert!(is_given("bob"));
    minting.revoke(&["--subject", "alice", "--lift"]).unwrap();
    comes_to("alice", "a ticket for", &|| is_given("alice"));

    // Who is taken out is not known any more.
    minting.stop().unwrap();
    comes_to("bob", "no ticket for", &|| {
        trade("bob") == Traded::refused(503, "feed_stale")
    });
    drop(delegating);
}

#[test]
fn the_doctor_looks_at_what_a_process_of_its_own_is_told_and_at_its_rights() {
    let realm = mit();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = folders.each_ref().map(tempfile::TempDir::path);
    let mut minting = both_ways(realm, first);
    let delegating = beside(&minting, realm, second);
    // Whose users are in which group is the other broker's to say.
    let groups = "[[grant]]\ngroups = [\"nobody-here-knows-it\"]\naudience = \"orders\"\n";
    let policy = std::fs::read_to_string(minting.folder().join("policy.toml")).unwrap();
    delegating.set_policy(&format!("{policy}{groups}")).unwrap();
    let alice = realm.principal("alice");
    let look = |words: &[&str]| {
        let answer = Answer::of_broker(&delegating, realm, words);
        (answer.short().join(", "), answer.code)
    };
    let all_good = "keys good, feed good, account good, user good, target good";
    assert_eq!(look(&["delegation", "--user", &alice]), (all_good.to_owned(), 0));
    minting.stop().unwrap();
    let nothing_heard = "keys bad keys_unavailable, feed skipped, account good, user skipped";
    assert_eq!(look(&["delegation"]), (nothing_heard.to_owned(), 1));
    // The whole doctor looks at this too.
    let (whole, code) = look(&[]);
    assert!(whole.contains(nothing_heard) && code == 1, "{whole}");
}

#[test]
fn a_process_of_its_own_is_not_ready_before_it_knows_what_is_revoked() {
    let realm = mit();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = folders.each_ref().map(tempfile::TempDir::path);
    let minting = both_ways(realm, first);
    let alice = token(realm, &minting, "alice");
    let mut delegating = beside(&minting, realm, second);
    // Its keys are there, and nobody has its feed.
    let nowhere = second.join("nowhere.sock");
    let feeds = format!(
        "[[delegation.feeds]]\nissuer = {ISSUER:?}\nunix = {:?}",
        minting.socket()
    );
    let instead = format!("[[delegation.feeds]]\nissuer = {ISSUER:?}\nunix = {nowhere:?}");
    delegating.configure(&feeds, &instead).unwrap();
    delegating.start_listening().unwrap();
    // Its keys are there by and by.
    let awaited = format!("the revocations of {ISSUER} have not been there yet");
    let waits = || {
        let ready = delegating.ask(&Request::get("/readyz")).unwrap();
        assert_eq!(ready.status, 503);
        ready.text().contains(&awaited)
    };
    wait_until(&awaited, Duration::from_secs(20), waits).unwrap();
    assert_eq!(
        trade(&delegating, &alice, &realm.principal(LEGACY)),
        Traded::refused(503, "feed_stale")
    );
}
