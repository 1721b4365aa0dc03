//! Prints a completion script for a shell.

use clap::Args;
use clap_complete::Shell;

use super::{Failure, exit, output};

#[derive(Debug, Args)]
pub(super) struct Completion {
    /// For which shell.
    shell: Shell,
}

pub(super) fn run(completion: &Completion) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completion.shell, &mut exit::command(), "kerbridge", &mut script);
    output::print(&String::from_utf8(script).map_err(|_| Failure::Running)?)
}
