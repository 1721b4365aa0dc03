//! Reports all that is wrong with the configuration, as `serve` would find it, but for what is in use at the moment.

use super::{Check, Failure, output};
use crate::config::{Draft, Surroundings};

pub(super) fn run(check: &Check) -> Result<(), Failure> {
    let path = &check.file.config;
    let mut draft = Draft::read(path, &Surroundings::of_process());
    draft.check_stored_keys();
    output::checked(path, draft.finish().map(drop), check.output)
}
