//! Writing to the application's file what does not stand there as it should, under its lock and
//! after harvesting what it holds.

use super::{Engine, EngineError, Loaded, Shared, SharedStep};
use crate::capture::{CaptureError, Held, Images, Polite, Reading};
use crate::engine::harvest::{Capture, Harvest};
use crate::engine::numbering::{Numbering, Standing};
use crate::shared::blocks;
use crate::shared::conflicts::Context;
use crate::shared::intent::{end_intent, end_waiting, intend, set_writes, writes};
use crate::shared::owed::Owed;
use crate::shared::room::{self, Room};
use crate::store::alarms::Severity;
use crate::store::{BranchRow, DatabaseNumber, DatabaseRow};
use protocol::membership::Residues;
use protocol::session::LocalBranch;
use std::collections::BTreeSet;

/// Seconds of an application's file in use without a pause after which a person is told.
const LONG_BUSY: f64 = 600.0;

impl Engine {
    /// What comes before a harvest of a shared database: the base must be merged, and a write that
    /// was cut off be taken note of. What the harvest comes to instead, if it can't be.
    pub(in crate::engine) fn look_at_shared(
        &mut self,
        database: &DatabaseRow,
    ) -> Result<Option<Harvest>, EngineError> {
        for branch in self.store.branches_of(database.number)? {
            if branch.applied < branch.base {
                return Ok(Some(Harvest::Busy));
            }
        }
        match self.load_shared(database)? {
            Loaded::Ready => {}
            Loaded::Settling => return Ok(Some(Harvest::Busy)),
            Loaded::Not => return Ok(Some(Harvest::Stopped)),
        }
        match self.settle_writes(database) {
            Ok(true) => Ok(None),
            Ok(false) => {
                self.note_went_back(database)?;
                Ok(Some(Harvest::Stopped))
            }
            Err(EngineError::Capture(error)) => self.note_capture_error(database, error).map(Some),
            Err(error) => Err(error),
        }
    }

    /// Whether the file has seen the writes that it should have; a write that was cut off is taken
    /// note of first.
    fn settle_writes(&mut self, database: &DatabaseRow) -> Result<bool, EngineError> {
        let number = database.number;
        let Some(capture) = self.captures.get_mut(&number) else { return Ok(true) };
        let found = capture.application.writes()?;
        let known = writes(self.store.connection(), number)?;
        let intended: bool = self
            .store
            .connection()
            .prepare_cached("SELECT 1 FROM intent WHERE database = ? LIMIT 1")?
            .exists([number.0])?;
        match known {
            None => {
                set_writes(self.store.connection(), number, found)?;
                Ok(true)
            }
            Some(known) if intended => {
                let happened = found == known;
                if happened || found + 1 == known {
                    self.store.transaction(|transaction| {
                        Ok::<_, EngineError>(end_intent(transaction, number, happened)?)
                    })?;
                    return Ok(true);
                }
                Ok(false)
            }
            Some(known) => Ok(found == known),
        }
    }

    /// Writes what does not stand in the application's file as it should.
    pub(super) fn write_shared(
        &mut self,
        database: &DatabaseRow,
    ) -> Result<SharedStep, EngineError> {
        let number = database.number;
        match self.look_at_shared(database)? {
            None => {}
            Some(Harvest::Busy) => return Ok(SharedStep::Busy),
            Some(_) => return Ok(SharedStep::Stuck),
        }
        let Some(mut capture) = self.captures.remove(&number) else { return Ok(SharedStep::Stuck) };
        let written = self.write_with(database, &mut capture);
        let (numbered, written) = written?;
        let mut moved = Vec::new();
        if let Some(branch) = numbered {
            moved.push(self.local_branch(&branch)?);
        }
        let written = match written {
            Ok(written) => written,
            Err(EngineError::Capture(error)) if error.is_busy() => Written::Busy,
            Err(EngineError::Capture(error @ CaptureError::Trigger(..))) => {
                self.captures.insert(number, capture);
                return self.silence_triggers(database, &error, moved);
            }
            Err(EngineError::Capture(error)) => {
                let what = format!("{} can't be written: {error}.", database.name);
                self.raise(
                    write_subject(number),
                    Severity::Critical,
                    Some(number),
                    what,
                    "What others changed is kept and is written once the file can be: look at the \
                     disk and at what has the file open.",
                )?;
                return Ok(if moved.is_empty() {
                    SharedStep::Stuck
                } else {
                    SharedStep::Moved(moved)
                });
            }
            Err(error) => {
                self.shared.remove(&number);
                return Err(error);
            }
        };
        self.captures.insert(number, capture);
        match written {
            Written::Done => {
                if let Some(shared) = self.shared.get(&number) {
                    shared.busy_since.set(None);
                    shared.keys_due.set(true); // how much room is left is told there
                }
                self.clear_alarm(&write_subject(number))?;
                Ok(SharedStep::Moved(moved))
            }
            Written::Busy => {
                self.note_busy(database)?;
                Ok(if moved.is_empty() { SharedStep::Busy } else { SharedStep::Moved(moved) })
            }
        }
    }

    /// A trigger refused a row: the rows are written without triggers from now on, since what others
    /// wrote must not wait for it.
    fn silence_triggers(
        &mut self,
        database: &DatabaseRow,
        error: &CaptureError,
        moved: Vec<LocalBranch>,
    ) -> Result<SharedStep, EngineError> {
        self.triggers_refused.insert(database.number);
        self.raise(
            triggers_subject(database.number),
            Severity::Warning,
            Some(database.number),
            format!("{}: {error}. They are written without triggers now.", database.name),
            "What triggers keep up to date (full-text search, for instance) goes stale: mend the \
             trigger and restart the node, or say `policy … TABLE triggers silent`; then build \
             anew what it keeps.",
        )?;
        Ok(if moved.is_empty() { SharedStep::Busy } else { SharedStep::Moved(moved) })
    }

    /// The application's file was in use; a person is told once that goes on for long.
    fn note_busy(&mut self, database: &DatabaseRow) -> Result<(), EngineError> {
        let now = self.now();
        let Some(shared) = self.shared.get(&database.number) else { return Ok(()) };
        let since = shared.busy_since.get().unwrap_or(now);
        shared.busy_since.set(Some(since));
        if now.seconds_since(since) >= LONG_BUSY {
            self.raise(
                write_subject(database.number),
                Severity::Warning,
                Some(database.number),
                format!(
                    "What others changed can't be written into {}: its file is in use without a \
                     pause.",
                    database.name
                ),
                "It is written as soon as no program reads or writes for a moment: look for one \
                 that keeps a transaction open.",
            )?;
        }
        Ok(())
    }

    /// Lets the application hand out this site's own numbers, where it is about to hand out others.
    pub(super) fn raise_keys(&mut self, database: &DatabaseRow) -> Result<SharedStep, EngineError> {
        let number = database.number;
        let residues = self.residues();
        let (Some(shared), Some(capture)) =
            (self.shared.get(&number), self.captures.get_mut(&number))
        else {
            return Ok(SharedStep::Even);
        };
        let numbered = shared.local.numbered();
        if numbered.is_empty() {
            return Ok(SharedStep::Even);
        }
        if shared.hops_due.get() {
            match capture.application.put_hops(&capture.position) {
                Ok(Polite::Done(version)) => {
                    shared.hops_due.set(false);
                    // Whoever reads next has nothing to look at anew: only our triggers moved.
                    if version.is_some() && capture.position.schema_version.is_some() {
                        capture.position.schema_version = version;
                        Images::new(self.store.connection(), number.0)
                            .store_position(&capture.position)?;
                    }
                }
                Ok(Polite::Busy) => return Ok(SharedStep::Busy),
                Err(error) if error.is_busy() => return Ok(SharedStep::Busy),
                // The next harvest says what is wrong with the file.
                Err(error) => {
                    tracing::debug!(%error, "the numbers of {} can't hop", database.name);
                    return Ok(SharedStep::Even);
                }
            }
        }
        if !shared.keys_due.get() {
            return Ok(SharedStep::Even);
        }
        let looked = capture.application.reading(|connection| {
            let due = blocks::is_due(connection, &numbered, residues, blocks::BLOCK)?;
            Ok((due, room::short(connection, &numbered, residues)?))
        });
        let raised = match looked {
            Ok((false, short)) => Ok(Polite::Done(short)),
            Ok((true, short)) => capture.application.write(|held| -> Result<_, EngineError> {
                raise(held, shared, residues)?;
                Ok(Polite::Done(short))
            }),
            Err(error) => Err(error.into()),
        };
        match raised {
            Ok(Polite::Done(short)) => {
                shared.keys_due.set(false);
                if shared.told_short.replace(Some(!short.is_empty())) != Some(false)
                    || !short.is_empty()
                {
                    self.tell_short(database, &short)?;
                }
                Ok(SharedStep::Even)
            }
            Ok(Polite::Busy) => Ok(SharedStep::Busy),
            Err(EngineError::Capture(error)) if error.is_busy() => Ok(SharedStep::Busy),
            // The next harvest says what is wrong with the file.
            Err(EngineError::Capture(error)) => {
                tracing::debug!(%error, "the numbers of {} stay as they are", database.name);
                Ok(SharedStep::Even)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells of tables that are about to run out of numbers that fit into 32 bits.
    fn tell_short(&mut self, database: &DatabaseRow, short: &[Room]) -> Result<(), EngineError> {
        let subject = format!("numbers:{}", database.number.0);
        let Some(least) = short.iter().min_by_key(|room| room.rows_below_31()) else {
            return Ok(self.clear_alarm(&subject)?);
        };
        let tables: Vec<&str> = short.iter().map(|room| room.table.as_str()).collect();
        self.raise(
            subject,
            Severity::Warning,
            Some(database.number),
            format!(
                "{}: numbers of {} reach 2^31 soon; at the present pace {} has room for {} rows \
                 more.",
                database.name,
                tables.join(", "),
                least.table,
                least.rows_below_31()
            ),
            "Ask the maker of the application whether it takes greater numbers: SQLite and the \
             node do.",
        )?;
        Ok(())
    }

    pub(in crate::engine) fn residues(&self) -> Residues {
        let own = self.membership.member(self.identity.site);
        own.map(|member| member.residues).unwrap_or_default()
    }

    /// The write itself. What was harvested on the way stays so whether or not it comes about.
    fn write_with(
        &mut self,
        database: &DatabaseRow,
        capture: &mut Capture,
    ) -> Result<(Option<BranchRow>, Result<Written, EngineError>), EngineError> {
        if !capture.rescan.is_done() || capture.position.schema_version.is_none() {
            return Ok((None, Ok(Written::Busy))); // it is compared as a whole first
        }
        let number = database.number;
        let branch = self.branch_of(database)?;
        let others = self.other_branches(&branch)?;
        let now = self.now();
        let residues = self.residues();
        let clock = &mut self.clock;
        let Some(shared) = self.shared.get(&number) else { return Ok((None, Ok(Written::Busy))) };
        let (key, site, environment) = (&self.key, self.identity.site, &self.environment);
        let store = &mut self.store;
        let known = writes(store.connection(), number)?.unwrap_or(0);
        let numbering = Numbering {
            database: number,
            branch: &branch,
            shared: Some(shared),
            others: &others,
            now,
        };
        let refused = self.triggers_refused.contains(&number);
        let (schema_at, run_open) = (capture.schema_at, capture.run_open);
        let (rescan, position) = (&capture.rescan, &capture.position);
        let (mut harvested, mut intended, mut idle) = (None, false, false);
        let written = capture.application.write(|held| -> Result<Polite<()>, EngineError> {
            if held.writes()? != known {
                return Ok(Polite::Busy); // looked into before the next one
            }
            let notes = match held.read(position)? {
                Reading::Nothing => None,
                Reading::Notes(notes) if !notes.more => Some(notes),
                _ => return Ok(Polite::Busy), // harvested in its own time
            };
            let noted = notes.as_ref().and_then(|notes| notes.written).map(|(_, latest)| latest);
            let stamp = clock.stamp_noted(noted.unwrap_or(now), now)?;
            if notes.is_some() {
                let path = &database.path;
                environment.sync_committed(path).map_err(|error| {
                    crate::engine::file_error(&path.display().to_string(), error)
                })?;
            }
            let (numbered, forms) = store.transaction(|transaction| -> Result<_, EngineError> {
                let captured = held.captured();
                let standing = Standing { captured, rescan, schema_at, run_open };
                let numbered = match &notes {
                    Some(notes) => {
                        Some(numbering.number(transaction, standing, notes, stamp, (key, site))?)
                    }
                    None => None,
                };
                // A row that lost its number is not taken from the application before it has
                // another.
                if Owed::Number.is_due(transaction, number)? {
                    return Ok((numbered, None));
                }
                let context = Context { connection: transaction, database: number, now };
                let forms = intend(&shared.book(context))?;
                if !forms.is_empty() {
                    set_writes(transaction, number, known + 1)?;
                }
                Ok((numbered, Some(forms)))
            })?;
            harvested = numbered.zip(notes);
            let Some(forms) = forms else { return Ok(Polite::Busy) };
            intended = !forms.is_empty();
            idle = forms.is_empty();
            if idle {
                return Ok(Polite::Busy); // all is as it should be: nothing to commit
            }
            let running = match refused {
                true => BTreeSet::new(),
                false => shared.local.with_triggers(),
            };
            held.put(&forms, &running, known + 1)?;
            raise(held, shared, residues)?;
            Ok(Polite::Done(()))
        });
        let branch = harvested.and_then(|(numbered, notes)| capture.take(numbered, &notes).0);
        let written = match written {
            Ok(Polite::Busy) if idle => Ok(Written::Done),
            Ok(Polite::Busy) if !intended => Ok(Written::Busy),
            Ok(done) => {
                let happened = done == Polite::Done(());
                let ended = store.transaction(|transaction| -> Result<(), EngineError> {
                    if happened {
                        end_waiting(transaction, number)?;
                    }
                    Ok(end_intent(transaction, number, happened)?)
                });
                ended.map(|()| if happened { Written::Done } else { Written::Busy })
            }
            // Whether it came about is asked of the file before the next step.
            Err(error) => Err(error),
        };
        Ok((branch, written))
    }
}

/// What became of a write.
#[derive(Debug)]
enum Written {
    Done,
    Busy,
}

/// Sends AUTOINCREMENT to this site's own numbers.
fn raise(held: &Held<'_>, shared: &Shared, residues: Residues) -> Result<(), EngineError> {
    blocks::raise(held.connection(), &shared.local.numbered(), residues, blocks::BLOCK)
        .map_err(|error| CaptureError::application(held.path(), error).into())
}

/// The alarm that triggers refuse rows.
pub(super) fn triggers_subject(database: DatabaseNumber) -> String {
    format!("triggers:{}", database.0)
}

fn write_subject(database: DatabaseNumber) -> String {
    format!("write:{}", database.0)
}
