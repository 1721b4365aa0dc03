//! Reads and replaces the row with the brokers' sealed keys, over a connection of its own.

use std::sync::{Mutex, PoisonError};

use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};

use super::connection::{Database, Failure, WORK_TIME};
use super::schema::Wanted;
use super::{Postgres, PostgresConfig, apart};
use crate::keyring::random;

/// The row in which the brokers of a database keep their keys. Its methods wait, and are not for a thread of a runtime.
pub struct KeyringRow {
    config: PostgresConfig,
    connected: Mutex<Option<(Postgres, Database)>>,
}

impl Drop for KeyringRow {
    /// A runtime may not end on a thread of another one.
    fn drop(&mut self) {
        let connected = self.connected.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if connected.is_some() {
            std::thread::scope(|scope| drop(scope.spawn(move || drop(connected))));
        }
    }
}

/// What is asked of it.
enum Ask<'a> {
    Read,
    ReadNewer(i64),
    Create(&'a str),
    Replace(i64, &'a str),
}

impl KeyringRow {
    /// Connects to nothing yet.
    pub fn new(config: &PostgresConfig) -> Self {
        Self {
            config: config.clone(),
            connected: Mutex::default(),
        }
    }

    /// The number of its last change, and what it holds; nothing before the first start of a broker.
    pub fn read(&self) -> Result<Option<(i64, String)>, String> {
        self.ask(&Ask::Read)
    }

    /// The same, where it was changed since.
    pub fn read_newer(&self, than: i64) -> Result<Option<(i64, String)>, String> {
        self.ask(&Ask::ReadNewer(than))
    }

    /// Writes it where there is none.
    pub fn create(&self, content: &str) -> Result<(), String> {
        self.ask(&Ask::Create(content)).map(drop)
    }

    /// Writes it where nobody has since it was read, and says the number of this change.
    pub fn replace(&self, read: i64, content: &str) -> Result<Option<i64>, String> {
        let replaced = self.ask(&Ask::Replace(read, content))?;
        Ok(replaced.map(|(change, _)| change))
    }

    fn ask(&self, ask: &Ask<'_>) -> Result<Option<(i64, String)>, String> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = &mut *connected;
        let done = apart(|| {
            let mut tries = 0_u32;
            loop {
                tries = tries.saturating_add(1);
                let answered = self.try_once(connected, ask);
                if let (Err(Failure::Gone), Ask::Read) = (&answered, ask) {
                    *connected = None;
                    return Ok(None);
                }
                if let Err(failure) = &answered {
                    *connected = None;
                    if failure.may_be_tried_again(tries) {
                        continue;
                    }
                }
                return answered.map_err(|failure| failure.problem(&self.config));
            }
        });
        done.map_err(|problem| problem.problem)
    }

    fn try_once(
        &self,
        connected: &mut Option<(Postgres, Database)>,
        ask: &Ask<'_>,
    ) -> Result<Option<(i64, String)>, Failure> {
        let (place, database) = match connected {
            Some(connected) => connected,
            None => {
                let mut place = Postgres::new(&self.config).map_err(|problem| Failure::Away(problem.problem))?;
                // Only a first start makes anything: what is gone in between was dropped by somebody.
                let wanted = match ask {
                    Ask::Create(_) => Wanted::Made,
                    Ask::Read | Ask::ReadNewer(_) | Ask::Replace(..) => Wanted::There,
                };
                let database = place.open(wanted)?;
                connected.insert((place, database))
            }
        };
        place.runtime.block_on(async {
            match timeout(WORK_TIME, answer(database, ask)).await {
                Ok(answered) => answered,
                Err(_) => Err(Failure::Unknown(format!("no answer within {} s", WORK_TIME.as_secs()))),
            }
        })
    }
}

async fn answer(database: &Database, ask: &Ask<'_>) -> Result<Option<(i64, String)>, Failure> {
    type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);
    let client = &database.client;
    let row = match ask {
        Ask::Read => {
            client
                .query_typed_opt("SELECT change, content FROM keyring", &[])
                .await?
        }
        Ask::ReadNewer(than) => {
            let parameters: [Parameter<'_>; 1] = [(than, Type::INT8)];
            let read = "SELECT change, content FROM keyring WHERE change <> $1";
            client.query_typed_opt(read, &parameters).await?
        }
        Ask::Create(content) => {
            let change = another()?;
            let parameters: [Parameter<'_>; 2] = [(&change, Type::INT8), (content, Type::TEXT)];
            let insert = "INSERT INTO keyring (change, content) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            client.execute_typed(insert, &parameters).await?;
            None
        }
        Ask::Replace(read, content) => {
            let change = another()?;
            let parameters: [Parameter<'_>; 3] = [(read, Type::INT8), (&change, Type::INT8), (content, Type::TEXT)];
            let update = "UPDATE keyring SET change = $2, content = $3 WHERE change = $1 RETURNING change, ''";
            // One statement is a transaction: where its answer is lost, it may have been done.
            let updated = client.query_typed_opt(update, &parameters).await;
            updated.map_err(|error| Failure::from(error).in_commit())?
        }
    };
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// A number that no other change has: one that is counted would come again after a restore.
fn another() -> Result<i64, Failure> {
    let bytes = random::<8>().map_err(|_| Failure::Corrupt("the system has no random numbers"))?;
    Ok(i64::from_be_bytes(*bytes))
}
