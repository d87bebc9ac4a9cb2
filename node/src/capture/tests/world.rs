//! The world that the tests run in: real files in a temporary directory.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::capture::defaults::defaults;
use crate::capture::*;
use crate::environment::FileIdentity;
use crate::environment::production::Production;
use crate::sql::{quoted, row_values};
use conflict::{SiteId, Timestamp, Value};
use protocol::change::{Assignment, Operation, RowChange};
use protocol::schema::{ColumnIndex, RowIdentity, Schema};
use protocol::{DatabaseId, Sequence};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// What a table holds by key.
type Rows = BTreeMap<PackedKey, (Vec<Value>, Vec<Value>)>;

/// An application's database under capture.
pub struct World {
    pub directory: TempDir,
    pub application: Connection,
    pub node: Connection,
    pub capture: Application,
    pub position: Position,
    pub rescan: Rescan,
    pub limits: Limits,
    /// What somebody who only gets the changes has.
    pub model: BTreeMap<String, Rows>,
    pub model_schema: Schema,
    /// How often the whole of something was compared.
    pub refreshes: usize,
}

pub fn marker(number: u128) -> Marker {
    Marker {
        database: DatabaseId(uuid::Uuid::from_u128(number)),
        site: SiteId::new(uuid::Uuid::from_u128(number + 1)),
    }
}

pub fn stamp() -> Timestamp {
    Timestamp::try_from(1 << 40).unwrap()
}

/// Opens a database as an application does.
pub fn open(path: &Path) -> Connection {
    let application = Connection::open(path).unwrap();
    application.busy_timeout(Duration::from_secs(5)).unwrap();
    application.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    application
}

impl World {
    /// In WAL mode, with this schema and content, attached and read for the first time.
    pub fn new(sql: &str) -> Self {
        Self::with(&format!("PRAGMA journal_mode = WAL; {sql}"))
    }

    pub fn with(sql: &str) -> Self {
        let mut world = Self::unattached(sql);
        world.attach();
        world
    }

    pub fn unattached(sql: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        let application = open(&path);
        application.execute_batch(sql).unwrap();
        let node = Connection::open(directory.path().join("node.db")).unwrap();
        node.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
        node.execute_batch(include_str!("../../store/schema.sql")).unwrap();
        let capture =
            Application::new(Arc::new(Production::new()), path, marker(1), Captured::default());
        Self {
            directory,
            application,
            node,
            capture,
            position: Position {
                fence: Fence { id: 0, nonce: 0 },
                schema_version: None,
                file: FileIdentity { device: 0, inode: 0 },
            },
            rescan: Rescan::default(),
            limits: Limits::default(),
            model: BTreeMap::new(),
            model_schema: Schema::default(),
            refreshes: 0,
        }
    }

    pub fn attach(&mut self) {
        let images = Images::new(&self.node, 1);
        let Polite::Done(position) = self.capture.install(&images, false).unwrap() else {
            panic!("busy")
        };
        self.position = position;
        let captured = self.capture.captured().clone();
        images.store_schema(&position, &captured.schema, Sequence::ZERO).unwrap();
        self.model_schema = captured.schema.clone();
        self.rescan = Rescan::fresh(
            (0..captured.schema.tables.len()).map(|at| protocol::schema::TableIndex(at as u32)),
        );
        self.harvest();
    }

    pub fn path(&self) -> PathBuf {
        self.capture.path().to_owned()
    }

    pub fn sql(&self, sql: &str) {
        self.application.execute_batch(sql).unwrap();
    }

    /// A new start of the node: memory is lost.
    pub fn restart(&mut self) {
        let images = Images::new(&self.node, 1);
        let (position, captured, _) = images.position().unwrap().unwrap();
        self.position = position;
        self.rescan = Rescan::default();
        self.capture =
            Application::new(Arc::new(Production::new()), self.path(), marker(1), captured);
    }

    /// Reads and folds until nothing is left; then checks model and images against the tables.
    pub fn harvest(&mut self) -> Vec<RowChange> {
        let mut all = Vec::new();
        while self.step(&mut all) {}
        self.check();
        all
    }

    /// One reading and what follows of it.
    pub fn step(&mut self, all: &mut Vec<RowChange>) -> bool {
        let transaction = self.node.unchecked_transaction().unwrap();
        let images = Images::new(&transaction, 1);
        let captured = self.capture.captured().clone();
        let work = self.rescan.next(&captured, &images, self.limits).unwrap();
        match self.capture.read(&self.position, self.limits, work.as_ref()).unwrap() {
            Reading::Nothing => return false,
            Reading::Notes(notes) => {
                let folded = fold(&notes, &captured, &images, stamp()).unwrap();
                self.position = self.rescan.advance(&notes, &folded);
                images.store_position(&self.position).unwrap();
                transaction.commit().unwrap();
                self.capture.harvested(&notes);
                let schema = &captured.schema;
                let mut seen = std::collections::BTreeSet::new();
                for change in &folded.changes {
                    assert!(seen.insert((change.table, pack(&change.key))));
                    apply(&mut self.model, schema, change);
                }
                all.extend(folded.changes);
            }
            Reading::Moved | Reading::WentBack => {
                self.refreshes += 1;
                let refreshed = match self.capture.refresh(&images, &self.position, false).unwrap()
                {
                    Polite::Done(refreshed) => refreshed,
                    Polite::Busy => panic!("busy"),
                };
                let schema = self.capture.captured().schema.clone();
                images.store_schema(&refreshed.position, &schema, Sequence(1)).unwrap();
                transaction.commit().unwrap();
                assert_eq!(refreshed.schema.is_some(), schema != self.model_schema);
                migrate(&mut self.model, &self.model_schema, &schema);
                for table in &refreshed.cleared {
                    self.model.remove(&schema.table(*table).unwrap().name);
                }
                self.model_schema = schema;
                self.position = refreshed.position;
                self.rescan = refreshed.rescan;
            }
        }
        true
    }

    /// Whether model and images hold what the application's tables hold, bit for bit.
    pub fn check(&self) {
        let images = Images::new(&self.node, 1);
        let captured = self.capture.captured();
        for (table, number) in captured.schema.tables.iter().zip(&captured.numbers) {
            let columns: Vec<String> = table.columns.iter().map(|name| quoted(name)).collect();
            let key = match &table.identity {
                RowIdentity::Key(_) => "NULL",
                RowIdentity::Rowid(name) => name,
            };
            let sql = format!("SELECT {key}, {} FROM {}", columns.join(", "), quoted(&table.name));
            let mut statement = self.application.prepare(&sql).unwrap();
            let mut rows = statement.query([]).unwrap();
            let mut base = Rows::new();
            while let Some(row) = rows.next().unwrap() {
                let values = row_values(row, 1, table.columns.len()).unwrap();
                let key = match &table.identity {
                    RowIdentity::Key(key) => {
                        key.iter().map(|at| values[at.0 as usize].clone()).collect()
                    }
                    RowIdentity::Rowid(_) => row_values(row, 0, 1).unwrap(),
                };
                base.insert(PackedKey::new(&key), (key, values));
            }
            let nothing = Rows::new();
            let model = self.model.get(&table.name).unwrap_or(&nothing);
            assert_eq!(model, &base, "model of {}", table.name);
            let kept = images.after(*number, None, usize::MAX >> 1).unwrap();
            let defaults = defaults(&captured.schema, table);
            let kept: BTreeMap<PackedKey, Vec<Value>> = kept
                .into_iter()
                .map(|(key, mut row)| {
                    let missing = defaults.iter().skip(row.len()).cloned();
                    row.extend(missing.map(Option::unwrap));
                    (key, row)
                })
                .collect();
            let base: BTreeMap<_, _> = base.into_iter().map(|(k, (_, row))| (k, row)).collect();
            assert_eq!(kept, base, "images of {}", table.name);
        }
        assert!(self.model.keys().all(|name| captured.schema.find(name).is_some()));
    }

    /// How the changes read, sorted.
    pub fn told(&self, changes: &[RowChange]) -> Vec<String> {
        let tell = |change: &RowChange| {
            let table = self.capture.captured().schema.table(change.table).unwrap();
            let what = match &change.operation {
                Operation::Insert(values) => format!("insert {values:?}"),
                Operation::Update(set) => {
                    let set: Vec<String> = set
                        .iter()
                        .map(|(ColumnIndex(at), to)| match to {
                            Assignment::Set(to) => {
                                format!("{}={to:?}", table.columns[*at as usize])
                            }
                            Assignment::Add(_) => panic!("capture adds nothing"),
                        })
                        .collect();
                    format!("update {}", set.join(" "))
                }
                Operation::Delete => "delete".to_owned(),
                Operation::Forget => panic!("capture forgets nothing"),
            };
            format!("{} {:?} {what}", table.name, change.key)
        };
        let mut told: Vec<String> = changes.iter().map(tell).collect();
        told.sort();
        told
    }

    /// Harvests, and tells what changed.
    pub fn changes(&mut self) -> Vec<String> {
        let changes = self.harvest();
        self.told(&changes)
    }
}

fn apply(model: &mut BTreeMap<String, Rows>, schema: &Schema, change: &RowChange) {
    let table = schema.table(change.table).unwrap();
    let rows = model.entry(table.name.clone()).or_default();
    let packed = PackedKey::new(&change.key);
    match &change.operation {
        Operation::Insert(values) => {
            let mut row = vec![Value::Null; table.columns.len()];
            if let RowIdentity::Key(key) = &table.identity {
                for (at, value) in key.iter().zip(&change.key) {
                    row[at.0 as usize] = value.clone();
                }
            }
            for (at, value) in table.other_columns().zip(values) {
                row[at.0 as usize] = value.clone();
            }
            rows.insert(packed, (change.key.clone(), row));
        }
        Operation::Update(set) => {
            let (_, row) = rows.get_mut(&packed).expect("an update of a row that is known");
            for (at, to) in set {
                let Assignment::Set(to) = to else { panic!("capture adds nothing") };
                row[at.0 as usize] = to.clone();
            }
        }
        Operation::Delete => {
            let (key, _) = rows.remove(&packed).expect("a delete of a row that is known");
            assert_eq!(key, change.key);
        }
        Operation::Forget => panic!("capture forgets nothing"),
    }
}

/// What a mirror does with a new schema: columns matched by name, defaults for new ones.
fn migrate(model: &mut BTreeMap<String, Rows>, old: &Schema, new: &Schema) {
    model.retain(|name, _| new.find(name).is_some());
    for (name, rows) in model {
        let after = new.table(new.find(name).unwrap()).unwrap();
        let before = old.table(old.find(name).unwrap()).unwrap();
        let defaults = defaults(new, after);
        for (_, row) in rows.values_mut() {
            let value = |(at, column): (usize, &String)| match before
                .columns
                .iter()
                .position(|name| name == column)
            {
                Some(at) => row[at].clone(),
                None => defaults[at].clone().unwrap_or(Value::Null),
            };
            *row = after.columns.iter().enumerate().map(value).collect();
        }
    }
}
