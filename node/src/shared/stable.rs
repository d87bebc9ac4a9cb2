//! Of which changes every member is known to have heard, so that rows can be folded: see
//! [`RowState::compact`]. That takes no heartbeat: what a site says of a row is stamped above all
//! that it has merged of it, whether or not its application has seen that.

use super::book::{ParentBirth, Stored};
use crate::store::{BranchNumber, BranchRow, StoreError, loaded, stored};
use conflict::row::RowState;
use conflict::{SiteId, Timestamp, Version};
use protocol::change::RowChange;
use protocol::{Header, Sequence};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// Up to which stamp everybody has heard of the changes of each site, and all that they did before
/// is merged here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stable(BTreeMap<SiteId, Timestamp>);

impl Stable {
    /// What follows from how much of each branch everybody has applied.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn of(
        connection: &Connection,
        branches: &[(&BranchRow, Sequence)],
    ) -> Result<Self, StoreError> {
        let mut sites = BTreeMap::new();
        for (branch, heard) in branches {
            let until = match *heard {
                // It says nothing more.
                heard if branch.ended && heard == branch.held => Timestamp::MAX,
                heard if heard < last_low(connection, branch.number)? => Timestamp::ZERO,
                heard => timestamp_of(connection, branch.number, heard)?,
            };
            let known = sites.entry(branch.origin()).or_insert(Timestamp::MAX);
            *known = until.min(*known);
        }
        Ok(Self(sites))
    }

    fn has(&self, version: Version) -> bool {
        // Batches' stamps rise along a branch, and what is stamped below its batch was looked at.
        self.0.get(&version.origin).is_some_and(|until| version.timestamp <= *until)
    }
}

/// Keeps that a batch has changes which are stamped below it, if it has.
///
/// # Errors
/// See [`StoreError`].
pub fn note_low(
    connection: &Connection,
    branch: BranchNumber,
    (sequence, timestamp): (Sequence, Timestamp),
    changes: &[RowChange],
) -> Result<(), StoreError> {
    if changes.iter().any(|change| change.stamp.is_some_and(|stamp| stamp < timestamp)) {
        connection
            .prepare_cached("INSERT OR REPLACE INTO low_stamp VALUES (?1, ?2)")?
            .execute(params![branch.0, stored(sequence.0)])?;
    }
    Ok(())
}

fn last_low(connection: &Connection, branch: BranchNumber) -> Result<Sequence, StoreError> {
    let sequence: Option<i64> = connection
        .prepare_cached("SELECT sequence FROM low_stamp WHERE branch = ?")?
        .query_row([branch.0], |row| row.get(0))
        .optional()?;
    Ok(Sequence(loaded("sequence", sequence.unwrap_or(0))?))
}

fn timestamp_of(
    connection: &Connection,
    branch: BranchNumber,
    sequence: Sequence,
) -> Result<Timestamp, StoreError> {
    let frame: Option<Vec<u8>> = connection
        .prepare_cached("SELECT frame FROM batch WHERE branch = ?1 AND sequence = ?2")?
        .query_row(params![branch.0, stored(sequence.0)], |row| row.get(0))
        .optional()?;
    let Some(frame) = frame else { return Ok(Timestamp::ZERO) };
    let header = Header::read(&frame).map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(header.meta.timestamp)
}

impl Stored {
    /// Folds what nobody can tell apart any more. A dead row is left as it is: it is forgotten as a
    /// whole.
    pub(super) fn compact(&mut self, stable: Option<&Stable>) {
        let Some(stable) = stable.filter(|_| self.state.is_live()) else { return };
        if self.state.compact(&|version| stable.has(version)) {
            let state: &RowState = &self.state;
            self.parents.retain(|known: &ParentBirth| state.has_set(known.column, known.set));
        }
    }
}
