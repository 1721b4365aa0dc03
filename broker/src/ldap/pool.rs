//! Keeps bound connections for the next questions, and gives up those that are old, idle for long or ended by the server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Connection, LdapError, Server};

/// How long a connection waits for its next question. Servers end idle ones after minutes.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// How long one is used: then addresses and certificates are looked at anew.
const LONGEST_LIFE: Duration = Duration::from_secs(600);
/// Connections that wait.
const MOST_IDLE: usize = 16;

/// Connections to one directory, wherever it answers.
#[derive(Debug)]
pub struct Pool {
    server: Server,
    idle: Mutex<Vec<Idle>>,
    /// The place that is looked at first: the one that answered last.
    first: AtomicUsize,
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
        Self {
            server,
            idle: Mutex::default(),
            first: AtomicUsize::new(0),
        }
    }

    /// A connection that waits, or a new one by this time.
    pub async fn lend(&self, deadline: Instant) -> Result<Lent, LdapError> {
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
        self.open(deadline).await
    }

    /// A new one by this time: at the first place that answers, each of which has its share of the time.
    pub async fn open(&self, deadline: Instant) -> Result<Lent, LdapError> {
        let Server { places, bind } = &self.server;
        let first = self.first.load(Ordering::Relaxed);
        let in_turn = places.iter().enumerate().cycle().skip(first).take(places.len());
        let mut outcome = Err(LdapError::Connection("there is no place to look at".to_owned()));
        let all = u32::try_from(places.len()).unwrap_or(u32::MAX);
        for ((at, place), left) in in_turn.zip((1..=all).rev()) {
            let opening = Connection::open(place, bind);
            let opened = if left > 1 {
                let share = deadline.saturating_duration_since(Instant::now()).checked_div(left);
                let late = |_| LdapError::Connection(format!("{place} does not answer"));
                timeout(share.unwrap_or_default(), opening)
                    .await
                    .map_err(late)
                    .flatten()
            } else {
                // All that is left is its own.
                opening.await
            };
            match opened {
                Ok(connection) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(Lent {
                        connection,
                        is_used: false,
                        opened: Instant::now(),
                    });
                }
                // A password that one refuses the others would too, and lock the account.
                Err(refused @ LdapError::Refused { .. }) if !refused.is_for_now() => return Err(refused),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Gives up what waits, and looks elsewhere first: somebody had no answer in time.
    pub fn distrust(&self) {
        let places = self.server.places.len();
        if places < 2 {
            return;
        }
        let next = self.first.load(Ordering::Relaxed).saturating_add(1).checked_rem(places);
        self.first.store(next.unwrap_or_default(), Ordering::Relaxed);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
