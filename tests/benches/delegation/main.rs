//! Measures what it costs to reach a service that takes Kerberos only by a token, beside a client that goes there with its own
//! ticket and beside the library alone, and how often the KDC is asked; writes the figures into the documents.
//!
//! Run by `make bench-delegation`. Everything that can be tested without a machine to itself is in `kerbridge_tests::bench`.
//!
//! - [`place`] is the KDC, the broker, Envoy and Apache, with their users and what these show.
//! - [`contest`] measures the ways in turn, [`raw`] is the one that is the library alone (`init.c`).
//! - [`report`] writes what came out.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::delegation::DelegationRun;
use kerbridge_tests::bench::machine::Machine;
use kerbridge_tests::bench::processor::pin;
use kerbridge_tests::bench::program;
use kerbridge_tests::bench::settings::Settings;

mod contest;
mod place;
mod raw;
mod report;

/// Requests that are under way at once: half as many as the Apache of the tests serves, so that it closes no connection to have room.
const CONNECTIONS: u32 = 32;
/// Users in turn whose tickets are there.
const USERS: u32 = 50;
/// Users of one round who come for the first time.
const NEW_USERS: u32 = 100;

fn main() -> ExitCode {
    program::main(run, report::publish_last)
}

fn run() -> Result<(), HarnessError> {
    let settings = Settings::from_environment(CONNECTIONS)?;
    let mut place = place::Place::start(&settings)?;
    pin(std::process::id(), settings.cores.load)?;
    let ways = contest::run(&settings, &mut place)?;
    let run = DelegationRun {
        machine: Machine::here()?,
        versions: contest::versions(),
        rounds: settings.rounds,
        requests: settings.exchanges,
        users: USERS,
        new_users: NEW_USERS,
        connections: settings.connections,
        ways,
    };
    report::finish(&settings, &run)
}
