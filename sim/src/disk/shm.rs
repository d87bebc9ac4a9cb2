//! The memory that the connections to one database in WAL mode share, and its eight locks. In the
//! real world it is the `-shm` file, mapped; it never outlives the power.

use super::process::{Failure, Owner};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// SQLite asks for regions of this size.
pub(super) const REGION: usize = 32 << 10;
/// The lock of the writer.
const WRITER: u8 = 1;
/// That of the readers of the file alone.
const FILE_ALONE: u8 = 0b1000;
/// Those of the readers.
const READERS: u8 = 0b1111_1000;

/// A piece of shared memory. SQLite's C code writes in it through its pointer.
pub(super) type Region = Arc<[AtomicU64]>;

/// The shared memory of one database.
#[derive(Debug, Default)]
pub(super) struct Shm {
    regions: Vec<Region>,
    attached: BTreeMap<Owner, Held>,
    /// Which locks of a process others no longer see (see [`Shm::let_in`]).
    unseen: BTreeMap<u64, u8>,
    /// The process that shut readers of the others out.
    shut_by: Option<u64>,
    /// The process that holds the log (see [`node::environment::Environment::hold_log`]).
    log_held_by: Option<u64>,
    /// Handles of killed processes that were writing. Closing them still cleans up behind them in
    /// the memory, as no real killed process does: until then nobody else may write.
    unburied: BTreeSet<Owner>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    shared: u8,
    exclusive: u8,
}

impl Shm {
    /// Makes a handle one of those that share it. The first finds it empty.
    pub fn attach(&mut self, owner: Owner) {
        if self.attached.is_empty() {
            self.regions.clear();
        }
        self.attached.entry(owner).or_default();
    }

    /// A region, made if `extend`.
    pub fn region(&mut self, number: usize, extend: bool) -> Option<Region> {
        while extend && self.regions.len() <= number {
            self.regions.push((0..REGION / 8).map(|_| AtomicU64::new(0)).collect());
        }
        self.regions.get(number).cloned()
    }

    /// How many bytes it holds.
    pub fn length(&self) -> u64 {
        (self.regions.len() * REGION) as u64
    }

    /// Takes locks, for one or for all.
    pub fn lock(&mut self, owner: Owner, mask: u8, exclusive: bool) -> Result<(), Failure> {
        if self.shut_by.is_some_and(|process| process != owner.process) && mask & READERS != 0 {
            return Err(Failure::Busy);
        }
        if self.log_held_by.is_some() && mask & FILE_ALONE != 0 {
            return Err(Failure::Busy);
        }
        if exclusive && mask & WRITER != 0 && !self.unburied.is_empty() {
            return Err(Failure::Busy);
        }
        let mut first_of_process = mask;
        for (other, held) in &self.attached {
            if *other == owner {
                continue;
            }
            let unseen = match other.process == owner.process {
                true => 0,
                false => self.unseen.get(&other.process).copied().unwrap_or(0),
            };
            let seen = held.shared & !unseen;
            if held.exclusive & mask != 0 || (exclusive && seen & mask != 0) {
                return Err(Failure::Busy);
            }
            if other.process == owner.process {
                first_of_process &= !held.shared;
            }
        }
        if let Some(unseen) = self.unseen.get_mut(&owner.process) {
            *unseen &= !first_of_process;
        }
        let held = self.attached.entry(owner).or_default();
        match exclusive {
            true => held.exclusive |= mask,
            false => held.shared |= mask,
        }
        Ok(())
    }

    /// Gives locks back.
    pub fn unlock(&mut self, owner: Owner, mask: u8) {
        if let Some(held) = self.attached.get_mut(&owner) {
            held.shared &= !mask;
            held.exclusive &= !mask;
        }
    }

    /// Ends a handle's part in it; returns whether it was the last.
    pub fn detach(&mut self, owner: Owner) -> bool {
        self.unburied.remove(&owner);
        let last = self.attached.remove(&owner).is_some() && self.attached.is_empty();
        if last {
            self.regions.clear();
        }
        last
    }

    /// Whether another process reads.
    pub fn has_readers(&self, process: u64) -> bool {
        self.attached.iter().any(|(owner, held)| {
            let unseen = self.unseen.get(&owner.process).copied().unwrap_or(0);
            owner.process != process && (held.exclusive | (held.shared & !unseen)) & READERS != 0
        })
    }

    /// Whether anybody is connected.
    pub fn is_attached(&self) -> bool {
        !self.attached.is_empty()
    }

    /// Keeps other processes from reading, unless one does.
    pub fn shut_out(&mut self, process: u64) -> bool {
        let free = self.shut_by.is_none_or(|by| by == process) && !self.has_readers(process);
        if free {
            self.shut_by = Some(process);
        }
        free
    }

    /// Lets them in again. As with the system's own locks, this takes the read locks of all
    /// handles of this process as well, in the eyes of others, though they do not know it.
    pub fn let_in(&mut self, process: u64) {
        if self.shut_by == Some(process) {
            self.shut_by = None;
        }
        self.unseen.insert(process, READERS);
    }

    /// Keeps everybody from reading the file alone, unless somebody does.
    pub fn hold_log(&mut self, process: u64) -> bool {
        let held = |held: &Held| (held.shared | held.exclusive) & FILE_ALONE != 0;
        let free = !self.attached.values().any(held);
        if free {
            self.log_held_by = Some(process);
        }
        free
    }

    /// Ends that.
    pub fn release_log(&mut self, process: u64) {
        self.log_held_by = self.log_held_by.filter(|by| *by != process);
    }

    /// A process is gone.
    pub fn release(&mut self, process: u64) {
        let gone = self.attached.iter().filter(|(owner, _)| owner.process == process);
        let writing = gone.filter(|(_, held)| held.exclusive & WRITER != 0);
        self.unburied.extend(writing.map(|(owner, _)| *owner));
        self.attached.retain(|owner, _| owner.process != process);
        self.unseen.remove(&process);
        self.shut_by = self.shut_by.filter(|by| *by != process);
        self.release_log(process);
    }
}
