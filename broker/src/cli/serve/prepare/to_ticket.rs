//! Prepares the trade of tokens for tickets: who asks the KDC.

use std::sync::Arc;

use kerbridge_gss::Delegator;

use crate::config::{Config, DelegationConfig};
use crate::delegation::kdc::{GssKdc, Kdc};
use crate::delegation::{Delegation, LogIn, Parts};
use crate::exchange::TokenToTicket;
use crate::metrics::Metrics;
use crate::problem::{Problem, Problems};
use crate::revocation::Revocations;
use crate::subject_token::Issuers;

/// All that is needed before there are threads. The KDC is asked when the first ticket is wanted.
pub(super) fn parts(
    config: &Config,
    delegation: &DelegationConfig,
    issuers: &Arc<Issuers>,
    metrics: &Metrics,
) -> Result<Parts, Problems> {
    let log_in = Arc::new(LogIn::new(delegation.keytab.clone()));
    let own: Arc<[_]> = delegation.own_keys(config.kerberos()).into();
    let mut kdcs: Vec<Box<dyn FnOnce() -> Box<dyn Kdc> + Send>> = Vec::new();
    for _ in 0..delegation.limits.workers {
        let delegator = Delegator::new(&delegation.principal, &delegation.keytab).map_err(|error| Problem {
            field: "delegation.principal".into(),
            problem: error.to_string(),
            remedy: "write the account as the KDC does".into(),
        })?;
        let (log_in, metrics) = (Arc::clone(&log_in), metrics.delegation().clone());
        let own = Arc::clone(&own);
        kdcs.push(Box::new(move || Box::new(GssKdc::new(delegator, own, log_in, metrics))));
    }
    Ok(Parts {
        kdcs,
        threads: config.limits().threads,
        issuers: Arc::clone(issuers),
        feeds: delegation.feeds.clone(),
        limits: delegation.limits,
        home: delegation.principal.realm().to_owned(),
        own: own.iter().map(|(principal, _)| principal.clone()).collect(),
        refused_targets: delegation.refused_targets.clone(),
        bindings: delegation.bindings.clone(),
        clock_skew: config.kerberos().clock_skew_seconds.into(),
        deadline: config.limits().deadline,
        metrics: metrics.delegation().clone(),
    })
}

/// Starts the threads.
pub(super) fn start(
    config: &Config,
    parts: Parts,
    revocations: Option<Arc<Revocations>>,
) -> Result<TokenToTicket, Problem> {
    Ok(TokenToTicket {
        policy: config.policy().clone(),
        realms: config.kerberos().realms.clone(),
        names: config.names().clone(),
        revocations,
        delegation: Delegation::start(parts).map_err(|error| super::no_threads(&error))?,
    })
}
