//! Rows, claims, constraints and outcomes: what goes into f and what comes out.
//!
//! Only shapes and their order; the rules are in `whole`, `marks` and `settle`.

use crate::{SiteId, Value, Version};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// A table of the local schema, by a number that the caller gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Table(pub u32);

/// A UNIQUE index beside a table's key, by a number of its own over all tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Index(pub u32);

/// A foreign key, by a number of its own over all tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForeignKey(pub u32);

/// The identity of a row: its table, its key and, where one key may mean two rows, its birth.
///
/// Keys are compared bit for bit; that two keys are one under the key's collation is a matter of
/// [`Constraints::key_claim`]. The order (table, key, birth) means nothing, but is the same
/// everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowId {
    /// The table.
    pub table: Table,
    /// The values of the key's columns.
    pub key: Vec<Value>,
    /// The first insert's version, in tables where two sites may hand out one key for two things.
    pub birth: Option<Version>,
}

impl Ord for RowId {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.table.cmp(&other.table))
            .then_with(|| compare_keys(&self.key, &other.key))
            .then_with(|| self.birth.cmp(&other.birth))
    }
}

impl PartialOrd for RowId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By class, then within the class; total, and equal exactly where the values are.
fn compare_keys(a: &[Value], b: &[Value]) -> Ordering {
    fn class(value: &Value) -> u8 {
        match value {
            Value::Null => 0,
            Value::Integer(_) => 1,
            Value::Real(_) => 2,
            Value::Text(_) => 3,
            Value::Blob(_) => 4,
        }
    }
    fn compare(a: &Value, b: &Value) -> Ordering {
        match (a, b) {
            (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
            (Value::Real(a), Value::Real(b)) => a.total_cmp(b),
            (Value::Text(a), Value::Text(b)) | (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
            _ => class(a).cmp(&class(b)),
        }
    }
    (a.iter().zip(b).map(|(a, b)| compare(a, b)))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// The one order in which rows claim, of all indexes and sites: living rows before kept ones,
/// then rank, birth, key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) dead: bool,
    pub(super) rank: Version,
    pub(super) row: RowId,
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.dead.cmp(&other.dead))
            .then_with(|| self.rank.cmp(&other.rank))
            .then_with(|| self.row.birth.cmp(&other.row.birth))
            .then_with(|| compare_keys(&self.row.key, &other.row.key))
            .then_with(|| self.row.table.cmp(&other.row.table))
    }
}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether a row lives, as its merged state says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Life {
    /// No delete is above everything else.
    Live,
    /// Deleted, and remembered.
    Dead,
    /// Changes came, but the insert is in a batch that can't be applied yet.
    Unborn,
}

/// What a row refers to through one foreign key. NULL is no reference and isn't listed. Which
/// row is meant is settled by whoever gives it: a foreign key to other columns than a key names
/// no row by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The foreign key.
    pub foreign_key: ForeignKey,
    /// The row it means, birth included.
    pub parent: RowId,
}

/// The merged state of a row, as far as f needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meant {
    /// Whether it lives.
    pub life: Life,
    /// The rank: least insert above the delete; of a dead row the delete.
    pub rank: Version,
    /// The meant values of all columns of the local schema, key included.
    pub values: Vec<Value>,
    /// What it refers to.
    pub references: Vec<Reference>,
    /// Marks that stay (`give-back no`, an accepted mark): (column, shown value). The row claims
    /// by these instead of the meant values. Part of the merged state: a memory of one site
    /// alone would make sites differ. Ignored while the table doesn't accept the row with them.
    pub remembered: Vec<(usize, Value)>,
}

/// Values that an index takes for the same: equal bytes mean equal under its collations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim(pub Vec<u8>);

/// What makes values unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unique {
    /// A table's key.
    Key(Table),
    /// A UNIQUE index.
    Index(Index),
}

/// One claim on one key or index: what at most one visible row may hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The key or index.
    pub unique: Unique,
    /// The claim on it.
    pub claim: Claim,
}

/// What is done for a row that lost its claim on an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// The text in this column is marked; if no mark will do and the column is nullable, NULL.
    Mark {
        /// A column of the index, or of its expression: of text affinity, no part of a key or a
        /// foreign key, referred to by none.
        column: usize,
        /// Whether NULL may stand where no mark will do.
        nullable: bool,
    },
    /// The column is shown as NULL: text is impossible there.
    Null {
        /// A column of the index: nullable, no part of a key or a foreign key.
        column: usize,
    },
    /// The value is unmarkable: the row is parked.
    Park,
}

/// The local schema's constraints. Pure: equal questions have equal answers, at every site.
pub trait Constraints {
    /// What can go wrong in answering.
    type Error;

    /// The UNIQUE indexes of a table beside its key, in an order that is the same everywhere.
    ///
    /// # Errors
    /// The implementation's.
    fn indexes(&self, table: Table) -> Result<Vec<Index>, Self::Error>;

    /// What a row of these values claims of an index; `None` if NULL is among the values or the
    /// index is partial and leaves the row out.
    ///
    /// # Errors
    /// The implementation's.
    fn claim(&self, index: Index, values: &[Value]) -> Result<Option<Claim>, Self::Error>;

    /// The claim on a table's key: equal for two births of one key, and for two keys that are
    /// equal under the key's collation.
    ///
    /// # Errors
    /// The implementation's.
    fn key_claim(&self, row: &RowId) -> Result<Claim, Self::Error>;

    /// What is done for a row that lost its claim on this index.
    ///
    /// # Errors
    /// The implementation's.
    fn remedy(&self, index: Index) -> Result<Remedy, Self::Error>;

    /// Whether CHECK, NOT NULL and STRICT let a row of these values in.
    ///
    /// # Errors
    /// The implementation's.
    fn accepts(&self, table: Table, values: &[Value]) -> Result<bool, Self::Error>;

    /// Whether a dead parent is kept for this foreign key (`keep-parent`), or the child parked
    /// (`park-child`).
    ///
    /// # Errors
    /// The implementation's.
    fn keeps_parent(&self, foreign_key: ForeignKey) -> Result<bool, Self::Error>;

    /// The stable code of a site, as it stands in marks.
    ///
    /// # Errors
    /// The implementation's.
    fn code(&self, site: SiteId) -> Result<String, Self::Error>;
}

/// Why a row is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Its insert isn't merged yet.
    Unborn,
    /// CHECK, NOT NULL or STRICT don't let it in.
    Rejected,
    /// Another row of lesser rank holds its key.
    KeyTaken {
        /// The row that holds it.
        by: RowId,
    },
    /// Another row of lesser rank holds its value, which can't be marked.
    ValueTaken {
        /// The index.
        index: Index,
        /// The row that holds it.
        by: RowId,
    },
    /// It lost a value, and every mark that would do is taken.
    NoMark {
        /// The index.
        index: Index,
    },
    /// It refers to a row that isn't visible.
    Parent {
        /// The first such foreign key.
        foreign_key: ForeignKey,
        /// The row that isn't visible.
        parent: RowId,
    },
}

/// One value that is shown otherwise than meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The column.
    pub column: usize,
    /// What is meant.
    pub meant: Value,
    /// What the application sees.
    pub shown: Value,
}

/// What the application sees of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shown {
    /// Nothing: it is dead, and nobody needs it; or there is no such row.
    #[default]
    Hidden,
    /// Nothing, for a reason; its merged state loses nothing.
    Parked(Reason),
    /// A row in its table.
    Visible {
        /// Dead, but needed by a row that isn't.
        kept: bool,
        /// All columns as shown.
        values: Vec<Value>,
        /// Where shown isn't meant, in order of columns.
        marks: Vec<Mark>,
    },
}

/// How a row stands to a slot that its outcome depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hold {
    /// It holds the slot by what it means.
    Won,
    /// It holds the slot by a mark.
    Marked,
    /// It doesn't hold it: lost, tried in vain, or given up with everything else.
    Refused,
}

/// What f says of a row, and on what that rests: enough to notice when it must be asked again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What the application sees.
    pub shown: Shown,
    /// Every slot that was asked for, in order of slots, each once.
    pub slots: Vec<(Slot, Hold)>,
    /// The rows that are kept for its sake, should they be dead: its parents through `keep-parent`
    /// foreign keys, in order, if it is let in or is itself dead and kept; otherwise none.
    pub keeps: Vec<RowId>,
}

impl Outcome {
    /// Whether the application sees the row.
    pub fn is_visible(&self) -> bool {
        matches!(self.shown, Shown::Visible { .. })
    }

    /// Whether this is the outcome of an ordinary row: living, shown as meant, holding all that
    /// it claims. It needn't be stored: [`super::plain`] gives it back.
    pub fn is_plain(&self) -> bool {
        let as_meant =
            matches!(&self.shown, Shown::Visible { kept: false, marks, .. } if marks.is_empty());
        // A mark may happen to equal what is meant, where another mark is remembered.
        as_meant && self.slots.iter().all(|(_, hold)| *hold == Hold::Won)
    }

    /// How the row stands to a slot; `None` if its outcome doesn't depend on it.
    pub fn hold(&self, slot: &Slot) -> Option<Hold> {
        let found = self.slots.binary_search_by(|(known, _)| known.cmp(slot));
        found.ok().and_then(|at| self.slots.get(at)).map(|(_, hold)| *hold)
    }
}
