//! Applications: programs that know nothing of the node and open a database with the SQLite that
//! they brought along.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Opens a database as an application does: in WAL mode, waiting for locks.
///
/// # Panics
/// SQLite refuses.
pub fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON").unwrap();
    connection
}

/// Runs SQL on a database in a connection of its own.
///
/// # Panics
/// SQLite refuses.
pub fn execute(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// The one integer that a query gives.
///
/// # Panics
/// It gives none.
pub fn number(path: &Path, sql: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Runs SQL in the `sqlite3` program, and gives what it prints.
///
/// # Panics
/// It ends with an error.
pub fn sqlite3(path: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3")
        .args(["-bail", "-cmd", ".timeout 10000"])
        .arg(path)
        .arg(sql)
        .output()
        .unwrap();
    text("sqlite3", &output)
}

/// Runs a Python program to its end, and gives what it prints.
///
/// # Panics
/// It ends with an error.
pub fn python(program: &str, arguments: &[&Path]) -> String {
    let output = Command::new("python3").arg("-c").arg(program).args(arguments).output().unwrap();
    text("python3", &output)
}

fn text(program: &str, output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A till in Python that sells steadily, a transaction each: one row with the next number, and a
/// running total. It stops at an error.
#[derive(Debug)]
pub struct Till {
    process: Option<Child>,
    stop: PathBuf,
}

/// The tables of a [`Till`].
pub const TILL: &str =
    "CREATE TABLE sales (id INTEGER PRIMARY KEY, number INTEGER NOT NULL UNIQUE, what TEXT);
    CREATE TABLE total (one INTEGER PRIMARY KEY, sales INTEGER NOT NULL);
    INSERT INTO total VALUES (1, 0);";

const TILL_PROGRAM: &str = r#"
import os, sqlite3, sys, time
path, stop, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
db = sqlite3.connect(path, timeout=10, isolation_level=None)
done = 0
while not os.path.exists(stop):
    db.execute("BEGIN IMMEDIATE")
    number = db.execute("SELECT sales FROM total").fetchone()[0] + 1
    db.execute("INSERT INTO sales (number, what) VALUES (?, ?)", (number, "sale %d" % number))
    db.execute("UPDATE total SET sales = ?", (number,))
    db.execute("COMMIT")
    done += 1
    time.sleep(pause)
print(done)
"#;

impl Till {
    /// Sells on a database with the tables [`TILL`], resting `pause` between two sales.
    ///
    /// # Panics
    /// There is no Python.
    pub fn open(path: &Path, pause: Duration) -> Self {
        Self::of(TILL_PROGRAM, path, &[&pause.as_secs_f64().to_string()])
    }

    /// Runs another program in Python in its place. Its arguments are the path, that of a file
    /// which is there from closing time on, and `arguments`; it prints the number of its sales.
    ///
    /// # Panics
    /// There is no Python.
    pub fn of(program: &str, path: &Path, arguments: &[&str]) -> Self {
        let mut stop = path.to_owned();
        stop.add_extension("closing-time");
        let process = Command::new("python3")
            .arg("-c")
            .arg(program)
            .args([path, &stop])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process: Some(process), stop }
    }

    /// Ends the day; gives the number of sales.
    ///
    /// # Panics
    /// The till saw an error.
    pub fn close(mut self) -> i64 {
        std::fs::write(&self.stop, "").unwrap();
        let output = self.process.take().unwrap().wait_with_output().unwrap();
        let sales = text("the till", &output).parse().unwrap();
        std::fs::remove_file(&self.stop).unwrap();
        sales
    }
}

impl Drop for Till {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Only after a failure, of which it may be the cause.
            drop(process.kill());
            if let Ok(output) = process.wait_with_output() {
                eprintln!("--- the till\n{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
}

/// That the sales of a [`Till`] are all there, each once.
///
/// # Panics
/// They are not.
pub fn check_sales(path: &Path, sales: i64) {
    for query in
        ["SELECT count(*) FROM sales", "SELECT max(number) FROM sales", "SELECT sales FROM total"]
    {
        assert_eq!(number(path, query), sales, "{query} in {}", path.display());
    }
}
