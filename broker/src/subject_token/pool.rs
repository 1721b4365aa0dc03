//! Verifies tokens off the asynchronous threads, as many at once as there are threads for it.

use std::sync::Arc;

use kerbridge_wire::Reason;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Issuers, VerifiedToken, Verifier};
use crate::time::UnixTime;
use crate::work_pool::{NotDone, WorkPool};

/// Tokens that may wait for a thread.
const QUEUE: usize = 256;

/// Threads that verify tokens.
#[derive(Debug)]
pub struct Verifiers {
    pool: WorkPool<Verifier>,
    /// How many tokens came here.
    #[cfg(test)]
    pub(crate) asked: std::sync::atomic::AtomicU64,
}

/// Why a token was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotVerified {
    /// The word of the closed list.
    pub reason: Reason,
}

impl Verifiers {
    /// Starts so many threads.
    pub fn start(issuers: &Arc<Issuers>, threads: usize, depth: Gauge) -> std::io::Result<Self> {
        let workers = (0..threads).map(|_| {
            let issuers = Arc::clone(issuers);
            move || Verifier::new(issuers)
        });
        WorkPool::start("verify", workers.collect(), QUEUE, depth).map(|pool| Self {
            pool,
            #[cfg(test)]
            asked: Default::default(),
        })
    }

    /// Verifies a token at a time.
    pub async fn verify(
        &self,
        token: Zeroizing<String>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<VerifiedToken, NotVerified> {
        #[cfg(test)]
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let verified = self.pool.run(move |verifier| verifier.verify(token.as_bytes(), now));
        let outcome = match tokio::time::timeout_at(deadline, verified).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(NotDone::Full)) | Err(_) => Err(Reason::BrokerOverloaded),
            Ok(Err(NotDone::Panicked | NotDone::Ended)) => Err(Reason::Internal),
        };
        outcome.map_err(|reason| NotVerified { reason })
    }
}
