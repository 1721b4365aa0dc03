//! Writes what came out: always into `target/bench/`, and into the documents where the run was a full one.

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::delegation::{DelegationRun, Shares, delegation_file};
use kerbridge_tests::bench::page;
use kerbridge_tests::bench::program::say;
use kerbridge_tests::bench::record::{folder, read, write};
use kerbridge_tests::bench::settings::Settings;

/// Keeps a run, shows it, and publishes it where it is a full one.
pub(crate) fn finish(settings: &Settings, run: &DelegationRun) -> Result<(), HarnessError> {
    show(run);
    if !settings.is_full() {
        write(&folder().join("part-delegation.json"), run)?;
        say("a part of a full run: it is in target/bench/part-delegation.json, the documents stay as they are");
        return Ok(());
    }
    write(&delegation_file(), run)?;
    publish(run)
}

/// Writes the documents anew from the last full run.
pub(crate) fn publish_last() -> Result<(), HarnessError> {
    read(&delegation_file())?.as_ref().map_or(Ok(()), publish)
}

fn publish(run: &DelegationRun) -> Result<(), HarnessError> {
    page::publish_delegation(run)?;
    say("written: docs/performance.md");
    Ok(())
}

fn show(run: &DelegationRun) {
    say("");
    for way in &run.ways {
        let summary = way.measured.summary;
        say(&format!(
            "{:<44} {:7.1} µs minimum {:7.1} median (Envoy {:.0}, broker or loop {:.0}, Apache {:.0}, KDC {:.0})  {:7.0} a second  p50 {:.0} p99 {:.0}",
            way.title,
            summary.cpu_minimum,
            summary.cpu_median,
            way.share(|shares: &Shares| shares.envoy),
            way.share(|shares: &Shares| shares.broker),
            way.share(|shares: &Shares| shares.service),
            way.share(|shares: &Shares| shares.kdc),
            summary.requests_median,
            summary.latency_p50,
            summary.latency_p99
        ));
    }
}
