//! Shared mode, a bounded step at a time: merging what others' batches say into `node.db`, and
//! writing what follows to the application's file. A crash between two steps, or between the two
//! databases of one, is repaired by the next.

mod forget;
mod merge;
mod own;
mod write;

use super::{Engine, EngineError};
use crate::capture::{Captured, Folded, Images, Notes};
use crate::shared::book::Book;
use crate::shared::conflicts::{self, Context};
use crate::shared::incoming::Reading as Incoming;
use crate::shared::intent::is_unwritten;
use crate::shared::local::Local;
use crate::shared::numbers::Numbers;
use crate::shared::own::Stamp;
use crate::shared::stable::Stable;
use crate::shared::{DeskError, MergedId, Policy, policy};
use crate::store::alarms::Severity;
use crate::store::{
    BranchNumber, BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, StoreError, stored,
};
use conflict::{SiteId, Timestamp, Value, Version, WallTime};
use protocol::change::SchemaReference;
use protocol::limits::Limits;
use protocol::schema::Schema;
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
const UNWRITTEN: i64 = 500;

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
    /// Since when the application's file could not be written, for being in use.
    busy_since: Cell<Option<WallTime>>,
    /// By branch, the schema that its batches are in, and since which.
    readings: BTreeMap<BranchNumber, (Sequence, Incoming)>,
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
        let compared = notes.written.is_none();
        let own = book.take_own(notes, captured, Stamp { timestamp, site, compared })?;
        for (id, lost) in &own.lost {
            // The application had seen what stood in its table, and what it did itself.
            let shown = !is_unwritten(context.connection, context.database.0, id)?;
            let state = book.now(id)?.map(|stored| stored.state);
            let seen = |loser: Version, winner: Version| {
                winner.origin == site && (shown || loser.origin == site)
            };
            conflicts::note_lost(context, id, state.as_ref(), lost, &seen)?;
        }
        book.finish(context, true)?;
        self.keys_due.set(true);
        Ok(own.folded)
    }

    /// Settles everything anew, unless it was settled under this schema and these rules.
    fn settle_under(
        &self,
        context: Context<'_>,
        under: [u8; 32],
        attached: bool,
    ) -> Result<(), EngineError> {
        let Context { connection, database, .. } = context;
        let known: Option<Vec<u8>> = connection
            .prepare_cached("SELECT under FROM settled WHERE database = ?")?
            .query_row([database.0], |row| row.get(0))
            .optional()?;
        if known.is_some_and(|known| known == under) {
            return Ok(());
        }
        self.book(context).settle_all(context, attached)?;
        connection
            .prepare_cached("INSERT OR REPLACE INTO settled VALUES (?1, ?2)")?
            .execute(params![database.0, under])?;
        Ok(())
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

    /// The other branches of a shared database.
    pub(super) fn other_branches(&self, own: &BranchRow) -> Result<Vec<BranchRow>, StoreError> {
        let mut others = self.store.branches_of(own.database)?;
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
        let captured = self.captures.get(&number).map(|capture| capture.application.captured());
        let same = |shared: &Shared| {
            shared.codes == codes
                && captured.is_none_or(|captured| captured.schema == shared.schema)
        };
        if self.shared.get(&number).is_some_and(same) {
            return Ok(true);
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
                _ => return Ok(false),
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
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let (readings, keys_due) = (BTreeMap::new(), Cell::new(true));
        let busy_since = Cell::new(None);
        let schema = captured.schema;
        let stable = Stable::default();
        let shared =
            Shared { numbers, local, codes, schema, keys_due, busy_since, readings, stable };
        let (now, attached) = (self.now(), database.state == DatabaseState::Attached);
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            let context = Context { connection: transaction, database: number, now };
            shared.settle_under(context, under, attached)
        })?;
        self.shared.insert(number, shared);
        self.clear_alarm(&unfit_subject(number))?;
        Ok(true)
    }

    /// Lets go of what is known of a database beside the store: it begins or ends here.
    pub(in crate::engine) fn forget_shared(&mut self, number: DatabaseNumber) {
        self.shared.remove(&number);
        self.unmergeable.clear();
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
        if !self.load_shared(&database)? {
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
