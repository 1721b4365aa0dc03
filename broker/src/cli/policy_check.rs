//! Reports all that is wrong with the policy file, and what of it is of no use.

use clap::Args;

use super::{Check, Failure, output};
use crate::config::PolicyConfig;
use crate::problem::Problems;

#[derive(Debug, Args)]
pub(super) struct PolicyCheck {
    #[command(flatten)]
    check: Check,
    /// Lines that nothing ever uses are problems too, and not only warnings on standard error.
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(arguments: &PolicyCheck) -> Result<(), Failure> {
    let PolicyCheck { check, strict } = arguments;
    let path = &check.file.config;
    let outcome = PolicyConfig::load(path).and_then(|config| {
        // Neither is it a mistake, so that nothing refuses it, nor is it to be forgotten.
        warn(&config.cautions());
        useful(&config.doubts(), *strict)
    });
    output::checked(path, outcome, check.output)
}

/// What is of no use is an error, or said.
fn useful(doubts: &Problems, strict: bool) -> Result<(), Problems> {
    if strict && !doubts.is_empty() {
        return Err(doubts.clone());
    }
    warn(doubts);
    Ok(())
}

fn warn(about: &Problems) {
    for found in about.iter() {
        output::complain(format_args!("warning: {found}"));
    }
}
