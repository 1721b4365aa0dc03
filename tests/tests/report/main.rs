//! Looks at reports in a real browser, as a person would, and reads the XML as a build server would.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails in a test ends the test"
)]

mod look;
mod sample;

use std::path::Path;
use std::time::Duration;

use kerbridge_tests::browser::Browser;
use kerbridge_tests::report;
use kerbridge_tests::report::model::Run;
use kerbridge_tests::wait::wait_for;
use look::{browser_at, is_left_out, looks_well, shows_everything, text_of};
use serde_json::json;

/// A busy machine may take long to draw.
const FRAME_WITHIN: Duration = Duration::from_secs(20);

/// A browser at the report of this run.
fn at_report(run: &Run, folder: &Path) -> Browser {
    let written = report::write(run, &folder.join("report")).unwrap();
    browser_at(&written.page, folder)
}

#[test]
fn each_scenario_shows_its_legs_credentials_expected_and_seen() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = sample::run();
    let browser = at_report(&run, folder.path());
    shows_everything(&browser, &run);
    let top = browser.text().unwrap();
    for text in [
        "One scenario did not hold",
        "What to mend",
        "Set the clock of the broker's machine",
        "Run it with --kdc samba.",
    ] {
        assert!(
            top.to_lowercase().contains(&text.to_lowercase()),
            "{text} is not shown in {top}"
        );
    }
}

#[test]
fn a_report_is_readable_on_a_narrow_screen_and_a_wide_one_in_light_and_in_dark() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    looks_well(&at_report(&sample::run(), folder.path()));
}

#[test]
fn what_wants_to_be_markup_or_never_ends_stays_text_that_fits() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = sample::hostile();
    let browser = at_report(&run, folder.path());
    looks_well(&browser);
    let shown = text_of(&browser, "main");
    assert!(shown.contains("<script>window.harmed=1</script>"), "{shown}");
    let sections = browser
        .run(
            "return document.querySelectorAll('main > .scenario').length;",
            &json!([]),
        )
        .unwrap();
    assert_eq!(sections, json!(run.scenarios.len()));
}

#[test]
fn what_is_folded_away_is_printed() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let browser = at_report(&sample::run(), folder.path());
    let script =
        "return document.querySelector('.legs:not([open]) pre').checkVisibility({contentVisibilityAuto: true});";
    let is_shown = || browser.run(script, &json!([])).unwrap().as_bool().unwrap();
    assert!(!is_shown());
    browser.show_as_printed().unwrap();
    // The style follows with the next frame.
    wait_for("what is folded away to be shown", FRAME_WITHIN, || {
        is_shown().then_some(())
    })
    .unwrap();
}

/// What a reader of XML makes of it: what is wrong with it, how many cases it has, how many failed and were skipped, and the text of the
/// first failure.
const READ_XML: &str = "
    const read = new DOMParser().parseFromString(arguments[0], 'application/xml');
    const count = (name) => read.getElementsByTagName(name).length;
    return {
        wrong: count('parsererror') ? read.documentElement.textContent : null,
        cases: count('testcase'), failures: count('failure'), skipped: count('skipped'),
        totals: ['tests', 'failures', 'errors', 'skipped', 'time'].map((name) => read.documentElement.getAttribute(name)),
        first: read.getElementsByTagName('failure')[0].textContent,
        timestamp: read.getElementsByTagName('testsuite')[0].getAttribute('timestamp'),
    };";

#[test]
fn a_build_server_reads_what_held_what_failed_and_what_was_skipped() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let browser = at_report(&sample::run(), folder.path());
    for (run, failure) in [(sample::run(), "Set the clock"), (sample::hostile(), "]]>-->")] {
        let read = browser.run(READ_XML, &json!([report::junit(&run)])).unwrap();
        assert_eq!(read["wrong"], json!(null), "{read}");
        assert_eq!(
            [&read["cases"], &read["failures"], &read["skipped"]],
            [&json!(4), &json!(1), &json!(1)]
        );
        assert_eq!(read["totals"], json!(["4", "1", "0", "1", "41.250"]));
        assert_eq!(read["timestamp"], "2026-11-26T07:26:40Z");
        assert!(read["first"].as_str().unwrap().contains(failure), "{read}");
    }
}

#[test]
fn a_run_that_was_written_is_read_again_and_gives_the_same_report() {
    let folder = tempfile::tempdir().unwrap();
    let run = sample::run();
    let first = report::write(&run, folder.path()).unwrap();
    let page = std::fs::read_to_string(&first.page).unwrap();
    let again = report::read(folder.path()).unwrap();
    assert_eq!(again, run);
    let second = report::write(&again, &folder.path().join("again")).unwrap();
    assert_eq!(std::fs::read_to_string(second.page).unwrap(), page);
    std::fs::write(folder.path().join("run.json"), "{}").unwrap();
    assert!(
        report::read(folder.path())
            .unwrap_err()
            .to_string()
            .contains("not a run")
    );
    assert!(report::read(&folder.path().join("nowhere")).is_err());
}
