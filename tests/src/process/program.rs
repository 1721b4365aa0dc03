//! Finds the programs of the machine, and copies one so that it can be started.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::HarnessError;

/// Copies a program so that it can be started at once. `cp` does it: a file that this process had open to write would be so
/// in whatever another thread starts meanwhile, and Linux runs no file that anybody may write to (`ETXTBSY`).
///
/// # Errors
///
/// [`HarnessError::Io`], also where `cp` fails.
pub fn copy_program(from: &Path, to: &Path) -> Result<(), HarnessError> {
    let action = "copy a program";
    let copied = std::process::Command::new("cp").arg("--").args([from, to]).status();
    let status = copied.map_err(|source| HarnessError::io(action, source))?;
    let failed = || HarnessError::io(action, std::io::Error::other(format!("cp ended with {status}")));
    status.success().then_some(()).ok_or_else(failed)
}

/// The path of a program: itself where it has a slash, else from PATH or one of the sbin folders.
///
/// # Errors
///
/// [`HarnessError::ProgramMissing`].
pub fn find_program(program: impl AsRef<OsStr>) -> Result<PathBuf, HarnessError> {
    let program = Path::new(program.as_ref());
    let missing = || HarnessError::ProgramMissing {
        program: program.display().to_string(),
        remedy: "run `make setup`",
    };
    if program.components().count() > 1 {
        return if program.is_file() {
            Ok(program.to_owned())
        } else {
            Err(missing())
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(missing)
}
