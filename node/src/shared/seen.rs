//! What origins had applied of each other's branches when they made their batches: what a batch
//! builds upon, and which change had seen which.

use crate::store::{BranchNumber, BranchRow, StoreError, loaded, stored};
use conflict::{SiteId, Timestamp};
use protocol::{BranchId, Header, Sequence};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// What a batch of this branch builds upon beyond what its last one said; kept as said.
///
/// # Errors
/// See [`StoreError`].
pub fn dependencies(
    connection: &Connection,
    own: BranchNumber,
    others: &[BranchRow],
) -> Result<Vec<(BranchId, Sequence)>, StoreError> {
    let mut moved = Vec::new();
    for other in others {
        let said: i64 = connection
            .prepare_cached("SELECT sequence FROM seen WHERE branch = ?1 AND other = ?2")?
            .query_row([own.0, other.number.0], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        if stored(other.applied.0) > said {
            moved.push((other.id, other.applied));
            connection
                .prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3, 0)")?
                .execute(params![own.0, other.number.0, stored(other.applied.0)])?;
        }
    }
    Ok(moved)
}

/// Keeps what a batch of a branch says that its origin had applied of others.
///
/// # Errors
/// See [`StoreError`].
pub fn note_seen(
    connection: &Connection,
    branch: &BranchRow,
    branches: &[BranchRow],
    dependencies: &[(BranchId, Sequence)],
) -> Result<(), StoreError> {
    for (id, sequence) in dependencies {
        let Some(other) = branches.iter().find(|known| known.id == *id) else { continue };
        let frame: Option<Vec<u8>> = connection
            .prepare_cached("SELECT frame FROM batch WHERE branch = ?1 AND sequence = ?2")?
            .query_row(params![other.number.0, stored(sequence.0)], |row| row.get(0))
            .optional()?;
        let Some(frame) = frame else { continue };
        let header =
            Header::read(&frame).map_err(|error| StoreError::Damaged(error.to_string()))?;
        connection.prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3, ?4)")?.execute(
            params![
                branch.number.0,
                other.number.0,
                stored(sequence.0),
                stored(header.meta.timestamp.as_u64())
            ],
        )?;
    }
    Ok(())
}

/// Up to when the origin of a branch had applied the batches of other sites.
///
/// # Errors
/// See [`StoreError`].
pub fn seen(
    connection: &Connection,
    branch: &BranchRow,
    branches: &[BranchRow],
) -> Result<BTreeMap<SiteId, Timestamp>, StoreError> {
    let mut seen = BTreeMap::new();
    let mut statement =
        connection.prepare_cached("SELECT other, timestamp FROM seen WHERE branch = ?")?;
    let mut rows = statement.query([branch.number.0])?;
    while let Some(row) = rows.next()? {
        let (number, timestamp): (i64, i64) = (row.get(0)?, row.get(1)?);
        let timestamp = Timestamp::try_from(loaded("timestamp", timestamp)?)
            .map_err(|error| StoreError::Damaged(error.to_string()))?;
        if let Some(other) = branches.iter().find(|known| known.number.0 == number) {
            seen.insert(other.opening.opening().origin, timestamp);
        }
    }
    Ok(seen)
}
