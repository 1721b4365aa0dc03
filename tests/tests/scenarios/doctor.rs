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

#[test]
fn each_weakened_setting_of_an_envoy_is_named_with_its_remedy() {
    let mut world = World::builder()
        .yaml(|yaml| {
            for (from, to) in [
                ("merge_slashes: true", "merge_slashes: false"),
                (
                    "path_with_escaped_slashes_action: REJECT_REQUEST",
                    "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD",
                ),
                ("{prefix: x-kerbridge-}", "{prefix: x-other-}"),
                ("          request_timeout: 30s", "          request_timeout: 0s"),
                ("stream_idle_timeout: 30s", "stream_idle_timeout: 0s"),
                ("use_remote_address: true", "use_remote_address: false"),
                ("{idle_timeout: 30s}", "{idle_timeout: 300s}"),
                (
                    "          route_config:\n",
                    "          route_config:\n            typed_per_filter_config:\n              kerbridge: {\"@type\": \
                     type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}\n",
                ),
            ] {
                yaml.replace(from, to)?;
            }
            Ok(())
        })
        .start()
        .unwrap();
    let (findings, code) = examine(&mut world, &[], None);
    assert_eq!(code, Some(1), "{findings:#?}");
    let said = |verdict: &str, start: &str| {
        findings.iter().any(|one| {
            one["check"] == "envoy"
                && one["verdict"] == verdict
                && one["found"].as_str().unwrap().starts_with(start)
                && one["remedies"].as_array().is_some_and(|remedies| !remedies.is_empty())
        })
    };
    for (verdict, start) in [
        ("bad", "merge_slashes: not set"),
        ("bad", "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD"),
        ("bad", "request_timeout: 0s"),
        ("bad", "stream_idle_timeout: 0s"),
        ("bad", "typed_per_filter_config: a route"),
        (
            "warning",
            "early_header_mutation_extensions: does not remove x-kerbridge-subject",
        ),
        ("warning", "use_remote_address: not true"),
        ("warning", "idle_timeout: 300s"),
    ] {
        assert!(said(verdict, start), "{start}: {findings:#?}");
    }
    // What the filter is switched off for passes: the doctor did not exaggerate.
    assert_eq!(world.curl("/orders/1").send().unwrap().status, 200);
}

#[test]
fn a_filter_with_another_policy_fewer_rights_or_no_machine_of_its_own_is_named() {
    let mut world = World::builder()
        .filter(|filter| {
            filter["routes"][1]["scopes_all"] = serde_json::json!(["orders:anything"]);
            // Keys are fetched; it is the exchanges that cannot go out.
            filter["broker"]["cluster"] = serde_json::json!("absent");
        })
        .yaml(|yaml| {
            yaml.replace("\n                    proxy_on_request_headers: {}", "")?;
            yaml.replace(
                "let requests pass.\n                failure_policy: FAIL_RELOAD",
                "let requests pass.\n                failure_policy: FAIL_OPEN",
            )?;
            yaml.replace(
                "                  vm_id: kerbridge\n                  runtime",
                "                  runtime",
            )
        })
        .start()
        .unwrap();
    let (findings, code) = examine(&mut world, &[], None);
    assert_eq!(code, Some(1), "{findings:#?}");
    let bad = |part: &str| {
        findings.iter().any(|one| {
            one["check"] == "envoy" && one["verdict"] == "bad" && one["found"].as_str().unwrap().contains(part)
        })
    };
    for part in [
        "failure_policy: FAIL_OPEN",
        "capability_restriction_config: it lacks proxy_on_request_headers: a callback",
        "vm_id: not set",
        "broker.cluster: Envoy has no cluster \"absent\"",
        "routes[1].scopes_all is [\"orders:anything\"], the policy has [\"orders:read\"]",
    ] {
        assert!(bad(part), "{part}: {findings:#?}");
    }
    // Nobody asks the filter.
    assert_eq!(world.curl("/orders/1").send().unwrap().status, 200);
}

#[test]
fn what_was_asked_for_and_cannot_be_looked_at_is_bad_or_says_why_it_was_skipped() {
    let mut world = World::start().unwrap();
    let folder = world.folder().to_owned();
    let absent = folder.join("absent").to_str().unwrap().to_owned();
    let (findings, code) = examine(&mut world, &["--ccache", &absent], None);
    assert_eq!(
        (bad(&findings), code),
        (vec!["ticket ".to_owned()], Some(1)),
        "{findings:#?}"
    );
    assert!(
        commands(&findings, "ticket").contains(&format!("kinit -c {absent} ")),
        "{findings:#?}"
    );

    // Nobody needs them here, and whoever asked is told so.
    let alice = world.kdc().kinit("alice").unwrap();
    let ccache = alice.path().to_str().unwrap().to_owned();
    let more = [
        "--ccache",
        &ccache,
        "--look-up",
        "alice@LAB.TEST",
        "--envoy-listener",
        "127.0.0.1:1",
    ];
    let (findings, code) = examine(&mut world, &more, None);
    assert_eq!((bad(&findings), code), (vec![], Some(0)), "{findings:#?}");
    for (check, why) in [
        ("clock", "leave that out to compare the clocks"),
        ("directory", "groups.source is not \"ldap\""),
        ("channel_bindings", "kerberos.channel_bindings.mode is \"off\""),
    ] {
        assert!(
            findings.iter().any(|one| one["check"] == check
                && one["verdict"] == "skipped"
                && one["found"].as_str().unwrap().contains(why)),
            "{check}: {findings:#?}"
        );
    }

    // Tickets that have ended are said to have, and not to be a success.
    let (findings, _) = examine(&mut world, &["--ccache", &ccache], Some("+30h"));
    let ended = findings.iter().find(|one| one["reason"] == "ticket_expired").unwrap();
    assert!(!ended["found"].as_str().unwrap().contains("Success"), "{ended}");
    assert!(
        ended["remedies"][0]["command"]
            .as_str()
            .unwrap()
            .starts_with(&format!("kinit -c {ccache} ")),
        "{ended}"
    );
}

#[test]
fn an_envoy_that_does_not_answer_or_was_not_named_rightly_is_bad() {
    let mut world = World::start().unwrap();
    let port = world.envoy().admin_port();
    let address = format!("http://127.0.0.1:{port}");
    for (given, meant) in [
        ("127.0.0.1:1", "curl http://127.0.0.1:1/server_info"),
        (address.as_str(), &format!("--envoy-admin 127.0.0.1:{port}")),
    ] {
        let program = find_kerbridge().unwrap();
        let output = Command::new(program)
            .args(["doctor", "--output", "json", "--envoy-admin", given, "--config"])
            .arg(world.broker().config())
            .env("KRB5_CONFIG", world.kdc().krb5_config())
            .output()
            .unwrap();
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{given}: {findings:#?}");
        assert_eq!(bad(&findings), ["envoy "], "{given}: {findings:#?}");
        assert!(commands(&findings, "envoy").contains(meant), "{findings:#?}");
    }
}
