//! Connects to the first server that can be written, and says what went wrong with a database.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};

use super::tls::Connect;
use super::{PostgresConfig, PostgresHost};
use crate::problem::Problem;
use crate::store::StoreError;

/// To one server, with everything that is asked of it first.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// How long data may be unacknowledged before a server is taken to be gone.
const SILENCE: Duration = Duration::from_secs(5);
/// How long one batch may take.
pub(super) const WORK_TIME: Duration = Duration::from_secs(5);
/// As often as a batch is tried that lost its connection or stood in another's way.
const MOST_TRIES: u32 = 3;

/// What a session is told. The server gives up before we do, so that what we no longer wait for is not done later.
const SESSION: &str = "SET search_path = kerbridge; \
     SET statement_timeout = '4s'; \
     SET lock_timeout = '3s'; \
     SET default_transaction_isolation = 'read committed'; \
     SET idle_in_transaction_session_timeout = '10s'; \
     SET client_min_messages = warning; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// A connection, and which table it reads.
pub(super) struct Database {
    pub(super) client: Client,
    /// The number of the table that [`super::schema::settle`] looked at; another one later was put in its place.
    pub(super) table: i64,
    /// When something was committed last: a server that was replaced without knowing it can still be read.
    pub(super) proven: Option<Instant>,
    task: JoinHandle<()>,
}

impl Database {
    /// Connects to the first of the servers that can be written.
    pub(super) async fn connect(config: &PostgresConfig) -> Result<Self, Failure> {
        let mut failures = Vec::new();
        for host in &config.hosts {
            match timeout(CONNECT_TIME, connect(config, host)).await {
                Ok(Ok((client, task))) => {
                    return Ok(Self {
                        client,
                        table: 0,
                        proven: None,
                        task,
                    });
                }
                Ok(Err(failure)) => failures.push(format!("{host}: {failure}")),
                Err(_) => failures.push(format!("{host}: no answer within {} s", CONNECT_TIME.as_secs())),
            }
        }
        Err(Failure::Away(failures.join("; ")))
    }

    /// Closes the connection, once the runtime runs again.
    pub(super) fn end(&self) {
        self.task.abort();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.end();
    }
}

async fn connect(config: &PostgresConfig, host: &PostgresHost) -> Result<(Client, JoinHandle<()>), Failure> {
    let mut wanted = Config::new();
    wanted
        .user(&config.user)
        .dbname(&config.database)
        .application_name("kerbridge")
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(CONNECT_TIME)
        .tcp_user_timeout(SILENCE)
        .keepalives_idle(SILENCE);
    if let Some(password) = &config.password {
        wanted.password(password.as_bytes());
    }
    let (client, task) = match host {
        PostgresHost::Unix { folder, port } => {
            wanted.host_path(folder).port(*port).ssl_mode(SslMode::Disable);
            begin(&wanted, NoTls).await?
        }
        PostgresHost::Clear { host, port } => {
            wanted.host(host).port(*port).ssl_mode(SslMode::Disable);
            begin(&wanted, NoTls).await?
        }
        PostgresHost::Tls {
            host,
            port,
            name,
            config,
        } => {
            wanted
                .host(host)
                .port(*port)
                .ssl_mode(SslMode::Require)
                .channel_binding(ChannelBinding::Prefer);
            let (config, name) = (config.clone(), name.clone());
            begin(&wanted, Connect { config, name }).await?
        }
    };
    client.batch_execute(SESSION).await?;
    Ok((client, task))
}

/// The connection is driven by a task, until that is aborted.
async fn begin<T>(wanted: &Config, tls: T) -> Result<(Client, JoinHandle<()>), Failure>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = wanted.connect(tls).await?;
    Ok((client, tokio::spawn(async move { drop(connection.await) })))
}

/// What went wrong with a database.
#[derive(Debug)]
pub(super) enum Failure {
    /// No server can be reached that can be written.
    Away(String),
    /// The connection ended before anything was committed.
    Lost(String),
    /// Another transaction stood in the way, and this one was undone.
    Contended(String),
    /// It may have been done, or not.
    Unknown(String),
    /// The tables are not there.
    Gone,
    /// Another release's tables, of this format.
    Format(i32),
    /// There is a store already, where one was to be made.
    There,
    /// Something is in the tables that this release does not write.
    Corrupt(&'static str),
    /// The server refuses.
    Refused(String),
}

impl Failure {
    /// The word for it among metrics.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Lost(_) => "lost",
            Self::Contended(_) => "contended",
            Self::Unknown(_) => "unknown",
            Self::Gone => "gone",
            Self::Format(_) => "format",
            Self::Corrupt(_) => "corrupt",
            // Only commands make what is not to be there.
            Self::There | Self::Refused(_) => "refused",
        }
    }

    /// Whether it is worth another attempt after so many.
    pub(super) const fn may_be_tried_again(&self, tries: u32) -> bool {
        match self {
            Self::Lost(_) | Self::Contended(_) => tries < MOST_TRIES,
            Self::Away(_)
            | Self::Unknown(_)
            | Self::Gone
            | Self::Format(_)
            | Self::There
            | Self::Corrupt(_)
            | Self::Refused(_) => false,
        }
    }

    /// It, where a commit was under way: nobody knows what came of it.
    pub(super) fn in_commit(self) -> Self {
        match self {
            Self::Lost(problem) => Self::Unknown(problem),
            Self::Contended(_)
            | Self::Away(_)
            | Self::Unknown(_)
            | Self::Gone
            | Self::Format(_)
            | Self::There
            | Self::Corrupt(_)
            | Self::Refused(_) => self,
        }
    }

    /// It as a problem of the configuration.
    pub(super) fn problem(&self, config: &PostgresConfig) -> Problem {
        let remedy = match self {
            Self::Away(_) | Self::Lost(_) | Self::Contended(_) | Self::Unknown(_) => {
                "see that a server of store.postgres.hosts runs, is no standby, and lets user and password in"
            }
            Self::Gone => {
                "see that store.postgres.database names the brokers' database; a broker that starts makes what is missing"
            }
            Self::Format(_) => "run the release that made them, or a newer one",
            Self::There => {
                "export it if it may hold what the other does not, then DROP TABLE kerbridge.about, kerbridge.revocation, \
                 kerbridge.used; the keys stay"
            }
            Self::Corrupt(_) => {
                "restore the last backup, or DROP TABLE kerbridge.about, kerbridge.revocation, kerbridge.used and bring in the last \
                 export (kerbridge store import FILE); the keys stay"
            }
            Self::Refused(_) => "let the role own the database, or make a schema kerbridge that it owns",
        };
        Problem {
            field: "store.postgres".into(),
            problem: format!("database {}: {self}", config.database),
            remedy: remedy.into(),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(told) = error.as_db_error() else {
            let mut text = error.to_string();
            if let Some(source) = error.source() {
                text = format!("{text}: {source}");
            }
            return Self::Lost(text);
        };
        let text = format!("{} ({})", told.message(), told.code().code());
        let code = told.code();
        if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code) {
            return Self::Gone;
        }
        if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            return Self::Lost(text);
        }
        // By their classes (PostgreSQL, Appendix A): roll-backs and locks; the connection, resources, an operator.
        match code.code().get(..2) {
            Some("40" | "55") => Self::Contended(text),
            Some("08" | "25" | "53" | "57") => Self::Lost(text),
            Some(_) | None => Self::Refused(text),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(problem) | Self::Lost(problem) | Self::Contended(problem) | Self::Refused(problem) => {
                f.write_str(problem)
            }
            Self::Unknown(problem) => write!(f, "it may have been done or not: {problem}"),
            Self::Gone => f.write_str("the tables of the store are not there"),
            Self::Format(found) => write!(
                f,
                "its tables have format {found}, and this release knows {}",
                super::schema::FORMAT
            ),
            Self::There => f.write_str("a store is there, and is not overwritten"),
            Self::Corrupt(what) => write!(f, "it is damaged: {what}"),
        }
    }
}
