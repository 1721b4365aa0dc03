//! Runs the broker: all that can be wrong is found before the first address is said to be listened on, and at the end the
//! listener that says so is the last to go.

mod audit_event;
mod listeners;
mod prepare;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::util::SubscriberInitExt as _;

use self::listeners::Listeners;
use self::prepare::Prepared;
use super::{Failure, output};
use crate::config::{Address, Config, ListenerConfig, ListenerName, TlsServer};
use crate::exchange::Exchange;
use crate::keyring::{self, KeyRing};
use crate::krb5_conf;
use crate::log::LogQueue;
use crate::problem::Problem;
use crate::published_keys;
use crate::readiness::{self, Readiness};
use crate::reload::{Look, Reload};
use crate::server::{Bound, Broker, ClientAuthentication, Room, SourceShare, router};
use crate::store::Replicas;
use crate::subject_token::Issuers;
use crate::time::Clock;
use crate::trace::{Exporting, Tracer};

/// What `observe` says is there at once; this is for whoever reads it slowly.
const OBSERVE_DRAIN: Duration = Duration::from_secs(1);

pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let Prepared {
        config,
        begun_anew,
        exchange,
        issuers,
        client_keys,
        bound,
        krb5_conf,
        lock,
        lines,
    } = prepare::prepare(path).map_err(|problems| output::complain_all(path, &problems))?;
    lines.subscriber(config.log_level()).init();
    if let Some(what) = begun_anew {
        tracing::warn!("{what}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers(config.limits().threads))
        .enable_all()
        .build();
    let audit = lines.queue();
    let parts = (issuers, client_keys);
    let stopped =
        runtime.and_then(|runtime| runtime.block_on(serve_all(&config, exchange, parts, bound, krb5_conf, audit)));
    let outcome = stopped.map_err(|error| {
        tracing::error!(%error, "stopped");
        Failure::Running
    });
    drop(lock);
    drop(lines);
    outcome
}

/// Threads that speak HTTP and sign: all of that costs less than to accept a ticket, so no more than do that, and no more than
/// there are cores. Each more is woken, looks for work of the others and sleeps again.
fn workers(acceptors: usize) -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(acceptors))
}

async fn serve_all(
    config: &Config,
    exchange: Exchange,
    (issuers, client_keys): (Arc<Issuers>, Option<Arc<Issuers>>),
    bound: Vec<Bound>,
    krb5_conf: krb5_conf::Followed,
    audit: LogQueue,
) -> io::Result<()> {
    reopen_on_hangup(audit)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let kerberos = config.kerberos();
    let bad_keytabs = exchange.metrics.bad_keytabs();
    let readiness = Readiness::watch(readiness::looking_at(config, bad_keytabs))?;
    let mut looks: Vec<Look> = vec![
        listener_certificates(config, exchange.metrics.bad_listener_certificates()),
        bindings(config, exchange.metrics.bad_certificates()),
        Box::new(move || krb5_conf.look()),
    ];
    follow_keys(config, &issuers, &mut looks);
    follow_client_keys(config, client_keys.as_ref(), &mut looks);
    let own_issuers = Arc::clone(&issuers);
    let _reload = Reload::watch(looks)?;
    let authentication = client_authentication(config);
    let (tracer, exporting) = trace(config, &exchange);
    let broker = Broker::new(exchange, Clock::System, readiness, authentication);
    let replicas = config.database().map(|database| Arc::new(Replicas::new(database)));
    let broker = Arc::new(broker.traced_by(tracer).beside(replicas.clone()));
    let limits = config.limits();
    let drain = Duration::from_secs(limits.drain.seconds().into());
    let notice = limits
        .drain_notice
        .map(|notice| Duration::from_secs(notice.seconds().into()));
    let principals: Vec<&str> = kerberos.acceptors.iter().map(|one| one.principal.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        issuer = config.issuer(),
        kid = broker.exchange.to_token.as_ref().map(|direction| direction.keyring.signing().id().to_owned()),
        state_dir = %config.state_dir().display(),
        realms = kerberos.realms.join(" "),
        principals = principals.join(" "),
        channel_bindings = config.channel_bindings().mode().as_str(),
        threads = limits.threads,
        queue = limits.queue,
        "started"
    );
    if !kerberos.weak_enctypes.is_empty() {
        let names: Vec<String> = kerberos.weak_enctypes.iter().map(ToString::to_string).collect();
        tracing::warn!(
            enctypes = names.join(" "),
            "tickets of weak encryption types are taken; kerbridge_weak_tickets counts them"
        );
    }
    if let Some(direction) = &broker.exchange.to_token {
        // Before the first ticket: what is revoked must be known by then.
        direction
            .revocations
            .load(broker.clock)
            .await
            .map_err(io::Error::other)?;
    }
    // All of them before the first is said to listen: one that cannot be had is no reason to serve the others.
    let bound = bound.into_iter().map(Bound::register).collect::<io::Result<Vec<_>>>()?;
    // Nothing is left that can fail, and nothing has begun that has events of its own.
    audit_event::started(config, broker.exchange.to_token.as_ref());
    // They end with the runtime.
    if let Some(replicas) = replicas {
        let clock = broker.clock;
        tokio::spawn(async move { replicas.keep(clock).await });
    }
    if let Some(direction) = &broker.exchange.to_token {
        let (revocations, clock) = (Arc::clone(&direction.revocations), broker.clock);
        tokio::spawn(async move { revocations.keep(clock).await });
        tokio::spawn(direction.replay.clone().sweep(clock));
        let (keyring, revocations) = (direction.keyring.clone(), Arc::clone(&direction.revocations));
        let metrics = broker.exchange.metrics.keys();
        let issuer = config.issuer().to_owned();
        tokio::spawn(tell_of_keys(keyring.clone(), own_issuers, issuer, clock));
        tokio::spawn(keyring::follow_schedule(keyring, revocations, metrics, clock));
    }
    if let (Some(direction), Some(delegation)) = (&broker.exchange.to_ticket, config.delegation()) {
        tracing::info!(principal = delegation.principal.as_str(), "acting for users");
        tokio::spawn(direction.delegation.clone().sweep(broker.clock));
        direction.delegation.follow(broker.clock);
    } else if let Some(direction) = &broker.exchange.trade {
        direction.feeds.follow(broker.clock);
    }
    for Problem { field, problem, remedy } in config.warnings() {
        tracing::warn!(field, problem, remedy, "the configuration is doubtful");
    }
    let room = Room {
        connections: limits.connections,
        share: limits
            .connections_per_source
            .map(|most| SourceShare::new(most, limits.shared_sources.clone())),
        metrics: broker.exchange.metrics.connections(),
    };
    let (mut exchanging, mut observing) = (Listeners::new(drain), Listeners::new(OBSERVE_DRAIN));
    for one in bound {
        tracing::info!(listener = one.name().as_str(), address = one.address(), "listening");
        let router = router(one.name(), Arc::clone(&broker));
        let group = match one.name() {
            ListenerName::Mesh | ListenerName::Public => &mut exchanging,
            ListenerName::Observe | ListenerName::Admin => &mut observing,
        };
        group.serve(one, router, room.clone());
    }
    let signal = tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
        // They end when told to, and not before.
        () = exchanging.one_ended() => Err(io::Error::other("a listener ended")),
        () = observing.one_ended() => Err(io::Error::other("a listener ended")),
    };
    tracing::info!(signal = signal.as_deref().unwrap_or("none"), "draining");
    broker.drain();
    if let (Ok(_), Some(notice)) = (&signal, notice) {
        // Requests are taken as before, for those who have not heard of it yet. Whoever signals again does not want to wait.
        tokio::select! {
            () = tokio::time::sleep(notice) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = exchanging.one_ended() => {}
        }
    }
    exchanging.stop().await;
    if let Some(exporting) = exporting {
        exporting.finish().await;
    }
    observing.stop().await;
    audit_event::stopped(signal.as_deref().ok());
    signal?;
    tracing::info!("stopped");
    Ok(())
}

/// What records requests, and hands on what it records until the runtime ends.
fn trace(config: &Config, exchange: &Exchange) -> (Tracer, Option<Exporting>) {
    let Some(rules) = config.tracing() else {
        return (Tracer::default(), None);
    };
    let endpoint = rules.endpoint.to_string();
    tracing::info!(endpoint, "spans are recorded");
    let (tracer, exporter) = Tracer::start(rules.clone(), exchange.metrics.traces(), Clock::System);
    (tracer, Some(exporter.run()))
}

/// Lets tokens of ours be traded that new keys sign. It ends with the runtime.
async fn tell_of_keys(keyring: KeyRing, issuers: Arc<Issuers>, issuer: String, clock: Clock) {
    let mut news = keyring.news();
    while news.changed().await.is_ok() {
        let keys = Arc::clone(&news.borrow_and_update());
        if issuers.publish(&issuer, keys.jwks().as_bytes(), clock.now()).is_err() {
            tracing::error!("tokens of the broker's new keys cannot be traded");
        }
    }
}

/// How clients may prove who they are at the issuer's address, which is that of `public` where there is one.
fn client_authentication(config: &Config) -> ClientAuthentication {
    let of = |name| config.listeners().find(|listener| listener.name == name);
    let public = of(ListenerName::Public);
    let listener = public.or_else(|| of(ListenerName::Mesh));
    let mut by_signature: Vec<_> = config
        .clients()
        .iter()
        .flat_map(|client| &client.algorithms)
        .copied()
        .collect();
    if public.is_none() {
        by_signature.clear();
    }
    ClientAuthentication {
        by_certificate: listener.is_some_and(|listener| match &listener.address {
            Address::Tls { server, .. } => server.takes_client_certificates(),
            Address::Unix { .. } | Address::Clear { .. } => false,
        }),
        by_signature,
    }
}

/// Opens the audit file anew on SIGHUP, as who rotates logs sends it.
fn reopen_on_hangup(audit: LogQueue) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    // It ends with the runtime.
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            audit.reopen();
        }
    });
    Ok(())
}

/// Follows the keys of issuers: those in files by a look, the others by asking for them.
fn follow_keys(config: &Config, issuers: &Arc<Issuers>, looks: &mut Vec<Look>) {
    for source in config.key_sources() {
        match published_keys::look_at_file(source, issuers, Clock::System) {
            Some(look) => {
                look();
                looks.push(look);
            }
            // It ends with the runtime.
            None => drop(tokio::spawn(published_keys::follow(
                source.clone(),
                Arc::clone(issuers),
                Clock::System,
            ))),
        }
    }
}

/// Follows the keys of clients, which are in files.
fn follow_client_keys(config: &Config, clients: Option<&Arc<Issuers>>, looks: &mut Vec<Look>) {
    let Some(issuers) = clients else { return };
    for client in config.clients() {
        let look = published_keys::look_at_client(client, issuers, Clock::System);
        look();
        looks.push(look);
    }
}

/// A look at the files of the TLS listeners.
fn listener_certificates(config: &Config, bad: Gauge) -> Look {
    let servers: Vec<_> = config.listeners().filter_map(replaceable).collect();
    Box::new(move || {
        let found = servers.iter().filter(|server| !server.look()).count();
        bad.set(i64::try_from(found).unwrap_or(i64::MAX));
    })
}

fn replaceable(listener: &ListenerConfig) -> Option<Arc<TlsServer>> {
    match &listener.address {
        Address::Tls { server, .. } => Some(Arc::clone(server)),
        Address::Unix { .. } | Address::Clear { .. } => None,
    }
}

/// A look at the certificates that clients bind to.
fn bindings(config: &Config, bad: Gauge) -> Look {
    let rules = Arc::clone(config.channel_bindings());
    Box::new(move || {
        let found = rules.look(Clock::System.now());
        bad.set(i64::try_from(found).unwrap_or(i64::MAX));
    })
}
