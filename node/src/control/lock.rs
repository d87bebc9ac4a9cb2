//! Who works on a site's directory: one process at a time holds its lock, the node while it runs
//! or a command while it does not. The system releases it when the process ends, however it ends.

#![allow(clippy::disallowed_types, reason = "a lock is on a file of this machine, not simulated")]

use crate::directory::Directory;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;

/// The lock on a directory, held until dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock; `None` if another process holds it.
    ///
    /// # Errors
    /// The directory does not exist, or can't be written.
    pub fn take(directory: &Directory) -> io::Result<Option<Self>> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(directory.lock())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
