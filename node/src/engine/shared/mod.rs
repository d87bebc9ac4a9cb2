//! Shared mode, a bounded step at a time: merging what others' batches say into `node.db`, and
//! writing what follows to the application's file. A crash between two steps, or between the two
//! databases of one, is repaired by the next.

mod forget;
mod merge;
mod own;
mod run;
mod write;

use super::{Engine, EngineError};
use crate::capture::{Captured, Folded, Images, Notes, pack};
use crate::shared::blocks::own_numbers;
use crate::shared::book::{Book, states};
use crate::shared::conflicts::{self, Context, decision};
use crate::shared::incoming::{Incoming, Reading};
use crate::shared::intent::{is_unwritten, unwritten};
use crate::shared::local::Local;
use crate::shared::numbers::Numbers;
use crate::shared::owed::Owed;
use crate::shared::own::Stamp;
use crate::shared::policy::{self, Entry};
use crate::shared::stable::Stable;
use crate::shared::{DeskError, MergedId, Policy};
use crate::store::alarms::Severity;
use crate::store::{
    BranchNumber, BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, StoreError, journal,
};
use conflict::row::{Change, Loser, Lost, Reason};
use conflict::visible::Table as Place;
use conflict::{SiteId, Timestamp, Value, Version, WallTime};
use protocol::change::SchemaReference;
use protocol::limits::Limits;
use protocol::membership::Residues;
use protocol::schema::{Schema, TableIndex};
use protocol::session::LocalBranch;
use protocol::{Frame, Sequence};
use rusqlite::{Connection, OptionalExtension, params};
use std::cell::Cell;
use std::collections::BTreeMap;

/// What a step of a shared database came to.
#[derive(Debug)]
pub enum SharedStep {
    /// It went on, in these branches; there may be more to do.
    Moved(Vec<LocalBranch>),
    /// All that is held is merged and written.
    Even,
    /// Somebody is at the application's file: to be tried again in a moment.
    Busy,
    /// A batch rotted on the disk: the branch is only this far again, and is fetched anew.
    Refill(LocalBranch),
    /// It can't go on; an alarm says why. To be looked at again when something changes.
    Stuck,
}

/// A row as the application should see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// Where to go on behind it.
    pub cursor: Vec<u8>,
    /// The values that tell it apart.
    pub key: Vec<Value>,
    /// Its birth, where one key may mean several rows.
    pub birth: Option<Version>,
    /// All its columns.
    pub row: Vec<Value>,
}

/// With more rows waiting to be written, nothing more is merged before.
const UNWRITTEN: u64 = 500;

/// So many rows are settled anew in one step.
#[cfg(not(test))]
const SETTLED_AT_ONCE: usize = 2_000;
#[cfg(test)]
const SETTLED_AT_ONCE: usize = 100;

/// Whether what merging needs is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    Ready,
    /// Some rows were settled anew under another schema or other rules, and there are more.
    Settling,
    /// The schema is not here yet, or can't be shared; an alarm says so.
    Not,
}

/// What merging the rows of one database needs, beside the store.
#[derive(Debug)]
pub(super) struct Shared {
    numbers: Numbers,
    local: Local,
    codes: BTreeMap<SiteId, String>,
    /// The schema that all this is for.
    schema: Schema,
    /// Whether it is to be looked at which numbers the application hands out next.
    keys_due: Cell<bool>,
    /// Whether it is to be looked at where they hop.
    hops_due: Cell<bool>,
    /// Those that this site may hand out.
    residues: Residues,
    /// Whether a person is told that few of them are left; `None`: not known.
    told_short: Cell<Option<bool>>,
    /// Since when the application's file could not be written, for being in use.
    busy_since: Cell<Option<WallTime>>,
    /// By branch, the schema that its batches are in, and since which.
    readings: BTreeMap<BranchNumber, (Sequence, Reading)>,
    /// Of which changes everybody has heard, as found last.
    stable: Stable,
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
        let own = book.take_own(notes, captured, Stamp { timestamp, site, compared: false })?;
        for (id, lost) in &own.lost {
            // The application had seen what stood in its table, and what it did itself.
            let shown = !is_unwritten(context.connection, context.database.0, id)?;
            let state = book.now(id)?.map(|stored| stored.state);
            let seen = |loser: Version, winner: Version| {
                winner.origin == site && (shown || loser.origin == site)
            };
            conflicts::note_lost(context, id, state.as_ref(), lost, &seen)?;
        }
        for (id, lost) in &own.refused {
            let state = book.now(id)?.map(|stored| stored.state);
            conflicts::note_lost(context, id, state.as_ref(), lost, &|_, _| false)?;
        }
        book.finish(context, true)?;
        self.keys_due.set(true);
        Ok(own.folded)
    }

    /// Takes note of what another site's people decided, if a change of the rules' table says that.
    fn take_decision(&self, context: Context<'_>, change: &Incoming) -> Result<(), EngineError> {
        let mut row = change.id.key_values()?;
        if let Change::Insert(columns) = &change.change {
            row.extend(columns.iter().map(|(_, value, _)| value.clone()));
        }
        match Entry::from_row(&row) {
            Some(entry) => self.decide(context, &entry),
            None => Ok(()),
        }
    }

    /// Takes note of all that was decided: settling anew finds the same conflicts anew.
    fn decide_again(&self, context: Context<'_>) -> Result<(), EngineError> {
        let Context { connection, database, .. } = context;
        for (id, state) in states(connection, database.0, &self.numbers, policy::TABLE)? {
            let mut row = id.key_values()?;
            let value = self.numbers.column(connection, id.table, "value")?;
            row.extend(state.value(value).filter(|_| state.is_live()));
            if let Some(entry) = Entry::from_row(&row) {
                self.decide(context, &entry)?;
            }
        }
        Ok(())
    }

    fn decide(&self, context: Context<'_>, entry: &Entry) -> Result<(), EngineError> {
        let place = |table: &str, column: &str| {
            let mut tables = self.local.tables.iter();
            let table = tables.find(|known| known.name == table)?;
            table.columns.iter().position(|known| known.name == column)
        };
        Ok(decision::take(context, &self.numbers, entry, place)?)
    }

    /// Settles some more rows anew, unless everything was settled under this schema and these
    /// rules; whether it is.
    fn settle_under(
        &self,
        context: Context<'_>,
        under: [u8; 32],
        attached: bool,
    ) -> Result<bool, EngineError> {
        let Context { connection, database, .. } = context;
        let known: Option<Vec<u8>> = connection
            .prepare_cached("SELECT under FROM settled WHERE database = ?")?
            .query_row([database.0], |row| row.get(0))
            .optional()?;
        if known.is_some_and(|known| known == under) {
            return Ok(true);
        }
        let after = connection
            .prepare_cached(
                "SELECT tbl, key, birth FROM settling WHERE database = ? AND under = ?",
            )?
            .query_row(params![database.0, under], |row| {
                Ok(MergedId { table: row.get(0)?, key: row.get(1)?, birth: row.get(2)? })
            })
            .optional()?;
        if after.is_none() {
            self.book(context).begin_settling(context)?;
        }
        let book = self.book(context);
        let last = book.settle_some(context, attached, after.as_ref(), SETTLED_AT_ONCE)?;
        for table in ["settled", "settling"] {
            connection.execute(&format!("DELETE FROM {table} WHERE database = ?"), [database.0])?;
        }
        match &last {
            None => connection
                .prepare_cached("INSERT INTO settled VALUES (?1, ?2)")?
                .execute(params![database.0, under])?,
            Some(MergedId { table, key, birth }) => connection
                .prepare_cached("INSERT INTO settling VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![database.0, under, table, key, birth])?,
        };
        if last.is_none() {
            self.decide_again(context)?;
        }
        Ok(last.is_none())
    }

    /// Notes what this site's file held of a row before it joined, where the group's values count
    /// now.
    pub(in crate::engine) fn note_left_behind(
        &self,
        context: Context<'_>,
        site: SiteId,
        table: TableIndex,
        (key, values): (&[Value], &[Value]),
    ) -> Result<(), EngineError> {
        let table = self.local.table(Place(table.0))?;
        let id = MergedId { table: table.number, key: pack(key), birth: Vec::new() };
        let Some(stored) = self.book(context).now(&id)? else { return Ok(()) };
        // Older than anything that was ever said.
        let version = Version { timestamp: Timestamp::ZERO, origin: site };
        let columns = table.columns.iter().zip(values);
        let lost: Vec<Lost> = columns
            .filter(|(column, _)| !column.in_key && !column.stays)
            .map(|(column, value)| Lost {
                loser: Loser::Set(column.number, value.clone()),
                version,
                winner: stored.state.version(column.number).unwrap_or(version),
                reason: Reason::LaterWriter,
            })
            .collect();
        Ok(conflicts::note_lost(context, &id, Some(&stored.state), &lost, &|_, _| false)?)
    }

    fn book<'a>(&'a self, context: Context<'a>) -> Book<'a> {
        Book::new(context.connection, context.database.0, &self.local, &self.numbers)
            .folding(&self.stable)
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
        match self.load_shared(&database)? {
            Loaded::Ready => {}
            Loaded::Settling => return Ok(SharedStep::Moved(Vec::new())),
            Loaded::Not => return Ok(SharedStep::Even),
        }
        let waiting = unwritten(self.store.connection(), number, UNWRITTEN)?;
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
        if !attached {
            return Ok(SharedStep::Even);
        }
        if let Some(step) = self.follow_up(&database)? {
            return Ok(step);
        }
        match waiting {
            0 => self.raise_keys(&database),
            _ => self.write_shared(&database),
        }
    }

    /// Tells that a shared database can't be looked after, again and again, or that it can.
    ///
    /// # Errors
    /// The store fails.
    pub fn tell_failing(
        &mut self,
        number: DatabaseNumber,
        error: Option<&str>,
    ) -> Result<(), EngineError> {
        let subject = format!("failing:{}", number.0);
        let Some(error) = error else { return Ok(self.clear_alarm(&subject)?) };
        let name = self.store.database(number)?.name;
        self.raise(
            subject,
            Severity::Critical,
            Some(number),
            format!("What other sites say of {name} can't be merged here: {error}"),
            "Nothing is lost: it is tried again every few seconds. See that this site's disk is \
             sound and has room; if so, send this message and the log to whoever looks after it.",
        )?;
        Ok(())
    }

    /// The other branches of a shared database.
    pub(super) fn other_branches(&self, own: &BranchRow) -> Result<Vec<BranchRow>, StoreError> {
        let mut others = self.store.branches_of(own.database)?;
        others.retain(|branch| branch.number != own.number);
        Ok(others)
    }

    /// Makes ready what merging needs, a bounded step at a time.
    fn load_shared(&mut self, database: &DatabaseRow) -> Result<Loaded, EngineError> {
        let codes: BTreeMap<SiteId, String> = self
            .membership
            .members()
            .map(|member| (member.site, member.name.to_string()))
            .collect();
        let (number, residues) = (database.number, self.residues());
        let captured = self.captures.get(&number).map(|capture| capture.application.captured());
        let same = |shared: &Shared| {
            shared.codes == codes
                && shared.residues == residues
                && captured.is_none_or(|captured| captured.schema == shared.schema)
        };
        if self.shared.get(&number).is_some_and(same) {
            return Ok(Loaded::Ready);
        }
        let connection = self.store.connection();
        let images = Images::new(connection, number.0);
        let captured = match self.captures.get(&number) {
            Some(capture) => capture.application.captured().clone(),
            // Without a file the schema is that of whoever founded the database.
            None => match self.store.founding_branch(number)? {
                Some(branch) if branch.held > Sequence::ZERO => {
                    images.number_tables(&without_rules(self.schema_of(&branch)?))?
                }
                _ => return Ok(Loaded::Not),
            },
        };
        let numbers = Numbers::new(number.0);
        let policy = Policy::read(connection, number, self.identity.site)?;
        let under = settled_under(&captured.schema, &policy)?;
        let own = (self.identity.site, policy);
        let local = match Local::new(connection, &captured, &numbers, codes.clone(), own) {
            Ok(local) => local,
            Err(DeskError::Unfit(what)) => {
                self.raise(
                    unfit_subject(number),
                    Severity::Critical,
                    Some(number),
                    format!("{} can't be shared as it is now: {what}.", database.name),
                    "What is written here stays here until the schema is one that can be shared; \
                     nothing is lost meanwhile.",
                )?;
                return Ok(Loaded::Not);
            }
            Err(error) => return Err(error.into()),
        };
        let shared = Shared {
            numbers,
            local,
            codes,
            schema: captured.schema,
            keys_due: Cell::new(true),
            hops_due: Cell::new(true),
            residues,
            told_short: Cell::new(None),
            busy_since: Cell::new(None),
            readings: BTreeMap::new(),
            stable: Stable::default(),
        };
        if let Some(capture) = self.captures.get_mut(&number) {
            capture.application.set_own_numbers(own_numbers(residues));
        }
        let (now, attached) = (self.now(), database.state == DatabaseState::Attached);
        let settled = self.store.transaction(|transaction| -> Result<bool, EngineError> {
            let context = Context { connection: transaction, database: number, now };
            let settled = shared.settle_under(context, under, attached)?;
            Owed::try_again(transaction, number)?;
            Ok(settled)
        })?;
        self.clear_alarm(&unfit_subject(number))?;
        if !self.triggers_refused.contains(&number) {
            self.clear_alarm(&write::triggers_subject(number))?;
        }
        if !settled {
            return Ok(Loaded::Settling);
        }
        self.shared.insert(number, shared);
        Ok(Loaded::Ready)
    }

    /// The same, to its end.
    fn load_whole(&mut self, database: &DatabaseRow) -> Result<bool, EngineError> {
        loop {
            match self.load_shared(database)? {
                Loaded::Ready => return Ok(true),
                Loaded::Settling => {}
                Loaded::Not => return Ok(false),
            }
        }
    }

    /// Lets go of what is known of a database beside the store: it begins or ends here.
    pub(in crate::engine) fn forget_shared(&mut self, number: DatabaseNumber) {
        self.shared.remove(&number);
        self.triggers_refused.remove(&number);
        self.unmergeable.clear();
    }

    /// Whether one key may mean several rows in a table.
    pub(in crate::engine) fn collides(&self, number: DatabaseNumber, table: TableIndex) -> bool {
        let shared = self.shared.get(&number);
        let table = shared.and_then(|shared| shared.local.tables.get(table.0 as usize));
        table.is_some_and(|table| table.collides)
    }

    /// Whether the rows of a table stay at their site, so that the group has none to show.
    ///
    /// # Errors
    /// The store fails.
    pub fn rows_stay(&mut self, number: DatabaseNumber, table: &str) -> Result<bool, EngineError> {
        let database = self.store.database(number)?;
        self.load_whole(&database)?;
        let shared = self.shared.get(&number);
        Ok(shared.is_some_and(|shared| shared.local.policy.is_local(table)))
    }

    /// Rows of a table that the application should see, up to `limit` of them behind `after`.
    ///
    /// # Errors
    /// The store fails.
    pub fn visible_forms(
        &mut self,
        number: DatabaseNumber,
        table: &str,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Form>, EngineError> {
        let database = self.store.database(number)?;
        let mut forms = Vec::new();
        if !self.load_whole(&database)? {
            return Ok(forms);
        }
        let Some(shared) = self.shared.get(&number) else { return Ok(forms) };
        let connection = self.store.connection();
        let book = shared.book(Context { connection, database: number, now: self.now() });
        let table = shared.numbers.table(connection, table)?;
        let mut after = after.map(|cursor| cut_cursor(table, &cursor)).transpose()?;
        // Rows that nobody sees are passed over.
        while forms.len() < limit {
            let rows = book.after(table, after.as_ref(), limit)?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            for (id, stored) in rows {
                if forms.len() == limit {
                    break;
                }
                let Some(row) = shared.local.row_id(&id)? else { continue };
                if let Some(values) = book.shown(&row, &stored)? {
                    let (cursor, birth) = (cursor(&id), row.birth);
                    forms.push(Form { cursor, key: row.key, birth, row: values });
                }
            }
        }
        Ok(forms)
    }
}

/// The schema that a batch of a branch brought.
fn schema_at(
    connection: &Connection,
    branch: &BranchRow,
    sequence: Sequence,
    limits: &Limits,
) -> Result<Schema, EngineError> {
    let before = Sequence(sequence.0.saturating_sub(1));
    let batch = journal::whole_batch_after(connection, branch, before)?;
    let gone = || EngineError::Encoding(format!("batch {sequence} with its schema is gone"));
    let batch = batch.filter(|batch| batch.sequence == sequence).ok_or_else(gone)?;
    let body = Frame::decode_body(&batch.frame, limits)
        .map_err(|error| EngineError::Encoding(error.to_string()))?;
    match body.schema {
        SchemaReference::Here(schema) => Ok(*schema),
        SchemaReference::At(_) => Err(EngineError::Encoding(format!(
            "batch {sequence} brings no schema, though later ones name it"
        ))),
    }
}

/// A schema as batches of a shared database carry it: with the table of the rules.
pub(in crate::engine) fn with_rules(schema: &Schema) -> Schema {
    let mut schema = schema.clone();
    schema.tables.push(policy::table());
    schema
}

/// The reverse of [`with_rules`].
pub(super) fn without_rules(mut schema: Schema) -> Schema {
    schema.tables.retain(|table| table.name != policy::TABLE);
    schema
}

/// What decides what the application sees, beside the merged rows.
fn settled_under(schema: &Schema, policy: &Policy) -> Result<[u8; 32], EngineError> {
    let bytes = rmp_serde::to_vec(&(&schema.tables, &schema.objects, format!("{policy:?}")))
        .map_err(|error| EngineError::Encoding(error.to_string()))?;
    Ok(*blake3::hash(&bytes).as_bytes())
}

fn unfit_subject(database: DatabaseNumber) -> String {
    format!("unfit:{}", database.0)
}

/// Where a row lies among those of its table.
fn cursor(id: &MergedId) -> Vec<u8> {
    let mut bytes = (id.key.len() as u64).to_be_bytes().to_vec();
    bytes.extend(&id.key);
    bytes.extend(&id.birth);
    bytes
}

fn cut_cursor(table: i64, bytes: &[u8]) -> Result<MergedId, StoreError> {
    let damaged = || StoreError::Damaged("a place among merged rows".into());
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| damaged())?;
    let (key, birth) = rest.split_at_checked(length).ok_or_else(damaged)?;
    Ok(MergedId { table, key: key.to_vec(), birth: birth.to_vec() })
}
