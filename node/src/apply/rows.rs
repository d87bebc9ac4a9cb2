//! Writing the rows of batches into a mirror's tables.
//!
//! A run of batches is one state of the origin, but on the way there a row may stand in another's
//! way: two rows that swap a unique value, a chain of moved keys, a key that changes case under
//! NOCASE. So a row that its table refuses is taken out of the table and its final form set aside
//! until the run is complete, when every row that is in the table has its final form and nothing
//! can be in the way any more.
//!
//! Every statement says OR ABORT: a table's own ON CONFLICT clause would silently drop rows.

use super::error::{ApplyError, Doing};
use super::schema::Movement;
use crate::sql::{bind, from_sql, quoted};
use conflict::Value;
use protocol::change::{Assignment, Body, Operation, RowChange};
use protocol::schema::{ColumnIndex, RowIdentity, Schema, Table, TableIndex};
use rusqlite::{CachedStatement, Connection, ErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;

const WRITING: &str = "writing rows";

/// Writes the rows of one run of batches, or of one base.
#[derive(Debug)]
pub(super) struct RowWriter {
    targets: Targets,
    /// Rows whose final form waits for the end of the run, by table and packed key. In memory:
    /// only rows that stood in another's way are here.
    waiting: BTreeMap<(TableIndex, Vec<u8>), FinalForm>,
    /// Row changes written so far.
    pub(super) rows: u64,
    /// How many of them had to wait.
    pub(super) waited: u64,
}

/// A row as it will be: the values of the key, then of the other columns.
#[derive(Debug)]
struct FinalForm {
    key: Vec<Value>,
    others: Vec<Value>,
}

/// Where the rows of a schema's tables go, by their numbers.
pub(super) type Targets = Arc<[Target]>;

/// Where the rows of a table go, and the SQL for it.
#[derive(Debug)]
pub(super) struct Target {
    name: String,
    /// The table that takes the rows, quoted.
    table: String,
    /// Whether that is a stage: a copy without constraints, while the table is being rebuilt.
    staged: bool,
    /// The key's columns, quoted.
    key: Vec<String>,
    /// The other columns in their order, and quoted.
    others: Vec<(ColumnIndex, String)>,
    /// Finds the row whose key is bound to the first parameters.
    this_row: String,
    /// Removes that row.
    delete: String,
    /// Adds a row: its key, then its other columns.
    insert: String,
}

impl Target {
    fn new(table: &Table, stage: Option<&String>) -> Result<Self, ApplyError> {
        let column = |index: ColumnIndex| {
            table.columns.get(index.0 as usize).map(|name| quoted(name)).ok_or_else(|| {
                ApplyError::malformed(format!("table {} has no column {}", table.name, index.0))
            })
        };
        let key: Vec<String> = match &table.identity {
            RowIdentity::Key(columns) => {
                columns.iter().map(|index| column(*index)).collect::<Result<_, _>>()?
            }
            RowIdentity::Rowid(name) => vec![quoted(name)],
        };
        if key.is_empty() {
            return Err(ApplyError::malformed(format!("table {} has an empty key", table.name)));
        }
        let others: Vec<_> = table
            .other_columns()
            .map(|index| Ok((index, column(index)?)))
            .collect::<Result<_, ApplyError>>()?;
        // The first term lets SQLite use the key's index whatever its collation; the others hold
        // the row to the very key: not 'a' for 'A', not 1 for 1.0.
        let term = |(number, column): (usize, &String)| match table.identity {
            RowIdentity::Rowid(_) => format!("{column} = ?{number}"),
            RowIdentity::Key(_) => format!(
                "{column} = ?{number} AND {column} = ?{number} COLLATE BINARY \
                 AND typeof({column}) = typeof(?{number})"
            ),
        };
        let this_row = (1..).zip(&key).map(term).collect::<Vec<_>>().join(" AND ");
        let into = quoted(stage.unwrap_or(&table.name));
        let delete = format!("DELETE FROM {into} WHERE {this_row}");
        let columns: Vec<&str> =
            key.iter().chain(others.iter().map(|(_, name)| name)).map(String::as_str).collect();
        let parameters = vec!["?"; columns.len()].join(",");
        let columns = columns.join(",");
        let insert = format!("INSERT OR ABORT INTO {into} ({columns}) VALUES ({parameters})");
        Ok(Self {
            name: table.name.clone(),
            table: into,
            staged: stage.is_some(),
            key,
            others,
            this_row,
            delete,
            insert,
        })
    }

    fn update(&self, assignments: &[(ColumnIndex, Assignment)]) -> Result<String, ApplyError> {
        let mut set = Vec::with_capacity(assignments.len());
        for (number, (index, _)) in (self.key.len() + 1..).zip(assignments) {
            let (_, name) = self.others.get(self.place(*index)?).ok_or_else(|| self.foreign())?;
            set.push(format!("{name} = ?{number}"));
        }
        Ok(format!("UPDATE OR ABORT {} SET {} WHERE {}", self.table, set.join(", "), self.this_row))
    }

    fn select(&self) -> String {
        // A table may have nothing but its key.
        let columns: Vec<&str> = self.others.iter().map(|(_, name)| name.as_str()).collect();
        let columns = if columns.is_empty() { "1".to_owned() } else { columns.join(",") };
        format!("SELECT {columns} FROM {} WHERE {}", self.table, self.this_row)
    }

    /// The place of a column among the others.
    fn place(&self, column: ColumnIndex) -> Result<usize, ApplyError> {
        self.others.binary_search_by_key(&column, |(index, _)| *index).map_err(|_| self.foreign())
    }

    fn foreign(&self) -> ApplyError {
        ApplyError::malformed(format!("a change of {} sets a column it can't set", self.name))
    }
}

/// Rows of `schema` go to its tables; those of tables with a stage there.
pub(super) fn targets(
    schema: &Schema,
    stages: &BTreeMap<TableIndex, String>,
) -> Result<Targets, ApplyError> {
    (0..)
        .zip(&schema.tables)
        .map(|(index, table)| Target::new(table, stages.get(&TableIndex(index))))
        .collect()
}

impl RowWriter {
    /// Writes rows to where they go.
    pub(super) fn new(targets: Targets) -> Self {
        Self { targets, waiting: BTreeMap::new(), rows: 0, waited: 0 }
    }

    /// Writes one batch's rows.
    pub(super) fn write(&mut self, connection: &Connection, body: &Body) -> Result<(), ApplyError> {
        for table in &body.cleared {
            let target = target_of(&self.targets, *table)?;
            connection.execute(&format!("DELETE FROM {}", target.table), []).doing(WRITING)?;
            self.waiting.retain(|(waiting, _), _| waiting != table);
        }
        let mut deletes = Vec::new();
        let mut updates = Vec::new();
        let mut inserts = Vec::new();
        for change in &body.changes {
            let target = target_of(&self.targets, change.table)?;
            if change.key.len() != target.key.len() {
                return Err(ApplyError::malformed(format!("a key of {} is cut", target.name)));
            }
            match &change.operation {
                Operation::Delete => deletes.push(change),
                Operation::Update(assignments) => updates.push((change, assignments)),
                Operation::Forget => {
                    return Err(ApplyError::malformed(format!(
                        "a row of {} is forgotten, which only shared databases know",
                        target.name
                    )));
                }
                Operation::Insert(values) if values.len() == target.others.len() => {
                    inserts.push((change, values));
                }
                Operation::Insert(_) => {
                    return Err(ApplyError::malformed(format!("a row of {} is cut", target.name)));
                }
            }
        }
        // Rows of one statement together: it is prepared once, not looked up for every row.
        deletes.sort_by_key(|change| change.table);
        updates.sort_by(|(a, x), (b, y)| {
            let columns = |list: &'_ [(ColumnIndex, Assignment)]| {
                list.iter().map(|(index, _)| *index).collect::<Vec<_>>()
            };
            a.table.cmp(&b.table).then_with(|| columns(x).cmp(&columns(y)))
        });
        inserts.sort_by_key(|(change, _)| change.table);

        for group in deletes.chunk_by(|a, b| a.table == b.table) {
            self.delete_group(connection, group)?;
        }
        let same_columns = |x: &[(ColumnIndex, Assignment)], y: &[(ColumnIndex, Assignment)]| {
            x.iter().map(|(index, _)| index).eq(y.iter().map(|(index, _)| index))
        };
        for group in updates.chunk_by(|(a, x), (b, y)| a.table == b.table && same_columns(x, y)) {
            self.update_group(connection, group)?;
        }
        for group in inserts.chunk_by(|(a, _), (b, _)| a.table == b.table) {
            self.insert_group(connection, group)?;
        }
        self.rows += body.changes.len() as u64;
        Ok(())
    }

    /// Puts the rows that waited into their tables: at the end of a run.
    pub(super) fn settle(&mut self, connection: &Connection) -> Result<(), ApplyError> {
        for ((table, _), row) in std::mem::take(&mut self.waiting) {
            let target = target_of(&self.targets, table)?;
            let mut insert = prepare(connection, &target.insert)?;
            bind(&mut insert, row.key.iter().chain(&row.others)).doing(WRITING)?;
            insert.raw_execute().map_err(|source| ApplyError::Refused {
                table: target.name.clone(),
                key: row.key,
                source,
            })?;
        }
        Ok(())
    }

    /// Moves the rows that wait into stages, since the schema moves before the run's end: what
    /// stands in their way may be there until then.
    pub(super) fn park(
        &mut self,
        connection: &Connection,
        schema: &Schema,
        movement: &mut Movement,
    ) -> Result<(), ApplyError> {
        for ((index, _), row) in std::mem::take(&mut self.waiting) {
            let Some(table) = schema.table(index) else { continue };
            let stage = movement.stage(connection, index, table)?;
            let target = Target::new(table, Some(&stage))?;
            let mut insert = prepare(connection, &target.insert)?;
            bind(&mut insert, row.key.iter().chain(&row.others)).doing(WRITING)?;
            insert.raw_execute().doing(WRITING)?;
        }
        Ok(())
    }

    fn delete_group(
        &mut self,
        connection: &Connection,
        group: &[&RowChange],
    ) -> Result<(), ApplyError> {
        let Some(first) = group.first() else { return Ok(()) };
        let Self { targets, waiting, .. } = self;
        let target = target_of(targets, first.table)?;
        let mut delete = prepare(connection, &target.delete)?;
        for change in group {
            bind(&mut delete, &change.key).doing(WRITING)?;
            delete.raw_execute().doing(WRITING)?;
            if !waiting.is_empty() {
                waiting.remove(&(change.table, pack(&change.key)?));
            }
        }
        Ok(())
    }

    fn update_group(
        &mut self,
        connection: &Connection,
        group: &[(&RowChange, &Vec<(ColumnIndex, Assignment)>)],
    ) -> Result<(), ApplyError> {
        let Some((first, assignments)) = group.first() else { return Ok(()) };
        if assignments.is_empty() {
            return Ok(());
        }
        let Self { targets, waiting, waited, .. } = self;
        let target = target_of(targets, first.table)?;
        let mut update = prepare(connection, &target.update(assignments)?)?;
        for (change, assignments) in group {
            let mut values = change.key.iter().collect::<Vec<_>>();
            for (_, assignment) in *assignments {
                values.push(set(target, assignment)?);
            }
            bind(&mut update, values).doing(WRITING)?;
            match update.raw_execute() {
                Ok(0) => {
                    // Not in the table: it waits, or it isn't there at all.
                    let row = waiting.get_mut(&(change.table, pack(&change.key)?));
                    overwrite(target, row.ok_or_else(|| missing(target, change))?, assignments)?;
                }
                Ok(_) => {}
                Err(error) if in_the_way(&error) => {
                    let others = read(connection, target, &change.key)?
                        .ok_or_else(|| missing(target, change))?;
                    let mut row = FinalForm { key: change.key.clone(), others };
                    overwrite(target, &mut row, assignments)?;
                    remove(connection, target, &change.key)?;
                    waiting.insert((change.table, pack(&change.key)?), row);
                    *waited += 1;
                }
                Err(error) => return Err(error).doing(WRITING),
            }
        }
        Ok(())
    }

    fn insert_group(
        &mut self,
        connection: &Connection,
        group: &[(&RowChange, &Vec<Value>)],
    ) -> Result<(), ApplyError> {
        let Some((first, _)) = group.first() else { return Ok(()) };
        let Self { targets, waiting, waited, .. } = self;
        let target = target_of(targets, first.table)?;
        let mut insert = prepare(connection, &target.insert)?;
        for (change, others) in group {
            if target.staged {
                // Nothing there would refuse a second row of this key.
                remove(connection, target, &change.key)?;
            }
            if !waiting.is_empty() {
                waiting.remove(&(change.table, pack(&change.key)?));
            }
            bind(&mut insert, change.key.iter().chain(others.iter())).doing(WRITING)?;
            let mut outcome = insert.raw_execute();
            if outcome.as_ref().is_err_and(in_the_way) {
                // Most likely the row itself is there already, in an older form.
                if remove(connection, target, &change.key)? {
                    outcome = insert.raw_execute();
                }
            }
            match outcome {
                Ok(_) => {}
                Err(error) if in_the_way(&error) => {
                    let row = FinalForm { key: change.key.clone(), others: (*others).clone() };
                    waiting.insert((change.table, pack(&change.key)?), row);
                    *waited += 1;
                }
                Err(error) => return Err(error).doing(WRITING),
            }
        }
        Ok(())
    }
}

fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, ApplyError> {
    connection.prepare_cached(sql).doing(WRITING)
}

/// The values of a row outside its key, if it is in the table.
fn read(
    connection: &Connection,
    target: &Target,
    key: &[Value],
) -> Result<Option<Vec<Value>>, ApplyError> {
    let mut select = prepare(connection, &target.select())?;
    bind(&mut select, key).doing(WRITING)?;
    let mut rows = select.raw_query();
    let Some(row) = rows.next().doing(WRITING)? else { return Ok(None) };
    (0..target.others.len())
        .map(|column| row.get_ref(column).map(from_sql).doing(WRITING))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Takes a row out of the table; whether it was there.
fn remove(connection: &Connection, target: &Target, key: &[Value]) -> Result<bool, ApplyError> {
    let mut delete = prepare(connection, &target.delete)?;
    bind(&mut delete, key).doing(WRITING)?;
    Ok(delete.raw_execute().doing(WRITING)? > 0)
}

fn overwrite(
    target: &Target,
    row: &mut FinalForm,
    assignments: &[(ColumnIndex, Assignment)],
) -> Result<(), ApplyError> {
    for (column, assignment) in assignments {
        let value = row.others.get_mut(target.place(*column)?).ok_or_else(|| target.foreign())?;
        value.clone_from(set(target, assignment)?);
    }
    Ok(())
}

/// A mirror takes values, not deltas: there is one writer, and nothing to add up.
fn set<'a>(target: &Target, assignment: &'a Assignment) -> Result<&'a Value, ApplyError> {
    match assignment {
        Assignment::Set(value) => Ok(value),
        Assignment::Add(_) => Err(ApplyError::malformed(format!(
            "a change of {} adds to a column, which only a shared database knows",
            target.name
        ))),
    }
}

fn in_the_way(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn missing(target: &Target, change: &RowChange) -> ApplyError {
    ApplyError::MissingRow { table: target.name.clone(), key: change.key.clone() }
}

fn target_of(targets: &[Target], table: TableIndex) -> Result<&Target, ApplyError> {
    targets.get(table.0 as usize).ok_or_else(|| {
        ApplyError::malformed("a change names a table that the schema does not have")
    })
}

/// A key as bytes that are equal exactly where the keys are the same bit for bit.
fn pack(key: &[Value]) -> Result<Vec<u8>, ApplyError> {
    rmp_serde::to_vec(key).map_err(|error| ApplyError::malformed(error.to_string()))
}
