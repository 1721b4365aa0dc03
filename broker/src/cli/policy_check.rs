//! Reports all that is wrong with the policy file.

use super::{Check, Failure, output};
use crate::config::PolicyConfig;

pub(super) fn run(check: &Check) -> Result<(), Failure> {
    let path = &check.file.config;
    output::checked(path, PolicyConfig::load(path).map(drop), check.output)
}
