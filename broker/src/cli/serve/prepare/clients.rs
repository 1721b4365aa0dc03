//! Prepares what clients that have keys are known by.

use std::sync::Arc;

use crate::client_assertion::AssertingClients;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::store::Store;
use crate::subject_token::{Issuers, Verifiers};

/// Threads that verify assertions: one costs less than the store's answer behind it.
const THREADS: usize = 1;

/// Starts what verifies their assertions, and says whose keys are to be followed; nothing where there are no such clients.
pub(super) fn start(
    config: &Config,
    store: &Arc<dyn Store>,
    metrics: &Metrics,
) -> Result<Option<(AssertingClients, Arc<Issuers>)>, Problem> {
    let Some(issuers) = config.client_issuers()?.map(Arc::new) else {
        return Ok(None);
    };
    let verifiers = Verifiers::start(&issuers, THREADS, metrics.verify_queue());
    let clients = AssertingClients {
        verifiers: verifiers.map_err(|error| super::no_threads(&error))?,
        store: Arc::clone(store),
    };
    Ok(Some((clients, issuers)))
}
