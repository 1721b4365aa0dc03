//! Reads revocations out of rows, and works out what a list of changes makes of them.

use std::collections::{BTreeMap, BTreeSet};

use kerbridge_wire::feed::{ENTRIES_LIMIT, Epoch, Hex};
use tokio_postgres::Row;

use super::connection::Failure;
use crate::store::job::{Change, Changed};
use crate::store::{Kind, Position, Recorded, Revocation, Revoked, StoreError, Target};
use crate::time::UnixTime;

/// The row that says where the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) epoch: Epoch,
    pub(super) version: u64,
    pub(super) continues_from: u64,
    pub(super) tokens_end: u64,
    /// How many revocations there are.
    pub(super) count: u64,
    /// The number of the table that it stands in.
    pub(super) table: i64,
}

/// Its columns, in the order in which [`About::read`] reads them.
pub(super) const ABOUT: &str =
    "about.epoch, about.version, about.continues_from, about.tokens_end, about.revocations, about.tableoid::int8";
/// How many they are.
pub(super) const ABOUT_COLUMNS: usize = 6;
/// The columns of a revocation, in the order in which [`recorded`] reads them.
pub(super) const REVOCATION: &str = "r.kind, r.value, r.version, r.issued_at_or_before, r.needed_until, r.at";

impl About {
    pub(super) fn read(row: &Row) -> Result<Self, Failure> {
        let epoch: &[u8] = row.try_get(0)?;
        let epoch = epoch
            .try_into()
            .map_err(|_| Failure::Corrupt("an epoch is not 16 bytes long"))?;
        Ok(Self {
            epoch: Hex(epoch),
            version: number(row, 1)?,
            continues_from: number(row, 2)?,
            tokens_end: number(row, 3)?,
            count: number(row, 4)?,
            table: row.try_get(5)?,
        })
    }

    pub(super) const fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            version: self.version,
        }
    }
}

fn number(row: &Row, column: usize) -> Result<u64, Failure> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| Failure::Corrupt("a number is negative"))
}

fn time(row: &Row, column: usize) -> Result<Option<UnixTime>, Failure> {
    let time: Option<i64> = row.try_get(column)?;
    let time = time.map(u64::try_from).transpose();
    let time = time.map_err(|_| Failure::Corrupt("a time is negative"))?;
    Ok(time.map(UnixTime::from_seconds))
}

/// As a row has it; later than a row can say is as late as it can.
pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.seconds()).unwrap_or(i64::MAX)
}

/// The revocation of a row, of which the first column is this one.
pub(super) fn recorded(row: &Row, first: usize) -> Result<Recorded, Failure> {
    let column = |number: usize| first.saturating_add(number);
    let kind: &str = row.try_get(column(0))?;
    let kind = Kind::ALL.iter().find(|known| known.as_str() == kind);
    let kind = kind.ok_or(Failure::Corrupt("a revocation is of an unknown kind"))?;
    let target = Target::known(*kind, row.try_get(column(1))?);
    Ok(Recorded {
        version: number(row, column(2))?,
        at: time(row, column(5))?.unwrap_or_default(),
        revocation: Revocation {
            target: target.map_err(|_| Failure::Corrupt("a revocation has a value that no claim can have"))?,
            issued_at_or_before: time(row, column(3))?,
            needed_until: time(row, column(4))?,
        },
    })
}

/// What changes make of the revocations that they name.
#[derive(Debug)]
pub(super) struct Worked {
    pub(super) about: About,
    pub(super) changed: Vec<Result<Changed, StoreError>>,
    /// To be written.
    pub(super) written: Vec<Recorded>,
    /// To be deleted.
    pub(super) removed: Vec<Target>,
}

/// What the changes name.
pub(super) fn targets(changes: &[Change]) -> BTreeSet<&Target> {
    changes
        .iter()
        .map(|change| match change {
            Change::Revoke(revocation, _) => &revocation.target,
            Change::Lift(target) => target,
        })
        .collect()
}

/// Works them out, one after the other; `known` is what stands there of all that they name.
pub(super) fn work_out(mut about: About, known: Vec<Recorded>, changes: &[Change]) -> Worked {
    let mut stand: BTreeMap<Target, Recorded> = known
        .into_iter()
        .map(|one| (one.revocation.target.clone(), one))
        .collect();
    let mut touched = BTreeSet::new();
    let mut changed = Vec::with_capacity(changes.len());
    for change in changes {
        changed.push(match change {
            Change::Revoke(revocation, now) => {
                revoke(&mut about, &mut stand, &mut touched, revocation, *now).map(Changed::Revoked)
            }
            Change::Lift(target) => Ok(Changed::Lifted(stand.remove(target).map(|_| {
                touched.insert(target.clone());
                about.count = about.count.saturating_sub(1);
                about.version = about.version.saturating_add(1);
                about.continues_from = about.version;
                about.position()
            }))),
        });
    }
    let (mut written, mut removed) = (Vec::new(), Vec::new());
    for target in touched {
        match stand.remove(&target) {
            Some(one) => written.push(one),
            None => removed.push(target),
        }
    }
    Worked {
        about,
        changed,
        written,
        removed,
    }
}

fn revoke(
    about: &mut About,
    stand: &mut BTreeMap<Target, Recorded>,
    touched: &mut BTreeSet<Target>,
    revocation: &Revocation,
    now: UnixTime,
) -> Result<Revoked, StoreError> {
    let mut merged = revocation.clone();
    match stand.get(&revocation.target) {
        Some(before) => {
            merged = merged.merged(&before.revocation);
            if merged == before.revocation {
                return Ok(Revoked {
                    position: about.position(),
                    revocation: merged,
                });
            }
        }
        None if about.count >= u64::from(ENTRIES_LIMIT) => return Err(StoreError::TooMany),
        None => about.count = about.count.saturating_add(1),
    }
    about.version = about.version.saturating_add(1);
    let recorded = Recorded {
        version: about.version,
        at: now,
        revocation: merged.clone(),
    };
    touched.insert(merged.target.clone());
    stand.insert(merged.target.clone(), recorded);
    Ok(Revoked {
        position: about.position(),
        revocation: merged,
    })
}
