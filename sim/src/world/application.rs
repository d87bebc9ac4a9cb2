//! An application beside a node: a program with a connection of its own, which knows nothing of
//! the node. It ends with its computer's power and opens its file anew afterwards.

use crate::world::computer::Computer;
use rusqlite::{Connection, TransactionState};
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
    /// What the file had seen of this connection when it was last told of.
    told: Written,
}

/// How much a connection has written: rows, and the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written(u64, i64);

impl Written {
    fn by(connection: &Connection) -> Self {
        let schema = connection.pragma_query_value(None, "schema_version", |row| row.get(0));
        Self(connection.total_changes(), schema.unwrap_or(0))
    }
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

    /// Does something on the application's connection, which may leave a transaction open.
    ///
    /// # Panics
    /// The power is off.
    pub fn run<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> T {
        assert!(self.computer.is_on(), "no program runs while the power is off");
        let mut open = self.program.open.lock().unwrap();
        let Open { connection, told } = open.get_or_insert_with(|| {
            let connection = Connection::open(&self.program.path).unwrap();
            // There is one thread: whom it would wait for could not go on meanwhile.
            connection.busy_timeout(Duration::ZERO).unwrap();
            Open { told: Written::by(&connection), connection }
        });
        let done = {
            let _here = self.computer.here_for_sqlite();
            work(connection)
        };
        // Reading is no change; what is not committed yet is told of with the commit.
        if connection.is_autocommit() {
            let written = Written::by(connection);
            if written != std::mem::replace(told, written) {
                self.computer.notices().tell(&self.program.path);
            }
        }
        done
    }

    /// Closes the connection, as a program that ends; the next [`Application::run`] opens it anew.
    pub fn quit(&self) {
        self.program.end();
    }
}

impl Program {
    /// Whether it reads this file now.
    pub(crate) fn reads(&self, path: &Path) -> bool {
        let state = |connection: &Connection| connection.transaction_state(None::<&str>);
        self.path == path
            && match self.open.try_lock() {
                Ok(open) => open.as_ref().is_some_and(|open| {
                    !matches!(state(&open.connection), Ok(TransactionState::None))
                }),
                // It is at it this very moment.
                Err(_) => true,
            }
    }

    pub(crate) fn end(&self) {
        drop(self.open.lock().unwrap().take());
    }
}
