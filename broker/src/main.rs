//! Hands the command line over while the process still has one thread.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kerbridge_broker::cli::run(std::env::args_os())
}
