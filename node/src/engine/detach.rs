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
use crate::store::{DatabaseNumber, DatabaseState, databases};
use protocol::{BranchId, Mode, Name, Sequence};

/// Removes everything that attach put into a database; waits for a moment at which nobody is at
/// its file.
///
/// # Errors
/// There is no such database here, or its file can't be written.
pub async fn detach(
    engine: &EngineWorker,
    name: Name,
) -> Result<(DatabaseNumber, Option<BranchId>), EngineError> {
    let begun = tokio::time::Instant::now();
    loop {
        let wanted = name.clone();
        // What was committed until now belongs to the branch: else the copies would end before.
        let rest =
            engine.step("detach.harvest", move |engine| engine.harvest_rest(&wanted)).await?;
        match rest {
            Rest::More => continue,
            Rest::Busy if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(BETWEEN_TRIES).await;
                continue;
            }
            Rest::Busy => {
                return Err(Failure::unable(
                    format!(
                        "What was last written to {name} could not be read: its file is in use \
                         without a pause. It stays attached."
                    ),
                    "Try again when the application rests.",
                )
                .into());
            }
            Rest::Nothing => {}
        }
        let wanted = name.clone();
        let detached = engine.step("detach", move |engine| engine.detach(&wanted)).await?;
        if let Some(detached) = detached {
            return Ok(detached);
        }
        if begun.elapsed() >= PATIENCE {
            return Err(Failure::unable(
                format!("The file of {name} is in use without a pause."),
                "Try again when the application rests.",
            )
            .into());
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// What is left to harvest before a database is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Perhaps more.
    More,
    /// Somebody is at the file.
    Busy,
    /// Nothing, or nothing that can be read.
    Nothing,
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
            Harvest::Nothing | Harvest::Stopped => Ok(Rest::Nothing),
            // It may wait for what is to be merged first, and a step of that helps.
            Harvest::Busy if database.mode == Mode::Shared => {
                Ok(match self.step_shared(number)? {
                    SharedStep::Moved(_) => Rest::More,
                    _ => Rest::Busy,
                })
            }
            Harvest::Busy => Ok(Rest::Busy),
            Harvest::Moved => Ok(match self.refresh_capture(number)? {
                Refresh::Done(_) => Rest::More,
                Refresh::Busy => Rest::Busy,
                Refresh::Stopped => Rest::Nothing,
            }),
            Harvest::Notes(notes) => {
                self.sync_application(number)?;
                // What comes after this is as if it came after the detaching.
                let harvested = self.commit_harvest(number, &notes)?;
                Ok(if harvested.more { Rest::More } else { Rest::Nothing })
            }
        }
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
        self.clear_alarms_of(database.number)?;
        Ok(Some((database.number, Some(branch.id))))
    }
}
