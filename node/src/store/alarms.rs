//! What a person must know: alarms stand until what raised them is over.

use super::{DatabaseNumber, Store, StoreError};
use conflict::WallTime;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// To be looked at within days.
    Warning,
    /// Data is at risk now.
    Critical,
}

/// An alarm.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Its number.
    pub id: i64,
    /// What it is about, for the program: one alarm a subject.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, for people.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// Since when it stands.
    pub since: WallTime,
    /// The database that it is about.
    pub database: Option<DatabaseNumber>,
}

impl Severity {
    /// Its name, as JSON and people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Store {
    /// The alarms that stand, the oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn alarms(&self) -> Result<Vec<Alarm>, StoreError> {
        let mut statement = self.connection().prepare_cached(
            "SELECT id, subject, severity, what, remedy, since_ms, database
             FROM alarm ORDER BY id",
        )?;
        let mut rows = statement.query([])?;
        let mut alarms = Vec::new();
        while let Some(row) = rows.next()? {
            let severity: String = row.get(2)?;
            alarms.push(Alarm {
                id: row.get(0)?,
                subject: row.get(1)?,
                severity: match severity.as_str() {
                    "info" => Severity::Info,
                    "warning" => Severity::Warning,
                    "critical" => Severity::Critical,
                    other => return Err(StoreError::Damaged(format!("severity {other:?}"))),
                },
                what: row.get(3)?,
                remedy: row.get(4)?,
                since: WallTime(row.get(5)?),
                database: row.get::<_, Option<i64>>(6)?.map(DatabaseNumber),
            });
        }
        Ok(alarms)
    }
}

/// Raises an alarm; one that stands already keeps its number and time. Returns whether it is new.
///
/// # Errors
/// See [`StoreError`].
pub fn raise(connection: &Connection, alarm: &Alarm) -> Result<bool, StoreError> {
    let values = params![
        alarm.subject,
        alarm.severity.as_str(),
        alarm.what,
        alarm.remedy,
        alarm.since.0,
        alarm.database.map(|number| number.0),
    ];
    let added = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO alarm (subject, severity, what, remedy, since_ms, database)
             VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(values)?;
    if added == 0 {
        connection
            .prepare_cached(
                "UPDATE alarm SET severity = ?2, what = ?3, remedy = ?4
                 WHERE subject = ?1 AND (severity, what, remedy) IS NOT (?2, ?3, ?4)",
            )?
            .execute(params![alarm.subject, alarm.severity.as_str(), alarm.what, alarm.remedy])?;
    }
    Ok(added == 1)
}

/// Ends all alarms about a database.
///
/// Ends the alarm on a subject; returns whether one stood.
///
/// # Errors
/// See [`StoreError`].
pub fn clear(connection: &Connection, subject: &str) -> Result<bool, StoreError> {
    // Mostly there is none, and looking costs less than writing nothing.
    if !connection.prepare_cached("SELECT 1 FROM alarm WHERE subject = ?")?.exists([subject])? {
        return Ok(false);
    }
    let removed =
        connection.prepare_cached("DELETE FROM alarm WHERE subject = ?")?.execute([subject])?;
    Ok(removed > 0)
}
