//! The till itself: its programs, what it does next, and what comes of it.

use super::hand::{Done, End, Hand};
use super::held::{Held, open_transactions};
use super::operation::{Mix, Operation};
use super::program::{Journal, Program};
use super::schema::SCHEMA;
use super::violation::Violation;
use super::{bulk, odd, replace, trade, upgrade};
use crate::oracle::{Found, History, Loss, Witness};
use crate::random::Random;
use crate::world::World;
use rusqlite::{Connection, ffi};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// How long the application waits for a lock before it gives up: the busy timeout that most set.
const PATIENCE: Duration = Duration::from_secs(5);
/// So often old things go.
const PURGE_EVERY: u64 = 25;
/// More violations than these are not kept.
const KEPT: usize = 50;

/// What a call did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Acted {
    /// At what.
    pub operation: Operation,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed under that number ([`History`]).
    Committed(u64),
    /// It was rolled back, as was meant.
    RolledBack,
    /// It had nothing to commit.
    Nothing,
    /// Somebody holds a lock: it is done again at the next call.
    Waits,
    /// It was given up, since another program of this till stands in its way.
    Blocked,
    /// The disk failed. Whether it is committed will be known after [`Till::recover`], which the
    /// next call does by itself.
    DiskFailed(String),
    /// The database was read anew after a crash, and this was found.
    Recovered(Found),
    /// It met what it would not have met alone ([`Till::violations`]).
    Violated,
}

/// What waits for a lock.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    operation: Operation,
    seed: u64,
    since: Instant,
}

/// One application with one database. See [`crate::workload`].
pub struct Till {
    name: String,
    pub(super) main: Program,
    pub(super) office: Program,
    pub(super) reader: Program,
    pub(super) held: Held,
    pub(super) history: History,
    journal: Journal,
    pub(super) loss: Loss,
    mix: Mix,
    random: Random,
    begun: Instant,
    number: u64,
    waiting: Option<Waiting>,
    waits: u64,
    violations: Vec<Violation>,
    disk_is_well: Box<dyn Fn() -> bool + Send>,
}

impl fmt::Debug for Till {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Till").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Till {
    /// A till at a site, with a new database, which keeps its journal as the seed says: mostly
    /// in WAL mode.
    pub fn open(world: &World, site: &str, file: &str, label: &str) -> Self {
        let mut random = world.random(&format!("till {site} {label} journal"));
        let journal = if random.happens(8000) { Journal::Wal } else { Journal::Delete };
        Self::open_with(world, (site, file), label, journal)
    }

    /// The same, with a journal of that kind.
    ///
    /// # Panics
    /// The database can't be made.
    pub fn open_with(
        world: &World,
        (site, file): (&str, &str),
        label: &str,
        journal: Journal,
    ) -> Self {
        let begun = Instant::now() - world.figures().time;
        let mut random = world.random(&format!("till {site} {label}"));
        let [main, office, reader] = [0; 3].map(|_| Program::new(world.application(site, file)));
        let history = main.run(|connection, witness| {
            let mode = if journal == Journal::Wal { "WAL" } else { "DELETE" };
            connection.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(()))?;
            connection.execute_batch("BEGIN IMMEDIATE")?;
            connection.execute_batch(SCHEMA)?;
            let random = &mut random;
            trade::stock(&mut Hand { connection, witness, random, number: 0, now: 0 })?;
            connection.execute_batch("COMMIT")?;
            History::begin(connection, begun)
        });
        Self {
            name: format!("{site} {label}"),
            main,
            office,
            reader,
            held: Held::default(),
            history: history.unwrap(),
            journal,
            loss: Loss::Forbidden,
            mix: Mix::usual(),
            random,
            begun,
            number: 0,
            waiting: None,
            waits: 0,
            violations: Vec::new(),
            disk_is_well: Box::new(|| true),
        }
    }

    /// From now on it chooses from this mix.
    pub fn set_mix(&mut self, mix: Mix) {
        self.mix = mix;
    }

    /// How it learns whether its disk is well: then an error of the disk is a violation.
    pub fn ask_disk(&mut self, is_well: impl Fn() -> bool + Send + 'static) {
        self.disk_is_well = Box::new(is_well);
    }

    /// How its database keeps its journal.
    pub fn journal(&self) -> Journal {
        self.journal
    }

    /// What its database held after each commit.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What it met that it would not have met alone.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How often it had to wait for somebody else's lock.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// Does something with the main program's connection that does not change the database, for a
    /// look at it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn look<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.main.run(|connection, _| work(connection))
    }

    /// Whether the database holds just what the history says.
    ///
    /// # Errors
    /// SQLite's outside, what differs inside.
    pub fn check(&self) -> rusqlite::Result<Result<(), String>> {
        self.look(|connection| self.history.check(connection))
    }

    /// The next operation of its mix.
    ///
    /// # Panics
    /// The computer's power is off.
    pub fn act(&mut self) -> Acted {
        self.forget_ended();
        if let Some(Waiting { operation, seed, since }) = self.waiting.take() {
            return self.acted(operation, |till| till.perform_at(operation, seed, since));
        }
        let after_next = self.number + 1;
        let operation = match self.held.chosen(&mut self.random) {
            Some(operation) => operation,
            None if after_next.is_multiple_of(PURGE_EVERY) => Operation::Purge,
            None => self.mix.choose(&mut self.random),
        };
        self.perform(operation)
    }

    /// Does this now.
    ///
    /// # Panics
    /// The computer's power is off.
    pub fn perform(&mut self, operation: Operation) -> Acted {
        self.forget_ended();
        self.waiting = None;
        self.number += 1;
        let seed = self.random.draw();
        self.acted(operation, |till| till.perform_at(operation, seed, Instant::now()))
    }

    /// All its programs end, with whatever they hold open; the next call begins them anew.
    pub fn quit(&mut self) {
        for program in [&self.main, &self.office, &self.reader] {
            program.quit();
        }
        self.waiting = None;
        self.forget_ended();
    }

    fn acted(&mut self, operation: Operation, work: impl FnOnce(&mut Self) -> Outcome) -> Acted {
        if self.history.is_uncertain() {
            let outcome = self.recover(self.loss);
            return Acted { operation: Operation::Restart, outcome };
        }
        let outcome = work(self);
        if let Outcome::DiskFailed(_) = outcome {
            // What its connections have open is worth nothing any more.
            self.quit();
        }
        Acted { operation, outcome }
    }

    fn perform_at(&mut self, operation: Operation, seed: u64, since: Instant) -> Outcome {
        let done = match operation {
            Operation::Read => return self.read(),
            Operation::Think => return self.think(),
            Operation::Hold => return self.hold(seed),
            Operation::Restart => return self.restart(),
            Operation::Vacuum | Operation::Checkpoint => self.tidy(operation, seed),
            _ => {
                if self.held.holds_lock() {
                    return Outcome::Blocked;
                }
                if self.journal == Journal::Delete {
                    // Its own readers would keep it from committing.
                    self.end_readers();
                }
                self.transact(operation, seed)
            }
        };
        match done {
            Ok(outcome) => outcome,
            Err(error) if is_busy(&error) && self.stands_in_its_way() => Outcome::Blocked,
            Err(error) if is_busy(&error) && since.elapsed() < PATIENCE => {
                self.waits += 1;
                self.waiting = Some(Waiting { operation, seed, since });
                Outcome::Waits
            }
            Err(error) => self.failed(operation, &error, false),
        }
    }

    fn transact(&mut self, operation: Operation, seed: u64) -> rusqlite::Result<Outcome> {
        let (number, now) = (self.number, self.begun.elapsed().as_millis() as i64);
        let Self { main, history, .. } = self;
        main.run(|connection, witness| {
            // A rebuild's DROP TABLE is not to empty what refers to it.
            let keys = operation != Operation::Rebuild;
            if !keys {
                connection.execute_batch("PRAGMA foreign_keys = OFF")?;
            }
            let done = write(connection, witness, history, || {
                let mut random = Random::new(seed, "operation");
                let random = &mut random;
                let mut hand = Hand { connection, witness, random, number, now };
                work(operation)(&mut hand)
            });
            if !keys {
                connection.execute_batch("PRAGMA foreign_keys = ON")?;
            }
            done
        })
    }

    /// What leaves the content as it is.
    fn tidy(&mut self, operation: Operation, seed: u64) -> rusqlite::Result<Outcome> {
        if self.held.holds_lock() {
            return Ok(Outcome::Blocked);
        }
        self.end_readers();
        let sql = match (operation, seed % 2) {
            (Operation::Vacuum, _) => "VACUUM",
            (_, 0) => "PRAGMA wal_checkpoint(TRUNCATE)",
            _ => "PRAGMA wal_checkpoint(PASSIVE)",
        };
        // A checkpoint says whether it was busy; that is no error, and up to it.
        self.main.run(|connection, _| connection.execute_batch(sql))?;
        Ok(Outcome::Nothing)
    }

    fn restart(&mut self) -> Outcome {
        self.end_readers();
        if self.held.holds_lock() {
            return Outcome::Blocked;
        }
        self.quit();
        Outcome::Nothing
    }

    /// In WAL mode nobody keeps a writer waiting but another.
    fn stands_in_its_way(&self) -> bool {
        self.held.holds_lock() || (self.journal == Journal::Delete && self.held.is_reading())
    }

    pub(super) fn forget_ended(&mut self) {
        self.held.forget(self.office.is_open(), self.reader.is_open());
    }

    /// An error that the till did not cause, unless it is `excused`.
    pub(super) fn failed(
        &mut self,
        operation: Operation,
        error: &rusqlite::Error,
        excused: bool,
    ) -> Outcome {
        if is_of_disk(error) {
            if (self.disk_is_well)() {
                self.violated(operation, format!("the disk is well, and SQLite says: {error}"));
            }
            return Outcome::DiskFailed(error.to_string());
        }
        if excused {
            return Outcome::Blocked;
        }
        let code = error.sqlite_error().map(|error| error.extended_code);
        let open = open_transactions(&self.held);
        self.violated(
            operation,
            format!(
                "an error that the application would not have had alone: {error} (code {code:?}; \
                 {open})"
            ),
        )
    }

    pub(super) fn violated(&mut self, operation: Operation, what: String) -> Outcome {
        if self.violations.len() < KEPT {
            let (till, number, time) = (self.name.clone(), self.number, self.begun.elapsed());
            self.violations.push(Violation { till, operation, number, time, what });
        }
        Outcome::Violated
    }
}

/// One transaction, of which the history learns.
pub(super) fn write(
    connection: &Connection,
    witness: &Witness,
    history: &mut History,
    work: impl FnOnce() -> Done,
) -> rusqlite::Result<Outcome> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    match work() {
        Ok(End::Commit) => commit(connection, witness, history),
        Ok(End::RollBack) => {
            connection.execute_batch("ROLLBACK")?;
            Ok(Outcome::RolledBack)
        }
        Err(error) => {
            give_up(connection, witness);
            Err(error)
        }
    }
}

/// Commits what is open. If the disk fails meanwhile, nobody knows whether it is committed.
pub(super) fn commit(
    connection: &Connection,
    witness: &Witness,
    history: &mut History,
) -> rusqlite::Result<Outcome> {
    if let Err(error) = history.prepare(connection, witness) {
        give_up(connection, witness);
        return Err(error);
    }
    match connection.execute_batch("COMMIT") {
        Ok(()) => Ok(Outcome::Committed(history.committed().0)),
        Err(error) => {
            if !is_of_disk(&error) {
                history.abandoned();
            }
            give_up(connection, witness);
            Err(error)
        }
    }
}

pub(super) fn give_up(connection: &Connection, witness: &Witness) {
    witness.statement_failed();
    // Some errors roll back by themselves. A disk that fails now as well failed before.
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

fn work(operation: Operation) -> fn(&mut Hand<'_>) -> Done {
    match operation {
        Operation::Edit => trade::edit,
        Operation::Delete => trade::delete,
        Operation::InsertOrReplace => replace::insert,
        Operation::UpdateOrReplace => replace::update,
        Operation::ChangeKey => trade::change_key,
        Operation::Swap => trade::swap,
        Operation::Cascade => trade::cascade,
        Operation::Reinsert => trade::reinsert,
        Operation::OddValues => odd::write,
        Operation::RollBack => trade::roll_back,
        Operation::Savepoint => trade::savepoint,
        Operation::Refused => trade::refused,
        Operation::NoOp => trade::no_op,
        Operation::BulkImport => bulk::import,
        Operation::BulkDelete => bulk::delete,
        Operation::Purge => trade::purge,
        Operation::AddColumn => upgrade::add_column,
        Operation::DropColumn => upgrade::drop_column,
        Operation::RenameColumn => upgrade::rename_column,
        Operation::CreateTable => upgrade::create_table,
        Operation::DropTable => upgrade::drop_table,
        Operation::CreateIndex => upgrade::create_index,
        Operation::DropIndex => upgrade::drop_index,
        Operation::Rebuild => upgrade::rebuild,
        Operation::Sale
        | Operation::Vacuum
        | Operation::Checkpoint
        | Operation::Read
        | Operation::Think
        | Operation::Hold
        | Operation::Restart => trade::sell,
    }
}

fn primary_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code & 0xff)
}

/// Whether waiting might help.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code != ffi::SQLITE_BUSY_SNAPSHOT)
        && primary_code(error) == Some(ffi::SQLITE_BUSY)
}

pub(super) fn is_of_disk(error: &rusqlite::Error) -> bool {
    let codes = [
        ffi::SQLITE_IOERR,
        ffi::SQLITE_FULL,
        ffi::SQLITE_CANTOPEN,
        ffi::SQLITE_CORRUPT,
        ffi::SQLITE_NOTADB,
        ffi::SQLITE_READONLY,
        ffi::SQLITE_PROTOCOL,
    ];
    primary_code(error).is_some_and(|code| codes.contains(&code))
}
