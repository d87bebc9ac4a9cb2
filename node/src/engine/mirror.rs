//! Bringing a mirror up to what the journal holds, a bounded step at a time.

use super::{Engine, EngineError};
use crate::apply::{ApplyError, BaseLoader, Incoming, Marker, Mirror, Progress};
use crate::breakage::Breakage;
use crate::snapshot::BaseFile;
use crate::store::alarms::Severity;
use crate::store::{
    BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, Store, StoreError, databases, journal,
};
use conflict::WallTime;
use protocol::Sequence;
use protocol::branch::{Mode, Opening};
use protocol::limits::Limits;
use protocol::session::LocalBranch;
use protocol::snapshot::{decode_chunk, verify_chunk};
use protocol::{BranchId, Frame, Header};
use std::path::{Path, PathBuf};

/// What a step of a mirror came to.
#[derive(Debug)]
pub enum MirrorStep {
    /// It went on; there may be more to do.
    Moved(LocalBranch),
    /// It went on, and holds all that can be applied now.
    Done(LocalBranch),
    /// It holds all that can be applied now.
    Even,
    /// It can't go on for now: the disk is full, or somebody holds the file. To be tried again.
    Later(String),
    /// A batch rotted on the disk: the branch is only this far again, and is fetched anew.
    Refill(LocalBranch),
    /// It can't go on with this batch; an alarm says why.
    Stuck,
}

/// Batches applied in one step: more would keep others waiting.
const STEP_BATCHES: usize = 64;
const STEP_BYTES: usize = 256 << 10;

/// What to do where a batch is damaged and can't be fetched again.
pub(super) const LOOK_AT_DISK: &str = "It is fetched again once another site is known to have it. Look at the disk; if none has it, \
     keep node.db for inspection and join the group anew with --replace.";

impl Engine {
    /// One step of the mirror of `number`: a few batches applied, or a few chunks of its base.
    ///
    /// # Errors
    /// The store fails. What goes wrong with the mirror itself is in the answer.
    pub fn step_mirror(&mut self, number: DatabaseNumber) -> Result<MirrorStep, EngineError> {
        let database = self.store.database(number)?;
        let branch = self.branch_of(&database)?;
        self.step(&database, &branch)
    }

    /// One step of the mirror that follows a branch.
    ///
    /// # Errors
    /// As [`Engine::step_mirror`].
    pub fn step_mirror_of(&mut self, branch: BranchId) -> Result<MirrorStep, EngineError> {
        let Some(branch) = self.store.branch(branch)? else { return Ok(MirrorStep::Even) };
        let database = self.store.database(branch.database)?;
        if database.branch != Some(branch.number) {
            return Ok(MirrorStep::Even);
        }
        self.step(&database, &branch)
    }

    /// The branches that mirrors follow here.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn mirrored(&self) -> Result<Vec<BranchId>, StoreError> {
        let databases = self.store.databases()?.into_iter();
        let mirrored = databases.filter(|database| database.state == DatabaseState::Mirrored);
        mirrored.map(|database| Ok(self.branch_of(&database)?.id)).collect()
    }

    /// The branches of mirrors that somebody deleted or replaced: a step makes them anew.
    ///
    /// # Errors
    /// The store fails.
    pub fn deleted_mirrors(&self) -> Result<Vec<BranchId>, EngineError> {
        let mut deleted = Vec::new();
        // Also one that can't be written, and so is not open: its file is known still.
        for number in self.mirror_files.keys() {
            let database = self.store.database(*number)?;
            if database.state == DatabaseState::Mirrored && self.is_deleted(&database)? {
                deleted.push(self.branch_of(&database)?.id);
            }
        }
        Ok(deleted)
    }

    fn step(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
    ) -> Result<MirrorStep, EngineError> {
        if database.state != DatabaseState::Mirrored || !branch.base_held {
            return Ok(MirrorStep::Even);
        }
        let number = database.number;
        let subject = format!("mirror:{}", branch.id);
        match self.advance_mirror(database, branch) {
            Ok(step) => {
                self.clear_alarm(&subject)?;
                Ok(step)
            }
            Err(EngineError::Store(error @ StoreError::Rotten(branch, sequence))) => {
                if let Some(local) = self.refill(database, branch, sequence)? {
                    return Ok(MirrorStep::Refill(local));
                }
                let name = format!("{}@{}", database.name, self.site_name(database.site));
                self.raise(
                    subject,
                    Severity::Critical,
                    Some(number),
                    format!("The mirror {name} can't go on: {error}."),
                    LOOK_AT_DISK,
                )?;
                Ok(MirrorStep::Later(error.to_string()))
            }
            Err(EngineError::Apply(error)) => {
                self.mirrors.remove(&number);
                let name = format!("{}@{}", database.name, self.site_name(database.site));
                let (severity, remedy) = if error.may_pass() {
                    (
                        Severity::Warning,
                        "Its batches are safe in the journal and are applied once it can be \
                         written: look at the space and the permissions of the disk.",
                    )
                } else {
                    (
                        Severity::Critical,
                        "Its batches are safe in the journal; the mirror stays as it was before. \
                         Move its file away for inspection: it is made anew within a minute.",
                    )
                };
                self.raise(
                    subject,
                    severity,
                    Some(number),
                    format!("The mirror {name} can't be written: {error}."),
                    remedy,
                )?;
                Ok(if error.may_pass() {
                    MirrorStep::Later(error.to_string())
                } else {
                    MirrorStep::Stuck
                })
            }
            Err(error) => Err(error),
        }
    }

    fn advance_mirror(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
    ) -> Result<MirrorStep, EngineError> {
        self.look_for_deleted(database)?;
        if !self.mirrors.contains_key(&database.number) {
            if let Some(step) = self.load_base(database, branch)? {
                return Ok(step);
            }
            let Some(mirror) = self.open_mirror(database, branch)? else {
                return Ok(MirrorStep::Moved(self.local_branch(branch)?));
            };
            self.mirrors.insert(database.number, mirror);
            if let Some(file) =
                self.environment.file_identity(&database.path).map_err(ApplyError::Files)?
            {
                self.mirror_files.insert(database.number, file);
            }
        }
        let Some(mirror) = self.mirrors.get_mut(&database.number) else {
            return Ok(MirrorStep::Even);
        };
        let after = mirror.marker().map_or(Sequence::ZERO, |marker| marker.sequence);
        let end = self.store.last_visible(branch.number, after)?;
        let mut batches = Batches::between(&self.store, &self.limits, branch, (after, end));
        if Breakage::CursorBeforeData.is_on() {
            mirror.move_marker_alone(batches.end)?;
        }
        let applied = mirror.apply(&mut batches);
        if let Some(error) = batches.failed {
            // What came before it is in the mirror.
            if let Some(marker) = mirror.marker().copied()
                && marker.sequence != branch.applied
            {
                self.note_applied(branch, &marker)?;
            }
            return Err(error);
        }
        for left_out in applied?.left_out.iter().flatten() {
            tracing::warn!(database = %database.name, ?left_out, "left out of the mirror");
        }
        let Some(marker) = mirror.marker().copied() else { return Ok(MirrorStep::Even) };
        if marker.sequence == branch.applied {
            return Ok(MirrorStep::Even);
        }
        if Breakage::AppliedTwice.is_on() && after > Sequence::ZERO {
            let before = Sequence(after.0 - 1);
            let (store, limits) = (&self.store, &self.limits);
            let mut again = Batches::between(store, limits, branch, (before, after));
            if let Some(batch) = again.next() {
                mirror.write_again(&batch)?;
            }
        }
        let local = self.note_applied(branch, &marker)?;
        Ok(if marker.sequence < end { MirrorStep::Moved(local) } else { MirrorStep::Done(local) })
    }

    /// A mirror that somebody deleted or replaced is let go of: it is made anew.
    fn look_for_deleted(&mut self, database: &DatabaseRow) -> Result<(), EngineError> {
        if self.is_deleted(database)? {
            tracing::warn!(database = %database.name, "its mirror is gone and is made anew");
            self.mirrors.remove(&database.number);
            let found =
                self.environment.file_identity(&database.path).map_err(ApplyError::Files)?;
            for suffix in if found.is_none() { &["-wal", "-shm"][..] } else { &[] } {
                let path = beside(&database.path, suffix);
                self.environment.remove_file(&path).map_err(ApplyError::Files)?;
            }
            self.mirror_files.remove(&database.number);
        }
        Ok(())
    }

    /// Whether another file stands where the mirror was when it was opened last, or none.
    fn is_deleted(&self, database: &DatabaseRow) -> Result<bool, EngineError> {
        let Some(known) = self.mirror_files.get(&database.number) else { return Ok(false) };
        let found = self.environment.file_identity(&database.path).map_err(ApplyError::Files)?;
        Ok(found.as_ref() != Some(known))
    }

    fn note_applied(
        &mut self,
        branch: &BranchRow,
        marker: &Marker,
    ) -> Result<LocalBranch, EngineError> {
        let (applied, as_of) = (marker.sequence, as_of(marker));
        databases::set_applied(self.store.connection(), branch.number, applied, as_of)?;
        Ok(self.local_branch(&BranchRow { applied, as_of, ..branch.clone() })?)
    }

    fn open_mirror(
        &self,
        database: &DatabaseRow,
        branch: &BranchRow,
    ) -> Result<Option<Mirror>, EngineError> {
        self.make_parent(&database.path)?;
        let mut mirror = Mirror::open(&*self.environment, &database.path)?;
        match mirror.marker() {
            // An empty file where the base belongs: without it the batches are no copy.
            None if branch.base > Sequence::ZERO => {
                mirror.close()?;
                self.environment.remove_file(&database.path).map_err(ApplyError::Files)?;
                return Ok(None);
            }
            None => mirror.start(database.id, branch.id)?,
            Some(marker) if marker.branch == branch.id && marker.sequence <= branch.held => {}
            Some(marker) => {
                return Err(ApplyError::AlreadyStarted {
                    branch: marker.branch,
                    sequence: marker.sequence,
                }
                .into());
            }
        }
        Ok(Some(mirror))
    }

    /// Fills a new mirror with its base, a chunk a step; `None` once there is nothing (left) to
    /// load.
    fn load_base(
        &mut self,
        database: &DatabaseRow,
        branch: &BranchRow,
    ) -> Result<Option<MirrorStep>, EngineError> {
        if branch.base == Sequence::ZERO || self.has_begun(&database.path)? {
            return Ok(None);
        }
        let Some(signed) = self.store.manifest(branch.number)? else {
            return Err(StoreError::Damaged("a base without its manifest".into()).into());
        };
        let manifest = signed.manifest();
        self.make_parent(&database.path)?;
        let loading = beside(&database.path, ".loading");
        let mut loader =
            BaseLoader::open(&*self.environment, &loading, signed.id().0, manifest.schema.clone())?;
        let chunks = manifest.chunks.len() as u64;
        if let Progress::Chunk(next) = loader.progress()
            && next < chunks
        {
            let file = BaseFile::open(&*self.environment, &self.directory.snapshot(branch.id))?;
            let number = u32::try_from(next).unwrap_or(u32::MAX);
            let (Some(bytes), Some(info)) =
                (file.chunk(number)?, manifest.chunks.get(number as usize))
            else {
                return Err(
                    ApplyError::Malformed(format!("chunk {next} of its base is gone")).into()
                );
            };
            // What was genuine when it came may have rotted on the disk.
            verify_chunk(info, &bytes).map_err(|error| ApplyError::Malformed(error.to_string()))?;
            let body = decode_chunk(&bytes, &self.limits)
                .map_err(|error| ApplyError::Malformed(error.to_string()))?;
            loader.load(next, &body)?;
            loader.close()?;
            return Ok(Some(MirrorStep::Moved(self.local_branch(branch)?)));
        }
        // The batch at which content began lies in the journal like any other.
        let before = Sequence(manifest.sequence.0.saturating_sub(1));
        let mut batches =
            Batches::between(&self.store, &self.limits, branch, (before, manifest.sequence));
        let Some(batch) = batches.read()? else { return Ok(Some(MirrorStep::Even)) };
        let marker = Marker {
            database_id: database.id,
            branch: branch.id,
            sequence: manifest.sequence,
            timestamp: batch.timestamp,
            schema_at: manifest.sequence,
        };
        for left_out in loader.finish(&marker)? {
            tracing::warn!(database = %database.name, ?left_out, "left out of the mirror");
        }
        loader.close()?;
        // What a mirror that somebody removed has left would be read as this one's.
        for suffix in ["-wal", "-shm"] {
            let left = beside(&database.path, suffix);
            self.environment.remove_file(&left).map_err(ApplyError::Files)?;
        }
        self.environment.rename(&loading, &database.path).map_err(ApplyError::Files)?;
        Ok(Some(MirrorStep::Moved(self.note_applied(branch, &marker)?)))
    }

    /// Whether there is a mirror at `path`. Whoever opens it too early with a SQLite that makes
    /// missing files leaves an empty one there: it is removed, or the base would be skipped.
    fn has_begun(&self, path: &Path) -> Result<bool, EngineError> {
        if self.environment.file_identity(path).map_err(ApplyError::Files)?.is_none() {
            return Ok(false);
        }
        let mirror = Mirror::open(&*self.environment, path)?;
        let begun = mirror.marker().is_some();
        mirror.close()?;
        if !begun {
            for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
                self.environment.remove_file(&file).map_err(ApplyError::Files)?;
            }
        }
        Ok(begun)
    }

    fn make_parent(&self, path: &Path) -> Result<(), EngineError> {
        if let Some(parent) = path.parent() {
            self.environment.create_directory(parent).map_err(ApplyError::Files)?;
        }
        Ok(())
    }

    /// A database that was detached and attached anew under its old name is another one: the
    /// mirror of the former is kept beside the one of the present, in whatever order a site learns
    /// of them. What the mirror of `new` is to this site; its path, if it is the former.
    pub(super) fn set_former_aside(
        &mut self,
        path: &mut PathBuf,
        new: &Opening,
    ) -> Result<DatabaseState, EngineError> {
        for other in self.store.databases()? {
            let mirror = other.mode == Mode::Mirror;
            if !mirror || other.path != *path || other.id == new.database {
                continue;
            }
            if self.branch_of(&other)?.opening.opening().opened > new.opened {
                *path = beside(path, &format!(".{}", new.database));
                return Ok(DatabaseState::Detached);
            }
            if let Some(mirror) = self.mirrors.remove(&other.number) {
                mirror.close()?;
            }
            let aside = beside(&other.path, &format!(".{}", other.id));
            // The -wal before the file itself: cut off between them, this is done again.
            for suffix in ["-wal", "-shm", ""] {
                let from = beside(&other.path, suffix);
                if self.environment.file_identity(&from).map_err(ApplyError::Files)?.is_some() {
                    let to = beside(&aside, suffix);
                    self.environment.rename(&from, &to).map_err(ApplyError::Files)?;
                }
            }
            databases::set_path(self.store.connection(), other.number, &aside)?;
            databases::set_state(self.store.connection(), other.number, DatabaseState::Detached)?;
        }
        Ok(DatabaseState::Mirrored)
    }

    /// Mirrors lie in the site's directory, wherever that was moved.
    pub(super) fn settle_mirrors(&mut self) -> Result<(), EngineError> {
        for row in self.store.databases()? {
            if row.mode != Mode::Mirror || row.site == self.identity.site {
                continue;
            }
            let mut parts = row.path.iter().rev();
            let (Some(file), Some(site)) = (parts.next(), parts.next()) else { continue };
            let path = self.directory.path().join("mirrors").join(site).join(file);
            if path != row.path {
                databases::set_path(self.store.connection(), row.number, &path)?;
            }
        }
        Ok(())
    }
}

/// The next batches of a mirror, read as they are applied: a few, and on to the end of a run that
/// becomes visible together, however long that is.
struct Batches<'a> {
    store: &'a Store,
    limits: &'a Limits,
    branch: &'a BranchRow,
    after: Sequence,
    /// The last batch that ends a run: what lies beyond waits for more.
    end: Sequence,
    given: usize,
    bytes: usize,
    run_open: bool,
    failed: Option<EngineError>,
}

impl<'a> Batches<'a> {
    /// Those after the first sequence, up to the second.
    fn between(
        store: &'a Store,
        limits: &'a Limits,
        branch: &'a BranchRow,
        (after, end): (Sequence, Sequence),
    ) -> Self {
        let (given, bytes, run_open, failed) = (0, 0, false, None);
        Self { store, limits, branch, after, end, given, bytes, run_open, failed }
    }

    fn read(&mut self) -> Result<Option<Incoming>, EngineError> {
        let enough = self.given >= STEP_BATCHES || self.bytes >= STEP_BYTES;
        if self.after >= self.end || (enough && !self.run_open) {
            return Ok(None);
        }
        let row = journal::whole_batch_after(self.store.connection(), self.branch, self.after)?;
        let Some(row) = row else { return Ok(None) };
        let malformed = |error: protocol::DecodeError| ApplyError::Malformed(error.to_string());
        let header = Header::read(&row.frame).map_err(malformed)?;
        let body = Frame::decode_body(&row.frame, self.limits).map_err(malformed)?;
        self.after = row.sequence;
        self.given += 1;
        self.bytes += row.frame.len();
        self.run_open = header.meta.more;
        Ok(Some(Incoming {
            sequence: row.sequence,
            timestamp: header.meta.timestamp,
            body,
            more: header.meta.more,
        }))
    }
}

impl Iterator for Batches<'_> {
    type Item = Incoming;

    /// Ends at an error, which `failed` keeps: what was given before is applied.
    fn next(&mut self) -> Option<Incoming> {
        self.read().unwrap_or_else(|error| {
            self.failed = Some(error);
            None
        })
    }
}

fn as_of(marker: &Marker) -> WallTime {
    marker.timestamp.wall_time()
}

/// `path` with something appended to its file name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
