//! The read half of a harvest: one short snapshot of the application's database that asks whether
//! it is the file we left, and reads notes and the rows that they name as they are now.

use super::application::{Application, Open, holds, read_marker};
use super::error::CaptureError;
use super::images::{Fence, PackedKey, Position};
use super::inspect::{InspectedTable, inspect, pragma};
use super::rescan::{Slice, Work};
use super::triggers::{self, key_columns, read_what};
use crate::sql::{Begun, Bound, quoted, row_values};
use conflict::{Value, WallTime};
use protocol::schema::{RowIdentity, Table, TableIndex};
use rusqlite::{Connection, params_from_iter};
use std::collections::{BTreeMap, BTreeSet};

/// How much one reading may take, so that memory and the snapshot stay small.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Notes.
    pub notes: usize,
    /// Rows of a rescan.
    pub rows: usize,
    /// Bytes of row content; at least one row is read.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { notes: 10_000, rows: 10_000, bytes: 4 << 20 }
    }
}

/// What a reading found.
#[derive(Debug)]
pub enum Reading {
    /// The file is as the position says.
    Nothing,
    /// Something to fold.
    Notes(Notes),
    /// The schema moved, a key became NULL, or another file took the place:
    /// [`Application::refresh`] before anything else.
    Moved,
    /// The file lacks the note that the last harvest ended with: it was restored from an older
    /// copy, or lost its newest commits.
    WentBack,
}

/// Rows that may have changed, as they all were at one moment.
#[derive(Debug)]
pub struct Notes {
    /// The rows, each once.
    pub rows: BTreeMap<(TableIndex, PackedKey), NotedRow>,
    /// When the earliest and the latest of the notes were written, by the computer's clock.
    pub written: Option<(WallTime, WallTime)>,
    /// How many notes there were.
    pub count: usize,
    /// Where this reading leaves the file.
    pub position: Position,
    /// Whether notes remain. If not, the batches up to here are a state the database really had.
    pub more: bool,
    /// How many rows these tables have; only where a count is due.
    pub counts: Vec<(TableIndex, u64)>,
    /// How far a rescan came; None where notes came first.
    pub slice: Option<Slice>,
}

/// A row that may have changed.
#[derive(Clone, Debug, PartialEq)]
pub struct NotedRow {
    /// The values that tell it apart, as stored now, or as noted where the row is gone.
    pub key: Vec<Value>,
    /// All its columns, if it is there.
    pub row: Option<Vec<Value>>,
    /// Whether it was there all the time, for all that the notes say (no delete was noted).
    pub kept: bool,
    /// Whether a note names it. Otherwise it was read to be compared, and nobody knows when it
    /// changed, should it have.
    pub noted: bool,
}

/// The statements that read a table.
#[derive(Debug)]
pub(super) struct TableSql {
    number: i64,
    table: Table,
    recount: bool,
    lookup: String,
    /// Removes the row of a key, and adds one: what shared mode writes with.
    pub(super) delete: String,
    pub(super) insert: String,
    scan: String,
    scan_after: String,
    /// Columns that a scan's rows begin with: where to go on.
    cursor_width: usize,
    count: String,
    has_null: String,
}

impl TableSql {
    pub(super) fn new(number: i64, table: &Table, inspected: &InspectedTable) -> Self {
        let name = quoted(&table.name);
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
        let values = vec!["?"; columns.len()].join(", ");
        let columns = columns.join(", ");
        let key = key_columns(table);
        let by_index = |at: usize, column: &str| match inspected.collations.get(at) {
            Some(collation) => format!("{column} COLLATE {}", quoted(collation)),
            None => column.to_owned(),
        };
        let terms: Vec<String> = key
            .iter()
            .enumerate()
            .map(|(at, column)| match inspected.collations.get(at) {
                Some(collation) if collation != "BINARY" => format!(
                    "{column} = ?{0} COLLATE {1} AND {column} = ?{0} COLLATE BINARY",
                    at + 1,
                    quoted(collation)
                ),
                Some(_) => format!("{column} = ?{} COLLATE BINARY", at + 1),
                None => format!("{column} = ?{}", at + 1),
            })
            .collect();
        // The rowid, where there is one, is the cheapest order; otherwise the key's own index.
        let cursor: Vec<String> = match (&inspected.rowid, &table.identity) {
            (Some(rowid), _) => vec![rowid.clone()],
            (None, _) => key.iter().enumerate().map(|(at, c)| by_index(at, c)).collect(),
        };
        let order = cursor.join(", ");
        let places: Vec<String> = (1..=cursor.len()).map(|at| format!("?{at}")).collect();
        let nulls: Vec<String> = key.iter().map(|column| format!("{column} IS NULL")).collect();
        let scan = |condition: &str| {
            format!("SELECT {order}, {columns} FROM main.{name}{condition} ORDER BY {order}")
        };
        Self {
            number,
            table: table.clone(),
            recount: inspected.recount,
            lookup: format!("SELECT {columns} FROM main.{name} WHERE {}", terms.join(" AND ")),
            delete: format!("DELETE FROM main.{name} WHERE {}", terms.join(" AND ")),
            insert: format!("INSERT OR ABORT INTO main.{name} ({columns}) VALUES ({values})"),
            scan: scan(""),
            scan_after: scan(&format!(" WHERE ({order}) > ({})", places.join(", "))),
            cursor_width: cursor.len(),
            count: format!("SELECT count(*) FROM main.{name}"),
            has_null: format!("SELECT 1 FROM main.{name} WHERE {} LIMIT 1", nulls.join(" OR ")),
        }
    }

    /// The row of that key as it is now.
    fn look_up(
        &self,
        connection: &Connection,
        key: &[Value],
    ) -> rusqlite::Result<Option<Vec<Value>>> {
        let mut statement = connection.prepare_cached(&self.lookup)?;
        let mut rows = statement.query(params_from_iter(key.iter().map(Bound)))?;
        rows.next()?.map(|row| row_values(row, 0, self.table.columns.len())).transpose()
    }

    /// The key of a row, given the values of its columns and those that the scan goes by.
    fn key_of(&self, row: &[Value], cursor: &[Value]) -> Vec<Value> {
        match &self.table.identity {
            RowIdentity::Key(key) => {
                key.iter().filter_map(|column| row.get(column.0 as usize)).cloned().collect()
            }
            RowIdentity::Rowid(_) => cursor.to_vec(),
        }
    }
}

/// A reading under way.
struct Reader<'a> {
    connection: &'a Connection,
    tables: &'a [TableSql],
    limits: Limits,
    rows: BTreeMap<(TableIndex, PackedKey), NotedRow>,
    bytes: usize,
    /// A key that must not be NULL is.
    moved: bool,
}

/// What was read before rows.
enum Questions {
    Unattached,
    Moved,
    WentBack,
    Known(i64),
}

impl Application {
    /// Step 1 of a harvest, in one read snapshot. With `work`, a slice of a rescan is read too,
    /// in the same snapshot, unless notes remain beyond the limits.
    ///
    /// # Errors
    /// The file is missing, locked, not attached any more (a new or an empty file took its
    /// place), no database, or damaged. None of this means that rows were deleted.
    pub fn read(
        &mut self,
        position: &Position,
        limits: Limits,
        work: Option<&Work>,
    ) -> Result<Reading, CaptureError> {
        self.with_open(|application, open| {
            if application.tables.is_empty() {
                application.load(&open.connection)?;
            }
            let begun = Begun::begin(&open.connection, "BEGIN")
                .map_err(|error| CaptureError::application(&application.path, error))?;
            let reading = application.read_on(open, position, limits, work)?;
            let path = &application.path;
            begun.commit().map_err(|error| CaptureError::application(path, error))?;
            Ok(reading)
        })?
    }

    /// The same within a transaction that the caller holds.
    pub(super) fn read_on(
        &mut self,
        open: &Open,
        position: &Position,
        limits: Limits,
        work: Option<&Work>,
    ) -> Result<Reading, CaptureError> {
        let file = open.file;
        let mut uncounted = self.uncounted.clone();
        let asked = self.ask(open, position, (limits, work), &mut uncounted);
        self.uncounted = uncounted;
        let (questions, notes) =
            asked.map_err(|error| CaptureError::application(&self.path, error))?;
        match (questions, notes) {
            (Questions::Unattached, _) => Err(CaptureError::NotAttached(self.path.clone())),
            (Questions::WentBack, _) => Ok(Reading::WentBack),
            (Questions::Known(version), Some(mut notes)) => {
                self.known = Some((version, file));
                // Settled only when nobody has rescan work any more, and all due counts are there.
                let counted = !notes.more || position.schema_version.is_some();
                notes.position.schema_version = (work.is_none() && counted).then_some(version);
                notes.position.file = file;
                let idle = notes.count == 0 && notes.counts.is_empty() && notes.slice.is_none();
                if idle && notes.position == *position {
                    return Ok(Reading::Nothing);
                }
                Ok(Reading::Notes(notes))
            }
            _ => Ok(Reading::Moved),
        }
    }

    fn ask(
        &self,
        Open { connection, file }: &Open,
        position: &Position,
        (limits, work): (Limits, Option<&Work>),
        uncounted: &mut BTreeSet<TableIndex>,
    ) -> rusqlite::Result<(Questions, Option<Notes>)> {
        let known = self.known.or(position.schema_version.map(|v| (v, position.file)));
        let schema = (self.captured.schema.user_version, self.captured.schema.application_id);
        if read_marker(connection)? != Some(self.marker) {
            return Ok((Questions::Unattached, None));
        }
        if !holds(connection, &position.fence)? {
            return Ok((Questions::WentBack, None));
        }
        let version: i64 = pragma(connection, "schema_version")?;
        if known != Some((version, *file))
            || self.tables.len() != self.captured.schema.tables.len()
            || schema
                != (pragma(connection, "user_version")?, pragma(connection, "application_id")?)
        {
            return Ok((Questions::Moved, None));
        }
        let mut reader = Reader {
            connection,
            tables: &self.tables,
            limits,
            rows: BTreeMap::new(),
            bytes: 0,
            moved: false,
        };
        let mut notes = reader.notes(position)?;
        if !notes.more {
            notes.slice = work.map(|work| reader.slice(work)).transpose()?;
            uncounted.extend(notes.rows_of_recounted(&reader));
            notes.counts = reader.counts(uncounted, work)?;
        } else {
            uncounted.extend(notes.rows_of_recounted(&reader));
        }
        if reader.moved {
            return Ok((Questions::Moved, None));
        }
        notes.rows = reader.rows;
        Ok((Questions::Known(version), Some(notes)))
    }

    /// To be called when the node's own database has committed what these notes folded to.
    pub fn harvested(&mut self, notes: &Notes) {
        for (table, _) in &notes.counts {
            self.uncounted.remove(table);
        }
    }

    /// Whether the statements are still to be made.
    pub(super) fn tables_missing(&self) -> bool {
        self.tables.is_empty()
    }

    /// Makes the statements for the tables as captured.
    pub(super) fn load(&mut self, connection: &Connection) -> Result<(), CaptureError> {
        let inspect = || {
            let begun = Begun::begin(connection, "BEGIN")?;
            let inspection = inspect(connection, Some(&self.captured.schema))?;
            begun.commit()?;
            Ok(inspection)
        };
        let inspection = inspect().map_err(|error| CaptureError::application(&self.path, error))?;
        self.prepare(&inspection);
        Ok(())
    }

    /// Makes the statements, and has tables counted whose rows can vanish unseen.
    pub(super) fn prepare(&mut self, inspection: &super::inspect::Inspection) {
        self.tables.clear();
        self.uncounted.clear();
        if inspection.schema.tables != self.captured.schema.tables {
            return; // It moved: the questions say so, and a refresh comes first.
        }
        let each = self.captured.schema.tables.iter().zip(&inspection.tables);
        for (at, ((table, inspected), number)) in each.zip(&self.captured.numbers).enumerate() {
            self.tables.push(TableSql::new(*number, table, inspected));
            if inspected.recount {
                self.uncounted.insert(TableIndex(at as u32));
            }
        }
    }
}

impl Notes {
    fn rows_of_recounted<'a>(
        &self,
        reader: &'a Reader<'_>,
    ) -> impl Iterator<Item = TableIndex> + use<'a> {
        reader
            .rows
            .keys()
            .map(|(table, _)| *table)
            .filter(|table| reader.tables.get(table.0 as usize).is_some_and(|table| table.recount))
    }
}

impl Reader<'_> {
    fn notes(&mut self, position: &Position) -> rusqlite::Result<Notes> {
        let width = self.tables.iter().map(|t| t.table.identity_width()).max().unwrap_or(0);
        let keys: String = (0..width).map(|at| format!(", k{at}")).collect();
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT id, nonce, what, at{keys} FROM main.{} WHERE id > ?1 ORDER BY id LIMIT ?2",
            triggers::LOG
        ))?;
        let mut written: Option<(WallTime, WallTime)> = None;
        let mut count = 0;
        let mut last = position.fence;
        let mut more = false;
        // One more than wanted, to learn whether any remain.
        let limit = self.limits.notes.saturating_add(1) as i64;
        let mut rows = statement.query([position.fence.id, limit])?;
        while let Some(row) = rows.next()? {
            if count >= self.limits.notes || (count > 0 && self.bytes >= self.limits.bytes) {
                more = true;
                break;
            }
            last = Fence { id: row.get(0)?, nonce: row.get(1)? };
            count += 1;
            let at = wall_time(row.get::<_, Option<f64>>(3)?);
            written = Some(match written {
                Some((earliest, latest)) => (earliest.min(at), latest.max(at)),
                None => (at, at),
            });
            let (number, kind) = read_what(row.get(2)?);
            let found = self.tables.iter().enumerate().find(|(_, table)| table.number == number);
            let (Some(kind), Some((index, table))) = (kind, found) else { continue };
            let key = row_values(row, 4, table.table.identity_width())?;
            let kept = kind == triggers::NoteKind::There;
            self.row(TableIndex(index as u32), table, key, (kept, true))?;
        }
        Ok(Notes {
            rows: BTreeMap::new(),
            written,
            count,
            position: Position { fence: last, ..*position },
            more,
            counts: Vec::new(),
            slice: None,
        })
    }

    /// Reads a row by its key, once.
    fn row(
        &mut self,
        index: TableIndex,
        table: &TableSql,
        key: Vec<Value>,
        (kept, noted): (bool, bool),
    ) -> rusqlite::Result<()> {
        if key.contains(&Value::Null) {
            // The row may be gone again; if one is there, it needs another identity.
            self.moved |= self.connection.prepare_cached(&table.has_null)?.exists([])?;
            return Ok(());
        }
        let packed = PackedKey::new(&key);
        if let Some(known) = self.rows.get_mut(&(index, packed.clone())) {
            known.kept &= kept;
            return Ok(());
        }
        let row = table.look_up(self.connection, &key)?;
        self.bytes += size(&key) + row.as_deref().map_or(0, size);
        let key = row.as_deref().map_or_else(|| key.clone(), |row| table.key_of(row, &key));
        self.rows.insert((index, packed), NotedRow { key, row, kept, noted });
        Ok(())
    }

    fn slice(&mut self, work: &Work) -> rusqlite::Result<Slice> {
        match work {
            Work::Rows { table, after } => {
                let Some(sql) = self.tables.get(table.0 as usize) else {
                    return Ok(Slice::Rows { table: *table, end: None });
                };
                let end = self.scan(*table, sql, after.as_deref())?;
                Ok(Slice::Rows { table: *table, end })
            }
            Work::Count { table } => Ok(Slice::Count { table: *table }),
            Work::Images { table, keys } => {
                let mut last = None;
                if let Some(sql) = self.tables.get(table.0 as usize) {
                    for (packed, key) in keys {
                        if last.is_some() && self.bytes >= self.limits.bytes {
                            break;
                        }
                        self.row(*table, sql, key.clone(), (true, false))?;
                        last = Some(packed.clone());
                    }
                }
                Ok(Slice::Images { table: *table, end: last })
            }
        }
    }

    /// Reads rows in their table's own order; the last one's cursor if rows may remain.
    fn scan(
        &mut self,
        index: TableIndex,
        table: &TableSql,
        after: Option<&[Value]>,
    ) -> rusqlite::Result<Option<Vec<Value>>> {
        let sql = if after.is_some() { &table.scan_after } else { &table.scan };
        let mut statement = self.connection.prepare_cached(sql)?;
        let after = after.unwrap_or_default();
        let mut rows = statement.query(params_from_iter(after.iter().map(Bound)))?;
        let mut end = None;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let cursor = row_values(row, 0, table.cursor_width)?;
            let row = row_values(row, table.cursor_width, table.table.columns.len())?;
            let key = table.key_of(&row, &cursor);
            self.moved |= key.contains(&Value::Null);
            self.bytes += size(&row);
            count += 1;
            let packed = PackedKey::new(&key);
            self.rows.entry((index, packed)).or_insert(NotedRow {
                key,
                row: Some(row),
                kept: true,
                noted: false,
            });
            if count >= self.limits.rows || self.bytes >= self.limits.bytes {
                end = Some(cursor);
                break;
            }
        }
        Ok(end)
    }

    fn counts(
        &self,
        uncounted: &std::collections::BTreeSet<TableIndex>,
        work: Option<&Work>,
    ) -> rusqlite::Result<Vec<(TableIndex, u64)>> {
        // While a rescan runs, images and rows differ in number for other reasons.
        let due: Vec<TableIndex> = match work {
            None => uncounted.iter().copied().collect(),
            Some(Work::Count { table }) => vec![*table],
            Some(_) => Vec::new(),
        };
        due.into_iter()
            .filter_map(|index| Some((index, self.tables.get(index.0 as usize)?)))
            .map(|(index, table)| {
                let count: i64 = self
                    .connection
                    .prepare_cached(&table.count)?
                    .query_row([], |row| row.get(0))?;
                Ok((index, count.unsigned_abs()))
            })
            .collect()
    }
}

fn size(values: &[Value]) -> usize {
    values.iter().map(|value| value.size() + 1).sum()
}

/// From a Julian day.
fn wall_time(day: Option<f64>) -> WallTime {
    const EPOCH: f64 = 2_440_587.5;
    const MILLISECONDS: f64 = 86_400_000.0;
    WallTime(day.map_or(0, |day| ((day - EPOCH) * MILLISECONDS).round() as i64))
}
