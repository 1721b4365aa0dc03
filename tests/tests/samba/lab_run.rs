//! The lab's named scenarios on a domain controller of their own.

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
}
