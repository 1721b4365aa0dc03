//! Is what the programs of the benchmarks have in common: their words on the command line, and their lines for who waits.

use std::io::Write as _;
use std::process::ExitCode;

use crate::error::HarnessError;

/// Measures with `run`, or with the word `page` writes the documents anew from the last full run.
pub fn main(
    run: impl FnOnce() -> Result<(), HarnessError>,
    publish_last: impl FnOnce() -> Result<(), HarnessError>,
) -> ExitCode {
    // Cargo adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let outcome = match words.next().as_deref() {
        None => run(),
        Some("page") => publish_last(),
        Some(other) => Err(HarnessError::UnexpectedAnswer {
            what: "the word `page` or none".to_owned(),
            answer: other.to_owned(),
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where even this cannot be said.
            writeln!(std::io::stderr(), "bench: {error}").unwrap_or(());
            ExitCode::FAILURE
        }
    }
}

/// One line for the person who waits.
pub fn say(line: &str) {
    // A benchmark whose output nobody reads still measures.
    writeln!(std::io::stdout(), "{line}").unwrap_or(());
}
