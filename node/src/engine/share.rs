//! Joining a database that the group shares: what all sites say of it is merged here first, then
//! the application's file is made of that, or found to hold the same; last this site opens a
//! branch of its own. Until then nothing of it counts, and one that was cut off is begun again by
//! attaching again. How the file is made or compared is told next door.

use super::attach::{BETWEEN_TRIES, PATIENCE, added, interrupted};
use super::fill::{Compared, Contents};
use super::merge_in::MergedIn;
use super::numbering::{Draft, append};
use super::place::{Place, new_file};
use super::request::{AttachRequest, Attached, AttachedTable, OwnContent, word};
use super::shared::{SharedStep, with_rules};
use super::{Engine, EngineError, EngineWorker};
use crate::capture::{Captured, Images};
use crate::failure::Failure;
use crate::shared::seen::dependencies;
use crate::store::{BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, StoreError, databases};
use conflict::WallTime;
use protocol::branch::Opening;
use protocol::schema::Schema;
use protocol::{
    BranchId, ChainHash, Epoch, Frame, Mode, Sequence, SignedOpening, change::SchemaReference,
};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked whether the first content has come.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Joins a database that the group shares.
///
/// # Errors
/// Why it is refused or could not be done; then it is only kept here, as before, unless it was cut
/// off at the very end: then attaching again completes it.
pub(super) async fn join(
    engine: &EngineWorker,
    request: AttachRequest,
    number: DatabaseNumber,
    patience: Duration,
) -> Result<(DatabaseNumber, BranchId, Attached), EngineError> {
    let wanted = request.clone();
    let place = politely(engine, "join.look", move |engine| {
        engine.look_at_place(&wanted, number).map(Some)
    })
    .await?;
    let mut aside = None;
    let mut findings = Vec::new();
    if place != Place::Ready {
        await_base(engine, number, patience).await?;
        let joined = bring_in(engine, &request, number, place).await;
        match joined {
            Ok(brought) => (aside, findings) = brought,
            Err(error) => {
                engine.step("join.abandon", move |engine| engine.abandon_join(number)).await?;
                return Err(error);
            }
        }
    }
    let of_numbers =
        engine.step("join.numbers", move |engine| engine.number_findings(number)).await?;
    findings.extend(of_numbers);
    let merges = request.content == OwnContent::Merge;
    let (branch, database, mut tables) =
        engine.step("join.finish", move |engine| engine.finish_join(number)).await?;
    if merges {
        for table in &mut tables {
            table.finding = "becomes one with what all sites have".into();
        }
    }
    let attached = Attached {
        database: database.name.to_string(),
        database_id: database.id.to_string(),
        path: database.path.display().to_string(),
        mode: word(Mode::Shared).into(),
        set_aside: aside.map(|path: PathBuf| path.display().to_string()),
        tables,
        findings,
    };
    Ok((number, branch, attached))
}

/// Where the former file went, and what a person should know.
type Brought = (Option<PathBuf>, Vec<String>);

/// Brings the group's content and the application's file together.
async fn bring_in(
    engine: &EngineWorker,
    request: &AttachRequest,
    number: DatabaseNumber,
    place: Place,
) -> Result<Brought, EngineError> {
    let (path, taken) = match place {
        Place::Free(path) => (path, false),
        Place::Taken(path) => (path, true),
        Place::Ready => return Ok(Brought::default()),
    };
    let target = path.clone();
    engine.step("join.begin", move |engine| engine.begin_join(number, &target)).await?;
    merge(engine, number).await?;
    if taken && request.content == OwnContent::Merge {
        let findings = merge_in(engine, number, path.clone()).await?;
        let wal = request.wal;
        politely(engine, "join.install", move |engine| engine.install_joined(number, &path, wal))
            .await?;
        return Ok((None, findings));
    }
    if taken {
        let file = path.clone();
        let mut comparing = politely(engine, "join.compare", move |engine| {
            engine.begin_comparing(number, &file).map(Some)
        })
        .await?;
        let contents = loop {
            let compared = engine
                .step("join.compare", move |engine| engine.compare_some(number, comparing))
                .await?;
            match compared {
                Compared::Going(back) => comparing = back,
                Compared::Busy(back) => {
                    comparing = back;
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                Compared::Done(contents) => break contents,
            }
        };
        match contents {
            Contents::Same => {
                let wal = request.wal;
                politely(engine, "join.install", move |engine| {
                    engine.install_joined(number, &path, wal)
                })
                .await?;
                return Ok(Brought::default());
            }
            Contents::Other(difference) if request.content != OwnContent::SetAside => {
                return Err(Failure::refused(
                    format!(
                        "{} holds other content than the group's {}: {difference}.",
                        path.display(),
                        request.name
                    ),
                    "With --adopt it is set aside, and the group's content takes its place.",
                )
                .into());
            }
            Contents::Other(_) => {}
        }
    }
    let new = new_file(&path);
    let file = new.clone();
    let mut filling =
        engine.step("join.file", move |engine| engine.begin_filling(number, &file)).await?;
    loop {
        let (back, done) =
            engine.step("join.fill", move |engine| engine.fill_some(number, filling)).await?;
        filling = back;
        if done {
            break;
        }
    }
    let findings = engine.step("join.filled", move |_| filling.finish()).await?;
    politely(engine, "join.install", move |engine| engine.install_joined(number, &new, false))
        .await?;
    let aside = engine.step("join.place", move |engine| engine.put_in_place(&path, taken)).await?;
    Ok((aside, findings))
}

/// Lays out the content of a file that becomes a part of the group's; what a person should know.
async fn merge_in(
    engine: &EngineWorker,
    number: DatabaseNumber,
    path: PathBuf,
) -> Result<Vec<String>, EngineError> {
    let mut merging = politely(engine, "join.lay_out", move |engine| {
        engine.begin_merging_in(number, &path).map(Some)
    })
    .await?;
    loop {
        let merged = engine
            .step("join.lay_out", move |engine| engine.merge_some_in(number, merging))
            .await?;
        match merged {
            MergedIn::Going(back) => merging = back,
            MergedIn::Busy(back) => {
                merging = back;
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            MergedIn::Done(findings) => return Ok(findings),
        }
    }
}

/// Repeats a step while somebody is at the file, for a while.
async fn politely<T: Send + 'static>(
    engine: &EngineWorker,
    name: &'static str,
    work: impl Fn(&mut Engine) -> Result<Option<T>, EngineError> + Clone + Send + 'static,
) -> Result<T, EngineError> {
    let begun = tokio::time::Instant::now();
    loop {
        let work = work.clone();
        match engine.step(name, move |engine| work(engine)).await {
            Ok(Some(done)) => return Ok(done),
            Ok(None) if begun.elapsed() >= PATIENCE => {
                return Err(Failure::unable(
                    "The application's file is in use without a pause.",
                    "Try again when the application rests.",
                )
                .into());
            }
            Err(EngineError::Capture(error)) if error.is_busy() && begun.elapsed() < PATIENCE => {}
            Ok(None) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// How much of the first copy is here.
struct Coming {
    here: u64,
    of: u64,
    /// Whether nothing can be begun without the rest.
    needed: bool,
}

/// Waits until the founder's branch and what it began with are here, and all that others have
/// beside, while some of it comes.
async fn await_base(
    engine: &EngineWorker,
    number: DatabaseNumber,
    patience: Duration,
) -> Result<(), EngineError> {
    let mut last = None;
    let mut since = tokio::time::Instant::now();
    loop {
        let coming = engine.step("join.wait", move |engine| engine.copy_coming(number)).await?;
        let Some(Coming { here, of, needed }) = coming else { return Ok(()) };
        if last != Some((here, of)) {
            last = Some((here, of));
            since = tokio::time::Instant::now();
        }
        if since.elapsed() >= patience {
            // What was done since can be merged later, only on older content.
            if !needed {
                return Ok(());
            }
            let parts = match of {
                0 => "nothing of it came yet".to_owned(),
                of => format!("{here} of {of} parts are here"),
            };
            return Err(Failure::unable(
                format!("The first copy of the group's database is not here: {parts}."),
                "Let this site run beside one that has it, and attach again once `status` shows \
                 that it is here.",
            )
            .into());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Merges all that is here.
async fn merge(engine: &EngineWorker, number: DatabaseNumber) -> Result<(), EngineError> {
    loop {
        match engine.step("join.merge", move |engine| engine.step_shared(number)).await? {
            SharedStep::Moved(_) => {}
            SharedStep::Even => return Ok(()),
            SharedStep::Busy => tokio::time::sleep(BETWEEN_TRIES).await,
            SharedStep::Refill(_) => {
                return Err(Failure::unable(
                    "A batch that this site holds was damaged on its disk, and is dropped.",
                    "Start this node again, so that the other sites send it anew, and attach \
                     again. Look at the disk: it does not keep what it is given.",
                )
                .into());
            }
            SharedStep::Stuck => {
                let why = engine.step("join.why", move |engine| engine.why_stuck(number)).await?;
                return Err(why.into());
            }
        }
    }
}

impl Engine {
    /// Whether attaching a database of this name means joining this one: the group shares it, and
    /// this site does not yet.
    pub(super) fn can_be_joined(&self, row: &DatabaseRow) -> Result<bool, StoreError> {
        match row.state {
            DatabaseState::Attaching => Ok(row.branch.is_some()),
            DatabaseState::Kept => {
                Ok(self.store.branches_of(row.number)?.iter().any(|branch| self.is_live(branch)))
            }
            _ => Ok(false),
        }
    }

    /// How much of what others are known to have is here, the founder's first content before all;
    /// `None`: everything. An application that begins on less than whoever invited its site had
    /// would edit rows that are long gone.
    fn copy_coming(&mut self, number: DatabaseNumber) -> Result<Option<Coming>, EngineError> {
        let Some(branch) = self.store.founding_branch(number)? else {
            return Ok(Some(Coming { here: 0, of: 0, needed: true }));
        };
        if branch.durable() < branch.base {
            let (here, of) = self.base_progress(&branch)?.unwrap_or((0, 0));
            return Ok(Some(Coming { here: here.into(), of: of.into(), needed: true }));
        }
        let mut coming = Coming { here: 0, of: 0, needed: false };
        for branch in self.store.branches_of(number)? {
            let told = self.store.durable_elsewhere(branch.number)?.into_iter();
            let told = told.filter(|(site, _)| {
                self.membership.member(*site).is_some_and(|member| !member.removed)
            });
            let most = told.map(|(_, durable)| durable).max().unwrap_or_default();
            if branch.origin() != self.identity.site {
                coming.here += branch.held.min(most).0;
                coming.of += most.0;
            }
        }
        Ok((coming.here < coming.of).then_some(coming))
    }

    /// Remembers that a join has begun, and removes what an earlier one has left.
    pub(super) fn begin_join(
        &mut self,
        number: DatabaseNumber,
        path: &Path,
    ) -> Result<(), EngineError> {
        self.remove_new(path)?;
        self.forget_shared(number);
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            Images::new(transaction, number.0).forget_rows()?;
            transaction
                .prepare_cached("DELETE FROM unwritten WHERE database = ?")?
                .execute([number.0])?;
            databases::set_path(transaction, number, path)?;
            databases::set_state(transaction, number, DatabaseState::Attaching)?;
            Ok(())
        })
    }

    /// The schema in force where a branch is applied to here, at the least its first.
    ///
    /// # Errors
    /// The store fails.
    pub(super) fn schema_of(&self, branch: &BranchRow) -> Result<Schema, EngineError> {
        let read = |sequence: Sequence| -> Result<SchemaReference, EngineError> {
            let before = Sequence(sequence.0.saturating_sub(1));
            let batch = self.store.batches_after(branch.number, before, 1, 0)?.pop();
            let batch = batch.filter(|batch| batch.sequence == sequence).ok_or_else(|| {
                StoreError::Damaged(format!("batch {sequence} of a branch is gone"))
            })?;
            let body = Frame::decode_body(&batch.frame, &self.limits)
                .map_err(|error| EngineError::Encoding(error.to_string()))?;
            Ok(body.schema)
        };
        let schema = match read(branch.applied.max(Sequence(1)))? {
            SchemaReference::At(at) => read(at)?,
            here @ SchemaReference::Here(_) => here,
        };
        match schema {
            SchemaReference::Here(schema) => Ok(*schema),
            SchemaReference::At(at) => {
                Err(StoreError::Damaged(format!("batch {at} brings no schema")).into())
            }
        }
    }

    /// Puts log, marker and triggers into a file that holds what the images say; `None`: somebody
    /// is at it.
    pub(super) fn install_joined(
        &mut self,
        number: DatabaseNumber,
        file: &Path,
        wal: bool,
    ) -> Result<Option<()>, EngineError> {
        let row = self.store.database(number)?;
        if wal {
            self.application(file.to_owned(), &row, Captured::default()).switch_to_wal()?;
        }
        // The position says that all is to be compared: what the application wrote since the
        // comparison is found by the first harvest.
        let installed = self.install_capture(DatabaseRow { path: file.to_owned(), ..row })?;
        Ok(installed.map(drop))
    }

    /// Opens this site's branch, and tells of each table: from now on the application's changes are
    /// the group's.
    fn finish_join(
        &mut self,
        number: DatabaseNumber,
    ) -> Result<(BranchId, DatabaseRow, Vec<AttachedTable>), EngineError> {
        let row = self.store.database(number)?;
        let images = Images::new(self.store.connection(), number.0);
        let (_, captured, _) = images
            .position()?
            .ok_or_else(|| StoreError::Damaged(format!("{} has no images", row.name)))?;
        let tables = captured.schema.tables.iter().zip(&captured.numbers);
        let tables = tables
            .map(|(table, logged)| {
                let (name, rows) = (table.name.clone(), images.count(*logged)?);
                Ok(AttachedTable { name, rows, finding: "as all sites have it".into() })
            })
            .collect::<Result<_, EngineError>>()?;
        let own = self.identity.site;
        let branches = self.store.branches_of(number)?;
        let before = branches.iter().filter(|branch| branch.origin() == own);
        // Attached once more after it was detached here: a branch of its own again.
        let epoch = before.map(|branch| branch.opening.opening().epoch.0).max().unwrap_or(0) + 1;
        let stamp = self.stamp(None)?;
        let opening = Opening {
            database: row.id,
            name: row.name.clone(),
            mode: Mode::Shared,
            origin: own,
            epoch: Epoch(epoch),
            parent: None,
            base: false,
            opened: stamp.wall_time(),
        };
        let opening = SignedOpening::open(opening, &self.key)
            .map_err(|error| EngineError::Encoding(error.to_string()))?;
        let id = opening.id();
        let start = ChainHash::start(id);
        let (key, schema) = (&self.key, captured.schema);
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            let branch =
                databases::add_branch(transaction, number, &opening, start, Sequence::ZERO, true)?;
            databases::follow_branch(transaction, number, branch)?;
            let dependencies = dependencies(transaction, branch, &branches)?;
            let draft = Draft { dependencies, ..Draft::first(with_rules(&schema), stamp) };
            append(transaction, &added(transaction, id)?, draft, key)?;
            databases::set_state(transaction, number, DatabaseState::Attached)?;
            Ok(())
        })?;
        self.clear_alarm(&interrupted(&row.name))?;
        Ok((id, row, tables))
    }

    /// After a join that failed: the database is only kept, as before, unless the file is in place
    /// and only the branch is missing.
    fn abandon_join(&mut self, number: DatabaseNumber) -> Result<(), EngineError> {
        let row = self.store.database(number)?;
        if row.state != DatabaseState::Attaching {
            return Ok(());
        }
        let mut application = self.application(row.path.clone(), &row, Captured::default());
        let ours = application.marker().is_ok_and(|marker| {
            marker.is_some_and(|marker| {
                (marker.database, marker.site) == (row.id, self.identity.site)
            })
        });
        match ours {
            true => self.look_for_interrupted_attaches(),
            false => self.leave_shared(&row),
        }
    }

    /// Goes back to keeping a shared database only: nothing of an application's file, nor of what
    /// was merged, is known any more. Its own branch must have ended, if it has one.
    pub(super) fn leave_shared(&mut self, row: &DatabaseRow) -> Result<(), EngineError> {
        if row.state == DatabaseState::Attaching {
            self.remove_new(&row.path)?;
        }
        self.forget_shared(row.number);
        let branches = self.store.branches_of(row.number)?;
        self.store.transaction(|transaction| forget_merged(transaction, row.number, &branches))?;
        self.clear_alarm(&interrupted(&row.name))?;
        Ok(self.end_alarms(row.number)?)
    }

    /// Why what the group has can't be merged, in the words of the alarm: that ends when the join is
    /// abandoned.
    fn why_stuck(&self, number: DatabaseNumber) -> Result<Failure, EngineError> {
        let mut alarms = self.store.alarms()?.into_iter();
        let latest = alarms.rfind(|alarm| alarm.database == Some(number));
        Ok(latest.map_or_else(
            || {
                Failure::unable(
                    "What the group has of this database can't be merged here.",
                    "See the log of the node.",
                )
            },
            |alarm| Failure::unable(alarm.what, alarm.remedy),
        ))
    }
}

/// Forgets what was merged of a shared database and what its application had, in the caller's
/// transaction: it is only kept then.
pub(super) fn forget_merged(
    transaction: &Connection,
    number: DatabaseNumber,
    branches: &[BranchRow],
) -> Result<(), EngineError> {
    Images::new(transaction, number.0).forget()?;
    for table in [
        "merged_column",
        "merged_row",
        "merged_slot",
        "merged_reference",
        "owed",
        "settled",
        "settling",
        "rekeyed",
        "unwritten",
        "intent",
        "written",
        "shown_mark",
        "dead_row",
        "round",
        "round_branch",
        "conflict",
    ] {
        transaction
            .prepare_cached(&format!("DELETE FROM {table} WHERE database = ?"))?
            .execute([number.0])?;
    }
    for branch in branches {
        transaction
            .prepare_cached("DELETE FROM seen WHERE branch = ?1 OR other = ?1")?
            .execute([branch.number.0])?;
        for table in ["merged_base", "merged_part", "heartbeat", "last_change", "low_stamp"] {
            transaction
                .prepare_cached(&format!("DELETE FROM {table} WHERE branch = ?"))?
                .execute([branch.number.0])?;
        }
        databases::set_applied(transaction, branch.number, Sequence::ZERO, WallTime(0))?;
        if branch.base > Sequence::ZERO {
            databases::follow_branch(transaction, number, branch.number)?;
        }
    }
    databases::set_path(transaction, number, Path::new(""))?;
    databases::set_state(transaction, number, DatabaseState::Kept)?;
    Ok(())
}
