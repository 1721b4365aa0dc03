//! Finds all that can be wrong before the broker says that it listens, in as few goes as it can.
//!
//! First everything is looked at that can be looked at without making or taking anything, even where the configuration
//! has problems, as far as its fields could be read. Only where nothing is wrong are the state directory, krb5.conf, the
//! keys and the addresses made and taken; what fails then is again said all at once.

use std::path::Path;
use std::sync::Arc;

use kerbridge_gss::environment::use_krb5_config;
use kerbridge_gss::{AcquireError, AcquireErrorKind};

use crate::acceptor::{Acceptor, AcceptorPool, GssAcceptor, OpenedKeys};
use crate::config::{Config, Draft, Surroundings, prepare_state_dir};
use crate::continuation::Continuations;
use crate::exchange::Exchange;
use crate::failure_limit::FailureLimit;
use crate::identity::IdentityRules;
use crate::keyring::KeyRing;
use crate::krb5_conf;
use crate::metrics::Metrics;
use crate::problem::{Problem, Problems};
use crate::replay::ReplayGuard;
use crate::server::{self, Bound, bind};
use crate::state_lock::StateLock;
use crate::store::{EmbeddedStore, Store};

/// All that the broker runs on.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) exchange: Exchange,
    pub(super) bound: Vec<Bound>,
    /// What libkrb5 runs under, to be looked at while it does.
    pub(super) krb5_conf: krb5_conf::Followed,
    /// Kept to the end of the process.
    pub(super) lock: StateLock,
}

/// Everything that may turn out to be wrong, in an order in which the environment is set before threads run and the
/// addresses are taken last.
pub(super) fn prepare(path: &Path) -> Result<Prepared, Problems> {
    let config = look(path)?;
    prepare_state_dir(config.state_dir())?;
    let lock = StateLock::take(config.state_dir())?;
    let krb5_conf = use_own_krb5_conf(&config)?;
    let mut problems = Problems::default();
    let keyring = problems.sift(
        KeyRing::open_or_create(config.state_dir(), config.key_encryption_key())
            .map_err(|error| error.problem().into()),
    );
    let acceptors = problems.sift(acquire(&config));
    let metrics = Arc::new(Metrics::new());
    let replay = problems.sift(replay_guard(&config, &metrics).map_err(Problems::from));
    let (Some(keyring), Some(acceptors), Some(replay)) = (keyring, acceptors, replay) else {
        return Err(problems);
    };
    let bound: Vec<Bound> = config
        .listeners()
        .filter_map(|listener| problems.sift(bind(listener).map_err(Problems::from)))
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let limits = config.limits();
    let pool = AcceptorPool::start(acceptors, limits.queue, limits.deadline, metrics.queue_depth());
    let exchange = Exchange {
        issuer: config.issuer().to_owned(),
        policy: config.policy().clone(),
        rules: IdentityRules::of(&config),
        groups: config.groups().counted_by(metrics.directory()),
        keyring,
        acceptors: pool.map_err(|error| Problem {
            field: "limits.threads".into(),
            problem: error.to_string(),
            remedy: "choose fewer".into(),
        })?,
        failures: FailureLimit::new(limits.failures_per_minute, limits.shared_sources.clone()),
        replay,
        deadline: limits.deadline,
        continuations: Continuations::new(metrics.half_open(), metrics.pushed_out()),
        metrics,
    };
    Ok(Prepared {
        config,
        exchange,
        bound,
        krb5_conf,
        lock,
    })
}

/// Makes nothing and takes nothing.
fn look(path: &Path) -> Result<Config, Problems> {
    let mut draft = Draft::read(path, &Surroundings::of_process());
    draft.check_stored_keys();
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

/// With the store, or with nobody but MIT's cache where the configuration says so.
fn replay_guard(config: &Config, metrics: &Metrics) -> Result<ReplayGuard, Problem> {
    let limits = config.limits();
    let store: Option<Arc<dyn Store>> = match config.replay_store() {
        true => {
            let commits = metrics.store_commits();
            // All that the threads and their queue can hand on at once: a ticket that was taken in has been used up by then.
            let waiting = limits.queue.saturating_add(limits.threads);
            let store = EmbeddedStore::open(config.state_dir(), waiting, limits.deadline, commits)?;
            Some(Arc::new(store))
        }
        false => None,
    };
    Ok(ReplayGuard::new(store, config.kerberos().clock_skew_seconds))
}

/// One acceptor for each thread; what one thread cannot have, none can.
fn acquire(config: &Config) -> Result<Vec<Box<dyn Acceptor>>, Problems> {
    let mut acceptors: Vec<Box<dyn Acceptor>> = Vec::new();
    let opened = Arc::new(OpenedKeys::default());
    for _ in 0..config.limits().threads {
        let acceptor = GssAcceptor::acquire(
            config.kerberos(),
            config.channel_bindings(),
            config.names(),
            config.state_dir(),
            config.groups().reads_logon_info(),
            &opened,
        )
        .map_err(|refused| {
            let mut problems = Problems::default();
            for (index, error) in refused {
                problems.absorb("", acquire_problem(index, &error).into());
            }
            problems
        })?;
        acceptors.push(Box::new(acceptor));
    }
    Ok(acceptors)
}

fn acquire_problem(index: usize, error: &AcquireError) -> Problem {
    let field = match error.kind() {
        AcquireErrorKind::PrincipalAbsent { .. } => "principal",
        AcquireErrorKind::Keytab(_)
        | AcquireErrorKind::NoCredential
        | AcquireErrorKind::BadPath
        | AcquireErrorKind::Unguarded
        | AcquireErrorKind::Refused => "keytab",
    };
    Problem {
        field: format!("kerberos.acceptor[{index}].{field}"),
        problem: error.to_string(),
        remedy: "see what klist -k says of the keytab".into(),
    }
}
