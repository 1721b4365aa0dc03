//! Compiles and runs a loop of the library alone, as written in C under `tests/benches`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bench::machine::output;
use crate::bench::wrk::{Counted, counted};
use crate::error::HarnessError;
use crate::process::{OwnedProcess, Spawn};
use crate::shipped::repository;

const WITHIN: Duration = Duration::from_secs(120);

/// What was counted, and the loop's own processor time, in microseconds for each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Looped {
    /// How many, and how long each took.
    pub counted: Counted,
    /// Processor time for each.
    pub cpu: f64,
}

/// Compiles a source of the repository into this folder; the program.
///
/// # Errors
///
/// [`HarnessError::Exited`] with the compiler's words.
pub fn compile(source: &str, folder: &Path) -> Result<PathBuf, HarnessError> {
    let program = folder.join("loop");
    let flags = output("krb5-config", &["--cflags", "--libs", "gssapi"])?;
    run(Spawn::new("cc", folder)
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(repository().join(source))
        .args(flags.split_whitespace()))?;
    Ok(program)
}

/// Runs a program to its end; what it printed.
///
/// # Errors
///
/// [`HarnessError::Exited`] where it failed.
pub fn run(program: Spawn) -> Result<String, HarnessError> {
    let mut process = OwnedProcess::start(program)?;
    let status = process.wait_exit(WITHIN)?;
    if status.success() {
        return Ok(process.log());
    }
    Err(HarnessError::Exited {
        name: process.name().to_owned(),
        status,
        log: process.log_tail(),
    })
}

/// Reads the line that begins so.
///
/// # Errors
///
/// [`HarnessError::UnexpectedAnswer`] where there is none, or something was not counted as it should.
pub fn looped(log: &str, prefix: &str) -> Result<Looped, HarnessError> {
    let read = || {
        let mut lines = log.lines().filter_map(|line| line.strip_prefix(prefix));
        let (line, counted) = lines.find_map(|line| Some((line, counted(line)?)))?;
        let cpu: f64 = line.split("cpu=").nth(1)?.trim().parse().ok()?;
        Some(Looped {
            counted,
            cpu: cpu / counted.requests as f64,
        })
    };
    read().ok_or_else(|| HarnessError::UnexpectedAnswer {
        what: "the raw loop".to_owned(),
        answer: log.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::looped;

    const LOG: &str = "tickets counted requests=2 microseconds=900 refused=0 broken=0 p50=1 p90=2 p99=3 p999=4 cpu=700\n\
                       tokens counted requests=10 microseconds=80 refused=0 broken=0 p50=5 p90=6 p99=7 p999=8 cpu=50\n";

    #[test]
    fn each_line_of_a_loop_is_read_with_its_processor_time_for_each() {
        let [tickets, tokens] = ["tickets ", "tokens "].map(|prefix| looped(LOG, prefix).unwrap());
        assert_eq!((tickets.counted.requests, tickets.cpu), (2, 350.0));
        assert_eq!((tokens.counted.latency.p999, tokens.cpu), (8, 5.0));
        assert!(looped(LOG, "others ").is_err());
    }
}
