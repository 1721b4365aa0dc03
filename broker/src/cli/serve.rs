//! Runs the broker: all that can be wrong is found before the first address is said to be listened on.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kerbridge_gss::AcquireErrorKind;
use kerbridge_gss::environment::use_krb5_config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::{Failure, output};
use crate::acceptor::{Acceptor, AcceptorPool, GssAcceptor};
use crate::config::{Config, Surroundings, prepare_state_dir};
use crate::exchange::Exchange;
use crate::identity::IdentityRules;
use crate::keyring::KeyRing;
use crate::krb5_conf;
use crate::metrics::Metrics;
use crate::problem::{Problem, Problems};
use crate::server::{Bound, Broker, Shutdown, bind, router, serve};
use crate::time::Clock;

pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let problems = |problems: Problems| output::complain_all(path, &problems);
    let config = Config::load(path, &Surroundings::of_process()).map_err(problems)?;
    let (exchange, bound) = prepare(&config).map_err(problems)?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(config.log_level())
        .with_writer(io::stdout)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let stopped = runtime.and_then(|runtime| runtime.block_on(serve_all(&config, exchange, bound)));
    stopped.map_err(|error| {
        tracing::error!(%error, "stopped");
        Failure::Running
    })
}

/// Everything that may turn out to be wrong, in an order in which the environment is set before threads run and the
/// addresses are taken last.
fn prepare(config: &Config) -> Result<(Exchange, Vec<Bound>), Problems> {
    prepare_state_dir(config.state_dir())?;
    let krb5_conf = krb5_conf::write(config.state_dir(), config.kerberos())?;
    let files = krb5_conf::files(&krb5_conf);
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    use_krb5_config(&files).map_err(|error| Problem {
        field: "state_dir".into(),
        problem: error.to_string(),
        remedy: "name a folder without a colon in its path".into(),
    })?;
    let keyring =
        KeyRing::open_or_create(config.state_dir(), config.key_encryption_key()).map_err(|error| Problem {
            field: "state_dir".into(),
            problem: error.to_string(),
            remedy: error.remedy().into(),
        })?;
    let mut acceptors: Vec<Box<dyn Acceptor>> = Vec::new();
    for _ in 0..config.limits().threads {
        acceptors.push(Box::new(acquire(config)?));
    }
    let mut problems = Problems::default();
    let mut bound = Vec::new();
    for listener in config.listeners() {
        match bind(listener) {
            Ok(taken) => bound.push(taken),
            Err(problem) => problems.absorb("", problem.into()),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let limits = config.limits();
    let metrics = Arc::new(Metrics::new());
    let deadline = Duration::from_secs(limits.deadline.seconds().into());
    let acceptors =
        AcceptorPool::start(acceptors, limits.queue, deadline, metrics.queue_depth()).map_err(|error| Problem {
            field: "limits.threads".into(),
            problem: error.to_string(),
            remedy: "choose fewer".into(),
        })?;
    let exchange = Exchange {
        issuer: config.issuer().to_owned(),
        policy: config.policy().clone(),
        rules: IdentityRules {
            realms: config.kerberos().realms.clone(),
            ticket_floor: limits.ticket_floor.seconds().into(),
        },
        keyring,
        acceptors,
        metrics,
    };
    Ok((exchange, bound))
}

fn acquire(config: &Config) -> Result<GssAcceptor, Problem> {
    GssAcceptor::acquire(config.kerberos(), config.state_dir()).map_err(|(index, error)| {
        let field = match error.kind() {
            AcquireErrorKind::PrincipalAbsent { .. } => "principal",
            AcquireErrorKind::Keytab(_)
            | AcquireErrorKind::NoCredential
            | AcquireErrorKind::BadPath
            | AcquireErrorKind::Refused => "keytab",
        };
        Problem {
            field: format!("kerberos.acceptor[{index}].{field}"),
            problem: error.to_string(),
            remedy: "see what klist -k says of the keytab".into(),
        }
    })
}

async fn serve_all(config: &Config, exchange: Exchange, bound: Vec<Bound>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let broker = Arc::new(Broker::new(exchange, Clock::System));
    let limits = config.limits();
    let drain = Duration::from_secs(limits.drain.seconds().into());
    let (stop, shutdown) = Shutdown::channel();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        issuer = config.issuer(),
        kid = broker.exchange.keyring.signing().id(),
        state_dir = %config.state_dir().display(),
        realms = ?config.kerberos().realms,
        principals = ?config.kerberos().acceptors.iter().map(|one| one.principal.as_str()).collect::<Vec<_>>(),
        threads = limits.threads,
        queue = limits.queue,
        "started"
    );
    let mut listeners = JoinSet::new();
    for one in bound {
        tracing::info!(listener = one.name().as_str(), address = one.address(), "listening");
        let router = router(one.name(), Arc::clone(&broker));
        listeners.spawn(serve(one, router, limits.connections, shutdown.clone(), drain));
    }
    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal, "draining");
    broker.drain();
    stop.send_replace(true);
    while listeners.join_next().await.is_some() {}
    tracing::info!("stopped");
    Ok(())
}
