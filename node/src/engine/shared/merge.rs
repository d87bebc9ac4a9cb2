//! Merging what others say: a chunk of a base, or a run of batches whose turn has come, in one
//! transaction of `node.db`. The application's file is not touched.

use super::forget::{forget, is_heartbeat};
use super::run::{Parts, set_begun};
use super::{Engine, EngineError, Loaded, SharedStep, schema_at};
use crate::engine::mirror::LOOK_AT_DISK;
use crate::shared::conflicts::{self, Context};
use crate::shared::forget::{note_change, note_heartbeat};
use crate::shared::incoming::{IncomingError, Reading as Incoming};
use crate::shared::policy;
use crate::shared::seen::{note_seen, seen};
use crate::shared::stable::note_low;
use crate::snapshot::BaseFile;
use crate::store::alarms::Severity;
use crate::store::{BranchNumber, BranchRow, DatabaseRow, StoreError, databases, loaded, stored};
use conflict::Version;
use protocol::change::{Body, Operation, SchemaReference};
use protocol::schema::Schema;
use protocol::snapshot::{decode_chunk, verify_chunk};
use protocol::{BranchId, Header, Sequence};
use rusqlite::{Connection, OptionalExtension, params};

/// What to do where a batch is whole and can't be merged.
const UPDATE: &str = "It is safe in the journal and nothing of it is lost: update the node of this \
                      site, or ask for help with the log of the node at hand.";

impl Engine {
    /// Merges the next chunk of a base, or the next run of batches whose turn has come.
    pub(super) fn merge_next(
        &mut self,
        database: &DatabaseRow,
        attached: bool,
    ) -> Result<SharedStep, EngineError> {
        let branches = self.store.branches_of(database.number)?;
        for branch in &branches {
            if branch.applied < branch.base {
                if !branch.base_held {
                    return Ok(SharedStep::Even);
                }
                return match self.merge_chunk(database, branch, attached) {
                    Err(error @ (EngineError::Encoding(_) | EngineError::Desk(_))) => {
                        self.set_aside(database, branch, &error.to_string(), UPDATE)
                    }
                    other => other,
                };
            }
        }
        // While what was merged is fetched again, changes that rest on it can't be read.
        if branches.iter().any(|branch| branch.held < branch.applied) {
            return Ok(SharedStep::Even);
        }
        for branch in &branches {
            // What this site's own branch says was merged when it was numbered; a former one of its
            // own, of before a detach, is like any other.
            let own = attached && database.branch == Some(branch.number);
            if own || self.unmergeable.contains(&branch.number) {
                continue;
            }
            let end = self.end_of_run(branch)?;
            if end == branch.applied {
                continue;
            }
            match self.merge_run(database, branch, &branches, end, attached) {
                Ok(true) => {
                    let moved = self.store.branch_numbered(branch.number)?;
                    self.clear_alarm(&stuck_subject(branch.id))?;
                    return Ok(SharedStep::Moved(vec![self.local_branch(&moved)?]));
                }
                Ok(false) => {}
                Err(error) => return self.not_merged(database, branch, error),
            }
        }
        Ok(SharedStep::Even)
    }

    /// A run can't be merged: one of its batches, or one that is read with it, is damaged or is not
    /// understood. Others are not held up.
    fn not_merged(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
        error: EngineError,
    ) -> Result<SharedStep, EngineError> {
        let remedy = match error {
            EngineError::Encoding(_) | EngineError::Desk(_) => UPDATE,
            EngineError::Store(StoreError::Rotten(rotten, sequence)) => {
                if let Some(local) = self.refill(database, rotten, sequence)? {
                    return Ok(SharedStep::Refill(local));
                }
                LOOK_AT_DISK
            }
            error => return Err(error),
        };
        self.set_aside(database, branch, &error.to_string(), remedy)?;
        Ok(match self.load_shared(database)? {
            Loaded::Ready | Loaded::Settling => SharedStep::Moved(Vec::new()),
            Loaded::Not => SharedStep::Stuck,
        })
    }

    /// The end of the next run of batches that become visible together; where it has none yet, the
    /// place where merging stands.
    fn end_of_run(&self, branch: &BranchRow) -> Result<Sequence, StoreError> {
        let end: Option<i64> = self
            .store
            .connection()
            .prepare_cached(
                "SELECT sequence FROM batch WHERE branch = ? AND sequence > ? AND more = 0
                 ORDER BY sequence LIMIT 1",
            )?
            .query_row(params![branch.number.0, stored(branch.applied.0)], |row| row.get(0))
            .optional()?;
        end.map_or(Ok(branch.applied), |end| Ok(Sequence(loaded("sequence", end)?)))
    }

    /// Merges a run, or the next part of a long one, if everything that it builds upon is merged.
    fn merge_run(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
        branches: &[BranchRow],
        end: Sequence,
        attached: bool,
    ) -> Result<bool, EngineError> {
        let Some(Parts { parts, whole, begun }) = self.next_parts(branch, branches, end)? else {
            return Ok(false);
        };
        let number = database.number;
        let origin = branch.opening.opening().origin;
        let Some(mut shared) = self.shared.remove(&number) else { return Ok(false) };
        let context = (number, self.now());
        let limits = &self.limits;
        let policies = self.store.transaction(|transaction| -> Result<_, EngineError> {
            let context = Context { connection: transaction, database: number, now: context.1 };
            for part in &parts {
                let (stamped, changes) = ((part.sequence, part.timestamp), &part.body.changes);
                note_seen(transaction, branch, branches, &part.body.dependencies)?;
                note_low(transaction, branch.number, stamped, changes)?;
                if !changes.is_empty() {
                    note_change(transaction, number, branch.number, part.sequence)?;
                }
                if is_heartbeat(&part.body, part.last)
                    && !part.more
                    && !closes_a_run(transaction, branch.number, part.sequence)?
                {
                    note_heartbeat(transaction, branch.number, part.sequence)?;
                }
            }
            let seen = seen(transaction, branch, branches)?;
            let mut readings = std::mem::take(&mut shared.readings);
            let policy = shared.numbers.table(transaction, policy::TABLE)?;
            let mut policies = false;
            let book = shared.book(context);
            for mut part in parts {
                let (sequence, timestamp) = (part.sequence, part.timestamp);
                let at = match &part.body.schema {
                    SchemaReference::Here(schema) => {
                        // Without a file it is the founder's schema that rows are settled under.
                        policies |= !attached;
                        let schema = Schema::clone(schema);
                        let reading = Incoming::new(transaction, &shared.numbers, schema, origin)?;
                        readings.insert(branch.number, (sequence, reading));
                        sequence
                    }
                    SchemaReference::At(at) => *at,
                };
                if readings.get(&branch.number).is_none_or(|(known, _)| *known != at) {
                    let schema = schema_at(transaction, branch, at, limits)?;
                    let reading = Incoming::new(transaction, &shared.numbers, schema, origin)?;
                    readings.insert(branch.number, (at, reading));
                }
                let Some((_, reading)) = readings.get(&branch.number) else { continue };
                let (forgotten, changes): (Vec<_>, Vec<_>) =
                    part.changes().partition(|change| change.operation == Operation::Forget);
                if !forgotten.is_empty() {
                    forget(&book, reading, &forgotten, branch, branches, limits)?;
                }
                for change in changes {
                    let incoming = reading.read(change, timestamp).map_err(malformed)?;
                    if incoming.id.table == policy {
                        policies = true;
                        shared.take_decision(context, &incoming)?;
                    }
                    let lost = book.merge(
                        &incoming.id,
                        incoming.version,
                        &incoming.change,
                        &incoming.parents,
                    )?;
                    if lost.is_empty() {
                        continue;
                    }
                    let state = book.now(&incoming.id)?.map(|stored| stored.state);
                    let had_seen = |loser: Version, winner: Version| {
                        winner.origin == origin
                            && (loser.origin == origin
                                || seen.get(&loser.origin).is_some_and(|at| *at >= loser.timestamp))
                    };
                    let state = state.as_ref();
                    conflicts::note_lost(context, &incoming.id, state, &lost, &had_seen)?;
                }
            }
            book.finish(context, attached)?;
            shared.readings = readings;
            set_begun(transaction, branch.number, begun)?;
            if let Some((sequence, timestamp)) = whole {
                let as_of = timestamp.wall_time();
                databases::set_applied(transaction, branch.number, sequence, as_of)?;
            }
            Ok(policies)
        })?;
        tracing::debug!(database = %database.name, ?whole, ?begun, %end, "a run is merged so far");
        // Rules that changed may show other rows: the next step reads them, and settles anew.
        if !policies {
            self.shared.insert(number, shared);
        }
        Ok(true)
    }

    /// Merges the next chunk of a base.
    fn merge_chunk(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
        attached: bool,
    ) -> Result<SharedStep, EngineError> {
        let Some(signed) = self.store.manifest(branch.number)? else {
            return Err(StoreError::Damaged("a base without its manifest".into()).into());
        };
        let manifest = signed.manifest();
        let before = Sequence(manifest.sequence.0.saturating_sub(1));
        let Some(first) = self.store.batches_after(branch.number, before, 1, 0)?.pop() else {
            return Ok(SharedStep::Even);
        };
        let header =
            Header::read(&first.frame).map_err(|error| EngineError::Encoding(error.to_string()))?;
        let timestamp = header.meta.timestamp;
        let merged = chunks_merged(self.store.connection(), branch.number)?;
        let origin = branch.opening.opening().origin;
        let body = match manifest.chunks.get(merged as usize) {
            None => Body::default(),
            Some(info) => {
                let file = BaseFile::open(&*self.environment, &self.directory.snapshot(branch.id))?;
                let chunk = u32::try_from(merged).unwrap_or(u32::MAX);
                let Some(bytes) = file.chunk(chunk)? else {
                    return self.set_aside(
                        database,
                        branch,
                        "a chunk of its base is gone",
                        LOOK_AT_DISK,
                    );
                };
                let read =
                    verify_chunk(info, &bytes).map_err(|error| error.to_string()).and_then(|()| {
                        decode_chunk(&bytes, &self.limits).map_err(|error| error.to_string())
                    });
                match read {
                    Ok(body) => body,
                    Err(error) => return self.set_aside(database, branch, &error, LOOK_AT_DISK),
                }
            }
        };
        let last = merged + 1 >= manifest.chunks.len() as u64;
        let number = database.number;
        let Some(shared) = self.shared.get(&number) else { return Ok(SharedStep::Even) };
        let now = self.environment.wall_clock();
        self.store.transaction(|transaction| -> Result<_, EngineError> {
            let context = Context { connection: transaction, database: number, now };
            let schema = manifest.schema.clone();
            let reading = Incoming::new(transaction, &shared.numbers, schema, origin)?;
            let book = shared.book(context);
            for change in body.changes {
                let incoming = reading.read(change, timestamp).map_err(malformed)?;
                book.merge(&incoming.id, incoming.version, &incoming.change, &incoming.parents)?;
            }
            book.finish(context, attached)?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO merged_base VALUES (?1, ?2)")?
                .execute(params![branch.number.0, stored(merged + 1)])?;
            if last {
                let as_of = timestamp.wall_time();
                databases::set_applied(transaction, branch.number, manifest.sequence, as_of)?;
            }
            Ok(())
        })?;
        let moved = self.store.branch_numbered(branch.number)?;
        Ok(SharedStep::Moved(vec![self.local_branch(&moved)?]))
    }

    /// A batch that can't be merged waits, with an alarm; others go on as far as they do not
    /// build upon it.
    fn set_aside(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
        what: &str,
        remedy: &str,
    ) -> Result<SharedStep, EngineError> {
        self.unmergeable.insert(branch.number);
        let origin = self.site_name(branch.opening.opening().origin);
        self.raise(
            stuck_subject(branch.id),
            Severity::Critical,
            Some(database.number),
            format!("A batch of {origin} for {} can't be merged: {what}.", database.name),
            remedy,
        )?;
        Ok(SharedStep::Stuck)
    }
}

/// Whether a batch is the last of several that became visible together.
fn closes_a_run(
    connection: &Connection,
    branch: BranchNumber,
    sequence: Sequence,
) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM batch WHERE branch = ?1 AND sequence = ?2 AND more = 1")?
        .exists(params![branch.0, stored(sequence.0.saturating_sub(1))])?)
}

fn chunks_merged(connection: &Connection, branch: BranchNumber) -> Result<u64, StoreError> {
    let merged: Option<i64> = connection
        .prepare_cached("SELECT chunks FROM merged_base WHERE branch = ?")?
        .query_row([branch.0], |row| row.get(0))
        .optional()?;
    loaded("chunks", merged.unwrap_or(0))
}

pub(super) fn malformed(error: IncomingError) -> EngineError {
    match error {
        IncomingError::Store(error) => error.into(),
        IncomingError::Malformed(what) => EngineError::Encoding(what),
    }
}

fn stuck_subject(branch: BranchId) -> String {
    format!("merge:{branch}")
}
