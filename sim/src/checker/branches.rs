//! A branch as a site's journal has it, batch by batch: whether others took what its origin's own
//! journal does not have.

use super::Books;
use super::books::unsigned;
use crate::drive::{Checked, Drive};
use crate::plan::At;
use protocol::BranchId;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::Path;

/// The hash of a branch's line up to each sequence.
pub type Hashes = BTreeMap<u64, Vec<u8>>;

impl Drive<'_> {
    /// The origin's branch in a site's journal; empty if it is not known there.
    pub(crate) fn hashes(&self, site: At, origin: At) -> Hashes {
        self.in_branch(site, origin, |connection, number, _| {
            let mut select =
                connection.prepare("SELECT sequence, hash FROM batch WHERE branch = ?1")?;
            let rows =
                select.query_map([number], |row| Ok((unsigned(row.get(0)?), row.get(1)?)))?;
            rows.collect()
        })
        .unwrap_or_default()
    }

    /// Works on a site's `node.db`, given the number there and the id of an origin's branch.
    pub(crate) fn in_branch<T>(
        &self,
        site: At,
        origin: At,
        work: impl FnOnce(&Connection, i64, BranchId) -> rusqlite::Result<T>,
    ) -> Option<T> {
        let connection = self.world.disk(self.name(site)).look(&self.node_db(site)).ok()?;
        let books = Books::read(&connection).ok()?;
        let of = books.holdings.iter().find(|(id, _)| self.checker.site(**id) == Some(origin));
        let number = of.map(|(_, holding)| holding.number)?;
        let branch = connection
            .query_row("SELECT branch FROM branch WHERE number = ?1", [number], |row| row.get(0))
            .ok()?;
        work(&connection, number, BranchId(branch)).ok()
    }

    /// D, F: nobody holds batches of the origin that are not these.
    pub(crate) fn look_for_strangers(&self, origin: At, own: &Hashes) -> Checked {
        for site in self.places() {
            if site == origin || self.shops[site.0].burned {
                continue;
            }
            let held = self.hashes(site, origin);
            let stranger = held.iter().find(|(sequence, hash)| own.get(*sequence) != Some(*hash));
            if let Some((sequence, _)) = stranger {
                return Err(self.broken(
                    "D: nothing is taken that its origin's own line does not have",
                    format!(
                        "{} holds a batch {sequence} of {} that is not the one that was numbered \
                         before things were put back or cloned.",
                        self.name(site),
                        self.name(origin)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The bytes of a batch in a site's journal.
    pub(crate) fn frame(&self, site: At, origin: At, sequence: u64) -> Option<Vec<u8>> {
        self.in_branch(site, origin, |connection, number, _| {
            connection.query_row(
                "SELECT frame FROM batch WHERE branch = ?1 AND sequence = ?2",
                (number, sequence as i64),
                |row| row.get(0),
            )
        })
    }

    /// The chunks of a base in that file.
    pub(crate) fn chunks(&self, site: At, base: &Path) -> BTreeMap<i64, Vec<u8>> {
        let read = |connection: Connection| {
            let mut select = connection.prepare("SELECT number, bytes FROM chunk")?;
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let disk = self.world.disk(self.name(site));
        disk.look(base).and_then(read).unwrap_or_default()
    }
}
