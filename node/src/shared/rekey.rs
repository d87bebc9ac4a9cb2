//! New numbers for rows that lost theirs: where two sites gave out one key for two rows, the row
//! of lesser rank keeps it, and the other's *origin* gives it another, as a real change: the row
//! begins anew, the rows that refer to it are led there, and it ends under its old number. Where
//! many refer to it that takes several batches.

use super::book::{Book, Stored};
use super::owed::Owed;
use super::own::{Own, Stamp};
use super::say::{Edit, Meaning, Parent, Row};
use super::{DeskError, MergedId, blocks};
use crate::capture::{pack, unpack};
use crate::store::StoreError;
use conflict::row::Assignment;
use conflict::visible::{Reason, RowId, Shown, Store};
use conflict::{SiteId, Value, Version};
use protocol::membership::Residues;
use protocol::schema::TableIndex;
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeMap;

/// So many rows are given another number by one batch at most,
const AT_ONCE: usize = 1000;
/// holding about so many bytes,
const BYTES: usize = 4 << 20;
/// and so many others are led to them.
const LED_AT_ONCE: usize = 10_000;

/// Remembers a row that is to be given another number, if it is this site's to give.
///
/// # Errors
/// See [`StoreError`].
pub(super) fn note(
    book: &Book<'_>,
    id: &MergedId,
    shown: &Shown,
    site: SiteId,
) -> Result<(), StoreError> {
    let lost = matches!(shown, Shown::Parked(Reason::KeyTaken { .. }));
    if lost && id.birth()?.is_some_and(|birth| birth.origin == site) {
        Owed::Number.note(book.connection, book.database, id)?;
    }
    Ok(())
}

/// Gives rows that wait another number, out of those that are this site's to hand out, as many as
/// one batch bears: the others go on waiting. Where there is no number they do so as
/// [`Owed::Numberless`].
///
/// # Errors
/// What is stored is damaged, or can't be read or written.
pub fn rekey(
    book: &Book<'_>,
    stamp: Stamp,
    residues: Residues,
    own: &mut Own,
) -> Result<(), DeskError> {
    let birth = Version { timestamp: stamp.timestamp, origin: stamp.site };
    let mut given: BTreeMap<i64, i64> = BTreeMap::new();
    let mut moves = Moves::new();
    let mut bytes = 0;
    for id in Owed::Number.take(book.connection, book.database, AT_ONCE)? {
        let (Some(row), Some(stored)) = (book.local.row_id(&id)?, book.now(&id)?) else { continue };
        let lives = stored.state.is_live();
        if let Some(new) = successor(book, &id)? {
            let went_on = match book.now(&book.local.merged_id(&new)?)? {
                Some(new) => new.state.is_live(),
                None => false,
            };
            if !lives || went_on {
                let stage = if lives { Stage::Begun } else { Stage::Ended };
                moves.insert(row, Move { new, stage });
                continue;
            }
        }
        let lost = stored
            .outcome
            .as_ref()
            .is_some_and(|outcome| matches!(outcome.shown, Shown::Parked(Reason::KeyTaken { .. })));
        if !lives || !lost {
            continue;
        }
        if bytes >= BYTES {
            Owed::Number.note(book.connection, book.database, &id)?;
            continue;
        }
        let number = match given.get(&id.table) {
            Some(last) => blocks::next_own(residues, blocks::BLOCK, *last),
            // The application goes on in the first block above: until the rows are in its table,
            // it would hand out the same numbers.
            None => blocks::next_own_start(residues, blocks::BLOCK, book.greatest_number(&row)?)
                .and_then(|first| blocks::next_own_start(residues, blocks::BLOCK, first)),
        };
        let Some(number) = number else {
            Owed::Numberless.note(book.connection, book.database, &id)?;
            continue;
        };
        given.insert(id.table, number);
        bytes += pack(&book.meant(&row, &stored)?.values).len();
        let new = RowId { table: row.table, key: vec![Value::Integer(number)], birth: Some(birth) };
        moves.insert(row, Move { new, stage: Stage::Begins });
    }
    let work = Work { book, stamp, moves: &moves };
    for (row, to) in moves.iter().filter(|(_, to)| to.stage == Stage::Begins) {
        work.begin(row, &to.new, own)?;
    }
    let mut left = LED_AT_ONCE;
    for (row, to) in &moves {
        if !work.lead_referrers(row, &mut left, own)? {
            Owed::Number.note(book.connection, book.database, &book.local.merged_id(row)?)?;
        } else if to.stage != Stage::Ended {
            work.end(row, to, own)?;
        }
    }
    Ok(())
}

/// The row as which a row goes on.
fn successor(book: &Book<'_>, id: &MergedId) -> Result<Option<RowId>, DeskError> {
    let mut found = None;
    let mut at = id.clone();
    // A number is given up for a later one only: this ends.
    while let Some((key, birth)) = book
        .connection
        .prepare_cached(
            "SELECT new_key, new_birth FROM rekeyed
             WHERE database = ?1 AND tbl = ?2 AND key = ?3 AND birth = ?4 AND new_birth > ?4",
        )?
        .query_row(params![book.database, at.table, at.key, at.birth], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?
    {
        at = MergedId { key, birth, ..at };
        found = book.local.row_id(&at)?;
    }
    Ok(found)
}

/// As which rows go on, by what they were.
type Moves = BTreeMap<RowId, Move>;

#[derive(Debug)]
struct Move {
    new: RowId,
    stage: Stage,
}

/// How far a row has got on its way to another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It goes on only now.
    Begins,
    /// An earlier batch let it begin anew, and did not reach all that refer to it.
    Begun,
    /// It has gone on; somebody who did not know refers to it.
    Ended,
}

struct Work<'a, 'b> {
    book: &'a Book<'b>,
    stamp: Stamp,
    moves: &'a Moves,
}

impl Work<'_, '_> {
    /// Lets a row begin anew under another number.
    fn begin(&self, row: &RowId, new: &RowId, own: &mut Own) -> Result<(), DeskError> {
        let book = self.book;
        let id = book.local.merged_id(row)?;
        let Some(stored) = book.now(&id)? else { return Ok(()) };
        let (edits, parents) = self.whole(row, &stored)?;
        let goes_on = book.local.merged_id(new)?;
        book.connection
            .prepare_cached("INSERT OR REPLACE INTO rekeyed VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                book.database,
                id.table,
                id.key,
                id.birth,
                goes_on.key,
                goes_on.birth
            ])?;
        self.say(new, Meaning::Whole(edits), &parents, own)
    }

    /// Leads the rows that refer to a row to what it goes on as, those left out that go on under
    /// another number themselves; at most `left` of them. Returns whether that was all.
    fn lead_referrers(
        &self,
        row: &RowId,
        left: &mut usize,
        own: &mut Own,
    ) -> Result<bool, DeskError> {
        let book = self.book;
        let mut led = Vec::new();
        let mut all = true;
        book.referrers(row, &mut |referrer| {
            if self.moves.contains_key(referrer) {
                return Ok(true);
            }
            let id = book.local.merged_id(referrer)?;
            let stored = book.now(&id)?.filter(|stored| stored.state.is_live());
            let Some(stored) = stored else { return Ok(true) };
            let (edits, parents) = self.led(referrer, &stored)?;
            if edits.is_empty() {
                return Ok(true);
            }
            all = led.len() < *left;
            if all {
                led.push((referrer.clone(), edits, parents));
            }
            Ok(all)
        })?;
        *left -= led.len();
        for (referrer, edits, parents) in led {
            self.say(&referrer, Meaning::Edited(edits), &parents, own)?;
        }
        Ok(all)
    }

    /// Ends a row that goes on under another number.
    fn end(&self, row: &RowId, to: &Move, own: &mut Own) -> Result<(), DeskError> {
        if to.stage == Stage::Begun {
            self.carry(row, &to.new, own)?;
        }
        self.say(row, Meaning::Gone, &[], own)
    }

    /// Has a row that began anew earlier mean what was said since of what it was.
    fn carry(&self, row: &RowId, new: &RowId, own: &mut Own) -> Result<(), DeskError> {
        let book = self.book;
        let (was, is) = (book.local.merged_id(row)?, book.local.merged_id(new)?);
        let (Some(was), Some(is)) = (book.now(&was)?, book.now(&is)?) else { return Ok(()) };
        let means = book.meant(new, &is)?.values;
        let (mut edits, mut parents) = self.whole(row, &was)?;
        edits.retain(|edit| {
            let untouched = is.state.version(edit.column) == new.birth;
            let same = |value: &Value| means.get(edit.place) == Some(value);
            untouched && !matches!(&edit.assignment, Assignment::Set(value, _) if same(value))
        });
        parents.retain(|parent| edits.iter().any(|edit| edit.place == parent.place));
        self.say(new, Meaning::Edited(edits), &parents, own)
    }

    fn say(
        &self,
        row: &RowId,
        meaning: Meaning,
        parents: &[Parent],
        own: &mut Own,
    ) -> Result<(), DeskError> {
        let table = self.book.local.table(row.table)?;
        let id = self.book.local.merged_id(row)?;
        let row = Row { index: TableIndex(row.table.0), table, id: &id, key: &row.key };
        self.book.say(row, meaning, parents, self.stamp, own)?;
        Ok(())
    }

    /// All that a row means beside its key, its references led.
    fn whole(&self, row: &RowId, stored: &Stored) -> Result<(Vec<Edit>, Vec<Parent>), DeskError> {
        let book = self.book;
        let table = book.local.table(row.table)?;
        let meant = book.meant(row, stored)?.values;
        let (led, mut parents) = self.led(row, stored)?;
        let mut edits = Vec::new();
        for (place, column) in table.columns.iter().enumerate() {
            let Some(value) = meant.get(place).filter(|_| !column.in_key && !column.stays) else {
                continue;
            };
            if let Some(edit) = led.iter().find(|edit| edit.place == place) {
                edits.push(edit.clone());
                continue;
            }
            let rule = book.local.policy.rule(&table.name, &column.name);
            let (column, set) = (column.number, stored.state.version(column.number));
            edits.push(Edit { place, column, assignment: Assignment::Set(value.clone(), rule) });
            let known = stored
                .parents
                .iter()
                .find(|known| known.column == column && Some(known.set) == set);
            parents.extend(known.map(|known| Parent { place, column, birth: known.birth }));
        }
        parents.sort_by_key(|parent| parent.place);
        Ok((edits, parents))
    }

    /// What a row's references to rows that go on elsewhere become.
    fn led(&self, row: &RowId, stored: &Stored) -> Result<(Vec<Edit>, Vec<Parent>), DeskError> {
        let book = self.book;
        let table = book.local.table(row.table)?;
        let (mut edits, mut parents) = (Vec::new(), Vec::new());
        for reference in book.meant(row, stored)?.references {
            let Some(Move { new, .. }) = self.moves.get(&reference.parent) else { continue };
            let (Some(number), Some(birth)) = (new.key.first(), new.birth) else { continue };
            for place in book.local.desk.columns_of(reference.foreign_key)?.iter().copied() {
                let Some(column) = table.columns.get(place).filter(|column| !column.in_key) else {
                    continue;
                };
                let rule = book.local.policy.rule(&table.name, &column.name);
                let column = column.number;
                let assignment = Assignment::Set(number.clone(), rule);
                edits.push(Edit { place, column, assignment });
                parents.push(Parent { place, column, birth });
            }
        }
        edits.sort_by_key(|edit| edit.place);
        edits.dedup_by_key(|edit| edit.place);
        parents.sort_by_key(|parent| parent.place);
        parents.dedup_by_key(|parent| parent.place);
        Ok((edits, parents))
    }
}

/// MessagePack keeps the order of whole numbers from 0 on, and has all that is below 0 above them:
/// a row of one value begins with the first byte, and that with the second or a greater one.
const BELOW_ZERO: [u8; 2] = [0x91, 0xd0];

impl Book<'_> {
    /// The greatest number that a table's rows have as keys, remembered ones included; 0 for none.
    fn greatest_number(&self, row: &RowId) -> Result<i64, DeskError> {
        let number = self.local.table(row.table)?.number;
        let greatest: Option<Vec<u8>> = self
            .connection
            .prepare_cached(
                "SELECT key FROM merged_row WHERE database = ?1 AND tbl = ?2 AND key < ?3
                 ORDER BY key DESC LIMIT 1",
            )?
            .query_row(params![self.database, number, BELOW_ZERO], |row| row.get(0))
            .optional()?;
        match greatest.as_deref().map(unpack).transpose()?.as_deref() {
            Some([Value::Integer(greatest)]) => Ok(*greatest),
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_numbers_are_in_order(a in any::<i64>(), shift in 0..63_u32, b in any::<i64>()) {
            let packed = |number| pack(&[Value::Integer(number)]);
            let (a, b) = (a >> shift, b >> shift);
            match (a < 0, b < 0) {
                (false, false) => prop_assert_eq!(packed(a).cmp(&packed(b)), a.cmp(&b)),
                (true, _) => prop_assert!(packed(a)[..] >= BELOW_ZERO[..]),
                (false, true) => prop_assert!(packed(a)[..] < BELOW_ZERO[..]),
            }
        }
    }
}
