//! The lab's named scenarios on its own parts, in any order, and what the command says of its command line.

mod broken;
#[path = "../report/look.rs"]
mod look;
mod yours;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::report;
use kerbridge_tests::report::model::{Credential, Holder, Leg, Outcome, Run, Scenario, Store};
use kerbridge_tests::scenarios::ALL;
use kerbridge_tests::token::now;
use kerbridge_tests::world::lab_program;

/// What the lab's program did.
struct Ended {
    code: Option<i32>,
    said: String,
    folder: tempfile::TempDir,
}

impl Ended {
    fn run(&self) -> Run {
        report::read(&self.folder.path().join("report")).unwrap()
    }
}

/// Runs `kerbridge-lab run` to its end, with its report in a folder of its own.
fn run(args: &[&str], environment: &[(&str, OsString)]) -> Ended {
    run_to(Path::new("report"), args, environment)
}

/// The same with its report there, seen from a folder of its own.
fn run_to(out: &Path, args: &[&str], environment: &[(&str, OsString)]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    // Apache may be another user.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let spawn = Spawn::new(lab_program().unwrap(), folder.path())
        .args(["run", "--out", folder.path().join(out).to_str().unwrap()])
        .args(args)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let mut process = OwnedProcess::start(spawn).unwrap();
    let code = process.wait_exit(Duration::from_secs(400)).unwrap().code();
    Ended {
        code,
        said: process.log(),
        folder,
    }
}

fn names(wanted: fn(&Outcome) -> bool, run: &Run) -> BTreeSet<String> {
    let scenarios = run.scenarios.iter().filter(|scenario| wanted(&scenario.outcome));
    scenarios.map(|scenario| scenario.name.clone()).collect()
}

fn passed(run: &Run) -> BTreeSet<String> {
    names(|outcome| *outcome == Outcome::Passed, run)
}

fn failed(run: &Run) -> BTreeSet<String> {
    names(|outcome| *outcome == Outcome::Failed, run)
}

fn scenario<'a>(run: &'a Run, name: &str) -> &'a Scenario {
    run.scenarios.iter().find(|scenario| scenario.name == name).unwrap()
}

fn carried(scenario: &Scenario, leg: Leg, word: &str) -> bool {
    let legs = scenario.steps.iter().flat_map(|step| &step.legs);
    legs.filter(|record| record.leg == leg)
        .any(|record| record.summary.contains(word) || record.lines.iter().any(|line| line.contains(word)))
}

/// In Chromium each scenario of the report shows its legs, its credentials, what was expected and what was seen, on every screen.
fn shows_everything_and_looks_well(ended: &Ended) {
    if look::is_left_out() {
        return;
    }
    let page = ended.folder.path().join("report/report.html");
    let browser = look::browser_at(&page, ended.folder.path());
    look::shows_everything(&browser, &ended.run());
    look::looks_well(&browser);
}

/// The longest run of characters of a credential: one of them would be of hundreds.
fn longest_run(text: &str) -> usize {
    let runs = text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/_-".contains(c));
    runs.map(str::len).max().unwrap_or(0)
}

fn every_file_without_credentials(folder: &Path) {
    let mut files = Vec::new();
    for file in std::fs::read_dir(folder.join("report")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.is_empty(), "{}", path.display());
        // The whole of a temporary file's path is longer than that of any name, and shorter than a ticket or a token.
        let longest = longest_run(&text);
        assert!(longest < 100, "{longest} in {}", path.display());
        files.push(path);
    }
    assert_eq!(files.len(), 3);
}

#[test]
fn every_scenario_holds_on_the_labs_own_parts_and_each_leg_is_kept_without_a_credential() {
    let ended = run(&[], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let run = ended.run();
    assert_eq!(run.scenarios.len(), ALL.len());
    assert_eq!(failed(&run), BTreeSet::new());
    for one in &run.scenarios {
        // An MIT KDC's tickets say no groups.
        if one.name != "big-pac" {
            assert_eq!(one.outcome, Outcome::Passed, "{}", one.name);
            assert!(!one.steps.is_empty(), "{}", one.name);
            assert!(ended.said.contains(&one.name), "{}", ended.said);
        }
    }
    let mapping = scenario(&run, "mapping");
    for (leg, word) in [
        (Leg::Client, "GET /orders/1"),
        (Leg::Client, "Authorization: Negotiate YII"),
        (Leg::Broker, "a ticket, to become a token"),
        (Leg::Kdc, "TGS-REQ for HTTP/localhost@LAB.TEST"),
        (Leg::Kdc, "AS-REP: a ticket of alice@LAB.TEST"),
        (Leg::Upstream, "x-kerbridge-subject: alice@LAB.TEST"),
    ] {
        assert!(carried(mapping, leg, word), "{word}");
    }
    let allowed = scenario(&run, "delegation-allowed");
    for (leg, word) in [
        (Leg::Kdc, "S4U2self"),
        (Leg::Kdc, "S4U2proxy"),
        (Leg::Upstream, "Negotiate YII"),
        (Leg::Broker, "a token, to become a ticket"),
    ] {
        assert!(carried(allowed, leg, word), "{word}");
    }
    assert!(carried(
        scenario(&run, "delegation-denied"),
        Leg::Kdc,
        "KDC_ERR_BADOPTION"
    ));
    assert!(carried(scenario(&run, "kdc-down"), Leg::Kdc, "no answer"));
    let holds = |who, credential| {
        let held = allowed.holdings.iter();
        held.filter(|held| (held.who, held.credential) == (who, credential))
            .count()
            > 0
    };
    assert!(holds(Holder::Client, Credential::Token) && holds(Holder::Broker, Credential::ServiceTicket));
    assert!(holds(Holder::Upstream, Credential::ApReq) && !holds(Holder::Upstream, Credential::Token));
    // A client's connection is TLS, and what its ticket is bound to is seen.
    let bound = scenario(&run, "channel-binding");
    for (leg, word) in [
        (Leg::Client, "* over TLSv1."),
        (Leg::Broker, "server_name: localhost"),
        (Leg::Broker, "channel_binding_mismatch"),
    ] {
        assert!(carried(bound, leg, word), "{word}");
    }
    every_file_without_credentials(ended.folder.path());
    shows_everything_and_looks_well(&ended);
}

#[test]
fn in_any_order_every_scenario_holds_on_two_brokers_with_one_database() {
    // As cards are shuffled (Fisher-Yates), by the second in which it runs; a failure says the order.
    let mut order: Vec<&str> = ALL.iter().map(|one| one.name).collect();
    let mut state = now();
    for last in (1..order.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(state >> 33).unwrap() % (last + 1);
        order.swap(last, other);
    }
    let mut args = vec!["--brokers", "2", "--only"];
    args.extend(&order);
    let ended = run(&args, &[]);
    assert_eq!(ended.code, Some(0), "{order:?}: {}", ended.said);
    let run = ended.run();
    assert_eq!((run.setup.brokers, run.setup.store), (2, Store::Postgres));
    let ran: Vec<&str> = run.scenarios.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(ran, order);
    assert_eq!(passed(&run).len(), ALL.len() - 1, "{}", ended.said);
}

#[test]
fn a_command_line_that_is_wrong_ends_with_two_and_names_what_is_wrong() {
    for (args, told) in [
        (vec!["--only", "nonsense"], "there is no scenario \"nonsense\""),
        (
            vec!["--brokers", "2", "--store", "redb"],
            "two brokers share a database",
        ),
        (vec!["--brokers", "3"], "--brokers"),
        (vec!["--kdc", "heimdal"], "neither mit nor samba"),
        (vec!["--audience", "orders"], "--envoy"),
        (vec!["--break", "everything"], "wrong-spn, skewed-clock, open-rule"),
        (
            vec!["--break", "open-rule", "--envoy", "https://localhost:1"],
            "cannot be used with",
        ),
    ] {
        let ended = run(&args, &[]);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.said);
        assert!(ended.said.contains(told), "{args:?}: {}", ended.said);
    }
    let ended = run(&["--list"], &[]);
    assert_eq!(ended.code, Some(0));
    for one in ALL {
        assert!(
            ended.said.contains(one.name) && ended.said.contains(one.purpose),
            "{}",
            one.name
        );
    }
}

#[test]
fn where_nothing_can_be_written_one_line_says_so_before_anything_is_started() {
    let nowhere = OsString::from("/nonexistent/temporary");
    for (out, environment, told) in [
        (
            "/dev/null/report",
            vec![],
            "could not write a report into /dev/null/report (name another folder with --out): ",
        ),
        (
            "report",
            vec![("TMPDIR", nowhere)],
            "could not create a folder for the lab in /nonexistent/temporary (name another with TMPDIR): ",
        ),
    ] {
        let ended = run_to(Path::new(out), &[], &environment);
        assert_eq!(ended.code, Some(70), "{}", ended.said);
        let said = ended.said.trim();
        assert!(said.starts_with(&format!("kerbridge-lab: {told}")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
