//! Reports all that is wrong with the configuration, as `serve` would find it.

use super::{Check, Failure, output};
use crate::config::{Config, Surroundings};

pub(super) fn run(check: &Check) -> Result<(), Failure> {
    let path = &check.file.config;
    let outcome = Config::load(path, &Surroundings::of_process()).map(drop);
    output::checked(path, outcome, check.output)
}
