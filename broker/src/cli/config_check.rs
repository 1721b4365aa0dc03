//! Reports all that is wrong with the configuration, as `serve` would find it, but for what is in use at the moment; what is
//! only doubtful goes to standard error and changes nothing.

use super::{Check, Failure, output};
use crate::config::{Config, Draft, Surroundings};

pub(super) fn run(check: &Check) -> Result<(), Failure> {
    let path = &check.file.config;
    let mut draft = Draft::read(path, &Surroundings::of_process());
    draft.check_stored();
    let config = draft.finish();
    for warning in config.iter().flat_map(Config::warnings) {
        output::complain(format_args!("warning: {warning}"));
    }
    output::checked(path, config.map(drop), check.output)
}
