//! An application beside a node: a program with a connection of its own, which knows nothing of
//! the node. It ends with its computer's power and opens its file anew afterwards.

use crate::computer::Computer;
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
    connection: Mutex<Option<Connection>>,
}

impl Application {
    pub(crate) fn start(computer: &Arc<Computer>, path: PathBuf) -> Self {
        let program = Arc::new(Program { path, connection: Mutex::new(None) });
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
        let done = {
            let mut connection = self.program.connection.lock().unwrap();
            let connection = connection.get_or_insert_with(|| {
                let connection = Connection::open(&self.program.path).unwrap();
                // There is one thread: whom it would wait for could not go on meanwhile.
                connection.busy_timeout(Duration::ZERO).unwrap();
                connection
            });
            let _here = self.computer.here_for_sqlite();
            work(connection)
        };
        self.computer.notices().tell(&self.program.path);
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
            && match self.connection.try_lock() {
                Ok(held) => held.as_ref().is_some_and(|connection| {
                    !matches!(state(connection), Ok(TransactionState::None))
                }),
                // It is at it this very moment.
                Err(_) => true,
            }
    }

    pub(crate) fn end(&self) {
        drop(self.connection.lock().unwrap().take());
    }
}
