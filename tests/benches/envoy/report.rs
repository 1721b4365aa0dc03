//! Writes what came out: always into `target/bench/`, and into the documents where the run was a full one.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::goals::judge;
use kerbridge_tests::bench::record::{Growth, Run, envoy_file, folder, growth_file, read, write};
use kerbridge_tests::bench::{chart, page};
use kerbridge_tests::shipped::repository;

use crate::say;
use crate::settings::Settings;

/// The drawings, as the document names them.
const COSTS: &str = "performance-cost.svg";
const GROWTH: &str = "performance-growth.svg";

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

/// Writes the documents anew from the last full run.
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
    let document = repository().join(page::FILE);
    let failed = |source| HarnessError::io(format!("read or write {}", page::FILE), source);
    let text = std::fs::read_to_string(&document).map_err(failed)?;
    std::fs::write(&document, page::fill(&text, run, growth)?).map_err(failed)?;
    let drawing = |name: &str, svg: String| std::fs::write(repository().join("docs").join(name), svg).map_err(failed);
    if let Some(run) = run {
        drawing(COSTS, chart::costs(run))?;
    }
    drawing(GROWTH, chart::growth(run, growth))?;
    say("written: docs/performance.md and its drawings");
    Ok(())
}
