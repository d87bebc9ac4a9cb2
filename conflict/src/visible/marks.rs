//! Marks: how a row looks that lost a value it claims. Not who loses.

use super::types::{Claim, Constraints, Index, Meant, Remedy, RowId, Slot, Table, Unique};
use crate::Value;

/// How many marks are tried before a value counts as unmarkable. Each one in vain is another
/// row that has this very text for its own; only an index on an expression can make it many.
const TRIES: u32 = 64;

/// A row's values with marks in place of what it lost.
pub(super) struct Fitted {
    /// All columns as shown.
    pub(super) values: Vec<Value>,
    /// What these claim where it isn't what the row claimed.
    pub(super) held: Vec<Slot>,
}

/// A row to be marked.
pub(super) struct Loser<'a> {
    /// Its table.
    pub(super) table: Table,
    /// The values by which it claimed.
    pub(super) values: &'a [Value],
    /// What it claimed.
    pub(super) claims: &'a [(Index, Claim)],
    /// What stands behind the value in a mark, without number.
    pub(super) suffix: &'a [u8],
}

/// `~site~key`: the code of the site whose insert gave the row its birth or rank (of a kept row
/// without birth, of the site that deleted it), and its key.
pub(super) fn suffix<C: Constraints>(
    constraints: &C,
    row: &RowId,
    meant: &Meant,
) -> Result<Vec<u8>, C::Error> {
    let site = row.birth.unwrap_or(meant.rank).origin;
    let mut suffix = format!("~{}", constraints.code(site)?).into_bytes();
    for (at, part) in row.key.iter().enumerate() {
        suffix.push(if at == 0 { b'~' } else { b',' });
        suffix.extend(text_of(part));
    }
    Ok(suffix)
}

/// A value as text, as it stands in marks.
fn text_of(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => Vec::new(),
        Value::Integer(integer) => integer.to_string().into_bytes(),
        Value::Real(real) => format!("{real:?}").into_bytes(),
        Value::Text(bytes) => bytes.clone(),
        Value::Blob(bytes) => {
            (bytes.iter()).flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
        }
    }
}

/// What came of one form of a row.
enum Trial {
    /// It will do, holding these slots.
    Fits(Vec<Slot>),
    /// A slot that it needs is taken.
    Taken,
    /// The table rejects it, or it still claims what the row lost.
    Unfit,
}

/// Marks what was lost on the indexes `lost`, one after the other. `taken` is asked for every
/// slot that a form would hold.
///
/// # Returns
/// The form, or the first index for which no form will do.
pub(super) fn fit<C: Constraints>(
    constraints: &C,
    loser: &Loser<'_>,
    lost: &[Index],
    taken: &mut dyn FnMut(&Slot) -> Result<bool, C::Error>,
) -> Result<Result<Fitted, Index>, C::Error> {
    let mut fitted = Fitted { values: loser.values.to_vec(), held: Vec::new() };
    for (at, index) in lost.iter().enumerate() {
        let moved = |values: &[Value]| -> Result<bool, C::Error> {
            Ok(constraints.claim(*index, values)?.as_ref() != loser.claim(*index))
        };
        if moved(&fitted.values)? {
            continue; // An earlier mark serves this index too.
        }
        let lost = lost.get(..=at).unwrap_or(lost);
        let (column, text, null) = match constraints.remedy(*index)? {
            Remedy::Mark { column, nullable } => (column, true, nullable),
            Remedy::Null { column } => (column, false, true),
            Remedy::Park => return Ok(Err(*index)),
        };
        let Some(value) = loser.values.get(column) else {
            return Ok(Err(*index));
        };
        let mut forms = (1..=TRIES).filter(|_| text).map(|n| mark(value, loser.suffix, n));
        let mut found = None;
        for form in &mut forms {
            let values = with(&fitted.values, column, form);
            match try_form(constraints, loser, lost, &values, taken)? {
                Trial::Fits(held) => {
                    found = Some(Fitted { values, held });
                    break;
                }
                Trial::Taken => {}
                Trial::Unfit => break,
            }
        }
        if found.is_none() && null {
            let values = with(&fitted.values, column, Value::Null);
            if let Trial::Fits(held) = try_form(constraints, loser, lost, &values, taken)? {
                found = Some(Fitted { values, held });
            }
        }
        match found {
            Some(form) => fitted = form,
            None => return Ok(Err(*index)),
        }
    }
    Ok(Ok(fitted))
}

/// `value~site~key`, then `value~site~key~2`, `~3` ...
fn mark(value: &Value, suffix: &[u8], n: u32) -> Value {
    let mut text = text_of(value);
    text.extend(suffix);
    if n > 1 {
        text.extend(format!("~{n}").into_bytes());
    }
    Value::Text(text)
}

fn with(values: &[Value], column: usize, value: Value) -> Vec<Value> {
    let mut values = values.to_vec();
    if let Some(place) = values.get_mut(column) {
        *place = value;
    }
    values
}

fn try_form<C: Constraints>(
    constraints: &C,
    loser: &Loser<'_>,
    lost: &[Index],
    values: &[Value],
    taken: &mut dyn FnMut(&Slot) -> Result<bool, C::Error>,
) -> Result<Trial, C::Error> {
    if !constraints.accepts(loser.table, values)? {
        return Ok(Trial::Unfit);
    }
    let mut held = Vec::new();
    for index in constraints.indexes(loser.table)? {
        let claim = constraints.claim(index, values)?;
        if claim.as_ref() == loser.claim(index) {
            if lost.contains(&index) {
                return Ok(Trial::Unfit);
            }
        } else if let Some(claim) = claim {
            held.push(Slot { unique: Unique::Index(index), claim });
        }
    }
    // Every slot is asked for, so that what this form waits for is known.
    let mut free = true;
    for slot in &held {
        free &= !taken(slot)?;
    }
    Ok(if free { Trial::Fits(held) } else { Trial::Taken })
}

impl Loser<'_> {
    fn claim(&self, index: Index) -> Option<&Claim> {
        (self.claims.iter()).find(|(known, _)| *known == index).map(|(_, claim)| claim)
    }
}
