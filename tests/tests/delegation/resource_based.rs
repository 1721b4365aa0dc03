//! Resource-based delegation: the service says who may act for users towards it, and the account's own list says nothing. On MIT's
//! KDC, which has it, with a database of the tests', since those that come with it have not.

use kerbridge_tests::apache::Apache;
use kerbridge_tests::delegation::{BRIDGE, DelegationRealm, LEGACY, NO_TARGETS, OTHER, RESOURCE_BASED, SENSITIVE};

use crate::broker::seen_by;
use crate::trader::{Plan, Traded};

#[test]
fn a_service_lets_an_account_act_towards_it_that_may_nothing_by_itself() {
    let realm = DelegationRealm::start_resource_based().unwrap();
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let trader = Plan::of(RESOURCE_BASED).start(&realm);
    let seen = |user: &str| seen_by(&apache, &trader.trade(&trader.token(user)).ticket());
    for user in ["alice", "bob"] {
        assert_eq!(seen(user), realm.principal(user));
    }
    let refused = |account: &str, user: &str, target: &str, reason: &str| {
        let trader = Plan::of(account).start(&realm);
        let came = trader.trade_for(&trader.token(user), target);
        assert_eq!(came, Traded::refused(400, reason), "{account} for {user} to {target}");
    };
    // The other service lets nobody in, and this one nobody else; whoever is protected stays so.
    refused(RESOURCE_BASED, "alice", OTHER, "delegation_denied");
    refused(NO_TARGETS, "alice", LEGACY, "delegation_denied");
    refused(RESOURCE_BASED, SENSITIVE, LEGACY, "evidence_not_forwardable");
    // What an account may by its own list it may beside that.
    let beside = Plan::of(BRIDGE).start(&realm);
    assert!(matches!(beside.trade(&beside.token("alice")), Traded::Ticket(..)));

    // Nor does it take a right of the account's to act for who showed it no ticket.
    let clients = realm.clients();
    clients.allow_protocol_transition(RESOURCE_BASED, false).unwrap();
    let plain = Plan::of(RESOURCE_BASED).start(&realm);
    let ticket = plain.trade(&plain.token("alice")).ticket();
    assert_eq!(seen_by(&apache, &ticket), realm.principal("alice"));

    clients.let_nobody_act(LEGACY).unwrap();
    refused(RESOURCE_BASED, "alice", LEGACY, "delegation_denied");
}
