//! Writes what came out: always into `target/bench/`, and into the documents where the run was a full one.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::exchange::{ExchangeRun, exchange_file};
use kerbridge_tests::bench::goals::judge_exchange;
use kerbridge_tests::bench::page;
use kerbridge_tests::bench::program::say;
use kerbridge_tests::bench::record::{folder, read, write};
use kerbridge_tests::bench::settings::Settings;

/// Keeps a run, shows it, and publishes it where it is a full one.
pub(crate) fn finish(settings: &Settings, run: &ExchangeRun) -> Result<(), HarnessError> {
    show(run);
    if !settings.is_full() {
        write(&folder().join("part-exchange.json"), run)?;
        say("a part of a full run: it is in target/bench/part-exchange.json, the documents stay as they are");
        return Ok(());
    }
    write(&exchange_file(), run)?;
    publish(run)
}

/// Writes the documents anew from the last full run.
pub(crate) fn publish_last() -> Result<(), HarnessError> {
    read(&exchange_file())?.as_ref().map_or(Ok(()), publish)
}

fn publish(run: &ExchangeRun) -> Result<(), HarnessError> {
    page::publish(None, None, Some(run))?;
    say("written: docs/performance.md and its drawings");
    Ok(())
}

fn show(run: &ExchangeRun) {
    say("");
    for setup in &run.setups {
        let summary = setup.measured.summary;
        say(&format!(
            "{:<40} {:7.1} µs minimum {:7.1} median {:8.0} exchanges a second  p50 {:.0} p99 {:.0}",
            setup.title,
            summary.cpu_minimum,
            summary.cpu_median,
            summary.requests_median,
            summary.latency_p50,
            summary.latency_p99
        ));
    }
    say("");
    for goal in judge_exchange(run) {
        let verdict = if goal.met { "met   " } else { "missed" };
        say(&format!("{verdict} {}: {}", goal.wanted, goal.measured));
    }
}
