//! Who was taken out has no ticket made any more, whoever's token says their name, and whatever is kept of them.

use kerbridge_tests::delegation::LEGACY;
use kerbridge_tests::token::LabKey;

use crate::broker::{ANOTHERS_KEYS, another_issuer, both_ways, both_ways_with, token};
use crate::realms::mit;
use crate::trader::{Traded, foreign_token, trade};

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
