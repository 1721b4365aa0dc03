//! Keeps the store in a PostgreSQL database that several brokers share.
//!
//! Each broker does all its work over one connection, a batch in one transaction, as [`super::keeper`] hands it over. Versions
//! become visible in their order, because whoever changes a revocation holds one row until its transaction has ended.

mod changes;
mod connection;
mod keyring_row;
mod offline;
mod replicas;
mod schema;
mod tls;
mod transaction;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use zeroize::Zeroizing;

pub use self::keyring_row::KeyringRow;
pub use self::offline::{DatabaseLook, check_database, export_database, import_database, look_at_database};
pub use self::replicas::{Replica, Replicas, ReplicasSeen};

use self::connection::{Database, WORK_TIME};
use self::schema::Wanted;
use super::job::{Applied, Batch};
use super::keeper::{KeptStore, Place};
use super::{Position, StoreError};
use crate::metrics::DatabaseMetrics;
use crate::problem::Problem;

/// Where the database is, and as whom a broker comes.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Asked in this order until one is found that can be written.
    pub hosts: Vec<PostgresHost>,
    /// The database's name.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password, where the server asks for one.
    pub password: Option<Arc<Zeroizing<String>>>,
}

/// One server.
#[derive(Clone)]
pub enum PostgresHost {
    /// On this machine: the folder of its socket.
    Unix {
        /// The folder.
        folder: PathBuf,
        /// Names the socket in it.
        port: u16,
    },
    /// Over TLS, its certificate checked for this name.
    Tls {
        /// As it is looked up.
        host: String,
        /// TCP
        port: u16,
        /// The name in the certificate.
        name: ServerName<'static>,
        /// Which authority is trusted.
        config: Arc<ClientConfig>,
    },
    /// In clear text; a loopback address.
    Clear {
        /// The address.
        host: String,
        /// TCP
        port: u16,
    },
}

impl fmt::Display for PostgresHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { folder, port } => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
            Self::Tls { host, port, .. } | Self::Clear { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Debug for PostgresHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The database, and the runtime of the thread that speaks with it.
struct Postgres {
    config: PostgresConfig,
    /// As far as was read.
    seen: Option<Position>,
    metrics: DatabaseMetrics,
    runtime: tokio::runtime::Runtime,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl KeptStore {
    /// Opens the store that several brokers share: connects to the database, and makes there what a store is where there is
    /// nothing yet. `queue` is how many calls may wait, `deadline` how long each may take; `commits` is told how many seconds each
    /// commit took, `metrics` what becomes of the connection.
    pub fn in_database(
        config: &PostgresConfig,
        queue: usize,
        deadline: Duration,
        commits: Histogram,
        metrics: DatabaseMetrics,
    ) -> Result<Self, Problem> {
        Self::opened(config, Wanted::Made, queue, deadline, commits, metrics)
    }

    /// The same for a command, which finds a store there or says that there is none.
    pub fn in_made_database(config: &PostgresConfig, deadline: Duration) -> Result<Self, Problem> {
        let (commits, metrics) = (Histogram::new([1.0]), DatabaseMetrics::default());
        Self::opened(config, Wanted::There, 16, deadline, commits, metrics)
    }

    fn opened(
        config: &PostgresConfig,
        wanted: Wanted,
        queue: usize,
        deadline: Duration,
        commits: Histogram,
        metrics: DatabaseMetrics,
    ) -> Result<Self, Problem> {
        let waiting = metrics.waiting();
        let (place, opened) = apart(|| {
            let mut place = Postgres::new(config)?;
            place.metrics = metrics;
            let opened = place.open(wanted).map_err(|error| error.problem(config))?;
            Ok((place, opened))
        })?;
        let mut store = Self::start(place, opened, queue, deadline, commits).map_err(|error| no_thread(&error))?;
        store.waiting = waiting;
        Ok(store)
    }
}

impl Postgres {
    fn new(config: &PostgresConfig) -> Result<Self, Problem> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            config: config.clone(),
            seen: None,
            metrics: DatabaseMetrics::default(),
            runtime: runtime.map_err(|error| no_thread(&error))?,
        })
    }

    fn open(&mut self, wanted: Wanted) -> Result<Database, connection::Failure> {
        let opened = self.runtime.block_on(async {
            let mut database = Database::connect(&self.config).await?;
            match timeout(WORK_TIME, schema::settle(&mut database, wanted, self.seen)).await {
                Ok(settled) => settled.map(|()| database),
                Err(_) => Err(connection::Failure::Away(format!(
                    "connected, and no answer within {} s",
                    WORK_TIME.as_secs()
                ))),
            }
        });
        match &opened {
            Ok(_) => self.metrics.connected(),
            Err(failure) => {
                self.metrics.failed(failure.kind());
                // What was begun on that connection ends with it, now.
                self.runtime.block_on(tokio::task::yield_now());
            }
        }
        opened
    }

    /// Notes how far was read. What has gone back is a backup that was restored in place.
    fn goes_on(&mut self, applied: Applied) -> Result<Applied, connection::Failure> {
        for changes in &applied.read {
            match self.seen {
                Some(seen) if seen.epoch == changes.newest.epoch && seen.version > changes.newest.version => {
                    return Err(connection::Failure::Unknown("the store has gone back".into()));
                }
                Some(_) | None => self.seen = Some(changes.newest),
            }
        }
        Ok(applied)
    }
}

impl Place for Postgres {
    const IS_SHARED: bool = true;

    type Opened = Database;

    /// A database in which the tables are gone is not begun anew: what was revoked would be forgotten.
    fn reopen(&mut self) -> Result<Database, StoreError> {
        Ok(self.open(Wanted::There)?)
    }

    fn apply(&mut self, database: &mut Database, batch: &Batch) -> Result<Applied, StoreError> {
        let mut tries = 0_u32;
        loop {
            let done = self.runtime.block_on(transaction::apply(database, batch));
            tries = tries.saturating_add(1);
            match done.and_then(|applied| self.goes_on(applied)) {
                Ok(applied) => return Ok(applied),
                Err(failed) => {
                    self.metrics.failed(failed.kind());
                    // Before anything else: a transaction that is left open keeps its locks.
                    database.end();
                    self.runtime.block_on(tokio::task::yield_now());
                    // Nothing was committed, and whoever waits may still have time.
                    if !failed.may_be_tried_again(tries) {
                        return Err(failed.into());
                    }
                    *database = self.reopen()?;
                }
            }
        }
    }
}

/// Runs something on a thread of its own: whoever calls may be on one of a runtime, which cannot run another.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, Problem> + Send) -> Result<T, Problem> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work);
        match thread.map_err(|error| no_thread(&error))?.join() {
            Ok(done) => done,
            Err(panicked) => std::panic::resume_unwind(panicked),
        }
    })
}

fn no_thread(error: &std::io::Error) -> Problem {
    Problem {
        field: "store.postgres".into(),
        problem: error.to_string(),
        remedy: "let the broker start one thread more".into(),
    }
}

#[cfg(test)]
mod tests;
