//! Finds all that can be wrong before the broker says that it listens, in as few goes as it can.
//!
//! First everything is looked at that can be looked at without making or taking anything, even where the configuration
//! has problems, as far as its fields could be read. Only where nothing is wrong are the state directory, krb5.conf, the
//! keys and the addresses made and taken; what fails then is again said all at once.

mod clients;
mod to_ticket;
mod to_token;
mod verifying;

use std::io;
use std::path::Path;
use std::sync::Arc;

use kerbridge_gss::environment::use_krb5_config;

use crate::audit;
use crate::config::{Config, Draft, Surroundings, prepare_state_dir};
use crate::exchange::{Exchange, TokenToToken};
use crate::failure_limit::FailureLimit;
use crate::keyring;
use crate::krb5_conf;
use crate::metrics::Metrics;
use crate::problem::{Problem, Problems};
use crate::server::{self, Bound, bind};
use crate::state_lock::StateLock;
use crate::store;
use crate::subject_token::{Feeds, Issuers};

/// All that the broker runs on.
pub(super) struct Prepared {
    pub(super) config: Config,
    /// What of its state it has made, though there was some.
    pub(super) begun_anew: Option<&'static str>,
    pub(super) exchange: Exchange,
    /// Whose keys are followed.
    pub(super) issuers: Arc<Issuers>,
    /// The clients whose keys are followed.
    pub(super) client_keys: Option<Arc<Issuers>>,
    pub(super) bound: Vec<Bound>,
    /// What libkrb5 runs under, to be looked at while it does.
    pub(super) krb5_conf: krb5_conf::Followed,
    /// Kept to the end of the process.
    pub(super) lock: StateLock,
    /// Where events go.
    pub(super) lines: audit::Lines,
}

/// Everything that may turn out to be wrong, in an order in which the environment is set before threads run and the
/// addresses are taken last.
pub(super) fn prepare(path: &Path) -> Result<Prepared, Problems> {
    let config = look(path)?;
    prepare_state_dir(config.state_dir())?;
    let lock = StateLock::take(config.state_dir())?;
    let krb5_conf = use_own_krb5_conf(&config)?;
    let mut problems = Problems::default();
    let metrics = Arc::new(Metrics::new());
    let begun_anew = match (config.keys(), config.database()) {
        (Some(_), None) => begins_anew(config.state_dir()),
        (Some(_), Some(_)) | (None, _) => None,
    };
    let to_token = match config.keys() {
        Some(keys) => to_token::parts(&config, keys, &metrics, &mut problems).map(Some),
        None => Some(None),
    };
    let own_keys = to_token.iter().flatten().map(|parts| parts.keyring.jwks()).next();
    // Without our own keys all would look wrong that is not.
    let issuers = match &to_token {
        Some(_) => problems.sift(config.issuers(own_keys).map(Arc::new)),
        None => None,
    };
    let to_ticket = match (config.delegation(), &issuers) {
        (Some(delegation), Some(issuers)) => problems
            .sift(to_ticket::parts(&config, delegation, issuers, &metrics))
            .map(Some),
        (None, _) => Some(None),
        (Some(_), None) => None,
    };
    let (Some(to_token), Some(to_ticket), Some(issuers)) = (to_token, to_ticket, issuers) else {
        return Err(problems);
    };
    let bound: Vec<Bound> = config
        .listeners()
        .filter_map(|listener| problems.sift(bind(listener).map_err(Problems::from)))
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let lines = audit::Lines::start(config.audit(), &metrics)?;
    let limits = config.limits();
    let revocations = to_token.as_ref().map(|parts| Arc::clone(&parts.revocations));
    let clients = match &to_token {
        Some(parts) => clients::start(&config, &parts.store, &metrics)?,
        None => None,
    };
    let (clients, client_keys) = clients.unzip();
    let to_token = to_token.map(|parts| parts.start(&config, &metrics)).transpose()?;
    let to_ticket = to_ticket
        .map(|parts| to_ticket::start(&config, parts, revocations))
        .transpose()?;
    let names = to_ticket.as_ref().map(|direction| direction.delegation.clone());
    let exchange = Exchange {
        trade: match &to_token {
            Some(_) => Some(TokenToToken {
                verifiers: verifying::start(&issuers, limits.threads, &metrics)?,
                feeds: match &names {
                    Some(delegation) => delegation.feeds(),
                    None => Feeds::start(config.feed_sources().to_vec(), Arc::clone(&issuers))
                        .map_err(|error| no_threads(&error))?,
                },
                names,
            }),
            None => None,
        },
        to_token,
        to_ticket,
        clients,
        failures: FailureLimit::new(limits.failures_per_minute, limits.shared_sources.clone()),
        metrics,
        audit: lines.audit(),
    };
    Ok(Prepared {
        config,
        begun_anew,
        exchange,
        issuers,
        client_keys,
        bound,
        krb5_conf,
        lock,
        lines,
    })
}

/// What will be made anew in a folder that is not new. Keys end with what they signed, so that nothing is good that should not be;
/// somebody has moved them away, as the documents say, or they were lost, which nobody must be left to find out.
fn begins_anew(state_dir: &Path) -> Option<&'static str> {
    let is_there = |name| state_dir.join(name).symlink_metadata().is_ok();
    (is_there(store::FILE) && !is_there(keyring::FILE))
        .then_some("there was a store and no keys: new ones were made, and every token and session of before ends")
}

/// Makes nothing and takes nothing.
fn look(path: &Path) -> Result<Config, Problems> {
    let mut draft = Draft::read(path, &Surroundings::of_process());
    // A database is asked once krb5.conf is chosen: to ask it takes threads, and libkrb5 wants to be told before there are any.
    if !matches!(draft.database(), Some(Some(_))) {
        draft.check_stored();
    }
    let outside: Vec<Problem> = draft
        .state_dir()
        .and_then(|state_dir| StateLock::look(state_dir).err())
        .into_iter()
        .chain(draft.listeners().filter_map(|listener| server::look(listener).err()))
        .collect();
    for problem in outside {
        draft.note(problem);
    }
    draft.finish()
}

fn use_own_krb5_conf(config: &Config) -> Result<krb5_conf::Followed, Problem> {
    let krb5_conf = krb5_conf::Followed::write(config.state_dir(), config.kerberos())?;
    use_krb5_config(&krb5_conf.files()).map_err(|error| Problem {
        field: "state_dir".into(),
        problem: error.to_string(),
        remedy: "name a folder without a colon in its path".into(),
    })?;
    Ok(krb5_conf)
}

fn no_threads(error: &io::Error) -> Problem {
    Problem {
        field: "limits.threads".into(),
        problem: error.to_string(),
        remedy: "choose fewer".into(),
    }
}
