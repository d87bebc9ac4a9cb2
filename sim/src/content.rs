//! The hash of what databases hold: every table with every row, and the schema. How it lies in the
//! files does not count.

use crate::disk::Disk;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::path::Path;

const SQLITE: &[u8] = b"SQLite format 3\0";

/// The content of all SQLite databases on some disks. One that SQLite can't read counts by its
/// bytes.
pub fn hash<'a>(disks: impl Iterator<Item = &'a Disk>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for disk in disks {
        for path in disk.list() {
            let Ok(bytes) = disk.read(&path) else { continue };
            if bytes.starts_with(SQLITE) {
                let hash = hash_database(disk, &path).unwrap_or_else(|_| blake3::hash(&bytes));
                part(&mut hasher, b'D', path.as_os_str().as_encoded_bytes());
                part(&mut hasher, b'H', hash.as_bytes());
            }
        }
    }
    hasher.finalize()
}

fn hash_database(disk: &Disk, path: &Path) -> rusqlite::Result<blake3::Hash> {
    hash_connection(&disk.look(path)?)
}

fn hash_connection(connection: &Connection) -> rusqlite::Result<blake3::Hash> {
    connection.execute_batch("BEGIN")?;
    let mut hasher = blake3::Hasher::new();
    let mut tables = Vec::new();
    {
        let mut schema = connection
            .prepare("SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY 1, 2")?;
        let mut rows = schema.query([])?;
        while let Some(row) = rows.next()? {
            let (kind, name, sql): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            part(&mut hasher, b'S', sql.as_bytes());
            if kind == "table" {
                tables.push(name);
            }
        }
    }
    for table in tables {
        part(&mut hasher, b'T', table.as_bytes());
        let name = table.replace('"', "\"\"");
        let columns = connection.prepare(&format!("SELECT * FROM \"{name}\""))?.column_count();
        let order: Vec<String> = (1..=columns).map(|column| column.to_string()).collect();
        let sql = format!("SELECT * FROM \"{name}\" ORDER BY {}", order.join(", "));
        let mut select = connection.prepare(&sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => part(&mut hasher, b'0', &[]),
                    ValueRef::Integer(value) => part(&mut hasher, b'i', &value.to_le_bytes()),
                    ValueRef::Real(value) => part(&mut hasher, b'r', &value.to_le_bytes()),
                    ValueRef::Text(text) => part(&mut hasher, b't', text),
                    ValueRef::Blob(blob) => part(&mut hasher, b'b', blob),
                }
            }
        }
    }
    Ok(hasher.finalize())
}

/// What kind of thing, how long, and the thing: no two contents look alike.
fn part(hasher: &mut blake3::Hasher, kind: u8, bytes: &[u8]) {
    hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}
