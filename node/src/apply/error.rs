//! What can go wrong while a mirror is written. What is done about it is the engine's decision.

use conflict::Value;
use protocol::{BranchId, Sequence};
use std::io;
use thiserror::Error;

/// Why something was not applied. Nothing of the run of batches concerned is in the mirror then.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// SQLite refused a step that has nothing to do with a particular row.
    #[error("{doing} failed: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file beside the mirror could not be handled.
    #[error("a file of the mirror could not be handled: {0}")]
    Files(#[from] io::Error),
    /// The file holds something else than a mirror; it was not touched.
    #[error("the file is a database, but no mirror")]
    NotAMirror,
    /// No batch can be applied before it is known what the file mirrors.
    #[error("the mirror is empty and follows no branch yet")]
    NotStarted,
    /// The mirror already follows a branch.
    #[error("the mirror already follows branch {branch:?} and stands at sequence {sequence}")]
    AlreadyStarted {
        /// The branch it follows.
        branch: BranchId,
        /// How far it is.
        sequence: Sequence,
    },
    /// The mirror holds batches that the new branch does not continue.
    #[error("the mirror stands at sequence {applied}, beyond {from}, which the branch continues")]
    Beyond {
        /// How far the mirror is.
        applied: Sequence,
        /// The sequence that the branch continues.
        from: Sequence,
    },
    /// A batch or a chunk is missing before this one.
    #[error("number {found} can't be applied after number {applied}: something is missing between")]
    Gap {
        /// The last one applied.
        applied: u64,
        /// The one that came.
        found: u64,
    },
    /// A batch is written in a schema that is not in force here.
    #[error("the batch is written in the schema of sequence {named}, in force is {in_force}'s")]
    OtherSchema {
        /// The schema that the batch names.
        named: Sequence,
        /// The one in force.
        in_force: Sequence,
    },
    /// An update of a row that the mirror lacks: the copies have diverged.
    #[error("table {table} has no row {key:?}, which the batch updates")]
    MissingRow {
        /// The table.
        table: String,
        /// The row's key.
        key: Vec<Value>,
    },
    /// A row does not fit into its table, although all other rows have their final form.
    #[error("table {table} does not take row {key:?}: {source}")]
    Refused {
        /// The table.
        table: String,
        /// The row's key.
        key: Vec<Value>,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// An object of the schema can't be made here.
    #[error("the schema's {name} can't be made: {source}")]
    Object {
        /// The object.
        name: String,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// What came contradicts itself or the schema that it names.
    #[error("the batch is malformed: {0}")]
    Malformed(String),
}

impl ApplyError {
    /// Whether the same may succeed later without anything else being done: another connection
    /// holds the file, the disk is full or unwell. Everything else stays wrong when repeated.
    pub fn may_pass(&self) -> bool {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
            OutOfMemory, SystemIoFailure,
        };
        let source = match self {
            Self::Files(_) => return true,
            Self::Database { source, .. }
            | Self::Refused { source, .. }
            | Self::Object { source, .. } => source,
            _ => return false,
        };
        matches!(
            source.sqlite_error_code(),
            Some(
                CannotOpen
                    | DatabaseBusy
                    | DatabaseLocked
                    | DiskFull
                    | FileLockingProtocolFailed
                    | OutOfMemory
                    | SystemIoFailure
            )
        )
    }

    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }
}

/// Says what was being done when SQLite failed.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, ApplyError>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, ApplyError> {
        self.map_err(|source| ApplyError::Database { doing, source })
    }
}
