//! Processes, as the disk knows them: who has which file open, and whether it still lives. What
//! belongs to one that is gone does nothing any more.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// One run of one program. It ends with `kill -9`, or with the power.
#[derive(Debug)]
pub struct Process {
    pub(super) id: u64,
    alive: AtomicBool,
}

impl Process {
    pub(super) fn new(id: u64, alive: bool) -> Self {
        Self { id, alive: AtomicBool::new(alive) }
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }
}

/// A handle of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub process: u64,
    pub handle: u64,
}

/// Why something can't be done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The power is gone, or the process is.
    Dead,
    /// There is no such file.
    Missing,
    /// There is no such folder.
    NoFolder,
    /// Somebody else has it.
    Busy,
    /// No room is left.
    Full,
    /// The disk reports an error.
    Broken,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "the power, or the process, is gone",
            Self::Missing => "there is no such file",
            Self::NoFolder => "there is no such folder",
            Self::Busy => "somebody else has it",
            Self::Full => "no room is left on the disk",
            Self::Broken => "the disk reports an error",
        })
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for std::io::Error {
    fn from(failure: Failure) -> Self {
        use std::io::ErrorKind;
        let kind = match failure {
            Failure::Missing | Failure::NoFolder => ErrorKind::NotFound,
            Failure::Busy => ErrorKind::WouldBlock,
            Failure::Full => ErrorKind::StorageFull,
            Failure::Dead | Failure::Broken => ErrorKind::Other,
        };
        Self::new(kind, failure)
    }
}
