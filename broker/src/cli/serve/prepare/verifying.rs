//! Prepares what verifies tokens that are shown in place of tickets: whose are taken, by which keys.

use std::sync::Arc;

use crate::config::{Config, KeySource};
use crate::metrics::Metrics;
use crate::problem::{Problem, Problems};
use crate::subject_token::{Issuers, KeyTerms, Verifiers};

/// Whose tokens are taken. `own_keys` are this broker's, where it has some.
pub(super) fn issuers(config: &Config, own_keys: Option<String>) -> Result<Arc<Issuers>, Problems> {
    let terms =
        |sources: &[KeySource]| -> Vec<KeyTerms> { sources.iter().map(|source| source.terms.clone()).collect() };
    let issuers = Issuers::new(
        config.issuer(),
        config.policy_file(),
        config.policy(),
        own_keys,
        &terms(config.key_sources()),
        &terms(config.feed_sources()),
    );
    issuers.map(Arc::new).map_err(|errors| {
        let mut problems = Problems::default();
        for problem in errors.0 {
            let problem = format!("{}: {}", problem.field, problem.problem);
            problems.note("delegation.keys", problem, "correct it");
        }
        problems
    })
}

/// Starts the threads.
pub(super) fn start(issuers: &Arc<Issuers>, threads: usize, metrics: &Metrics) -> Result<Verifiers, Problem> {
    Verifiers::start(issuers, threads, metrics.verify_queue()).map_err(|error| super::no_threads(&error))
}
