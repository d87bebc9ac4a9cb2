//! The merge rules by name and number. What each does to values belongs to shared mode's merge.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How concurrent changes of a column are decided. The rule that the origin had applied travels
/// with the change, and receivers never reinterpret it.
///
/// The numbers are part of the wire format.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "u8", try_from = "u8")]
pub enum Rule {
    /// The greatest version wins, column by column.
    #[default]
    LastWriter = 0,
    /// The latest set plus the adds stamped after it.
    Counter = 1,
    /// The first value that is not NULL wins.
    FirstWriter = 2,
    /// Rows are only ever inserted.
    AppendOnly = 3,
    /// The greatest version wins, the row as a whole.
    WholeRow = 4,
    /// One site's values win over the others': this one was set at that site.
    SitePriority = 5,
    /// The value stays at its site: it never travels.
    Local = 6,
    /// One site's values win over the others': this one was set at another site and yields.
    Yields = 7,
}

/// A rule number that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown merge rule {0}")]
pub struct UnknownRule(pub u8);

impl From<Rule> for u8 {
    fn from(rule: Rule) -> Self {
        rule as Self
    }
}

impl TryFrom<u8> for Rule {
    type Error = UnknownRule;

    fn try_from(number: u8) -> Result<Self, UnknownRule> {
        Ok(match number {
            0 => Self::LastWriter,
            1 => Self::Counter,
            2 => Self::FirstWriter,
            3 => Self::AppendOnly,
            4 => Self::WholeRow,
            5 => Self::SitePriority,
            6 => Self::Local,
            7 => Self::Yields,
            other => return Err(UnknownRule(other)),
        })
    }
}
