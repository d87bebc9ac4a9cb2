//! A person's decision as it travels: a row of the table of the rules, since it too is what people
//! want of the database as a whole. It says which conflict is decided, by what every site knows of
//! it; what was decided is a change of its own, or nothing, where what counts already is to stay.

use super::list::Conflict;
use super::{Context, Detail, Kind, packed};
use crate::shared::MergedId;
use crate::shared::numbers::Numbers;
use crate::shared::policy::{DECIDED, Entry};
use crate::store::StoreError;
use conflict::Version;
use conflict::row::Column;
use data_encoding::HEXLOWER;
use rusqlite::params;
use serde::{Deserialize, Serialize};

/// Which conflict of its row it is.
#[derive(Debug, Serialize, Deserialize)]
enum Which {
    /// What lost by this change. What kind of conflict that is may differ from site to site.
    Lost(Version),
    /// A state: see [`Kind::as_str`].
    State(String),
}

/// What a [`Conflict`] has that is the same at all sites, beside the names of table and column.
type Told = (Vec<u8>, Vec<u8>, Which);

/// The entry that says that a conflict is decided. `column`: the name of the column that it is
/// about.
///
/// # Errors
/// See [`StoreError`].
pub fn entry(conflict: &Conflict, column: Option<String>) -> Result<Entry, StoreError> {
    let which = match &conflict.detail {
        Detail::Lost { loser, .. } => Which::Lost(loser.version),
        _ => Which::State(conflict.kind.as_str().to_owned()),
    };
    let told: Told = (conflict.row.key.clone(), conflict.row.birth.clone(), which);
    Ok(Entry {
        table: conflict.table.clone(),
        column: column.unwrap_or_default(),
        setting: format!("{DECIDED}{}", HEXLOWER.encode(&packed(&told)?)),
        value: "yes".to_owned(),
    })
}

/// Takes note of a decision, if the entry is one; what can't be read is nobody's. `place`: where a
/// table of the local schema has a column.
///
/// # Errors
/// See [`StoreError`].
pub fn take(
    context: Context<'_>,
    numbers: &Numbers,
    entry: &Entry,
    place: impl Fn(&str, &str) -> Option<usize>,
) -> Result<(), StoreError> {
    let told = entry.setting.strip_prefix(DECIDED);
    let told = told.and_then(|told| HEXLOWER.decode(told.as_bytes()).ok());
    let told = told.and_then(|told| rmp_serde::from_slice::<Told>(&told).ok());
    let Some((key, birth, which)) = told else { return Ok(()) };
    let table = numbers.table(context.connection, &entry.table)?;
    let row = MergedId { table, key, birth };
    match which {
        Which::Lost(version) => {
            let column = match entry.column.as_str() {
                "" => None,
                column => Some(numbers.column(context.connection, table, column)?),
            };
            for column in [None::<Column>, column] {
                set_decided(context, &row, None, &packed(&(version, column))?)?;
            }
        }
        Which::State(kind) => {
            let place = place(&entry.table, &entry.column);
            let subject = match (kind == Kind::Marked.as_str(), place) {
                (true, Some(place)) => super::mark_subject(place),
                (true, None) => return Ok(()),
                (false, _) => Vec::new(),
            };
            set_decided(context, &row, Some(&kind), &subject)?;
        }
    }
    Ok(())
}

fn set_decided(
    context: Context<'_>,
    row: &MergedId,
    state: Option<&str>,
    subject: &[u8],
) -> Result<(), StoreError> {
    super::set_decided(
        context,
        "database = ?1 AND tbl = ?2 AND key = ?3 AND birth = ?4 AND subject = ?6
           AND lasting = (?5 IS NOT NULL) AND ifnull(kind = ?5, 1)",
        params![context.database.0, row.table, row.key, row.birth, state, subject],
    )
}
