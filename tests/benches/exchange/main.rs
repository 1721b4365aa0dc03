//! Measures what a ticket costs the broker, beside the library alone and beside Apache with mod_auth_gssapi, and watches what
//! the broker holds after many; writes the figures into the documents.
//!
//! Run by `make bench-exchange`. Everything that can be tested without a machine to itself is in `kerbridge_tests::bench`.
//!
//! - [`realm`] is the KDC, and the tickets that all acceptors are shown.
//! - [`contest`] measures the acceptors in turn, [`raw`] is the one that is the library alone (`accept.c`).
//! - [`watch`] lets brokers take many tickets and looks at their memory.
//! - [`report`] writes what came out.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::exchange::ExchangeRun;
use kerbridge_tests::bench::machine::Machine;
use kerbridge_tests::bench::processor::pin;
use kerbridge_tests::bench::program;
use kerbridge_tests::bench::settings::Settings;

mod contest;
mod raw;
mod realm;
mod report;
mod watch;

/// Requests that are under way at once: half as many as the Apache of the tests serves, so that it closes no connection to have room.
const CONNECTIONS: u32 = 32;

fn main() -> ExitCode {
    program::main(run, report::publish_last)
}

fn run() -> Result<(), HarnessError> {
    let settings = Settings::from_environment(CONNECTIONS)?;
    pin(std::process::id(), settings.cores.load)?;
    let realm = realm::Realm::start(settings.cores.measured)?;
    let (versions, setups) = contest::run(&settings, &realm)?;
    let run = ExchangeRun {
        machine: Machine::here()?,
        versions,
        rounds: settings.rounds,
        exchanges: settings.exchanges,
        connections: settings.connections,
        setups,
        memory: watch::run(&settings, &realm)?,
    };
    report::finish(&settings, &run)
}
