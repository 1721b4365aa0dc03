//! The doctor asks a real directory what an exchange would ask, and names what is wrong and what mends it.

use std::process::Command;

use kerbridge_tests::World;
use kerbridge_tests::broker::find_kerbridge;
use serde_json::Value;

use super::tree::{Site, group, lab, person};

/// What the doctor says of the directory: subject, verdict, reason and what it found.
fn examine(world: &mut World, account: Option<&str>) -> Vec<[String; 4]> {
    let mut command = Command::new(find_kerbridge().unwrap());
    command
        .args(["doctor", "--output", "json", "--config"])
        .arg(world.broker().config())
        .env("KRB5_CONFIG", world.kdc().krb5_config());
    if let Some(account) = account {
        command.args(["--look-up", account]);
    }
    let output = command.output().unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    findings
        .iter()
        .filter(|finding| finding["check"] == "directory")
        .map(|finding| {
            if finding["verdict"] == "bad" {
                assert_ne!(finding["remedies"], Value::Null, "{finding}");
            }
            ["subject", "verdict", "reason", "found"].map(|name| word(finding, name))
        })
        .collect()
}

/// Verdict and reason of this subject, whose finding has this text.
fn verdict(findings: &[[String; 4]], of: &str, text: &str) -> String {
    let named = findings.iter().find(|[subject, ..]| subject.starts_with(of));
    let Some([_, verdict, reason, found]) = named else {
        return format!("nothing is said of {of}: {findings:#?}");
    };
    assert!(found.contains(text), "{of}: {found}");
    format!("{verdict} {reason}")
}

#[test]
fn it_looks_at_bind_bases_groups_of_the_policy_and_an_account() {
    let site = Site::start();
    let mut world = lab(&site.private("group_base = \"ou=groups,dc=lab,dc=test\""));
    let twin = |unit: &str| {
        let lines = format!("objectClass: groupOfNames\ncn: twins\nmember: {}", person("bob"));
        site.add(&format!("cn=twins,ou={unit},ou=groups,dc=lab,dc=test"), &lines);
    };
    twin("a");
    twin("b");
    site.modify("replace", &person("bob"), "nsAccountLock", "FALSE");
    let found = examine(&mut world, Some("bob@LAB.TEST"));
    assert_eq!(verdict(&found, "ldaps://localhost", "it lets the broker in"), "good ");
    for base in ["dc=lab,dc=test", "ou=groups,dc=lab,dc=test"] {
        assert_eq!(verdict(&found, base, "it is there"), "good ");
    }
    assert_eq!(verdict(&found, "order-clerks", &group("order-clerks")), "good ");
    // A group of another class.
    assert_eq!(verdict(&found, "posix-clerks", "no group is called so"), "warning ");
    let said = "it may be cn=twins,ou=a,ou=groups,dc=lab,dc=test or cn=twins,ou=b";
    assert_eq!(verdict(&found, "twins", said), "bad groups_unavailable");
    let said = "more than one group of the directory is called \"twins\"";
    assert_eq!(verdict(&found, "bob@LAB.TEST", said), "bad groups_unavailable");

    // What the directory shows of whether she is open, it shows to who asks.
    let found = examine(&mut world, Some("alice@LAB.TEST"));
    let said = "it is in: order-clerks; found in";
    assert_eq!(verdict(&found, "alice@LAB.TEST", said), "warning ");
    site.modify("add", &person("alice"), "krbTicketFlags", "128");
    let found = examine(&mut world, Some("alice@LAB.TEST"));
    assert_eq!(verdict(&found, "alice@LAB.TEST", "open by krbTicketFlags"), "good ");
    site.modify("replace", &person("alice"), "krbTicketFlags", "64");
    let found = examine(&mut world, Some("alice@LAB.TEST"));
    let said = "the directory says that the account is disabled";
    assert_eq!(verdict(&found, "alice@LAB.TEST", said), "bad principal_not_mapped");
    let found = examine(&mut world, None);
    assert_eq!(verdict(&found, "an account", "give --look-up"), "skipped ");
}

#[test]
fn it_says_what_keeps_the_broker_out_and_how_the_directory_writes_a_group() {
    let mut site = Site::start();
    let bad = "bad groups_unavailable";
    let mut world = lab(&site.private("group_base = \"ou=none,dc=lab,dc=test\""));
    let found = examine(&mut world, None);
    let said = "the directory refused the search with result 32";
    assert_eq!(verdict(&found, "ou=none,dc=lab,dc=test", said), bad);

    site.add(
        "cn=Twins,ou=a,ou=groups,dc=lab,dc=test",
        &format!("objectClass: groupOfNames\ncn: Twins\nmember: {}", person("bob")),
    );
    let mut world = lab(&site.private(""));
    let found = examine(&mut world, None);
    assert_eq!(
        verdict(&found, "twins", "the directory writes it \"Twins\""),
        "warning "
    );

    site.ldap.process().kill().unwrap();
    let found = examine(&mut world, Some("alice@LAB.TEST"));
    assert_eq!(
        verdict(&found, "ldaps://localhost", "the directory cannot be reached"),
        bad
    );
    assert_eq!(found.len(), 1, "{found:#?}");
}
