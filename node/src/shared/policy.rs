//! The merge rules of one database: a replicated, stamped entry each, and what holds without one.

use conflict::Rule;

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
}
