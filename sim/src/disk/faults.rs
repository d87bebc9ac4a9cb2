//! What a disk does wrong, and how often it really did. What the power does is in `cut`.

use super::cut::Damage;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a file is to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `node.db` and what belongs to it.
    Journal,
    /// A copy of another site's database, or a base.
    Mirror,
    /// An application's database.
    Application,
    /// A small file of the node's own.
    Other,
    /// What SQLite needs for a moment.
    Temporary,
}

impl Kind {
    /// What lies at a path.
    pub fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        match path {
            _ if name.starts_with("node.db") => Self::Journal,
            _ if path.contains("/mirrors/") || path.contains("/snapshots/") => Self::Mirror,
            _ if path.contains("/holdfast/") => Self::Other,
            _ => Self::Application,
        }
    }
}

/// What goes wrong from now on. Chances are out of a million operations of that sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Only with files of this kind.
    pub only: Option<Kind>,
    /// Reads that report an error.
    pub read: u64,
    /// Writes that report an error, having written nothing.
    pub write: u64,
    /// Syncs that report an error. What they should have made durable is forgotten by the system,
    /// and becomes durable only if written again.
    pub sync: u64,
    /// Reads that return what was there earlier.
    pub stale: u64,
    /// Reads that return what is somewhere else in the file.
    pub misdirected: u64,
    /// How long a sync takes, or a read of what is not in memory.
    pub slow: Duration,
}

/// How often something really went wrong, since the disk was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// Writes for which no room was left.
    pub full: u64,
    /// Reads that reported an error.
    pub read: u64,
    /// Writes that did.
    pub write: u64,
    /// Syncs that did.
    pub sync: u64,
    /// Reads that returned what was there earlier.
    pub stale: u64,
    /// Reads that returned what is somewhere else.
    pub misdirected: u64,
    /// Operations that took long.
    pub slow: u64,
    /// Bits turned over at rest.
    pub flipped: u64,
    /// Times that the power went.
    pub cuts: u64,
    /// Of these, within an operation.
    pub fuses: u64,
    /// Names made, moved or removed that a power cut undid.
    pub names: u64,
    /// What power cuts did to writes that were not synced.
    pub damage: BTreeMap<Kind, Damage>,
}
