//! Does a batch in one transaction.
//!
//! Tags first, in their order, then the row of [`About`], then revocations: everybody takes locks in this order, so that nobody
//! waits for somebody who waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::changes::{ABOUT, ABOUT_COLUMNS, About, REVOCATION, Worked, recorded, seconds, targets, work_out};
use super::connection::{Database, Failure, WORK_TIME};
use crate::store::job::{Applied, Batch, Change};
use crate::store::{Changes, Consumed, KEPT_LONGER, ReplayTag, Swept, Target};
use crate::time::UnixTime;

/// How long a commit proves that a server is the one that is written.
const PROVEN_FOR: Duration = Duration::from_secs(2);

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Does all of it, or nothing. After [`Failure::Unknown`] it may have been done.
pub(super) async fn apply(database: &mut Database, batch: &Batch) -> Result<Applied, Failure> {
    let mut in_commit = false;
    match timeout(WORK_TIME, apply_in_time(database, batch, &mut in_commit)).await {
        Ok(Err(failure)) if in_commit => Err(failure.in_commit()),
        Ok(done) => done,
        Err(_) => {
            let late = format!("no answer within {} s", WORK_TIME.as_secs());
            // It was not slow to no purpose: another attempt would find the same.
            Err(Failure::Unknown(late))
        }
    }
}

async fn apply_in_time(database: &mut Database, batch: &Batch, in_commit: &mut bool) -> Result<Applied, Failure> {
    let mut applied = nothing();
    let is_written = changes(batch) || !batch.consume.is_empty();
    // Whoever reads goes by what is read as of now, and a server that another has taken over from does not know it. It can commit
    // nothing where its standby is synchronous.
    let is_proven = database.proven.is_some_and(|at| at.elapsed() < PROVEN_FOR);
    if is_written || !is_proven {
        let client = &database.client;
        client.batch_execute("BEGIN").await?;
        write_all(database, batch, &mut applied).await?;
        if !is_proven {
            // Something to commit, for which nobody waits who holds a row.
            client
                .query_typed("SELECT pg_logical_emit_message(true, 'kerbridge', '')", &[])
                .await?;
        }
        *in_commit = is_written;
        client.batch_execute("COMMIT").await?;
        // Whatever fails from here on, this has happened, and must not be done again.
        applied.is_committed = is_written;
        database.proven = Some(Instant::now());
    }
    for (version, most) in &batch.read {
        applied.read.push(since(database, *version, *most).await?);
    }
    Ok(applied)
}

/// What has come of nothing yet.
pub(super) fn nothing() -> Applied {
    Applied {
        is_committed: false,
        consumed: Vec::new(),
        changed: Vec::new(),
        tokens_end: UnixTime::default(),
        swept: Swept::default(),
        read: Vec::new(),
    }
}

const fn changes(batch: &Batch) -> bool {
    !batch.change.is_empty() || batch.tokens_end.is_some() || batch.sweep.is_some()
}

/// All that a batch writes, within a transaction that is under way.
pub(super) async fn write_all(database: &Database, batch: &Batch, applied: &mut Applied) -> Result<(), Failure> {
    let client = &database.client;
    applied.consumed = consume(client, &batch.consume).await?;
    if let Some(now) = batch.sweep {
        let parameters: [Parameter<'_>; 1] = [(&seconds(now), Type::INT8)];
        // The clock of one broker that is ahead must not forget for all.
        let forget = "DELETE FROM used WHERE until <= least($1, extract(epoch FROM clock_timestamp())::int8)";
        applied.swept.tags = client.execute_typed(forget, &parameters).await?;
    }
    if changes(batch) {
        change(database, batch, applied).await?;
    }
    Ok(())
}

/// Uses tags up, and says which were new, in the order of the batch.
async fn consume(client: &Client, consume: &[(ReplayTag, UnixTime)]) -> Result<Vec<Consumed>, Failure> {
    let mut wanted = BTreeMap::new();
    for (tag, until) in consume {
        wanted
            .entry(tag.as_bytes().as_slice())
            .or_insert_with(|| seconds(*until));
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (tags, untils): (Vec<&[u8]>, Vec<i64>) = wanted.into_iter().unzip();
    let parameters: [Parameter<'_>; 2] = [(&tags, Type::BYTEA_ARRAY), (&untils, Type::INT8_ARRAY)];
    let insert = "INSERT INTO used (tag, until) SELECT * FROM unnest($1, $2) ON CONFLICT DO NOTHING RETURNING tag";
    let mut fresh: BTreeSet<Vec<u8>> = BTreeSet::new();
    for row in client.query_typed(insert, &parameters).await? {
        fresh.insert(row.try_get(0)?);
    }
    let first = |tag: &ReplayTag| match fresh.remove(tag.as_bytes().as_slice()) {
        true => Consumed::First,
        false => Consumed::Again,
    };
    Ok(consume.iter().map(|(tag, _)| tag).map(first).collect())
}

/// Holds the row of the store, and changes revocations.
async fn change(database: &Database, batch: &Batch, applied: &mut Applied) -> Result<(), Failure> {
    let client = &database.client;
    let lock = format!("SELECT {ABOUT} FROM about FOR UPDATE");
    let row = client.query_typed_opt(&lock, &[]).await?;
    let mut about = About::read(&row.ok_or(Failure::Gone)?)?;
    is_the_same(database, &about)?;
    let before = about;
    if let Some(now) = batch.sweep {
        let end = seconds(UnixTime::from_seconds(now.seconds().saturating_sub(KEPT_LONGER)));
        let kept = seconds(UnixTime::from_seconds(KEPT_LONGER));
        let parameters: [Parameter<'_>; 2] = [(&end, Type::INT8), (&kept, Type::INT8)];
        let forget = "DELETE FROM revocation \
                      WHERE needed_until < least($1, extract(epoch FROM clock_timestamp())::int8 - $2)";
        applied.swept.revocations = client.execute_typed(forget, &parameters).await?;
        about.count = about.count.saturating_sub(applied.swept.revocations);
    }
    if !batch.change.is_empty() {
        let known = known(client, &batch.change).await?;
        let worked = work_out(about, known, &batch.change);
        write(client, &worked).await?;
        about = worked.about;
        applied.changed = worked.changed;
    }
    about.tokens_end = about.tokens_end.max(batch.tokens_end.map_or(0, UnixTime::seconds));
    applied.tokens_end = UnixTime::from_seconds(about.tokens_end);
    if about != before {
        let number = |number: u64| seconds(UnixTime::from_seconds(number));
        let numbers = [about.version, about.continues_from, about.tokens_end, about.count].map(number);
        let [version, continues_from, tokens_end, count] = &numbers;
        let parameters: [Parameter<'_>; 4] = [
            (version, Type::INT8),
            (continues_from, Type::INT8),
            (tokens_end, Type::INT8),
            (count, Type::INT8),
        ];
        let update = "UPDATE about SET version = $1, continues_from = $2, tokens_end = $3, revocations = $4";
        client.execute_typed(update, &parameters).await?;
    }
    Ok(())
}

/// What stands there of all that changes name.
async fn known(client: &Client, changes: &[Change]) -> Result<Vec<crate::store::Recorded>, Failure> {
    let (kinds, values): (Vec<&str>, Vec<&str>) = targets(changes).into_iter().map(named).unzip();
    let parameters: [Parameter<'_>; 2] = [(&kinds, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)];
    let find = format!(
        "SELECT {REVOCATION} FROM revocation r JOIN unnest($1, $2) AS named (kind, value) \
         ON r.kind = named.kind AND r.value = named.value"
    );
    let rows = client.query_typed(&find, &parameters).await?;
    rows.iter().map(|row| recorded(row, 0)).collect()
}

async fn write(client: &Client, worked: &Worked) -> Result<(), Failure> {
    let (kinds, values): (Vec<&str>, Vec<&str>) = worked.removed.iter().map(named).unzip();
    if !kinds.is_empty() {
        let parameters: [Parameter<'_>; 2] = [(&kinds, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)];
        let delete = "DELETE FROM revocation r USING unnest($1, $2) AS named (kind, value) \
                      WHERE r.kind = named.kind AND r.value = named.value";
        client.execute_typed(delete, &parameters).await?;
    }
    if worked.written.is_empty() {
        return Ok(());
    }
    let written = worked.written.iter();
    let (kinds, values): (Vec<&str>, Vec<&str>) = written.clone().map(|one| named(&one.revocation.target)).unzip();
    let number = |number: u64| seconds(UnixTime::from_seconds(number));
    let versions: Vec<i64> = written.clone().map(|one| number(one.version)).collect();
    let issued: Vec<Option<i64>> = written
        .clone()
        .map(|one| one.revocation.issued_at_or_before.map(seconds))
        .collect();
    let needed: Vec<Option<i64>> = written
        .clone()
        .map(|one| one.revocation.needed_until.map(seconds))
        .collect();
    let at: Vec<i64> = written.map(|one| seconds(one.at)).collect();
    let parameters: [Parameter<'_>; 6] = [
        (&kinds, Type::TEXT_ARRAY),
        (&values, Type::TEXT_ARRAY),
        (&versions, Type::INT8_ARRAY),
        (&issued, Type::INT8_ARRAY),
        (&needed, Type::INT8_ARRAY),
        (&at, Type::INT8_ARRAY),
    ];
    let upsert = "INSERT INTO revocation (kind, value, version, issued_at_or_before, needed_until, at) \
                  SELECT * FROM unnest($1, $2, $3, $4, $5, $6) \
                  ON CONFLICT (kind, value) DO UPDATE SET version = excluded.version, \
                  issued_at_or_before = excluded.issued_at_or_before, needed_until = excluded.needed_until, at = excluded.at";
    client.execute_typed(upsert, &parameters).await?;
    Ok(())
}

fn named(target: &Target) -> (&'static str, &str) {
    (target.kind().as_str(), target.value())
}

/// Where the store stands and what was revoked after a version, as of one moment: both are one statement's.
pub(super) async fn since(database: &Database, version: u64, most: usize) -> Result<Changes, Failure> {
    let number = |number: u64| seconds(UnixTime::from_seconds(number));
    let (version, most) = (number(version), number(u64::try_from(most).unwrap_or(u64::MAX)));
    let parameters: [Parameter<'_>; 2] = [(&version, Type::INT8), (&most, Type::INT8)];
    let read = format!(
        "SELECT {ABOUT}, {REVOCATION} FROM about LEFT JOIN LATERAL \
         (SELECT * FROM revocation WHERE version > $1 ORDER BY version LIMIT $2) r ON true ORDER BY r.version"
    );
    let rows = database.client.query_typed(&read, &parameters).await?;
    let about = About::read(rows.first().ok_or(Failure::Gone)?)?;
    is_the_same(database, &about)?;
    let mut changes = Changes {
        newest: about.position(),
        continues_from: about.continues_from,
        recorded: Vec::with_capacity(rows.len()),
    };
    for row in &rows {
        // Without a revocation the row of the store stands alone.
        if row.try_get::<_, Option<&str>>(ABOUT_COLUMNS)?.is_some() {
            changes.recorded.push(recorded(row, ABOUT_COLUMNS)?);
        }
    }
    Ok(changes)
}

/// Another table under the same name was restored from a dump: it is looked at as after a new connection.
fn is_the_same(database: &Database, about: &About) -> Result<(), Failure> {
    if about.table == database.table {
        Ok(())
    } else {
        Err(Failure::Lost("the tables were restored".into()))
    }
}
