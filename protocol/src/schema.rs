//! The shape of a database as its origin had it: what a batch's table and column numbers mean.
//!
//! A schema travels whole, in the batch from which on it holds, so that it takes effect in order
//! with the data; batches after it name that batch. Only what is carried is in it: no virtual or
//! shadow tables, nothing named `sqlite_*` or `_holdfast*`, no generated columns.

use serde::{Deserialize, Serialize};

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
    pub tables: Vec<Table>,
    /// The statements that make them and what belongs to them (`sqlite_schema`), in an order in
    /// which they can be run: tables, indexes, views, triggers.
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
    pub columns: Vec<String>,
    /// What tells its rows apart.
    pub identity: RowIdentity,
}

/// What tells the rows of a table apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Table, index, view or trigger.
    pub kind: ObjectKind,
    /// The object's name.
    pub name: String,
    /// The table or view that it belongs to.
    pub table: String,
    /// The statement that makes it, as SQLite keeps it.
    pub sql: String,
}

/// The kinds of `sqlite_schema` rows, in the order in which they can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObjectKind {
    /// A table.
    Table,
    /// An index that has a statement of its own.
    Index,
    /// A view.
    View,
    /// A trigger of the application.
    Trigger,
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
