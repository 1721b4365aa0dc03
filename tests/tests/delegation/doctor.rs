//! The doctor on rights of delegation: each that is missing is named, with the command that gives it, and that command does.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kerbridge_tests::broker::{Broker, BrokerSettings, find_kerbridge};
use kerbridge_tests::delegation::{
    ACCEPTOR, BRIDGE, DISABLED, DelegationRealm, EXPIRED, KERBEROS_ONLY, Kind, LEGACY, NAMELESS, NO_TARGETS, OTHER,
    SENSITIVE, UNKNOWN,
};
use kerbridge_tests::wait::Deadline;
use serde_json::Value;

use crate::realms::{mit, samba};

/// Who is asked for what.
struct Question<'a> {
    account: &'a str,
    keytab: &'a str,
    users: &'a [&'a str],
    targets: &'a [&'a str],
}

/// What the doctor says.
struct Answer {
    code: i32,
    findings: Vec<Value>,
}

fn ask(realm: &DelegationRealm, question: &Question<'_>) -> Answer {
    let Question {
        account,
        keytab,
        users,
        targets,
    } = question;
    let mut command = Command::new(find_kerbridge().unwrap());
    command
        .args(["doctor", "delegation", "--output", "json"])
        .args(["--account", &realm.principal(account), "--keytab"])
        .arg(realm.keytab(keytab))
        .env("KRB5_CONFIG", realm.clients().krb5_config());
    for target in *targets {
        command.args(["--target", &realm.principal(target)]);
    }
    for user in *users {
        command.args(["--user", &realm.principal(user)]);
    }
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.is_empty(), "{complaint}");
    Answer {
        code: output.status.code().unwrap(),
        findings: serde_json::from_slice(&output.stdout).unwrap(),
    }
}

impl Answer {
    /// Each finding in short: `target good`, `user bad evidence_not_forwardable`.
    fn short(&self) -> Vec<String> {
        let line = |finding: &Value| {
            let [check, verdict, reason] =
                ["check", "verdict", "reason"].map(|name| finding[name].as_str().unwrap_or_default());
            let check = check.replace("delegation_", "");
            format!("{check} {verdict} {reason}").trim_end().to_owned()
        };
        self.findings.iter().map(line).collect()
    }

    /// The commands for one system, in order.
    fn commands(&self, system: &str) -> Vec<&str> {
        let remedies = self
            .findings
            .iter()
            .filter_map(|finding| finding["remedies"].as_array());
        let of_system = remedies.flatten().filter(|remedy| remedy["system"] == system);
        of_system.filter_map(|remedy| remedy["command"].as_str()).collect()
    }
}

/// The same, of one user and one target.
fn of(realm: &DelegationRealm, account: &str, user: &str, target: &str) -> Answer {
    let question = Question {
        account,
        keytab: account,
        users: &[user],
        targets: &[target],
    };
    ask(realm, &question)
}

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

#[test]
fn what_the_doctor_says_of_delegation_mends_it() {
    what_it_says_mends_it(&DelegationRealm::start(Kind::Mit, 0).unwrap());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn what_the_doctor_says_of_delegation_mends_it_in_a_domain() {
    what_it_says_mends_it(&DelegationRealm::start(Kind::Samba, 0).unwrap());
}

#[test]
fn a_kdc_that_is_away_is_named_and_its_place_asked_for() {
    let mut realm = DelegationRealm::start(Kind::Mit, 0).unwrap();
    realm.stop().unwrap();
    let answer = of(&realm, BRIDGE, "alice", LEGACY);
    assert_eq!(
        (answer.short().join(", ").as_str(), answer.code),
        ("account bad kdc_unreachable", 1)
    );
    assert!(answer.commands("any")[0].contains("LAB.TEST = { kdc = HOST }"));
}

/// What a command says of a KDC that stands still: it takes what is sent to it and answers nothing.
fn while_it_hangs(realm: &DelegationRealm, command: &mut Command) -> Answer {
    let signal = |name: &str| {
        let pids = realm.pids().into_iter().map(|pid| pid.to_string());
        assert!(Command::new("kill").arg(name).args(pids).status().unwrap().success());
    };
    signal("-STOP");
    let began = Deadline::after(Duration::from_secs(60));
    let output = command
        .args(["--deadline", "2s", "--output", "json"])
        .env("KRB5_CONFIG", realm.clients().krb5_config())
        .output()
        .unwrap();
    let took = began.elapsed();
    signal("-CONT");
    assert!(took.as_secs() < 10, "{took:?}");
    let findings = serde_json::from_slice(&output.stdout);
    Answer {
        code: output.status.code().unwrap(),
        findings: findings.unwrap_or_else(|_| panic!("{output:?}")),
    }
}

#[test]
fn a_kdc_that_hangs_is_named_within_the_deadline() {
    let realm = DelegationRealm::start(Kind::Mit, 0).unwrap();
    let kerbridge = || {
        let mut command = Command::new("timeout");
        command.arg("30").arg(find_kerbridge().unwrap()).arg("doctor");
        command
    };
    let answer = while_it_hangs(
        &realm,
        kerbridge()
            .args(["delegation", "--account", &realm.principal(BRIDGE), "--keytab"])
            .arg(realm.keytab(BRIDGE))
            .args([
                "--target",
                &realm.principal(LEGACY),
                "--user",
                &realm.principal("alice"),
            ]),
    );
    assert_eq!(
        (answer.short().join(", ").as_str(), answer.code),
        ("account bad kdc_unreachable", 1)
    );
    assert!(answer.commands("any")[0].contains("LAB.TEST = { kdc = HOST }"));
    // The whole doctor goes on with what needs no KDC.
    let folder = tempfile::tempdir().unwrap();
    let broker = configured(&realm, folder.path());
    let answer = while_it_hangs(&realm, kerbridge().arg("--config").arg(broker.config()));
    let short = answer.short();
    for expected in [
        "ticket bad kdc_unreachable",
        "account skipped",
        "state_dir good",
        "envoy skipped",
    ] {
        assert!(short.contains(&expected.to_owned()), "{expected}: {short:?}");
    }
}

/// A broker whose policy lets it act for people by name.
fn configured(realm: &DelegationRealm, folder: &Path) -> Broker {
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
    let run = |words: &[&str]| {
        let output = Command::new(find_kerbridge().unwrap())
            .args(words)
            .args(["--output", "json", "--config"])
            .arg(broker.config())
            .env("KRB5_CONFIG", realm.clients().krb5_config())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let findings = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{output:?}"));
        Answer {
            code: output.status.code().unwrap(),
            findings,
        }
    };
    let for_alice = "user good, target good, target bad delegation_denied";
    let for_sensitive = "user bad evidence_not_forwardable, target skipped, target skipped";
    let of_both = format!("account good, {for_alice}, {for_sensitive}");
    let answer = run(&["doctor", "delegation"]);
    assert_eq!(
        (answer.short().join(", "), answer.code),
        (of_both.clone(), 1),
        "{:#?}",
        answer.findings
    );
    // One who is named stands for those of the policy.
    let answer = run(&["doctor", "delegation", "--user", "bob@LAB.TEST"]);
    assert_eq!(answer.short().join(", "), format!("account good, {for_alice}"));
    // A user of the policy shows that it is the one who is named whom the KDC protects.
    let answer = run(&["doctor", "delegation", "--user", "sensitive@LAB.TEST"]);
    assert_eq!(answer.short().join(", "), format!("account good, {for_sensitive}"));
    assert_eq!(
        answer.commands("mit"),
        ["kadmin -q 'modprinc +allow_forwardable sensitive@LAB.TEST'"]
    );
    // The whole doctor looks at this too.
    let answer = run(&["doctor"]);
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
    let output = Command::new(find_kerbridge().unwrap())
        .args(["doctor", "delegation", "--output", "json", "--account"])
        .arg(realm.principal(BRIDGE))
        .arg("--keytab")
        .arg(realm.folder().join(name))
        .args([
            "--user",
            &realm.principal("alice"),
            "--target",
            &realm.principal(LEGACY),
        ])
        .env("KRB5_CONFIG", realm.clients().krb5_config())
        .output()
        .unwrap();
    let answer = Answer {
        code: output.status.code().unwrap(),
        findings: serde_json::from_slice(&output.stdout).unwrap(),
    };
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
