//! Forgetting dead rows, a bounded step at a time: a site says how far its application is, and one
//! site, once all have, says which rows are forgotten. What that means, and why it is sound, is
//! told in [`crate::shared::forget`].

use super::merge::malformed;
use super::run::begun;
use super::{Engine, EngineError, Loaded, SharedStep, schema_at};
use crate::engine::harvest::Harvest;
use crate::engine::numbering::{Draft, append};
use crate::shared::book::Book;
use crate::shared::forget::{
    Round, Unseen, Vector, applied_by, covers, heartbeat, heartbeat_done, is_heartbeat_due,
    note_heartbeat,
};
use crate::shared::incoming::Reading as Incoming;
use crate::shared::seen::dependencies;
use crate::shared::stable::Stable;
use crate::store::journal::BatchRow;
use crate::store::{BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, StoreError, journal};
use conflict::SiteId;
use protocol::change::{Body, RowChange, SchemaReference};
use protocol::limits::Limits;
use protocol::session::LocalBranch;
use protocol::{Frame, Header, Sequence};
use std::collections::BTreeSet;

/// How many rows are forgotten by one batch.
const AT_ONCE: usize = 500;

/// Whether a batch that is a run of its own is a heartbeat.
pub(super) fn is_heartbeat(body: &Body, last: bool) -> bool {
    let brings = matches!(body.schema, SchemaReference::Here(_));
    !last && !brings && body.changes.is_empty() && body.cleared.is_empty()
}

/// Merges that rows are forgotten, as a batch of `branch` says that is being merged.
pub(super) fn forget(
    book: &Book<'_>,
    reading: &Incoming,
    forgotten: &[RowChange],
    branch: &BranchRow,
    branches: &[BranchRow],
    limits: &Limits,
) -> Result<(), EngineError> {
    let rows = forgotten.iter().map(|change| reading.row(change));
    let rows: BTreeSet<_> = rows.collect::<Result<_, _>>().map_err(malformed)?;
    let mut unseen = Unseen::new(&rows);
    let applied = applied_by(book.connection, branch.number)?;
    for other in branches.iter().filter(|other| other.number != branch.number) {
        let after = applied.get(&other.number).copied().unwrap_or(Sequence::ZERO);
        let begun = begun(book.connection, other.number)?;
        if other.applied > after || begun.is_some() {
            read_unseen(book, other, (after, begun), branches, limits, &mut unseen)?;
        }
    }
    for row in &rows {
        book.forget(row, unseen.of(row))?;
    }
    Ok(())
}

/// Reads what the batches of a branch behind `after` say, as far as they are merged: of one that is
/// `begun` these changes.
fn read_unseen(
    book: &Book<'_>,
    branch: &BranchRow,
    (after, begun): (Sequence, Option<(Sequence, usize)>),
    branches: &[BranchRow],
    limits: &Limits,
    unseen: &mut Unseen<'_>,
) -> Result<(), EngineError> {
    let connection = book.connection;
    let until = begun.map_or(branch.applied, |(sequence, _)| sequence.max(branch.applied));
    let mut seen = Vector::new();
    let mut reading: Option<(Sequence, Incoming)> = None;
    let mut at = after;
    while at < until
        && let Some(BatchRow { sequence, frame, .. }) =
            journal::whole_batch_after(connection, branch, at)?
    {
        at = sequence;
        let damaged = |error: protocol::DecodeError| EngineError::Encoding(error.to_string());
        let timestamp = Header::read(&frame).map_err(damaged)?.meta.timestamp;
        let body = Frame::decode_body(&frame, limits).map_err(damaged)?;
        for (id, until) in &body.dependencies {
            if let Some(other) = branches.iter().find(|known| known.id == *id) {
                seen.insert(other.number, *until);
            }
        }
        let (at, schema) = match body.schema {
            SchemaReference::Here(schema) => (sequence, Some(*schema)),
            SchemaReference::At(at) => (at, None),
        };
        if reading.as_ref().is_none_or(|(known, _)| *known != at) {
            let schema = match schema {
                Some(schema) => schema,
                None => schema_at(connection, branch, at, limits)?,
            };
            reading = Some((at, Incoming::new(connection, book.numbers, schema, branch.origin())?));
        }
        if let Some((_, reading)) = &reading {
            let batch = (branch.number, sequence, timestamp);
            let mut changes = body.changes;
            if let Some((_, merged)) = begun.filter(|(at, _)| *at == sequence) {
                changes.truncate(merged);
            }
            unseen.take(batch, &seen, reading, changes).map_err(malformed)?;
        }
    }
    Ok(())
}

/// How a member stands to a shared database.
enum Standing {
    /// It writes it, in these branches.
    Writes(Vec<BranchRow>),
    /// It only keeps what others write, this much of it.
    Keeps(Vector),
}

impl Engine {
    /// Tidies up a shared database: says how far its application is, if somebody waits for that,
    /// or forgets some rows that are dead for everybody. [`SharedStep::Even`]: nothing more now.
    ///
    /// # Errors
    /// The store fails.
    pub fn tidy_shared(&mut self, number: DatabaseNumber) -> Result<SharedStep, EngineError> {
        // What could not be merged is tried again at the next step: others may have it whole by now.
        self.unmergeable.clear();
        let database = self.store.database(number)?;
        if database.state != DatabaseState::Attached {
            return Ok(SharedStep::Even);
        }
        self.load_capture(&database)?;
        if !matches!(self.load_shared(&database)?, Loaded::Ready) {
            return Ok(SharedStep::Even);
        }
        let branches = self.store.branches_of(number)?;
        let stable = self.stable(&database, &branches)?;
        if let Some(shared) = self.shared.get_mut(&number) {
            shared.stable = stable;
        }
        if let Some(local) = self.beat(&database)? {
            return Ok(SharedStep::Moved(vec![local]));
        }
        self.forget_some(&database, &branches)
    }

    /// Numbers a heartbeat, if one is due and the application's file stands as it should.
    fn beat(&mut self, database: &DatabaseRow) -> Result<Option<LocalBranch>, EngineError> {
        let number = database.number;
        let connection = self.store.connection();
        let unwritten = connection
            .prepare_cached("SELECT 1 FROM unwritten WHERE database = ? LIMIT 1")?
            .exists([number.0])?;
        if unwritten || !is_heartbeat_due(connection, number)? {
            return Ok(None);
        }
        // What is committed from here on is done in tables that have all that is merged.
        if !matches!(self.read_harvest(number)?, Harvest::Nothing) {
            return Ok(None);
        }
        let Some(capture) = self.captures.get(&number) else { return Ok(None) };
        let settled = capture.rescan.is_done() && capture.position.schema_version.is_some();
        if capture.run_open || !settled {
            return Ok(None);
        }
        let schema_at = capture.schema_at;
        let timestamp = self.stamp(None)?;
        let branch = self.branch_of(database)?;
        let others = self.other_branches(&branch)?;
        let key = &self.key;
        let branch = self.store.transaction(|transaction| -> Result<_, EngineError> {
            let dependencies = dependencies(transaction, branch.number, &others)?;
            let draft = Draft { dependencies, ..Draft::of(schema_at, Vec::new(), timestamp) };
            let branch = append(transaction, &branch, draft, key)?;
            note_heartbeat(transaction, branch.number, branch.held)?;
            heartbeat_done(transaction, number)?;
            Ok(branch)
        })?;
        Ok(Some(self.local_branch(&branch)?))
    }

    /// Forgets some of the round's rows once everybody's application is without them, if that is
    /// this site's part; else begins the next round.
    fn forget_some(
        &mut self,
        database: &DatabaseRow,
        branches: &[BranchRow],
    ) -> Result<SharedStep, EngineError> {
        let number = database.number;
        if self.forgetting_site(branches) != Some(self.identity.site) {
            return Ok(SharedStep::Even);
        }
        for branch in branches {
            // What is merged in part can't be named as applied.
            if begun(self.store.connection(), branch.number)?.is_some() {
                return Ok(SharedStep::Even);
            }
        }
        let Some(round) = Round::going_on(self.store.connection(), number)? else {
            self.store.transaction(|transaction| Round::begin(transaction, number, branches))?;
            return Ok(SharedStep::Even);
        };
        for (_, standing) in self.standings(branches, false)? {
            let has_it = match standing {
                Standing::Keeps(kept) => covers(&kept, &round.vector),
                Standing::Writes(own) => {
                    let mut all = true;
                    for branch in own {
                        let beat = heartbeat(self.store.connection(), branch.number)?;
                        all &= covers(&beat, &round.vector);
                    }
                    all
                }
            };
            if !has_it {
                return Ok(SharedStep::Even);
            }
        }
        let rows = round.rows(self.store.connection(), number, AT_ONCE)?;
        let changed =
            self.change_own(database, |book, _, _, own| Ok(book.forget_dead(rows, own)?))?;
        Ok(match changed {
            Some((local, ())) => SharedStep::Moved(vec![local]),
            None => SharedStep::Even,
        })
    }

    /// Who says which rows are forgotten: one is enough, and more do no harm.
    fn forgetting_site(&self, branches: &[BranchRow]) -> Option<SiteId> {
        let writing = branches.iter().filter(|branch| self.is_live(branch));
        writing.map(BranchRow::origin).min()
    }

    /// How each member stands to a shared database; `removed`: those too that were taken out of the
    /// group while they wrote it.
    fn standings(
        &self,
        branches: &[BranchRow],
        removed: bool,
    ) -> Result<Vec<(SiteId, Standing)>, StoreError> {
        let progress = self.store.progress()?;
        let mut standings = Vec::new();
        for member in self.membership.members() {
            let goes_on = |branch: &&BranchRow| {
                branch.origin() == member.site && !(branch.ended && branch.applied == branch.held)
            };
            let own: Vec<_> = branches.iter().filter(goes_on).cloned().collect();
            if member.removed && (!removed || own.is_empty()) {
                continue;
            }
            let standing = match own.is_empty() {
                false => Standing::Writes(own),
                true => {
                    let told = progress.iter().filter(|row| row.site == member.site);
                    Standing::Keeps(told.map(|row| (row.branch, row.durable)).collect())
                }
            };
            standings.push((member.site, standing));
        }
        Ok(standings)
    }

    /// Of which changes everybody has heard. Also of a site that was removed something may still
    /// come.
    fn stable(
        &self,
        database: &DatabaseRow,
        branches: &[BranchRow],
    ) -> Result<Stable, EngineError> {
        let connection = self.store.connection();
        let mut vectors = Vec::new();
        for (_, standing) in self.standings(branches, true)? {
            match standing {
                Standing::Keeps(kept) => vectors.push(kept),
                Standing::Writes(own) => {
                    for branch in own.iter().filter(|own| database.branch != Some(own.number)) {
                        let mut applied = applied_by(connection, branch.number)?;
                        applied.insert(branch.number, branch.applied);
                        vectors.push(applied);
                    }
                }
            }
        }
        let heard = branches.iter().map(|branch| {
            let by = vectors.iter().map(|vector| {
                vector.get(&branch.number).copied().unwrap_or(Sequence::ZERO).min(branch.applied)
            });
            (branch, by.min().unwrap_or(branch.applied))
        });
        Ok(Stable::of(connection, &heard.collect::<Vec<_>>())?)
    }
}
