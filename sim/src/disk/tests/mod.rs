//! What all tests of the disk need: one disk, and programs on it.

mod crash;
mod honest;
mod model;

use super::here::{Guard, Here};
use super::{Disk, Process};
use crate::clock::Clock;
use crate::random::Random;
use rusqlite::{Connection, ErrorCode};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// SQLite's generator belongs to the process.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs something in a world with a disk.
fn with_disk<T>(seed: u64, work: impl FnOnce(&Arc<Disk>) -> T) -> T {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let guard = Guard::enter(Clock::start(), Random::new(seed, "sqlite"));
        let done = work(&Arc::new(Disk::new("box", seed)));
        assert_eq!((guard.panics(), guard.slept()), (0, 0));
        done
    })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("/disk/box/{name}"))
}

/// A program with a connection.
struct Program {
    disk: Arc<Disk>,
    process: Arc<Process>,
    connection: Option<Connection>,
}

impl Program {
    fn start(disk: &Arc<Disk>, name: &str) -> Self {
        Self::try_start(disk, name).unwrap()
    }

    fn try_start(disk: &Arc<Disk>, name: &str) -> rusqlite::Result<Self> {
        let (disk, process) = (Arc::clone(disk), disk.process());
        let connection = {
            let _here = Here::enter(&disk, &process, 0);
            let connection = Connection::open(path(name))?;
            connection.busy_timeout(std::time::Duration::ZERO)?;
            Some(connection)
        };
        Ok(Self { disk, process, connection })
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        let _here = Here::enter(&self.disk, &self.process, 0);
        work(self.connection.as_ref().unwrap())
    }

    fn try_run(&self, sql: &str) -> rusqlite::Result<()> {
        self.with(|connection| connection.execute_batch(sql))
    }

    fn run(&self, sql: &str) {
        self.try_run(sql).unwrap();
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> rusqlite::Result<T> {
        self.with(|connection| connection.query_row(sql, [], |row| row.get(0)))
    }

    fn number(&self, sql: &str) -> i64 {
        self.one(sql).unwrap()
    }

    fn kill(&self) {
        self.disk.kill(&self.process);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _here = Here::enter(&self.disk, &self.process, 0);
        self.connection = None;
    }
}

#[track_caller]
fn assert_code<T: std::fmt::Debug>(result: rusqlite::Result<T>, code: ErrorCode) {
    assert_eq!(result.unwrap_err().sqlite_error_code(), Some(code));
}
