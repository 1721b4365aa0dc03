//! What is handed out: Debian packages, manual pages and a release, held to the tools that judge such things and to their own promises.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails in a test ends the test"
)]

mod debian;
mod installed;
mod manual;
mod release;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_tests::broker::find_kerbridge;
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::shipped::{self, repository};

/// Runs a program to its end; whether it succeeded, and what it printed, both ways.
fn run<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let spawn = Spawn::new(program, folder.path()).name("run").args(args);
    let mut process = OwnedProcess::start(spawn).unwrap();
    let status = process.wait_exit(Duration::from_secs(300)).unwrap();
    (status.success(), process.log())
}

/// What it printed, which must have succeeded.
fn good<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> String {
    let (success, printed) = run(program, args);
    assert!(success, "{printed}");
    printed
}

/// The lab of this build.
fn lab() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kerbridge-lab"))
}

/// A program without its symbols, as releases have it: the tests' own are ten times as large.
fn stripped(program: &Path, folder: &Path) -> PathBuf {
    let to = folder.join(program.file_name().unwrap());
    good("strip", [OsStr::new("-o"), to.as_os_str(), program.as_os_str()]);
    to
}

/// Makes what a script of `broker/package` makes of broker, module and lab, as somebody whose files have these rights.
fn made(script: &str, folder: &Path, umask: &str) -> Vec<PathBuf> {
    let programs = tempfile::tempdir().unwrap();
    let broker = stripped(&find_kerbridge().unwrap(), programs.path());
    let (module, lab) = (shipped::module().unwrap(), stripped(&lab(), programs.path()));
    let script = repository().join("broker/package").join(script);
    let with_umask = ["-c", r#"umask "$0" && exec bash "$@""#, umask].map(PathBuf::from);
    let of = [script, broker, module, lab, folder.to_owned()];
    let printed = good("bash", with_umask.into_iter().chain(of));
    printed.lines().map(PathBuf::from).collect()
}
