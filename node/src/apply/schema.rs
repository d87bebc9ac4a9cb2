//! Moving a mirror's schema to that of its origin, in the same transaction as the rows.
//!
//! [`Movement::begin`] drops what went or changed and makes the new tables; [`Movement::finish`],
//! at the end of the run of batches, makes the rest. A table whose statement changed is rebuilt by
//! way of a *stage*: a copy of its rows without any constraints, to which the run's changes are
//! made. Only the rows' final forms need to fit the new table: its constraints may be ones that
//! the old rows did not meet. Likewise a new unique index is made last.
//!
//! The schema may move again before a run is at its end. Its rows are no state that the origin had
//! then, and need not fit anything: [`Movement::go_on`] takes them along in stages.
//!
//! Virtual tables are not made here: a mirror does without them.
//!
//! Statements are run as the origin has them and no object is ever renamed, so that their text in
//! `sqlite_schema` is the origin's to the letter; the end of a movement checks that.

use super::error::{ApplyError, Doing};
use crate::sql::quoted;
use protocol::schema::{ObjectKind, RowIdentity, Schema, SchemaObject, Table, TableIndex};
use rusqlite::{Connection, OptionalExtension, Params};
use std::collections::{BTreeMap, BTreeSet};

const MOVING: &str = "moving the schema";

/// An index, view or trigger of the origin that SQLite does not make here: it uses a function or
/// collation of the application's own, most likely. It is tried again when the schema moves next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The object.
    pub object: SchemaObject,
    /// What SQLite said.
    pub reason: String,
}

/// A schema on its way from one to another, perhaps by way of several.
#[derive(Debug, Default)]
pub(super) struct Movement {
    staged: BTreeMap<TableIndex, Staged>,
    /// Stages made so far: no two have one name.
    made: u32,
}

/// A table being rebuilt.
#[derive(Clone, Debug)]
struct Staged {
    stage: String,
    table: Table,
    /// What AUTOINCREMENT had reached.
    reached: Option<i64>,
}

impl Movement {
    /// Drops and makes what must be so before the rows are written. `cleared` are the tables
    /// whose rows the batch does not build upon.
    pub(super) fn begin(
        connection: &Connection,
        old: &Schema,
        new: &Schema,
        cleared: &[TableIndex],
    ) -> Result<Self, ApplyError> {
        Self::default().go_on(connection, old, new, cleared)
    }

    /// The tables whose rows go to a stage, and the stages' names.
    pub(super) fn stages(&self) -> BTreeMap<TableIndex, String> {
        self.staged.iter().map(|(index, staged)| (*index, staged.stage.clone())).collect()
    }

    /// The stage of a table of the schema in force; all its rows go there if it had none.
    pub(super) fn stage(
        &mut self,
        connection: &Connection,
        index: TableIndex,
        table: &Table,
    ) -> Result<String, ApplyError> {
        if let Some(staged) = self.staged.get(&index) {
            return Ok(staged.stage.clone());
        }
        let staged = Staged {
            stage: self.name(),
            table: table.clone(),
            reached: autoincrement(connection, &table.name)?,
        };
        fill_stage(connection, &staged.stage, &table.name, table, table)?;
        complete_stage(connection, &staged)?;
        run(connection, &format!("DELETE FROM {}", quoted(&table.name)), [])?;
        let stage = staged.stage.clone();
        self.staged.insert(index, staged);
        Ok(stage)
    }

    fn name(&mut self) -> String {
        self.made = self.made.saturating_add(1);
        format!("_holdfast_stage_{}", self.made)
    }

    /// Moves from the schema `old`, at which this movement was, to another: like
    /// [`Movement::begin`], but what is in a stage was never in its table.
    pub(super) fn go_on(
        self,
        connection: &Connection,
        old: &Schema,
        new: &Schema,
        cleared: &[TableIndex],
    ) -> Result<Self, ApplyError> {
        check(new)?;
        let wanted: BTreeSet<&SchemaObject> = made_here(new).collect();
        let existing = objects(connection)?;
        let goes = |object: &&SchemaObject| !wanted.contains(object);
        // Whatever belongs to a table or view that goes, goes with it.
        let owners: Vec<&SchemaObject> = existing
            .iter()
            .filter(|object| matches!(object.kind, ObjectKind::Table | ObjectKind::View))
            .filter(goes)
            .collect();
        let orphaned = |object: &SchemaObject| {
            owners.iter().any(|owner| same_name(&owner.name, &object.table))
        };
        for kind in [ObjectKind::Trigger, ObjectKind::View, ObjectKind::Index] {
            for object in existing.iter().filter(|object| object.kind == kind) {
                if goes(&object) || orphaned(object) {
                    let sql = format!("DROP {} IF EXISTS {}", word(kind), quoted(&object.name));
                    run(connection, &sql, [])?;
                }
            }
        }
        let Self { staged: mut left, made } = self;
        let mut movement = Self { staged: BTreeMap::new(), made };
        let mut fresh = Vec::new();
        for object in existing.iter().filter(|object| object.kind == ObjectKind::Table) {
            let before = old.find(&object.name).and_then(|index| old.table(index));
            let after = new.find(&object.name).and_then(|index| Some((index, new.table(index)?)));
            match (before, after) {
                (Some(before), Some((index, after))) if !cleared.contains(&index) => {
                    if !same_identity(before, after) {
                        return Err(ApplyError::malformed(format!(
                            "table {} has another key and is not sent anew",
                            after.name
                        )));
                    }
                    let was_at = old.find(&object.name).and_then(|at| left.remove(&at));
                    if goes(&object) {
                        let stage = movement.name();
                        let source = was_at.as_ref().map_or(&before.name, |staged| &staged.stage);
                        fill_stage(connection, &stage, source, before, after)?;
                        let reached = match was_at {
                            None => autoincrement(connection, &before.name)?,
                            Some(staged) => {
                                drop_stage(connection, &staged.stage)?;
                                staged.reached
                            }
                        };
                        let table = after.clone();
                        movement.staged.insert(index, Staged { stage, table, reached });
                        fresh.push(index);
                    } else if let Some(staged) = was_at {
                        movement.staged.insert(index, staged);
                    }
                }
                _ => {}
            }
            if goes(&object) {
                run(connection, &format!("DROP TABLE {}", quoted(&object.name)), [])?;
            }
        }
        for staged in left.values() {
            drop_stage(connection, &staged.stage)?;
        }
        let kept: BTreeSet<&SchemaObject> =
            existing.iter().filter(|object| wanted.contains(object)).collect();
        for object in new.objects.iter().filter(|object| object.kind == ObjectKind::Table) {
            if !kept.contains(object) {
                make(connection, object)?;
            }
        }
        for table in &new.tables {
            check_columns(connection, table)?;
        }
        for staged in fresh.iter().filter_map(|index| movement.staged.get(index)) {
            complete_stage(connection, staged)?;
        }
        Ok(movement)
    }

    /// Makes what is left, once the rows have their final forms.
    pub(super) fn finish(
        self,
        connection: &Connection,
        new: &Schema,
    ) -> Result<Vec<LeftOut>, ApplyError> {
        for staged in self.staged.values() {
            unload_stage(connection, staged)?;
        }
        let existing: BTreeSet<SchemaObject> = objects(connection)?.into_iter().collect();
        let mut left_out = Vec::new();
        for kind in [ObjectKind::Index, ObjectKind::View, ObjectKind::Trigger] {
            for object in new.objects.iter().filter(|object| object.kind == kind) {
                if existing.contains(object) {
                    continue;
                }
                match make(connection, object) {
                    Ok(()) => {}
                    Err(ApplyError::Object { source, .. }) if not_made_here(&source) => {
                        left_out
                            .push(LeftOut { object: object.clone(), reason: source.to_string() });
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        connection.pragma_update(None, "user_version", new.user_version).doing(MOVING)?;
        connection.pragma_update(None, "application_id", new.application_id).doing(MOVING)?;
        let made: BTreeSet<SchemaObject> = objects(connection)?.into_iter().collect();
        let wanted: BTreeSet<SchemaObject> = made_here(new)
            .filter(|object| !left_out.iter().any(|left_out| left_out.object == **object))
            .cloned()
            .collect();
        match made.symmetric_difference(&wanted).next() {
            None => Ok(left_out),
            Some(object) => Err(ApplyError::malformed(format!(
                "{} {} can't be had as the schema writes it",
                word(object.kind).to_lowercase(),
                object.name
            ))),
        }
    }
}

/// What is made of a schema.
fn made_here(schema: &Schema) -> impl Iterator<Item = &SchemaObject> {
    schema.objects.iter().filter(|object| object.kind != ObjectKind::Virtual)
}

/// What `sqlite_schema` has, ours and SQLite's own left out.
fn objects(connection: &Connection) -> Result<Vec<SchemaObject>, ApplyError> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema \
               WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
               AND name NOT LIKE '\\_holdfast%' ESCAPE '\\'";
    let mut select = connection.prepare(sql).doing(MOVING)?;
    let rows = select
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
    let mut objects = Vec::new();
    for row in rows.doing(MOVING)? {
        let (kind, name, table, sql) = row.doing(MOVING)?;
        let kind = match kind.as_str() {
            "table" => ObjectKind::Table,
            "index" => ObjectKind::Index,
            "view" => ObjectKind::View,
            "trigger" => ObjectKind::Trigger,
            _ => return Err(ApplyError::NotAMirror),
        };
        objects.push(SchemaObject { kind, name, table, sql });
    }
    Ok(objects)
}

/// Runs an object's statement, if it is one that makes such an object and does nothing else.
fn make(connection: &Connection, object: &SchemaObject) -> Result<(), ApplyError> {
    let starts: &[&str] = match object.kind {
        ObjectKind::Table => &["CREATE TABLE "],
        ObjectKind::Index => &["CREATE INDEX ", "CREATE UNIQUE INDEX "],
        ObjectKind::View => &["CREATE VIEW "],
        ObjectKind::Trigger => &["CREATE TRIGGER "],
        ObjectKind::Virtual => &[],
    };
    if !starts.iter().any(|start| object.sql.starts_with(start)) {
        return Err(ApplyError::malformed(format!("{} is made by another statement", object.name)));
    }
    connection
        .execute(&object.sql, [])
        .map(drop)
        .map_err(|source| ApplyError::Object { name: object.name.clone(), source })
}

/// Whether SQLite does not understand a statement here, as opposed to failing at it.
fn not_made_here(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(code, _)
        | rusqlite::Error::SqlInputError { error: code, .. } => {
            code.extended_code & 0xff == rusqlite::ffi::SQLITE_ERROR
        }
        _ => false,
    }
}

/// Whether what told a table's rows apart still does: then changes name them as before.
fn same_identity(before: &Table, after: &Table) -> bool {
    fn key(table: &Table) -> Option<Vec<Option<&String>>> {
        match &table.identity {
            RowIdentity::Key(key) => {
                Some(key.iter().map(|index| table.columns.get(index.0 as usize)).collect())
            }
            RowIdentity::Rowid(_) => None,
        }
    }
    key(before) == key(after)
}

/// Copies the rows of a table, or of the stage that it had, into a new stage: the columns that
/// both forms have, by name.
fn fill_stage(
    connection: &Connection,
    stage: &str,
    source: &str,
    before: &Table,
    after: &Table,
) -> Result<(), ApplyError> {
    let common: Vec<String> = after
        .columns
        .iter()
        .filter(|column| before.columns.iter().any(|other| same_name(other, column)))
        .map(|column| quoted(column))
        .collect();
    let stage = quoted(stage);
    // A column of ours, since a table with a rowid may share no column with its old form.
    let columns: Vec<&str> =
        std::iter::once("_holdfast_none").chain(common.iter().map(String::as_str)).collect();
    run(connection, &format!("CREATE TABLE {stage} ({})", columns.join(",")), [])?;
    let from = quoted(source);
    let mut into = common.clone();
    let mut values = common;
    if let (RowIdentity::Rowid(old), RowIdentity::Rowid(new)) = (&before.identity, &after.identity)
    {
        into.push(quoted(new));
        values.push(quoted(old));
    }
    let (into, values) = (into.join(","), values.join(","));
    run(connection, &format!("INSERT INTO {stage} ({into}) SELECT {values} FROM {from}"), [])
}

/// Adds the columns that the old form did not have, with the new table's defaults, and the index
/// by which changes find their rows.
fn complete_stage(connection: &Connection, staged: &Staged) -> Result<(), ApplyError> {
    let stage = quoted(&staged.stage);
    let present = columns_of(connection, &staged.stage)?;
    for (column, default) in columns_of(connection, &staged.table.name)? {
        if present.iter().any(|(name, _)| same_name(name, &column)) {
            continue;
        }
        let column = quoted(&column);
        let add = format!("ALTER TABLE {stage} ADD COLUMN {column}");
        let made = match default {
            None => false,
            // The text of a default has lost its parentheses, and may need them. One that is no
            // constant can't be given to rows that exist: the origin sends what they have.
            Some(default) => {
                [format!("{add} DEFAULT {default}"), format!("{add} DEFAULT ({default})")]
                    .iter()
                    .any(|sql| connection.execute(sql, []).is_ok())
            }
        };
        if !made {
            run(connection, &add, [])?;
        }
    }
    if let RowIdentity::Key(key) = &staged.table.identity {
        let key = key
            .iter()
            .filter_map(|index| staged.table.columns.get(index.0 as usize))
            .map(|column| quoted(column))
            .collect::<Vec<_>>()
            .join(",");
        let index = quoted(&format!("{}_key", staged.stage));
        run(connection, &format!("CREATE INDEX {index} ON {stage} ({key})"), [])?;
    }
    Ok(())
}

/// Moves the rows, now in their final forms, into the new table.
fn unload_stage(connection: &Connection, staged: &Staged) -> Result<(), ApplyError> {
    let mut columns: Vec<String> = staged.table.columns.iter().map(|name| quoted(name)).collect();
    if let RowIdentity::Rowid(rowid) = &staged.table.identity {
        columns.push(quoted(rowid));
    }
    let columns = columns.join(",");
    let table = quoted(&staged.table.name);
    let stage = quoted(&staged.stage);
    let sql = format!("INSERT OR ABORT INTO {table} ({columns}) SELECT {columns} FROM {stage}");
    run(connection, &sql, [])?;
    drop_stage(connection, &staged.stage)?;
    let Some(reached) = staged.reached else { return Ok(()) };
    let name = &staged.table.name;
    let sql = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
    if connection.execute(sql, (name, reached)).doing(MOVING)? == 0 {
        run(
            connection,
            "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)",
            (name, reached),
        )?;
    }
    Ok(())
}

fn drop_stage(connection: &Connection, stage: &str) -> Result<(), ApplyError> {
    run(connection, &format!("DROP TABLE {}", quoted(stage)), [])
}

/// What AUTOINCREMENT has reached in a table: deleted ids must stay used in a rebuilt one.
fn autoincrement(connection: &Connection, table: &str) -> Result<Option<i64>, ApplyError> {
    let known = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'";
    if connection.query_row(known, [], |_| Ok(())).optional().doing(MOVING)?.is_none() {
        return Ok(None);
    }
    connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| row.get(0))
        .optional()
        .doing(MOVING)
}

/// A table's columns, generated ones left out, and the text of their defaults.
fn columns_of(
    connection: &Connection,
    table: &str,
) -> Result<Vec<(String, Option<String>)>, ApplyError> {
    let sql = "SELECT name, dflt_value FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid";
    let mut select = connection.prepare_cached(sql).doing(MOVING)?;
    let rows = select.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).doing(MOVING)?;
    rows.collect::<Result<_, _>>().doing(MOVING)
}

/// Refuses a schema that could touch what is not the origin's.
fn check(schema: &Schema) -> Result<(), ApplyError> {
    let ours = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("_holdfast") || name.starts_with("sqlite_")
    };
    for object in &schema.objects {
        if ours(&object.name) || ours(&object.table) {
            return Err(ApplyError::malformed(format!("the schema claims {}", object.name)));
        }
    }
    for table in &schema.tables {
        let has_object = schema
            .objects
            .iter()
            .any(|object| object.kind == ObjectKind::Table && object.name == table.name);
        if !has_object {
            return Err(ApplyError::malformed(format!("nothing makes table {}", table.name)));
        }
    }
    Ok(())
}

/// The schema's list of a table's columns and its statement must say the same.
fn check_columns(connection: &Connection, table: &Table) -> Result<(), ApplyError> {
    let columns = columns_of(connection, &table.name)?;
    if columns.iter().map(|(name, _)| name).eq(&table.columns) {
        return Ok(());
    }
    Err(ApplyError::malformed(format!("table {} has other columns than it says", table.name)))
}

fn run(connection: &Connection, sql: &str, parameters: impl Params) -> Result<(), ApplyError> {
    connection.execute(sql, parameters).map(drop).doing(MOVING)
}

/// Names of SQLite: ASCII letters of either case are the same.
fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table | ObjectKind::Virtual => "TABLE",
        ObjectKind::Index => "INDEX",
        ObjectKind::View => "VIEW",
        ObjectKind::Trigger => "TRIGGER",
    }
}
