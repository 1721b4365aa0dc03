//! `kerbridge principal map` as a user meets it.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use crate::fixture::{Folder, text};

const NAMES: &str = r#"
[names]
strip_realm_of = ["A.TEST"]
instances = "refuse"
[[names.rule]]
match = "*/admin@A.TEST"
subject = "{1}-admin"
"#;

/// A folder in which nothing is left but the configuration, with these names.
fn folder(names: &str) -> Folder {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    for name in ["http.keytab", "made/kek", "made/policy.toml"] {
        fs::remove_file(folder.path(name)).unwrap();
    }
    let config = folder.path("made/kerbridge.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap() + names).unwrap();
    folder
}

fn map(folder: &Folder, arguments: &[&str]) -> Output {
    folder.run(&[&["principal", "map", "--config", "made/kerbridge.toml"], arguments].concat())
}

#[test]
fn each_name_is_shown_with_what_decided_about_it() {
    let folder = folder(NAMES);
    let output = map(&folder, &["alice@A.TEST", "alice/admin@A.TEST", "alice-admin@A.TEST"]);
    assert_eq!(
        text(&output.stdout),
        "alice@A.TEST: alice (names.strip_realm_of)\n\
         alice/admin@A.TEST: alice-admin (names.rule[0])\n\
         alice-admin@A.TEST: alice-admin@A.TEST (names.unmatched)\n",
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(!folder.path("made/state").exists(), "something was made");
}

#[test]
fn a_name_that_is_refused_is_shown_with_its_reason_and_exit_code_1() {
    let folder = folder(NAMES);
    let output = map(
        &folder,
        &[
            "alice@A.TEST",
            "alice@B.TEST",
            "alice/root@A.TEST",
            r"b\@b/admin@A.TEST",
        ],
    );
    assert_eq!(
        text(&output.stdout),
        "alice@A.TEST: alice (names.strip_realm_of)\n\
         alice@B.TEST: refused, realm_not_allowed (kerberos.realms: \"B.TEST\" is not on the list)\n\
         alice/root@A.TEST: refused, principal_not_mapped (names.instances: refuses this principal)\n\
         b\\@b/admin@A.TEST: refused, principal_not_mapped (names.rule[0]: the name would not be visible ASCII without @, / \
         and \\)\n"
    );
    assert_eq!(output.status.code(), Some(1));
    let output = map(&folder, &["--output", "json", "alice@A.TEST", "alice@B.TEST"]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        lines,
        json!([
            {
                "principal": "alice@A.TEST", "subject": "alice", "reason": "ok",
                "decided_by": "names.strip_realm_of", "realm_taken": true, "detail": null,
            },
            {
                "principal": "alice@B.TEST", "subject": null, "reason": "realm_not_allowed",
                "decided_by": "kerberos.realms", "realm_taken": false,
                "detail": "kerberos.realms: \"B.TEST\" is not on the list",
            },
        ])
    );
}

#[test]
fn what_is_no_principal_is_64_and_a_wrong_configuration_is_78() {
    let folder = folder(NAMES);
    let output = map(&folder, &["alice", "alice@A.TEST", "a\u{1b}b@A.TEST"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(64), String::new()));
    assert_eq!(
        text(&output.stderr),
        "kerbridge: \"alice\": a full principal ends in @REALM\n\
         kerbridge: \"a\\u{1b}b@A.TEST\": a principal has no control characters\n"
    );
    let config = folder.path("made/kerbridge.toml");
    let wrong = fs::read_to_string(&config).unwrap().replace("\"refuse\"", "\"drop\"");
    fs::write(&config, wrong).unwrap();
    let output = map(&folder, &["alice@A.TEST"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(78), String::new()));
    assert!(
        text(&output.stderr).contains("names.instances: \"drop\""),
        "{}",
        text(&output.stderr)
    );
    let output = map(&folder, &["alice@A.TEST", "--output", "json"]);
    assert_eq!(output.status.code(), Some(78));
    let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(problems[0]["field"], "names.instances");
}

#[test]
fn local_names_are_those_of_krb5_conf_under_the_brokers_own_rules() {
    let folder = folder("\n[names]\nauth_to_local = true\n");
    let krb5_conf = folder.path("krb5.conf");
    fs::write(
        &krb5_conf,
        "[libdefaults]\ndefault_realm = B.TEST\n[realms]\nA.TEST = {\nauth_to_local = RULE:[2:$1.$2](.*\\.admin)\n\
         auth_to_local = DEFAULT\n}\nB.TEST = {\nauth_to_local = RULE:[1:wrong]\n}\n",
    )
    .unwrap();
    let output = folder
        .command()
        .args(["principal", "map", "--config", "made/kerbridge.toml"])
        .args(["alice@A.TEST", "alice/admin@A.TEST", "alice/root@A.TEST"])
        .env("KRB5_CONFIG", &krb5_conf)
        .output()
        .unwrap();
    assert_eq!(
        text(&output.stdout),
        "alice@A.TEST: alice (names.auth_to_local)\n\
         alice/admin@A.TEST: alice.admin (names.auth_to_local)\n\
         alice/root@A.TEST: refused, principal_not_mapped (names.auth_to_local: krb5.conf has no local name for this \
         principal)\n",
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_example_that_init_writes_is_good_where_it_is_taken() {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    let config = folder.path("made/kerbridge.toml");
    let written = fs::read_to_string(&config).unwrap();
    let (before, after) = written.split_once("#[names]\n").unwrap();
    let (names, after) = after.split_once("\n\n").unwrap();
    let taken = names
        .lines()
        .filter(|line| !line.contains("auth_to_local"))
        .map(|line| format!("{}\n", line.strip_prefix('#').unwrap()));
    let taken = format!("{before}[names]\n{}\n{after}", taken.collect::<String>());
    fs::write(&config, taken).unwrap();
    let output = folder.run(&["config", "check", "--config", "made/kerbridge.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = map(&folder, &["alice@A.TEST", "alice/admin@A.TEST"]);
    assert_eq!(
        text(&output.stdout),
        "alice@A.TEST: alice (names.strip_realm_of)\nalice/admin@A.TEST: alice-admin (names.rule[0])\n"
    );
}
