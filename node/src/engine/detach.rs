//! Taking a database out of sync: what is left is harvested, everything of ours leaves the file, and
//! the branch ends. The other sites keep the copies that they have; a shared database goes on
//! without this site, which keeps its batches.

use super::attach::{BETWEEN_TRIES, PATIENCE};
use super::harvest::{Harvest, Refresh};
use super::numbering::{Draft, append};
use super::share::forget_merged;
use super::{Engine, EngineError, EngineWorker, SharedStep};
use crate::capture::{CaptureError, Captured, Images, Polite};
use crate::failure::Failure;
use crate::store::alarms::Severity;
use crate::store::{DatabaseNumber, DatabaseRow, DatabaseState, StoreError, databases};
use crate::units::counted;
use protocol::{BranchId, Mode, Name, Sequence};
use std::time::Duration;

/// A database that is under sync no more.
#[derive(Clone, Debug)]
pub struct Detached {
    /// Its number.
    pub number: DatabaseNumber,
    /// The branch that ended; none if attaching it was never completed.
    pub branch: Option<BranchId>,
    /// What a person should know: that something of it was never published.
    pub warnings: Vec<String>,
}

/// Removes everything that attach put into a database; waits for a moment at which nobody is at
/// its file.
///
/// # Errors
/// There is no such database here, its file can't be written, or what its application wrote can't
/// be read for somebody who is at it.
pub async fn detach(engine: &EngineWorker, name: Name) -> Result<Detached, EngineError> {
    within(engine, name, PATIENCE).await
}

/// The same, with another patience towards who is at the file.
pub(super) async fn within(
    engine: &EngineWorker,
    name: Name,
    patience: Duration,
) -> Result<Detached, EngineError> {
    let begun = tokio::time::Instant::now();
    loop {
        let wanted = name.clone();
        // What was committed until now belongs to the branch: else the copies would end before.
        let rest =
            engine.step("detach.harvest", move |engine| engine.harvest_rest(&wanted)).await?;
        let warnings = match rest {
            Rest::More => continue,
            Rest::Busy => None,
            Rest::Nothing => Some(Vec::new()),
            Rest::LeftBehind(what) => Some(vec![what]),
        };
        if let Some(warnings) = warnings {
            let wanted = name.clone();
            let detached = engine.step("detach", move |engine| engine.detach(&wanted)).await?;
            if let Some((number, branch)) = detached {
                return Ok(Detached { number, branch, warnings });
            }
        }
        if begun.elapsed() >= patience {
            return Err(Failure::unable(
                format!(
                    "The file of {name} is in use without a pause, or what other sites say of it \
                     is not merged yet, so it stays under sync."
                ),
                "Try again when the application rests, and `status` tells nothing critical.",
            )
            .into());
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// What is left to harvest before a database is detached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    /// Perhaps more.
    More,
    /// Somebody is at the file.
    Busy,
    /// Nothing.
    Nothing,
    /// Something that can't be harvested; what a person is told of it.
    LeftBehind(String),
}

impl Engine {
    /// A whole harvest in one step, so that none of the running node's comes between.
    fn harvest_rest(&mut self, name: &Name) -> Result<Rest, EngineError> {
        let Some(database) = self
            .store
            .databases()?
            .into_iter()
            .find(|row| row.name == *name && row.state == DatabaseState::Attached)
        else {
            return Ok(Rest::Nothing);
        };
        let number = database.number;
        match self.read_harvest(number)? {
            Harvest::Nothing => Ok(Rest::Nothing),
            Harvest::Stopped => self.left_behind(&database),
            Harvest::Busy if database.mode == Mode::Shared => self.make_ready(&database),
            Harvest::Busy => Ok(Rest::Busy),
            Harvest::Moved => match self.refresh_capture(number)? {
                Refresh::Done(_) => Ok(Rest::More),
                Refresh::Busy => Ok(Rest::Busy),
                Refresh::Stopped => self.left_behind(&database),
            },
            Harvest::Notes(notes) => {
                self.sync_application(number)?;
                // What comes after this is as if it came after the detaching.
                let harvested = self.commit_harvest(number, &notes)?;
                Ok(if harvested.more { Rest::More } else { Rest::Nothing })
            }
        }
    }

    /// A step towards what a harvest of a shared database needs: what it began with must be merged,
    /// and all settled under the schema and the rules in force.
    fn make_ready(&mut self, database: &DatabaseRow) -> Result<Rest, EngineError> {
        match self.step_shared(database.number)? {
            SharedStep::Moved(_) => Ok(Rest::More),
            SharedStep::Busy => Ok(Rest::Busy),
            SharedStep::Refill(_) => Err(Failure::unable(
                "A batch that this site holds was damaged on its disk, and is dropped.",
                "Start this node again, so that the other sites send it anew, and detach then. \
                 Look at the disk: it does not keep what it is given.",
            )
            .into()),
            SharedStep::Stuck => self.left_behind(database),
            SharedStep::Even => {
                let branches = self.store.branches_of(database.number)?;
                match branches.iter().any(|branch| branch.applied < branch.base) {
                    true => self.left_behind(database),
                    false => Ok(Rest::Busy),
                }
            }
        }
    }

    /// What is told of changes that can't be harvested, if there may be some: they are in the
    /// application's file all the same.
    fn left_behind(&mut self, database: &DatabaseRow) -> Result<Rest, EngineError> {
        let changes = match self.pending(database) {
            Some(0) => return Ok(Rest::Nothing),
            Some(changes) => {
                let verb = if changes == 1 { "was" } else { "were" };
                format!("{} {verb} not published", counted(changes, "change"))
            }
            None => "What its application wrote last can't be read, and was not published".into(),
        };
        let standing = self.store.alarms()?.into_iter().filter(|alarm| {
            alarm.database == Some(database.number) && alarm.severity == Severity::Critical
        });
        let why: String = standing.map(|alarm| format!(" {}", alarm.what)).collect();
        let merge = if database.mode == Mode::Shared { " with --merge" } else { "" };
        Ok(Rest::LeftBehind(format!(
            "{changes} before the database was detached.{why} The other sites get what the file \
             holds when it is attached again{merge}."
        )))
    }

    /// Ends the alarms of a database whose file is this site's business no more; what is wrong with
    /// batches that it keeps stays told.
    pub(super) fn end_alarms(&mut self, number: DatabaseNumber) -> Result<(), StoreError> {
        const OF_BATCHES: [&str; 2] = ["fork:", "rotten:"];
        self.triggers_refused.remove(&number);
        for alarm in self.store.alarms()? {
            let of_batches = OF_BATCHES.iter().any(|of| alarm.subject.starts_with(of));
            if alarm.database == Some(number) && !of_batches {
                self.clear_alarm(&alarm.subject)?;
            }
        }
        Ok(())
    }

    /// Removes everything that attach put into a database; `None`: somebody is at the file, to be
    /// tried again in a moment.
    ///
    /// # Errors
    /// There is no such database here, or its file can't be written.
    fn detach(
        &mut self,
        name: &Name,
    ) -> Result<Option<(DatabaseNumber, Option<BranchId>)>, EngineError> {
        let own = self.identity.site;
        let database = self
            .store
            .databases()?
            .into_iter()
            .find(|row| {
                row.name == *name
                    && matches!(row.state, DatabaseState::Attached | DatabaseState::Attaching)
            })
            .ok_or_else(|| {
                Failure::usage(
                    format!("No database {name} is attached at this site."),
                    "See `status` for the names there are.",
                )
            })?;
        // No other connection of ours may be at the file while readers are shut out.
        self.captures.remove(&database.number);
        let mut application =
            self.application(database.path.clone(), &database, Captured::default());
        let removed = match application.marker() {
            // Another site's triggers are not ours to remove.
            Ok(Some(marker)) if marker.site != own => Ok(Polite::Done(())),
            Ok(_) => application.uninstall(),
            Err(error) => Err(error),
        };
        match removed {
            Ok(Polite::Done(())) => {}
            Ok(Polite::Busy) => return Ok(None),
            Err(error) if error.is_busy() => return Ok(None),
            // Where there is no database any more, nothing of ours is in it.
            Err(
                CaptureError::Missing(_)
                | CaptureError::NotADatabase(_)
                | CaptureError::Damaged(..),
            ) => {}
            Err(error) => return Err(error.into()),
        }
        if database.state == DatabaseState::Attaching {
            match database.branch {
                None => self.forget_database(&database)?,
                Some(_) => self.leave_shared(&database)?,
            }
            self.end_alarms(database.number)?;
            return Ok(Some((database.number, None)));
        }
        let branch = self.branch_of(&database)?;
        let branches = self.store.branches_of(database.number)?;
        let images = Images::new(self.store.connection(), database.number.0);
        let schema_at = images.position()?.map_or(Sequence(1), |(_, _, at)| at);
        let stamp = self.stamp(None)?;
        let key = &self.key;
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            append(transaction, &branch, Draft::last(schema_at, stamp), key)?;
            match database.mode {
                Mode::Mirror => {
                    Images::new(transaction, database.number.0).forget()?;
                    databases::set_state(transaction, database.number, DatabaseState::Detached)?;
                }
                Mode::Shared => forget_merged(transaction, database.number, &branches)?,
            }
            Ok(())
        })?;
        self.forget_shared(database.number);
        self.end_alarms(database.number)?;
        Ok(Some((database.number, Some(branch.id))))
    }
}
