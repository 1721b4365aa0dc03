//! Counts the native gate's instructions for one request while its configuration grows.
//!
//! The program runs itself under valgrind's callgrind, once for each operation and size, and only [`measured`] is counted:
//! what was done to get there is not. Signatures are taken as good: in the module the host checks them, and a check would
//! hide everything else. The counts go to `target/bench/growth.json`, which `make bench` shows in the documents.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;

use kerbridge_gate::{Gate, Step, UnixTime};
use serde_json::{Value, json};

mod subject;

use subject::{NOW, Request, Subject};

/// Requests of each count.
const REQUESTS: usize = 1000;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dimension {
    Rules,
    Issuers,
    CachedTokens,
    Revocations,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// A known token, by the few headers that it takes.
    Cached,
    /// A token that nobody remembers.
    Verified,
}

/// One for each curve.
const CURVES: [(Dimension, Operation); 7] = [
    (Dimension::Rules, Operation::Cached),
    (Dimension::Rules, Operation::Verified),
    (Dimension::Issuers, Operation::Cached),
    (Dimension::Issuers, Operation::Verified),
    (Dimension::CachedTokens, Operation::Cached),
    (Dimension::Revocations, Operation::Cached),
    (Dimension::Revocations, Operation::Verified),
];

impl Dimension {
    const fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Issuers => "issuers",
            Self::CachedTokens => "cached tokens",
            Self::Revocations => "revocations",
        }
    }

    const fn sizes(self) -> &'static [usize] {
        match self {
            Self::Rules => &[1, 10, 100, 1_000],
            Self::Issuers => &[1, 10, 100],
            Self::CachedTokens => &[1, 100, 10_000, 100_000],
            Self::Revocations => &[0, 1_000, 100_000, 1_000_000],
        }
    }
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Verified => "verified",
        }
    }
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let outcome = match words.as_slice() {
        [curve, size] => count_here(curve, size),
        _ => count_all(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nothing is left to do where even this cannot be said.
            writeln!(std::io::stderr(), "growth: {problem}").unwrap_or(());
            ExitCode::FAILURE
        }
    }
}

/// Does one point's work, for callgrind to count.
fn count_here(curve: &str, size: &str) -> Result<(), String> {
    let at = usize::from_str(curve).map_err(|_not_a_number| "not a curve".to_owned())?;
    let (dimension, operation) = *CURVES.get(at).ok_or("not a curve")?;
    let size = usize::from_str(size).map_err(|_not_a_number| "not a size".to_owned())?;
    let mut subject = match dimension {
        Dimension::Rules => Subject::new(size, 1, 1, None, operation == Operation::Cached),
        Dimension::Issuers => Subject::new(1, size, 1, None, operation == Operation::Cached),
        Dimension::CachedTokens => Subject::new(1, 1, size, None, true),
        Dimension::Revocations => Subject::new(1, 1, 1, Some(size), operation == Operation::Cached),
    }?;
    let now = UnixTime::from_seconds(NOW).ok_or("not a time")?;
    let passed = measured(&mut subject.gate, &subject.requests, operation, now);
    if passed == REQUESTS {
        Ok(())
    } else {
        Err(format!("{passed} of {REQUESTS} requests passed"))
    }
}

/// All that is counted. Callgrind finds it by its name.
#[inline(never)]
fn measured(gate: &mut Gate, requests: &[Request], operation: Operation, now: UnixTime) -> usize {
    let mut passed = 0_usize;
    // A stride that is coprime to every number of tokens, so that neighbours in time are not neighbours in memory.
    let order = (0..).step_by(7919).map(|at: usize| at.checked_rem(requests.len()));
    for request in order.take(REQUESTS).flatten().filter_map(|at| requests.get(at)) {
        let step = match operation {
            Operation::Cached => gate
                .recall(now, request.authorization())
                .and_then(|recalled| gate.admit_warm(now, &request.warm(), recalled)),
            Operation::Verified => Some(match gate.admit(now, &request.head()) {
                Step::Verify(_, pending) => pending.resume(gate, now, true),
                other @ (Step::Continue(..) | Step::Respond(_) | Step::Call(..) | Step::Wait(_)) => other,
            }),
        };
        if matches!(black_box(step), Some(Step::Continue(..))) {
            passed = passed.saturating_add(1);
        }
    }
    passed
}

/// Counts every point of every curve.
fn count_all() -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let tool = run(Command::new("valgrind").arg("--version"))?;
    let mut curves = Vec::new();
    for (at, (dimension, operation)) in CURVES.iter().enumerate() {
        let mut points = Vec::new();
        for size in dimension.sizes() {
            let instructions = count(&own, at, *size)? as f64 / REQUESTS as f64;
            say(&format!(
                "{:<9} {:>9} {:<14} {instructions:>9.0} instructions",
                operation.name(),
                size,
                dimension.name()
            ));
            points.push(json!({"size": size, "instructions": instructions}));
        }
        curves.push(json!({"dimension": dimension.name(), "operation": operation.name(), "points": points}));
    }
    write(&json!({"tool": format!("callgrind ({})", tool.trim()), "curves": curves}))
}

/// What the set-up leaves in glibc's bins would be counted with the requests: with every block in the thread's own cache
/// an allocation costs the same whatever came before.
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.tcache_max=65536:glibc.malloc.tcache_count=1000",
);

/// Instructions of one point.
fn count(own: &Path, curve: usize, size: usize) -> Result<u64, String> {
    let output = run(Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=growth::measured*",
        ])
        .arg(own)
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .args([curve.to_string(), size.to_string()]))?;
    output
        .lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .filter(|collected| *collected > 0)
        .ok_or_else(|| format!("callgrind counted nothing; is the program stripped?\n{output}"))
}

/// Runs a program to its end; what it printed, on both streams.
fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program} does not run: {error}; `make bench-growth` installs it"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{program}: {}\n{text}", output.status))
    }
}

fn write(result: &Value) -> Result<(), String> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench"));
    let text = serde_json::to_string_pretty(result).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join("growth.json"), text + "\n"))
        .map_err(|error| format!("growth.json cannot be written: {error}"))
}

/// One line for the person who waits.
fn say(line: &str) {
    // A count whose output nobody reads still counts.
    writeln!(std::io::stdout(), "{line}").unwrap_or(());
}
