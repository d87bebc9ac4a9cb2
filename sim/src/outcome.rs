//! What a run came to: its hashes, its figures, the faults that fired, and what broke first. One
//! process hands it to another as JSON.

use crate::catalogue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// What a run cost and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Milliseconds in the world.
    pub virtual_ms: u64,
    /// Packets sent.
    pub packets: u64,
    /// Bytes of their payload.
    pub bytes: u64,
    /// Batches numbered.
    pub batches: u64,
    /// Transactions that applications committed.
    pub commits: u64,
    /// Looks of the checker at a copy.
    pub looks: u64,
}

/// What broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The invariant's letter in FAULTS.md, and which check noticed.
    pub check: String,
    /// What should be and what is.
    pub what: String,
    /// When, in milliseconds from the world's begin.
    pub at_ms: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The hash of the packets.
    pub trace: String,
    /// The hash of all databases.
    pub content: String,
    /// What it cost.
    pub figures: Figures,
    /// The faults of FAULTS.md that fired, and how often.
    pub fired: BTreeMap<u8, u64>,
    /// What broke first.
    pub failure: Option<Failure>,
}

/// A table of faults: how often each fired, and what was never asked for.
pub fn table(fired: &BTreeMap<u8, u64>) -> String {
    let mut table = String::new();
    for entry in catalogue::CATALOGUE {
        if let Some(times) = fired.get(&entry.number) {
            let _ = writeln!(table, "  F{:<3} {times:>8}  {}", entry.number, entry.title);
        }
    }
    table
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = crate::chronicle::clock(std::time::Duration::from_millis(self.at_ms));
        write!(f, "{at}  BROKEN {}\n{}", self.check, self.what)
    }
}
