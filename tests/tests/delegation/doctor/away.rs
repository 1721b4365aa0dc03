//! A KDC that does not answer is named, within a deadline.

use std::process::Command;
use std::time::Duration;

use kerbridge_tests::delegation::{BRIDGE, DelegationRealm, Kind, LEGACY};
use kerbridge_tests::wait::Deadline;

use super::answer::{Answer, doctor, of};
use super::configured;

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
    let answer = Answer::to(command.args(["--deadline", "2s"]), realm);
    let took = began.elapsed();
    signal("-CONT");
    assert!(took.as_secs() < 10, "{took:?}");
    answer
}

#[test]
fn a_kdc_that_hangs_is_named_within_the_deadline() {
    let realm = DelegationRealm::start(Kind::Mit, 0).unwrap();
    let answer = while_it_hangs(
        &realm,
        doctor()
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
    let answer = while_it_hangs(&realm, doctor().arg("--config").arg(broker.config()));
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
