//! What a site's `node.db` says, read as any SQLite file: how far each branch is, and how far others
//! are said to be.

use crate::disk::Disk;
use crate::plan::At;
use conflict::SiteId;
use protocol::SignedOpening;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::Path;

/// How far a branch is at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its number in that `node.db`.
    pub number: i64,
    /// The highest sequence held without a gap.
    pub held: u64,
    /// What others may count on: nothing without the base.
    pub durable: u64,
    /// The highest sequence held that a copy may show.
    pub visible: u64,
    /// The highest sequence in the copy.
    pub applied: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// By whose branch it is.
    pub holdings: BTreeMap<SiteId, Holding>,
    /// Whose branch, and who: how far that one is said to be.
    pub claims: BTreeMap<(SiteId, SiteId), u64>,
}

impl Books {
    /// Reads them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut books = Self::default();
        let mut branches = connection.prepare(
            "SELECT b.number, b.opening, b.held, b.applied, b.base = 0 OR b.base_held,
                    (SELECT sequence FROM batch WHERE branch = b.number AND more = 0
                     ORDER BY sequence DESC LIMIT 1)
             FROM branch b",
        )?;
        let mut rows = branches.query([])?;
        let mut origins: BTreeMap<i64, SiteId> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let (number, origin) = (row.get(0)?, origin(&row.get::<_, Vec<u8>>(1)?)?);
            origins.insert(number, origin);
            let held = unsigned(row.get(2)?);
            let durable = if row.get(4)? { held } else { 0 };
            let visible = row.get::<_, Option<i64>>(5)?.map_or(0, unsigned);
            let applied = unsigned(row.get(3)?);
            let holding = Holding { number, held, durable, visible, applied };
            books.holdings.insert(origin, holding);
        }
        let mut claims = connection.prepare("SELECT branch, site, durable FROM progress")?;
        let mut rows = claims.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(origin) = origins.get(&row.get(0)?) {
                books.claims.insert((*origin, site(row.get(1)?)), unsigned(row.get(2)?));
            }
        }
        Ok(books)
    }
}

/// The books of all sites, each read again only when its file has changed.
#[derive(Debug, Default)]
pub struct Shelf(BTreeMap<At, (u64, Books)>);

impl Shelf {
    /// A site's books as a power cut would leave them, and as they are.
    ///
    /// # Errors
    /// SQLite's.
    pub fn read(&mut self, at: At, disk: &Disk, path: &Path) -> rusqlite::Result<(Books, Books)> {
        let mutations = disk.mutations(path);
        let known = self.0.get(&at).filter(|(then, _)| *then == mutations);
        let current = match known {
            Some((_, books)) => books.clone(),
            None => Books::read(&disk.look(path)?)?,
        };
        self.0.insert(at, (mutations, current.clone()));
        let durable = match disk.is_settled(path) {
            true => current.clone(),
            false => Books::read(&disk.look_durable(path)?)?,
        };
        Ok((durable, current))
    }
}

/// Whose branch it is that was opened so.
pub(super) fn origin(opening: &[u8]) -> rusqlite::Result<SiteId> {
    let opening = SignedOpening::decode(opening).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
    })?;
    Ok(opening.opening().origin)
}

fn site(bytes: [u8; 16]) -> SiteId {
    SiteId::from_bytes(bytes)
}

/// Sequences are below 2^63; a negative one is damage, and never the next.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
