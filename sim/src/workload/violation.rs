//! What an application met that it would not have met alone.

use super::operation::Operation;
use std::fmt;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Whose: site and label of the till.
    pub till: String,
    /// At what.
    pub operation: Operation,
    /// How many operations the till had begun, this one included.
    pub number: u64,
    /// How long the world had existed.
    pub time: Duration,
    /// What it met.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { till, operation, number, time, what } = self;
        write!(f, "{till}, operation {number} ({operation:?}), {time:?}: {what}")
    }
}
