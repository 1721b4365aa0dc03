use super::*;

#[test]
fn a_realm_in_a_directory_has_its_people_and_services_and_can_change_rights() {
    let mut realm = DelegationRealm::start(Kind::Mit, 3).unwrap();
    for user in ["alice", "bob", SENSITIVE, "user-002"] {
        assert!(realm.kinit(user).is_ok(), "{user}");
    }
    for user in [DISABLED, EXPIRED, "user-003"] {
        assert!(realm.kinit(user).is_err(), "{user}");
    }
    for service in [BRIDGE, RESOURCE_BASED, ACCEPTOR, LEGACY, OTHER] {
        assert!(realm.keytab(service).is_file(), "{service}");
    }
    realm.forbid(BRIDGE, LEGACY).unwrap();
    assert!(realm.forbid(BRIDGE, LEGACY).is_err());
    realm.allow(BRIDGE, LEGACY).unwrap();
    let before = realm.requests();
    assert!(before >= 6, "{before}");
    realm.stop().unwrap();
    assert!(realm.kinit("alice").is_err());
}
