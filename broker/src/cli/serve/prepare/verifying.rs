//! Prepares what verifies tokens that are shown in place of tickets: whose are taken, by which keys.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::subject_token::{Issuers, Verifiers};

/// Starts the threads.
pub(super) fn start(issuers: &Arc<Issuers>, threads: usize, metrics: &Metrics) -> Result<Verifiers, Problem> {
    Verifiers::start(issuers, threads, metrics.verify_queue()).map_err(|error| super::no_threads(&error))
}
