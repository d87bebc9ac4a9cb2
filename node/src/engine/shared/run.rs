//! The next changes of a branch that are merged in one step: a whole run of batches where that is
//! small, else a part of one, so that a step stays short and memory bounded. Nothing is merged here.

use super::{Engine, EngineError};
use crate::breakage::Breakage;
use crate::store::{BranchNumber, BranchRow, StoreError, journal, loaded, stored};
use conflict::Timestamp;
use protocol::change::{Body, RowChange};
use protocol::{Frame, Header, Sequence};
use rusqlite::{Connection, OptionalExtension, params};

/// So many changes are merged in one step.
#[cfg(not(test))]
const CHANGES: usize = 2_000;
#[cfg(test)]
const CHANGES: usize = 100;

/// With more bytes of batches read, nothing is added.
const BYTES: usize = 4 << 20;

/// Some changes of a batch.
pub(super) struct Part {
    pub(super) sequence: Sequence,
    pub(super) timestamp: Timestamp,
    pub(super) body: Body,
    /// Whether it becomes visible together with the next one.
    pub(super) more: bool,
    /// Whether it ends its branch.
    pub(super) last: bool,
    /// Up to this change it was merged before; and up to this one it is merged now.
    from: usize,
    to: usize,
}

impl Part {
    /// Its changes.
    pub(super) fn changes(&mut self) -> impl Iterator<Item = RowChange> + use<'_> {
        let changes = std::mem::take(&mut self.body.changes);
        changes.into_iter().take(self.to).skip(self.from)
    }
}

/// What is merged in one step.
pub(super) struct Parts {
    pub(super) parts: Vec<Part>,
    /// The last batch that is merged as a whole then, and when it was made.
    pub(super) whole: Option<(Sequence, Timestamp)>,
    /// The batch that is merged in part then, and up to which of its changes.
    pub(super) begun: Option<(Sequence, usize)>,
}

impl Engine {
    /// What of a run that ends with `end` is merged next; `None`: it builds upon what is not merged
    /// yet.
    pub(super) fn next_parts(
        &self,
        branch: &BranchRow,
        branches: &[BranchRow],
        end: Sequence,
    ) -> Result<Option<Parts>, EngineError> {
        let before = begun(self.store.connection(), branch.number)?;
        let mut next = Parts { parts: Vec::new(), whole: None, begun: None };
        let (mut at, mut changes, mut bytes) = (branch.applied, 0, 0);
        while at < end && changes < CHANGES && bytes < BYTES {
            let Some(row) = journal::whole_batch_after(self.store.connection(), branch, at)? else {
                return Err(StoreError::Damaged("a batch of a run is gone".into()).into());
            };
            at = row.sequence;
            bytes += row.frame.len();
            let malformed = |error: protocol::DecodeError| EngineError::Encoding(error.to_string());
            let header = Header::read(&row.frame).map_err(malformed)?;
            let body = Frame::decode_body(&row.frame, &self.limits).map_err(malformed)?;
            for (needed, sequence) in &body.dependencies {
                let here = branches.iter().find(|known| known.id == *needed);
                let lacks = here.is_none_or(|here| here.applied < *sequence);
                if lacks && !Breakage::NotCausal.is_on() {
                    return Ok(None);
                }
            }
            let from = before.filter(|(sequence, _)| *sequence == at).map_or(0, |(_, from)| from);
            let to = body.changes.len().min(from.saturating_add(CHANGES - changes));
            changes += to.saturating_sub(from);
            let (timestamp, more, last) =
                (header.meta.timestamp, header.meta.more, header.meta.last);
            match to < body.changes.len() {
                true => next.begun = Some((at, to)),
                false => next.whole = Some((at, timestamp)),
            }
            next.parts.push(Part { sequence: at, timestamp, body, more, last, from, to });
        }
        Ok(Some(next))
    }
}

/// The batch of a branch that is merged in part, and up to which of its changes.
pub(super) fn begun(
    connection: &Connection,
    branch: BranchNumber,
) -> Result<Option<(Sequence, usize)>, StoreError> {
    let found: Option<(i64, i64)> = connection
        .prepare_cached("SELECT sequence, changes FROM merged_part WHERE branch = ?")?
        .query_row([branch.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((sequence, changes)) = found else { return Ok(None) };
    let changes = usize::try_from(changes)
        .map_err(|_| StoreError::Damaged("how far a batch is merged".into()))?;
    Ok(Some((Sequence(loaded("sequence", sequence)?), changes)))
}

/// Remembers which batch is merged in part, and up to which of its changes.
pub(super) fn set_begun(
    connection: &Connection,
    branch: BranchNumber,
    begun: Option<(Sequence, usize)>,
) -> Result<(), StoreError> {
    match begun {
        Some((sequence, changes)) => connection
            .prepare_cached("INSERT OR REPLACE INTO merged_part VALUES (?1, ?2, ?3)")?
            .execute(params![branch.0, stored(sequence.0), stored(changes as u64)])?,
        None => connection
            .prepare_cached("DELETE FROM merged_part WHERE branch = ?")?
            .execute([branch.0])?,
    };
    Ok(())
}
