//! The doctor on a real KDC and a real Envoy: what is well is good, and each illness has its reason and its command.

use std::process::Command;

use kerbridge_tests::World;
use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::world::SERVICE;
use serde_json::Value;

/// What the doctor says of a world, by its JSON, and its exit code.
pub(super) fn examine(world: &mut World, more: &[&str], clock: Option<&str>) -> (Vec<Value>, Option<i32>) {
    let config = world.broker().config();
    let admin = format!("127.0.0.1:{}", world.envoy().admin_port());
    let program = find_kerbridge().unwrap();
    let mut command = match clock {
        Some(offset) => {
            let mut command = Command::new("faketime");
            command.args(["-f", offset]).arg(program);
            command
        }
        None => Command::new(program),
    };
    let output = command
        .args(["doctor", "--output", "json", "--envoy-admin", &admin, "--config"])
        .arg(config)
        .args(more)
        .env("KRB5_CONFIG", world.kdc().krb5_config())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.is_empty(), "{complaint}");
    let findings = serde_json::from_slice(&output.stdout).unwrap();
    (findings, output.status.code())
}

/// The bad findings, each as check and reason.
pub(super) fn bad(findings: &[Value]) -> Vec<String> {
    let word = |value: &'static str| move |finding: &Value| finding[value].as_str().unwrap_or_default().to_owned();
    let (check, reason) = (word("check"), word("reason"));
    let bad = findings.iter().filter(|finding| finding["verdict"] == "bad");
    bad.map(|finding| format!("{} {}", check(finding), reason(finding)))
        .collect()
}

fn commands(findings: &[Value], check: &str) -> String {
    findings
        .iter()
        .filter(|finding| finding["check"] == check && finding["verdict"] == "bad")
        .flat_map(|finding| finding["remedies"].as_array().cloned().unwrap_or_default())
        .map(|remedy| {
            format!(
                "{}: {}\n",
                remedy["system"].as_str().unwrap(),
                remedy["command"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn a_lab_that_works_is_well_and_each_illness_is_named_with_what_mends_it() {
    let mut world = World::start().unwrap();
    let (findings, code) = examine(&mut world, &[], None);
    assert_eq!((bad(&findings), code), (vec![], Some(0)), "{findings:#?}");
    let good = |check: &str| {
        findings
            .iter()
            .any(|one| one["check"] == check && one["verdict"] == "good")
    };
    for check in [
        "keytab",
        "ticket",
        "clock",
        "host",
        "state_dir",
        "revocations",
        "channel_bindings",
        "envoy",
    ] {
        assert!(good(check), "{check}: {findings:#?}");
    }

    // A clock that is off by more than Kerberos allows, and by which revocations are old.
    let (findings, code) = examine(&mut world, &[], Some("+20m"));
    assert_eq!(
        (bad(&findings), code),
        (
            vec!["clock clock_skew".to_owned(), "revocations feed_stale".to_owned()],
            Some(1)
        ),
        "{findings:#?}"
    );
    assert!(commands(&findings, "clock").contains("chronyc makestep"));

    // A user's tickets show what would become of that user.
    let alice = world.kdc().kinit("alice").unwrap();
    let ccache = alice.path().to_str().unwrap().to_owned();
    let (findings, code) = examine(&mut world, &["--ccache", &ccache], None);
    assert_eq!((bad(&findings), code), (vec![], Some(0)), "{findings:#?}");
    let user = findings.iter().find(|one| one["check"] == "user").unwrap();
    assert_eq!(
        (&user["subject"], &user["found"]),
        (&"alice@LAB.TEST".into(), &"a token calls it alice@LAB.TEST".into())
    );

    // The account got a new key, and the keytab did not follow.
    world.kdc().rotate_key(SERVICE).unwrap();
    let (findings, code) = examine(&mut world, &[], None);
    assert_eq!(
        (bad(&findings), code),
        (vec!["ticket kvno_mismatch".to_owned()], Some(1)),
        "{findings:#?}"
    );
    let alice = world.kdc().kinit("alice").unwrap();
    let ccache = alice.path().to_str().unwrap().to_owned();
    let (findings, _) = examine(&mut world, &["--ccache", &ccache], None);
    assert_eq!(bad(&findings), ["ticket kvno_mismatch"], "{findings:#?}");
    let mend = commands(&findings, "ticket");
    for system in ["mit: kadmin -q 'ktadd", "ad: ktpass", "freeipa: ipa-getkeytab"] {
        assert!(mend.contains(system), "{mend}");
    }

    // The service is gone at the KDC. Only a client that is somebody hears that.
    world.kdc().kadmin(&format!("delprinc -force \"{SERVICE}\"")).unwrap();
    let (findings, _) = examine(&mut world, &["--ccache", &ccache], None);
    assert_eq!(bad(&findings), ["ticket spn_unknown"], "{findings:#?}");
    let (findings, code) = examine(&mut world, &[], None);
    assert_eq!((bad(&findings), code), (vec![], Some(0)), "{findings:#?}");
    assert!(
        findings
            .iter()
            .any(|one| one["check"] == "ticket" && one["verdict"] == "warning")
    );
}

#[test]
fn without_a_kdc_the_doctor_says_so() {
    let mut world = World::start().unwrap();
    world.stop_kdc().unwrap();
    let (findings, code) = examine(&mut world, &[], None);
    assert_eq!(
        (bad(&findings), code),
        (vec!["ticket kdc_unreachable".to_owned()], Some(1)),
        "{findings:#?}"
    );
}

#[test]
fn an_envoy_that_lets_underscores_through_is_named() {
    let mut world = World::builder()
        .yaml(|yaml| {
            yaml.replace(
                "headers_with_underscores_action: REJECT_REQUEST",
                "headers_with_underscores_action: ALLOW",
            )
        })
        .start()
        .unwrap();
    let (findings, code) = examine(&mut world, &[], None);
    assert_eq!(
        (bad(&findings), code),
        (vec!["envoy ".to_owned()], Some(1)),
        "{findings:#?}"
    );
    assert!(commands(&findings, "envoy").contains("headers_with_underscores_action: REJECT_REQUEST"));
}
