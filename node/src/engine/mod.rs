//! What a site does, step by step, on its own thread: the store, the clock, the key, the members,
//! and our connections to the databases in one place, so that no two steps ever race. Every
//! public method is one step or part of one: it waits for nothing and leaves no transaction open.
//!
//! What is shown to others when, and what waits for what, is `site`'s part; how rows are read and
//! written is `capture`'s and `apply`'s.

mod admit;
mod attach;
mod base;
mod births;
mod decide;
mod detach;
mod doctor;
mod fill;
mod harvest;
pub mod members;
mod merge_in;
mod mirror;
mod numbering;
mod place;
mod receive;
mod refill;
mod request;
mod residues;
mod serve;
mod share;
mod shared;
#[cfg(test)]
mod tests;
mod view;
mod worker;

use crate::apply::{ApplyError, Mirror};
use crate::breakage::Breakage;
use crate::capture::CaptureError;
use crate::directory::Directory;
use crate::environment::{Environment, FileIdentity};
use crate::failure::Failure;
use crate::shared::DeskError;
use crate::store::alarms::{self, Alarm, Severity};
use crate::store::settings::Identity;
use crate::store::{BranchNumber, BranchRow, DatabaseNumber, DatabaseRow, Store, StoreError};
use conflict::{Clock, ClockError, Timestamp, WallTime};
use protocol::keys::SigningKey;
use protocol::limits::Limits;
use protocol::membership::Membership;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thiserror::Error;

pub use admit::Admitted;
pub use attach::attach;
pub use base::BaseStep;
pub use decide::{
    Choose, ConflictView, ConflictsView, DroppedView, Kept, OwnChange, OwnOperation, PolicyView,
    ProposalView, RuleSet, RuleView, SideView,
};
pub use detach::{Detached, detach};
pub use doctor::{Diagnosis, Examined, Symptom, doctor, doctor_alone};
pub use harvest::{Harvest, Harvested, Moment, Refresh, Trim};
pub use mirror::MirrorStep;
pub use receive::{Lines, Receipt};
pub use request::{AttachRequest, Attached, AttachedTable, OwnContent};
pub use shared::{Form, SharedStep};
pub use view::{CopyView, DatabaseView, OriginView, SharedView, View};
pub use worker::EngineWorker;

/// A step that failed.
#[derive(Debug, Error)]
pub enum EngineError {
    /// In `node.db`.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// At the application's database.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// At a mirror.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The clock is at its end.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// Merging rows of a shared database.
    #[error(transparent)]
    Desk(DeskError),
    /// A file could not be read or written.
    #[error("{what}: {error}")]
    File {
        /// Which, and for what.
        what: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// What was to be encoded has no encoding, or what was stored can't be read.
    #[error("{0}")]
    Encoding(String),
    /// A person is told what and why.
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<DeskError> for EngineError {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Store(error) => Self::Store(error),
            DeskError::Capture(error) => Self::Capture(error),
            // `node.db` is asked on the way as well: what its disk does is no fault of a row.
            DeskError::Sqlite(error) if !is_of_a_row(&error) => Self::from(error),
            other => Self::Desk(other),
        }
    }
}

/// Whether a failure is due to what was to be done, not to where.
fn is_of_a_row(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch, Unknown};
    error
        .sqlite_error_code()
        .is_none_or(|code| matches!(code, ConstraintViolation | TooBig | TypeMismatch | Unknown))
}

impl From<rusqlite::Error> for EngineError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(StoreError::Sqlite(error))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Failure(failure) => failure,
            EngineError::Store(error) => error.into(),
            EngineError::Capture(error) => error.into(),
            other => Self::unable(
                format!("{other}."),
                "Look at the disk, its permissions, and the log of the node.",
            ),
        }
    }
}

/// A site's databases and everything it knows.
pub struct Engine {
    environment: Arc<dyn Environment>,
    directory: Directory,
    store: Store,
    clock: Clock,
    key: SigningKey,
    identity: Identity,
    membership: Membership,
    captures: BTreeMap<DatabaseNumber, harvest::Capture>,
    captures_made: u64,
    shared: BTreeMap<DatabaseNumber, shared::Shared>,
    /// Branches of shared databases whose next batch can't be merged.
    unmergeable: BTreeSet<BranchNumber>,
    /// Shared databases whose triggers refused rows of others, which are written without triggers
    /// until the node starts again.
    triggers_refused: BTreeSet<DatabaseNumber>,
    mirrors: BTreeMap<DatabaseNumber, Mirror>,
    /// The files that these are, to notice when one is deleted.
    mirror_files: BTreeMap<DatabaseNumber, FileIdentity>,
    limits: Limits,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the site of `directory`, which `init` or `join` made.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub fn open(
        environment: Arc<dyn Environment>,
        directory: Directory,
    ) -> Result<Self, EngineError> {
        let no_site = || {
            Failure::usage(
                format!("{} is not a site's directory.", directory.path().display()),
                "Name the right one with --dir, or make one with `init` or `join`.",
            )
        };
        let path = directory.store();
        let exists = environment
            .file_identity(&path)
            .map_err(|error| file_error(&path.display().to_string(), error))?
            .is_some();
        if !exists {
            return Err(no_site().into());
        }
        // What a process that has ended left there counts from here on, and peers are told that it
        // is durable: also a commit whose sync failed, which that process never counted, and all
        // that comes behind it.
        environment
            .rewrite_wal(&path)
            .map_err(|error| file_error(&format!("{}-wal", path.display()), error))?;
        let store = Store::open(&*environment, &path, false)?;
        let identity = store.identity()?.ok_or_else(no_site)?;
        let key = members::read_key(&*environment, &directory)?.ok_or_else(|| {
            Failure::unable(
                "The site's private key is missing.",
                "Put the file `key` back, or join the group anew with --replace.",
            )
        })?;
        let clock = match Breakage::ClockNotRestored.is_on() {
            true => Clock::restore(Timestamp::ZERO)?,
            false => Clock::restore(store.clock()?)?,
        };
        let mut membership = Membership::empty(identity.group);
        membership
            .merge(store.member_records()?)
            .map_err(|error| StoreError::Damaged(error.to_string()))?;
        let mut engine = Self {
            environment,
            directory,
            store,
            clock,
            key,
            identity,
            membership,
            captures: BTreeMap::new(),
            captures_made: 0,
            shared: BTreeMap::new(),
            unmergeable: BTreeSet::new(),
            triggers_refused: BTreeSet::new(),
            mirrors: BTreeMap::new(),
            mirror_files: BTreeMap::new(),
            limits: Limits::default(),
        };
        engine.settle_mirrors()?;
        Ok(engine)
    }

    /// Who this site is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The group's members.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The site's directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The site's key, for its certificate.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// What the store holds, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All databases.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn databases(&self) -> Result<Vec<DatabaseRow>, StoreError> {
        self.store.databases()
    }

    /// Closes all databases: the `-wal` of mirrors goes, others' files are left as they are.
    ///
    /// # Errors
    /// The first that could not be closed cleanly; the others are closed all the same.
    pub fn close(mut self) -> Result<(), EngineError> {
        let mut result = Ok(());
        for (_, mirror) in std::mem::take(&mut self.mirrors) {
            if let Err(error) = mirror.close() {
                result = result.and(Err(error.into()));
            }
        }
        self.captures.clear();
        let now = self.now();
        crate::store::settings::set_last_run(self.store.connection(), now.0)?;
        self.store.checkpoint()?;
        result
    }

    /// Raises an alarm, or words it anew; returns whether it is new.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn raise(
        &mut self,
        subject: String,
        severity: Severity,
        database: Option<DatabaseNumber>,
        what: String,
        remedy: &str,
    ) -> Result<bool, StoreError> {
        let alarm = Alarm {
            id: 0,
            subject,
            severity,
            what,
            remedy: remedy.to_owned(),
            since: self.now(),
            database,
        };
        let new = alarms::raise(self.store.connection(), &alarm)?;
        if new {
            tracing::warn!(subject = alarm.subject, "{} {}", alarm.what, alarm.remedy);
        }
        Ok(new)
    }

    /// Ends an alarm.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn clear_alarm(&mut self, subject: &str) -> Result<(), StoreError> {
        if alarms::clear(self.store.connection(), subject)? {
            tracing::info!(subject, "the alarm is over");
        }
        Ok(())
    }

    fn now(&self) -> WallTime {
        self.environment.wall_clock()
    }

    /// The branch that a database's copy here follows or writes.
    fn branch_of(&self, database: &DatabaseRow) -> Result<BranchRow, StoreError> {
        let number: BranchNumber = database
            .branch
            .ok_or_else(|| StoreError::Damaged(format!("{} has no branch", database.name)))?;
        self.store.branch_numbered(number)
    }

    /// A new timestamp for something noted at `noted`.
    fn stamp(&mut self, noted: Option<WallTime>) -> Result<Timestamp, ClockError> {
        let now = self.now();
        self.clock.stamp_noted(noted.unwrap_or(now), now)
    }
}

fn file_error(what: &str, error: std::io::Error) -> EngineError {
    EngineError::File { what: what.to_owned(), error }
}
