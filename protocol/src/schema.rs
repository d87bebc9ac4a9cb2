//! The shape of a database as its origin had it: what a batch's table and column numbers mean.
//!
//! A schema travels whole, in the batch from which on it holds, so that it takes effect in order
//! with the data; batches after it name that batch. Only what is carried is in it: nothing named
//! `sqlite_*` or `_holdfast*`, no shadow tables, no generated columns, and of virtual tables only
//! the statement.

use crate::codec::read::bounded;
use crate::limits;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use thiserror::Error;

/// A table's place in [`Schema::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableIndex(pub u32);

/// A column's place in [`Table::columns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ColumnIndex(pub u32);

/// A database's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The tables that are carried, by name.
    #[serde(deserialize_with = "bounded::<{ limits::TABLES }, _, _>")]
    pub tables: Vec<Table>,
    /// The statements that make them and what belongs to them (`sqlite_schema`), by kind and name.
    #[serde(deserialize_with = "bounded::<{ limits::OBJECTS }, _, _>")]
    pub objects: Vec<SchemaObject>,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// `PRAGMA application_id`.
    pub application_id: i32,
}

/// A table that is carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name as written in the schema.
    pub name: String,
    /// Its columns in their order, generated ones left out.
    #[serde(deserialize_with = "bounded::<{ limits::COLUMNS }, _, _>")]
    pub columns: Vec<String>,
    /// What tells its rows apart.
    pub identity: RowIdentity,
}

/// What tells the rows of a table apart. On the wire: a list of columns, or the rowid's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowIdentity {
    /// The primary key, its columns in the key's order.
    Key(Vec<ColumnIndex>),
    /// The table has no usable key: the rowid, reached by this name (`rowid`, `_rowid_` or
    /// `oid`, whichever no column bears).
    Rowid(String),
}

/// One row of `sqlite_schema`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SchemaObject {
    /// Table, index, view, trigger or virtual table.
    pub kind: ObjectKind,
    /// The object's name.
    pub name: String,
    /// The table or view that it belongs to.
    pub table: String,
    /// The statement that makes it, as SQLite keeps it.
    pub sql: String,
}

/// The kinds of `sqlite_schema` rows. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum ObjectKind {
    /// A table.
    Table = 0,
    /// An index that has a statement of its own.
    Index = 1,
    /// A view.
    View = 2,
    /// A trigger of the application.
    Trigger = 3,
    /// A virtual table. Its content is not carried: what can be follows from tables that are.
    Virtual = 4,
}

/// A number that no kind of `sqlite_schema` row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown kind of schema object {0}")]
pub struct UnknownKind(pub u8);

impl From<ObjectKind> for u8 {
    fn from(kind: ObjectKind) -> Self {
        kind as Self
    }
}

impl TryFrom<u8> for ObjectKind {
    type Error = UnknownKind;

    fn try_from(number: u8) -> Result<Self, UnknownKind> {
        Ok(match number {
            0 => Self::Table,
            1 => Self::Index,
            2 => Self::View,
            3 => Self::Trigger,
            4 => Self::Virtual,
            other => return Err(UnknownKind(other)),
        })
    }
}

impl Serialize for RowIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Key(columns) => columns.serialize(serializer),
            Self::Rowid(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for RowIdentity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdentityVisitor;

        impl<'de> Visitor<'de> for IdentityVisitor {
            type Value = RowIdentity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of columns or the rowid's name")
            }

            fn visit_str<E>(self, name: &str) -> Result<RowIdentity, E> {
                Ok(RowIdentity::Rowid(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RowIdentity, A::Error> {
                let mut key = Vec::new();
                while let Some(column) = seq.next_element()? {
                    if key.len() == limits::COLUMNS {
                        return Err(A::Error::custom("more columns than a table can have"));
                    }
                    key.push(column);
                }
                Ok(RowIdentity::Key(key))
            }
        }

        deserializer.deserialize_any(IdentityVisitor)
    }
}

impl Schema {
    /// The table of that number, if there is one.
    pub fn table(&self, index: TableIndex) -> Option<&Table> {
        self.tables.get(index.0 as usize)
    }

    /// The number of the table of that name, if it is carried.
    pub fn find(&self, name: &str) -> Option<TableIndex> {
        self.tables.iter().position(|table| table.name == name).map(|i| TableIndex(i as u32))
    }
}

impl Table {
    /// The columns that are not part of the identity, in their order: what an insert carries
    /// beside the identity.
    pub fn other_columns(&self) -> impl Iterator<Item = ColumnIndex> {
        let key: &[ColumnIndex] = match &self.identity {
            RowIdentity::Key(key) => key,
            RowIdentity::Rowid(_) => &[],
        };
        (0..self.columns.len() as u32).map(ColumnIndex).filter(move |index| !key.contains(index))
    }

    /// How many values tell a row apart.
    pub fn identity_width(&self) -> usize {
        match &self.identity {
            RowIdentity::Key(key) => key.len(),
            RowIdentity::Rowid(_) => 1,
        }
    }
}
