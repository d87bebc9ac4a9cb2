//! One site: an application's database, and what `node.db` knows of it.

use crate::capture::{Captured, Fence, Images, NotedRow, Notes, PackedKey, Position, inspect};
use crate::environment::FileIdentity;
use crate::shared::book::Book;
use crate::shared::conflicts::Context;
use crate::shared::forget::Unseen;
use crate::shared::incoming::Reading;
use crate::shared::intent::{end_intent, end_waiting, intend, set_writes};
use crate::shared::local::Local;
use crate::shared::numbers::Numbers;
use crate::shared::owed::Owed;
use crate::shared::own::{Own, Stamp};
use crate::shared::{MergedId, Policy, keep_mark, rekey};
use crate::sql::{bind, quoted, row_values};
use crate::store::{BranchNumber, DatabaseNumber};
use conflict::visible::{Outcome, RowId, whole};
use conflict::{SiteId, Timestamp, Value, WallTime};
use protocol::Sequence;
use protocol::change::{Body, Operation, RowChange, SchemaReference};
use protocol::limits::Limits;
use protocol::membership::Residues;
use protocol::schema::{Schema, TableIndex};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};

pub const DATABASE: i64 = 1;

#[derive(Clone, Debug)]
pub struct Batch {
    pub origin: usize,
    pub sequence: usize,
    /// How much of every site its origin had.
    needs: Vec<usize>,
    timestamp: Timestamp,
    body: Vec<u8>,
    is_heartbeat: bool,
}

pub struct Site {
    pub name: String,
    pub number: usize,
    pub app: Connection,
    pub store: Connection,
    captured: Captured,
    numbers: Numbers,
    pub local: Local,
    pub made: Vec<Batch>,
    /// Those of others that are merged.
    taken: Vec<Batch>,
    /// How much of every site is here.
    vector: Vec<usize>,
    pub clock: u64,
    /// It says nothing of its own unless the test has it do so.
    pub waits: bool,
}

pub fn site_id(number: usize) -> SiteId {
    SiteId::from_bytes([number as u8 + 1; 16])
}

impl Site {
    /// Sites with one schema, empty.
    pub fn group(count: usize, sql: &str, policy: &Policy) -> Vec<Self> {
        (0..count).map(|number| Self::new(number, count, sql, policy)).collect()
    }

    fn new(number: usize, count: usize, sql: &str, policy: &Policy) -> Self {
        let app = Connection::open_in_memory().unwrap();
        app.execute_batch(sql).unwrap();
        app.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        let store = Connection::open_in_memory().unwrap();
        store.execute_batch(include_str!("../../store/schema.sql")).unwrap();
        let images = Images::new(&store, DATABASE);
        let schema = inspect(&app, None).unwrap().schema;
        let captured = images.number_tables(&schema).unwrap();
        let numbers = Numbers::new(DATABASE);
        let codes = (0..count).map(|site| (site_id(site), format!("s{site}"))).collect();
        let local =
            Local::new(&store, &captured, &numbers, codes, (site_id(number), policy.clone()))
                .unwrap();
        Self {
            name: format!("s{number}"),
            number,
            app,
            store,
            captured,
            numbers,
            local,
            made: Vec::new(),
            taken: Vec::new(),
            vector: vec![0; count],
            clock: 1000,
            waits: false,
        }
    }

    fn schema(&self) -> &Schema {
        &self.captured.schema
    }

    pub fn table(&self, name: &str) -> TableIndex {
        self.schema().find(name).unwrap()
    }

    /// What the application does. It may be refused: whether it was done.
    pub fn run(&self, sql: &str) -> bool {
        self.app.execute_batch(sql).is_ok()
    }

    /// All rows of all tables that are shared, in the order of keys.
    pub fn content(&self) -> BTreeMap<String, Vec<Vec<Value>>> {
        let tables = self.local.tables.iter().filter(|table| !table.stays);
        tables.map(|table| (table.name.clone(), self.rows(&table.name))).collect()
    }

    pub fn rows(&self, table: &str) -> Vec<Vec<Value>> {
        let at = self.schema().find(table).unwrap();
        let width = self.schema().table(at).unwrap().columns.len();
        let columns: Vec<String> =
            self.schema().table(at).unwrap().columns.iter().map(|c| quoted(c)).collect();
        let sql = format!("SELECT {} FROM {} ORDER BY 1, 2", columns.join(", "), quoted(table));
        let mut statement = self.app.prepare(&sql).unwrap();
        let rows = statement.query_map([], |row| row_values(row, 0, width)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// What a harvest reads: every row that differs from its image, by comparing everything.
    fn notes(&self) -> Notes {
        let images = Images::new(&self.store, DATABASE);
        let mut rows = BTreeMap::new();
        for (at, table) in self.schema().tables.iter().enumerate() {
            let index = TableIndex(at as u32);
            let number = self.captured.number(index).unwrap();
            let local = &self.local.tables[at];
            for (key, image) in images.after(number, None, usize::MAX >> 1).unwrap() {
                let noted =
                    NotedRow { key: local.key_of(&image), row: None, kept: false, noted: true };
                rows.insert((index, key), noted);
            }
            for row in self.rows(&table.name) {
                let key = local.key_of(&row);
                let packed = PackedKey::new(&key);
                rows.insert(
                    (index, packed),
                    NotedRow { key, row: Some(row), kept: true, noted: true },
                );
            }
        }
        let position = Position {
            fence: Fence { id: 1, nonce: 1 },
            schema_version: Some(1),
            file: FileIdentity { device: 0, inode: 0 },
        };
        let written = Some((WallTime(1), WallTime(1)));
        Notes { rows, written, count: 1, position, more: false, counts: Vec::new(), slice: None }
    }

    fn context(&self) -> Context<'_> {
        let connection = &self.store;
        Context { connection, database: DatabaseNumber(DATABASE), now: WallTime(1) }
    }

    /// Numbers what the application did; whether it did anything.
    pub fn harvest(&mut self) -> bool {
        let notes = self.notes();
        self.clock += 1;
        let timestamp = Timestamp::try_from(self.clock << 20).unwrap();
        let book = Book::new(&self.store, DATABASE, &self.local, &self.numbers);
        let stamp = Stamp { timestamp, site: site_id(self.number), compared: false };
        let own = book.take_own(&notes, &self.captured, stamp).unwrap();
        book.finish(self.context(), true).unwrap();
        let moved = !own.folded.changes.is_empty();
        if moved {
            self.number_batch(own.folded.changes, timestamp);
        }
        self.write();
        moved | (!self.waits && self.follow_up())
    }

    /// What this site says of its own of what was merged; whether it says anything.
    pub fn follow_up(&mut self) -> bool {
        let database = DatabaseNumber(DATABASE);
        if !Owed::Number.is_due(&self.store, database).unwrap()
            && !Owed::Mark.is_due(&self.store, database).unwrap()
        {
            return false;
        }
        self.clock += 1;
        let timestamp = Timestamp::try_from(self.clock << 20).unwrap();
        let book = Book::new(&self.store, DATABASE, &self.local, &self.numbers);
        let stamp = Stamp { timestamp, site: site_id(self.number), compared: false };
        let mut own = Own::default();
        rekey::rekey(&book, stamp, Residues(1 << self.number), &mut own).unwrap();
        keep_mark::keep(&book, stamp, &mut own).unwrap();
        book.finish(self.context(), true).unwrap();
        let moved = !own.folded.changes.is_empty();
        if moved {
            self.number_batch(own.folded.changes, timestamp);
        }
        self.write();
        moved
    }

    /// Numbers what the application never did.
    pub fn forge(&mut self, changes: Vec<RowChange>) {
        self.clock += 1;
        let timestamp = Timestamp::try_from(self.clock << 20).unwrap();
        self.number_batch(changes, timestamp);
    }

    /// Says that all that is merged here is before the application.
    pub fn beat(&mut self) {
        self.clock += 1;
        let timestamp = Timestamp::try_from(self.clock << 20).unwrap();
        self.number_batch(Vec::new(), timestamp);
    }

    /// Whether the application of every site is known to have had this much before it.
    pub fn all_beat(&self, vector: &[usize]) -> bool {
        let known = || self.made.iter().chain(&self.taken).filter(|batch| batch.is_heartbeat);
        (0..vector.len()).all(|site| {
            let last = known().filter(|batch| batch.origin == site).max_by_key(|it| it.sequence);
            last.is_some_and(|batch| {
                let had = |(other, until): (usize, &usize)| match other == site {
                    true => batch.sequence >= *until,
                    false => batch.needs[other] >= *until,
                };
                vector.iter().enumerate().all(had)
            })
        })
    }

    pub fn vector(&self) -> &[usize] {
        &self.vector
    }

    fn number_batch(&mut self, changes: Vec<RowChange>, timestamp: Timestamp) {
        let schema = SchemaReference::Here(Box::new(self.schema().clone()));
        let is_heartbeat = changes.is_empty();
        let body = Body { schema, changes, ..Body::default() };
        let needs = self.vector.clone();
        self.vector[self.number] += 1;
        let sequence = self.vector[self.number];
        let body = protocol::codec::encode(&body).unwrap();
        let origin = self.number;
        self.made.push(Batch { origin, sequence, needs, timestamp, body, is_heartbeat });
    }

    pub fn can_take(&self, batch: &Batch) -> bool {
        batch.origin != self.number
            && self.vector[batch.origin] + 1 == batch.sequence
            && batch.needs.iter().zip(&self.vector).all(|(needed, here)| needed <= here)
    }

    /// Takes what can be taken, whatever order it is in; whether there was any.
    pub fn receive_all(&mut self, batches: &[Batch]) -> bool {
        let mut moved = false;
        while let Some(batch) = batches.iter().find(|batch| self.can_take(batch)) {
            self.receive(batch);
            moved = true;
        }
        moved
    }

    pub fn receive(&mut self, batch: &Batch) {
        self.merge(batch);
        // As the write step does: what the application did meanwhile comes first.
        self.harvest();
    }

    /// Merges without writing to the application's tables.
    pub fn merge(&mut self, batch: &Batch) {
        assert!(self.can_take(batch));
        let body = protocol::codec::decode(&batch.body, &Limits::default()).unwrap();
        let SchemaReference::Here(schema) = body.schema else { panic!("no schema") };
        let origin = site_id(batch.origin);
        let reading = Reading::new(&self.store, &self.numbers, *schema, origin).unwrap();
        let book = Book::new(&self.store, DATABASE, &self.local, &self.numbers);
        let (forgotten, changes): (Vec<_>, Vec<_>) =
            body.changes.into_iter().partition(|change| change.operation == Operation::Forget);
        let forgotten: BTreeSet<_> = forgotten.iter().map(|it| reading.row(it).unwrap()).collect();
        let unseen = self.unseen(batch, &forgotten);
        for row in &forgotten {
            book.forget(row, unseen.of(row)).unwrap();
        }
        for change in changes {
            let incoming = reading.read(change, batch.timestamp).unwrap();
            book.merge(&incoming.id, incoming.version, &incoming.change, &incoming.parents)
                .unwrap();
        }
        book.finish(self.context(), true).unwrap();
        self.vector[batch.origin] = batch.sequence;
        self.taken.push(batch.clone());
    }

    /// What was merged here that the origin of a batch had not.
    fn unseen<'r>(&self, of: &Batch, rows: &'r BTreeSet<MergedId>) -> Unseen<'r> {
        let mut unseen = Unseen::new(rows);
        let here = self.made.iter().chain(&self.taken);
        for batch in here.filter(|batch| batch.sequence > of.needs[batch.origin]) {
            if batch.origin == of.origin {
                continue;
            }
            let body = protocol::codec::decode(&batch.body, &Limits::default()).unwrap();
            let SchemaReference::Here(schema) = body.schema else { panic!("no schema") };
            let origin = site_id(batch.origin);
            let reading = Reading::new(&self.store, &self.numbers, *schema, origin).unwrap();
            let named = |site: usize| BranchNumber(site as i64);
            let seen = (0..).map(named).zip(batch.needs.iter().map(|at| Sequence(*at as u64)));
            let number = (named(batch.origin), Sequence(batch.sequence as u64), batch.timestamp);
            unseen.take(number, &seen.collect(), &reading, body.changes).unwrap();
        }
        unseen
    }

    /// The dead rows of which nothing is seen.
    pub fn dead(&self) -> Vec<MergedId> {
        let mut statement =
            self.store.prepare("SELECT tbl, key, birth FROM dead_row ORDER BY 1, 2, 3").unwrap();
        let rows = statement
            .query_map([], |row| {
                Ok(MergedId { table: row.get(0)?, key: row.get(1)?, birth: row.get(2)? })
            })
            .unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Forgets those of these rows that may be; how many.
    pub fn forget(&mut self, rows: Vec<MergedId>) -> usize {
        self.clock += 1;
        let timestamp = Timestamp::try_from(self.clock << 20).unwrap();
        let book = Book::new(&self.store, DATABASE, &self.local, &self.numbers);
        let mut own = Own::default();
        book.forget_dead(rows, &mut own).unwrap();
        book.finish(self.context(), true).unwrap();
        let count = own.folded.changes.len();
        if count > 0 {
            self.number_batch(own.folded.changes, timestamp);
        }
        count
    }

    /// Writes what does not stand in the application's tables as it should.
    fn write(&mut self) {
        let book = Book::new(&self.store, DATABASE, &self.local, &self.numbers);
        let forms = intend(&book).unwrap();
        for form in &forms {
            let table = &self.local.tables[form.table.0 as usize];
            assert!(!table.stays, "{}: {} is written, which stays here", self.name, table.name);
        }
        set_writes(&self.store, DatabaseNumber(DATABASE), 1).unwrap();
        self.app.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").unwrap();
        for form in &forms {
            let table = &self.local.tables[form.table.0 as usize];
            let terms: Vec<String> = (1..)
                .zip(&table.key)
                .map(|(at, place)| {
                    let column = quoted(&table.columns[*place].name);
                    format!("{column} = ?{at} COLLATE BINARY")
                })
                .collect();
            let sql = format!("DELETE FROM {} WHERE {}", quoted(&table.name), terms.join(" AND "));
            let mut statement = self.app.prepare(&sql).unwrap();
            bind(&mut statement, &form.key).unwrap();
            statement.raw_execute().unwrap();
        }
        for form in &forms {
            let Some(row) = &form.row else { continue };
            let table = &self.local.tables[form.table.0 as usize];
            let columns: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
            let places = vec!["?"; columns.len()].join(", ");
            let sql = format!(
                "INSERT OR ABORT INTO {} ({}) VALUES ({places})",
                quoted(&table.name),
                columns.join(", ")
            );
            let mut statement = self.app.prepare(&sql).unwrap();
            bind(&mut statement, row).unwrap();
            statement.raw_execute().unwrap_or_else(|error| {
                panic!("{}: {} refuses {row:?}: {error}", self.name, table.name)
            });
        }
        self.app.execute_batch("COMMIT; PRAGMA foreign_keys = ON").unwrap();
        end_waiting(&self.store, DatabaseNumber(DATABASE)).unwrap();
        end_intent(&self.store, DatabaseNumber(DATABASE), true).unwrap();
    }

    /// Has other rules from now on, and settles everything anew under them, so many rows at once.
    pub fn has_rules(&mut self, policy: &Policy, at_once: usize) {
        let codes = (0..self.vector.len()).map(|site| (site_id(site), format!("s{site}")));
        let own = (site_id(self.number), policy.clone());
        self.local =
            Local::new(&self.store, &self.captured, &self.numbers, codes.collect(), own).unwrap();
        let book = || Book::new(&self.store, DATABASE, &self.local, &self.numbers);
        book().begin_settling(self.context()).unwrap();
        let mut after = None;
        loop {
            after = book().settle_some(self.context(), true, after.as_ref(), at_once).unwrap();
            if after.is_none() {
                break;
            }
        }
    }

    /// The tables whose rows stay here.
    fn staying(&self) -> BTreeSet<&str> {
        let staying = self.local.tables.iter().filter(|table| table.stays);
        staying.map(|table| table.name.as_str()).collect()
    }

    /// What must hold whenever a step is done.
    pub fn check(&self) {
        let staying = self.staying();
        let sql = "SELECT \"table\", parent FROM pragma_foreign_key_check";
        let mut broken = self.app.prepare(sql).unwrap();
        let broken = broken.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let broken: Vec<(String, String)> = broken
            .map(Result::unwrap)
            .filter(|(child, parent): &(String, String)| {
                !staying.contains(&child[..]) && !staying.contains(&parent[..])
            })
            .collect();
        assert_eq!(broken, [], "{}: a foreign key is broken", self.name);
        let (meant, kept) = self.merged();
        let fresh = whole(meant, &self.local.desk).unwrap();
        let mut shown: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (row, outcome) in &fresh {
            assert_eq!(kept.get(row), Some(outcome), "{}: settle is not f", self.name);
            if let conflict::visible::Shown::Visible { values, .. } = &outcome.shown {
                let name = self.local.tables[row.table.0 as usize].name.clone();
                shown.entry(name).or_default().insert(crate::capture::pack(values));
            }
        }
        for (table, rows) in self.content() {
            let rows: BTreeSet<_> = rows.iter().map(|row| crate::capture::pack(row)).collect();
            let should = shown.remove(&table).unwrap_or_default();
            assert_eq!(rows, should, "{}: {table} is not what f shows", self.name);
        }
    }

    fn merged(&self) -> (BTreeMap<RowId, conflict::visible::Meant>, BTreeMap<RowId, Outcome>) {
        let book = Book::new(&self.store, DATABASE, &self.local, &self.numbers);
        let (mut meant, mut outcomes) = (BTreeMap::new(), BTreeMap::new());
        for table in self.local.tables.iter().filter(|table| !table.stays) {
            for (id, stored) in book.after(table.number, None, usize::MAX >> 1).unwrap() {
                let row = self.local.row_id(&id).unwrap().unwrap();
                let outcome = book.outcome_before(&row, Some(&stored)).unwrap();
                meant.insert(row.clone(), book.meant(&row, &stored).unwrap());
                outcomes.insert(row, outcome);
            }
        }
        (meant, outcomes)
    }

    /// The merged rows, bit for bit but for this site's numbers.
    pub fn states(&self) -> Vec<(MergedId, conflict::row::RowState)> {
        let book = Book::new(&self.store, DATABASE, &self.local, &self.numbers);
        let tables = self.local.tables.iter();
        let rows = tables.flat_map(|table| book.after(table.number, None, 1 << 40).unwrap());
        rows.map(|(id, stored)| (id, stored.state)).collect()
    }

    pub fn sequence(&self) -> Sequence {
        Sequence(self.vector[self.number] as u64)
    }
}
