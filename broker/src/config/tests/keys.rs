//! How signing keys are made and replaced, as it is written.

use super::*;
use crate::keyring::SigningAlgorithm;

const KEYS: &str = "key_encryption_key_file = \"kek\"\n";

fn keys(more: &str) -> Vec<String> {
    changed(KEYS, &format!("{KEYS}{more}"))
}

#[test]
fn keys_are_replaced_each_month_unless_something_else_is_said() {
    let folder = Folder::good();
    let rotation = folder.load().unwrap().keys().unwrap().rotation.clone();
    assert_eq!(rotation.algorithm, SigningAlgorithm::Es256);
    assert_eq!(rotation.every.map(|every| every.to_string()).as_deref(), Some("30d"));
    assert_eq!(rotation.lead.to_string(), "15m");
    folder.write(
        "policy.toml",
        format!("{POLICY}[filter]\nalgorithms = [\"ES256\", \"EdDSA\"]\n"),
        0o644,
    );
    let more = "algorithm = \"EdDSA\"\nrotate_every = \"never\"\npublish_lead = \"1h\"\n";
    folder.write("kerbridge.toml", GOOD.replace(KEYS, &format!("{KEYS}{more}")), 0o644);
    let rotation = folder.load().unwrap().keys().unwrap().rotation.clone();
    assert_eq!((rotation.algorithm, rotation.every), (SigningAlgorithm::EdDsa, None));
    assert_eq!(rotation.lead.to_string(), "1h");
}

#[test]
fn what_would_let_tokens_be_refused_is_found_before_it_does() {
    for (more, problem) in [
        (
            "algorithm = \"HS256\"",
            "keys.algorithm: \"HS256\" is no algorithm that the broker signs with",
        ),
        (
            "algorithm = \"RS256\"",
            "keys.algorithm: no filter takes RS256: filter.algorithms of the policy does not name it",
        ),
        (
            "rotate_every = \"often\"",
            "keys.rotate_every: \"often\" is no span of time",
        ),
        (
            "rotate_every = \"15m\"",
            "keys.publish_lead: 15m is not less than rotate_every, 15m",
        ),
        (
            "publish_lead = \"3s\"",
            "keys.publish_lead: 3s is not enough for filters that fetch keys every 2s",
        ),
        (
            "rotate_every = \"17s\"\npublish_lead = \"10s\"",
            "keys.rotate_every: 63 keys would be published at once",
        ),
    ] {
        let problems = keys(&format!("{more}\n"));
        assert!(
            problems.iter().any(|found| found.starts_with(problem)),
            "{more}: {problems:?}"
        );
    }
}

#[test]
fn a_token_needs_its_module_its_label_and_a_pin_that_nobody_else_reads() {
    let problems = keys("[keys.pkcs11]\n");
    for field in ["module", "token", "pin_file"] {
        let start = format!("keys.pkcs11.{field}: is missing");
        assert!(problems.iter().any(|found| found.starts_with(&start)), "{problems:?}");
    }
    let folder = Folder::good();
    folder.write("pin", "1234\n", 0o640);
    let more = "[keys.pkcs11]\nmodule = \"m.so\"\ntoken = \"t\"\npin_file = \"pin\"\n";
    let problems = folder.with(KEYS, &format!("{KEYS}{more}"));
    assert!(
        problems[0].starts_with("keys.pkcs11.pin_file: pin has mode 0640"),
        "{problems:?}"
    );
    folder.write("pin", "1234\n", 0o600);
    let config = folder.load().unwrap();
    let hardware = config.keys().unwrap().rotation.hardware.clone().unwrap();
    assert_eq!(hardware.token, "t");
    assert!(!format!("{config:?}").contains("1234"));
    let problems = folder.with(KEYS, &format!("{KEYS}algorithm = \"EdDSA\"\n{more}"));
    assert!(
        problems
            .iter()
            .any(|found| found.starts_with("keys.algorithm: EdDSA is not to be had from a PKCS#11 token")),
        "{problems:?}"
    );
}
