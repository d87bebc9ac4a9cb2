//! New numbers for rows that lost theirs: where two sites gave out one key for two rows, the row
//! of lesser rank keeps it, and the other's *origin* gives it another, as a real change, together
//! with the rows that refer to it.

use super::book::{Book, Stored};
use super::own::{Own, Stamp};
use super::say::{Edit, Meaning, Parent, Row};
use super::{DeskError, MergedId, pack_version};
use crate::capture::{pack, unpack};
use crate::store::{DatabaseNumber, StoreError};
use conflict::row::Assignment;
use conflict::visible::{Reason, RowId, Shown, Store, Table as Place};
use conflict::{SiteId, Value, Version};
use protocol::schema::TableIndex;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;

/// Remembers a row that is to be given another number, if it is this site's to give.
///
/// # Errors
/// See [`StoreError`].
pub(super) fn note(
    book: &Book<'_>,
    id: &MergedId,
    shown: &Shown,
    site: SiteId,
) -> Result<(), StoreError> {
    let lost = matches!(shown, Shown::Parked(Reason::KeyTaken { .. }));
    if lost && id.birth()?.is_some_and(|birth| birth.origin == site) {
        book.connection
            .prepare_cached("INSERT OR IGNORE INTO collided VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![book.database, id.table, id.key, id.birth])?;
    }
    Ok(())
}

/// Whether rows wait for another number.
///
/// # Errors
/// See [`StoreError`].
pub fn is_due(connection: &Connection, database: DatabaseNumber) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM collided WHERE database = ? LIMIT 1")?
        .exists([database.0])?)
}

/// Gives all rows that wait another number: `next` says where numbers of this site begin above
/// one.
///
/// # Errors
/// What is stored is damaged, or can't be read or written.
pub fn rekey(
    book: &Book<'_>,
    stamp: Stamp,
    next: &dyn Fn(i64) -> Option<i64>,
    own: &mut Own,
) -> Result<(), DeskError> {
    let mut statement = book
        .connection
        .prepare_cached("SELECT tbl, key, birth FROM collided WHERE database = ?")?;
    let waiting = statement
        .query_map([book.database], |row| {
            Ok(MergedId { table: row.get(0)?, key: row.get(1)?, birth: row.get(2)? })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    book.connection
        .prepare_cached("DELETE FROM collided WHERE database = ?")?
        .execute([book.database])?;
    // Numbers that were given out here, by table.
    let mut given: BTreeMap<i64, i64> = BTreeMap::new();
    for id in waiting {
        let (Some(row), Some(stored)) = (book.local.row_id(&id)?, book.now(&id)?) else { continue };
        let lost = stored
            .outcome
            .as_ref()
            .is_some_and(|outcome| matches!(outcome.shown, Shown::Parked(Reason::KeyTaken { .. })));
        if !lost || !stored.state.is_live() {
            continue;
        }
        let above = match given.get(&id.table) {
            Some(last) => *last,
            None => book.greatest_number(row.table)?,
        };
        let Some(number) = next(above) else { continue };
        given.insert(id.table, number);
        renumber(book, &row, &stored, number, stamp, own)?;
    }
    Ok(())
}

/// Lets a row begin anew under another number, and others refer to that.
fn renumber(
    book: &Book<'_>,
    row: &RowId,
    stored: &Stored,
    number: i64,
    stamp: Stamp,
    own: &mut Own,
) -> Result<(), DeskError> {
    let birth = Version { timestamp: stamp.timestamp, origin: stamp.site };
    let key = [Value::Integer(number)];
    let table = book.local.table(row.table)?;
    let index = TableIndex(row.table.0);
    let id = book.local.merged_id(row)?;
    let new = MergedId { table: id.table, key: pack(&key), birth: pack_version(birth) };
    let meant = book.meant(row, stored)?.values;
    let (mut edits, mut parents) = (Vec::new(), Vec::new());
    for (place, column) in table.columns.iter().enumerate() {
        let Some(value) = meant.get(place).filter(|_| !column.in_key && !column.stays) else {
            continue;
        };
        let rule = book.local.policy.rule(&table.name, &column.name);
        let (column, set) = (column.number, stored.state.version(column.number));
        edits.push(Edit { place, column, assignment: Assignment::Set(value.clone(), rule) });
        let known =
            stored.parents.iter().find(|known| known.column == column && Some(known.set) == set);
        parents.extend(known.map(|known| Parent { place, column, birth: known.birth }));
    }
    let begins = Row { index, table, id: &new, key: &key };
    book.say(begins, Meaning::Whole(edits), &parents, stamp, own)?;
    let mut referrers = Vec::new();
    book.referrers(row, &mut |referrer| {
        referrers.push(referrer.clone());
        Ok(true)
    })?;
    for referrer in referrers {
        follow(book, &referrer, row, (number, birth), stamp, own)?;
    }
    let ends = Row { index, table, id: &id, key: &row.key };
    book.say(ends, Meaning::Gone, &[], stamp, own)?;
    Ok(())
}

/// Lets a row refer to another number.
fn follow(
    book: &Book<'_>,
    referrer: &RowId,
    parent: &RowId,
    (number, birth): (i64, Version),
    stamp: Stamp,
    own: &mut Own,
) -> Result<(), DeskError> {
    let id = book.local.merged_id(referrer)?;
    let Some(stored) = book.now(&id)?.filter(|stored| stored.state.is_live()) else {
        return Ok(());
    };
    let table = book.local.table(referrer.table)?;
    let (mut edits, mut parents) = (Vec::new(), Vec::new());
    for reference in book.meant(referrer, &stored)?.references {
        if reference.parent != *parent {
            continue;
        }
        for place in book.local.desk.columns_of(reference.foreign_key)?.iter().copied() {
            let Some(column) = table.columns.get(place).filter(|column| !column.in_key) else {
                continue;
            };
            let rule = book.local.policy.rule(&table.name, &column.name);
            let column = column.number;
            let assignment = Assignment::Set(Value::Integer(number), rule);
            edits.push(Edit { place, column, assignment });
            parents.push(Parent { place, column, birth });
        }
    }
    edits.sort_by_key(|edit| edit.place);
    edits.dedup_by_key(|edit| edit.place);
    parents.sort_by_key(|parent| parent.place);
    parents.dedup_by_key(|parent| parent.place);
    let index = TableIndex(referrer.table.0);
    let row = Row { index, table, id: &id, key: &referrer.key };
    book.say(row, Meaning::Edited(edits), &parents, stamp, own)?;
    Ok(())
}

impl Book<'_> {
    /// The greatest number that a table's rows have as keys, remembered ones included.
    fn greatest_number(&self, place: Place) -> Result<i64, DeskError> {
        let number = self.local.table(place)?.number;
        let mut keys = self.connection.prepare_cached(
            "SELECT DISTINCT key FROM merged_row WHERE database = ?1 AND tbl = ?2",
        )?;
        let mut rows = keys.query(params![self.database, number])?;
        let mut greatest = 0;
        while let Some(row) = rows.next()? {
            let key: Vec<u8> = row.get(0)?;
            if let Some(Value::Integer(key)) = unpack(&key)?.first() {
                greatest = greatest.max(*key);
            }
        }
        Ok(greatest)
    }
}
