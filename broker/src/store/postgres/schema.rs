//! Makes the tables where there are none, brings those of an earlier format up, and begins a new epoch where they are not where
//! they were written.
//!
//! A backup that is restored, a copy, and a standby that took over hold what was true at some time, and lack what came after it.
//! Filters refuse to go back within an epoch, so they would keep what they know and miss what is revoked next. So the tables say in
//! which place they were written: the server's identifier, the timeline of its log (a new one after each restore to a point in time
//! and each promotion), its start (a copy of its files may be older than what was answered), the database, and the table itself (a new
//! one after a restore of a dump). What is restored by rows alone has gone back behind what this broker has read.

use kerbridge_wire::feed::Hex;
use tokio_postgres::types::Type;

use super::connection::{Database, Failure};
use crate::keyring::random;
use crate::store::Position;

/// What this release reads and writes.
pub(super) const FORMAT: i32 = 1;

/// What makes each format of the one before; of nothing the first.
const STEPS: [&str; 1] = [include_str!("format_1.sql")];

/// Held while tables are made. Any number will do that nobody else takes.
const LOCK: i64 = 0x6b65_7262_7269_6467;

/// What is to be there afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A store, made where there is none.
    Made,
    /// A store that is there.
    There,
    /// A store that is made now.
    New,
}

/// Where these tables are. Text that only equality is asked of.
const PLACE: &str = "(SELECT system_identifier FROM pg_control_system()) \
     || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) \
     || '/' || extract(epoch FROM pg_postmaster_start_time())::numeric \
     || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) \
     || '/' || 'kerbridge.about'::regclass::oid";

/// Sees to it that the store is there as wanted, and notes which table it is in.
pub(super) async fn settle(database: &mut Database, wanted: Wanted, seen: Option<Position>) -> Result<(), Failure> {
    database.client.batch_execute("BEGIN").await?;
    settle_within(database, wanted, seen).await?;
    Ok(database.client.batch_execute("COMMIT").await?)
}

/// The same within a transaction that is under way.
pub(super) async fn settle_within(
    database: &mut Database,
    wanted: Wanted,
    seen: Option<Position>,
) -> Result<(), Failure> {
    let client = &database.client;
    client
        .query_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)])
        .await?;
    let found = format(database).await?;
    match (found, wanted) {
        (Some(_), Wanted::New) => return Err(Failure::There),
        (None, Wanted::There) => return Err(Failure::Gone),
        (None, Wanted::Made | Wanted::New) => make(database).await?,
        (Some(found), Wanted::Made | Wanted::There) if !(1..=FORMAT).contains(&found) => {
            return Err(Failure::Format(found));
        }
        (Some(found), Wanted::Made | Wanted::There) => bring_up(database, found).await?,
    }
    begin_anew_elsewhere(database, seen).await?;
    let row = client.query_typed_one("SELECT tableoid::int8 FROM about", &[]).await?;
    database.table = row.try_get(0)?;
    Ok(())
}

/// The format of the tables; `None` where there are none.
pub(super) async fn format(database: &Database) -> Result<Option<i32>, Failure> {
    let there = "SELECT to_regclass('kerbridge.about') IS NOT NULL";
    if !database
        .client
        .query_typed_one(there, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        return Ok(None);
    }
    let row = database.client.query_typed_opt("SELECT format FROM about", &[]).await?;
    let row = row.ok_or(Failure::Corrupt("the row that says what the store is has gone"))?;
    Ok(Some(row.try_get(0)?))
}

async fn make(database: &Database) -> Result<(), Failure> {
    let client = &database.client;
    // Where somebody made it for the role, the role need not be allowed to.
    let there = "SELECT to_regnamespace('kerbridge') IS NOT NULL";
    if !client.query_typed_one(there, &[]).await?.try_get::<_, bool>(0)? {
        client.batch_execute("CREATE SCHEMA kerbridge").await?;
    }
    for step in STEPS {
        client.batch_execute(step).await?;
    }
    let epoch = random::<16>().map_err(|_| Failure::Corrupt("the system has no random numbers"))?;
    let write = format!("INSERT INTO about (format, epoch, written_in) SELECT $1, $2, {PLACE}");
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&FORMAT, Type::INT4), (&epoch.as_slice(), Type::BYTEA)];
    client.execute_typed(&write, &parameters).await?;
    Ok(())
}

async fn bring_up(database: &Database, from: i32) -> Result<(), Failure> {
    let done = usize::try_from(from).unwrap_or_default();
    for step in STEPS.iter().skip(done) {
        database.client.batch_execute(step).await?;
    }
    if from < FORMAT {
        database
            .client
            .execute_typed("UPDATE about SET format = $1", &[(&FORMAT, Type::INT4)])
            .await?;
        tracing::info!(from, to = FORMAT, "the store was brought up to this release's format");
    }
    Ok(())
}

/// Whoever read up to here must read all of it again.
async fn begin_anew_elsewhere(database: &Database, seen: Option<Position>) -> Result<(), Failure> {
    let look = format!(
        "SELECT written_in <> {PLACE}, epoch, version, revocations = (SELECT count(*) FROM revocation) FROM about"
    );
    let row = database.client.query_typed_one(&look, &[]).await?;
    let (epoch, version): (&[u8], i64) = (row.try_get(1)?, row.try_get(2)?);
    let has_gone_back =
        seen.is_some_and(|seen| seen.epoch.0 == epoch && i64::try_from(seen.version).is_ok_and(|seen| seen > version));
    if !row.try_get::<_, bool>(0)? && !has_gone_back {
        return Ok(());
    }
    // Rows of a restore that come after this would never be read: it must be at its end.
    if !row.try_get::<_, bool>(3)? {
        return Err(Failure::Corrupt(
            "there are not as many revocations as were counted, or a restore is not at its end",
        ));
    }
    let epoch = random::<16>().map_err(|_| Failure::Corrupt("the system has no random numbers"))?;
    let begin = format!(
        "UPDATE about SET epoch = $1, version = version + 1, continues_from = version + 1, written_in = {PLACE}"
    );
    database
        .client
        .execute_typed(&begin, &[(&epoch.as_slice(), Type::BYTEA)])
        .await?;
    let epoch = Hex(*epoch);
    tracing::warn!(
        %epoch,
        "the database was started anew or restored, or a standby took over: where that lost anything, what was revoked last is lost; \
         every filter reads all of it"
    );
    Ok(())
}
