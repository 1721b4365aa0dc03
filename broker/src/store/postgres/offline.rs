//! Looks at a database's store, takes all out of it, and makes one of what was taken out.

use super::connection::{Database, Failure};
use super::schema::{FORMAT, Wanted, format, settle_within};
use super::transaction::{nothing, since, write_all};
use super::{Postgres, PostgresConfig, apart};
use crate::problem::Problem;
use crate::store::job::{Batch, Change};
use crate::store::{Checked, Exported, Position, ReplayTag, Revocation};
use crate::time::UnixTime;

/// As much of an import as is written at once.
const IMPORTED_AT_ONCE: usize = 4 * 1024;

/// Reads every row.
pub fn check_database(config: &PostgresConfig) -> Result<Checked, Problem> {
    let Exported {
        position,
        tokens_end,
        revoked,
        used,
    } = export_database(config)?;
    Ok(Checked {
        format: FORMAT.unsigned_abs(),
        position,
        tokens_end,
        revoked: revoked.len(),
        used: used.len(),
    })
}

/// All that it holds, as of one moment. Brokers may run.
pub fn export_database(config: &PostgresConfig) -> Result<Exported, Problem> {
    apart(|| {
        let mut place = Postgres::new(config)?;
        let done = place
            .open(Wanted::There)
            .and_then(|database| place.runtime.block_on(export(&database)));
        done.map_err(|error| error.problem(config))
    })
}

/// Makes the store of a database, which must have none, of what another held; it is a new epoch.
pub fn import_database(config: &PostgresConfig, exported: &Exported) -> Result<Position, Problem> {
    apart(|| {
        let place = Postgres::new(config)?;
        let done = place.runtime.block_on(import(config, exported));
        done.map_err(|error| error.problem(config))
    })
}

/// What a look at a database found that changes nothing there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseLook {
    /// The release of the server.
    pub server: String,
    /// The server's clock.
    pub clock: UnixTime,
    /// Whether a broker has made its tables.
    pub is_made: bool,
}

/// Connects to a server that can be written, and looks whether the tables are ones that this release knows.
pub fn look_at_database(config: &PostgresConfig) -> Result<DatabaseLook, Problem> {
    apart(|| {
        let place = Postgres::new(config)?;
        let done = place.runtime.block_on(async {
            let database = Database::connect(config).await?;
            let is_made = match format(&database).await? {
                Some(found) if !(1..=FORMAT).contains(&found) => return Err(Failure::Format(found)),
                found => found.is_some(),
            };
            let asked = "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())::int8";
            let row = database.client.query_typed_one(asked, &[]).await?;
            Ok(DatabaseLook {
                server: row.try_get(0)?,
                clock: time(row.try_get(1)?)?,
                is_made,
            })
        });
        done.map_err(|error: Failure| error.problem(config))
    })
}

async fn export(database: &Database) -> Result<Exported, Failure> {
    let client = &database.client;
    client
        .batch_execute("SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let changes = since(database, 0, usize::MAX).await?;
    let about = client
        .query_typed_one("SELECT tokens_end, revocations FROM about", &[])
        .await?;
    let (tokens_end, count): (i64, i64) = (about.try_get(0)?, about.try_get(1)?);
    if u64::try_from(count).ok() != u64::try_from(changes.recorded.len()).ok() {
        return Err(Failure::Corrupt("there are not as many revocations as were counted"));
    }
    if changes.recorded.iter().any(|one| one.version > changes.newest.version) {
        return Err(Failure::Corrupt("a revocation is newer than the store"));
    }
    let mut used = Vec::new();
    for row in client
        .query_typed("SELECT tag, until FROM used ORDER BY until, tag", &[])
        .await?
    {
        let tag: &[u8] = row.try_get(0)?;
        let tag = tag
            .try_into()
            .map_err(|_| Failure::Corrupt("a tag is not 32 bytes long"))?;
        used.push((ReplayTag::from_bytes(tag), time(row.try_get(1)?)?));
    }
    client.batch_execute("COMMIT").await?;
    Ok(Exported {
        position: changes.newest,
        tokens_end: time(tokens_end)?,
        revoked: changes
            .recorded
            .into_iter()
            .map(|one| (one.revocation, one.at))
            .collect(),
        used,
    })
}

/// All in one transaction: it is there whole or not at all.
async fn import(config: &PostgresConfig, exported: &Exported) -> Result<Position, Failure> {
    let mut database = Database::connect(config).await?;
    database
        .client
        .batch_execute("SET statement_timeout = 0; BEGIN")
        .await?;
    settle_within(&mut database, Wanted::New, None).await?;
    let mut batches = vec![Batch {
        tokens_end: Some(exported.tokens_end),
        ..Batch::default()
    }];
    let revoke = |(revocation, at): &(Revocation, UnixTime)| Change::Revoke(revocation.clone(), *at);
    batches.extend(exported.revoked.chunks(IMPORTED_AT_ONCE).map(|revoked| Batch {
        change: revoked.iter().map(revoke).collect(),
        ..Batch::default()
    }));
    batches.extend(exported.used.chunks(IMPORTED_AT_ONCE).map(|used| Batch {
        consume: used.to_vec(),
        ..Batch::default()
    }));
    for batch in &batches {
        let mut applied = nothing();
        write_all(&database, batch, &mut applied).await?;
        if applied.changed.iter().any(Result::is_err) {
            return Err(Failure::Corrupt("the export has more revocations than a feed may have"));
        }
    }
    let position = since(&database, 0, 0).await?.newest;
    database.client.batch_execute("COMMIT").await?;
    Ok(position)
}

fn time(seconds: i64) -> Result<UnixTime, Failure> {
    let seconds = u64::try_from(seconds).map_err(|_| Failure::Corrupt("a time is negative"))?;
    Ok(UnixTime::from_seconds(seconds))
}
