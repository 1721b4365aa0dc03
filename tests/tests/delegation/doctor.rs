//! The doctor on rights of delegation: each that is missing is named, with the command that gives it, and that command does.

use std::path::Path;
use std::process::Command;

use kerbridge_tests::broker::{Broker, BrokerSettings, find_kerbridge};
use kerbridge_tests::delegation::{ACCEPTOR, BRIDGE, DelegationRealm, LEGACY, OTHER, SENSITIVE};

use self::answer::{Answer, doctor};
use crate::realms::mit;

pub(crate) mod answer;
mod away;
mod rights;

/// A broker whose policy lets it act for people by name.
pub(super) fn configured(realm: &DelegationRealm, folder: &Path) -> Broker {
    let line = |target: &str, users: &[&str]| {
        let users: Vec<String> = users.iter().map(|user| realm.principal(user)).collect();
        format!(
            "[[delegation]]\ntarget = {:?}\naudience = \"legacy\"\nprincipals = {users:?}\nclients = [\"*\"]\n",
            realm.principal(target)
        )
    };
    let settings = BrokerSettings {
        issuer: "https://kerbridge.lab.test".to_owned(),
        realms: vec![realm.realm().to_owned()],
        acceptors: vec![realm.principal(ACCEPTOR)],
        keytab: realm.keytab(ACCEPTOR),
        policy: format!(
            "[[audience]]\nname = \"legacy\"\n[[grant]]\nprincipals = [\"*@LAB.TEST\"]\naudience = \"legacy\"\n\
             [[route]]\npath_prefix = \"/\"\naccept = [\"bearer\"]\naudience = \"legacy\"\n{}{}",
            line(LEGACY, &["alice", "*"]),
            line(OTHER, &["*", SENSITIVE])
        ),
        more: realm.table(BRIDGE),
    };
    Broker::prepare(folder, &settings).unwrap()
}

/// As the configuration says: the policy's targets, for those of its users whom it names one by one.
#[test]
fn account_users_and_targets_are_those_of_the_configuration() {
    let realm = mit();
    let folder = tempfile::tempdir().unwrap();
    let broker = configured(realm, folder.path());
    let run = |words: &[&str]| Answer::of_broker(&broker, realm, words);
    let for_alice = "user good, target good, target bad delegation_denied";
    let for_sensitive = "user bad evidence_not_forwardable, target skipped, target skipped";
    let of_both = format!("account good, {for_alice}, {for_sensitive}");
    let answer = run(&["delegation"]);
    assert_eq!(
        (answer.short().join(", "), answer.code),
        (of_both.clone(), 1),
        "{:#?}",
        answer.findings
    );
    // One who is named stands for those of the policy.
    let answer = run(&["delegation", "--user", "bob@LAB.TEST"]);
    assert_eq!(answer.short().join(", "), format!("account good, {for_alice}"));
    // A user of the policy shows that it is the one who is named whom the KDC protects.
    let answer = run(&["delegation", "--user", "sensitive@LAB.TEST"]);
    assert_eq!(answer.short().join(", "), format!("account good, {for_sensitive}"));
    assert_eq!(
        answer.commands("mit"),
        ["kadmin -q 'modprinc +allow_forwardable sensitive@LAB.TEST'"]
    );
    // The whole doctor looks at this too.
    let answer = run(&[]);
    assert!(answer.short().join(", ").contains(&of_both), "{:?}", answer.short());
}

/// A keytab's entries of AES with 128 bits (RFC 3962), each of which follows its length.
fn with_the_short_key_alone(keytab: &[u8]) -> Vec<u8> {
    let (version, mut rest) = keytab.split_at(2);
    let mut kept = version.to_vec();
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        let (entry, behind) = rest.split_at(length.checked_add(4).unwrap());
        if entry.windows(4).any(|head| head == [0, 17, 0, 16]) {
            kept.extend_from_slice(entry);
        }
        rest = behind;
    }
    kept
}

#[test]
fn a_keytab_that_logs_in_and_opens_no_ticket_is_named() {
    let realm = mit();
    let name = "short-key.keytab";
    let keytab = with_the_short_key_alone(&std::fs::read(realm.keytab(BRIDGE)).unwrap());
    std::fs::write(realm.folder().join(name), keytab).unwrap();
    let mut command = doctor();
    command
        .args(["delegation", "--account", &realm.principal(BRIDGE), "--keytab"])
        .arg(realm.folder().join(name))
        .args([
            "--user",
            &realm.principal("alice"),
            "--target",
            &realm.principal(LEGACY),
        ]);
    let answer = Answer::to(&mut command, realm);
    assert_eq!(
        (answer.short().join(", "), answer.code),
        ("account good, user bad internal, target skipped".to_owned(), 1)
    );
    let commands = answer.commands("mit");
    assert!(
        commands[0].contains("ktadd") && commands[0].contains(name),
        "{commands:?}"
    );
}

/// A realm in a file has no delegation at all.
#[test]
fn a_realm_that_cannot_hold_targets_is_named() {
    let kdc = kerbridge_tests::kdc::Kdc::start("LAB.TEST").unwrap();
    kdc.kadmin(
        "addprinc -randkey bridge\nmodprinc +ok_to_auth_as_delegate bridge\naddprinc -randkey HTTP/legacy.lab.test",
    )
    .unwrap();
    kdc.add_user("alice", "correct horse").unwrap();
    let keytab = kdc.folder().join("bridge.keytab");
    kdc.extract_keytab(&["bridge"], &keytab).unwrap();
    let output = Command::new(find_kerbridge().unwrap())
        .args([
            "doctor",
            "delegation",
            "--account",
            "bridge@LAB.TEST",
            "--user",
            "alice@LAB.TEST",
        ])
        .args(["--target", "HTTP/legacy.lab.test@LAB.TEST", "--keytab"])
        .arg(keytab)
        .env("KRB5_CONFIG", kdc.krb5_config())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("BAD     delegation_target HTTP/legacy.lab.test@LAB.TEST"),
        "{said}"
    );
    assert!(said.contains("a realm in a file cannot hold them"), "{said}");
    assert!(said.ends_with("1 bad, 0 warnings, 0 skipped, 2 good\n"), "{said}");
}
