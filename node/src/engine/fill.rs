//! The file of an application that joins a shared database: made of the rows that it should see,
//! or compared with them, a bounded number of rows a step; the images are taken on the way.

use super::attach::insert;
use super::shared::without_rules;
use super::{Engine, EngineError, Form};
use crate::apply::{BaseLoader, LeftOut};
use crate::capture::{CaptureError, Captured, Images, PackedKey, inspect, pack};
use crate::shared::pack_version;
use crate::sql::{bind, quoted, row_values};
use crate::store::{DatabaseNumber, StoreError};
use conflict::Value;
use protocol::change::Body;
use protocol::schema::{RowIdentity, Schema, Table, TableIndex};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Rows of one step.
const ROWS_AT_ONCE: usize = 500;

/// Through the rows that the application should see, table by table.
struct Walk {
    captured: Captured,
    table: u32,
    after: Option<Vec<u8>>,
    /// Per table that was walked through, its rows.
    counts: Vec<u64>,
    /// Of the present table.
    count: u64,
}

/// The next rows of a walk.
enum Stride {
    /// Some of this table.
    Rows(TableIndex, Vec<Form>),
    /// This table has no more; so many it had.
    End(TableIndex, u64),
    /// There are no more tables.
    Done,
}

impl Walk {
    fn new(
        engine: &mut Engine,
        number: DatabaseNumber,
        schema: &Schema,
    ) -> Result<Self, EngineError> {
        let captured = engine.store.transaction(|transaction| -> Result<_, EngineError> {
            Ok(Images::new(transaction, number.0).number_tables(schema)?)
        })?;
        Ok(Self { captured, table: 0, after: None, counts: Vec::new(), count: 0 })
    }

    fn next(&mut self, engine: &mut Engine, number: DatabaseNumber) -> Result<Stride, EngineError> {
        let index = TableIndex(self.table);
        let (Some(table), Some(logged)) =
            (self.captured.schema.table(index), self.captured.number(index))
        else {
            return Ok(Stride::Done);
        };
        let forms = engine.visible_forms(number, &table.name, self.after.take(), ROWS_AT_ONCE)?;
        let Some(last) = forms.last() else {
            self.table += 1;
            let count = std::mem::take(&mut self.count);
            self.counts.push(count);
            return Ok(Stride::End(index, count));
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
}

impl Filling {
    /// Completes the file and closes it: durable, without a `-wal`. The rows of each table, and
    /// what a person should know.
    pub(super) fn finish(mut self) -> Result<(Vec<u64>, Vec<String>), EngineError> {
        let left_out = self.loader.finish_bare()?;
        self.loader.close()?;
        let told = |LeftOut { object, reason }: LeftOut| {
            format!("{} can't be made here and is left out: {reason}.", object.name)
        };
        Ok((self.walk.counts, left_out.into_iter().map(told).collect()))
    }
}

/// How a file's content stands to the group's.
pub(super) enum Contents {
    /// It is the same; the rows of each table.
    Same(Vec<u64>),
    /// It is another; where, in words.
    Other(String),
}

/// What comparing some more rows came to.
pub(super) enum Compared {
    /// There is more.
    Going(Box<Comparing>),
    /// The outcome.
    Done(Contents),
}

/// A file being compared.
pub(super) struct Comparing {
    connection: Connection,
    walk: Walk,
    /// Whether a row of the present table differed.
    differs: bool,
    /// What is known to differ before any row was read.
    other: Option<String>,
}

impl Engine {
    fn group_schema(&self, number: DatabaseNumber) -> Result<Schema, EngineError> {
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
        let loader = BaseLoader::open(&*self.environment, file, content, schema)?;
        Ok(Filling { walk, loader, chunk: 0 })
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
        Ok(Box::new(Comparing { connection, walk, differs: false, other }))
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
        let path = self.store.database(number)?.path;
        let failed = |error| CaptureError::application(&path, error);
        let Comparing { connection, walk, differs, .. } = &mut *comparing;
        let other = match walk.next(self, number)? {
            Stride::Done => {
                return Ok(Compared::Done(Contents::Same(std::mem::take(&mut walk.counts))));
            }
            Stride::Rows(index, forms) => {
                if let Some(table) = walk.captured.schema.table(index).filter(|_| !*differs) {
                    *differs = !holds_all(connection, table, &forms).map_err(failed)?;
                }
                None
            }
            Stride::End(index, count) => match walk.captured.schema.table(index) {
                Some(table) => {
                    let there = row_count(connection, &table.name).map_err(failed)?;
                    other_rows(&table.name, there, count, std::mem::take(differs))
                }
                None => None,
            },
        };
        Ok(match other {
            Some(other) => Compared::Done(Contents::Other(other)),
            None => Compared::Going(comparing),
        })
    }
}

/// Which tables differ, in words.
fn other_tables(there: &Schema, group: &Schema) -> Option<String> {
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
    for form in forms {
        bind(&mut select, &form.key)?;
        let mut rows = select.raw_query();
        let found: Option<Vec<Value>> = match rows.next()? {
            Some(row) => Some(row_values(row, 0, columns.len())?),
            None => None,
        };
        if found.as_ref() != Some(&form.row) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn row_count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
    connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}
