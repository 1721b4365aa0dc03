//! Writes a run as JUnit XML, as build servers read it: a case for each scenario, what was not seen as skipped.

use std::fmt::Write as _;

use super::markup::Markup;
use super::model::{Outcome, Run, Scenario, Tally};
use super::words;

/// The XML.
#[must_use]
pub fn junit(run: &Run) -> String {
    let Tally { failed, unseen, .. } = run.tally();
    let [tests, failures, skipped] = [run.scenarios.len(), failed, unseen].map(|number| number.to_string());
    let (time, began) = (
        seconds(run.duration_ms),
        words::moment(run.started).replace(' ', "T").replace("TUTC", "Z"),
    );
    let totals = [
        ("tests", tests.as_str()),
        ("failures", &failures),
        ("errors", "0"),
        ("skipped", &skipped),
        ("time", &time),
    ];
    let mut out = Markup::beginning("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all: Vec<_> = [("name", "kerbridge-lab")].into_iter().chain(totals).collect();
    let suite: Vec<_> = [("name", run.title.as_str()), ("timestamp", &began)]
        .into_iter()
        .chain(totals)
        .collect();
    out.within("testsuites", &all, |suites| {
        suites.line();
        suites.within("testsuite", &suite, |suite| {
            suite.line();
            suite.within("properties", &[], |properties| {
                let brokers = run.setup.brokers.to_string();
                for (name, value) in [
                    ("kdc", words::kdc(run.setup.kdc)),
                    ("brokers", &brokers),
                    ("store", words::store(run.setup.store)),
                ] {
                    properties.empty("property", &[("name", name), ("value", value)]);
                }
                if let Some(broken) = &run.setup.broken {
                    properties.empty("property", &[("name", "broken on purpose"), ("value", broken)]);
                }
                for (name, value) in &run.setup.versions {
                    properties.empty("property", &[("name", name), ("value", value)]);
                }
            });
            suite.line();
            for scenario in &run.scenarios {
                case(suite, scenario);
                suite.line();
            }
        });
        suites.line();
    });
    out.line();
    out.finish()
}

fn case(suite: &mut Markup, scenario: &Scenario) {
    let time = seconds(scenario.duration_ms);
    let attributes = [
        ("classname", "kerbridge-lab"),
        ("name", scenario.name.as_str()),
        ("time", &time),
    ];
    suite.within("testcase", &attributes, |case| {
        match &scenario.outcome {
            Outcome::Passed => {}
            Outcome::Failed => {
                let (first, all) = what_did_not_hold(scenario);
                case.element("failure", &[("type", "did not hold"), ("message", &first)], &all);
            }
            Outcome::NotSeen { why, remedy } => case.empty("skipped", &[("message", &format!("{why}; {remedy}"))]),
        }
        case.element("system-out", &[], &in_steps(scenario));
    });
}

/// The first step that did not hold, and all of them with their remedies.
fn what_did_not_hold(scenario: &Scenario) -> (String, String) {
    let mut all = String::new();
    let mut first = String::new();
    for step in scenario.steps.iter().filter(|step| !step.held) {
        if first.is_empty() {
            first = format!("{}: expected {}, seen {}", step.title, step.expected, step.seen);
        }
        // A string takes whatever is written to it.
        write!(
            all,
            "{}\n  expected: {}\n  seen: {}\n",
            step.title, step.expected, step.seen
        )
        .unwrap_or(());
        if let Some(cause) = &step.cause {
            writeln!(all, "  cause: {cause}").unwrap_or(());
        }
        if let Some(remedy) = &step.remedy {
            writeln!(all, "  remedy: {remedy}").unwrap_or(());
        }
    }
    (first, all)
}

fn in_steps(scenario: &Scenario) -> String {
    let mut text = format!("{}\n{}\n", scenario.title, scenario.purpose);
    for step in &scenario.steps {
        let held = if step.held { "held" } else { "did not hold" };
        // A string takes whatever is written to it.
        writeln!(text, "+{} {}: {held}", words::duration(step.at_ms), step.title).unwrap_or(());
    }
    text
}

/// Seconds with three places, as the schema wants them.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
