//! Says which brokers of a database are there, by the sessions that the server has: each broker keeps one for this alone, and calls it by
//! its release, its clock and its machine.
//!
//! So there is no table of it: a release that does not know it is not in its way, and whoever is gone is not there any more. Nothing is
//! decided by it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::types::{ToSql, Type};

use super::PostgresConfig;
use super::connection::{Database, Failure, WORK_TIME};
use crate::time::{Clock, UnixTime};

/// Between two questions of one broker.
const BEAT: Duration = Duration::from_secs(5);
/// Most brokers that are read.
const MOST: i64 = 100;
/// How the sessions begin that are meant.
const SESSION: &str = "kerbridge-replica";
/// As much of a machine's name as a session's has room for, with the rest (63 bytes).
const LONGEST_HOST: usize = 24;

const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8";
const CALL: &str = "SELECT set_config('application_name', $1, false)";
/// Those of the same role and database: of others nobody sees the name.
const READ: &str = "SELECT application_name, pid = pg_backend_pid(), \
     greatest((extract(epoch FROM clock_timestamp() - state_change) * 1000)::int8, 0) FROM pg_stat_activity \
     WHERE datname = current_database() AND usename = current_user AND starts_with(application_name, $1) \
     ORDER BY backend_start, pid LIMIT $2";

/// A broker of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Whether it is this one.
    pub is_this: bool,
    /// The beginning of the name of its machine, or of its pod.
    pub host: String,
    /// Its version.
    pub release: String,
    /// How long ago the database heard of it: up to some seconds, or it hangs, or the way to it is cut.
    pub silent: Duration,
    /// How far its clock is ahead of the database's, in milliseconds, as it found itself.
    pub clock_ahead: i64,
}

/// What was read last and when, or why nothing was.
pub type ReplicasSeen = Result<(Vec<Replica>, UnixTime), String>;

/// The brokers of a database, this one among them.
#[derive(Debug)]
pub struct Replicas {
    config: PostgresConfig,
    host: String,
    seen: Mutex<ReplicasSeen>,
}

impl Replicas {
    /// Connects to nothing yet.
    pub fn new(config: &PostgresConfig) -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            config: config.clone(),
            host: shown(&name),
            seen: Mutex::new(Err("the database was not asked yet".into())),
        }
    }

    /// What was read last.
    pub fn seen(&self) -> ReplicasSeen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says again and again that this broker is there, and reads who else is. It ends with the runtime.
    pub async fn keep(&self, clock: Clock) {
        let mut connected = None;
        loop {
            let seen = self.beat(&mut connected, clock).await;
            let seen = seen.map(|replicas| (replicas, clock.now())).map_err(|failure| {
                connected = None;
                failure.problem(&self.config).problem
            });
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn beat(&self, connected: &mut Option<Database>, clock: Clock) -> Result<Vec<Replica>, Failure> {
        let asked = async {
            let database = match connected {
                Some(database) => database,
                None => connected.insert(Database::connect(&self.config).await?),
            };
            self.say_and_read(database, clock).await
        };
        match timeout(WORK_TIME, asked).await {
            Ok(seen) => seen,
            Err(_) => Err(Failure::Unknown(format!("no answer within {} s", WORK_TIME.as_secs()))),
        }
    }

    async fn say_and_read(&self, database: &Database, clock: Clock) -> Result<Vec<Replica>, Failure> {
        type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);
        let client = &database.client;
        let (before, asked) = (clock.since_1970(), Instant::now());
        let theirs: i64 = client.query_typed_one(NOW, &[]).await?.try_get(0)?;
        // The answer is as old as the half of its way.
        let ours = before.saturating_add(asked.elapsed().checked_div(2).unwrap_or_default());
        let ahead = i64::try_from(ours.as_millis())
            .unwrap_or(i64::MAX)
            .saturating_sub(theirs);
        let name = format!("{SESSION} {} {ahead:+} {}", env!("CARGO_PKG_VERSION"), self.host);
        let call: [Parameter<'_>; 1] = [(&name, Type::TEXT)];
        client.query_typed_one(CALL, &call).await?;
        let read: [Parameter<'_>; 2] = [(&SESSION, Type::TEXT), (&MOST, Type::INT8)];
        let rows = client.query_typed(READ, &read).await?;
        let mut replicas = Vec::new();
        for row in rows {
            // A name that is none of ours is somebody else's session.
            let Some((release, clock_ahead, host)) = read_name(row.try_get(0)?) else {
                continue;
            };
            let silent: i64 = row.try_get(2)?;
            replicas.push(Replica {
                is_this: row.try_get(1)?,
                host,
                release,
                silent: Duration::from_millis(u64::try_from(silent).unwrap_or_default()),
                clock_ahead,
            });
        }
        Ok(replicas)
    }
}

/// What a session's name has room for.
fn shown(host: &str) -> String {
    let shown: String = host.chars().filter(char::is_ascii_graphic).take(LONGEST_HOST).collect();
    if shown.is_empty() { "-".to_owned() } else { shown }
}

fn read_name(name: &str) -> Option<(String, i64, String)> {
    let words: Vec<&str> = name.split(' ').collect();
    let &[SESSION, release, ahead, host] = words.as_slice() else {
        return None;
    };
    Some((release.to_owned(), ahead.parse().ok()?, host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_name_says_who_it_is_and_fits_the_servers_63_bytes() {
        let host = shown("a-pod-with-a-very-long-name-of-its-own.example.com");
        let name = format!("{SESSION} 10.20.30 {:+} {host}", -86_400_000);
        assert!(name.len() <= 63, "{}", name.len());
        let read = read_name(&name).unwrap();
        assert_eq!(
            read,
            (
                "10.20.30".to_owned(),
                -86_400_000,
                "a-pod-with-a-very-long-n".to_owned()
            )
        );
        assert_eq!(shown("\u{e6} \u{7}"), "-");
        for other in [
            "kerbridge",
            "kerbridge-replica",
            "kerbridge-replica 1 x h",
            "kerbridge-replica 1 +1 h more",
        ] {
            assert_eq!(read_name(other), None, "{other}");
        }
    }
}
