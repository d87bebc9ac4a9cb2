//! The hash of what databases hold: every table with every row, and the schema. Neither the
//! layout of the files nor where the world's folder lies counts.

use crate::disk::Disk;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

const SQLITE: &[u8] = b"SQLite format 3\0";

/// The content of all SQLite databases on a disk.
pub fn hash(disk: &Disk) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for path in disk.files(disk.root()).unwrap() {
        if std::fs::read(&path).unwrap().starts_with(SQLITE) {
            let shown = path.strip_prefix(disk.root()).unwrap_or(&path).to_string_lossy();
            let hash = hash_database(&path, disk.root()).unwrap();
            part(&mut hasher, b'D', shown.as_bytes());
            part(&mut hasher, b'H', hash.as_bytes());
        }
    }
    hasher.finalize()
}

fn hash_database(path: &Path, root: &Path) -> rusqlite::Result<blake3::Hash> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
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
    let root = root.as_os_str().as_encoded_bytes();
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
                    ValueRef::Text(text) => {
                        part(&mut hasher, b't', text.strip_prefix(root).unwrap_or(text));
                    }
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
