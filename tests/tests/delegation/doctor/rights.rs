//! Which right is missing, whoever is protected or closed: each is named with its command, and that command mends it.

use std::process::Command;

use kerbridge_tests::delegation::{
    ACCENTED, ALIASES, BRIDGE, DISABLED, DelegationRealm, EXPIRED, KERBEROS_ONLY, Kind, LEGACY, MACHINE, NAMELESS,
    NO_TARGETS, OTHER, SENSITIVE, UNKNOWN,
};

use super::answer::{Answer, Question, ask, of};
use crate::broker::both_ways_with;
use crate::names::towards_aliases;
use crate::realms::{mit, samba};

fn system(realm: &DelegationRealm) -> &'static str {
    match realm.kind() {
        Kind::Mit => "mit",
        Kind::Samba => "samba",
    }
}

fn missing_rights_are_named(realm: &DelegationRealm) {
    let well = of(realm, BRIDGE, "alice", LEGACY);
    assert_eq!(
        (well.short().join(", "), well.code),
        ("account good, user good, target good".to_owned(), 0)
    );

    let no_transition = "account good, user bad evidence_not_forwardable, target skipped";
    let no_target = "account good, user good, target bad delegation_denied";
    let no_user = "account good, user bad delegation_denied, target skipped";
    for (account, user, target, expected, mit, samba) in [
        (
            KERBEROS_ONLY,
            "alice",
            LEGACY,
            no_transition,
            "modprinc +ok_to_auth_as_delegate bridge-kerberos-only@",
            "for-any-protocol bridge-kerberos-only on",
        ),
        (
            BRIDGE,
            SENSITIVE,
            LEGACY,
            no_transition,
            "modprinc +allow_forwardable sensitive@",
            "user sensitive sensitive off",
        ),
        (
            BRIDGE,
            "alice",
            OTHER,
            no_target,
            "krbAllowedToDelegateTo: HTTP/other.lab.test@",
            "add-service bridge HTTP/other.lab.test",
        ),
        (
            NO_TARGETS,
            "alice",
            LEGACY,
            no_target,
            "krbAllowedToDelegateTo: HTTP/legacy.lab.test@",
            "add-service bridge-no-targets HTTP/legacy.lab.test",
        ),
        (
            BRIDGE,
            "alice",
            UNKNOWN,
            "account good, user good, target bad invalid_target",
            "addprinc -randkey HTTP/nowhere.lab.test@",
            "spn add HTTP/nowhere.lab.test ACCOUNT",
        ),
        (
            BRIDGE,
            "nobody",
            LEGACY,
            no_user,
            "getprinc nobody@",
            "user show nobody",
        ),
        (
            BRIDGE,
            DISABLED,
            LEGACY,
            no_user,
            "modprinc +allow_tix -expire never disabled@",
            "user enable disabled",
        ),
        (
            BRIDGE,
            EXPIRED,
            LEGACY,
            no_user,
            "modprinc +allow_tix -expire never expired@",
            "user setexpiry expired --noexpiry",
        ),
    ] {
        let answer = of(realm, account, user, target);
        let case = format!("{account} for {user} to {target}: {:#?}", answer.findings);
        assert_eq!(
            (answer.short().join(", ").as_str(), answer.code),
            (expected, 1),
            "{case}"
        );
        let command = if system(realm) == "mit" { mit } else { samba };
        assert!(
            answer
                .commands(system(realm))
                .iter()
                .any(|given| given.contains(command)),
            "{case}"
        );
        assert!(!answer.commands("ad").is_empty(), "{case}");
    }

    // A second user who is not protected shows that the first one is.
    let question = Question {
        account: BRIDGE,
        keytab: BRIDGE,
        users: &[SENSITIVE, "alice"],
        targets: &[LEGACY],
    };
    let answer = ask(realm, &question);
    let expected = "account good, user bad evidence_not_forwardable, target skipped, user good, target good";
    assert_eq!(answer.short().join(", "), expected);
    assert!(
        answer
            .commands(system(realm))
            .iter()
            .all(|command| command.contains("sensitive"))
    );

    // Where several are not, it is the account.
    let answer = ask(
        realm,
        &Question {
            account: KERBEROS_ONLY,
            keytab: KERBEROS_ONLY,
            users: &["alice", "bob"],
            ..question
        },
    );
    assert_eq!(
        answer.short().join(", "),
        "account good, user bad evidence_not_forwardable, target skipped, user bad evidence_not_forwardable, target skipped"
    );
    assert!(
        answer
            .commands(system(realm))
            .iter()
            .all(|command| command.contains(KERBEROS_ONLY)),
        "{:#?}",
        answer.findings
    );

    // Each target stands for itself, and without a user it is only said who logs in.
    let targets = [OTHER, LEGACY, UNKNOWN];
    let answer = ask(
        realm,
        &Question {
            users: &["bob"],
            targets: &targets,
            ..question
        },
    );
    let expected = "account good, user good, target bad delegation_denied, target good, target bad invalid_target";
    assert_eq!(answer.short().join(", "), expected);
    let answer = ask(realm, &Question { users: &[], ..question });
    assert_eq!(
        (answer.short().join(", ").as_str(), answer.code),
        ("account good, user skipped", 0)
    );

    // A keytab without its key.
    let answer = ask(
        realm,
        &Question {
            keytab: LEGACY,
            ..question
        },
    );
    assert_eq!(
        (answer.short().join(", ").as_str(), answer.code),
        ("account bad internal", 1)
    );
    assert!(
        answer.findings[0]["found"]
            .as_str()
            .unwrap()
            .contains("no key to log in with")
    );
}

/// Runs what the doctor says, as whoever may.
fn run(realm: &DelegationRealm, command: &str) {
    let folder = realm.folder();
    let command = match realm.kind() {
        Kind::Mit => {
            let kdc_conf = std::fs::read_to_string(realm.clients().kdc_profile()).unwrap();
            let servers = kdc_conf
                .lines()
                .find_map(|line| line.strip_prefix("ldap_servers = "))
                .unwrap();
            command
                .replace("kadmin -q", &format!("kadmin.local -r {} -q", realm.realm()))
                .replace("CONTAINER", "cn=krb5")
                .replace("ldapi:///", servers)
        }
        Kind::Samba => command
            .split("; ")
            .map(|command| format!("{command} -s {}/etc/smb.conf", folder.display()))
            .collect::<Vec<_>>()
            .join("; "),
    };
    let output = Command::new("sh")
        .args(["-ec", &command])
        .env("KRB5_CONFIG", realm.clients().krb5_config())
        .env("KRB5_KDC_PROFILE", realm.clients().kdc_profile())
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn what_it_says_mends_it(realm: &DelegationRealm) {
    for (account, users, target) in [
        (KERBEROS_ONLY, ["alice", "bob"], LEGACY),
        (NO_TARGETS, ["alice", "bob"], LEGACY),
        (BRIDGE, [SENSITIVE, "alice"], LEGACY),
        (BRIDGE, [DISABLED, "alice"], LEGACY),
    ] {
        let look = || {
            ask(
                realm,
                &Question {
                    account,
                    keytab: account,
                    users: &users,
                    targets: &[target],
                },
            )
        };
        let before = look();
        assert_eq!(before.code, 1, "{:#?}", before.findings);
        // One after the other, until one has mended it.
        for command in before.commands(system(realm)) {
            run(realm, command);
            if look().code == 0 {
                break;
            }
        }
        let after = look();
        assert_eq!(after.code, 0, "{account} for {users:?}: {:#?}", after.findings);
    }
}

#[test]
fn each_missing_right_is_named_with_its_command() {
    missing_rights_are_named(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn each_missing_right_is_named_with_its_command_in_a_domain() {
    missing_rights_are_named(samba());
    // Active Directory takes only what has such a name for a service.
    let answer = of(samba(), NAMELESS, "alice", LEGACY);
    assert_eq!(
        answer.short().join(", "),
        "account good, user bad delegation_denied, target skipped"
    );
    assert!(
        answer
            .commands("samba")
            .contains(&"samba-tool spn add kerbridge/HOST bridge-nameless"),
        "{:?}",
        answer.commands("samba")
    );
}

/// A domain has other names for an account: what it gives for them the broker does not take.
#[test]
#[ignore = "runs a domain controller, as root"]
fn what_the_broker_would_not_take_from_the_kdc_is_not_good_in_a_domain() {
    let realm = samba();
    for user in [MACHINE.to_owned(), ACCENTED.to_uppercase()] {
        let answer = of(realm, BRIDGE, &user, LEGACY);
        assert_eq!(
            (answer.short().join(", ").as_str(), answer.code),
            ("account good, user bad principal_not_mapped, target skipped", 1),
            "{user}"
        );
    }
    let [of_the_bridge, of_the_acceptor] = ALIASES;
    let answer = of(realm, BRIDGE, "alice", of_the_bridge);
    let ours = "account good, user good, target bad delegation_denied";
    assert_eq!((answer.short().join(", ").as_str(), answer.code), (ours, 1));
    let found = answer.findings[2]["found"].as_str().unwrap();
    assert!(
        found.contains(&format!("another name of {}", realm.principal(BRIDGE))),
        "{found}"
    );
    // Whose name that is the account's keytab alone does not show.
    assert_eq!(of(realm, BRIDGE, "alice", of_the_acceptor).code, 0);
    // The configuration has the acceptor's too.
    let folder = tempfile::tempdir().unwrap();
    let broker = both_ways_with(realm, folder.path(), (&towards_aliases(realm), ""));
    let answer = Answer::of_broker(&broker, realm, &["delegation", "--user", &realm.principal("alice")]);
    let targets: Vec<_> = answer
        .short()
        .into_iter()
        .filter(|line| line.starts_with("target"))
        .collect();
    let ours = "target bad delegation_denied";
    assert_eq!(targets, ["target good", ours, ours], "{:#?}", answer.findings);
}

#[test]
fn what_the_doctor_says_of_delegation_mends_it() {
    what_it_says_mends_it(&DelegationRealm::start(Kind::Mit, 0).unwrap());
}

/// A command is pasted as it is printed, whatever somebody is called.
#[test]
fn a_name_that_a_shell_would_read_is_one_word_of_the_command() {
    let realm = DelegationRealm::start(Kind::Mit, 0).unwrap();
    let user = "o'neil $(exit 9) \"x\"";
    let kadmin = format!("addprinc -randkey -allow_tix \"{}\"", user.replace('"', "\"\""));
    realm.clients().kadmin(&kadmin).unwrap();
    let before = of(&realm, BRIDGE, user, LEGACY);
    assert_eq!(
        before.short().join(", "),
        "account good, user bad delegation_denied, target skipped"
    );
    for command in before.commands("mit") {
        run(&realm, command);
    }
    let after = of(&realm, BRIDGE, user, LEGACY);
    assert_eq!(after.code, 0, "{:#?}", after.findings);
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn what_the_doctor_says_of_delegation_mends_it_in_a_domain() {
    what_it_says_mends_it(&DelegationRealm::start(Kind::Samba, 0).unwrap());
}
