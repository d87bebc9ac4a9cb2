//! A branch's next batch: drafted, encoded, chained and signed, with the images and the position in
//! the caller's transaction. What is read before, and told after, is not known here.

use super::EngineError;
use super::shared::Shared;
use crate::capture::{Captured, Images, Notes, Position, Rescan, fold};
use crate::shared::conflicts::Context;
use crate::shared::forget::note_change;
use crate::shared::seen::dependencies;
use crate::shared::stable::note_low;
use crate::store::journal::{self, NewBatch};
use crate::store::{BranchRow, DatabaseNumber, settings};
use conflict::{SiteId, Timestamp, WallTime};
use protocol::change::{Body, RowChange, SchemaReference};
use protocol::schema::{Schema, TableIndex};
use protocol::{BranchId, Frame, Meta, Sequence, flight};
use rusqlite::Connection;

/// Who numbers what was read.
pub(super) struct Numbering<'a> {
    pub(super) database: DatabaseNumber,
    pub(super) branch: &'a BranchRow,
    /// Shared mode: the merged rows' schema.
    pub(super) shared: Option<&'a Shared>,
    /// Shared mode: the other branches of the database.
    pub(super) others: &'a [BranchRow],
    pub(super) now: WallTime,
}

/// How a capture stands.
#[derive(Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) captured: &'a Captured,
    pub(super) rescan: &'a Rescan,
    pub(super) schema_at: Sequence,
    pub(super) run_open: bool,
}

/// What numbering came to, to be taken over once it is committed.
pub(super) struct Numbered {
    pub(super) branch: Option<BranchRow>,
    pub(super) more: bool,
    pub(super) position: Position,
    pub(super) rescan: Rescan,
}

impl Numbering<'_> {
    /// Compares what was read with the images and numbers what changed, in the caller's
    /// transaction.
    pub(super) fn number(
        &self,
        transaction: &Connection,
        standing: Standing<'_>,
        notes: &Notes,
        stamp: Timestamp,
        (key, site): (&protocol::SigningKey, SiteId),
    ) -> Result<Numbered, EngineError> {
        let images = Images::new(transaction, self.database.0);
        let Standing { captured, rescan, schema_at, run_open } = standing;
        let folded = match self.shared {
            None => fold(notes, captured, &images, stamp)?,
            Some(shared) => {
                let context = self.context(transaction);
                shared.take_own(context, notes, captured, stamp, site)?
            }
        };
        let mut rescan = rescan.clone();
        let position = rescan.advance(notes, &folded);
        let more = notes.more || !rescan.is_done();
        images.store_position(&position)?;
        if folded.changes.is_empty() && run_open == more {
            return Ok(Numbered { branch: None, more, position, rescan });
        }
        let dependencies = match self.shared {
            None => Vec::new(),
            Some(_) => dependencies(transaction, self.branch.number, self.others)?,
        };
        let changes = !folded.changes.is_empty();
        let draft = Draft { dependencies, more, ..Draft::of(schema_at, folded.changes, stamp) };
        let branch = append(transaction, self.branch, draft, key)?;
        if changes && self.shared.is_some() {
            note_change(transaction, self.database, branch.number, branch.held)?;
        }
        Ok(Numbered { branch: Some(branch), more, position, rescan })
    }

    fn context<'c>(&self, connection: &'c Connection) -> Context<'c> {
        Context { connection, database: self.database, now: self.now }
    }
}

/// What is in a new batch.
pub(super) struct Draft {
    pub(super) dependencies: Vec<(BranchId, Sequence)>,
    pub(super) schema: SchemaReference,
    pub(super) cleared: Vec<TableIndex>,
    pub(super) changes: Vec<RowChange>,
    pub(super) stamp: Timestamp,
    pub(super) more: bool,
    pub(super) last: bool,
}

impl Draft {
    /// The first batch of a branch: it brings the schema.
    pub(super) fn first(schema: Schema, stamp: Timestamp) -> Self {
        let schema = SchemaReference::Here(Box::new(schema));
        Self { schema, ..Self::empty(stamp) }
    }

    /// Nothing, in a schema yet to be named.
    fn empty(stamp: Timestamp) -> Self {
        Self {
            dependencies: Vec::new(),
            schema: SchemaReference::default(),
            cleared: Vec::new(),
            changes: Vec::new(),
            stamp,
            more: false,
            last: false,
        }
    }

    /// Changes in the schema of an earlier batch.
    pub(super) fn of(schema_at: Sequence, changes: Vec<RowChange>, stamp: Timestamp) -> Self {
        Self { schema: SchemaReference::At(schema_at), changes, ..Self::empty(stamp) }
    }

    /// The last batch of a branch whose database was detached.
    pub(super) fn last(schema_at: Sequence, stamp: Timestamp) -> Self {
        Self { schema: SchemaReference::At(schema_at), last: true, ..Self::empty(stamp) }
    }
}

/// Numbers and signs a batch, and keeps the clock, in the caller's transaction; the branch as it
/// is then.
pub(super) fn append(
    transaction: &Connection,
    branch: &BranchRow,
    draft: Draft,
    key: &protocol::SigningKey,
) -> Result<BranchRow, EngineError> {
    let sequence = branch.held.next();
    note_low(transaction, branch.number, (sequence, draft.stamp), &draft.changes)?;
    let meta = Meta { sequence, timestamp: draft.stamp, more: draft.more, last: draft.last };
    let body = Body {
        dependencies: draft.dependencies,
        schema: draft.schema,
        cleared: draft.cleared,
        changes: draft.changes,
    };
    let frame =
        Frame::encode(&meta, &body).map_err(|error| EngineError::Encoding(error.to_string()))?;
    let hash = branch.hash.extend(frame.as_bytes());
    let as_of = draft.stamp.wall_time();
    let batch = NewBatch {
        sequence,
        hash,
        timestamp: draft.stamp,
        more: draft.more,
        last: draft.last,
        signature: Some(flight::sign(key, branch.id, sequence, hash)),
        frame: frame.as_bytes(),
        applied: Some(as_of),
    };
    journal::append(transaction, branch.number, &batch)?;
    settings::set_clock(transaction, draft.stamp)?;
    Ok(BranchRow {
        held: sequence,
        hash,
        timestamp: draft.stamp,
        applied: sequence,
        as_of,
        ended: branch.ended || draft.last,
        ..branch.clone()
    })
}
