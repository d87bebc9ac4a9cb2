//! Changes that this site makes by itself, not its application: a rule that was set, a conflict
//! decided otherwise, a row whose number another site had given out first. They are numbered as
//! any change is, and come to the application's tables by the next write.

use super::merge::malformed;
use super::{Engine, EngineError, SharedStep, with_rules};
use crate::capture::Captured;
use crate::engine::harvest::{Draft, append};
use crate::failure::Failure;
use crate::shared::book::Book;
use crate::shared::conflicts::Context;
use crate::shared::incoming::Reading as Incoming;
use crate::shared::own::{Own, Stamp};
use crate::shared::seen::dependencies;
use crate::shared::{blocks, rekey};
use crate::store::{DatabaseNumber, DatabaseRow, DatabaseState};
use protocol::change::RowChange;
use protocol::session::LocalBranch;

impl Engine {
    /// Numbers a change of a row, or of the table of rules, in the schema that
    /// [`with_rules`](super::with_rules) gives. It is stamped here.
    ///
    /// # Errors
    /// The database is not attached here, or in the middle of something; the store fails.
    pub fn append_own_change(
        &mut self,
        number: DatabaseNumber,
        change: RowChange,
    ) -> Result<LocalBranch, EngineError> {
        let database = self.store.database(number)?;
        let is_rule = change.table.0 as usize;
        let changed = self.change_own(&database, |book, captured, stamp, own| {
            let schema = with_rules(&captured.schema);
            let is_rule = is_rule + 1 == schema.tables.len();
            let reading = Incoming::new(book.connection, book.numbers, schema, stamp.site)?;
            let mut change = change;
            let incoming = reading.read(change.clone(), stamp.timestamp).map_err(malformed)?;
            let greatest = book.now(&incoming.id)?.and_then(|stored| stored.state.greatest());
            let version = stamp.above(greatest)?;
            change.stamp = (version.timestamp != stamp.timestamp).then_some(version.timestamp);
            book.merge(&incoming.id, version, &incoming.change, &incoming.parents)?;
            own.folded.changes.push(change);
            Ok(is_rule)
        })?;
        let Some((local, is_rule)) = changed else {
            return Err(Failure::unable(
                format!("{} is being harvested.", database.name),
                "Try again in a moment.",
            )
            .into());
        };
        if is_rule {
            self.settle_anew(&database)?;
        }
        Ok(local)
    }

    /// Gives rows a new number whose own number another site's row has.
    pub(super) fn rekey_next(
        &mut self,
        database: &DatabaseRow,
    ) -> Result<Option<SharedStep>, EngineError> {
        let own = self.identity.site;
        let Some(residues) = self.membership.member(own).map(|member| member.residues) else {
            return Ok(None);
        };
        if !rekey::is_due(self.store.connection(), database.number)? {
            return Ok(None);
        }
        let changed = self.change_own(database, |book, _, stamp, own| {
            let next = |above| blocks::next_own_start(residues, blocks::SIZE, above);
            Ok(rekey::rekey(book, stamp, &next, own)?)
        })?;
        Ok(changed.map(|(local, ())| SharedStep::Moved(vec![local])))
    }

    /// Numbers what `work` merges; `None`: a run of harvested batches is not at its end yet.
    fn change_own<T>(
        &mut self,
        database: &DatabaseRow,
        work: impl FnOnce(&Book<'_>, &Captured, Stamp, &mut Own) -> Result<T, EngineError>,
    ) -> Result<Option<(LocalBranch, T)>, EngineError> {
        let number = database.number;
        let busy = self.look_at_shared(database)?.is_some();
        if busy || database.state != DatabaseState::Attached {
            return Ok(None);
        }
        let timestamp = self.stamp(None)?;
        let branch = self.branch_of(database)?;
        let others = self.other_branches(&branch)?;
        let (now, site, key) = (self.now(), self.identity.site, &self.key);
        let (Some(capture), Some(shared)) = (self.captures.get(&number), self.shared.get(&number))
        else {
            return Ok(None);
        };
        if capture.run_open {
            return Ok(None);
        }
        let captured = capture.application.captured();
        let schema_at = capture.schema_at;
        let result = self.store.transaction(|transaction| -> Result<_, EngineError> {
            let context = Context { connection: transaction, database: number, now };
            let book = shared.book(context);
            let mut own = Own::default();
            let stamp = Stamp { timestamp, site, compared: false };
            let done = work(&book, captured, stamp, &mut own)?;
            book.finish(context, true)?;
            let dependencies = dependencies(transaction, branch.number, &others)?;
            let draft =
                Draft { dependencies, ..Draft::of(schema_at, own.folded.changes, timestamp) };
            Ok((append(transaction, &branch, draft, key)?, done))
        });
        match result {
            Ok((branch, done)) => Ok(Some((self.local_branch(&branch)?, done))),
            Err(error) => {
                self.shared.remove(&number);
                Err(error)
            }
        }
    }
}
