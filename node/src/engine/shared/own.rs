//! Changes that this site makes by itself, not its application: a rule that was set, a conflict
//! decided otherwise, a row whose number another site had given out first. They are numbered as
//! any change is, and come to the application's tables by the next write.

use super::merge::malformed;
use super::{Engine, EngineError, SharedStep, with_rules};
use crate::capture::Captured;
use crate::engine::decide::{OwnChange, OwnOperation};
use crate::engine::harvest::Harvest;
use crate::engine::numbering::{Draft, append};
use crate::failure::Failure;
use crate::shared::book::Book;
use crate::shared::conflicts::Context;
use crate::shared::forget::note_change;
use crate::shared::incoming::Reading as Incoming;
use crate::shared::owed::Owed;
use crate::shared::own::{Own, Stamp};
use crate::shared::seen::dependencies;
use crate::shared::{MergedId, keep_mark, policy, rekey};
use crate::store::alarms::Severity;
use crate::store::{DatabaseNumber, DatabaseRow, DatabaseState, StoreError};
use conflict::visible::{RowId, Table as Place};
use conflict::{Rule, Value};
use protocol::change::{Assignment, Operation, RowChange};
use protocol::schema::{ColumnIndex, Schema, TableIndex};
use protocol::session::LocalBranch;
use rusqlite::Connection;

impl Engine {
    /// Numbers changes of this site's own in its branch of a shared database, merges them, and does
    /// `also`, in one transaction.
    ///
    /// # Errors
    /// It can't be numbered now; then nothing has happened.
    pub fn append_own_changes(
        &mut self,
        number: DatabaseNumber,
        changes: Vec<OwnChange>,
        also: impl FnOnce(&Connection) -> Result<(), StoreError>,
    ) -> Result<Option<LocalBranch>, EngineError> {
        let database = self.store.database(number)?;
        self.load_capture(&database)?;
        self.make_ready_for_own(&database)?;
        let is_rule = changes.iter().any(|change| change.table == policy::TABLE);
        let changed = self.change_own(&database, |book, captured, stamp, own| {
            let schema = with_rules(&captured.schema);
            let reading = Incoming::new(book.connection, book.numbers, schema.clone(), stamp.site)?;
            for change in changes {
                let said = Said { book, schema: &schema }.row_change(change)?;
                let incoming = reading.read(said.clone(), stamp.timestamp).map_err(malformed)?;
                let greatest = book.now(&incoming.id)?.and_then(|stored| stored.state.greatest());
                let version = stamp.above(greatest)?;
                let exception = (version.timestamp != stamp.timestamp).then_some(version.timestamp);
                book.merge(&incoming.id, version, &incoming.change, &incoming.parents)?;
                own.folded.changes.push(RowChange { stamp: exception, ..said });
            }
            Ok(also(book.connection)?)
        })?;
        let Some((local, ())) = changed else {
            return Err(self.why_not_now(&database)?.into());
        };
        if is_rule {
            self.shared.remove(&number);
        }
        Ok(Some(local))
    }

    /// Why changes of this site's own can't be numbered now, though all is ready for them.
    fn why_not_now(&mut self, database: &DatabaseRow) -> Result<Failure, EngineError> {
        let name = &database.name;
        Ok(match self.look_at_shared(database)? {
            None => Failure::unable(
                format!("What the application of {name} wrote is being harvested."),
                "Let the node run, and try again in a moment.",
            ),
            Some(Harvest::Busy) => {
                Failure::unable(format!("The file of {name} is in use."), "Try again in a moment.")
            }
            Some(_) => Failure::unable(
                format!("The file of {name} is not as this site left it."),
                "See the alarms of `status`.",
            ),
        })
    }

    /// Brings about what changes of this site's own need, as far as that takes only time; else says
    /// what is missing.
    fn make_ready_for_own(&mut self, database: &DatabaseRow) -> Result<(), EngineError> {
        let name = &database.name;
        let failure = if database.state != DatabaseState::Attached {
            Failure::unable(
                format!("{name} is not attached here, so nothing can be decided of it."),
                "Attach it, or decide at a site whose application has it.",
            )
        } else if self.store.branches_of(database.number)?.iter().any(|b| b.applied < b.base) {
            Failure::unable(
                format!("What {name} began with is not merged yet."),
                "Let the node run, and try again in a moment; `status` tells if something is in \
                 the way.",
            )
        } else if self.load_whole(database)? {
            return Ok(());
        } else {
            Failure::unable(
                format!("The tables of {name} can't be shared as they are now."),
                "See the alarms of `status`.",
            )
        };
        Err(failure.into())
    }

    /// Says of its own what follows from what was merged: gives rows a new number whose own another
    /// site's row has, and means marks that are to stay.
    pub(super) fn follow_up(
        &mut self,
        database: &DatabaseRow,
    ) -> Result<Option<SharedStep>, EngineError> {
        let own = self.identity.site;
        let Some(residues) = self.membership.member(own).map(|member| member.residues) else {
            return Ok(None);
        };
        let connection = self.store.connection();
        if !Owed::Number.is_due(connection, database.number)?
            && !Owed::Mark.is_due(connection, database.number)?
        {
            return Ok(None);
        }
        let changed = self.change_own(database, |book, _, stamp, own| {
            rekey::rekey(book, stamp, residues, own)?;
            Ok(keep_mark::keep(book, stamp, own)?)
        })?;
        if changed.is_some() {
            self.tell_numberless(database)?;
        }
        Ok(changed.map(|(local, ())| SharedStep::Moved(vec![local])))
    }

    /// Tells of rows that lost their number where there is none to give them.
    fn tell_numberless(&mut self, database: &DatabaseRow) -> Result<(), EngineError> {
        let number = database.number;
        let subject = format!("numberless:{}", number.0);
        let rows = match Owed::Numberless.count(self.store.connection(), number)? {
            0 => return Ok(self.clear_alarm(&subject)?),
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        };
        let remedy = match self.residues().count() {
            0 => {
                "This site has no numbers of its own yet. The others hand some over by themselves \
                 when they have met this site: let it run beside them for some minutes."
            }
            _ => {
                "Some row had a number near the greatest of all, and numbers are never given back: \
                 enter these rows again, with smaller numbers."
            }
        };
        self.raise(
            subject,
            Severity::Critical,
            Some(number),
            format!(
                "{rows} of {} lost their number to rows of other sites, and there is none to give \
                 them: they are kept, and told by `conflicts`, but not in the application's table.",
                database.name
            ),
            remedy,
        )?;
        Ok(())
    }

    /// Numbers what `work` merges; `None`: a run of harvested batches is not at its end yet.
    pub(super) fn change_own<T>(
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
            if own.folded.changes.is_empty() {
                return Ok((branch, done));
            }
            let dependencies = dependencies(transaction, branch.number, &others)?;
            let draft =
                Draft { dependencies, ..Draft::of(schema_at, own.folded.changes, timestamp) };
            let branch = append(transaction, &branch, draft, key)?;
            note_change(transaction, number, branch.number, branch.held)?;
            Ok((branch, done))
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

/// A change that names tables and columns, on its way to one that numbers them.
struct Said<'a, 'b> {
    book: &'a Book<'b>,
    schema: &'a Schema,
}

impl Said<'_, '_> {
    fn row_change(&self, change: OwnChange) -> Result<RowChange, EngineError> {
        let OwnChange { table: name, key, birth, operation } = change;
        let gone = |what: &str| {
            Failure::unable(
                format!("The database of this site has no {what}."),
                "Decide it at a site whose application has it.",
            )
        };
        let index = self.schema.find(&name).ok_or_else(|| gone(&name))?;
        let table = self.schema.table(index).ok_or_else(|| gone(&name))?;
        let place = |column: &str| -> Result<ColumnIndex, EngineError> {
            let found = table.columns.iter().position(|known| known.eq_ignore_ascii_case(column));
            Ok(found.map(|at| ColumnIndex(at as u32)).ok_or_else(|| gone(column))?)
        };
        let mut rules = Vec::new();
        let mut edits: Vec<(ColumnIndex, Assignment)> = Vec::new();
        let mut set = |column: &str, value, rule| -> Result<(), EngineError> {
            let column = place(column)?;
            edits.push((column, Assignment::Set(value)));
            rules.push((column, rule));
            Ok(())
        };
        let mut whole = false;
        match operation {
            OwnOperation::Delete => {
                return Ok(RowChange { birth, ..RowChange::plain(index, key, Operation::Delete) });
            }
            OwnOperation::Add(column, amount) => {
                edits.push((place(&column)?, Assignment::Add(amount)));
            }
            OwnOperation::Set(columns) => {
                for (column, value, rule) in columns {
                    set(&column, value, rule)?;
                }
            }
            OwnOperation::Insert(columns) => {
                whole = true;
                for (column, value) in columns {
                    set(&column, value, Rule::LastWriter)?;
                }
            }
            OwnOperation::Revive(columns) => {
                whole = true;
                for (column, value, rule) in self.meant(&name, index, &key, birth)? {
                    let chosen =
                        columns.iter().find(|(known, ..)| known.eq_ignore_ascii_case(&column));
                    match chosen {
                        Some((_, value, rule)) => set(&column, value.clone(), *rule)?,
                        None => set(&column, value, rule)?,
                    }
                }
            }
        }
        edits.sort_by_key(|(column, _)| *column);
        rules.sort_by_key(|(column, _)| *column);
        rules.retain(|(_, rule)| *rule != Rule::LastWriter);
        let references = self.references(index, &edits)?;
        let operation = match whole {
            false => Operation::Update(edits),
            true => {
                let of = |column: ColumnIndex| match edits.iter().find(|(at, _)| *at == column) {
                    Some((_, Assignment::Set(value))) => value.clone(),
                    _ => Value::Null,
                };
                Operation::Insert(table.other_columns().map(of).collect())
            }
        };
        Ok(RowChange { birth, references, rules, ..RowChange::plain(index, key, operation) })
    }

    /// All that a row means beside its key, with the rules in force.
    fn meant(
        &self,
        name: &str,
        index: TableIndex,
        key: &[Value],
        birth: Option<conflict::Version>,
    ) -> Result<Vec<(String, Value, Rule)>, EngineError> {
        let row = RowId { table: Place(index.0), key: key.to_vec(), birth };
        let table = self.book.local.table(row.table)?;
        let id = MergedId::new(table.number, &row);
        let Some(stored) = self.book.now(&id)? else {
            return Err(Failure::unable(
                "The deleted row is forgotten: nothing of it is here but what the conflict says.",
                "Enter it again in the application.",
            )
            .into());
        };
        let values = self.book.meant(&row, &stored)?.values;
        let columns = table.columns.iter().zip(values);
        Ok(columns
            .filter(|(column, _)| !column.in_key && !column.stays)
            .map(|(column, value)| {
                let rule = self.book.local.policy.rule(name, &column.name);
                (column.name.clone(), value, rule)
            })
            .collect())
    }

    /// The births of the rows that these columns refer to, as the application sees them.
    fn references(
        &self,
        index: TableIndex,
        edits: &[(ColumnIndex, Assignment)],
    ) -> Result<Vec<(ColumnIndex, conflict::Version)>, EngineError> {
        let mut references = Vec::new();
        let Some(table) = self.book.local.tables.get(index.0 as usize) else {
            return Ok(references);
        };
        for (column, assignment) in edits {
            let parent = table.columns.get(column.0 as usize).and_then(|known| known.refers_to);
            if let (Some(parent), Assignment::Set(value)) = (parent, assignment)
                && *value != Value::Null
                && let Some((id, _)) =
                    self.book.visible_at(Place(parent as u32), std::slice::from_ref(value))?
                && let Some(birth) = id.birth()?
            {
                references.push((*column, birth));
            }
        }
        Ok(references)
    }
}
