//! What an operation works with: the connection, the dice, and a number that was never used.

use crate::oracle::Witness;
use crate::random::Random;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params};

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    RollBack,
}

/// See the module.
#[derive(Debug)]
pub struct Hand<'a> {
    pub connection: &'a Connection,
    pub witness: &'a Witness,
    pub random: &'a mut Random,
    /// The operation's own number.
    pub number: u64,
    /// The time, in milliseconds of the world.
    pub now: i64,
}

/// What an operation gives.
pub type Done = rusqlite::Result<End>;

impl Hand<'_> {
    pub fn execute(&self, sql: &str, parameters: impl Params) -> rusqlite::Result<usize> {
        let done = self.connection.prepare_cached(sql)?.execute(parameters);
        done.inspect_err(|_| self.witness.statement_failed())
    }

    pub fn number(&self, sql: &str) -> rusqlite::Result<i64> {
        self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
    }

    /// Some value of a column; `None` if the table is empty.
    pub fn pick(&mut self, table: &str, column: &str) -> rusqlite::Result<Option<i64>> {
        let count = self.number(&format!("SELECT count(*) FROM {table}"))?;
        let at = self.random.below(count.unsigned_abs());
        self.connection
            .prepare_cached(&format!(
                "SELECT {column} FROM {table} ORDER BY {column} LIMIT 1 OFFSET ?1"
            ))?
            .query_row([at as i64], |row| row.get(0))
            .optional()
    }

    /// Two different values of a column; the second is `None` if there is but one row.
    pub fn pick_two(&mut self, table: &str) -> rusqlite::Result<Option<(i64, i64)>> {
        let (one, other) = (self.pick(table, "id")?, self.pick(table, "id")?);
        Ok(one.zip(other).filter(|(one, other)| one != other))
    }

    pub fn below(&mut self, bound: u64) -> i64 {
        self.random.below(bound) as i64
    }

    pub fn half(&mut self) -> bool {
        self.random.happens(5000)
    }

    pub fn bytes(&mut self, most: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.random.below(most + 1) as usize];
        self.random.fill(&mut bytes);
        bytes
    }
}

/// Text of any bytes: SQLite takes what is no UTF-8 as well.
#[derive(Debug)]
pub struct Text<'a>(pub &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}
