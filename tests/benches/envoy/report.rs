//! Writes what came out: always into `target/bench/`, and into the documents where the run was a full one.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::goals::judge;
use kerbridge_tests::bench::page;
use kerbridge_tests::bench::program::say;
use kerbridge_tests::bench::record::{Growth, Run, envoy_file, folder, growth_file, read, write};
use kerbridge_tests::bench::settings::Settings;

/// Keeps a run, shows it, and publishes it where it is a full one.
pub(crate) fn finish(settings: &Settings, run: &Run) -> Result<(), HarnessError> {
    if !settings.is_full() {
        write(&folder().join("part.json"), run)?;
        show(run, None);
        say("a part of a full run: it is in target/bench/part.json, the documents stay as they are");
        return Ok(());
    }
    write(&envoy_file(), run)?;
    let growth = read::<Growth>(&growth_file())?;
    show(run, growth.as_ref());
    publish(Some(run), growth.as_ref())
}

/// Writes the documents anew from the last full runs.
pub(crate) fn publish_last() -> Result<(), HarnessError> {
    publish(read(&envoy_file())?.as_ref(), read(&growth_file())?.as_ref())
}

fn show(run: &Run, growth: Option<&Growth>) {
    say("");
    for setup in &run.setups {
        let summary = setup.measured.summary;
        say(&format!(
            "{:<60} {:7.1} µs minimum {:7.1} median {:8.0} requests a second",
            setup.title, summary.cpu_minimum, summary.cpu_median, summary.requests_median
        ));
    }
    say("");
    for goal in judge(Some(run), growth) {
        let verdict = if goal.met { "met   " } else { "missed" };
        say(&format!("{verdict} {}: {}", goal.wanted, goal.measured));
    }
}

fn publish(run: Option<&Run>, growth: Option<&Growth>) -> Result<(), HarnessError> {
    page::publish(run, growth, None)?;
    say("written: docs/performance.md and its drawings");
    Ok(())
}
