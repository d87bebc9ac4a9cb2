//! What happened to rows: the content of a batch.
//!
//! Changes of one batch become visible together, and their order inside it means nothing: a row
//! has at most one change in a batch; a table in [`Body::cleared`] is emptied before.

use crate::schema::{ColumnIndex, Schema, TableIndex};
use crate::{BranchId, Sequence};
use conflict::{Rule, Timestamp, Value, Version};

/// The content of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// What the origin had applied of other branches since its own last batch, and the batch
    /// therefore may build upon. Empty in mirror mode.
    pub dependencies: Vec<(BranchId, Sequence)>,
    /// What the numbers of tables and columns refer to.
    pub schema: SchemaReference,
    /// Tables emptied before the other changes apply.
    pub cleared: Vec<TableIndex>,
    /// What happened to rows.
    pub changes: Vec<RowChange>,
}

/// Which schema a body is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaReference {
    /// That of an earlier batch of this branch.
    At(Sequence),
    /// This one, which holds from this batch on.
    Here(Box<Schema>),
}

impl Default for SchemaReference {
    fn default() -> Self {
        Self::At(Sequence::ZERO)
    }
}

/// One row's insert, update or delete, or its being forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The table.
    pub table: TableIndex,
    /// The values that tell the row apart: the primary key's in its order, or the rowid.
    pub key: Vec<Value>,
    /// What happened.
    pub operation: Operation,
    /// Its timestamp, where it needs a greater one than the batch's.
    pub stamp: Option<Timestamp>,
    /// Shared mode, tables where one key may mean two rows: the version of the insert that made
    /// this row. None: the key alone is its identity, or this very change is its birth.
    pub birth: Option<Version>,
    /// Shared mode: the births of the rows that these columns refer to, columns ascending.
    pub references: Vec<(ColumnIndex, Version)>,
    /// The rules that the origin had applied where they are not [`Rule::LastWriter`], columns
    /// ascending.
    pub rules: Vec<(ColumnIndex, Rule)>,
}

/// What happened to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The row as a whole: the values of all columns outside the key, in their order. A mirror
    /// takes it as the row's final form, whether or not it had the row.
    Insert(Vec<Value>),
    /// Some columns outside the key, in ascending order.
    Update(Vec<(ColumnIndex, Assignment)>),
    /// The row is gone.
    Delete,
    /// Shared mode: of the row, which is dead, everything that the origin had applied is left out
    /// from now on, the delete included. What it had not applied stays.
    Forget,
}

/// What happened to a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// It has this value now.
    Set(Value),
    /// This much was added to it (a counter).
    Add(Value),
}

impl RowChange {
    /// A change as mirror mode needs it: the batch's stamp, no births, the default rules.
    pub fn plain(table: TableIndex, key: Vec<Value>, operation: Operation) -> Self {
        Self {
            table,
            key,
            operation,
            stamp: None,
            birth: None,
            references: Vec::new(),
            rules: Vec::new(),
        }
    }
}
