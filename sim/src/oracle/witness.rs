//! What SQLite's update hook saw of one connection since it was last asked. The hook is blind to
//! rows that REPLACE removes, to tables WITHOUT ROWID, and to `DELETE FROM t` without triggers;
//! the two last show as a difference to SQLite's own count of changes, the first in a table's
//! count of rows ([`super::History`] looks).

use super::content::counts;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The witness of one connection at a time. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    rows: BTreeMap<String, Vec<i64>>,
    /// How often the hook was called.
    calls: u64,
    /// What SQLite's count of changes was when the witness was last asked.
    changes: u64,
    /// A statement failed: then calls and changes need not match.
    failed: bool,
}

/// What was touched, perhaps in vain.
#[derive(Debug)]
pub(super) struct Touched {
    /// Rows by table.
    pub rows: BTreeMap<String, Vec<i64>>,
    /// Whether every change was seen but those that REPLACE made.
    pub whole: bool,
}

impl Witness {
    /// Begins to watch a connection, until that is closed.
    ///
    /// # Errors
    /// SQLite's.
    pub fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        *self.0.lock().unwrap() = Noted { changes: connection.total_changes(), ..Noted::default() };
        let noted = Arc::clone(&self.0);
        connection.update_hook(Some(move |_, database: &str, table: &str, rowid| {
            let mut noted = noted.lock().unwrap();
            noted.calls += 1;
            if database == "main" && counts(table) {
                match noted.rows.get_mut(table) {
                    Some(rows) => rows.push(rowid),
                    None => drop(noted.rows.insert(table.to_owned(), vec![rowid])),
                }
            }
        }))
    }

    /// Whether it watches a connection that is open.
    pub fn is_watching(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// A statement ended with an error.
    pub fn statement_failed(&self) {
        self.0.lock().unwrap().failed = true;
    }

    /// What was touched since the last call.
    pub(super) fn take(&self, connection: &Connection) -> Touched {
        let mut noted = self.0.lock().unwrap();
        let changes = connection.total_changes();
        let whole = !noted.failed && changes.wrapping_sub(noted.changes) == noted.calls;
        let rows = std::mem::take(&mut noted.rows);
        *noted = Noted { changes, ..Noted::default() };
        Touched { rows, whole }
    }
}
