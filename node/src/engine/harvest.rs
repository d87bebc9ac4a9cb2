//! Harvesting what the application committed: reading it (`capture`), and making it durable as the
//! branch's next batch together with the images. Each method is one step; a crash between two is
//! repaired by beginning again at the first. What a batch is made of is `numbering`'s.

use super::numbering::{Draft, Numbered, Numbering, Standing, append};
use super::shared::with_rules;
use super::{Engine, EngineError};
use crate::capture::{
    Application, CaptureError, Images, Limits, Marker, Notes, Polite, Position, Reading, Rescan,
};
use crate::environment::Readers;
use crate::shared::blocks::own_numbers;
use crate::store::alarms::Severity;
use crate::store::{BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, StoreError};
use protocol::branch::Mode;
use protocol::change::SchemaReference;
use protocol::session::LocalBranch;
use protocol::{BranchId, Sequence};
use std::path::PathBuf;

/// An application's database under harvest.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) application: Application,
    pub(super) position: Position,
    /// The sequence that brought the schema in force.
    pub(super) schema_at: Sequence,
    /// Tables still to be compared as a whole.
    pub(super) rescan: Rescan,
    /// Whether the last batch becomes visible only together with the next.
    pub(super) run_open: bool,
    /// Tells this value from those before it.
    made: u64,
    /// When a refresh last found somebody at the file.
    refused: Option<Moment>,
}

/// A state of an application's file as our connection sees it: another one after every commit of
/// anybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    capture: u64,
    opening: u64,
    version: i64,
}

/// What trimming came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// All that can go is gone.
    Done,
    /// More can go.
    More,
    /// Somebody is at the file: to be tried again in a moment.
    Busy,
}

impl Capture {
    fn standing(&self) -> Standing<'_> {
        Standing {
            captured: self.application.captured(),
            rescan: &self.rescan,
            schema_at: self.schema_at,
            run_open: self.run_open,
        }
    }

    /// Takes over what was numbered: the branch, if there is a new batch, and whether there is more
    /// to read.
    pub(super) fn take(&mut self, numbered: Numbered, notes: &Notes) -> (Option<BranchRow>, bool) {
        let Numbered { branch, more, position, rescan } = numbered;
        self.application.harvested(notes);
        self.rescan = rescan;
        self.position = position;
        if branch.is_some() {
            self.run_open = more;
        }
        (branch, more)
    }

    fn moment(&mut self) -> Option<Moment> {
        let (opening, version) = self.application.data_version().ok()?;
        Some(Moment { capture: self.made, opening, version })
    }
}

/// What reading came to.
#[derive(Debug)]
pub enum Harvest {
    /// Nothing was committed since the last harvest.
    Nothing,
    /// Rows were read: [`Engine::sync_application`], then [`Engine::commit_harvest`].
    Notes(Box<Notes>),
    /// The schema or the file moved: [`Engine::refresh_capture`].
    Moved,
    /// Somebody is at it: to be tried again in a moment.
    Busy,
    /// It can't be harvested; an alarm says why. To be looked at again later.
    Stopped,
}

/// What a harvest came to.
#[derive(Debug)]
pub struct Harvested {
    /// How far the branch is, if a batch was numbered.
    pub numbered: Option<LocalBranch>,
    /// Whether there is more to read at once. Otherwise all is harvested that was committed when
    /// the reading began.
    pub more: bool,
}

/// What putting the triggers back came to.
#[derive(Debug)]
pub enum Refresh {
    /// They are there.
    Done(Harvested),
    /// Somebody is at it: to be tried again in a moment.
    Busy,
    /// It can't be done; an alarm says why. To be looked at again later.
    Stopped,
}

impl Engine {
    /// Step 1: reads what was committed since the last harvest, in one short read snapshot.
    ///
    /// # Errors
    /// The store fails. What is wrong at the application's file raises an alarm.
    pub fn read_harvest(&mut self, number: DatabaseNumber) -> Result<Harvest, EngineError> {
        let database = self.store.database(number)?;
        if database.state != DatabaseState::Attached {
            return Ok(Harvest::Stopped);
        }
        let branch = self.branch_of(&database)?;
        if self.is_behind(&branch)? {
            return Ok(Harvest::Stopped);
        }
        self.clear_alarm(&behind(branch.id))?;
        self.load_capture(&database)?;
        if database.mode == Mode::Shared
            && let Some(instead) = self.look_at_shared(&database)?
        {
            return Ok(instead);
        }
        let Some(capture) = self.captures.get_mut(&number) else { return Ok(Harvest::Stopped) };
        let work = {
            let images = Images::new(self.store.connection(), number.0);
            capture.rescan.next(capture.application.captured(), &images, Limits::default())?
        };
        let reading = capture.application.read(&capture.position, Limits::default(), work.as_ref());
        match reading {
            Ok(Reading::Nothing) => {
                self.clear_alarm(&subject(number))?;
                Ok(Harvest::Nothing)
            }
            Ok(Reading::Notes(notes)) => {
                self.clear_alarm(&subject(number))?;
                Ok(Harvest::Notes(Box::new(notes)))
            }
            Ok(Reading::Moved) => Ok(Harvest::Moved),
            Ok(Reading::WentBack) => {
                self.note_went_back(&database)?;
                Ok(Harvest::Stopped)
            }
            Err(error) => self.note_capture_error(&database, error),
        }
    }

    /// Step 2: makes durable what was read, so that a power cut can't take back what gets a
    /// number.
    ///
    /// # Errors
    /// The system fails; then nothing must be numbered.
    pub fn sync_application(&mut self, number: DatabaseNumber) -> Result<(), EngineError> {
        let path = self.store.database(number)?.path;
        self.environment
            .sync_committed(&path)
            .map_err(|error| super::file_error(&format!("syncing {}", path.display()), error))
    }

    /// Step 3: compares what was read with the images and numbers what changed, durably.
    ///
    /// # Errors
    /// The store fails; then nothing has happened.
    pub fn commit_harvest(
        &mut self,
        number: DatabaseNumber,
        notes: &Notes,
    ) -> Result<Harvested, EngineError> {
        let noted = notes.written.map(|(_, latest)| latest);
        let stamp = self.stamp(noted)?;
        let database = self.store.database(number)?;
        let branch = self.branch_of(&database)?;
        let others = match database.mode {
            Mode::Mirror => Vec::new(),
            Mode::Shared => self.other_branches(&branch)?,
        };
        let Some(capture) = self.captures.get(&number) else {
            return Ok(Harvested { numbered: None, more: false });
        };
        let shared = self.shared.get(&number);
        let now = self.environment.wall_clock();
        let own = Numbering { database: number, branch: &branch, shared, others: &others, now };
        let (key, site) = (&self.key, self.identity.site);
        let result = self.store.transaction(|transaction| {
            own.number(transaction, capture.standing(), notes, stamp, (key, site))
        });
        let numbered = match result {
            Ok(numbered) => numbered,
            Err(error) => {
                // What the application's value knows may be ahead of the store now.
                self.captures.remove(&number);
                self.shared.remove(&number);
                return Err(error);
            }
        };
        let (branch, more) = match self.captures.get_mut(&number) {
            Some(capture) => capture.take(numbered, notes),
            None => (None, false),
        };
        let numbered = branch.map(|branch| self.local_branch(&branch)).transpose()?;
        // After a rescan the position is settled by one more reading.
        Ok(Harvested { numbered, more: more || notes.position.schema_version.is_none() })
    }

    /// After [`Harvest::Moved`]: puts the triggers back, and numbers the new schema.
    ///
    /// # Errors
    /// The store fails; what is wrong at the application's file raises an alarm.
    pub fn refresh_capture(&mut self, number: DatabaseNumber) -> Result<Refresh, EngineError> {
        let database = self.store.database(number)?;
        let branch = self.branch_of(&database)?;
        let stamp = self.stamp(None)?;
        let Some(capture) = self.captures.get_mut(&number) else { return Ok(Refresh::Busy) };
        // While a reader stays, and nothing else happens, looking at everything again is in vain.
        let refused = capture.refused;
        if refused.is_some()
            && refused == capture.moment()
            && self.environment.readers(&database.path).is_ok_and(|found| found == Readers::Some)
        {
            return Ok(Refresh::Busy);
        }
        let position = capture.position;
        // Should this be cut off once the triggers are back, everything is compared: what was
        // written while they were gone is known from nothing else.
        Images::new(self.store.connection(), number.0).store_position(&position.unsettled())?;
        let (key, schema_at) = (&self.key, capture.schema_at);
        let application = &mut capture.application;
        let is_shared = database.mode == Mode::Shared;
        let result = self.store.transaction(|transaction| -> Result<_, EngineError> {
            let images = Images::new(transaction, number.0);
            let Polite::Done(refreshed) = application.refresh(&images, &position, is_shared)?
            else {
                return Ok(None);
            };
            if refreshed.went_back {
                return Err(CaptureError::NotAttached(application.path().to_owned()).into());
            }
            let next = branch.held.next();
            let moved = refreshed.schema.is_some() || !refreshed.cleared.is_empty();
            let schema = match &refreshed.schema {
                Some(schema) => {
                    images.store_schema(&refreshed.position, schema, next)?;
                    let carried = if is_shared { with_rules(schema) } else { schema.clone() };
                    SchemaReference::Here(Box::new(carried))
                }
                None => {
                    images.store_position(&refreshed.position)?;
                    SchemaReference::At(schema_at)
                }
            };
            let numbered = if moved {
                // Others' rows of a shared table are not ours to empty.
                let cleared = if is_shared { Vec::new() } else { refreshed.cleared.clone() };
                // The rows are as the last harvest left them: with the new schema that may be no
                // state that the database had. The next readings bring it to one.
                let more = true;
                let draft =
                    Draft { schema, cleared, more, ..Draft::of(schema_at, Vec::new(), stamp) };
                Some(append(transaction, &branch, draft, key)?)
            } else {
                None
            };
            Ok(Some((refreshed, numbered)))
        });
        let (refreshed, numbered) = match result {
            Ok(Some(result)) => result,
            Ok(None) => {
                if let Some(capture) = self.captures.get_mut(&number) {
                    capture.refused = capture.moment();
                }
                return Ok(Refresh::Busy);
            }
            Err(error) => {
                self.captures.remove(&number);
                return match error {
                    EngineError::Capture(error) => {
                        Ok(match self.note_capture_error(&database, error)? {
                            Harvest::Busy => Refresh::Busy,
                            _ => Refresh::Stopped,
                        })
                    }
                    error => Err(error),
                };
            }
        };
        if refreshed.schema.is_some() {
            self.shared.remove(&number);
        }
        for finding in &refreshed.findings {
            tracing::info!(database = %database.name, "{} {}", finding.what, finding.remedy);
        }
        if let Some(capture) = self.captures.get_mut(&number) {
            capture.refused = None;
            capture.position = refreshed.position;
            capture.rescan = refreshed.rescan;
            if let Some(branch) = &numbered {
                capture.run_open = true;
                if refreshed.schema.is_some() {
                    capture.schema_at = branch.held;
                }
            }
        }
        let numbered = numbered.map(|branch| self.local_branch(&branch)).transpose()?;
        Ok(Refresh::Done(Harvested { numbered, more: true }))
    }

    /// Removes harvested notes from the application's log.
    ///
    /// # Errors
    /// The store fails. A missing file is left for later.
    pub fn trim_log(&mut self, number: DatabaseNumber) -> Result<Trim, EngineError> {
        const NOTES_AT_ONCE: usize = 2000;
        /// Fewer cost less where they are than a write to the application's file.
        const WORTH_WHILE: usize = 64;
        let Some(capture) = self.captures.get_mut(&number) else { return Ok(Trim::Done) };
        match capture.application.trim(&capture.position.fence, WORTH_WHILE, NOTES_AT_ONCE) {
            Ok(Polite::Done(true)) => Ok(Trim::More),
            Ok(Polite::Done(false)) => Ok(Trim::Done),
            Ok(Polite::Busy) => Ok(Trim::Busy),
            Err(CaptureError::Store(error)) => Err(error.into()),
            // The next harvest says what is wrong with the file.
            Err(_) => Ok(Trim::Done),
        }
    }

    /// Lets a copy of the bare file hold the newest data, when nobody is at it.
    pub fn checkpoint_application(&mut self, number: DatabaseNumber) {
        if let Some(capture) = self.captures.get_mut(&number)
            && let Err(error) = capture.application.checkpoint()
        {
            tracing::debug!(%error, "no checkpoint of the application's database");
        }
    }

    /// Changes in an application's file that are in no batch yet; `None` if it can't be read, or
    /// is not the one that was harvested. Where there may be changes without notes it is one at
    /// least.
    pub(super) fn pending(&mut self, database: &DatabaseRow) -> Option<u64> {
        self.load_capture(database).ok()?;
        let capture = self.captures.get_mut(&database.number)?;
        let noted = capture.application.pending(&capture.position).ok()??;
        let unfinished = capture.run_open || !capture.rescan.is_done();
        Some(if unfinished { noted.max(1) } else { noted })
    }

    /// How an application's file is now; `None` if it can't be read.
    ///
    /// # Errors
    /// The store fails.
    pub fn moment(&mut self, number: DatabaseNumber) -> Result<Option<Moment>, EngineError> {
        if !self.captures.contains_key(&number) {
            let database = self.store.database(number)?;
            self.load_capture(&database)?;
        }
        Ok(self.captures.get_mut(&number).and_then(Capture::moment))
    }

    pub(super) fn load_capture(&mut self, database: &DatabaseRow) -> Result<(), EngineError> {
        if self.captures.contains_key(&database.number) {
            return Ok(());
        }
        let images = Images::new(self.store.connection(), database.number.0);
        let Some((position, captured, schema_at)) = images.position()? else { return Ok(()) };
        let branch = self.branch_of(database)?;
        let before = Sequence(branch.held.0.saturating_sub(1));
        let run_open = match self.store.batches_after(branch.number, before, 1, 0)?.pop() {
            Some(batch) => {
                protocol::Header::read(&batch.frame)
                    .map_err(|error| StoreError::Damaged(error.to_string()))?
                    .meta
                    .more
            }
            None => false,
        };
        let application = self.application(database.path.clone(), database, captured);
        self.captures_made += 1;
        let capture = Capture {
            application,
            position,
            schema_at,
            rescan: Rescan::default(),
            run_open,
            made: self.captures_made,
            refused: None,
        };
        self.captures.insert(database.number, capture);
        Ok(())
    }

    pub(super) fn application(
        &self,
        path: PathBuf,
        database: &DatabaseRow,
        captured: crate::capture::Captured,
    ) -> Application {
        let marker = Marker { database: database.id, site: self.identity.site };
        let environment = std::sync::Arc::clone(&self.environment);
        let mut application = Application::new(environment, path, marker, captured);
        if database.mode == Mode::Shared {
            application.set_own_numbers(own_numbers(self.residues()));
        }
        application
    }

    /// Whether peers hold more of a database's own branch than this site: it numbers nothing
    /// then.
    fn is_behind(&self, branch: &BranchRow) -> Result<bool, StoreError> {
        Ok(self.store.durable_elsewhere(branch.number)?.into_iter().any(|(site, durable)| {
            durable > branch.held
                && self.membership.member(site).is_some_and(|member| !member.removed)
        }))
    }

    /// The file is older than what was harvested of it.
    pub(super) fn note_went_back(&mut self, database: &DatabaseRow) -> Result<(), StoreError> {
        self.stop_capture(
            database,
            format!(
                "The file of {} lacks changes that were already harvested: an older copy was put \
                 in its place.",
                database.name
            ),
            "Nothing of it is published. Put the newer file back; or, if the older one is meant, \
             `detach` the database and `attach` it anew: the other sites keep what they have \
             beside it.",
        )
    }

    pub(super) fn note_capture_error(
        &mut self,
        database: &DatabaseRow,
        error: CaptureError,
    ) -> Result<Harvest, EngineError> {
        if error.is_busy() {
            return Ok(Harvest::Busy);
        }
        if let CaptureError::Store(error) = error {
            return Err(error.into());
        }
        let failure = crate::failure::Failure::from(error);
        let what = format!("{} can't be harvested: {}", database.name, failure.what);
        self.stop_capture(database, what, &failure.remedy)?;
        Ok(Harvest::Stopped)
    }

    pub(super) fn stop_capture(
        &mut self,
        database: &DatabaseRow,
        what: String,
        remedy: &str,
    ) -> Result<(), StoreError> {
        let number = database.number;
        self.captures.remove(&number);
        self.raise(subject(number), Severity::Critical, Some(number), what, remedy)?;
        Ok(())
    }
}

/// The subject of the alarm that others hold more of an own branch than this site.
pub(super) fn behind(branch: BranchId) -> String {
    format!("own-branch-behind:{branch}")
}

fn subject(number: DatabaseNumber) -> String {
    format!("capture:{}", number.0)
}
