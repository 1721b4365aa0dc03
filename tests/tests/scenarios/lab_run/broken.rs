//! The lab on a set-up that is broken on purpose: the report says what is wrong, and the remedy.

use std::collections::BTreeSet;

use kerbridge_tests::document::{quoted, tables};
use kerbridge_tests::engine::own::{Broken, MISSPELT};
use kerbridge_tests::report::model::{Leg, Run, Step};
use kerbridge_tests::scenarios::ALL;
use kerbridge_tests::shipped;

use super::{Ended, carried, failed, look, passed, run, scenario};

/// Runs all scenarios on a set-up that is broken so: all have run, not all hold.
fn broken(what: &str) -> (Ended, Run) {
    let ended = run(&["--break", what], &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    let run = ended.run();
    assert_eq!(run.scenarios.len(), ALL.len());
    assert!(run.setup.broken.is_some());
    (ended, run)
}

fn steps(run: &Run) -> impl Iterator<Item = &Step> {
    run.scenarios.iter().flat_map(|scenario| &scenario.steps)
}

fn causes(run: &Run) -> BTreeSet<&str> {
    steps(run).filter_map(|step| step.cause.as_deref()).collect()
}

/// That this is told on the screen, to the build server, and on the page above all scenarios, readable on every screen.
fn is_told(ended: &Ended, texts: &[&str]) {
    let junit = std::fs::read_to_string(ended.folder.path().join("report/junit.xml")).unwrap();
    let junit = junit.replace("&#39;", "'").replace("&quot;", "\"");
    for text in texts {
        assert!(ended.said.contains(text), "{text} in {}", ended.said);
        assert!(junit.contains(text), "{text} is not in junit.xml");
    }
    if look::is_left_out() {
        return;
    }
    let page = ended.folder.path().join("report/report.html");
    let browser = look::browser_at(&page, ended.folder.path());
    // Without folding anything out.
    let seen = browser.text().unwrap();
    let above = seen.split("How to read a timeline").next().unwrap();
    for text in texts.iter().chain(&["Broken on purpose: ", "Cause: ", "Remedy: "]) {
        assert!(above.contains(text), "{text} in {above}");
    }
    look::shows_everything(&browser, &ended.run());
    look::looks_well(&browser);
}

#[test]
fn the_document_has_each_way_in_which_a_set_up_is_broken_with_what_the_report_says() {
    let text = std::fs::read_to_string(shipped::repository().join("docs/lab.md")).unwrap();
    let rows: BTreeSet<String> = tables(&text, "`--break`")
        .iter()
        .map(|row| quoted(&row[0]).concat())
        .collect();
    assert_eq!(rows, Broken::ALL.map(|(name, _)| name.to_owned()).into());
    for word in [
        MISSPELT,
        "KDC_ERR_S_PRINCIPAL_UNKNOWN",
        "spn_unknown",
        "clock_skew",
        "access = \"open\"",
        "setspn",
        "kadmin",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn a_wrong_service_principal_name_is_told_with_the_kdcs_error_the_brokers_reason_and_the_commands() {
    let (ended, run) = broken("wrong-spn");
    assert!(failed(&run).contains("mapping"));
    // What needs no ticket holds.
    assert!(passed(&run).contains("ntlm"), "{}", ended.said);
    let mapping = scenario(&run, "mapping");
    assert!(carried(mapping, Leg::Kdc, "KDC_ERR_S_PRINCIPAL_UNKNOWN"));
    assert!(carried(mapping, Leg::Broker, "spn_unknown"));
    assert_eq!(causes(&run).len(), 2, "{:?}", causes(&run));
    is_told(
        &ended,
        &[
            "The KDC knows no HTTP/localhost@LAB.TEST (KDC_ERR_S_PRINCIPAL_UNKNOWN)",
            "setspn -S HTTP/localhost ACCOUNT (Active Directory), or kadmin -q \"addprinc -randkey HTTP/localhost\" (MIT)",
            "The broker takes no ticket for HTTP/localhots@LAB.TEST (spn_unknown)",
            "kadmin -q \"renprinc HTTP/localhots HTTP/localhost\" (MIT)",
        ],
    );
}

#[test]
fn a_clock_that_is_wrong_is_told_with_the_difference_and_the_line_that_sets_it() {
    let (ended, run) = broken("skewed-clock");
    assert!(failed(&run).contains("mapping"));
    assert!(passed(&run).contains("ntlm"), "{}", ended.said);
    assert!(carried(scenario(&run, "mapping"), Leg::Broker, "clock_skew"));
    // Ten minutes, give or take the second in which it is measured.
    let told = causes(&run).into_iter().find_map(|cause| {
        let seconds = cause
            .strip_prefix("The broker's clock is ")?
            .split_once(" s ahead of")?
            .0;
        seconds.parse::<u64>().ok()
    });
    assert!(
        told.is_some_and(|seconds| (598..=602).contains(&seconds)),
        "{:?}",
        causes(&run)
    );
    is_told(
        &ended,
        &[
            " s ahead of that of the client and of the KDC (clock_skew)",
            "set the clock of the broker's machine by NTP: chronyc makestep",
        ],
    );
}

#[test]
fn a_route_that_is_open_is_told_with_its_name_and_the_line_of_the_policy() {
    let (ended, run) = broken("open-rule");
    assert!(failed(&run).contains("mapping") && failed(&run).contains("spoofed-headers"));
    // Other routes are guarded as before.
    for holds in ["logout", "delegation-allowed", "delegation-denied"] {
        assert!(passed(&run).contains(holds), "{holds}: {}", ended.said);
    }
    assert_eq!(
        causes(&run),
        ["The route \"orders\" lets requests pass without a ticket and without a token."].into()
    );
    let nobody = scenario(&run, "mapping")
        .steps
        .iter()
        .find(|step| step.title == "nobody in particular asks")
        .unwrap();
    assert!(
        nobody.seen.starts_with("200") && nobody.seen.ends_with("it reached the service"),
        "{nobody:?}"
    );
    let remedy = nobody.remedy.as_deref().unwrap();
    assert!(
        remedy.contains("in the [[route]] named \"orders\": access = \"open\" # to try it out. Put in its place"),
        "{remedy}"
    );
    is_told(
        &ended,
        &[
            "policy.toml, line ",
            "The route \"orders\" lets requests pass without a ticket",
        ],
    );
}
