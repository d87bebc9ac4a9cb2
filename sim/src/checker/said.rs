//! What sites said of a shared database, as the journals have it: the one thing that the oracle takes
//! from nodes, for the stamps. That it is what applications did is looked at elsewhere.

use super::books::{origin, unsigned};
use crate::oracle::fold::{Id, Said, Stamp, Told, What, part};
use conflict::{Rule, SiteId, Timestamp, Version};
use protocol::change::{Assignment, Body, Operation, RowChange, SchemaReference};
use protocol::limits::Limits;
use protocol::schema::{ColumnIndex, RowIdentity, Schema};
use protocol::snapshot::decode_chunk;
use protocol::{BranchId, Frame, Header, SignedManifest};
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;

/// The beginnings of names that no table of the application has: the node's own, and what somebody
/// smuggled in.
const OTHERS: [&str; 3] = ["_holdfast", "sqlite_", "smuggled"];

/// What all journals together say.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// All changes, each with the batch that it came in.
    changes: Vec<(u64, Said)>,
    /// By row, who said in which batch that it is forgotten.
    forgotten: BTreeMap<Id, Vec<(SiteId, u64)>>,
    /// By origin and stamp, which batch it was that bears the stamp.
    batches: BTreeMap<(SiteId, u64), u64>,
    /// By origin, and from which of its batches on, what it had merged of whom.
    heard: BTreeMap<(SiteId, SiteId), Vec<(u64, u64)>>,
}

impl Journals {
    /// Whether the site that made one change had merged the other before. What bears a stamp of its
    /// own, beside its batch's, is not known here: then it is not said so.
    pub fn had_merged(&self, later: Version, earlier: Version) -> bool {
        let at = |version: Version| {
            self.batches.get(&(version.origin, version.timestamp.as_u64())).copied()
        };
        let (Some(later_at), Some(earlier_at)) = (at(later), at(earlier)) else { return false };
        let heard = self.heard.get(&(later.origin, earlier.origin)).into_iter().flatten();
        heard.take_while(|(from, _)| *from <= later_at).any(|(_, to)| *to >= earlier_at)
    }
}

impl Journals {
    /// All that was ever said.
    pub fn said(&self) -> Vec<Said> {
        self.changes.iter().map(|(_, said)| said.clone()).collect()
    }

    /// The same without what those had merged who said that the row is forgotten.
    pub fn remembered(&self) -> Vec<Said> {
        let changes = self.changes.iter().filter(|(at, said)| {
            let mut forgotten = self.forgotten.get(&said.row).into_iter().flatten();
            !forgotten.any(|(by, then)| self.has_heard((*by, *then), (said.stamp.site, *at)))
        });
        changes.map(|(_, said)| said.clone()).collect()
    }

    /// Whether a site had merged another's batch when it made one.
    fn has_heard(&self, (by, then): (SiteId, u64), (of, at): (SiteId, u64)) -> bool {
        if by == of {
            return at <= then;
        }
        let heard = self.heard.get(&(by, of)).into_iter().flatten();
        heard.take_while(|(from, _)| *from <= then).any(|(_, to)| *to >= at)
    }
}

/// Reads what a site's `node.db` has of the wanted origins' branches; `chunks` gives those of a base.
pub(super) fn read(
    connection: &Connection,
    mut wanted: impl FnMut(SiteId) -> bool,
    chunks: impl Fn(BranchId) -> BTreeMap<i64, Vec<u8>>,
    journals: &mut Journals,
) -> Result<(), String> {
    let tell = |error: rusqlite::Error| error.to_string();
    let mut branches = connection
        .prepare("SELECT number, branch, opening, base FROM branch ORDER BY number")
        .map_err(tell)?;
    let mut rows = branches.query([]).map_err(tell)?;
    while let Some(row) = rows.next().map_err(tell)? {
        let number: i64 = row.get(0).map_err(tell)?;
        let branch = BranchId(row.get(1).map_err(tell)?);
        let site = origin(&row.get::<_, Vec<u8>>(2).map_err(tell)?).map_err(tell)?;
        if !wanted(site) {
            continue;
        }
        let reader = Reader { connection, number, site };
        let all = &mut *journals;
        if row.get::<_, i64>(3).map_err(tell)? > 0 {
            reader.base(&chunks(branch), all)?;
        }
        reader.batches(all)?;
    }
    Ok(())
}

/// Whose branch that is.
fn origin_of(connection: &Connection, branch: BranchId) -> Result<Option<SiteId>, String> {
    let opening: Option<Vec<u8>> = connection
        .query_row("SELECT opening FROM branch WHERE branch = ?1", [branch.0], |row| row.get(0))
        .optional()
        .map_err(|error| error.to_string())?;
    opening.map(|opening| origin(&opening).map_err(|error| error.to_string())).transpose()
}

struct Reader<'a> {
    connection: &'a Connection,
    number: i64,
    site: SiteId,
}

impl Reader<'_> {
    /// What the database began with: stamped as the batch that tells of it.
    fn base(&self, chunks: &BTreeMap<i64, Vec<u8>>, all: &mut Journals) -> Result<(), String> {
        let manifest: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT manifest FROM manifest WHERE branch = ?1", [self.number], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|error| error.to_string())?;
        let Some(manifest) = manifest else { return Err("a base without its manifest".into()) };
        let signed = SignedManifest::decode(&manifest).map_err(|error| error.to_string())?;
        let manifest = signed.manifest();
        let frame: Vec<u8> = self
            .connection
            .query_row(
                "SELECT frame FROM batch WHERE branch = ?1 AND sequence >= ?2
                 ORDER BY sequence LIMIT 1",
                (self.number, manifest.sequence.0.cast_signed()),
                |row| row.get(0),
            )
            .map_err(|error| format!("the batch beside a base: {error}"))?;
        let stamp = Header::read(&frame).map_err(|error| error.to_string())?.meta.timestamp;
        if chunks.len() != manifest.chunks.len() {
            return Err(format!("{} of {} chunks of a base", chunks.len(), manifest.chunks.len()));
        }
        for bytes in chunks.values() {
            let body = decode_chunk(bytes, &Limits::default()).map_err(|e| e.to_string())?;
            self.body(body, &manifest.schema, (manifest.sequence.0, stamp), all)?;
        }
        Ok(())
    }

    fn batches(&self, all: &mut Journals) -> Result<(), String> {
        let tell = |error: rusqlite::Error| error.to_string();
        let mut schemas: BTreeMap<u64, Schema> = BTreeMap::new();
        let mut batches = self
            .connection
            .prepare("SELECT sequence, frame FROM batch WHERE branch = ?1 ORDER BY sequence")
            .map_err(tell)?;
        let mut rows = batches.query([self.number]).map_err(tell)?;
        while let Some(row) = rows.next().map_err(tell)? {
            let sequence = unsigned(row.get(0).map_err(tell)?);
            let frame: Vec<u8> = row.get(1).map_err(tell)?;
            let told = |error: protocol::DecodeError| format!("batch {sequence}: {error}");
            let stamp = Header::read(&frame).map_err(told)?.meta.timestamp;
            let mut body = Frame::decode_body(&frame, &Limits::default()).map_err(told)?;
            let at = match std::mem::take(&mut body.schema) {
                SchemaReference::Here(schema) => {
                    schemas.insert(sequence, *schema);
                    sequence
                }
                SchemaReference::At(at) => at.0,
            };
            all.batches.insert((self.site, stamp.as_u64()), sequence);
            for (branch, to) in &body.dependencies {
                if let Some(other) = origin_of(self.connection, *branch)? {
                    all.heard.entry((self.site, other)).or_default().push((sequence, to.0));
                }
            }
            let schema = schemas.get(&at).ok_or("a batch in an unknown schema")?;
            self.body(body, schema, (sequence, stamp), all)?;
        }
        Ok(())
    }

    fn body(
        &self,
        body: Body,
        schema: &Schema,
        (sequence, stamp): (u64, Timestamp),
        all: &mut Journals,
    ) -> Result<(), String> {
        if !body.cleared.is_empty() {
            return Err("a table of a shared database is cleared".into());
        }
        for change in body.changes {
            let forgets = change.operation == Operation::Forget;
            let Some(said) = self.change(change, schema, stamp)? else { continue };
            match forgets {
                true => all.forgotten.entry(said.row).or_default().push((self.site, sequence)),
                false => all.changes.push((sequence, said)),
            }
        }
        Ok(())
    }

    fn change(
        &self,
        change: RowChange,
        schema: &Schema,
        stamp: Timestamp,
    ) -> Result<Option<Said>, String> {
        let table = schema.table(change.table).ok_or("a change of no table")?;
        if OTHERS.iter().any(|other| table.name.starts_with(other)) {
            return Ok(None);
        }
        let RowIdentity::Key(_) = &table.identity else {
            return Err(format!("{} has no key", table.name));
        };
        let name = |column: &ColumnIndex| {
            table.columns.get(column.0 as usize).cloned().ok_or("a change of no column")
        };
        let rule = |column: &ColumnIndex| {
            let rule = change.rules.iter().find(|(known, _)| known == column);
            rule.map_or(Rule::LastWriter, |(_, rule)| *rule)
        };
        let what = match &change.operation {
            // That a row is forgotten is no word about it.
            Operation::Delete | Operation::Forget => What::Delete,
            Operation::Insert(values) => {
                let mut columns = BTreeMap::new();
                for (column, value) in table.other_columns().zip(values) {
                    columns.insert(name(&column)?, Told::Set(value.clone(), rule(&column)));
                }
                What::Insert(columns)
            }
            Operation::Update(assignments) => {
                let mut columns = BTreeMap::new();
                for (column, assignment) in assignments {
                    let told = match assignment {
                        Assignment::Set(value) => Told::Set(value.clone(), rule(column)),
                        Assignment::Add(amount) => Told::Added(amount.clone()),
                    };
                    columns.insert(name(column)?, told);
                }
                What::Update(columns)
            }
        };
        let mut refers = BTreeMap::new();
        for (column, birth) in &change.references {
            refers.insert(name(column)?, version(*birth));
        }
        let key: Option<Vec<_>> = change.key.iter().map(part).collect();
        let key = key.ok_or_else(|| format!("a key of {} is {:?}", table.name, change.key))?;
        let row = Id { table: table.name.clone(), key, birth: change.birth.map(version) };
        let time = change.stamp.unwrap_or(stamp);
        let stamp = version(Version { timestamp: time, origin: self.site });
        Ok(Some(Said { stamp, row, what, refers }))
    }
}

fn version(version: Version) -> Stamp {
    Stamp { time: version.timestamp.as_u64(), site: version.origin }
}
