//! What a till keeps open over time: a reader, a program that thinks between reading and writing,
//! and the write lock (F43).

use super::operation::Operation;
use super::program::Journal;
use super::till::{Outcome, Till, commit, give_up, is_busy};
use crate::oracle::{ContentHash, content};
use crate::random::Random;

/// What is open.
#[derive(Debug, Default)]
pub struct Held {
    /// The reader began when the database held this.
    reading: Option<ContentHash>,
    office: Office,
}

#[derive(Debug, Default)]
enum Office {
    #[default]
    Idle,
    /// It has read, when that was the latest commit.
    Thinks(u64),
    /// It has written.
    HoldsLock,
}

impl Held {
    pub fn holds_lock(&self) -> bool {
        matches!(self.office, Office::HoldsLock)
    }

    pub fn is_reading(&self) -> bool {
        self.reading.is_some() || matches!(self.office, Office::Thinks(_))
    }

    /// What is open is ended before long, and half the time before anything else is done: so a
    /// program that thinks is mostly alone with the node.
    pub fn chosen(&self, random: &mut Random) -> Option<Operation> {
        let operation = match self.office {
            Office::Idle => return None,
            Office::Thinks(_) => Operation::Think,
            Office::HoldsLock => Operation::Hold,
        };
        random.happens(5000).then_some(operation)
    }

    /// Programs that ended hold nothing.
    pub fn forget(&mut self, office_is_open: bool, reader_is_open: bool) {
        if !office_is_open {
            self.office = Office::Idle;
        }
        if !reader_is_open {
            self.reading = None;
        }
    }
}

/// What is open, in words.
pub fn open_transactions(held: &Held) -> String {
    format!("the till's own: {held:?}")
}

impl Till {
    /// A reader begins, if there is none, or ends.
    pub(super) fn read(&mut self) -> Outcome {
        if self.held.reading.is_some() { self.end_reading() } else { self.begin_reading() }
    }

    /// The reader begins a transaction, reads, and keeps it open.
    pub fn begin_reading(&mut self) -> Outcome {
        if self.held.reading.is_some() {
            return Outcome::Nothing;
        }
        let begun = self.reader.run(|connection, _| {
            connection.execute_batch("BEGIN")?;
            let read = connection.query_row("SELECT count(*) FROM products", [], |_| Ok(()));
            read.inspect_err(|_| drop(connection.execute_batch("ROLLBACK")))
        });
        match begun {
            Ok(()) => {
                self.held.reading = Some(self.history.latest().1.hash());
                Outcome::Nothing
            }
            Err(error) => self.failed(Operation::Read, &error, self.held.holds_lock()),
        }
    }

    /// The reader reads all, which is to be what it was at the beginning, and ends.
    pub fn end_reading(&mut self) -> Outcome {
        let Some(begun) = self.held.reading.take() else { return Outcome::Nothing };
        let read = self.reader.run(|connection, _| {
            let content = content::read(connection);
            let ended = connection.execute_batch("COMMIT");
            content.and_then(|content| ended.map(|()| content.hash()))
        });
        match read {
            Ok(hash) if hash == begun => Outcome::Nothing,
            Ok(hash) => self.violated(
                Operation::Read,
                format!("a reader's snapshot moved under it: from {begun} to {hash}"),
            ),
            Err(error) => self.failed(Operation::Read, &error, false),
        }
    }

    /// A program begins to think, if none does, or writes what it thought.
    pub(super) fn think(&mut self) -> Outcome {
        match self.held.office {
            Office::Idle => self.begin_thinking(),
            Office::Thinks(_) => self.finish_thinking(),
            Office::HoldsLock => Outcome::Blocked,
        }
    }

    /// The office begins a transaction, reads, and keeps it open.
    pub fn begin_thinking(&mut self) -> Outcome {
        if !matches!(self.held.office, Office::Idle) {
            return Outcome::Blocked;
        }
        let begun = self.office.run(|connection, _| {
            connection.execute_batch("BEGIN")?;
            let read = connection.query_row("SELECT max(cents) FROM products", [], |_| Ok(()));
            read.inspect_err(|_| drop(connection.execute_batch("ROLLBACK")))
        });
        match begun {
            Ok(()) => {
                self.held.office = Office::Thinks(self.history.latest().0);
                Outcome::Nothing
            }
            Err(error) => self.failed(Operation::Think, &error, false),
        }
    }

    /// The office writes in the transaction in which it has read. This must succeed unless
    /// another program of this till has written since.
    pub fn finish_thinking(&mut self) -> Outcome {
        let Office::Thinks(since) = self.held.office else { return Outcome::Nothing };
        let excused = self.history.latest().0 != since;
        if self.history.is_uncertain() {
            return Outcome::Blocked;
        }
        self.held.office = Office::Idle;
        let Self { office, history, .. } = self;
        let done = office.run(|connection, witness| {
            let sql = "UPDATE products SET cents = cents + 1, name = 'thought over' \
                       WHERE id IN (SELECT id FROM products ORDER BY cents DESC LIMIT 2)";
            match connection.execute(sql, []) {
                Ok(_) => commit(connection, witness, history),
                Err(error) => {
                    give_up(connection, witness);
                    Err(error)
                }
            }
        });
        done.unwrap_or_else(|error| {
            let excused = excused || self.would_wait(&error);
            self.failed(Operation::Think, &error, excused)
        })
    }

    /// Takes the write lock, or lets it go.
    pub(super) fn hold(&mut self, seed: u64) -> Outcome {
        match self.held.office {
            Office::Idle => self.hold_lock(),
            Office::Thinks(_) => self.finish_thinking(),
            Office::HoldsLock => self.let_go(!seed.is_multiple_of(4)),
        }
    }

    /// The office begins a transaction, writes, and keeps it open until [`Till::let_go`] (F43).
    pub fn hold_lock(&mut self) -> Outcome {
        if !matches!(self.held.office, Office::Idle) || self.history.is_uncertain() {
            return Outcome::Blocked;
        }
        let held = self.office.run(|connection, witness| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let sql = "UPDATE products SET cents = cents + 1, name = 'counted' WHERE id % 2 = 0";
            connection.execute_batch(sql).inspect_err(|_| give_up(connection, witness))
        });
        match held {
            Ok(()) => {
                self.held.office = Office::HoldsLock;
                Outcome::Nothing
            }
            Err(error) => self.failed(Operation::Hold, &error, false),
        }
    }

    /// The office commits what it wrote, or rolls it back.
    pub fn let_go(&mut self, keep: bool) -> Outcome {
        if !self.held.holds_lock() {
            return Outcome::Nothing;
        }
        if self.journal() == Journal::Delete {
            let _ = self.end_reading();
        }
        self.held.office = Office::Idle;
        let Self { office, history, .. } = self;
        let done = office.run(|connection, witness| {
            if keep {
                return commit(connection, witness, history);
            }
            connection.execute_batch("ROLLBACK")?;
            Ok(Outcome::RolledBack)
        });
        done.unwrap_or_else(|error| {
            let excused = self.would_wait(&error);
            self.failed(Operation::Hold, &error, excused)
        })
    }

    /// With a rollback journal a reader keeps a commit waiting, for milliseconds: no error to an
    /// application that waits, and this one gives up instead.
    fn would_wait(&self, error: &rusqlite::Error) -> bool {
        self.journal() == Journal::Delete && is_busy(error)
    }

    /// Whether a program of this till holds the write lock.
    pub fn holds_lock(&self) -> bool {
        self.held.holds_lock()
    }

    /// Whatever reads ends; what it met stands among the violations.
    pub(super) fn end_readers(&mut self) {
        let _ = self.end_reading();
        let _ = self.finish_thinking();
    }
}
