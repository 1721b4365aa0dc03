use super::super::GROUP_TYPE;
use super::*;

#[test]
fn a_distribution_list_gives_nothing() {
    // Global and universal groups, with and without the bit of security, as directories write them.
    for (group_type, counts) in [
        (Some("-2147483646"), true),
        (Some("-2147483640"), true),
        (Some("2"), false),
        (Some("8"), false),
        (Some("odd"), false),
        (None, true),
    ] {
        let attributes: Vec<(&str, Vec<&str>)> = group_type.iter().map(|bits| (GROUP_TYPE, vec![*bits])).collect();
        let attributes: Vec<(&str, &[&str])> = attributes.iter().map(|(name, of)| (*name, of.as_slice())).collect();
        let group = Entry::for_test("CN=a", &attributes);
        assert_eq!(GroupRules::gives_rights(&group), counts, "{group_type:?}");
    }
}

#[test]
fn a_domain_controllers_other_parts_hold_nobody_and_other_domains_may() {
    let count = |url: &str| count_elsewhere(&[url.to_owned()]);
    for nobody in [
        "ldap://ad.test/CN=Configuration,DC=ad,DC=test",
        "ldaps://ForestDnsZones.ad.test/DC=ForestDnsZones,DC=ad,DC=test",
        "ldap://DomainDnsZones.ad.test:389/dc=domaindnszones,DC=ad,DC=test??base",
    ] {
        assert_eq!(count(nobody), 0, "{nobody}");
    }
    for somebody in [
        "ldap://b.ad.test/DC=b,DC=ad,DC=test",
        "ldap://b.test",
        "ldap:///DC=b",
        "",
        "ldap://a/CN=ConfigurationX,DC=a",
        "ldap://a/OU=x,CN=Configuration,DC=a",
    ] {
        assert_eq!(count(somebody), 1, "{somebody}");
    }
}

#[test]
fn a_group_is_below_the_base_as_directories_see_it() {
    const BASE: &str = "cn=groups,cn=accounts,dc=a";
    for below in [
        "cn=clerks,cn=groups,cn=accounts,dc=a",
        "CN=Clerks, CN=Groups,cn=accounts, DC=A",
    ] {
        assert!(is_below(below.as_bytes(), BASE), "{below}");
    }
    for other in [
        "cn=hbac,dc=a",
        "cn=clerks,cn=othergroups,cn=accounts,dc=a",
        BASE,
        "",
        "dc=a",
    ] {
        assert!(!is_below(other.as_bytes(), BASE), "{other}");
    }
}
