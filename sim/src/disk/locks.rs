//! The locks on a database file, between the handles of all processes: as SQLite's unix VFS has
//! them, where handles of one process exclude one another as those of two do.

use super::process::{Failure, Owner};
use std::collections::BTreeMap;

/// How much of a file a handle has for itself, in SQLite's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing.
    None,
    /// It reads.
    Shared,
    /// It will write; others may still read.
    Reserved,
    /// It waits for the readers to go.
    Pending,
    /// Nobody else.
    Exclusive,
}

/// Who holds what of one file.
#[derive(Debug, Default)]
pub(super) struct Locks(BTreeMap<Owner, Level>);

impl Locks {
    fn others(&self, owner: Owner) -> Level {
        let others = self.0.iter().filter(|(other, _)| **other != owner);
        others.map(|(_, level)| *level).max().unwrap_or(Level::None)
    }

    /// Raises a handle's lock.
    pub fn raise(&mut self, owner: Owner, wanted: Level) -> Result<(), Failure> {
        let has = self.0.get(&owner).copied().unwrap_or(Level::None);
        if has >= wanted {
            return Ok(());
        }
        let others = self.others(owner);
        let free = match wanted {
            Level::None | Level::Shared => others < Level::Pending,
            Level::Reserved => others < Level::Reserved,
            Level::Pending | Level::Exclusive => others < Level::Pending,
        };
        if !free {
            return Err(Failure::Busy);
        }
        if wanted == Level::Exclusive && others >= Level::Shared {
            // New readers stay out until those that are in have gone.
            self.0.insert(owner, Level::Pending);
            return Err(Failure::Busy);
        }
        self.0.insert(owner, wanted);
        Ok(())
    }

    /// Lowers a handle's lock.
    pub fn lower(&mut self, owner: Owner, wanted: Level) {
        match wanted {
            Level::None => drop(self.0.remove(&owner)),
            _ => {
                if let Some(level) = self.0.get_mut(&owner) {
                    *level = wanted.min(*level);
                }
            }
        }
    }

    /// Whether somebody is about to write, or does.
    pub fn is_reserved(&self) -> bool {
        self.0.values().any(|level| *level >= Level::Reserved)
    }

    /// A process is gone.
    pub fn release(&mut self, process: u64) {
        self.0.retain(|owner, _| owner.process != process);
    }
}
