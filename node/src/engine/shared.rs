//! Shared mode, a bounded step at a time: merging what others' batches say into `node.db`, and
//! writing what follows to the application's file. A crash between two steps, or between the two
//! databases of one, is repaired by the next.

use super::harvest::{Capture, Harvest, Numbering, Standing};
use super::{Engine, EngineError};
use crate::capture::{CaptureError, Captured, Folded, Form, Held, Images, Notes, Polite, Reading};
use crate::shared::book::Book;
use crate::shared::conflicts::{self, Context};
use crate::shared::incoming::{IncomingError, Reading as Incoming};
use crate::shared::intent::{end_intent, intend, is_unwritten, set_writes, writes};
use crate::shared::local::Local;
use crate::shared::numbers::Numbers;
use crate::shared::own::Stamp;
use crate::shared::seen::{note_seen, seen};
use crate::shared::{Policy, blocks, policy};
use crate::snapshot::BaseFile;
use crate::store::alarms::Severity;
use crate::store::{
    BranchNumber, BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, StoreError, databases,
    loaded, stored,
};
use conflict::{SiteId, Timestamp};
use protocol::change::{Body, SchemaReference};
use protocol::limits::Limits;
use protocol::membership::Residues;
use protocol::schema::{Schema, TableIndex};
use protocol::session::LocalBranch;
use protocol::snapshot::{decode_chunk, verify_chunk};
use protocol::{BranchId, Frame, Header, Sequence};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, BTreeSet};

/// What a step of a shared database came to.
#[derive(Debug)]
pub enum SharedStep {
    /// It went on, in these branches; there may be more to do.
    Moved(Vec<LocalBranch>),
    /// All that is held is merged and written.
    Even,
    /// Somebody is at the application's file: to be tried again in a moment.
    Busy,
    /// It can't go on; an alarm says why. To be looked at again when something changes.
    Stuck,
}

/// With more rows waiting to be written, nothing more is merged before.
const UNWRITTEN: i64 = 500;

/// What merging the rows of one database needs, beside the store.
#[derive(Debug)]
pub(super) struct Shared {
    numbers: Numbers,
    local: Local,
    codes: BTreeMap<SiteId, String>,
    /// By branch, the schema that its batches are in, and since which.
    readings: BTreeMap<BranchNumber, (Sequence, Incoming)>,
}

impl Shared {
    /// What the application beside this node did, merged and settled.
    pub(super) fn take_own(
        &self,
        context: Context<'_>,
        notes: &Notes,
        captured: &Captured,
        timestamp: Timestamp,
        site: SiteId,
    ) -> Result<Folded, EngineError> {
        let book = self.book(context);
        let compared = notes.written.is_none();
        let own = book.take_own(notes, captured, Stamp { timestamp, site, compared })?;
        for (id, lost) in &own.lost {
            // The application had seen what stood in its table.
            let shown = !is_unwritten(context, id)?;
            conflicts::note_lost(context, id, lost, &|_, winner| winner.origin == site && shown)?;
        }
        book.finish(context, true)?;
        Ok(own.folded)
    }

    fn book<'a>(&'a self, context: Context<'a>) -> Book<'a> {
        Book::new(context.connection, context.database.0, &self.local, &self.numbers)
    }
}

impl Engine {
    /// One step of a shared database.
    ///
    /// # Errors
    /// The store fails. What is wrong at the application's file, or with a batch, raises an alarm.
    pub fn step_shared(&mut self, number: DatabaseNumber) -> Result<SharedStep, EngineError> {
        let database = self.store.database(number)?;
        let attached = match database.state {
            DatabaseState::Attached => true,
            DatabaseState::Attaching => false,
            _ => return Ok(SharedStep::Even),
        };
        if attached {
            self.load_capture(&database)?;
        }
        if !self.load_shared(&database)? {
            return Ok(SharedStep::Even);
        }
        let waiting: i64 = self
            .store
            .connection()
            .prepare_cached("SELECT count(*) FROM unwritten WHERE database = ?")?
            .query_row([number.0], |row| row.get(0))?;
        if waiting < UNWRITTEN || !attached {
            match self.merge_next(&database, attached) {
                Ok(SharedStep::Even) => {}
                Ok(step) => return Ok(step),
                Err(error) => {
                    self.shared.remove(&number);
                    return Err(error);
                }
            }
        }
        if waiting == 0 || !attached {
            return Ok(SharedStep::Even);
        }
        self.write_shared(&database)
    }

    /// Merges the next chunk of a base, or the next run of batches whose turn has come.
    fn merge_next(
        &mut self,
        database: &DatabaseRow,
        attached: bool,
    ) -> Result<SharedStep, EngineError> {
        let branches = self.branches_of(database.number)?;
        for branch in &branches {
            if branch.base > Sequence::ZERO && !self.is_base_merged(branch)? {
                return match branch.base_held {
                    true => self.merge_chunk(database, branch, attached),
                    false => Ok(SharedStep::Even),
                };
            }
        }
        for branch in &branches {
            let own = branch.opening.opening().origin == self.identity.site;
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
                // Others are not held up.
                Err(EngineError::Encoding(what)) => {
                    self.set_aside(database, branch, &what)?;
                    return Ok(match self.load_shared(database)? {
                        true => SharedStep::Moved(Vec::new()),
                        false => SharedStep::Stuck,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(SharedStep::Even)
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

    /// Merges a run, if everything that it builds upon is merged.
    fn merge_run(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
        branches: &[BranchRow],
        end: Sequence,
        attached: bool,
    ) -> Result<bool, EngineError> {
        let mut batches = Vec::new();
        let mut at = branch.applied;
        while at < end {
            let Some(row) = self.store.batches_after(branch.number, at, 1, 0)?.pop() else {
                return Err(StoreError::Damaged("a batch of a run is gone".into()).into());
            };
            at = row.sequence;
            let malformed = |error: protocol::DecodeError| EngineError::Encoding(error.to_string());
            let header = Header::read(&row.frame).map_err(malformed)?;
            let body = Frame::decode_body(&row.frame, &self.limits).map_err(malformed)?;
            for (needed, sequence) in &body.dependencies {
                let here = branches.iter().find(|known| known.id == *needed);
                if here.is_none_or(|here| here.applied < *sequence) {
                    return Ok(false);
                }
            }
            batches.push((row.sequence, header.meta.timestamp, body));
        }
        let number = database.number;
        let origin = branch.opening.opening().origin;
        let Some(mut shared) = self.shared.remove(&number) else { return Ok(false) };
        let context = (number, self.now());
        let limits = &self.limits;
        let (policies, as_of) =
            self.store.transaction(|transaction| -> Result<_, EngineError> {
                let context = Context { connection: transaction, database: number, now: context.1 };
                let mut as_of = branch.as_of;
                for (_, timestamp, body) in &batches {
                    note_seen(transaction, branch, branches, &body.dependencies)?;
                    as_of = timestamp.wall_time();
                }
                let seen = seen(transaction, branch, branches)?;
                let mut readings = std::mem::take(&mut shared.readings);
                let policy = shared.numbers.table(transaction, policy::TABLE)?;
                let mut policies = false;
                let book = shared.book(context);
                for (sequence, timestamp, body) in batches {
                    let at = match &body.schema {
                        SchemaReference::Here(schema) => {
                            let schema = Schema::clone(schema);
                            let reading =
                                Incoming::new(transaction, &shared.numbers, schema, origin)?;
                            readings.insert(branch.number, (sequence, reading));
                            sequence
                        }
                        SchemaReference::At(at) => *at,
                    };
                    if readings.get(&branch.number).is_none_or(|(known, _)| *known != at) {
                        let schema = schema_at(transaction, branch.number, at, limits)?;
                        let reading = Incoming::new(transaction, &shared.numbers, schema, origin)?;
                        readings.insert(branch.number, (at, reading));
                    }
                    let Some((_, reading)) = readings.get(&branch.number) else { continue };
                    for change in body.changes {
                        let incoming = reading.read(change, timestamp).map_err(malformed)?;
                        policies |= incoming.id.table == policy;
                        let lost = book.merge(
                            &incoming.id,
                            incoming.version,
                            &incoming.change,
                            &incoming.parents,
                        )?;
                        conflicts::note_lost(context, &incoming.id, &lost, &|loser, winner| {
                            winner.origin == origin
                                && (loser.origin == origin
                                    || seen
                                        .get(&loser.origin)
                                        .is_some_and(|at| *at >= loser.timestamp))
                        })?;
                    }
                }
                book.finish(context, attached)?;
                shared.readings = readings;
                databases::set_applied(transaction, branch.number, end, as_of)?;
                Ok((policies, as_of))
            })?;
        tracing::debug!(database = %database.name, %end, ?as_of, "a run is merged");
        // Rules that changed may show other rows: the next step reads them, and settles anew.
        if policies {
            self.settle_anew(database)?;
        } else {
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
                    return self.set_aside(database, branch, "a chunk of its base is gone");
                };
                let read =
                    verify_chunk(info, &bytes).map_err(|error| error.to_string()).and_then(|()| {
                        decode_chunk(&bytes, &self.limits).map_err(|error| error.to_string())
                    });
                match read {
                    Ok(body) => body,
                    Err(error) => return self.set_aside(database, branch, &error),
                }
            }
        };
        let last = merged + 1 >= manifest.chunks.len() as u64;
        let number = database.number;
        let Some(shared) = self.shared.get(&number) else { return Ok(SharedStep::Even) };
        let now = self.environment.wall_clock();
        let own = origin == self.identity.site;
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
            if last && !own {
                let as_of = timestamp.wall_time();
                databases::set_applied(transaction, branch.number, manifest.sequence, as_of)?;
            }
            Ok(())
        })?;
        let moved = self.store.branch_numbered(branch.number)?;
        Ok(SharedStep::Moved(vec![self.local_branch(&moved)?]))
    }

    fn is_base_merged(&self, branch: &BranchRow) -> Result<bool, EngineError> {
        let merged = chunks_merged(self.store.connection(), branch.number)?;
        let Some(signed) = self.store.manifest(branch.number)? else { return Ok(false) };
        Ok(merged > 0 && merged >= signed.manifest().chunks.len() as u64)
    }

    /// A batch that can't be merged waits, with an alarm; others go on as far as they do not
    /// build upon it.
    fn set_aside(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
        what: &str,
    ) -> Result<SharedStep, EngineError> {
        self.unmergeable.insert(branch.number);
        let origin = self.site_name(branch.opening.opening().origin);
        self.raise(
            stuck_subject(branch.id),
            Severity::Critical,
            Some(database.number),
            format!("A batch of {origin} for {} can't be merged: {what}.", database.name),
            "It is safe in the journal and nothing of it is lost: update the node of this site, \
             or ask for help with the log of the node at hand.",
        )?;
        Ok(SharedStep::Stuck)
    }

    /// The branches of a database.
    pub(super) fn branches_of(
        &self,
        database: DatabaseNumber,
    ) -> Result<Vec<BranchRow>, StoreError> {
        let mut branches = self.store.branches()?;
        branches.retain(|branch| branch.database == database);
        Ok(branches)
    }

    /// The other branches of a shared database.
    pub(super) fn other_branches(&self, own: &BranchRow) -> Result<Vec<BranchRow>, StoreError> {
        let mut others = self.branches_of(own.database)?;
        others.retain(|branch| branch.number != own.number);
        Ok(others)
    }

    /// Makes ready what merging needs; whether it could be.
    fn load_shared(&mut self, database: &DatabaseRow) -> Result<bool, EngineError> {
        let codes: BTreeMap<SiteId, String> = self
            .membership
            .members()
            .map(|member| (member.site, member.name.to_string()))
            .collect();
        let number = database.number;
        if self.shared.get(&number).is_some_and(|shared| shared.codes == codes) {
            return Ok(true);
        }
        let connection = self.store.connection();
        let images = Images::new(connection, number.0);
        let captured = match self.captures.get(&number) {
            Some(capture) => capture.application.captured().clone(),
            // Without a file the schema is that of whoever founded the database.
            None => match self.founding_schema(database)? {
                Some(schema) => images.number_tables(&schema)?,
                None => return Ok(false),
            },
        };
        let numbers = Numbers::new(number.0);
        let policy = Policy::default();
        let local = Local::new(connection, &captured, &numbers, codes.clone(), policy)?;
        let readings = BTreeMap::new();
        self.shared.insert(number, Shared { numbers, local, codes, readings });
        Ok(true)
    }

    /// The schema that the founder's branch began with.
    fn founding_schema(&self, database: &DatabaseRow) -> Result<Option<Schema>, EngineError> {
        for branch in self.branches_of(database.number)? {
            let opening = branch.opening.opening();
            if opening.origin == database.site && branch.held > Sequence::ZERO {
                let connection = self.store.connection();
                let schema = schema_at(connection, branch.number, Sequence(1), &self.limits)?;
                return Ok(Some(without_rules(schema)));
            }
        }
        Ok(None)
    }

    /// Settles everything under the schema and the rules as they are now.
    pub(super) fn settle_anew(&mut self, database: &DatabaseRow) -> Result<(), EngineError> {
        let number = database.number;
        self.shared.remove(&number);
        if !self.load_shared(database)? {
            return Ok(());
        }
        let now = self.now();
        let attached = database.state == DatabaseState::Attached;
        let Some(shared) = self.shared.get(&number) else { return Ok(()) };
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            let context = Context { connection: transaction, database: number, now };
            Ok(shared.book(context).settle_all(context, attached)?)
        })
    }

    /// What comes before a harvest of a shared database: the base must be merged, and a write that
    /// was cut off be taken note of. What the harvest comes to instead, if it can't be.
    pub(super) fn look_at_shared(
        &mut self,
        database: &DatabaseRow,
    ) -> Result<Option<Harvest>, EngineError> {
        for branch in self.branches_of(database.number)? {
            if branch.base > Sequence::ZERO && !self.is_base_merged(&branch)? {
                return Ok(Some(Harvest::Busy));
            }
        }
        if !self.load_shared(database)? {
            return Ok(Some(Harvest::Stopped));
        }
        match self.settle_writes(database) {
            Ok(true) => Ok(None),
            Ok(false) => {
                self.note_went_back(database)?;
                Ok(Some(Harvest::Stopped))
            }
            Err(EngineError::Capture(error)) => self.note_capture_error(database, error).map(Some),
            Err(error) => Err(error),
        }
    }

    /// Whether the file has seen the writes that it should have; a write that was cut off is taken
    /// note of first.
    fn settle_writes(&mut self, database: &DatabaseRow) -> Result<bool, EngineError> {
        let number = database.number;
        let Some(capture) = self.captures.get_mut(&number) else { return Ok(true) };
        let found = capture.application.writes()?;
        let known = writes(self.store.connection(), number)?;
        let intended: bool = self
            .store
            .connection()
            .prepare_cached("SELECT 1 FROM intent WHERE database = ? LIMIT 1")?
            .exists([number.0])?;
        match known {
            None => {
                set_writes(self.store.connection(), number, found)?;
                Ok(true)
            }
            Some(known) if intended => {
                let happened = found == known;
                if happened || found + 1 == known {
                    self.store.transaction(|transaction| {
                        Ok::<_, EngineError>(end_intent(transaction, number, happened)?)
                    })?;
                    return Ok(true);
                }
                Ok(false)
            }
            Some(known) => Ok(found == known),
        }
    }

    /// Writes what does not stand in the application's file as it should.
    fn write_shared(&mut self, database: &DatabaseRow) -> Result<SharedStep, EngineError> {
        let number = database.number;
        match self.look_at_shared(database)? {
            None => {}
            Some(Harvest::Busy) => return Ok(SharedStep::Busy),
            Some(_) => return Ok(SharedStep::Stuck),
        }
        let Some(mut capture) = self.captures.remove(&number) else { return Ok(SharedStep::Stuck) };
        let written = self.write_with(database, &mut capture);
        let (numbered, written) = written?;
        let mut moved = Vec::new();
        if let Some(branch) = numbered {
            moved.push(self.local_branch(&branch)?);
        }
        let written = match written {
            Ok(written) => written,
            Err(EngineError::Capture(error)) if error.is_busy() => Written::Busy,
            Err(EngineError::Capture(error)) => {
                let what = format!("{} can't be written: {error}.", database.name);
                self.raise(
                    write_subject(number),
                    Severity::Critical,
                    Some(number),
                    what,
                    "What others changed is kept and is written once the file can be: look at the \
                     disk and at what has the file open.",
                )?;
                return Ok(SharedStep::Stuck);
            }
            Err(error) => {
                self.shared.remove(&number);
                return Err(error);
            }
        };
        self.captures.insert(number, capture);
        match written {
            Written::Done => {
                self.clear_alarm(&write_subject(number))?;
                Ok(SharedStep::Moved(moved))
            }
            Written::Busy if moved.is_empty() => Ok(SharedStep::Busy),
            Written::Busy => Ok(SharedStep::Moved(moved)),
        }
    }

    /// The write itself. What was harvested on the way stays so whether or not it comes about.
    fn write_with(
        &mut self,
        database: &DatabaseRow,
        capture: &mut Capture,
    ) -> Result<(Option<BranchRow>, Result<Written, EngineError>), EngineError> {
        if !capture.rescan.is_done() || capture.position.schema_version.is_none() {
            return Ok((None, Ok(Written::Busy))); // it is compared as a whole first
        }
        let number = database.number;
        let branch = self.branch_of(database)?;
        let others = self.other_branches(&branch)?;
        let stamp = self.stamp(None)?;
        let now = self.now();
        let Some(shared) = self.shared.get(&number) else { return Ok((None, Ok(Written::Busy))) };
        let (key, site, environment) = (&self.key, self.identity.site, &self.environment);
        let residues = self.membership.member(site).map(|member| member.residues);
        let store = &mut self.store;
        let known = writes(store.connection(), number)?.unwrap_or(0);
        let numbering = Numbering {
            database: number,
            branch: &branch,
            shared: Some(shared),
            others: &others,
            now,
        };
        let (schema_at, run_open) = (capture.schema_at, capture.run_open);
        let (rescan, position) = (&capture.rescan, &capture.position);
        let (mut harvested, mut intended) = (None, false);
        let written = capture.application.write(|held| -> Result<Polite<()>, EngineError> {
            if held.writes()? != known {
                return Ok(Polite::Busy); // looked into before the next one
            }
            let notes = match held.read(position)? {
                Reading::Nothing => None,
                Reading::Notes(notes) if !notes.more => Some(notes),
                _ => return Ok(Polite::Busy), // harvested in its own time
            };
            if notes.is_some() {
                let path = &database.path;
                environment
                    .sync_wal(path)
                    .map_err(|error| super::file_error(&path.display().to_string(), error))?;
            }
            let (numbered, forms) = store.transaction(|transaction| -> Result<_, EngineError> {
                let captured = held.captured();
                let standing = Standing { captured, rescan, schema_at, run_open };
                let numbered = match &notes {
                    Some(notes) => {
                        Some(numbering.number(transaction, standing, notes, stamp, (key, site))?)
                    }
                    None => None,
                };
                let context = Context { connection: transaction, database: number, now };
                let forms = intend(&shared.book(context))?;
                if !forms.is_empty() {
                    set_writes(transaction, number, known + 1)?;
                }
                Ok((numbered, forms))
            })?;
            harvested = numbered.zip(notes);
            intended = !forms.is_empty();
            if !intended {
                return Ok(Polite::Busy); // all is as it should be: nothing to commit
            }
            held.put(&forms, known + 1)?;
            if let Some(residues) = residues {
                shared.raise_keys(held, &forms, residues)?;
            }
            Ok(Polite::Done(()))
        });
        let branch = harvested.and_then(|(numbered, notes)| capture.take(numbered, &notes).0);
        let written = match written {
            Ok(Polite::Busy) if !intended => Ok(Written::Busy),
            Ok(done) => {
                let happened = done == Polite::Done(());
                let ended = store.transaction(|transaction| {
                    Ok::<_, EngineError>(end_intent(transaction, number, happened)?)
                });
                ended.map(|()| if happened { Written::Done } else { Written::Busy })
            }
            // Whether it came about is asked of the file before the next step.
            Err(error) => Err(error),
        };
        Ok((branch, written))
    }
}

/// What became of a write.
#[derive(Debug)]
enum Written {
    Done,
    Busy,
}

impl Shared {
    /// Lets AUTOINCREMENT count on in this site's own numbers, in the tables that others' rows
    /// entered.
    fn raise_keys(
        &self,
        held: &Held<'_>,
        forms: &[Form],
        residues: Residues,
    ) -> Result<(), EngineError> {
        let tables: BTreeSet<TableIndex> = forms.iter().map(|form| form.table).collect();
        let names: Vec<&str> = tables
            .iter()
            .filter_map(|index| self.local.tables.get(index.0 as usize))
            .filter(|table| table.collides)
            .map(|table| table.name.as_str())
            .collect();
        blocks::raise(held.connection(), &names, residues, blocks::SIZE)
            .map_err(|error| CaptureError::application(held.path(), error).into())
    }
}

fn chunks_merged(connection: &Connection, branch: BranchNumber) -> Result<u64, StoreError> {
    let merged: Option<i64> = connection
        .prepare_cached("SELECT chunks FROM merged_base WHERE branch = ?")?
        .query_row([branch.0], |row| row.get(0))
        .optional()?;
    loaded("chunks", merged.unwrap_or(0))
}

/// The schema that a batch of a branch brought.
fn schema_at(
    connection: &Connection,
    branch: BranchNumber,
    sequence: Sequence,
    limits: &Limits,
) -> Result<Schema, EngineError> {
    let frame: Option<Vec<u8>> = connection
        .prepare_cached("SELECT frame FROM batch WHERE branch = ?1 AND sequence = ?2")?
        .query_row(params![branch.0, stored(sequence.0)], |row| row.get(0))
        .optional()?;
    let gone = || EngineError::Encoding(format!("batch {sequence} with its schema is gone"));
    let body = Frame::decode_body(&frame.ok_or_else(gone)?, limits)
        .map_err(|error| EngineError::Encoding(error.to_string()))?;
    match body.schema {
        SchemaReference::Here(schema) => Ok(*schema),
        SchemaReference::At(_) => Err(EngineError::Encoding(format!(
            "batch {sequence} brings no schema, though later ones name it"
        ))),
    }
}

fn malformed(error: IncomingError) -> EngineError {
    match error {
        IncomingError::Store(error) => error.into(),
        IncomingError::Malformed(what) => EngineError::Encoding(what),
    }
}

/// A schema as batches of a shared database carry it: with the table of the rules.
pub(super) fn with_rules(schema: &Schema) -> Schema {
    let mut schema = schema.clone();
    schema.tables.push(policy::table());
    schema
}

/// The reverse of [`with_rules`].
fn without_rules(mut schema: Schema) -> Schema {
    schema.tables.retain(|table| table.name != policy::TABLE);
    schema
}

fn stuck_subject(branch: BranchId) -> String {
    format!("merge:{branch}")
}

fn write_subject(database: DatabaseNumber) -> String {
    format!("write:{}", database.0)
}
