//! The states of one database: one after each commit of its application, kept up to date by what
//! the connections' witnesses saw. Rows are remembered of the current state alone, as hashes.

use super::content::{self, Content, ContentHash, RowHasher, Table, hash_tables, quoted};
use super::witness::Witness;
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What the database held after a commit, and when that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    // In two halves, so that it takes 24 bytes instead of 32.
    hash: [u64; 2],
    micros: u64,
}

impl State {
    fn new(hash: ContentHash, time: Duration) -> Self {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { hash: [(hash.0 >> 64) as u64, hash.0 as u64], micros }
    }

    /// What it held.
    pub fn hash(&self) -> ContentHash {
        ContentHash(u128::from(self.hash[0]) << 64 | u128::from(self.hash[1]))
    }

    /// How long the world had existed.
    pub fn time(&self) -> Duration {
        Duration::from_micros(self.micros)
    }
}

/// A commit's number. The first state, before any commit of the application, is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Committed(pub u64);

/// Whether the application allows its own commits to be lost (`synchronous=NORMAL`, F20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// At FULL: what is committed stays.
    Forbidden,
    /// At NORMAL: a power cut may take back the last commits.
    Allowed,
}

/// What was found after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The latest state; what was in flight did not happen.
    Latest,
    /// What was in flight did happen, and is the commit of that number.
    InFlight(Committed),
    /// The database went back to the state after that commit; this is now the state of a new one.
    WentBack(Committed),
}

/// The database holds what it never may after a crash: the application's own durability is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone(pub String);

/// One table of the current state.
#[derive(Clone, Debug)]
struct Kept {
    table: Table,
    without_rowid: bool,
    rows: BTreeMap<i64, u128>,
}

/// What a transaction that is about to commit makes of the current state.
#[derive(Debug)]
struct Pending {
    state: State,
    schema_version: i64,
    change: Change,
}

#[derive(Debug)]
enum Change {
    All(BTreeMap<String, Kept>),
    Tables(Vec<(String, TableChange)>),
}

#[derive(Debug)]
enum TableChange {
    Anew(Kept),
    Rows(Table, Vec<(i64, Option<u128>)>),
}

/// See the module. The order of calls: [`History::prepare`] within the transaction, right before
/// its COMMIT; then [`History::committed`], or [`History::abandoned`] if it was rolled back, or
/// neither if nobody knows (the disk died), and then [`History::after_crash`].
#[derive(Debug)]
pub struct History {
    begun: Instant,
    schema_version: i64,
    tables: BTreeMap<String, Kept>,
    states: Vec<State>,
    pending: Option<Pending>,
    /// What failed to commit on a disk that failed, and was not there afterwards: until the next
    /// commit writes over it, a recovery may still find it in the log.
    ghost: Option<Pending>,
}

impl History {
    /// Begins with what the database holds now as state 0. `begun` is when the world began.
    ///
    /// # Errors
    /// SQLite's.
    pub fn begin(connection: &Connection, begun: Instant) -> rusqlite::Result<Self> {
        let (schema_version, tables) = scan(connection)?;
        let state = State::new(hash_kept(&tables, &[]), begun.elapsed());
        Ok(Self { begun, schema_version, tables, states: vec![state], pending: None, ghost: None })
    }

    /// Reads what the open transaction touched: the state it is about to make.
    ///
    /// # Errors
    /// SQLite's; then nothing is prepared.
    pub fn prepare(&mut self, connection: &Connection, witness: &Witness) -> rusqlite::Result<()> {
        let touched = witness.take(connection);
        let version = schema_version(connection)?;
        let (change, hash) = if version == self.schema_version {
            let mut changes = Vec::new();
            for (name, kept) in &self.tables {
                let rows = touched.rows.get(name).map_or(&[][..], Vec::as_slice);
                if let Some(change) = reread(connection, name, kept, rows, touched.whole)? {
                    changes.push((name.clone(), change));
                }
            }
            let hash = hash_kept(&self.tables, &changes);
            (Change::Tables(changes), hash)
        } else {
            let (_, tables) = scan(connection)?;
            let hash = hash_kept(&tables, &[]);
            (Change::All(tables), hash)
        };
        let state = State::new(hash, self.begun.elapsed());
        self.pending = Some(Pending { state, schema_version: version, change });
        Ok(())
    }

    /// What was prepared is committed.
    pub fn committed(&mut self) -> Committed {
        if let Some(Pending { state, schema_version, change }) = self.pending.take() {
            self.schema_version = schema_version;
            self.ghost = None;
            self.states.push(state);
            match change {
                Change::All(tables) => self.tables = tables,
                Change::Tables(changes) => {
                    for (name, change) in changes {
                        adopt(&mut self.tables, name, change);
                    }
                }
            }
        }
        Committed(self.latest().0)
    }

    /// What was prepared was rolled back.
    pub fn abandoned(&mut self) {
        self.pending = None;
    }

    /// Whether something was prepared of which nobody knows whether it is committed.
    pub fn is_uncertain(&self) -> bool {
        self.pending.is_some()
    }

    /// The latest commit and its state.
    pub fn latest(&self) -> (u64, State) {
        let state = self.states.last().copied().unwrap();
        (self.states.len() as u64 - 1, state)
    }

    /// The state after a commit.
    pub fn state(&self, commit: u64) -> Option<State> {
        self.states.get(usize::try_from(commit).ok()?).copied()
    }

    /// The commits after which the database held this, oldest first. What may or may not be
    /// committed counts as the next commit.
    pub fn position(&self, hash: ContentHash) -> Vec<u64> {
        let halves = State::new(hash, Duration::ZERO).hash;
        let pending = self.pending.iter().map(|pending| &pending.state);
        let all = self.states.iter().chain(pending).zip(0..);
        all.filter(|(state, _)| state.hash == halves).map(|(_, commit)| commit).collect()
    }

    /// After a crash of the application, its computer or its disk: all is read anew, and must be
    /// the latest state, or the one that was about to be committed.
    ///
    /// # Errors
    /// SQLite's, outside; inside, that the content is neither.
    pub fn after_crash(
        &mut self,
        connection: &Connection,
        loss: Loss,
    ) -> rusqlite::Result<Result<Found, Undone>> {
        let (schema_version, tables) = scan(connection)?;
        let hash = hash_kept(&tables, &[]);
        let (latest, state) = self.latest();
        let pending = self.pending.take().or_else(|| self.ghost.take());
        let in_flight = pending.as_ref().filter(|pending| pending.state.hash() == hash);
        let found = match (in_flight, self.position(hash).pop()) {
            (_, Some(commit)) if commit == latest => {
                self.ghost = pending;
                Found::Latest
            }
            (Some(Pending { state, .. }), _) => {
                self.states.push(*state);
                Found::InFlight(Committed(latest + 1))
            }
            (None, Some(commit)) if loss == Loss::Allowed => {
                self.states.push(State::new(hash, self.begun.elapsed()));
                Found::WentBack(Committed(commit))
            }
            (None, past) => {
                let in_flight = match &pending {
                    None => "nothing was in flight".to_owned(),
                    Some(pending) => format!("{} was in flight", pending.state.hash()),
                };
                let past = match past {
                    None => "a state it never had".to_owned(),
                    Some(commit) => format!("the state of commit {commit}"),
                };
                self.pending = pending;
                return Ok(Err(Undone(format!(
                    "after the crash the database holds {hash}, {past}; the latest is commit \
                     {latest} ({}, {:?}), and {in_flight}",
                    state.hash(),
                    state.time(),
                ))));
            }
        };
        (self.schema_version, self.tables) = (schema_version, tables);
        Ok(Ok(found))
    }

    /// Somebody else is known to have written (the node rolled the file forward, or people put
    /// another in its place): all is read anew, and what is there is the state of a new commit if
    /// it differs from the latest.
    ///
    /// # Errors
    /// SQLite's.
    pub fn read_anew(&mut self, connection: &Connection) -> rusqlite::Result<Committed> {
        (self.schema_version, self.tables) = scan(connection)?;
        (self.pending, self.ghost) = (None, None);
        let hash = hash_kept(&self.tables, &[]);
        if hash != self.latest().1.hash() {
            self.states.push(State::new(hash, self.begun.elapsed()));
        }
        Ok(Committed(self.latest().0))
    }

    /// A clone of this database holds something else: that is a state which its origin had, too.
    /// The latest state stays the latest.
    ///
    /// # Errors
    /// SQLite's.
    pub fn also_had(&mut self, clone: &Connection) -> rusqlite::Result<()> {
        let latest = self.latest().1.hash();
        let elsewhere = content::read(clone)?.hash();
        let now = self.begun.elapsed();
        self.states.extend([elsewhere, latest].map(|hash| State::new(hash, now)));
        Ok(())
    }

    /// What the current state is, by what was seen of each commit.
    pub fn content(&self) -> Content {
        let tables = self.tables.iter().map(|(name, kept)| (name.clone(), kept.table.clone()));
        Content { tables: tables.collect() }
    }

    /// Whether the database holds just what was seen of each commit; if not, in which tables not.
    ///
    /// # Errors
    /// SQLite's.
    pub fn check(&self, connection: &Connection) -> rusqlite::Result<Result<(), String>> {
        let (seen, read) = (self.content(), content::read(connection)?);
        if seen == read && read.hash() == self.latest().1.hash() {
            return Ok(Ok(()));
        }
        let names = seen.tables.keys().chain(read.tables.keys());
        let mut apart: Vec<&String> =
            names.filter(|name| seen.tables.get(*name) != read.tables.get(*name)).collect();
        apart.sort();
        apart.dedup();
        Ok(Err(format!(
            "the database holds {}, and commit {} made it {}; apart: {apart:?}",
            read.hash(),
            self.latest().0,
            self.latest().1.hash(),
        )))
    }
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))
}

/// Everything, with the version of the schema.
fn scan(connection: &Connection) -> rusqlite::Result<(i64, BTreeMap<String, Kept>)> {
    content::in_snapshot(connection, |connection| {
        let mut tables = BTreeMap::new();
        for shape in content::shapes(connection)? {
            let kept = scan_table(connection, &shape.name, shape.columns, shape.without_rowid)?;
            tables.insert(shape.name, kept);
        }
        Ok((schema_version(connection)?, tables))
    })
}

fn scan_table(
    connection: &Connection,
    name: &str,
    columns: Vec<String>,
    without_rowid: bool,
) -> rusqlite::Result<Kept> {
    let rowid = if without_rowid { "0" } else { "rowid" };
    let sql = format!("SELECT {rowid}, * FROM {}", quoted(name));
    let mut kept =
        Kept { table: Table { columns, ..Table::default() }, without_rowid, rows: BTreeMap::new() };
    let mut select = connection.prepare_cached(&sql)?;
    let (mut rows, mut hasher) = (select.query([])?, RowHasher::default());
    while let Some(row) = rows.next()? {
        let hash = hasher.hash(row, 1, kept.table.columns.len())?;
        kept.table.rows += 1;
        kept.table.sum = kept.table.sum.wrapping_add(hash);
        if !without_rowid {
            kept.rows.insert(row.get(0)?, hash);
        }
    }
    Ok(kept)
}

/// What became of a table of which these rows were touched; `whole` says that every change was
/// seen but those of REPLACE.
fn reread(
    connection: &Connection,
    name: &str,
    kept: &Kept,
    rowids: &[i64],
    whole: bool,
) -> rusqlite::Result<Option<TableChange>> {
    let anew = || {
        scan_table(connection, name, kept.table.columns.clone(), kept.without_rowid)
            .map(|kept| Some(TableChange::Anew(kept)))
    };
    if rowids.is_empty() && whole {
        return Ok(None);
    }
    if kept.without_rowid || rowids.len() > kept.rows.len() {
        return anew();
    }
    let mut rowids = rowids.to_vec();
    rowids.sort_unstable();
    rowids.dedup();
    let mut table = kept.table.clone();
    let mut rows = Vec::with_capacity(rowids.len());
    if !rowids.is_empty() {
        let sql = format!("SELECT * FROM {} WHERE rowid = ?1", quoted(name));
        let mut select = connection.prepare_cached(&sql)?;
        let mut hasher = RowHasher::default();
        for rowid in rowids {
            let columns = table.columns.len();
            let now = select.query_row([rowid], |row| hasher.hash(row, 0, columns)).optional()?;
            if let Some(before) = kept.rows.get(&rowid) {
                table.rows -= 1;
                table.sum = table.sum.wrapping_sub(*before);
            }
            if let Some(now) = now {
                table.rows += 1;
                table.sum = table.sum.wrapping_add(now);
            }
            rows.push((rowid, now));
        }
    }
    let count: i64 = connection
        .prepare_cached(&format!("SELECT count(*) FROM {}", quoted(name)))?
        .query_row([], |row| row.get(0))?;
    if u64::try_from(count) != Ok(table.rows) {
        anew()
    } else {
        Ok(Some(TableChange::Rows(table, rows)))
    }
}

fn adopt(tables: &mut BTreeMap<String, Kept>, name: String, change: TableChange) {
    match change {
        TableChange::Anew(kept) => drop(tables.insert(name, kept)),
        TableChange::Rows(table, rows) => {
            let Some(kept) = tables.get_mut(&name) else { return };
            kept.table = table;
            for (rowid, hash) in rows {
                match hash {
                    Some(hash) => drop(kept.rows.insert(rowid, hash)),
                    None => drop(kept.rows.remove(&rowid)),
                }
            }
        }
    }
}

fn hash_kept(tables: &BTreeMap<String, Kept>, changes: &[(String, TableChange)]) -> ContentHash {
    hash_tables(tables.iter().map(|(name, kept)| {
        match changes.iter().find(|(changed, _)| changed == name) {
            None => (name, &kept.table),
            Some((_, TableChange::Anew(kept))) => (name, &kept.table),
            Some((_, TableChange::Rows(table, _))) => (name, table),
        }
    }))
}
