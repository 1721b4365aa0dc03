//! The lab's named scenarios on a domain controller of their own.

#[path = "../report/look.rs"]
mod look;

use std::time::Duration;

use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::report;
use kerbridge_tests::report::model::{Leg, Outcome};
use kerbridge_tests::world::lab_program;

#[test]
#[ignore = "runs a domain controller, as root"]
fn every_scenario_of_the_lab_holds_in_a_domain_big_tickets_too() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let spawn = Spawn::new(lab_program().unwrap(), folder.path())
        .args(["run", "--kdc", "samba", "--out"])
        .arg(&out);
    let mut lab = OwnedProcess::start(spawn).unwrap();
    let status = lab.wait_exit(Duration::from_secs(400)).unwrap();
    assert!(status.success(), "{}", lab.log());
    let run = report::read(&out).unwrap();
    for scenario in &run.scenarios {
        assert_eq!(scenario.outcome, Outcome::Passed, "{}", scenario.name);
    }
    // Of a domain's KDC, too, it is seen what it is asked in a user's name.
    let asked = |word: &str| {
        let steps = run.scenarios.iter().flat_map(|scenario| &scenario.steps);
        let legs = steps.flat_map(|step| &step.legs);
        legs.filter(|record| record.leg == Leg::Kdc && record.summary.contains(word))
            .count()
    };
    assert!(asked("S4U2self") > 0 && asked("S4U2proxy") > 0 && asked("KRB-ERROR") > 0);
    // And the page of it shows all that, on every screen.
    if !look::is_left_out() {
        let browser = look::browser_at(&out.join("report.html"), folder.path());
        look::shows_everything(&browser, &run);
        look::looks_well(&browser);
    }
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn a_service_principal_name_that_is_wrong_in_a_domain_is_told_with_the_command_that_sets_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let spawn = Spawn::new(lab_program().unwrap(), folder.path())
        .args([
            "run",
            "--kdc",
            "samba",
            "--break",
            "wrong-spn",
            "--only",
            "mapping",
            "--out",
        ])
        .arg(&out);
    let mut lab = OwnedProcess::start(spawn).unwrap();
    let status = lab.wait_exit(Duration::from_secs(400)).unwrap();
    assert_eq!(status.code(), Some(1), "{}", lab.log());
    let run = report::read(&out).unwrap();
    let steps = || run.scenarios.iter().flat_map(|scenario| &scenario.steps);
    for (cause, command) in [
        (
            "The KDC knows no HTTP/localhost@AD.TEST (KDC_ERR_S_PRINCIPAL_UNKNOWN)",
            "setspn -S HTTP/localhost ACCOUNT",
        ),
        (
            "The broker takes no ticket for HTTP/localhots@AD.TEST (spn_unknown)",
            "setspn -D HTTP/localhots ACCOUNT, then setspn -S HTTP/localhost ACCOUNT",
        ),
    ] {
        let step = steps().find(|step| step.cause.as_ref().is_some_and(|told| told.starts_with(cause)));
        let remedy = step.and_then(|step| step.remedy.as_deref()).unwrap_or_default();
        assert!(remedy.contains(command), "{cause}: {}", lab.log());
    }
}
