//! Marks that stay (`give-back no`): a number that was printed does not change twice. The site
//! whose value is marked says, as a real change, that the mark is meant from now on.

use super::book::Book;
use super::owed::Owed;
use super::own::{Own, Stamp};
use super::say::{Edit, Meaning, Row};
use super::{DeskError, MergedId};
use conflict::Rule;
use conflict::row::Assignment;
use conflict::visible::{RowId, Shown};
use protocol::schema::TableIndex;

/// So many marks are meant by one batch.
const AT_ONCE: usize = 1000;

/// Remembers a row that shows a mark which is to stay, if it is this site's to say so.
///
/// # Errors
/// What is stored is damaged, or can't be read or written.
pub(super) fn note(
    book: &Book<'_>,
    row: &RowId,
    id: &MergedId,
    shown: &Shown,
) -> Result<(), DeskError> {
    let Shown::Visible { marks, .. } = shown else { return Ok(()) };
    let table = book.local.table(row.table)?;
    for mark in marks {
        let Some(column) = table.columns.get(mark.column) else { continue };
        if book.local.policy.gives_back(&table.name, &column.name) {
            continue;
        }
        let set = book.now(id)?.and_then(|stored| stored.state.version(column.number));
        if set.is_some_and(|set| set.origin == book.local.site) {
            Owed::Mark.note(book.connection, book.database, id)?;
        }
    }
    Ok(())
}

/// Says of all marks that wait that they are meant.
///
/// # Errors
/// What is stored is damaged, or can't be read or written.
pub fn keep(book: &Book<'_>, stamp: Stamp, own: &mut Own) -> Result<(), DeskError> {
    for id in Owed::Mark.take(book.connection, book.database, AT_ONCE)? {
        let (Some(row), Some(stored)) = (book.local.row_id(&id)?, book.now(&id)?) else { continue };
        let Some(outcome) = &stored.outcome else { continue };
        let Shown::Visible { kept: false, marks, .. } = &outcome.shown else { continue };
        let table = book.local.table(row.table)?;
        let mut edits = Vec::new();
        for mark in marks {
            let Some(column) = table.columns.get(mark.column) else { continue };
            if book.local.policy.gives_back(&table.name, &column.name) {
                continue;
            }
            // Under a rule by which an earlier value wins the mark would never be meant.
            let rule = match book.local.policy.rule(&table.name, &column.name) {
                Rule::FirstWriter | Rule::AppendOnly => Rule::LastWriter,
                rule => rule,
            };
            let assignment = Assignment::Set(mark.shown.clone(), rule);
            edits.push(Edit { place: mark.column, column: column.number, assignment });
        }
        edits.sort_by_key(|edit| edit.place);
        let said = Row { index: TableIndex(row.table.0), table, id: &id, key: &row.key };
        book.say(said, Meaning::Edited(edits), &[], stamp, own)?;
    }
    Ok(())
}
