//! The few writes that capture makes to an application's database: log, marker and triggers in
//! and out, and trimming the log. Each is one short transaction at a moment without readers, since
//! a reader that writes next would get an error from its own SQLite (CAPTURE.md, trap 0).

use super::application::{Application, Marker, Open, holds, last_note, read_marker};
use super::error::CaptureError;
use super::hop::{Hop, OwnNumbers};
use super::images::{Captured, Fence, Images, Position};
use super::inspect::{Inspection, inspect, pragma};
use super::triggers::{self, LOG, MARKER, TRIGGER_PREFIX};
use crate::environment::Readers;
use crate::sql::quoted;
use protocol::schema::TableIndex;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use std::collections::{BTreeMap, BTreeSet};

/// From how many frames on a `-wal` is long, as SQLite has it (`wal_autocheckpoint`).
const LONG_LOG: i64 = 1000;

/// What became of a write that gives way to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polite<T> {
    /// It is committed.
    Done(T),
    /// Somebody reads or writes: nothing was changed, try again in a moment.
    Busy,
}

/// What of ours is in the file.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) marker: Option<Marker>,
    pub(super) triggers: BTreeMap<String, String>,
    /// Per key column of the log; None without a log.
    pub(super) log_width: Option<usize>,
    pub(super) has_marker_table: bool,
    /// Whether the marker has a place for what a hop notes.
    knows_hops: bool,
    pub(super) last: Option<Fence>,
    pub(super) holds_fence: bool,
    /// Tables, by number, whose triggers were put back after the fence: perhaps by a refresh that
    /// the node's own database forgot in a crash.
    restored: BTreeSet<i64>,
}

/// What must be written to have everything in place.
pub(super) struct Plan {
    pub(super) statements: Vec<String>,
    /// Tables whose triggers were not as they must be: changes may have gone unnoted.
    pub(super) stale: BTreeSet<TableIndex>,
}

impl Present {
    pub(super) fn read(connection: &Connection, fence: Option<&Fence>) -> rusqlite::Result<Self> {
        let mut present = Self { marker: read_marker(connection)?, ..Self::default() };
        let mut statement = connection.prepare_cached(
            "SELECT type, name, sql FROM main.sqlite_schema
             WHERE name IN (?1, ?2) OR substr(name, 1, length(?3)) = ?3",
        )?;
        let mut rows = statement.query([LOG, MARKER, TRIGGER_PREFIX])?;
        while let Some(row) = rows.next()? {
            let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
            match (kind.as_str(), name.as_str()) {
                ("trigger", _) => drop(present.triggers.insert(name, row.get(2)?)),
                ("table", LOG) => {
                    present.log_width = Some(connection.query_row(
                        "SELECT count(*) FROM pragma_table_info(?1, 'main') WHERE name GLOB 'k[0-9]*'",
                        [LOG],
                        |row| row.get::<_, i64>(0).map(|width| width as usize),
                    )?);
                    present.last = last_note(connection)?;
                    if let Some(fence) = fence {
                        present.holds_fence = holds(connection, fence)?;
                        present.restored = triggers::restored(connection, fence.id)?;
                    }
                }
                ("table", MARKER) => {
                    present.has_marker_table = true;
                    present.knows_hops = connection
                        .prepare_cached(
                            "SELECT 1 FROM pragma_table_info(?1, 'main') WHERE name = 'hopping'",
                        )?
                        .exists([MARKER])?;
                }
                _ => {}
            }
        }
        Ok(present)
    }

    /// What to write so that `captured` is noted.
    pub(super) fn plan(
        mut self,
        captured: &Captured,
        inspection: &Inspection,
        (marker, own_numbers): (&Marker, Option<OwnNumbers>),
    ) -> Plan {
        let mut statements = Vec::new();
        let tables = &captured.schema.tables;
        let width = tables.iter().map(|t| t.identity_width()).max().unwrap_or(0).max(1);
        match self.log_width {
            None => statements.push(triggers::create_log(width)),
            Some(present) => statements
                .extend((present..width).map(|at| format!("ALTER TABLE {LOG} ADD COLUMN k{at}"))),
        }
        if self.last.is_none() {
            statements.push(triggers::APPEND_FENCE.to_owned());
        }
        match (self.has_marker_table, self.knows_hops) {
            (true, true) => {}
            (true, false) => statements.push(triggers::COMPLETE_MARKER.to_owned()),
            (false, _) => statements.push(triggers::CREATE_MARKER.to_owned()),
        }
        if self.marker != Some(*marker) {
            let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            statements.push(format!("DELETE FROM {MARKER}"));
            statements.push(format!(
                "INSERT INTO {MARKER}(database_id, site_id, format, writes) \
                 VALUES(x'{}', x'{}', {}, 0)",
                hex(marker.database.0.as_bytes()),
                hex(marker.site.as_bytes()),
                triggers::FORMAT
            ));
        }
        let mut stale: BTreeSet<TableIndex> =
            self.restored.iter().filter_map(|number| captured.table(*number)).collect();
        let mut create = Vec::new();
        let each = tables.iter().zip(&inspection.tables).zip(&captured.numbers);
        for (at, ((table, inspected), number)) in each.enumerate() {
            let in_place = create.len();
            for (name, sql) in triggers::triggers(*number, table, inspected) {
                if self.triggers.get(&name) == Some(&sql) {
                    self.triggers.remove(&name);
                } else {
                    create.push(sql);
                }
            }
            if create.len() > in_place {
                stale.insert(TableIndex(at as u32));
                create.push(triggers::append_restored(*number));
            }
            // What is not noted by them is missed by nobody.
            let hop = own_numbers.filter(|_| inspected.hop == Hop::Safe);
            for (name, sql) in hop.iter().flat_map(|own| own.triggers(*number, table)) {
                if self.triggers.get(&name) == Some(&sql) {
                    self.triggers.remove(&name);
                } else {
                    create.push(sql);
                }
            }
        }
        let others = self.triggers.keys().map(|name| format!("DROP TRIGGER {}", quoted(name)));
        statements.extend(others);
        statements.extend(create);
        Plan { statements, stale }
    }
}

impl Application {
    /// Puts log, marker and triggers into the file, and numbers its tables in the node's own
    /// database. Repeating it is harmless. `take_over` removes what another site or an earlier
    /// attach left in it.
    ///
    /// The position says that a rescan is due: [`super::Rescan::fresh`] of all tables.
    ///
    /// # Errors
    /// The database holds what can't be kept safe, is attached already, or can't be written.
    pub fn install(
        &mut self,
        images: &Images<'_>,
        take_over: bool,
    ) -> Result<Polite<Position>, CaptureError> {
        let (inspection, mut present) = self.reading(|connection| {
            Ok((inspect(connection, None)?, Present::read(connection, None)?))
        })?;
        if let Some(refusal) = inspection.refusal() {
            let (what, remedy) = (refusal.what.clone(), refusal.remedy.clone());
            return Err(CaptureError::Refused { what, remedy });
        }
        let mut version = inspection.schema_version;
        if let Some(marker) = present.marker.filter(|marker| *marker != self.marker) {
            if !take_over {
                return Err(CaptureError::AttachedElsewhere(self.path.clone(), marker.site));
            }
            if self.uninstall()? == Polite::Busy {
                return Ok(Polite::Busy);
            }
            let path = self.path.clone();
            present = Present::default();
            version = pragma(&self.open()?.connection, "schema_version")
                .map_err(|error| CaptureError::application(&path, error))?;
        }
        let captured = images.number_tables(&inspection.schema)?;
        let ours = (&self.marker, self.own_numbers);
        let plan = present.plan(&captured, &inspection, ours);
        let Polite::Done((version, last)) = self.put(&plan.statements, version)? else {
            return Ok(Polite::Busy);
        };
        let fence = last.ok_or_else(|| CaptureError::NotAttached(self.path.clone()))?;
        let file = self.open()?.file;
        self.captured = captured;
        self.known = Some((version, file));
        self.prepare(&inspection);
        Ok(Polite::Done(Position { fence, schema_version: None, file }))
    }

    /// Has numbers hop as [`Application::set_own_numbers`] says. Where the schema moved meanwhile
    /// that is left to [`Application::refresh`]. The `schema_version` if that moved by it.
    ///
    /// # Errors
    /// The file can't be opened or written.
    pub fn put_hops(&mut self, position: &Position) -> Result<Polite<Option<i64>>, CaptureError> {
        let previous = self.captured.schema.clone();
        let (inspection, present) = self.reading(|connection| {
            Ok((inspect(connection, Some(&previous))?, Present::read(connection, None)?))
        })?;
        let known = (inspection.schema_version, self.open()?.file);
        let settled = position.schema_version.map(|version| (version, position.file));
        if self.known.or(settled) != Some(known) || inspection.schema != self.captured.schema {
            return Ok(Polite::Done(None));
        }
        let plan = present.plan(&self.captured, &inspection, (&self.marker, self.own_numbers));
        if plan.statements.is_empty() || !plan.stale.is_empty() {
            return Ok(Polite::Done(None));
        }
        let Polite::Done((version, _)) = self.put(&plan.statements, known.0)? else {
            return Ok(Polite::Busy);
        };
        self.known = Some((version, known.1));
        Ok(Polite::Done(Some(version)))
    }

    /// Makes a change of the schema that a person has agreed to.
    ///
    /// # Errors
    /// The file can't be opened or written.
    pub fn alter<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Polite<T>, CaptureError> {
        self.polite("FULL", work)
    }

    /// Runs statements, provided that the schema is still the one they were made for. The
    /// `schema_version` and newest note afterwards.
    pub(super) fn put(
        &mut self,
        statements: &[String],
        expected: i64,
    ) -> Result<Polite<(i64, Option<Fence>)>, CaptureError> {
        let put = self.polite("FULL", |connection| {
            if pragma::<i64>(connection, "schema_version")? != expected {
                return Ok(None);
            }
            for statement in statements {
                connection.execute_batch(statement)?;
            }
            Ok(Some((pragma(connection, "schema_version")?, last_note(connection)?)))
        })?;
        Ok(match put {
            Polite::Done(Some(done)) => Polite::Done(done),
            Polite::Done(None) | Polite::Busy => Polite::Busy,
        })
    }

    /// Removes everything that we put into the file, whatever of it is there.
    ///
    /// # Errors
    /// The file can't be opened or written.
    pub fn uninstall(&mut self) -> Result<Polite<()>, CaptureError> {
        self.known = None;
        self.tables.clear();
        self.polite("FULL", |connection| {
            // Triggers first: a table takes its own along.
            let ours = connection
                .prepare(
                    "SELECT type, name FROM main.sqlite_schema
                     WHERE name GLOB '_holdfast*' AND type IN ('trigger', 'view', 'table')
                     ORDER BY type DESC",
                )?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(String, String)>>>()?;
            for (kind, name) in ours {
                connection.execute_batch(&format!("DROP {kind} main.{}", quoted(&name)))?;
            }
            Ok(())
        })
    }

    /// Removes up to `limit` harvested notes, if they are `least`; the fence itself stays. Whether
    /// more can go now. To be called after a harvest.
    ///
    /// # Errors
    /// The file can't be opened or written.
    pub fn trim(
        &mut self,
        fence: &Fence,
        least: usize,
        limit: usize,
    ) -> Result<Polite<bool>, CaptureError> {
        let first = |connection: &Connection| {
            connection
                .prepare_cached("SELECT min(id) FROM main._holdfast_log")?
                .query_row([], |row| row.get::<_, Option<i64>>(0))
        };
        let idle = self.reading(|connection| {
            // Ids that came back with other notes are not ours to remove.
            Ok(read_marker(connection)?.is_none()
                || !holds(connection, fence)?
                || first(connection)?
                    .is_none_or(|first| fence.id.saturating_sub(first) < least as i64))
        })?;
        if idle {
            return Ok(Polite::Done(false));
        }
        // Notes that a power cut brings back are behind the fence: nothing to wait for.
        self.polite("NORMAL", |connection| {
            let Some(first) = first(connection)? else { return Ok(false) };
            if !holds(connection, fence)? {
                return Ok(false);
            }
            let end = fence.id.min(first.saturating_add(limit as i64));
            connection
                .prepare_cached("DELETE FROM main._holdfast_log WHERE id < ?1")?
                .execute([end])?;
            Ok(end < fence.id)
        })
    }

    /// How many notes wait behind the last harvest, at least one where a comparison is due or the
    /// schema or the file moved. `None`: the file lacks what was harvested. Costs some look-ups.
    ///
    /// # Errors
    /// The file can't be read, or is not attached.
    pub fn pending(&mut self, position: &Position) -> Result<Option<u64>, CaptureError> {
        let (marker, fence, file) = (self.marker, position.fence, self.open()?.file);
        let schema = (self.captured.schema.user_version, self.captured.schema.application_id);
        let found = self.reading(|connection| {
            if read_marker(connection)? != Some(marker) {
                return Ok(None);
            }
            let last = match holds(connection, &fence)? {
                true => last_note(connection)?,
                false => None,
            };
            let same = position.schema_version == Some(pragma(connection, "schema_version")?)
                && position.file == file
                && schema
                    == (pragma(connection, "user_version")?, pragma(connection, "application_id")?);
            Ok(Some((last, same)))
        })?;
        let (last, same) = found.ok_or_else(|| CaptureError::NotAttached(self.path.clone()))?;
        Ok(last.map(|last| {
            let noted = u64::try_from(last.id.saturating_sub(fence.id)).unwrap_or(0);
            if same { noted } else { noted.max(1) }
        }))
    }

    /// Moves the `-wal`'s content into the file as far as nobody is in the way, so that somebody's
    /// copy of the bare file holds the newest data (trap 7), and empties a long `-wal`. For
    /// idle moments.
    ///
    /// # Errors
    /// The file can't be opened or written.
    pub fn checkpoint(&mut self) -> Result<(), CaptureError> {
        self.with_open(|application, open| application.move_log(&open.connection))?
    }

    fn move_log(&self, connection: &Connection) -> Result<(), CaptureError> {
        let is_long = |log: Option<Log>| log.is_some_and(|log| log.frames >= LONG_LOG);
        if !is_long(self.checkpoint_as(connection, "PASSIVE")?) {
            return Ok(());
        }
        // Since our own writes are appended (`hold_log`), somebody has to empty it. Where readers
        // are shut out nobody writes any more: if all is moved by then, nothing remains to be
        // written and synced under the lock of the writer.
        let empty = || match self.checkpoint_as(connection, "NOOP")? {
            Some(log) if log.moved == log.frames => {
                self.checkpoint_as(connection, "TRUNCATE").map(drop)
            }
            _ => Ok(()),
        };
        let error = |error| CaptureError::File(self.path.clone(), error);
        let emptied = match self.environment.shut_readers_out(&self.path).map_err(error)? {
            Readers::Some => Ok(()),
            Readers::None | Readers::Unknown => empty(),
        };
        self.environment.let_readers_in(&self.path).map_err(error)?;
        emptied
    }

    /// Moves the `-wal`'s content into the file if it became long: the application may never write.
    fn shorten_log(&mut self) {
        let shorten = |application: &mut Self, open: &Open| match application
            .checkpoint_as(&open.connection, "NOOP")?
        {
            Some(log) if log.frames >= LONG_LOG => application.move_log(&open.connection),
            _ => Ok(()),
        };
        // What was to be written is: the next time will do for this.
        if let Err(error) = self.with_open(shorten).flatten() {
            tracing::debug!(%error, "no checkpoint of the application's database");
        }
    }

    /// The `-wal` after a checkpoint of this kind; nothing while somebody else makes one.
    fn checkpoint_as(
        &self,
        connection: &Connection,
        kind: &str,
    ) -> Result<Option<Log>, CaptureError> {
        let done = connection
            .prepare_cached(&format!("PRAGMA main.wal_checkpoint({kind})"))
            .and_then(|mut ask| {
                ask.query_row([], |row| Ok(Log { frames: row.get(1)?, moved: row.get(2)? }))
            });
        match done {
            Err(error) if is_busy(&error) => Ok(None),
            done => done.map(Some).map_err(|error| CaptureError::application(&self.path, error)),
        }
    }

    /// Switches the database to a write-ahead log.
    ///
    /// # Errors
    /// Other programs have it open, or it can't be written.
    pub fn switch_to_wal(&mut self) -> Result<(), CaptureError> {
        let path = self.path.clone();
        let open = self.open()?;
        let switch = || {
            // EXTRA: where the old journal's removal is lost in a power cut, so would be commits.
            open.connection.execute_batch("PRAGMA main.synchronous = EXTRA")?;
            let mode: String =
                open.connection
                    .query_row("PRAGMA main.journal_mode = WAL", [], |row| row.get(0))?;
            open.connection.execute_batch("PRAGMA main.synchronous = FULL")?;
            Ok(mode == "wal")
        };
        match switch().map_err(|error| CaptureError::application(&path, error))? {
            true => Ok(()),
            false => Err(CaptureError::Locked(path)),
        }
    }

    fn polite<T>(
        &mut self,
        synchronous: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Polite<T>, CaptureError> {
        self.write_politely(synchronous, |_, open| Ok(Polite::Done(work(&open.connection)?)))
    }

    /// One write transaction that no application can run into.
    ///
    /// A reader from before it that writes later fails at once, whatever its busy timeout, and so
    /// does one that writes while it lasts. So it takes the write lock only while readers are
    /// shut out; where that can't be done, they are looked for before and after.
    pub(super) fn write_politely<T, E: From<CaptureError>>(
        &mut self,
        synchronous: &str,
        work: impl FnOnce(&mut Self, &Open) -> Result<Polite<T>, Fault<E>>,
    ) -> Result<Polite<T>, E> {
        let (path, environment) = (self.path.clone(), std::sync::Arc::clone(&self.environment));
        let readers = || environment.shut_readers_out(&path).map(|found| found == Readers::Some);
        let (wal, done) = self.with_open(|application, open| {
            let connection = &open.connection;
            let mode: rusqlite::Result<String> = pragma(connection, "journal_mode");
            let wal = match mode {
                Ok(mode) => mode == "wal",
                Err(error) => return (false, Err(Fault::Sql(error))),
            };
            // EXTRA: where the journal's removal is lost in a power cut, so is the commit.
            let synchronous = if wal { synchronous } else { "EXTRA" };
            let transact = || -> Result<Polite<T>, Fault<E>> {
                connection.execute_batch(&format!("PRAGMA main.synchronous = {synchronous}"))?;
                // Dropped on any way out but the commit, it rolls back.
                let transaction =
                    Transaction::new_unchecked(connection, TransactionBehavior::Deferred)?;
                // Takes our own read lock: shutting the others out comes after.
                let held = environment.hold_log(&path)?;
                let begun: rusqlite::Result<i64> = pragma(&transaction, "schema_version");
                environment.release_log(&path)?;
                begun?;
                if wal && (held == Readers::Some || readers()?) {
                    return Ok(Polite::Busy);
                }
                let result = work(application, open)?;
                if result.is_busy() || (wal && readers()?) {
                    return Ok(Polite::Busy);
                }
                transaction.commit()?;
                Ok(result)
            };
            (wal, transact())
        })?;
        if wal {
            let error = |error| CaptureError::File(path.clone(), error);
            environment.let_readers_in(&path).map_err(error)?;
            if matches!(done, Ok(Polite::Done(_))) {
                self.shorten_log();
            }
        }
        match done {
            Err(Fault::Sql(error)) if is_busy(&error) => Ok(Polite::Busy),
            Err(Fault::Sql(error)) => Err(CaptureError::application(&path, error).into()),
            Err(Fault::File(error)) => Err(CaptureError::File(path, error).into()),
            Err(Fault::Other(error)) => Err(error),
            Ok(done) => Ok(done),
        }
    }
}

/// How much of the `-wal` is in the file, in frames; -1 each where there is none.
struct Log {
    frames: i64,
    moved: i64,
}

impl<T> Polite<T> {
    fn is_busy(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

/// What fails within a polite transaction.
pub(super) enum Fault<E> {
    Sql(rusqlite::Error),
    File(std::io::Error),
    Other(E),
}

impl<E> From<rusqlite::Error> for Fault<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl<E> From<std::io::Error> for Fault<E> {
    fn from(error: std::io::Error) -> Self {
        Self::File(error)
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
