//! A mirror's file: its marker, opening, closing, and transactions that move content and marker
//! together. What a batch does to rows and schema is written next door.

use super::error::{ApplyError, Doing};
use super::rows::{RowWriter, Targets, targets};
use super::schema::{LeftOut, Movement};
use crate::environment::Environment;
use crate::sql::perform;
use conflict::Timestamp;
use protocol::change::{Body, SchemaReference};
use protocol::schema::Schema;
use protocol::{BranchId, DatabaseId, Sequence};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// How far a mirror is, kept inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The database that it mirrors.
    pub database_id: DatabaseId,
    /// The branch that it follows.
    pub branch: BranchId,
    /// The last batch applied.
    pub sequence: Sequence,
    /// That batch's timestamp.
    pub timestamp: Timestamp,
    /// The batch that brought the schema in force.
    pub schema_at: Sequence,
}

/// A batch on its way into a mirror.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its number.
    pub sequence: Sequence,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its content.
    pub body: Body,
    /// Whether the next batch belongs to the same run: they become visible together.
    pub more: bool,
}

/// What a call of [`Mirror::apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Batches applied.
    pub batches: u64,
    /// Batches that were in the mirror before.
    pub skipped: u64,
    /// Row changes written.
    pub rows: u64,
    /// Row changes that stood in another's way and had to wait for the end of their run.
    pub waited: u64,
    /// If the schema moved: which of its objects could not be made here, those that could not be
    /// made before included.
    pub left_out: Option<Vec<LeftOut>>,
}

/// One mirror, open for writing. There is one writer, this; anyone may read the file meanwhile.
#[derive(Debug)]
pub struct Mirror {
    connection: Connection,
    state: Option<State>,
}

/// What stands in the marker's row.
#[derive(Clone, Debug)]
struct State {
    marker: Marker,
    schema: Arc<Schema>,
    targets: Targets,
}

impl State {
    fn new(marker: Marker, schema: Schema) -> Result<Self, ApplyError> {
        let targets = targets(&schema, &Default::default())?;
        Ok(Self { marker, schema: Arc::new(schema), targets })
    }
}

const MARKER_TABLE: &str = "CREATE TABLE _holdfast_marker (id INTEGER PRIMARY KEY CHECK (id = 1), \
     database_id BLOB NOT NULL, branch BLOB NOT NULL, sequence INTEGER NOT NULL, \
     timestamp INTEGER NOT NULL, schema BLOB NOT NULL, schema_at INTEGER NOT NULL)";
const OPENING: &str = "opening the mirror";
const COMMITTING: &str = "committing to the mirror";

impl Mirror {
    /// Opens the mirror at `path`, or makes an empty one.
    ///
    /// # Errors
    /// SQLite's, and [`ApplyError::NotAMirror`] for a file that holds something else.
    pub fn open(environment: &dyn Environment, path: &Path) -> Result<Self, ApplyError> {
        Self::on(open_file(environment, path)?)
    }

    /// The same on a connection that is open for writing already.
    ///
    /// # Errors
    /// As [`Mirror::open`].
    pub fn on(connection: Connection) -> Result<Self, ApplyError> {
        let known = has_table(&connection, "_holdfast_marker")?;
        if !known {
            let sql = "SELECT count(*) FROM sqlite_schema";
            let objects: i64 = connection.query_row(sql, [], |row| row.get(0)).doing(OPENING)?;
            if objects > 0 {
                return Err(ApplyError::NotAMirror);
            }
        }
        let connection = configured(connection)?;
        if !known {
            make_marker_table(&connection)?;
        }
        let state = read_state(&connection)?;
        Ok(Self { connection, state })
    }

    /// How far the mirror is; `None` for one that is new.
    pub fn marker(&self) -> Option<&Marker> {
        self.state.as_ref().map(|state| &state.marker)
    }

    /// The schema in force; `None` for a mirror that is new.
    pub fn schema(&self) -> Option<&Schema> {
        self.state.as_ref().map(|state| &*state.schema)
    }

    /// Lets a new mirror follow `branch` of a database from its beginning, where it is empty.
    ///
    /// # Errors
    /// It follows a branch already, or SQLite's.
    pub fn start(&mut self, database_id: DatabaseId, branch: BranchId) -> Result<(), ApplyError> {
        if let Some(State { marker, .. }) = &self.state {
            return Err(ApplyError::AlreadyStarted {
                branch: marker.branch,
                sequence: marker.sequence,
            });
        }
        let marker = Marker {
            database_id,
            branch,
            sequence: Sequence::ZERO,
            timestamp: Timestamp::ZERO,
            schema_at: Sequence::ZERO,
        };
        let state = State::new(marker, Schema::default())?;
        write_marker(&self.connection, &marker, &state.schema)?;
        self.state = Some(state);
        Ok(())
    }

    /// Lets the mirror follow `branch`, which continues the one it follows at `from`.
    ///
    /// # Errors
    /// The mirror is new, or beyond `from` (it must be made anew then), or SQLite's.
    pub fn follow(&mut self, branch: BranchId, from: Sequence) -> Result<(), ApplyError> {
        let mut state = self.state.clone().ok_or(ApplyError::NotStarted)?;
        let applied = state.marker.sequence;
        if applied > from {
            return Err(ApplyError::Beyond { applied, from });
        }
        state.marker.branch = branch;
        write_marker(&self.connection, &state.marker, &state.schema)?;
        self.state = Some(state);
        Ok(())
    }

    /// Applies batches in one transaction with the marker. Batches that are in the mirror already
    /// are skipped. The batches of one run (all but its last say `more`) are applied together or
    /// not at all: a run that `batches` does not bring to its end is left out, and comes again.
    /// Several runs share the transaction.
    ///
    /// # Errors
    /// What is wrong with a run. The runs before it are applied then, [`Mirror::marker`] says how
    /// far; an error of the commit itself leaves the mirror as it was.
    pub fn apply(
        &mut self,
        batches: impl IntoIterator<Item = Incoming>,
    ) -> Result<Applied, ApplyError> {
        let start = self.state.clone().ok_or(ApplyError::NotStarted)?;
        // A step that panicked may have left its transaction open.
        roll_back(&self.connection)?;
        perform(&self.connection, "BEGIN IMMEDIATE").doing("opening a transaction")?;
        let mut work = Work::new(&self.connection, start);
        let outcome = work.take(batches).and_then(|()| {
            // What a last run without its end has written must not be seen.
            work.abandon()
        });
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(error) => work.abandon().and(Err(error)),
        };
        let Work { whole, applied, runs, .. } = work;
        let committed = if runs == 0 || self.connection.is_autocommit() {
            Ok(None)
        } else {
            let moved = applied.left_out.is_some();
            commit(&self.connection, &whole, moved).map(|()| Some(whole))
        };
        match committed {
            Ok(Some(state)) => self.state = Some(state),
            // Nothing to commit, or SQLite has rolled back by itself.
            Ok(None) => roll_back(&self.connection)?,
            Err(error) => {
                roll_back(&self.connection)?;
                return Err(error);
            }
        }
        outcome.map(|()| applied)
    }

    /// [`Breakage::CursorBeforeData`](crate::breakage::Breakage::CursorBeforeData): the marker
    /// says what the rows do not hold yet.
    ///
    /// # Errors
    /// SQLite's.
    pub fn move_marker_alone(&self, to: Sequence) -> Result<(), ApplyError> {
        let sql = "UPDATE _holdfast_marker SET sequence = ?1";
        self.connection.execute(sql, [signed(to.0)]).doing(COMMITTING).map(drop)
    }

    /// [`Breakage::AppliedTwice`](crate::breakage::Breakage::AppliedTwice): writes a batch once
    /// more, whatever was applied since; not one of another schema.
    ///
    /// # Errors
    /// As [`Mirror::apply`].
    pub fn write_again(&mut self, batch: &Incoming) -> Result<(), ApplyError> {
        let mut now = self.state.clone().ok_or(ApplyError::NotStarted)?;
        let same =
            matches!(batch.body.schema, SchemaReference::At(at) if at == now.marker.schema_at);
        if !same || batch.more {
            return Ok(());
        }
        let writer = RowWriter::new(Arc::clone(&now.targets));
        let mut run =
            Run { writer, movement: None, left_out: None, batches: 0, rows: 0, waited: 0 };
        let sequence = now.marker.sequence;
        perform(&self.connection, "BEGIN IMMEDIATE").doing("opening a transaction")?;
        write_batch(&self.connection, &mut now, &mut run, sequence, &batch.body)?;
        settle(&self.connection, &now.schema, &mut run)?;
        perform(&self.connection, "COMMIT").doing(COMMITTING)
    }

    /// What `PRAGMA integrity_check` has to say, ten findings at most; nothing where all is well.
    ///
    /// # Errors
    /// SQLite's.
    pub fn integrity(&self) -> Result<Vec<String>, ApplyError> {
        const CHECKING: &str = "checking the mirror's integrity";
        let mut check = self.connection.prepare("PRAGMA integrity_check(10)").doing(CHECKING)?;
        let findings = check.query_map([], |row| row.get::<_, String>(0)).doing(CHECKING)?;
        let findings: Vec<String> = findings.collect::<Result<_, _>>().doing(CHECKING)?;
        Ok(if findings == ["ok"] { Vec::new() } else { findings })
    }

    /// Moves everything into the file itself and closes it, so that no `-wal` remains; unless
    /// somebody is reading, who then keeps it.
    ///
    /// # Errors
    /// SQLite's. Nothing committed is lost by them.
    pub fn close(self) -> Result<(), ApplyError> {
        close(self.connection)
    }
}

/// One transaction being filled.
struct Work<'c> {
    connection: &'c Connection,
    /// As of the last run that is complete.
    whole: State,
    /// As of the last batch.
    now: State,
    /// The run that is open, if one is.
    run: Option<Run>,
    runs: u64,
    applied: Applied,
}

/// A run of batches that is being applied.
struct Run {
    writer: RowWriter,
    movement: Option<Movement>,
    left_out: Option<Vec<LeftOut>>,
    batches: u64,
    rows: u64,
    waited: u64,
}

impl Run {
    /// Takes over what its writer has counted.
    fn count(&mut self) {
        self.rows += std::mem::take(&mut self.writer.rows);
        self.waited += std::mem::take(&mut self.writer.waited);
    }
}

impl<'c> Work<'c> {
    fn new(connection: &'c Connection, state: State) -> Self {
        let now = state.clone();
        Self { connection, whole: state, now, run: None, runs: 0, applied: Applied::default() }
    }

    fn take(&mut self, batches: impl IntoIterator<Item = Incoming>) -> Result<(), ApplyError> {
        for batch in batches {
            let applied = self.now.marker.sequence;
            if batch.sequence <= applied {
                self.applied.skipped += 1;
                continue;
            }
            if batch.sequence != applied.next() {
                return Err(ApplyError::Gap { applied: applied.0, found: batch.sequence.0 });
            }
            let run = match self.run.take() {
                Some(run) => run,
                None => self.open_run()?,
            };
            // Back in place before it can fail: then it is abandoned.
            let run = self.run.insert(run);
            write_batch(self.connection, &mut self.now, run, batch.sequence, &batch.body)?;
            self.now.marker.sequence = batch.sequence;
            self.now.marker.timestamp = batch.timestamp;
            if !batch.more {
                self.close_run()?;
            }
        }
        Ok(())
    }

    fn open_run(&mut self) -> Result<Run, ApplyError> {
        if self.runs > 0 {
            perform(self.connection, "SAVEPOINT _holdfast_run").doing("opening a savepoint")?;
        }
        let writer = RowWriter::new(Arc::clone(&self.now.targets));
        Ok(Run { writer, movement: None, left_out: None, batches: 0, rows: 0, waited: 0 })
    }

    fn close_run(&mut self) -> Result<(), ApplyError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        settle(self.connection, &self.now.schema, run)?;
        if self.runs > 0 {
            perform(self.connection, "RELEASE _holdfast_run").doing("closing a savepoint")?;
        }
        self.runs += 1;
        self.whole = self.now.clone();
        self.applied.batches += run.batches;
        self.applied.rows += run.rows;
        self.applied.waited += run.waited;
        if let Some(left_out) = run.left_out.take() {
            self.applied.left_out = Some(left_out);
        }
        self.run = None;
        Ok(())
    }

    /// Takes back what a run that is still open has written.
    fn abandon(&mut self) -> Result<(), ApplyError> {
        if self.run.take().is_none() || self.runs == 0 || self.connection.is_autocommit() {
            return Ok(());
        }
        self.now = self.whole.clone();
        self.connection
            .execute_batch("ROLLBACK TO _holdfast_run; RELEASE _holdfast_run")
            .doing("taking back a run")
    }
}

fn write_batch(
    connection: &Connection,
    now: &mut State,
    run: &mut Run,
    sequence: Sequence,
    body: &Body,
) -> Result<(), ApplyError> {
    match &body.schema {
        SchemaReference::At(named) if *named == now.marker.schema_at => {}
        SchemaReference::At(named) => {
            return Err(ApplyError::OtherSchema { named: *named, in_force: now.marker.schema_at });
        }
        SchemaReference::Here(schema) => {
            let mut movement = run.movement.take().unwrap_or_default();
            run.writer.park(connection, &now.schema, &mut movement)?;
            run.count();
            let movement = movement.go_on(connection, &now.schema, schema, &body.cleared)?;
            run.writer = RowWriter::new(targets(schema, &movement.stages())?);
            run.movement = Some(movement);
            *now = State::new(now.marker, Schema::clone(schema))?;
            now.marker.schema_at = sequence;
        }
    }
    run.writer.write(connection, body)?;
    run.batches += 1;
    Ok(())
}

/// Brings rows and schema to their final forms.
fn settle(connection: &Connection, schema: &Schema, run: &mut Run) -> Result<(), ApplyError> {
    run.writer.settle(connection)?;
    run.count();
    if let Some(movement) = run.movement.take() {
        run.left_out = Some(movement.finish(connection, schema)?);
    }
    Ok(())
}

fn commit(connection: &Connection, state: &State, moved: bool) -> Result<(), ApplyError> {
    if moved {
        write_marker(connection, &state.marker, &state.schema)?;
    } else {
        let sql = "UPDATE _holdfast_marker SET sequence = ?1, timestamp = ?2";
        let mut update = connection.prepare_cached(sql).doing(COMMITTING)?;
        let marker = &state.marker;
        update
            .execute((signed(marker.sequence.0), signed(marker.timestamp.as_u64())))
            .doing(COMMITTING)?;
    }
    perform(connection, "COMMIT").doing(COMMITTING)
}

pub(super) fn roll_back(connection: &Connection) -> Result<(), ApplyError> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.execute_batch("ROLLBACK").doing("rolling back")
}

/// Opens a database as mirrors are written.
pub(super) fn open(environment: &dyn Environment, path: &Path) -> Result<Connection, ApplyError> {
    configured(open_file(environment, path)?)
}

fn open_file(environment: &dyn Environment, path: &Path) -> Result<Connection, ApplyError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    environment.open_database(path, flags).doing(OPENING)
}

/// Sees to it that rows are written by batches alone, nothing of the schema acting.
fn configured(connection: Connection) -> Result<Connection, ApplyError> {
    // A name that the schema lacks must be an error, not a string.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false).doing(OPENING)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).doing(OPENING)?;
    // NORMAL: a power cut may take back the last transactions, content and marker alike, and the
    // journal brings them again. CHECKs are the origin's business: a mirror shows what it has.
    connection
        .execute_batch(
            "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = OFF; \
             PRAGMA recursive_triggers = OFF; PRAGMA ignore_check_constraints = ON; \
             PRAGMA cache_size = -8192; PRAGMA journal_size_limit = 16777216",
        )
        .doing(OPENING)?;
    connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))
        .doing(OPENING)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

pub(super) fn close(connection: Connection) -> Result<(), ApplyError> {
    const CLOSING: &str = "closing the mirror";
    connection.flush_prepared_statement_cache();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).doing(CLOSING)?;
    connection.close().map_err(|(_, error)| error).doing(CLOSING)
}

pub(super) fn has_table(connection: &Connection, name: &str) -> Result<bool, ApplyError> {
    connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = ?1", [name], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
        .doing("reading the mirror's schema")
}

/// Makes the marker's table where it is missing.
pub(super) fn make_marker_table(connection: &Connection) -> Result<(), ApplyError> {
    connection.execute_batch(MARKER_TABLE).doing("making the mirror")
}

pub(super) fn write_marker(
    connection: &Connection,
    marker: &Marker,
    schema: &Schema,
) -> Result<(), ApplyError> {
    let schema = rmp_serde::to_vec(schema)
        .map_err(|error| ApplyError::malformed(format!("the schema: {error}")))?;
    let sql = "INSERT OR REPLACE INTO _holdfast_marker \
               (id, database_id, branch, sequence, timestamp, schema, schema_at) \
               VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)";
    connection
        .execute(
            sql,
            (
                marker.database_id.0.as_bytes(),
                marker.branch.0,
                signed(marker.sequence.0),
                signed(marker.timestamp.as_u64()),
                schema,
                signed(marker.schema_at.0),
            ),
        )
        .map(drop)
        .doing("writing the marker")
}

fn read_state(connection: &Connection) -> Result<Option<State>, ApplyError> {
    let sql = "SELECT database_id, branch, sequence, timestamp, schema, schema_at \
               FROM _holdfast_marker";
    let row = connection
        .query_row(sql, [], |row| {
            Ok((
                row.get::<_, [u8; 16]>(0)?,
                row.get::<_, [u8; 32]>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, Vec<u8>>(4)?,
                row.get::<_, i64>(5)?,
            ))
        })
        .optional()
        .doing("reading the marker")?;
    let Some((database_id, branch, sequence, timestamp, schema, schema_at)) = row else {
        return Ok(None);
    };
    let schema: Schema = rmp_serde::from_slice(&schema)
        .map_err(|error| ApplyError::malformed(format!("the marker's schema: {error}")))?;
    let timestamp = Timestamp::try_from(timestamp.cast_unsigned())
        .map_err(|error| ApplyError::malformed(format!("the marker: {error}")))?;
    let marker = Marker {
        database_id: DatabaseId(Uuid::from_bytes(database_id)),
        branch: BranchId(branch),
        sequence: Sequence(sequence.cast_unsigned()),
        timestamp,
        schema_at: Sequence(schema_at.cast_unsigned()),
    };
    State::new(marker, schema).map(Some)
}

/// SQLite's integers are signed: the same 64 bits.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}
