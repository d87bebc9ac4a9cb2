//! Rows as last harvested, and where the last harvest left the application's file: the tables
//! `image`, `captured_table` and `position` of the node's own database. No transaction begins or
//! ends here.
//!
//! A packed row is a MessagePack array of the values of all columns. It may be shorter than the
//! table is wide: columns that were added since have their default. A packed key is an array of
//! the key's values in the form in which SQLite's uniqueness takes them for equal: an integral
//! REAL is the INTEGER.

use super::defaults::Defaults;
use super::error::CaptureError;
use crate::environment::FileIdentity;
use conflict::{Timestamp, Value};
use protocol::Sequence;
use protocol::schema::{Schema, TableIndex};
use rusqlite::{Connection, OptionalExtension, params};

/// A packed key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackedKey(Vec<u8>);

/// A row as the node last knew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// When the row's newest change was stamped; zero in shared mode, where the merged row tells.
    pub stamp: Timestamp,
    /// Shared mode: which of several rows of one key it is, packed; empty where there is but one.
    pub birth: Vec<u8>,
    /// The row, packed.
    pub row: Vec<u8>,
}

/// A database as captured: its schema, and the numbers under which triggers note its tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The schema that images are written in.
    pub schema: Schema,
    /// Per table of the schema, in its order, the number in the log. Never 0.
    pub numbers: Vec<i64>,
    /// What rows have that are older than their columns.
    pub(super) defaults: Defaults,
}

/// The last note that a harvest has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Its id.
    pub id: i64,
    /// Its nonce: ids that a power cut took back are used again.
    pub nonce: i64,
}

/// Where a harvest left an application's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last note read.
    pub fence: Fence,
    /// `PRAGMA schema_version` then. None: a rescan is due or not finished.
    pub schema_version: Option<i64>,
    /// The file.
    pub file: FileIdentity,
}

/// What stands for no `schema_version` in the database.
const RESCAN_DUE: i64 = -1;

impl PackedKey {
    /// Packs a key's values.
    pub fn new(key: &[Value]) -> Self {
        let canonical: Vec<Value> = key.iter().map(canonical).collect();
        Self(pack(&canonical))
    }

    /// Takes bytes that were kept.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes, as kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The form that SQLite's uniqueness takes as equal.
fn canonical(value: &Value) -> Value {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    match value {
        Value::Real(real) if real.trunc() == *real && (-LIMIT..LIMIT).contains(real) => {
            Value::Integer(*real as i64)
        }
        other => other.clone(),
    }
}

/// Packs a row.
pub fn pack(row: &[Value]) -> Vec<u8> {
    // Writing MessagePack into memory can't fail: values have no form that it lacks.
    rmp_serde::to_vec(row).unwrap_or_default()
}

/// Unpacks a row or key.
///
/// # Errors
/// The bytes are not one.
pub fn unpack(bytes: &[u8]) -> Result<Vec<Value>, CaptureError> {
    rmp_serde::from_slice(bytes).map_err(|_| CaptureError::Unreadable("row image"))
}

impl Captured {
    /// The table that triggers note under this number.
    pub fn table(&self, number: i64) -> Option<TableIndex> {
        self.numbers.iter().position(|n| *n == number).map(|at| TableIndex(at as u32))
    }

    /// Per column of a table, what rows have that are older than it; None where that can't be
    /// known.
    pub fn defaults_of(&self, index: TableIndex) -> Vec<Option<Value>> {
        let table = self.schema.table(index);
        table.map(|table| self.defaults.of(&self.schema, index, table).to_vec()).unwrap_or_default()
    }

    /// The number of a table.
    pub fn number(&self, table: TableIndex) -> Option<i64> {
        self.numbers.get(table.0 as usize).copied()
    }
}

/// The images of one attached database.
#[derive(Debug)]
pub struct Images<'c> {
    connection: &'c Connection,
    database: i64,
}

impl<'c> Images<'c> {
    /// Those of the database with that number in the node's own database.
    pub fn new(connection: &'c Connection, database: i64) -> Self {
        Self { connection, database }
    }

    fn cached(&self, sql: &str) -> Result<rusqlite::CachedStatement<'c>, CaptureError> {
        self.connection.prepare_cached(sql).map_err(CaptureError::Store)
    }

    /// The image of a row.
    pub fn get(&self, number: i64, key: &PackedKey) -> Result<Option<Image>, CaptureError> {
        let found = self
            .cached(
                "SELECT stamp, ifnull(birth, x''), row FROM image
                 WHERE database = ?1 AND tbl = ?2 AND key = ?3",
            )?
            .query_row(params![self.database, number, key.0], |row| {
                Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
            .map_err(CaptureError::Store)?;
        let Some((stamp, birth, row)) = found else { return Ok(None) };
        let stamp =
            Timestamp::try_from(stamp as u64).map_err(|_| CaptureError::Unreadable("timestamp"))?;
        Ok(Some(Image { stamp, birth, row }))
    }

    /// Remembers a row as changed here at `stamp`.
    pub fn put(
        &self,
        number: i64,
        key: &PackedKey,
        stamp: Timestamp,
        row: &[u8],
    ) -> Result<(), CaptureError> {
        self.cached(
            "INSERT OR REPLACE INTO image(database, tbl, key, stamp, row)
             VALUES(?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![self.database, number, key.0, stamp.as_u64() as i64, row])
        .map(drop)
        .map_err(CaptureError::Store)
    }

    /// Remembers a row of a shared database as it stands in the application's table.
    pub fn put_shared(
        &self,
        number: i64,
        key: &PackedKey,
        birth: &[u8],
        row: &[u8],
    ) -> Result<(), CaptureError> {
        let birth = (!birth.is_empty()).then_some(birth);
        self.cached(
            "INSERT OR REPLACE INTO image(database, tbl, key, stamp, birth, row)
             VALUES(?1, ?2, ?3, 0, ?4, ?5)",
        )?
        .execute(params![self.database, number, key.0, birth, row])
        .map(drop)
        .map_err(CaptureError::Store)
    }

    /// Gives all rows of a table one birth.
    pub fn set_births(&self, number: i64, birth: &[u8]) -> Result<(), CaptureError> {
        self.cached("UPDATE image SET birth = ?3 WHERE database = ?1 AND tbl = ?2")?
            .execute(params![self.database, number, birth])
            .map(drop)
            .map_err(CaptureError::Store)
    }

    /// Forgets a row.
    pub fn delete(&self, number: i64, key: &PackedKey) -> Result<(), CaptureError> {
        self.cached("DELETE FROM image WHERE database = ?1 AND tbl = ?2 AND key = ?3")?
            .execute(params![self.database, number, key.0])
            .map(drop)
            .map_err(CaptureError::Store)
    }

    /// Forgets all rows of a table.
    pub fn clear(&self, number: i64) -> Result<(), CaptureError> {
        self.cached("DELETE FROM image WHERE database = ?1 AND tbl = ?2")?
            .execute(params![self.database, number])
            .map(drop)
            .map_err(CaptureError::Store)
    }

    /// How many rows of a table there are.
    pub fn count(&self, number: i64) -> Result<u64, CaptureError> {
        self.cached("SELECT count(*) FROM image WHERE database = ?1 AND tbl = ?2")?
            .query_row(params![self.database, number], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(CaptureError::Store)
    }

    /// Up to `limit` rows of a table behind `key`, in the order of packed keys.
    pub fn after(
        &self,
        number: i64,
        key: Option<&PackedKey>,
        limit: usize,
    ) -> Result<Vec<(PackedKey, Vec<Value>)>, CaptureError> {
        let mut statement = self.cached(
            "SELECT key, row FROM image WHERE database = ?1 AND tbl = ?2 AND key > ?3
             ORDER BY key LIMIT ?4",
        )?;
        let key: &[u8] = key.map_or(&[], |key| &key.0);
        let rows = statement
            .query_map(params![self.database, number, key, limit as i64], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .map_err(CaptureError::Store)?;
        rows.map(|row| {
            let (key, row) = row.map_err(CaptureError::Store)?;
            Ok((PackedKey(key), unpack(&row)?))
        })
        .collect()
    }

    /// Rewrites the rows of a table, leaving their stamps.
    pub(super) fn rewrite(
        &self,
        number: i64,
        form: impl Fn(&[Value]) -> Vec<Value>,
    ) -> Result<(), CaptureError> {
        const SLICE: usize = 1000;
        let mut update =
            self.cached("UPDATE image SET row = ?4 WHERE database = ?1 AND tbl = ?2 AND key = ?3")?;
        let mut last = None;
        loop {
            let rows = self.after(number, last.as_ref(), SLICE)?;
            for (key, row) in &rows {
                let formed = form(row);
                if formed != *row {
                    update
                        .execute(params![self.database, number, key.0, pack(&formed)])
                        .map_err(CaptureError::Store)?;
                }
            }
            match rows.into_iter().last() {
                Some((key, _)) => last = Some(key),
                None => return Ok(()),
            }
        }
    }

    /// Where the last harvest left the file, with the schema of the images and the sequence that
    /// brought it.
    pub fn position(&self) -> Result<Option<(Position, Captured, Sequence)>, CaptureError> {
        let found = self
            .cached(
                "SELECT fence_id, fence_nonce, schema_version, device, inode, schema, schema_at
                 FROM position WHERE database = ?1",
            )?
            .query_row([self.database], |row| {
                let version: i64 = row.get(2)?;
                let position = Position {
                    fence: Fence { id: row.get(0)?, nonce: row.get(1)? },
                    schema_version: (version != RESCAN_DUE).then_some(version),
                    file: FileIdentity {
                        device: row.get::<_, i64>(3)? as u64,
                        inode: row.get::<_, i64>(4)? as u64,
                    },
                };
                Ok((position, row.get::<_, Vec<u8>>(5)?, row.get::<_, i64>(6)? as u64))
            })
            .optional()
            .map_err(CaptureError::Store)?;
        let Some((position, schema, schema_at)) = found else { return Ok(None) };
        let schema: Schema =
            rmp_serde::from_slice(&schema).map_err(|_| CaptureError::Unreadable("schema"))?;
        let numbers = self.numbers(&schema)?;
        Ok(Some((
            position,
            Captured { schema, numbers, defaults: Defaults::default() },
            Sequence(schema_at),
        )))
    }

    /// Remembers where a harvest left the file. For the schema: [`Images::store_schema`].
    pub fn store_position(&self, position: &Position) -> Result<(), CaptureError> {
        self.cached(
            "UPDATE position SET fence_id = ?2, fence_nonce = ?3, schema_version = ?4,
             device = ?5, inode = ?6 WHERE database = ?1",
        )?
        .execute(params![
            self.database,
            position.fence.id,
            position.fence.nonce,
            position.schema_version.unwrap_or(RESCAN_DUE),
            position.file.device as i64,
            position.file.inode as i64,
        ])
        .map(drop)
        .map_err(CaptureError::Store)
    }

    /// Remembers the position with a schema, which the batch `at` brings.
    pub fn store_schema(
        &self,
        position: &Position,
        schema: &Schema,
        at: Sequence,
    ) -> Result<(), CaptureError> {
        let schema = rmp_serde::to_vec(schema).map_err(|_| CaptureError::Unreadable("schema"))?;
        self.cached(
            "INSERT OR REPLACE INTO position(database, fence_id, fence_nonce, schema_version,
             device, inode, schema, schema_at) VALUES(?1, 0, 0, -1, 0, 0, ?2, ?3)",
        )?
        .execute(params![self.database, schema, at.0 as i64])
        .map_err(CaptureError::Store)?;
        self.store_position(position)
    }

    /// The numbers of a schema's tables; tables that have none get one, never one used before.
    pub fn number_tables(&self, schema: &Schema) -> Result<Captured, CaptureError> {
        for table in &schema.tables {
            self.cached(
                "INSERT INTO captured_table(database, number, name)
                 SELECT ?1, 1 + ifnull((SELECT max(number) FROM captured_table
                                        WHERE database = ?1), 0), ?2
                 WHERE NOT EXISTS (SELECT 1 FROM captured_table
                                   WHERE database = ?1 AND name = ?2)",
            )?
            .execute(params![self.database, table.name])
            .map_err(CaptureError::Store)?;
        }
        let numbers = self.numbers(schema)?;
        Ok(Captured { schema: schema.clone(), numbers, defaults: Defaults::default() })
    }

    fn numbers(&self, schema: &Schema) -> Result<Vec<i64>, CaptureError> {
        let mut statement =
            self.cached("SELECT number FROM captured_table WHERE database = ?1 AND name = ?2")?;
        schema
            .tables
            .iter()
            .map(|table| {
                statement
                    .query_row(params![self.database, table.name], |row| row.get(0))
                    .optional()
                    .map_err(CaptureError::Store)?
                    .ok_or(CaptureError::Unreadable("list of tables"))
            })
            .collect()
    }

    /// Forgets the rows and where the file was left, but not the tables' numbers.
    pub fn forget_rows(&self) -> Result<(), CaptureError> {
        self.forget_in(&["image", "position"])
    }

    /// Forgets the database.
    pub fn forget(&self) -> Result<(), CaptureError> {
        self.forget_in(&["image", "captured_table", "position"])
    }

    fn forget_in(&self, tables: &[&str]) -> Result<(), CaptureError> {
        for table in tables {
            self.cached(&format!("DELETE FROM {table} WHERE database = ?1"))?
                .execute([self.database])
                .map_err(CaptureError::Store)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_equal_where_uniqueness_says_so_and_only_there() {
        let key = |value| PackedKey::new(&[value]);
        assert_eq!(key(Value::Integer(1)), key(Value::Real(1.0)));
        assert_eq!(key(Value::Real(0.0)), key(Value::Real(-0.0)));
        assert_eq!(key(Value::Integer(i64::MIN)), key(Value::Real(-9_223_372_036_854_775_808.0)));
        assert_ne!(key(Value::Integer(i64::MAX)), key(Value::Real(9_223_372_036_854_775_808.0)));
        assert_ne!(key(Value::text("a")), key(Value::text("A")));
        assert_ne!(key(Value::text("a")), key(Value::Blob(b"a".to_vec())));
        assert_ne!(key(Value::Real(f64::INFINITY)), key(Value::Integer(i64::MAX)));
    }
}
