//! Runs a tool to its end, and says what it printed where it fails; writes the files that tools and servers read.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::error::HarnessError;

/// Runs it with this input, which is shorter than a pipe holds (64 KiB), so that this never waits for it; one that ended without
/// reading it says why in its output.
pub(crate) fn run(name: &str, command: &mut Command, input: &[u8]) -> Result<Output, HarnessError> {
    let failed = |source| HarnessError::io(format!("run {name}"), source);
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let log = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        return Err(HarnessError::Exited {
            name: name.to_owned(),
            status: output.status,
            log: String::from_utf8_lossy(&log).trim_end().to_owned(),
        });
    }
    written.map_err(failed)?;
    Ok(output)
}

/// Writes a file whose folder is closed to others.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), HarnessError> {
    std::fs::write(path, bytes).map_err(|source| HarnessError::io(format!("write {}", path.display()), source))
}
