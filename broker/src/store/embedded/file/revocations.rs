//! Keeps the revocations in the order of their versions, to be read from any of them on, and found by what they name and by
//! when nobody needs them any more.

use kerbridge_wire::feed::{ENTRIES_LIMIT, Epoch, Hex};
use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition, WriteTransaction};

use crate::keyring::random;
use crate::store::job::{Change, Changed};
use crate::store::{Changes, KEPT_LONGER, Kind, Position, Recorded, Revocation, Revoked, StoreError, Target};
use crate::time::UnixTime;

/// Kind, value, `issued_at_or_before`, `needed_until`, time of revocation.
type Row<'a> = (u8, &'a str, u64, u64, u64);

/// By version.
const REVOKED: TableDefinition<'_, u64, Row<'_>> = TableDefinition::new("revoked");
/// From kind and value to the version.
const TARGETS: TableDefinition<'_, (u8, &str), u64> = TableDefinition::new("revoked_targets");
/// `needed_until` and version.
const ENDS: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("revoked_ends");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const VERSION: &str = "version";
const CONTINUES_FROM: &str = "continues_from";
const TOKENS_END: &str = "tokens_end";
const EPOCH: TableDefinition<'_, &str, &[u8; 16]> = TableDefinition::new("epoch");
const EPOCH_NAME: &str = "epoch";

/// How no time stands in a row: whenever issued, needed for ever.
const NONE: u64 = u64::MAX;

/// Where the revocations of the file stand, as of the last commit.
#[derive(Clone, Copy)]
pub(super) struct Revocations {
    epoch: Epoch,
    version: u64,
    continues_from: u64,
    tokens_end: u64,
    count: u64,
}

/// What a transaction that is not yet committed does to them.
pub(super) struct Staged {
    next: Revocations,
    changed: Vec<Result<Changed, StoreError>>,
    swept: u64,
}

struct Tables<'t> {
    revoked: Table<'t, u64, Row<'static>>,
    targets: Table<'t, (u8, &'static str), u64>,
    ends: Table<'t, (u64, u64), ()>,
}

impl Revocations {
    /// Makes the tables of a new file, and draws its epoch.
    pub(super) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let no_randomness = |_| redb::Error::Io(std::io::Error::other("the system has no random numbers"));
        let epoch = random::<16>().map_err(no_randomness)?;
        transaction.open_table(EPOCH)?.insert(EPOCH_NAME, &*epoch)?;
        transaction.open_table(NUMBERS)?;
        Tables::open(transaction)?;
        Ok(())
    }

    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        let numbers = transaction.open_table(NUMBERS)?;
        let number =
            |name: &str| -> Result<u64, redb::Error> { Ok(numbers.get(name)?.map_or(0, |number| number.value())) };
        let epoch = transaction.open_table(EPOCH)?.get(EPOCH_NAME)?;
        let no_epoch = || redb::Error::Corrupted("it has no epoch".into());
        Ok(Self {
            epoch: Hex(*epoch.ok_or_else(no_epoch)?.value()),
            version: number(VERSION)?,
            continues_from: number(CONTINUES_FROM)?,
            tokens_end: number(TOKENS_END)?,
            count: transaction.open_table(REVOKED)?.len()?,
        })
    }

    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        change: &[Change],
        tokens_end: Option<UnixTime>,
        sweep: Option<UnixTime>,
    ) -> Result<Staged, redb::Error> {
        let mut tables = Tables::open(transaction)?;
        let mut staged = Staged {
            next: *self,
            changed: Vec::with_capacity(change.len()),
            swept: 0,
        };
        let next = &mut staged.next;
        if let Some(now) = sweep {
            staged.swept = tables.sweep(now)?;
            next.count = next.count.saturating_sub(staged.swept);
        }
        for change in change {
            staged.changed.push(match change {
                Change::Revoke(revocation, now) => next.revoke(&mut tables, revocation, *now)?.map(Changed::Revoked),
                Change::Lift(target) => Ok(Changed::Lifted(next.lift(&mut tables, target)?)),
            });
        }
        next.tokens_end = next.tokens_end.max(tokens_end.map_or(0, UnixTime::seconds));
        let mut numbers = transaction.open_table(NUMBERS)?;
        for (name, before, after) in [
            (VERSION, self.version, next.version),
            (CONTINUES_FROM, self.continues_from, next.continues_from),
            (TOKENS_END, self.tokens_end, next.tokens_end),
        ] {
            if before != after {
                numbers.insert(name, after)?;
            }
        }
        Ok(staged)
    }

    /// Takes over what the disk has now. Says what came of each change, and how many were forgotten.
    pub(super) fn committed(&mut self, staged: Staged) -> (Vec<Result<Changed, StoreError>>, u64) {
        let Staged { next, changed, swept } = staged;
        *self = next;
        (changed, swept)
    }

    /// Until when a token may be valid.
    pub(super) const fn tokens_end(&self) -> UnixTime {
        UnixTime::from_seconds(self.tokens_end)
    }

    /// Whether its tables agree with each other, and each row is one that this release writes.
    pub(super) fn verify(&self, transaction: &ReadTransaction) -> Result<(), StoreError> {
        let corrupt = |what: &str| StoreError::Broken(what.into());
        let broken = |error: redb::Error| StoreError::Broken(error.to_string());
        let (targets, ends) = transaction
            .open_table(TARGETS)
            .and_then(|targets| Ok((targets, transaction.open_table(ENDS)?)))
            .map_err(|error| broken(error.into()))?;
        let recorded = self.since(transaction, 0, usize::MAX)?.recorded;
        let count = recorded.len() as u64;
        for Recorded {
            version, revocation, ..
        } in recorded
        {
            let found = targets
                .get(named(&revocation.target))
                .map_err(|error| broken(error.into()))?;
            if found.map(|found| found.value()) != Some(version) {
                return Err(corrupt("a revocation is not found by what it names"));
            }
            let end = (time(revocation.needed_until), version);
            if ends.get(end).map_err(|error| broken(error.into()))?.is_none() {
                return Err(corrupt("a revocation is not found by its end"));
            }
            if version > self.version {
                return Err(corrupt("a revocation is newer than the store"));
            }
        }
        let counts = targets.len().and_then(|targets| Ok((targets, ends.len()?)));
        if counts.map_err(|error| broken(error.into()))? != (count, count) {
            return Err(corrupt("something is named that is not revoked"));
        }
        Ok(())
    }

    /// What was revoked after a version.
    pub(super) fn since(
        &self,
        transaction: &ReadTransaction,
        version: u64,
        most: usize,
    ) -> Result<Changes, StoreError> {
        let broken = |error: redb::Error| StoreError::Broken(error.to_string());
        let table = transaction.open_table(REVOKED).map_err(|error| broken(error.into()))?;
        let rows = table.range(version.saturating_add(1)..);
        let mut recorded = Vec::new();
        for row in rows.map_err(|error| broken(error.into()))?.take(most) {
            let (version, row) = row.map_err(|error| broken(error.into()))?;
            recorded.push(parse(version.value(), row.value())?);
        }
        Ok(Changes {
            newest: self.position(),
            continues_from: self.continues_from,
            recorded,
        })
    }

    fn revoke(
        &mut self,
        tables: &mut Tables<'_>,
        revocation: &Revocation,
        now: UnixTime,
    ) -> Result<Result<Revoked, StoreError>, redb::Error> {
        let target = named(&revocation.target);
        let known = tables.targets.get(target)?.map(|version| version.value());
        let mut merged = revocation.clone();
        if let Some(version) = known {
            let row = tables.revoked.get(version)?;
            let before = match row.map(|row| parse(version, row.value())) {
                Some(Ok(recorded)) => recorded.revocation,
                Some(Err(error)) => return Ok(Err(error)),
                None => return Ok(Err(StoreError::Broken("a revocation has gone".into()))),
            };
            merged = merged.merged(&before);
            if merged == before {
                return Ok(Ok(self.revoked(merged)));
            }
            tables.remove(version, &before)?;
        } else if self.count >= u64::from(ENTRIES_LIMIT) {
            return Ok(Err(StoreError::TooMany));
        } else {
            self.count = self.count.saturating_add(1);
        }
        self.version = self.version.saturating_add(1);
        tables.insert(self.version, &merged, now)?;
        Ok(Ok(self.revoked(merged)))
    }

    const fn revoked(&self, revocation: Revocation) -> Revoked {
        Revoked {
            position: self.position(),
            revocation,
        }
    }

    fn lift(&mut self, tables: &mut Tables<'_>, target: &Target) -> Result<Option<Position>, redb::Error> {
        let Some(version) = tables.targets.get(named(target))?.map(|version| version.value()) else {
            return Ok(None);
        };
        let needed = tables.revoked.get(version)?.map_or(NONE, |row| row.value().3);
        tables.revoked.remove(version)?;
        tables.targets.remove(named(target))?;
        tables.ends.remove((needed, version))?;
        self.count = self.count.saturating_sub(1);
        self.version = self.version.saturating_add(1);
        self.continues_from = self.version;
        Ok(Some(self.position()))
    }

    pub(super) const fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            version: self.version,
        }
    }
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            revoked: transaction.open_table(REVOKED)?,
            targets: transaction.open_table(TARGETS)?,
            ends: transaction.open_table(ENDS)?,
        })
    }

    fn insert(&mut self, version: u64, revocation: &Revocation, now: UnixTime) -> Result<(), redb::Error> {
        let (kind, value) = named(&revocation.target);
        let (before, needed) = (time(revocation.issued_at_or_before), time(revocation.needed_until));
        self.revoked
            .insert(version, (kind, value, before, needed, now.seconds()))?;
        self.targets.insert((kind, value), version)?;
        self.ends.insert((needed, version), ())?;
        Ok(())
    }

    /// Takes out what is to be put in again at a later version.
    fn remove(&mut self, version: u64, revocation: &Revocation) -> Result<(), redb::Error> {
        self.revoked.remove(version)?;
        self.ends.remove((time(revocation.needed_until), version))?;
        Ok(())
    }

    fn sweep(&mut self, now: UnixTime) -> Result<u64, redb::Error> {
        let limit = now.seconds().saturating_sub(KEPT_LONGER);
        let mut gone = Vec::new();
        self.ends.retain_in(..(limit, 0), |(_, version), ()| {
            gone.push(version);
            false
        })?;
        for version in &gone {
            if let Some(row) = self.revoked.remove(*version)? {
                let (kind, value, ..) = row.value();
                self.targets.remove((kind, value))?;
            }
        }
        Ok(gone.len() as u64)
    }
}

fn named(target: &Target) -> (u8, &str) {
    let kind = match target.kind() {
        Kind::Token => 1,
        Kind::Session => 2,
        Kind::Subject => 3,
    };
    (kind, target.value())
}

fn time(time: Option<UnixTime>) -> u64 {
    time.map_or(NONE, UnixTime::seconds)
}

fn parse(version: u64, row: Row<'_>) -> Result<Recorded, StoreError> {
    let (kind, value, before, needed, at) = row;
    let kind = match kind {
        1 => Kind::Token,
        2 => Kind::Session,
        3 => Kind::Subject,
        other => return Err(StoreError::Broken(format!("a revocation of the unknown kind {other}"))),
    };
    let time = |time: u64| (time != NONE).then(|| UnixTime::from_seconds(time));
    Ok(Recorded {
        version,
        at: UnixTime::from_seconds(at),
        revocation: Revocation {
            target: Target::known(kind, value).map_err(|error| StoreError::Broken(error.to_string()))?,
            issued_at_or_before: time(before),
            needed_until: time(needed),
        },
    })
}
