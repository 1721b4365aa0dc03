//! Prepares the trade of tickets for tokens: keys, acceptors, the store.

use std::sync::Arc;

use kerbridge_gss::{AcquireError, AcquireErrorKind};

use crate::acceptor::{Acceptor, AcceptorPool, GssAcceptor, OpenedKeys};
use crate::config::{Config, KeysConfig};
use crate::continuation::Continuations;
use crate::exchange::TicketToToken;
use crate::identity::IdentityRules;
use crate::keyring::KeyRing;
use crate::metrics::Metrics;
use crate::problem::{Problem, Problems};
use crate::replay::ReplayGuard;
use crate::revocation::Revocations;
use crate::store::{KeptStore, Store};
use crate::time::Clock;

/// Revocations that may wait for the store, beside tickets.
const OTHERS_WAITING: usize = 256;

/// What was made and taken before there are threads.
pub(super) struct Parts {
    pub(super) keyring: KeyRing,
    acceptors: Vec<Box<dyn Acceptor>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) revocations: Arc<Revocations>,
}

/// Makes and takes all of it, or notes all that fails.
pub(super) fn parts(config: &Config, keys: &KeysConfig, metrics: &Metrics, problems: &mut Problems) -> Option<Parts> {
    let acceptors = problems.sift(acquire(config));
    // Before the keys: those without a store are of one that was lost.
    let store = problems.sift(open_store(config, metrics).map_err(Problems::from))?;
    let keyring = KeyRing::start(
        config.keyring_place(),
        &keys.key_encryption_key,
        &keys.rotation,
        Clock::System.now(),
    );
    let keyring = problems.sift(keyring.map_err(|error| error.problem().into()));
    let revocations = Revocations::new(
        Arc::clone(&store),
        config.issuer(),
        config.policy().longest_ttl_seconds(),
        metrics.revocations(),
    );
    Some(Parts {
        keyring: keyring?,
        acceptors: acceptors?,
        store,
        revocations: Arc::new(revocations),
    })
}

impl Parts {
    /// Starts the threads.
    pub(super) fn start(self, config: &Config, metrics: &Arc<Metrics>) -> Result<TicketToToken, Problem> {
        let Self {
            keyring,
            acceptors,
            store,
            revocations,
        } = self;
        let replay = ReplayGuard::new(Some(store), config.kerberos().clock_skew_seconds);
        let limits = config.limits();
        let pool = AcceptorPool::start(acceptors, limits.queue, limits.deadline, metrics.queue_depth());
        Ok(TicketToToken {
            issuer: config.issuer().to_owned(),
            policy: config.policy().clone(),
            rules: IdentityRules::of(config),
            groups: config.groups().counted_by(metrics.directory()),
            keyring,
            acceptors: pool.map_err(|error| super::no_threads(&error))?,
            // Where the configuration says so, nobody but MIT's cache knows of used tickets.
            replay: if config.replay_store() {
                replay
            } else {
                replay.without_notes()
            },
            revocations,
            deadline: limits.deadline,
            continuations: Continuations::new(metrics.half_open(), metrics.pushed_out()),
            metrics: Arc::clone(metrics),
        })
    }
}

/// The store of the state directory, or the one that brokers share.
fn open_store(config: &Config, metrics: &Metrics) -> Result<Arc<dyn Store>, Problem> {
    let limits = config.limits();
    // All that the threads and their queue can hand on at once: a ticket that was taken in has been used up by then. And as
    // much of what is not about tickets.
    let waiting = limits
        .queue
        .saturating_add(limits.threads)
        .saturating_add(OTHERS_WAITING);
    let commits = metrics.store_commits();
    let store = match config.database() {
        None => KeptStore::in_file(config.state_dir(), waiting, limits.deadline, commits)?,
        Some(database) => KeptStore::in_database(database, waiting, limits.deadline, commits, metrics.database())?,
    };
    Ok(Arc::new(store))
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
        | AcquireErrorKind::Configuration
        | AcquireErrorKind::Unguarded
        | AcquireErrorKind::Refused => "keytab",
    };
    Problem {
        field: format!("kerberos.acceptor[{index}].{field}"),
        problem: error.to_string(),
        remedy: "see what klist -k says of the keytab".into(),
    }
}
