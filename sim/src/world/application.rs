//! An application beside a node: a program with a connection of its own, which knows nothing of
//! the node. It dies with its computer's power and opens its file anew afterwards.

use crate::disk::Process;
use crate::world::computer::Computer;
use rusqlite::{Connection, ffi};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An application. Clones are the same program.
#[derive(Clone, Debug)]
pub struct Application {
    computer: Arc<Computer>,
    program: Arc<Program>,
}

/// What its computer knows of it.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    process: Arc<Process>,
}

impl Application {
    pub(crate) fn start(computer: &Arc<Computer>, path: PathBuf) -> Self {
        let program = Arc::new(Program { path, open: Mutex::new(None) });
        computer.adopt(&program);
        Self { computer: Arc::clone(computer), program }
    }

    /// Where its database lies.
    pub fn path(&self) -> &Path {
        &self.program.path
    }

    /// Does something on the application's connection, which may leave a transaction open. The
    /// power may go meanwhile: SQLite then reports an error to `work`, as it may for a full or
    /// broken disk.
    ///
    /// # Panics
    /// The power is off, or the database can't be opened ([`Application::try_run`]).
    pub fn run<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> T {
        assert!(self.computer.is_on(), "no program runs while the power is off");
        self.try_run(work).unwrap()
    }

    /// The same, for when the database may not open.
    ///
    /// # Errors
    /// The power is off, or SQLite can't open the database. `work` was not done then.
    pub fn try_run<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> rusqlite::Result<T> {
        let mut open = self.program.open.lock().unwrap();
        let open = match open.take() {
            Some(alive) if alive.process.is_alive() => open.insert(alive),
            // What is left of a process whose power went.
            dead => {
                drop(dead);
                open.insert(self.open()?)
            }
        };
        let _here = self.computer.here_for_sqlite(&open.process);
        Ok(work(&mut open.connection))
    }

    fn open(&self) -> rusqlite::Result<Open> {
        if !self.computer.is_on() {
            let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            let why = "no program runs while the power is off".to_owned();
            return Err(rusqlite::Error::SqliteFailure(code, Some(why)));
        }
        let process = self.computer.disk.process();
        let _here = self.computer.here_for_sqlite(&process);
        let connection = Connection::open(&self.program.path)?;
        // There is one thread: whom it would wait for could not go on.
        connection.busy_timeout(Duration::ZERO)?;
        // What it says again and again is parsed once; rusqlite keeps 16 statements by itself.
        connection.set_prepared_statement_cache_capacity(128);
        Ok(Open { connection, process })
    }

    /// Closes the connection, as a program that ends; the next run opens it anew.
    pub fn quit(&self) {
        self.program.end(&self.computer);
    }

    /// Ends it as `kill -9` does: what it wrote stays, and nothing is closed or rolled back by it.
    pub fn kill(&self) {
        let open = self.program.open.lock().unwrap().take();
        if let Some(Open { connection, process }) = open {
            self.computer.disk.kill(&process);
            drop(connection);
        }
    }
}

impl Program {
    pub(crate) fn end(&self, computer: &Computer) {
        let open = self.open.lock().unwrap().take();
        if let Some(Open { connection, process }) = open {
            let _here = computer.here_for_sqlite(&process);
            drop(connection);
        }
    }
}
