//! Keeps bound connections for the next questions, and gives up those that are old, idle for long or ended by the server.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, LdapError, Server};

/// How long a connection waits for its next question. Servers end idle ones after minutes.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// How long one is used: then addresses and certificates are looked at anew.
const LONGEST_LIFE: Duration = Duration::from_secs(600);
/// Connections that wait.
const MOST_IDLE: usize = 16;

/// Connections to one server.
#[derive(Debug)]
pub struct Pool {
    server: Server,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    opened: Instant,
    since: Instant,
}

/// A connection that is in use. Dropped, it is closed; [`Pool::give_back`] keeps it.
#[derive(Debug)]
pub struct Lent {
    /// The connection, with all that may be read for one look-up.
    pub connection: Connection,
    /// Whether it has answered before, so that the server may have ended it meanwhile.
    pub is_used: bool,
    opened: Instant,
}

impl Pool {
    /// Opens nothing yet.
    pub fn new(server: Server) -> Self {
        let idle = Mutex::default();
        Self { server, idle }
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A connection that waits, or a new one.
    pub async fn lend(&self) -> Result<Lent, LdapError> {
        while let Some(Idle {
            mut connection, opened, ..
        }) = self.pop(Instant::now())
        {
            if connection.is_quiet().await {
                connection.begin();
                return Ok(Lent {
                    connection,
                    is_used: true,
                    opened,
                });
            }
        }
        self.open().await
    }

    /// A new one.
    pub async fn open(&self) -> Result<Lent, LdapError> {
        Ok(Lent {
            connection: Connection::open(&self.server).await?,
            is_used: false,
            opened: Instant::now(),
        })
    }

    /// Keeps a connection on which every question was answered to its end.
    pub async fn give_back(&self, lent: Lent) {
        let now = Instant::now();
        let Lent { connection, opened, .. } = lent;
        let refused = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MOST_IDLE && is_young(opened, now) {
                idle.push(Idle {
                    connection,
                    opened,
                    since: now,
                });
                None
            } else {
                Some(connection)
            }
        };
        if let Some(connection) = refused {
            connection.close().await;
        }
    }

    /// The one that was used last, so that those that are not needed become idle.
    fn pop(&self, now: Instant) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| is_young(one.opened, now) && now.saturating_duration_since(one.since) < LONGEST_IDLE);
        idle.pop()
    }
}

fn is_young(opened: Instant, now: Instant) -> bool {
    now.saturating_duration_since(opened) < LONGEST_LIFE
}

#[cfg(test)]
mod tests;
