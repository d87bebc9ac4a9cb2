//! What befalls a till's database from outside: power cuts, disks that fail, files that people put in
//! its place. The history learns of it.

use super::operation::Operation;
use super::program::Journal;
use super::till::{Outcome, Till};
use crate::oracle::{Found, Loss, Undone};
use rusqlite::Connection;

impl Till {
    /// Whether a power cut may take back its last commits.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// From now on a power cut may take them back, or no longer. The second may be said only when
    /// all is durable. A rollback journal promises nothing at NORMAL: with one all stays as it is.
    pub fn set_loss(&mut self, loss: Loss) {
        if self.journal() == Journal::Wal {
            self.loss = loss;
            self.quit();
            for program in [&mut self.main, &mut self.office, &mut self.reader] {
                program.set_loss(loss);
            }
        }
    }

    /// People put another file in the place of its database: this is what it holds now.
    ///
    /// # Errors
    /// SQLite's.
    pub fn read_anew(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.quit();
        self.history.read_anew(connection).map(drop)
    }

    /// A clone of its database holds this.
    ///
    /// # Errors
    /// SQLite's.
    pub fn also_had(&mut self, clone: &Connection) -> rusqlite::Result<()> {
        self.history.also_had(clone)
    }

    /// After a power cut, and after the disk failed: reads all anew, and tells whether that is
    /// what the application was promised. To be called before anybody judges a mirror.
    pub fn recover(&mut self, loss: Loss) -> Outcome {
        self.quit();
        let Self { main, history, .. } = self;
        match main.run(|connection, _| history.after_crash(connection, loss)) {
            Ok(Ok(found)) => Outcome::Recovered(found),
            Ok(Err(undone)) => self.violated(Operation::Restart, undone.0),
            Err(error) => self.failed(Operation::Restart, &error, false),
        }
    }

    /// The same by somebody else's look at the database: the programs have ended with the power.
    ///
    /// # Errors
    /// SQLite's, outside; inside, that the content is not what was promised.
    pub fn look_after_crash(
        &mut self,
        connection: &Connection,
        loss: Loss,
    ) -> rusqlite::Result<Result<Found, Undone>> {
        self.forget_ended();
        self.history.after_crash(connection, loss)
    }
}
