//! The journals at rest: without gaps, unforged, the same everywhere, with stamps that count up and
//! none from a future that no clock of the origin was in.

use super::books::{origin, unsigned};
use crate::drive::{Checked, Drive};
use crate::plan::At;
use conflict::{SiteId, WallTime};
use protocol::{BranchId, ChainHash, Header};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// How far ahead of true time an ordinary clock's stamps may be: computers are some seconds off.
const AHEAD_MS: i64 = 10_000;

/// A branch as a site's journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its last sequence.
    pub last: u64,
    /// The hash of all of it.
    pub hash: ChainHash,
    /// The newest stamp's time.
    pub newest: WallTime,
}

impl Drive<'_> {
    /// Whether a site's `node.db` is whole, and its journal too.
    pub(crate) fn journal_is_whole(&self, at: At) -> Result<(), String> {
        let disk = self.world.disk(self.name(at));
        let connection = disk.look(&self.node_db(at)).map_err(|error| error.to_string())?;
        let said: String = connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|error| error.to_string())?;
        if said != "ok" {
            return Err(said);
        }
        let lines = lines_of(&connection).map_err(|error| error.to_string())?;
        lines.into_iter().try_for_each(|(_, line)| line.map(drop))
    }

    /// Reads all journals.
    pub(crate) fn look_at_journals(&mut self) -> Checked {
        let mut lines: BTreeMap<SiteId, (At, Line)> = BTreeMap::new();
        for at in self.places() {
            if self.shops[at.0].burned {
                continue;
            }
            let read = self
                .world
                .disk(self.name(at))
                .look(&self.node_db(at))
                .and_then(|connection| lines_of(&connection));
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    let what = format!("{}'s journal can't be read: {error}", self.name(at));
                    return Err(self.broken("E: journals are whole", what));
                }
            };
            for (origin, line) in read {
                let whose = self.checker.site(origin);
                if whose.is_some_and(|whose| self.checker.is_rotten(at, whose)) {
                    continue;
                }
                let line = match line {
                    Ok(line) => line,
                    Err(what) => {
                        let what = format!("{}'s journal: {what}", self.name(at));
                        return Err(self.broken("B: sequences are without gaps and unforged", what));
                    }
                };
                let true_time = self.world.true_time().0;
                let ordinary = whose.is_some_and(|whose| !self.checker.had_wrong_clock(whose));
                if ordinary && line.newest.0 > true_time + AHEAD_MS {
                    return Err(self.broken(
                        "G: one site's clock does not drag another's",
                        format!(
                            "{}'s clock was never wrong, and its newest stamp is {} ms ahead.",
                            whose.map_or("?", |whose| self.name(whose)),
                            line.newest.0 - true_time
                        ),
                    ));
                }
                match lines.get(&origin) {
                    Some((other, known)) if *known != line => {
                        return Err(self.broken(
                            "B: all journals hold the same",
                            format!(
                                "{} has {known:?}, {} has {line:?}",
                                self.name(*other),
                                self.name(at)
                            ),
                        ));
                    }
                    Some(_) => {}
                    None => {
                        lines.insert(origin, (at, line));
                    }
                }
            }
        }
        Ok(())
    }
}

type Lines = Vec<(SiteId, Result<Line, String>)>;

fn lines_of(connection: &Connection) -> rusqlite::Result<Lines> {
    let mut branches = connection.prepare("SELECT opening, number, branch, held FROM branch")?;
    let mut rows = branches.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let site = origin(&row.get::<_, Vec<u8>>(0)?)?;
        let branch = BranchId(row.get(2)?);
        lines.push((site, line(connection, row.get(1)?, branch, unsigned(row.get(3)?))?));
    }
    Ok(lines)
}

fn line(
    connection: &Connection,
    number: i64,
    branch: BranchId,
    held: u64,
) -> rusqlite::Result<Result<Line, String>> {
    let mut line = Line { last: 0, hash: ChainHash::start(branch), newest: WallTime(i64::MIN) };
    let mut newest = None;
    let mut batches = connection
        .prepare("SELECT sequence, hash, frame FROM batch WHERE branch = ?1 ORDER BY sequence")?;
    let mut rows = batches.query([number])?;
    while let Some(row) = rows.next()? {
        let sequence = unsigned(row.get(0)?);
        if sequence != line.last + 1 {
            return Ok(Err(format!("after batch {} comes {sequence}", line.last)));
        }
        let frame: Vec<u8> = row.get(2)?;
        line.hash = line.hash.extend(&frame);
        if line.hash.0[..] != row.get::<_, Vec<u8>>(1)?[..] {
            return Ok(Err(format!("batch {sequence} is not what its hash says")));
        }
        let stamp = match Header::read(&frame) {
            Ok(header) => header.meta.timestamp,
            Err(error) => return Ok(Err(format!("batch {sequence}: {error}"))),
        };
        if newest.is_some_and(|newest| stamp <= newest) {
            return Ok(Err(format!("batch {sequence} has the stamp {stamp:?} after {newest:?}")));
        }
        (newest, line.newest, line.last) = (Some(stamp), stamp.wall_time(), sequence);
    }
    if line.last != held {
        return Ok(Err(format!("{held} batches are said to be held, {} are", line.last)));
    }
    Ok(Ok(line))
}
