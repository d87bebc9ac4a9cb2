//! The merge rules of one database: a replicated, stamped entry each, and what holds without one.

use conflict::Rule;
use protocol::schema::{ColumnIndex, RowIdentity, Table};

/// The table that rules travel in.
pub const TABLE: &str = "_holdfast_policy";

/// Its shape.
pub fn table() -> Table {
    Table {
        name: TABLE.into(),
        columns: ["table_name", "column_name", "setting", "value"].map(String::from).into(),
        identity: RowIdentity::Key(vec![ColumnIndex(0), ColumnIndex(1), ColumnIndex(2)]),
    }
}

/// The rules in force here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {}

impl Policy {
    /// The rule that this site's sets of a column are labelled with.
    pub fn rule(&self, _table: &str, _column: &str) -> Rule {
        Rule::LastWriter
    }

    /// Whether the rows of a table stay at their site.
    pub fn is_local(&self, _table: &str) -> bool {
        false
    }

    /// Whether an edit of any column carries all columns.
    pub fn is_whole_row(&self, _table: &str) -> bool {
        false
    }

    /// Whether rows of a table are only ever inserted.
    pub fn is_append_only(&self, _table: &str) -> bool {
        false
    }

    /// Whether a column stays at its site.
    pub fn column_is_local(&self, _table: &str, _column: &str) -> bool {
        false
    }

    /// Whether one key of a table may mean two rows.
    pub fn collides(&self, _table: &str, autoincrement: bool) -> bool {
        autoincrement
    }
}
