//! One program of a till: a connection, which the oracle's witness watches, and what is set on it
//! whenever it is opened anew.

use crate::oracle::{Loss, Witness};
use crate::world::application::Application;
use rusqlite::Connection;

/// How the application has its database keep its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// `journal_mode=WAL`.
    Wal,
    /// `journal_mode=DELETE`.
    Delete,
}

/// See the module.
#[derive(Debug)]
pub struct Program {
    application: Application,
    witness: Witness,
    loss: Loss,
}

impl Program {
    pub fn new(application: Application) -> Self {
        Self { application, witness: Witness::default(), loss: Loss::Forbidden }
    }

    /// Whether it waits for its disk at every commit, from its next connection on.
    pub fn set_loss(&mut self, loss: Loss) {
        self.loss = loss;
        self.quit();
    }

    /// Does something on its connection, with the witness of it.
    pub fn run<T>(
        &self,
        work: impl FnOnce(&Connection, &Witness) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let fresh = !self.witness.is_watching();
        // The power may have gone a moment ago, with the last thing that it did.
        self.application.try_run(|connection| {
            if fresh {
                connection.set_prepared_statement_cache_capacity(128);
                // With a rollback journal a commit is durable once its folder is synced, which only
                // EXTRA does.
                let synchronous = match self.loss {
                    Loss::Forbidden => "EXTRA",
                    Loss::Allowed => "NORMAL",
                };
                connection.execute_batch(&format!(
                    "PRAGMA foreign_keys = ON; PRAGMA synchronous = {synchronous}"
                ))?;
                self.witness.watch(connection)?;
            }
            work(connection, &self.witness)
        })?
    }

    /// Whether its connection is open.
    pub fn is_open(&self) -> bool {
        self.witness.is_watching()
    }

    /// Ends.
    pub fn quit(&self) {
        self.application.quit();
    }
}
