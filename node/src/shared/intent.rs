//! The write to the application's file that is under way: kept before the file is touched, and
//! taken note of, or dropped, once the file says whether it came about.

use super::book::Book;
use super::{DeskError, MergedId};
use crate::capture::{Form, Images, PackedKey, pack, unpack};
use crate::store::{DatabaseNumber, StoreError};
use protocol::schema::TableIndex;
use rusqlite::{Connection, OptionalExtension, params};

/// The forms that rows should have in the application's table and have not, kept as what is about
/// to be written.
///
/// # Errors
/// What is stored is damaged, or can't be read or written.
pub fn intend(book: &Book<'_>) -> Result<Vec<Form>, DeskError> {
    let (connection, database) = (book.connection, book.database);
    let images = Images::new(connection, database);
    let mut statement =
        connection.prepare_cached("SELECT tbl, key FROM unwritten WHERE database = ?")?;
    let unwritten = statement
        .query_map([database], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, Vec<u8>)>, _>>()?;
    let mut forms = Vec::new();
    for (table, bytes) in unwritten {
        let Some(place) = book.local.place(table) else { continue };
        let key = unpack(&bytes)?;
        let packed = PackedKey::from_bytes(bytes);
        let wanted = book.visible_at(place, &key)?;
        let (birth, row) = match wanted {
            Some((id, values)) => (Some(id.birth), Some(values)),
            None => (None, None),
        };
        let image = images.get(table, &packed)?;
        let now = row.as_deref().map(pack);
        if image.map(|image| (image.birth, image.row)) == birth.clone().zip(now.clone()) {
            connection
                .prepare_cached(
                    "DELETE FROM unwritten WHERE database = ?1 AND tbl = ?2 AND key = ?3",
                )?
                .execute(params![database, table, packed.as_bytes()])?;
            continue;
        }
        connection
            .prepare_cached("INSERT OR REPLACE INTO intent VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![database, table, packed.as_bytes(), birth, now])?;
        forms.push(Form { table: TableIndex(place.0), key, row });
    }
    Ok(forms)
}

/// Says that what is intended stands in the application's table; nothing was merged since.
///
/// # Errors
/// See [`StoreError`].
pub fn end_waiting(connection: &Connection, database: DatabaseNumber) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "DELETE FROM unwritten WHERE database = ?1 AND (tbl, key) IN
               (SELECT tbl, key FROM intent WHERE database = ?1)",
        )?
        .execute([database.0])?;
    Ok(())
}

/// Takes note of whether the intended write came about. Rows go on waiting to be written: they may
/// have changed since, and [`intend`] leaves out those that did not.
///
/// # Errors
/// See [`DeskError`].
pub fn end_intent(
    connection: &Connection,
    database: DatabaseNumber,
    happened: bool,
) -> Result<(), DeskError> {
    if happened {
        let images = Images::new(connection, database.0);
        let mut statement = connection
            .prepare_cached("SELECT tbl, key, birth, row FROM intent WHERE database = ?")?;
        let mut rows = statement.query([database.0])?;
        while let Some(row) = rows.next()? {
            let (table, key): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let (birth, form): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get(2)?, row.get(3)?);
            let key = PackedKey::from_bytes(key);
            match form {
                Some(form) => {
                    images.put_shared(table, &key, &birth.unwrap_or_default(), &form)?;
                }
                None => images.delete(table, &key)?,
            }
        }
    } else {
        connection
            .prepare_cached("UPDATE written SET count = count - 1 WHERE database = ?")?
            .execute([database.0])?;
    }
    connection.prepare_cached("DELETE FROM intent WHERE database = ?")?.execute([database.0])?;
    Ok(())
}

/// The writes that the application's file should have seen; `None` before the first was thought of.
///
/// # Errors
/// See [`StoreError`].
pub fn writes(
    connection: &Connection,
    database: DatabaseNumber,
) -> Result<Option<i64>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT count FROM written WHERE database = ?")?
        .query_row([database.0], |row| row.get(0))
        .optional()?)
}

/// Says how many they are.
///
/// # Errors
/// See [`StoreError`].
pub fn set_writes(
    connection: &Connection,
    database: DatabaseNumber,
    count: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO written VALUES (?1, ?2)")?
        .execute(params![database.0, count])?;
    Ok(())
}

/// How many rows do not stand in the application's table as they should, counted up to `most`.
///
/// # Errors
/// See [`StoreError`].
pub fn unwritten(
    connection: &Connection,
    database: DatabaseNumber,
    most: u64,
) -> Result<u64, StoreError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    Ok(connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM unwritten WHERE database = ?1 LIMIT ?2)",
        )?
        .query_row([database.0, most], |row| row.get::<_, i64>(0))?
        .unsigned_abs())
}

/// Whether a row does not stand in the application's table as it should.
///
/// # Errors
/// What is stored is damaged, or can't be read.
pub fn is_unwritten(
    connection: &Connection,
    database: i64,
    id: &MergedId,
) -> Result<bool, DeskError> {
    let key = PackedKey::new(&id.key_values()?);
    let known = connection
        .prepare_cached("SELECT 1 FROM unwritten WHERE database = ?1 AND tbl = ?2 AND key = ?3")?
        .exists(params![database, id.table, key.as_bytes()])?;
    Ok(known)
}
