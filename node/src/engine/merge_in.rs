//! A file that has content of its own and becomes a part of what the group shares (`attach
//! --merge`). Nothing is written into it, and nothing is numbered here: images and notes are laid
//! out so that the first harvest finds the file's own rows as new ones, and the first write brings
//! what the group has. Of a row that both have, the group's values count; rows that are two under
//! one number stay two, and the file's own gets another number, as in any collision of keys.

use super::fill::{Stride, Walk, other_tables, row_at};
use super::{Engine, EngineError};
use crate::capture::{CaptureError, Images, PackedKey, Weight, inspect, pack};
use crate::failure::Failure;
use crate::shared::conflicts::Context;
use crate::shared::{Policy, fit, pack_version};
use crate::sql::{bind, quoted, row_values};
use crate::store::DatabaseNumber;
use conflict::{Value, Version};
use protocol::schema::{RowIdentity, Table, TableIndex};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::Path;

/// Rows of one step.
const ROWS_AT_ONCE: usize = 500;

/// A file whose content is laid out.
pub(super) struct MergingIn {
    connection: Connection,
    walk: Walk,
    /// What is next, if a step was cut short by somebody at the file.
    stride: Option<Stride>,
    /// Through the file's own rows of the tables whose keys SQLite hands out.
    own: Option<OwnRows>,
    /// The births of the file's own rows.
    birth: Version,
    counts: BTreeMap<u32, Counts>,
}

/// How far the file's own rows are gone through.
struct OwnRows {
    table: u32,
    after: Option<Vec<Value>>,
}

/// What was found in one table.
#[derive(Default)]
struct Counts {
    /// Rows that the group has with other values.
    differ: u64,
    /// Rows under whose number the group has another row.
    collide: u64,
}

/// What laying out some more rows came to.
pub(super) enum MergedIn {
    /// There is more.
    Going(Box<MergingIn>),
    /// Somebody is at the file: to be tried again in a moment.
    Busy(Box<MergingIn>),
    /// All is laid out; what a person should know.
    Done(Vec<String>),
}

impl Engine {
    /// Begins with a file that has the group's tables, or refuses it.
    pub(super) fn begin_merging_in(
        &mut self,
        number: DatabaseNumber,
        file: &Path,
    ) -> Result<Box<MergingIn>, EngineError> {
        let failed = |error| CaptureError::application(file, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.environment.open_database(file, flags).map_err(failed)?;
        let schema = self.group_schema(number)?;
        let inspection = inspect(&connection, Some(&schema)).map_err(failed)?;
        if let Some(other) = other_tables(&inspection.schema, &schema) {
            return Err(Failure::refused(
                format!("{} can't be merged with the group's: {other}.", file.display()),
                "Bring both to one version of the application first.",
            )
            .into());
        }
        let own = self.membership.member(self.identity.site);
        let residues = own.map(|member| member.residues).unwrap_or_default();
        let fitness = fit::findings(&connection, &inspection, false, residues, &Policy::default())
            .map_err(failed)?;
        if let Some(found) = fitness.iter().find(|found| found.weight == Weight::Refusal) {
            return Err(Failure::refused(format!("{}.", found.what), found.remedy.clone()).into());
        }
        let walk = Walk::new(self, number, &schema)?;
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            Ok(Images::new(transaction, number.0).forget_rows()?)
        })?;
        let birth = Version { timestamp: self.stamp(None)?, origin: self.identity.site };
        let (stride, own, counts) = (None, None, BTreeMap::new());
        Ok(Box::new(MergingIn { connection, walk, stride, own, birth, counts }))
    }

    /// Lays out some more rows.
    pub(super) fn merge_some_in(
        &mut self,
        number: DatabaseNumber,
        mut merging: Box<MergingIn>,
    ) -> Result<MergedIn, EngineError> {
        let done = if merging.own.is_some() {
            self.lay_out_own(number, &mut merging)
        } else {
            let stride = match merging.stride.take() {
                Some(stride) => stride,
                None => merging.walk.next(self, number)?,
            };
            let laid_out = self.lay_out(number, &mut merging, &stride);
            if laid_out.is_err() {
                merging.stride = Some(stride);
            }
            laid_out
        };
        match done {
            Ok(true) => Ok(MergedIn::Done(merging.findings())),
            Ok(false) => Ok(MergedIn::Going(merging)),
            Err(EngineError::Capture(error)) if error.is_busy() => Ok(MergedIn::Busy(merging)),
            Err(error) => Err(error),
        }
    }

    /// Compares some of the group's rows with what the file has under their keys.
    fn lay_out(
        &mut self,
        number: DatabaseNumber,
        merging: &mut MergingIn,
        stride: &Stride,
    ) -> Result<bool, EngineError> {
        let (index, forms) = match stride {
            Stride::Rows(index, forms) => (*index, forms),
            Stride::End(..) => return Ok(false),
            Stride::Done => {
                merging.own = Some(OwnRows { table: 0, after: None });
                return Ok(false);
            }
        };
        let captured = &merging.walk.captured;
        let (Some(table), Some(logged)) = (captured.schema.table(index), captured.number(index))
        else {
            return Ok(false);
        };
        let path = self.store.database(number)?.path;
        let mut there = Vec::with_capacity(forms.len());
        for form in forms {
            let found = row_at(&merging.connection, table, &form.key);
            there.push(found.map_err(|error| CaptureError::application(&path, error))?);
        }
        let collides = self.collides(number, index);
        let own_birth = pack_version(merging.birth);
        let (now, site, shared) = (self.now(), self.identity.site, self.shared.get(&number));
        let found = self.store.transaction(|transaction| -> Result<Counts, EngineError> {
            let images = Images::new(transaction, number.0);
            let context = Context { connection: transaction, database: number, now };
            let mut counts = Counts::default();
            for (form, found) in forms.iter().zip(&there) {
                if found.as_ref() == Some(&form.row) {
                    continue; // its image is there
                }
                let key = PackedKey::new(&form.key);
                match found {
                    None => images.delete(logged, &key)?,
                    Some(_) if collides => {
                        counts.collide += 1;
                        let blank = pack(&blank(table, &form.key));
                        images.put_shared(logged, &key, &own_birth, &blank)?;
                    }
                    Some(values) => {
                        counts.differ += 1;
                        images.put_shared(logged, &key, &[], &pack(values))?;
                    }
                }
                transaction
                    .prepare_cached("INSERT OR IGNORE INTO unwritten VALUES (?1, ?2, ?3)")?
                    .execute((number.0, logged, key.as_bytes()))?;
                if let (Some(values), Some(shared), false) = (found, shared, collides) {
                    shared.note_left_behind(context, site, index, (&form.key, values))?;
                }
            }
            Ok(counts)
        })?;
        let counts = merging.counts.entry(index.0).or_default();
        counts.differ += found.differ;
        counts.collide += found.collide;
        Ok(false)
    }

    /// Gives births to some rows that the file alone has, where rows have births: rows that refer
    /// to them name those, in whichever order they are harvested.
    fn lay_out_own(
        &mut self,
        number: DatabaseNumber,
        merging: &mut MergingIn,
    ) -> Result<bool, EngineError> {
        let Some(own) = &mut merging.own else { return Ok(true) };
        let index = TableIndex(own.table);
        let captured = &merging.walk.captured;
        let (Some(table), Some(logged)) = (captured.schema.table(index), captured.number(index))
        else {
            return Ok(true);
        };
        if !self.collides(number, index) {
            (own.table, own.after) = (own.table + 1, None);
            return Ok(false);
        }
        let path = self.store.database(number)?.path;
        let keys = keys_after(&merging.connection, table, own.after.as_deref())
            .map_err(|error| CaptureError::application(&path, error))?;
        let birth = pack_version(merging.birth);
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            let images = Images::new(transaction, number.0);
            for key in &keys {
                let packed = PackedKey::new(key);
                if images.get(logged, &packed)?.is_none() {
                    images.put_shared(logged, &packed, &birth, &pack(&blank(table, key)))?;
                }
            }
            Ok(())
        })?;
        match keys.into_iter().next_back() {
            Some(last) => own.after = Some(last),
            None => (own.table, own.after) = (own.table + 1, None),
        }
        Ok(false)
    }
}

impl MergingIn {
    fn findings(&self) -> Vec<String> {
        let mut told = Vec::new();
        for (index, counts) in &self.counts {
            let table = self.walk.captured.schema.table(TableIndex(*index));
            let name = table.map_or("", |table| table.name.as_str());
            if counts.differ > 0 {
                told.push(format!(
                    "{name}: {} had other values here than the group has. The group's count; \
                     `conflicts` lists these, and brings them back where you say so.",
                    crate::units::counted(counts.differ, "row")
                ));
            }
            if counts.collide > 0 {
                told.push(format!(
                    "{name}: {} had a number under which the group has another row, and gets \
                     another, with what refers to it.",
                    crate::units::counted(counts.collide, "row")
                ));
            }
        }
        told
    }
}

/// A row of this key in which nothing is known: unlike any that was harvested.
fn blank(table: &Table, key: &[Value]) -> Vec<Value> {
    let mut row = vec![Value::Null; table.columns.len()];
    if let RowIdentity::Key(columns) = &table.identity {
        for (column, value) in columns.iter().zip(key) {
            if let Some(place) = row.get_mut(column.0 as usize) {
                *place = value.clone();
            }
        }
    }
    row
}

/// Keys of a table behind `after`, in their order: of a single column, where rows have births.
fn keys_after(
    connection: &Connection,
    table: &Table,
    after: Option<&[Value]>,
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let RowIdentity::Key(columns) = &table.identity else { return Ok(Vec::new()) };
    let Some(column) = columns.first().and_then(|at| table.columns.get(at.0 as usize)) else {
        return Ok(Vec::new());
    };
    let column = quoted(column);
    let behind = after.map_or(String::new(), |_| format!("WHERE {column} > ?1"));
    let mut select = connection.prepare_cached(&format!(
        "SELECT {column} FROM main.{} {behind} ORDER BY {column} LIMIT {ROWS_AT_ONCE}",
        quoted(&table.name)
    ))?;
    bind(&mut select, after.unwrap_or_default())?;
    let mut rows = select.raw_query();
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(row_values(row, 0, 1)?);
    }
    Ok(keys)
}
