//! Measures kerbridge in a real Envoy against what Envoy has of its own, and writes the figures into the documents.
//!
//! Run by `make bench`. Everything that can be tested without a machine to itself is in `kerbridge_tests::bench`.
//!
//! - [`bootstrap`] builds configurations of Envoy, [`kerbridge`] those of our filter.
//! - [`service`] is what Envoy asks: the responder of ext_authz, and the revocation [`feed`].
//! - [`plan`] says which Envoys are measured, [`measure`] measures them in turn, [`report`] writes what came out.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::program;
use kerbridge_tests::bench::settings::Settings;

mod bootstrap;
mod feed;
mod kerbridge;
mod measure;
mod plan;
mod report;
mod service;

/// Requests that are under way at once.
const CONNECTIONS: u32 = 16;

fn main() -> ExitCode {
    program::main(run, report::publish_last)
}

fn run() -> Result<(), HarnessError> {
    let settings = Settings::from_environment(CONNECTIONS)?;
    let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create a folder for the benchmark", source))?;
    let mut bench = measure::Bench::new(&settings, folder.path())?;
    let world = plan::World::new(folder.path())?;
    let setups = bench.setups(&world)?;
    let curves = bench.curves(&world)?;
    report::finish(&settings, &bench.run(setups, curves)?)
}
