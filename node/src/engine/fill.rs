//! The file of an application that joins a shared database: made of the rows that it should see,
//! or compared with them, a bounded number of rows a step; the images are taken on the way.

use super::attach::insert;
use super::shared::without_rules;
use super::{Engine, EngineError, Form};
use crate::apply::{BaseLoader, LeftOut};
use crate::capture::{CaptureError, Captured, Images, PackedKey, inspect, pack};
use crate::shared::{Effects, Policy, Stance, pack_version, virtual_tables};
use crate::sql::{bind, quoted, row_values};
use crate::store::{DatabaseNumber, StoreError};
use conflict::Value;
use protocol::change::Body;
use protocol::schema::{RowIdentity, Schema, Table, TableIndex};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::path::Path;

/// Rows of one step.
const ROWS_AT_ONCE: usize = 500;

/// Through the rows that the application should see, table by table.
pub(super) struct Walk {
    pub(super) captured: Captured,
    table: u32,
    after: Option<Vec<u8>>,
    /// The rows of the present table, as far as it was walked through.
    count: u64,
}

/// The next rows of a walk.
pub(super) enum Stride {
    /// Some of this table.
    Rows(TableIndex, Vec<Form>),
    /// This table has no more; so many it had.
    End(TableIndex, u64),
    /// There are no more tables.
    Done,
}

impl Walk {
    pub(super) fn new(
        engine: &mut Engine,
        number: DatabaseNumber,
        schema: &Schema,
    ) -> Result<Self, EngineError> {
        let captured = engine.store.transaction(|transaction| -> Result<_, EngineError> {
            Ok(Images::new(transaction, number.0).number_tables(schema)?)
        })?;
        Ok(Self { captured, table: 0, after: None, count: 0 })
    }

    pub(super) fn next(
        &mut self,
        engine: &mut Engine,
        number: DatabaseNumber,
    ) -> Result<Stride, EngineError> {
        while let Some(table) = self.captured.schema.table(TableIndex(self.table))
            && engine.rows_stay(number, &table.name)?
        {
            self.table += 1;
        }
        let index = TableIndex(self.table);
        let (Some(table), Some(logged)) =
            (self.captured.schema.table(index), self.captured.number(index))
        else {
            return Ok(Stride::Done);
        };
        let forms = engine.visible_forms(number, &table.name, self.after.take(), ROWS_AT_ONCE)?;
        let Some(last) = forms.last() else {
            self.table += 1;
            return Ok(Stride::End(index, std::mem::take(&mut self.count)));
        };
        self.after = Some(last.cursor.clone());
        self.count += forms.len() as u64;
        put_images(engine, number, logged, &forms)?;
        Ok(Stride::Rows(index, forms))
    }
}

fn put_images(
    engine: &mut Engine,
    number: DatabaseNumber,
    table: i64,
    forms: &[Form],
) -> Result<(), EngineError> {
    engine.store.transaction(|transaction| -> Result<(), EngineError> {
        let images = Images::new(transaction, number.0);
        for form in forms {
            let key = PackedKey::new(&form.key);
            let birth = form.birth.map(pack_version).unwrap_or_default();
            images.put_shared(table, &key, &birth, &pack(&form.row))?;
        }
        Ok(())
    })
}

/// A file being made.
pub(super) struct Filling {
    walk: Walk,
    loader: BaseLoader,
    chunk: u64,
    schema: Schema,
    /// The tables whose triggers run for rows of other sites, and what those write.
    followed: Vec<String>,
    written: BTreeSet<String>,
}

impl Filling {
    /// Completes the file and closes it: durable, without a `-wal`. What a person should
    /// know.
    pub(super) fn finish(self) -> Result<Vec<String>, EngineError> {
        let Self { mut loader, schema, followed, written, .. } = self;
        let (left_out, mut findings) = loader.finish_bare(|connection| {
            virtual_tables::complete(connection, &schema, &followed, |name| written.contains(name))
        })?;
        loader.close()?;
        let told = |LeftOut { object, reason }: LeftOut| {
            format!("{} can't be made here and is left out: {reason}.", object.name)
        };
        findings.extend(left_out.into_iter().map(told));
        Ok(findings)
    }
}

/// How a file's content stands to the group's.
pub(super) enum Contents {
    /// It is the same.
    Same,
    /// It is another; where, in words.
    Other(String),
}

/// What comparing some more rows came to.
pub(super) enum Compared {
    /// There is more.
    Going(Box<Comparing>),
    /// Somebody is at the file: to be tried again in a moment.
    Busy(Box<Comparing>),
    /// The outcome.
    Done(Contents),
}

/// A file being compared.
pub(super) struct Comparing {
    connection: Connection,
    walk: Walk,
    /// What is to be compared next, if that is known.
    stride: Option<Stride>,
    /// Whether a row of the present table differed.
    differs: bool,
    /// What is known to differ before any row was read.
    other: Option<String>,
}

impl Engine {
    pub(super) fn group_schema(&self, number: DatabaseNumber) -> Result<Schema, EngineError> {
        let branch = self
            .store
            .founding_branch(number)?
            .ok_or_else(|| StoreError::Damaged("a shared database without its founder".into()))?;
        Ok(without_rules(self.schema_of(&branch)?))
    }

    /// Begins to make a file of what the application should see.
    pub(super) fn begin_filling(
        &mut self,
        number: DatabaseNumber,
        file: &Path,
    ) -> Result<Filling, EngineError> {
        let id = self.store.database(number)?.id;
        let schema = self.group_schema(number)?;
        let walk = Walk::new(self, number, &schema)?;
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            Ok(Images::new(transaction, number.0).forget_rows()?)
        })?;
        let mut content = [0; 32];
        content[..16].copy_from_slice(id.0.as_bytes());
        let policy = Policy::read(self.store.connection(), number, self.identity.site)?;
        let effects = Effects::of(&schema)?;
        let (mut followed, mut written) = (Vec::new(), BTreeSet::new());
        for (place, table) in schema.tables.iter().enumerate() {
            if let Stance::Run(writes) = effects.stance(&schema, &policy, place) {
                followed.push(table.name.clone());
                written.extend(writes);
            }
        }
        let loader = BaseLoader::open(&*self.environment, file, content, schema.clone())?;
        Ok(Filling { walk, loader, chunk: 0, schema, followed, written })
    }

    /// Writes some more rows; whether all are written.
    pub(super) fn fill_some(
        &mut self,
        number: DatabaseNumber,
        mut filling: Filling,
    ) -> Result<(Filling, bool), EngineError> {
        match filling.walk.next(self, number)? {
            Stride::Done => return Ok((filling, true)),
            Stride::End(..) => {}
            Stride::Rows(index, forms) => {
                let Some(table) = filling.walk.captured.schema.table(index) else {
                    return Ok((filling, false));
                };
                let changes = forms
                    .into_iter()
                    .map(|form| insert(index, table, &PackedKey::new(&form.key), form.row))
                    .collect::<Result<_, _>>()?;
                let body = Body { changes, ..Body::default() };
                filling.loader.load(filling.chunk, &body)?;
                filling.chunk += 1;
            }
        }
        Ok((filling, false))
    }

    /// Begins to compare an application's file with what it should see.
    pub(super) fn begin_comparing(
        &mut self,
        number: DatabaseNumber,
        file: &Path,
    ) -> Result<Box<Comparing>, EngineError> {
        let failed = |error| CaptureError::application(file, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.environment.open_database(file, flags).map_err(failed)?;
        let schema = self.group_schema(number)?;
        let there = inspect(&connection, Some(&schema)).map_err(failed)?.schema;
        let other = other_tables(&there, &schema);
        let walk = Walk::new(self, number, &schema)?;
        Ok(Box::new(Comparing { connection, walk, stride: None, differs: false, other }))
    }

    /// Compares some more rows.
    pub(super) fn compare_some(
        &mut self,
        number: DatabaseNumber,
        mut comparing: Box<Comparing>,
    ) -> Result<Compared, EngineError> {
        if let Some(other) = comparing.other.take() {
            return Ok(Compared::Done(Contents::Other(other)));
        }
        let stride = match comparing.stride.take() {
            Some(stride) => stride,
            None => comparing.walk.next(self, number)?,
        };
        match comparing.judge(&stride) {
            Ok(None) => Ok(Compared::Going(comparing)),
            Ok(Some(contents)) => Ok(Compared::Done(contents)),
            Err(error) => {
                let path = self.store.database(number)?.path;
                match CaptureError::application(&path, error) {
                    CaptureError::Locked(_) => {
                        comparing.stride = Some(stride);
                        Ok(Compared::Busy(comparing))
                    }
                    error => Err(error.into()),
                }
            }
        }
    }
}

impl Comparing {
    /// The outcome, if these rows settle it.
    fn judge(&mut self, stride: &Stride) -> rusqlite::Result<Option<Contents>> {
        let schema = &self.walk.captured.schema;
        let other = match stride {
            Stride::Done => return Ok(Some(Contents::Same)),
            Stride::Rows(index, forms) => {
                if let Some(table) = schema.table(*index).filter(|_| !self.differs) {
                    self.differs = !holds_all(&self.connection, table, forms)?;
                }
                None
            }
            Stride::End(index, count) => match schema.table(*index) {
                Some(table) => {
                    let there = row_count(&self.connection, &table.name)?;
                    other_rows(&table.name, there, *count, std::mem::take(&mut self.differs))
                }
                None => None,
            },
        };
        Ok(other.map(Contents::Other))
    }
}

/// Which tables differ, in words.
pub(super) fn other_tables(there: &Schema, group: &Schema) -> Option<String> {
    for table in &group.tables {
        let name = &table.name;
        match there.find(name).and_then(|index| there.table(index)) {
            None => return Some(format!("it has no table {name}")),
            Some(other) if other != table => {
                return Some(format!("its table {name} has other columns or another key"));
            }
            Some(_) => {}
        }
    }
    let more = there.tables.iter().find(|table| group.find(&table.name).is_none())?;
    Some(format!("it has a table {}, which the group's has not", more.name))
}

/// How the rows of a table differ, in words.
fn other_rows(table: &str, there: u64, group: u64, differs: bool) -> Option<String> {
    match (there == group, differs) {
        (true, false) => None,
        (true, true) => Some(format!(
            "table {table} has {there} rows as the group's has, but not the same ones"
        )),
        (false, _) => Some(format!("table {table} has {there} rows, and {group} in the group's")),
    }
}

/// Whether a table has all these rows, bit for bit.
fn holds_all(connection: &Connection, table: &Table, forms: &[Form]) -> rusqlite::Result<bool> {
    for form in forms {
        if row_at(connection, table, &form.key)?.as_ref() != Some(&form.row) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The row that a table has under a key, as SQLite compares keys.
pub(super) fn row_at(
    connection: &Connection,
    table: &Table,
    values: &[Value],
) -> rusqlite::Result<Option<Vec<Value>>> {
    let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
    let key: Vec<String> = match &table.identity {
        RowIdentity::Key(key) => {
            key.iter().filter_map(|column| columns.get(column.0 as usize)).cloned().collect()
        }
        RowIdentity::Rowid(name) => vec![quoted(name)],
    };
    let terms: Vec<String> =
        (1..).zip(&key).map(|(at, column): (usize, _)| format!("{column} = ?{at}")).collect();
    let mut select = connection.prepare_cached(&format!(
        "SELECT {} FROM main.{} WHERE {}",
        columns.join(", "),
        quoted(&table.name),
        terms.join(" AND ")
    ))?;
    bind(&mut select, values)?;
    let mut rows = select.raw_query();
    let found = rows.next()?.map(|row| row_values(row, 0, columns.len()));
    found.transpose()
}

fn row_count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
    connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}
