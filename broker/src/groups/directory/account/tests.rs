use super::*;
use crate::principal::canonical;

const NOW: UnixTime = UnixTime::from_seconds(1_700_000_000);

fn state(must_say: bool, attributes: &[(&str, &str)]) -> Result<(), GroupsError> {
    let attributes: Vec<(&str, Vec<&str>)> = attributes.iter().map(|(name, value)| (*name, vec![*value])).collect();
    let attributes: Vec<(&str, &[&str])> = attributes.iter().map(|(name, of)| (*name, of.as_slice())).collect();
    check_open(&Entry::for_test("CN=a", &attributes), must_say, NOW)
}

const NEVER: &str = "9223372036854775807";

#[test]
fn an_account_is_closed_in_whichever_words_of_its_directory() {
    use Closed::{Disabled, Expired, LockedOut};
    for (attribute, value, closed) in [
        ("userAccountControl", "512", None),
        ("userAccountControl", "514", Some(Disabled)),
        ("accountExpires", "0", None),
        ("accountExpires", NEVER, None),
        // 2023-11-14T22:13:20Z, and a second later.
        ("accountExpires", "133444736000000000", Some(Expired)),
        ("accountExpires", "133444736010000000", None),
        ("accountExpires", "1", Some(Expired)),
        ("accountExpires", "-1", Some(Expired)),
        ("msDS-User-Account-Control-Computed", "0", None),
        ("msDS-User-Account-Control-Computed", "16", Some(LockedOut)),
        // Its password has expired: what that means is the KDC's to say.
        ("msDS-User-Account-Control-Computed", "8388608", None),
        ("nsAccountLock", "FALSE", None),
        ("nsAccountLock", "TRUE", Some(Disabled)),
        ("nsAccountLock", "true", Some(Disabled)),
        ("krbPrincipalExpiration", "19700101000000Z", None),
        ("krbPrincipalExpiration", "20231114221320Z", Some(Expired)),
        ("krbPrincipalExpiration", "20231114221321Z", None),
        ("krbPrincipalExpiration", "20231114221320.5Z", Some(Expired)),
        ("krbPrincipalExpiration", "19500101000000Z", Some(Expired)),
        ("krbTicketFlags", "128", None),
        ("krbTicketFlags", "192", Some(Disabled)),
        ("pwdAccountLockedTime", "000001010000Z", Some(Disabled)),
        ("pwdAccountLockedTime", "20230101000000Z", None),
    ] {
        let expected = closed.map_or(Ok(()), |closed| Err(GroupsError::Closed(closed)));
        assert_eq!(state(false, &[(attribute, value)]), expected, "{attribute}: {value}");
    }
    assert_eq!(state(false, &[]), Ok(()), "nothing is said of it");
}

#[test]
fn a_state_that_cannot_be_read_is_no_open_account() {
    let unreadable = Err(GroupsError::Directory(LdapError::Protocol(
        "an account's state cannot be read",
    )));
    for (attribute, value) in [
        ("userAccountControl", ""),
        ("userAccountControl", "x"),
        ("accountExpires", "never"),
        ("accountExpires", "9223372036854775808"),
        ("msDS-User-Account-Control-Computed", "0x10"),
        ("nsAccountLock", "yes"),
        ("krbTicketFlags", "+"),
        ("krbPrincipalExpiration", "2023-11-14"),
        ("krbPrincipalExpiration", "20231114221320"),
        ("krbPrincipalExpiration", "20231314221320Z"),
        ("krbPrincipalExpiration", "20231114241320Z"),
        ("krbPrincipalExpiration", "20231114221320.Z"),
        ("krbPrincipalExpiration", "202311142213+1Z"),
        ("krbPrincipalExpiration", "20231114221320+0100"),
    ] {
        assert_eq!(state(false, &[(attribute, value)]), unreadable, "{attribute}: {value}");
    }
    // Active Directory says both of every account; a global catalogue does not.
    for some in [&[][..], &[("userAccountControl", "512")], &[("accountExpires", "0")]] {
        assert_eq!(state(true, some), unreadable, "{some:?}");
    }
    assert_eq!(
        state(true, &[("userAccountControl", "512"), ("accountExpires", "0")]),
        Ok(())
    );
}

#[test]
fn times_are_those_of_the_calendar() {
    for (text, seconds) in [
        ("19700101000000Z", 0),
        ("19700101000001Z", 1),
        ("20000229235959Z", 951_868_799),
        ("20000301000000Z", 951_868_800),
        ("21000301000000Z", 4_107_542_400),
        ("20380119031408Z", 2_147_483_648),
        ("99991231235959Z", 253_402_300_799),
    ] {
        assert_eq!(generalized_time(text.as_bytes()), Some(seconds), "{text}");
    }
    assert_eq!(unix_seconds(116_444_736_000_000_000), Some(0));
    assert_eq!(unix_seconds(116_444_736_010_000_000), Some(1));
    assert_eq!(unix_seconds(1), Some(0));
}

#[test]
fn an_account_that_only_compares_equal_is_somebody_else() {
    let named = |value: &'static str| is_named([b"x".as_slice(), value.as_bytes()].into_iter(), "alice@AD.TEST");
    for same in ["alice@AD.TEST", "alice@ad.test"] {
        assert!(named(same), "{same}");
    }
    for other in [
        "Alice@AD.TEST",
        "alice@AD.TEST.",
        "alice",
        "alice/admin@AD.TEST",
        "al\u{131}ce@AD.TEST",
        "",
    ] {
        assert!(!named(other), "{other}");
    }
    assert!(
        !is_named([].into_iter(), "alice@AD.TEST"),
        "an attribute that may not be read shows nobody"
    );
}

#[test]
fn a_name_alone_is_that_of_one_realm_and_of_one_component() {
    let find_by = FindBy::Name {
        attribute: "uid".to_owned(),
        realm: "A.TEST".to_owned(),
    };
    let by_name = |principal: &str| Account::of(&canonical(principal).unwrap(), &find_by);
    let alice = by_name("alice@A.TEST").unwrap();
    assert_eq!(alice.key(), "alice");
    assert_eq!(by_name(r"al\/ice@A.TEST").unwrap().key(), "al/ice");
    for other in [
        "alice@B.TEST",
        "alice@a.test",
        "alice/admin@A.TEST",
        "HTTP/alice@A.TEST",
    ] {
        assert_eq!(by_name(other), None, "{other}");
    }
    let is = |uid: &str| alice.is(&Entry::for_test("uid=x", &[("uid", &[uid])]));
    assert!(is("alice") && !is("Alice") && !is("alice ") && !is(""));
    assert!(!alice.is(&Entry::for_test("uid=alice", &[])));
}

#[test]
fn a_text_names_an_account_as_the_directory_finds_it() {
    let read = |text: &str, find_by: &FindBy| Account::read(text, find_by).map(|account| account.key());
    assert_eq!(
        read("S-1-5-21-1-2-3-1104", &FindBy::Sid),
        Ok("S-1-5-21-1-2-3-1104".to_owned())
    );
    assert_eq!(read("alice@A.TEST", &FindBy::Sid), Err(AccountError::NoSid));
    let attribute = "uid".to_owned();
    let principal = FindBy::Principal {
        attribute: attribute.clone(),
    };
    assert_eq!(
        read("alice/admin@A.TEST", &principal),
        Ok("alice/admin@A.TEST".to_owned())
    );
    assert_eq!(read("alice", &principal), Err(AccountError::NoPrincipal));
    let realm = "A.TEST".to_owned();
    let name = FindBy::Name { attribute, realm };
    assert_eq!(read("alice@A.TEST", &name), Ok("alice".to_owned()));
    assert_eq!(read("alice@B.TEST", &name), Err(AccountError::OfAnotherRealm));
}
