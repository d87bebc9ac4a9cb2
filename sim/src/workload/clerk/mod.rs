//! An application at a database that several sites write. It works on its own site's file, tells the
//! [`Ledger`] what it did, and complains of what it would not have met alone.
//!
//! Like a [`super::Till`] it never waits, and is called at an instant, also between two steps of
//! the node.

mod few;
mod schema;
mod task;
mod work;

pub use schema::{RULES, SHAPES, TABLES, UPGRADES};
pub use task::Task;

use super::till::{is_busy, is_of_disk};
use crate::oracle::Ledger;
use crate::oracle::ledger::Deed;
use crate::random::Random;
use crate::world::World;
use crate::world::application::Application;
use rusqlite::{Connection, OptionalExtension, ffi};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use work::Desk;

/// How long the application waits for a lock before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Complaints of which nobody took note.
const KEPT: usize = 20;

/// A transaction of which nobody knows whether it is committed.
#[derive(Debug)]
struct Uncertain {
    attempt: u64,
    deeds: Vec<Deed>,
    at: Duration,
}

/// What must not be.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// The invariant, by its letter in FAULTS.md.
    pub check: &'static str,
    /// What is wrong.
    pub what: String,
}

const ALONE: &str = "G: the application sees no error that it would not have alone";
const CAUSAL: &str = "B: who sees an effect sees its cause";

/// How a transaction ended.
enum End {
    Committed,
    /// It was not committed, and had this error.
    Failed(rusqlite::Error),
}

/// See the module.
pub struct Clerk {
    /// The name of its site.
    site: String,
    place: usize,
    main: Application,
    office: Application,
    ledger: Arc<Mutex<Ledger>>,
    random: Random,
    begun: Instant,
    attempt: u64,
    /// The attempt that was committed last, and how many there were.
    done: u64,
    commits: u64,
    uncertain: Option<Uncertain>,
    /// What was not there after a failure: a recovery may find it yet, until the next commit.
    ghost: Option<Uncertain>,
    /// The office reads, and so much had been committed when it began.
    thinks: Option<u64>,
    waiting: Option<(Task, Instant)>,
    complaints: Vec<Complaint>,
    /// Transactions in which REPLACE removed a row.
    replaced: u64,
    disk_is_well: Box<dyn Fn() -> bool + Send>,
}

impl fmt::Debug for Clerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clerk").field("site", &self.site).finish_non_exhaustive()
    }
}

impl Clerk {
    /// A clerk at a site's file, which the first makes.
    pub fn open(
        world: &World,
        (site, place): (&str, usize),
        file: &str,
        ledger: Arc<Mutex<Ledger>>,
    ) -> Self {
        let [main, office] = [0; 2].map(|_| world.application(site, file));
        Self {
            site: site.to_owned(),
            place,
            main,
            office,
            ledger,
            random: world.random(&format!("clerk {site}")),
            begun: Instant::now() - world.figures().time,
            attempt: 0,
            done: 0,
            commits: 0,
            uncertain: None,
            ghost: None,
            thinks: None,
            waiting: None,
            complaints: Vec::new(),
            replaced: 0,
            disk_is_well: Box::new(|| true),
        }
    }

    /// Makes the database, with some rows.
    ///
    /// # Panics
    /// It can't be made.
    pub fn found(&mut self) {
        let made = run(&self.main, |connection| {
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            connection.execute_batch(schema::SCHEMA)
        });
        made.unwrap();
        self.transact(|desk| desk.stock()).unwrap();
    }

    /// How it learns whether its disk is well.
    pub fn ask_disk(&mut self, is_well: impl Fn() -> bool + Send + 'static) {
        self.disk_is_well = Box::new(is_well);
    }

    /// What it met that it would not have met alone.
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// The number of its last transaction, as the table of tills has it.
    pub fn latest(&self) -> u64 {
        self.done
    }

    /// How often REPLACE removed a row.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// How many transactions it committed.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Does what comes next.
    pub fn act(&mut self) {
        if self.uncertain.is_some() && !self.recover() {
            return;
        }
        if self.thinks.is_some() && self.random.happens(5000) {
            return self.finish_thinking();
        }
        let (task, since) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => (Task::choose(&mut self.random), Instant::now()),
        };
        if task == Task::Think {
            return self.begin_thinking();
        }
        match self.transact(|desk| desk.work(task)) {
            Ok(()) => {}
            Err(error) if is_busy(&error) && since.elapsed() < PATIENCE => {
                self.waiting = Some((task, since));
            }
            Err(error) => self.failed(&format!("{task:?}"), &error),
        }
    }

    /// Does this now; whether it is committed.
    pub fn perform(&mut self, task: Task) -> bool {
        self.try_now(&format!("{task:?}"), |desk| desk.work(task))
    }

    /// Does what another site does at the same instant; whether it is committed.
    pub fn duel(&mut self, choice: u64) -> bool {
        self.try_now("a duel", |desk| desk.duel(choice))
    }

    fn try_now(
        &mut self,
        at: &str,
        work: impl FnOnce(&mut Desk<'_>) -> rusqlite::Result<()>,
    ) -> bool {
        if self.uncertain.is_some() && !self.recover() {
            return false;
        }
        match self.transact(work) {
            Ok(()) => return true,
            Err(error) if is_busy(&error) => {}
            Err(error) => self.failed(at, &error),
        }
        false
    }

    /// Takes the write lock and keeps it; whether it has it.
    pub fn hold_lock(&mut self) -> bool {
        if self.uncertain.is_some() && !self.recover() {
            return false;
        }
        run(&self.main, |connection| connection.execute_batch("BEGIN IMMEDIATE")).is_ok()
    }

    /// Writes under the lock and lets go of it; whether it had it.
    pub fn let_go(&mut self) -> bool {
        let random = Random::new(self.random.draw(), "held");
        let main = self.main.clone();
        let ended = run(&main, |connection| {
            if connection.is_autocommit() {
                return Ok(false);
            }
            match self.conclude(connection, random, |desk| desk.work(Task::Sell)) {
                End::Committed => Ok(true),
                End::Failed(error) => Err(error),
            }
        });
        ended.unwrap_or_else(|error| {
            self.failed("letting go of a lock", &error);
            false
        })
    }

    /// Begins to read, to write later in the same transaction; whether it does.
    pub fn think(&mut self) -> bool {
        self.begin_thinking();
        self.thinks.is_some()
    }

    /// Writes then; whether there was anything to end.
    pub fn conclude_thinking(&mut self) -> bool {
        let thought = self.thinks.is_some();
        self.finish_thinking();
        thought
    }

    /// The whole log goes into the database.
    pub fn checkpoint(&mut self) {
        // Whoever reads may keep it from that.
        let _ = run(&self.main, |connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        });
    }

    /// Its next version moves the schema, if there is one up to `most`; which it is at then, and
    /// none where the file is in use.
    pub fn upgrade(&mut self, most: usize) -> Option<usize> {
        self.quit();
        let upgraded = run(&self.main, |connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let moved = version(connection).and_then(|at| match UPGRADES[..most].get(at) {
                None => Ok(at),
                Some(sql) => {
                    connection.execute_batch(sql)?;
                    connection.pragma_update(None, "user_version", at as i64 + 1)?;
                    Ok(at + 1)
                }
            });
            let ended = moved.and_then(|at| connection.execute_batch("COMMIT").map(|()| at));
            ended.inspect_err(|_| roll_back(connection))
        });
        match upgraded {
            Ok(at) => Some(at),
            Err(error) if is_busy(&error) => None,
            Err(error) => {
                self.failed("an upgrade", &error);
                None
            }
        }
    }

    /// Which version of the application the file is of.
    pub fn version(&mut self) -> Option<usize> {
        run(&self.main, version).ok()
    }

    /// Its programs end; the next act begins them anew.
    pub fn quit(&mut self) {
        self.main.quit();
        self.office.quit();
        self.thinks = None;
        self.waiting = None;
    }

    /// Somebody looks at its database after a loss of power: it holds what was committed.
    ///
    /// # Errors
    /// SQLite's outside; inside, that something is gone.
    pub fn look_after_crash(
        &mut self,
        connection: &Connection,
    ) -> rusqlite::Result<Result<(), String>> {
        self.waiting = None;
        let found = done(connection, &self.site)?;
        Ok(self.found_after_crash(found))
    }

    fn transact(
        &mut self,
        work: impl FnOnce(&mut Desk<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let random = Random::new(self.random.draw(), "task");
        let main = self.main.clone();
        run(&main, |connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            match self.conclude(connection, random, work) {
                End::Committed => Ok(()),
                End::Failed(error) => Err(error),
            }
        })
    }

    /// Works in the transaction that is open, and commits it.
    fn conclude(
        &mut self,
        connection: &Connection,
        random: Random,
        work: impl FnOnce(&mut Desk<'_>) -> rusqlite::Result<()>,
    ) -> End {
        self.attempt += 1;
        let (site, attempt, at) = (self.site.clone(), self.attempt, self.begun.elapsed());
        let mut desk = Desk::new(connection, random, &site, attempt);
        match Desk::without_cause(connection) {
            Ok(Some(what)) => self.complain(CAUSAL, what),
            Ok(None) => {}
            Err(error) => {
                roll_back(connection);
                return End::Failed(error);
            }
        }
        let found = done(connection, &site);
        if let Ok(found) = found
            && found != self.done
            && !self.was_ghost(found)
        {
            let what = format!("its own last transaction was {}, and it finds {found}", self.done);
            self.complain(ALONE, what);
            self.done = found;
        }
        let worked = work(&mut desk).and_then(|()| desk.sign());
        if let Err(error) = worked {
            roll_back(connection);
            return End::Failed(error);
        }
        let replaced = desk.replaced;
        self.uncertain = Some(Uncertain { attempt, deeds: desk.deeds, at });
        match connection.execute_batch("COMMIT") {
            Ok(()) => {
                self.replaced += u64::from(replaced);
                self.committed();
                End::Committed
            }
            Err(error) => {
                if !is_of_disk(&error) {
                    self.uncertain = None;
                }
                roll_back(connection);
                End::Failed(error)
            }
        }
    }

    /// Whether that is what was not there at first.
    fn was_ghost(&mut self, found: u64) -> bool {
        if self.ghost.as_ref().is_none_or(|ghost| ghost.attempt != found) {
            return false;
        }
        self.uncertain = self.ghost.take();
        self.committed();
        true
    }

    fn committed(&mut self) {
        self.ghost = None;
        if let Some(Uncertain { attempt, deeds, at }) = self.uncertain.take() {
            self.done = attempt;
            self.commits += 1;
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.write(self.place, at, deeds);
        }
    }

    /// Whether it knows again what is committed.
    fn recover(&mut self) -> bool {
        self.quit();
        let site = self.site.clone();
        match run(&self.main, |connection| done(connection, &site)) {
            Ok(found) => {
                if let Err(what) = self.found_after_crash(found) {
                    self.complain(ALONE, what);
                }
                true
            }
            Err(error) => {
                self.failed("looking after a failure of the disk", &error);
                false
            }
        }
    }

    fn found_after_crash(&mut self, found: u64) -> Result<(), String> {
        match self.uncertain.as_ref().map(|uncertain| uncertain.attempt) {
            Some(attempt) if attempt == found => {
                self.committed();
                Ok(())
            }
            _ if found == self.done => {
                self.ghost = self.uncertain.take().or(self.ghost.take());
                Ok(())
            }
            _ if self.was_ghost(found) => Ok(()),
            _ => Err(format!(
                "its database knows of transaction {found} as its last, and {} was committed",
                self.done
            )),
        }
    }

    fn begin_thinking(&mut self) {
        if self.thinks.is_some() {
            return;
        }
        let begun = run(&self.office, |connection| {
            connection.execute_batch("BEGIN")?;
            let read = connection.query_row("SELECT count(*) FROM stock", [], |_| Ok(()));
            read.inspect_err(|_| roll_back(connection))
        });
        match begun {
            Ok(()) => self.thinks = Some(self.commits),
            Err(error) => self.failed("a reader", &error),
        }
    }

    /// This must succeed, unless another program of its own has written since.
    fn finish_thinking(&mut self) {
        let Some(since) = self.thinks.take() else { return };
        let excused = since != self.commits;
        let random = Random::new(self.random.draw(), "thought");
        let office = self.office.clone();
        let ended = run(&office, |connection| {
            // It may have ended with the power.
            if excused || connection.is_autocommit() {
                roll_back(connection);
                return Ok(());
            }
            match self.conclude(connection, random, |desk| desk.work(Task::Think)) {
                End::Committed => Ok(()),
                End::Failed(error) => Err(error),
            }
        });
        if let Err(error) = ended {
            self.failed("a program that read, thought and wrote", &error);
        }
    }

    fn failed(&mut self, at: &str, error: &rusqlite::Error) {
        if is_of_disk(error) {
            if (self.disk_is_well)() {
                self.complain(
                    ALONE,
                    format!("at {at}: the disk is well, and SQLite says: {error}"),
                );
            }
            self.quit();
            return;
        }
        let code = error.sqlite_error().map(|error: &ffi::Error| error.extended_code);
        let what = format!("at {at}: {error} (code {code:?})");
        self.complain(ALONE, what);
    }

    fn complain(&mut self, check: &'static str, what: String) {
        if self.complaints.len() < KEPT {
            let (attempt, time) = (self.attempt, self.begun.elapsed());
            let what = format!("attempt {attempt}, {time:?}: {what}");
            self.complaints.push(Complaint { check, what });
        }
    }
}

/// Works on a program's connection.
fn run<T>(
    program: &Application,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    program.try_run(|connection| {
        let set: bool = connection.query_row("PRAGMA foreign_keys", [], |row| row.get(0))?;
        if !set {
            connection.set_prepared_statement_cache_capacity(128);
            connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = EXTRA")?;
        }
        work(connection)
    })?
}

fn roll_back(connection: &Connection) {
    // Some errors roll back by themselves. A disk that fails now failed before as well.
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// The last transaction of a site that a database knows of.
fn done(connection: &Connection, site: &str) -> rusqlite::Result<u64> {
    let done: Option<i64> = connection
        .query_row("SELECT done FROM till WHERE name = ?1", [site], |row| row.get(0))
        .optional()?;
    Ok(done.unwrap_or(0).unsigned_abs())
}

/// How many upgrades a file has seen.
fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(0))
}
