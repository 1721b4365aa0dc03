use super::*;

const SID: &str = "S-1-5-21-1-2-3-1104";

/// The problems of a configuration with this table, and a policy that grants to the group `clerks`.
fn problems(table: &str) -> Vec<String> {
    let folder = Folder::good();
    folder.write("kerbridge.toml", format!("{GOOD}{table}"), 0o644);
    let policy = POLICY.replace("principals = [\"*@A.TEST\"]", "groups = [\"clerks\"]");
    folder.write("policy.toml", policy, 0o644);
    folder.write("groups.toml", "clerks = [\"alice@A.TEST\"]", 0o644);
    folder.write("password", "secret\n", 0o600);
    folder.write("no-password", "\n", 0o600);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["ldap.test".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    folder.write("ca.pem", certificate.pem(), 0o644);
    let alone = PolicyConfig::load(&folder.0.path().join("kerbridge.toml")).is_err();
    let found = folder.load().map_or_else(|found| found, |_| Vec::new());
    // What is a directory's is not looked at for the policy alone.
    let directory = table.contains("source = \"ldap\"");
    assert_eq!(alone, !found.is_empty() && !directory, "policy check: {found:#?}");
    found
}

fn ldap(lines: &str) -> String {
    format!(
        "[groups]\nsource = \"ldap\"\n[groups.ldap]\n{}",
        lines.replace(';', "\n")
    )
}

const ASKS: &str = "bind_dn = \"CN=reader\";password_file = \"password\";base = \"DC=a\";";
const TLS: &str = "url = \"ldaps://ldap.test\";ca = \"ca.pem\";";

#[test]
fn a_directory_is_asked_privately_by_somebody() {
    for lines in [
        TLS,
        "url = \"ldap://ldap.test:3268\";starttls = true;ca = \"ca.pem\";",
        "url = \"ldap://[::1]:389/\";clear_text = true;",
        "url = \"ldapi://%2Frun%2Fslapd%2fldapi\";",
        "url = \"ldapi://%2Frun%2Fldapi/\";",
    ] {
        assert_eq!(
            problems(&ldap(&format!("{ASKS}{lines}"))),
            Vec::<String>::new(),
            "{lines}"
        );
    }
    for (lines, expected) in [
        ("", "groups.ldap.url: is missing"),
        (
            "url = \"https://ldap.test\"",
            "groups.ldap.url: \"https://ldap.test\" is no place",
        ),
        (
            "url = \"ldaps://ldap.test/x\"",
            "groups.ldap.url: \"ldaps://ldap.test/x\" is no place",
        ),
        (
            "url = \"ldaps://ldap.test:0\"",
            "groups.ldap.url: \"ldaps://ldap.test:0\" is no place",
        ),
        (
            "url = \"ldap://ldap.test\"",
            "groups.ldap.url: would be asked in clear text",
        ),
        (
            "url = \"ldap://ldap.test\";clear_text = true",
            "groups.ldap.clear_text: ldap.test is no loopback address",
        ),
        (
            "url = \"ldap://127.0.0.1\";clear_text = true;ca = \"ca.pem\"",
            "groups.ldap.ca: has no use",
        ),
        ("url = \"ldaps://ldap.test\"", "groups.ldap.ca: is missing"),
        (
            "url = \"ldaps://ldap.test\";ca = \"password\"",
            "groups.ldap.ca: password holds no certificate",
        ),
        (
            "url = \"ldaps://ldap.test\";ca = \"ca.pem\";starttls = true",
            "groups.ldap: says more than one",
        ),
        ("url = \"ldapi:///\"", "groups.ldap.url: \"ldapi:///\" is no place"),
        (
            "url = \"ldapi://run%2Fldapi\"",
            "groups.ldap.url: \"ldapi://run%2Fldapi\" is no place",
        ),
        (
            "url = \"ldapi:///run/ldapi\"",
            "groups.ldap.url: \"ldapi:///run/ldapi\" is no place",
        ),
        (
            "url = \"ldapi://%2F%00\"",
            "groups.ldap.url: \"ldapi://%2F%00\" is no place",
        ),
        (
            "url = \"ldapi://%2F%é\"",
            "groups.ldap.url: \"ldapi://%2F%é\" is no place",
        ),
        (
            "url = \"ldapi://%2Fldapi\";ca = \"ca.pem\"",
            "groups.ldap.ca: has no use with ldapi://",
        ),
        (
            "url = \"ldapi://%2Fldapi\";starttls = true",
            "groups.ldap.starttls: has no use with ldapi://",
        ),
    ] {
        let found = problems(&ldap(&format!("{ASKS}{lines}")));
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
}

#[test]
fn each_mistake_of_the_directory_is_named() {
    for (from, to, expected) in [
        ("bind_dn = \"CN=reader\";", "", "groups.ldap.bind_dn: is missing"),
        ("CN=reader", "", "groups.ldap.bind_dn: is empty"),
        ("base = \"DC=a\";", "", "groups.ldap.base: is missing"),
        (
            "password_file = \"password\";",
            "",
            "groups.ldap.password_file: is missing",
        ),
        (
            "\"password\"",
            "\"no-password\"",
            "groups.ldap.password_file: no-password is empty",
        ),
        (
            "\"password\"",
            "\"policy.toml\"",
            "groups.ldap.password_file: policy.toml has mode 0644",
        ),
        (
            "base",
            "find_by = \"uid\";base",
            "groups.ldap.find_by: \"uid\" is neither",
        ),
        (
            "base",
            "find_by = \"principal\";group_class = \"posixGroup\";base",
            "groups.ldap.principal_attribute: is missing",
        ),
        (
            "base",
            "principal_attribute = \"uid\";base",
            "groups.ldap.principal_attribute: has no use where find_by is \"sid\"",
        ),
        (
            "base",
            "find_by = \"principal\";principal_attribute = \"a)(b\";group_class = \"group\";base",
            "groups.ldap.principal_attribute: \"a)(b\" is no name",
        ),
        (
            "base",
            "find_by = \"principal\";principal_attribute = \"krbPrincipalName\";base",
            "groups.ldap.group_class: is missing",
        ),
        (
            "base",
            "group_class = \"a b\";base",
            "groups.ldap.group_class: \"a b\" is no name",
        ),
        ("base", "group_base = \"\";base", "groups.ldap.group_base: is empty"),
        (
            "base",
            "find_by = \"name\";group_class = \"posixGroup\";base",
            "groups.ldap.account_realm: is missing",
        ),
        (
            "base",
            "find_by = \"name\";account_realm = \"B.TEST\";group_class = \"posixGroup\";base",
            "groups.ldap.account_realm: \"B.TEST\" is not in kerberos.realms",
        ),
        (
            "base",
            "account_realm = \"A.TEST\";base",
            "groups.ldap.account_realm: has no use where find_by is \"sid\"",
        ),
        (
            "base",
            "account_attribute = \"uid\";base",
            "groups.ldap.account_attribute: has no use here",
        ),
        (
            "base",
            "membership = \"direct\";member_attribute = \"memberUid\";account_attribute = \"\";base",
            "groups.ldap.account_attribute: \"\" is no name",
        ),
        (
            "base",
            "membership = \"deep\";base",
            "groups.ldap.membership: \"deep\" is no way",
        ),
        (
            "base",
            "member_attribute = \"member\";base",
            "groups.ldap.member_attribute: has no use where membership is \"token_groups\"",
        ),
        (
            "base",
            "membership = \"direct\";member_attribute = \"memberOf\";base",
            "groups.ldap.member_attribute: is an attribute of accounts; write membership = \"member_of\"",
        ),
        (
            "base",
            "membership = \"walk\";member_attribute = \"memberuid\";base",
            "groups.ldap.member_attribute: names accounts only",
        ),
        (
            "base",
            "membership = \"walk\";member_attribute = \"member*\";base",
            "groups.ldap.member_attribute: \"member*\" is no name",
        ),
        (
            "base",
            "elsewhere = \"drop\";base",
            "groups.ldap.elsewhere: \"drop\" is neither",
        ),
        (
            "base",
            "name_attribute = \"\";base",
            "groups.ldap.name_attribute: \"\" is no name",
        ),
        (
            "base",
            "bind = \"gssapi\";base",
            "groups.ldap.bind: \"gssapi\" is neither",
        ),
        (
            "base",
            "cache = \"11m\";base",
            "groups.ldap.cache: \"11m\" is not 1s to 600s",
        ),
    ] {
        let found = problems(&ldap(&format!("{TLS}{}", ASKS.replacen(from, to, 1))));
        assert_eq!(found.len(), 1, "{expected}: {found:#?}");
        assert!(found[0].starts_with(expected), "{expected}: {found:#?}");
    }
    // Who asks by the socket needs no name, and over a network must have one.
    let external = |more: &str| problems(&ldap(&format!("base = \"DC=a\";bind = \"external\";{more}")));
    assert_eq!(external("url = \"ldapi://%2Fldapi\""), Vec::<String>::new());
    assert!(external(TLS)[0].starts_with("groups.ldap.bind: \"external\" is for ldapi:// alone"));
    let found = external("url = \"ldapi://%2Fldapi\";bind_dn = \"CN=a\";password_file = \"password\"");
    for (line, field) in found.iter().zip(["bind_dn", "password_file"]) {
        assert!(
            line.starts_with(&format!("groups.ldap.{field}: has no use")),
            "{found:#?}"
        );
    }
    assert_eq!(found.len(), 2);
    assert!(problems("[groups]\nsource = \"ldap\"")[0].starts_with("groups.ldap: is missing"));
    let found = problems(&format!(
        "{}source = \"none\"",
        "[groups.ldap]\nurl = \"x\"\n[groups]\n"
    ));
    assert!(
        found.iter().any(|line| line.starts_with("groups.ldap: has no use")),
        "{found:#?}"
    );
}

#[test]
fn a_directory_is_described_in_each_of_the_ways_of_the_field() {
    for lines in [
        "membership = \"direct\"",
        "membership = \"chain\";member_attribute = \"member\"",
        "find_by = \"principal\";principal_attribute = \"krbPrincipalName\";group_class = \"ipaUserGroup\";\
         membership = \"member_of\";group_base = \"CN=groups\"",
        "find_by = \"name\";account_realm = \"A.TEST\";group_class = \"posixGroup\";member_attribute = \"memberUid\"",
        "find_by = \"name\";account_realm = \"A.TEST\";account_attribute = \"cn\";\
         group_class = \"groupOfUniqueNames\";membership = \"walk\";member_attribute = \"uniqueMember\"",
        "elsewhere = \"ignore\";check_account = true;cache = \"none\"",
        "fallback_urls = [\"ldaps://b.test\", \"ldaps://c.test:1636\"]",
    ] {
        let found = problems(&ldap(&format!("{ASKS}{TLS}{lines}")));
        assert_eq!(found, Vec::<String>::new(), "{lines}");
    }
}

#[test]
fn a_source_that_can_give_the_groups_of_the_policy_is_taken() {
    for table in [
        "[groups]\nsource = \"static\"\nstatic_file = \"groups.toml\"".to_owned(),
        format!("[groups]\nsource = \"pac\"\n[groups.sid_names]\n\"{SID}\" = \"clerks\""),
    ] {
        assert_eq!(problems(&table), Vec::<String>::new(), "{table}");
    }
}

#[test]
fn each_mistake_of_the_groups_is_named() {
    let names = |line: &str| format!("[groups]\nsource = \"pac\"\n[groups.sid_names]\n{line}");
    for (table, expected) in [
        (
            String::new(),
            "policy.toml: grant[0].groups[0]: nobody can be in \"clerks\": groups.source is \"none\"",
        ),
        (
            "[groups]\nsource = \"pca\"".into(),
            "groups.source: \"pca\" is no source of groups; write none,",
        ),
        (
            "[groups]\nstatic_file = \"groups.toml\"".into(),
            "groups.static_file: has no use where groups.source is \"none\"",
        ),
        (
            "[groups]\nsource = \"static\"".into(),
            "groups.static_file: is missing; name a file with lines such as",
        ),
        (
            "[groups]\nsource = \"static\"\nstatic_file = \"none.toml\"".into(),
            "groups.static_file: none.toml: No such file",
        ),
        (
            "[groups]\nsource = \"static\"\nstatic_file = \"policy.toml\"".into(),
            "policy.toml: audience[0]: invalid type",
        ),
        ("[groups]\nsource = \"pac\"".into(), "groups.sid_names: is missing"),
        (
            "[groups]\nsource = \"pac\"\nunmapped_sids = \"sid\"".into(),
            "policy.toml: grant[0].groups[0]: nobody can be in \"clerks\": groups.sid_names gives",
        ),
        (
            "[groups]\nsource = \"pac\"\nunmapped_sids = \"keep\"".into(),
            "groups.unmapped_sids: \"keep\" is neither",
        ),
        (
            names("\"S-1-5-x\" = \"clerks\""),
            "groups.sid_names.S-1-5-x: no security identifier; write the group's objectSid",
        ),
        (
            names(&format!("\"{SID}\" = \"\"")),
            "groups.sid_names.S-1-5-21-1-2-3-1104: \"\" is not 1 to 255 bytes",
        ),
        (
            names(&format!("\"{SID}\" = \"S-1-5-32-544\"")),
            "groups.sid_names.S-1-5-21-1-2-3-1104: \"S-1-5-32-544\" is an identifier",
        ),
    ] {
        let found = problems(&table);
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{table}\n{expected}: {found:#?}"
        );
    }
}
