//! The compare half of a harvest: rows as read against their images, bit for bit. What differs
//! becomes changes, and the images follow, in a transaction that the caller commits.

use super::error::CaptureError;
use super::harvest::{NotedRow, Notes};
use super::images::{Captured, Images, pack, unpack};
use conflict::{Timestamp, Value};
use protocol::change::{Assignment, Operation, RowChange};
use protocol::schema::{ColumnIndex, RowIdentity, Table, TableIndex};

/// What a reading came to.
#[derive(Debug, Default)]
pub struct Folded {
    /// What changed, each row once, in its final form; a key that took other bits is two rows.
    pub changes: Vec<RowChange>,
    /// Tables that have fewer rows than images: the rest are to be looked for.
    pub miscounted: Vec<TableIndex>,
}

/// Compares what was read with the images, and brings those up to date. Repeating it after a
/// rollback gives the same; after a commit, nothing.
///
/// # Errors
/// The node's own database fails or is unreadable.
pub fn fold(
    notes: &Notes,
    captured: &Captured,
    images: &Images<'_>,
    stamp: Timestamp,
) -> Result<Folded, CaptureError> {
    let mut folded = Folded::default();
    for ((index, key), noted) in &notes.rows {
        let (Some(table), Some(number)) = (captured.schema.table(*index), captured.number(*index))
        else {
            continue;
        };
        let image = images.get(number, key)?;
        let operation = match (&noted.row, image) {
            (None, None) => continue,
            (None, Some(image)) => {
                images.delete(number, key)?;
                let before = unpack(&image.row)?;
                let key = match &table.identity {
                    RowIdentity::Key(_) => key_values(table, &before),
                    RowIdentity::Rowid(_) => noted.key.clone(),
                };
                folded.changes.push(RowChange::plain(*index, key, Operation::Delete));
                continue;
            }
            (Some(row), None) => {
                images.put(number, key, stamp, &pack(row))?;
                whole(table, row)
            }
            (Some(row), Some(image)) => {
                let after = pack(row);
                if after == image.row {
                    continue;
                }
                let before = unpack(&image.row)?;
                let old_key = key_values(table, &before);
                if old_key == key_values(table, row) {
                    let defaults = captured.defaults.of(&captured.schema, *index, table);
                    let Some(operation) = difference(table, &before, row, &defaults) else {
                        continue; // only columns that were added since, and have their default
                    };
                    images.put(number, key, stamp, &after)?;
                    operation
                } else {
                    // The same key to SQLite, in other bits (1 became 1.0): a row of its own.
                    images.put(number, key, stamp, &after)?;
                    folded.changes.push(RowChange::plain(*index, old_key, Operation::Delete));
                    whole(table, row)
                }
            }
        };
        let NotedRow { key, .. } = noted;
        folded.changes.push(RowChange::plain(*index, key.clone(), operation));
    }
    for (index, rows) in &notes.counts {
        if let Some(number) = captured.number(*index)
            && images.count(number)? != *rows
        {
            folded.miscounted.push(*index);
        }
    }
    Ok(folded)
}

/// A row as an insert carries it.
fn whole(table: &Table, row: &[Value]) -> Operation {
    let others = table.other_columns().filter_map(|column| row.get(column.0 as usize)).cloned();
    Operation::Insert(others.collect())
}

fn key_values(table: &Table, row: &[Value]) -> Vec<Value> {
    match &table.identity {
        RowIdentity::Key(key) => {
            key.iter().filter_map(|column| row.get(column.0 as usize)).cloned().collect()
        }
        RowIdentity::Rowid(_) => Vec::new(),
    }
}

/// What made `after` of `before`, a row of the same key; nothing where they are the same.
fn difference(
    table: &Table,
    before: &[Value],
    after: &[Value],
    defaults: &[Option<Value>],
) -> Option<Operation> {
    let assignments: Vec<(ColumnIndex, Assignment)> = table
        .other_columns()
        .filter_map(|column| {
            let at = column.0 as usize;
            let new = after.get(at)?;
            let old = before.get(at).or_else(|| defaults.get(at)?.as_ref());
            (old != Some(new)).then(|| (column, Assignment::Set(new.clone())))
        })
        .collect();
    (!assignments.is_empty()).then_some(Operation::Update(assignments))
}
