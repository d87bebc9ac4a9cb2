//! What must hold of a shared database: its files are whole and their foreign keys too, at every
//! look; at rest all are alike, and hold what the applications did.

use super::said::Journals;
use crate::drive::{Checked, Drive};
use crate::oracle::fold::{Fold, Id, Part, Said, Told, What, part};
use crate::oracle::published::Published;
use crate::oracle::visible::{self, Shape, Visible};
use crate::oracle::{self, ledger};
use crate::outcome::Failure;
use crate::plan::At;
use crate::workload::clerk::{SHAPES, TABLES};
use conflict::{SiteId, Value};
use node::shared::conflicts::Detail;
use node::shared::conflicts::list::{self, Conflict};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::{BTreeMap, BTreeSet};

/// So many faults of a file are told at once.
const TOLD: usize = 8;

/// What one site's file holds.
struct Looked {
    content: oracle::Content,
    rows: Result<ledger::Rows, String>,
    /// What it should.
    seen: Visible,
    /// Where it holds something else.
    differs: Vec<String>,
}

impl Drive<'_> {
    /// E: at any moment each site's file is whole, and refers to nothing that is not there.
    pub(crate) fn look_at_shared(&mut self) -> Checked {
        for at in self.places() {
            let shop = &self.shops[at.0];
            let path = self.original(at);
            let disk = self.world.disk(shop.name);
            if shop.clerk.is_none() || shop.burned || !disk.exists(&path) {
                continue;
            }
            let mutations = disk.mutations(&path);
            if self.checker.looked_at.insert(at, mutations) == Some(mutations) {
                continue;
            }
            let said = disk.look(&path).and_then(|connection| is_whole(&connection));
            let said = said.unwrap_or_else(|error| Some(error.to_string()));
            if let Some(what) = said {
                let what = format!("{}: {what}", path.display());
                return Err(self.broken("E: a shared database is whole at any moment", what));
            }
            self.checker.looks += 1;
        }
        Ok(())
    }

    /// B: all files are alike, and hold what the applications did: what all sites said, folded by
    /// stamp, and said is what was done.
    pub(crate) async fn look_at_shared_content(&mut self) -> Checked {
        let journals = self.said()?;
        let said = &journals.said;
        let site = |id| self.checker.site(id).map(|at| at.0);
        let published = Published::new(said, TABLES, site);
        let wrong = self.in_ledger(|ledger| published.judge(ledger));
        let wrong = [wrong, backfills(said)].concat();
        if !wrong.is_empty() {
            let check = "A: what was done is published, and nothing else";
            return Err(self.judged(check, "what was published", &wrong).await);
        }
        let fold = Fold::new(said);
        let mut first: Option<(At, oracle::Content)> = None;
        for at in self.places() {
            if self.shops[at.0].burned {
                continue;
            }
            let name = self.name(at);
            let looked = match self.look_at_one(at, &fold) {
                Ok(looked) => looked,
                Err(error) => return Err(self.broken("E: files can be read", error.to_string())),
            };
            let Looked { content, rows, seen, differs } = looked;
            let told = self.no_conflicts(at, &journals);
            if !told.is_empty() {
                let check = "H: what is listed as a conflict is one";
                return Err(self.judged(check, &format!("{name}'s list"), &told).await);
            }
            if !differs.is_empty() {
                let check = "B: a shared database is what follows from all that was said";
                return Err(self.judged(check, &format!("{name}'s file"), &differs).await);
            }
            let parked = seen.parked.iter().filter_map(|id| published.name(id).cloned()).collect();
            let wrong = match rows {
                Ok(rows) => self.in_ledger(|ledger| ledger.judge(&rows, &parked)),
                Err(twice) => vec![twice],
            };
            if !wrong.is_empty() {
                let check = "B: a shared database holds what was done";
                return Err(self.judged(check, &format!("{name}'s file"), &wrong).await);
            }
            match &first {
                None => {
                    self.note_met(said, &seen);
                    first = Some((at, content));
                }
                Some((other, same)) if *same != content => {
                    let other = *other;
                    let difference = self.differ(other, at).unwrap_or_else(|e| e.to_string());
                    let what = format!("{difference}\n{}", self.explain_shared().await);
                    return Err(self.broken("B: all files of a shared database are alike", what));
                }
                Some(_) => {}
            }
        }
        let (rows, deeds) = self.in_ledger(|ledger| ledger.extent());
        let conflicts = self.conflicts(At(0)).unwrap_or_else(|error| error.to_string());
        self.tell(format!(
            "all have the same: {rows} rows ever, {deeds} deeds, {} changes, {} ties; {conflicts}",
            said.len(),
            fold.ties
        ));
        Ok(())
    }

    async fn judged(&mut self, check: &str, whose: &str, wrong: &[String]) -> Failure {
        let told = wrong[..wrong.len().min(TOLD)].join("\n");
        let explained = self.explain_shared().await;
        self.broken(check, format!("{} faults of {whose}:\n{told}\n{explained}", wrong.len()))
    }

    /// What all sites said, each branch by a journal in which nobody damaged it.
    fn said(&self) -> Checked<Journals> {
        let (mut journals, mut read) = (Journals::default(), BTreeSet::new());
        for at in self.places() {
            if self.shops[at.0].burned {
                continue;
            }
            let name = self.name(at);
            let wanted = |origin: SiteId| {
                let of = self.checker.site(origin);
                !of.is_some_and(|of| self.checker.is_rotten(at, of)) && read.insert(origin)
            };
            let chunks = |branch| self.chunks(at, &self.world.base(name, branch));
            let looked = self.world.disk(name).look(&self.node_db(at));
            let said = looked.map_err(|error| error.to_string()).and_then(|connection| {
                super::said::read(&connection, wanted, chunks, &mut journals)
            });
            if let Err(what) = said {
                let what = format!("{name}'s journal can't be read: {what}");
                return Err(self.broken("E: journals are whole", what));
            }
        }
        Ok(journals)
    }

    /// What a site lists as a conflict, though who won had merged what lost before: it was replaced
    /// by somebody who knew.
    fn no_conflicts(&self, at: At, journals: &Journals) -> Vec<String> {
        let looked = self.world.disk(self.name(at)).look(&self.node_db(at));
        let listed = looked.ok().and_then(|connection| list::undecided(&connection).ok());
        let Some(listed) = listed else {
            return vec!["it can't be read".to_owned()];
        };
        let mut wrong = Vec::new();
        for Conflict { table, kind, detail, .. } in listed {
            let Detail::Lost { loser, winner } = detail else { continue };
            // A site's own application may not have seen what its node had merged.
            let own = self.checker.site(winner.version.origin) == Some(at);
            if !own && journals.had_merged(winner.version, loser.version) {
                wrong.push(format!(
                    "{} in {table}: {loser:?} lost to {winner:?}, which had merged it",
                    kind.as_str()
                ));
            }
        }
        wrong
    }

    /// What one site's file holds, and what it should.
    fn look_at_one(&self, at: At, fold: &Fold) -> rusqlite::Result<Looked> {
        let disk = self.world.disk(self.name(at));
        let connection = disk.look(&self.original(at))?;
        let columns = columns(&connection)?;
        let codes = self.checker.codes(|at| self.name(at).to_owned());
        let seen = visible::visible(fold, SHAPES, &columns, &codes);
        let mut differs = Vec::new();
        for shape in SHAPES {
            let Some(columns) = columns.get(shape.table) else { continue };
            compare(&connection, shape, columns, &seen, &mut differs)?;
        }
        let told = disk.look(&self.node_db(at))?;
        let kinds =
            [("parked", seen.parked.len() as u64), ("marked", seen.marked), ("kept", seen.kept)];
        for (kind, should) in kinds {
            let sql = "SELECT count(*) FROM conflict WHERE kind = ?1";
            let is: u64 = told.query_row(sql, [kind], |row| row.get::<_, i64>(0))?.unsigned_abs();
            if is != should {
                differs
                    .push(format!("its conflicts list {is} {kind} rows, and there are {should}"));
            }
        }
        let content = oracle::content::read(&connection)?;
        let rows = ledger::read(&connection, TABLES)?;
        Ok(Looked { content, rows, seen, differs })
    }

    /// Which faults of the catalogue the applications brought about by themselves.
    fn note_met(&mut self, said: &[Said], seen: &Visible) {
        let mut counted: BTreeMap<&Id, BTreeSet<SiteId>> = BTreeMap::new();
        let (mut odd, mut counts) = (false, false);
        for Said { stamp, row, what, .. } in said {
            odd |= row.table == "oddity";
            let What::Update(columns) = what else { continue };
            if columns.values().any(|told| matches!(told, Told::Added(_))) {
                let sites = counted.entry(row).or_default();
                sites.insert(stamp.site);
                counts |= sites.len() > 1;
            }
        }
        let met = [(40, seen.marked > 0), (41, seen.kept > 0), (45, counts), (46, odd), (47, true)];
        for (number, _) in met.into_iter().filter(|(_, met)| *met) {
            self.note_fired(number);
        }
    }

    /// What a site's node had to decide, by kind.
    fn conflicts(&self, at: At) -> rusqlite::Result<String> {
        let connection = self.world.disk(self.name(at)).look(&self.node_db(at))?;
        let mut select = connection
            .prepare("SELECT kind, count(*) FROM conflict GROUP BY kind ORDER BY kind")?;
        let told = select.query_map([], |row| {
            Ok(format!("{} {}", row.get::<_, i64>(1)?, row.get::<_, String>(0)?))
        })?;
        Ok(told.collect::<rusqlite::Result<Vec<_>>>()?.join(", "))
    }

    fn differ(&self, a: At, b: At) -> rusqlite::Result<String> {
        let one = self.world.disk(self.name(a)).look(&self.original(a))?;
        let other = self.world.disk(self.name(b)).look(&self.original(b))?;
        oracle::difference((self.name(a), &one), (self.name(b), &other), 8)
    }

    /// What all sites say of it.
    pub(crate) async fn explain_shared(&mut self) -> String {
        let mut all = String::new();
        for at in self.places() {
            if let Some(status) = self.world.try_status(self.name(at)).await {
                all.push_str(&node::status::render(&status));
            }
        }
        all
    }
}

/// What is wrong with a file.
fn is_whole(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let said: String = connection.query_row("PRAGMA integrity_check(3)", [], |row| row.get(0))?;
    if said != "ok" {
        return Ok(Some(said));
    }
    let mut check = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = check.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (table, rowid, parent): (String, Option<i64>, String) =
        (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(Some(format!("row {rowid:?} of {table} refers to no row of {parent}")))
}

/// F36: a column that was added makes no traffic.
fn backfills(said: &[Said]) -> Vec<String> {
    let empty = |said: &&Said| match &said.what {
        What::Update(columns) => ["email", "extra", "mail"]
            .iter()
            .any(|column| columns.get(*column).is_some_and(is_null)),
        _ => false,
    };
    let is_null = said.iter().filter(empty);
    is_null.map(|said| format!("{:?} is told to have nothing in a new column", said.row)).collect()
}

fn is_null(told: &Told) -> bool {
    matches!(told, Told::Set(Value::Null, _))
}

/// The columns of a file's tables, with what rows hold in those that nobody set.
fn columns(connection: &Connection) -> rusqlite::Result<BTreeMap<String, BTreeMap<String, Value>>> {
    let mut all = BTreeMap::new();
    for shape in SHAPES {
        let mut columns = BTreeMap::new();
        let mut select = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let names = select.query_map([shape.table], |row| row.get::<_, String>(0))?;
        for name in names {
            // No column here has a default.
            columns.insert(name?, Value::Null);
        }
        all.insert(shape.table.to_owned(), columns);
    }
    Ok(all)
}

/// Compares a table with what should be seen of it.
fn compare(
    connection: &Connection,
    shape: &Shape,
    columns: &BTreeMap<String, Value>,
    seen: &Visible,
    differs: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let names: Vec<&String> = columns.keys().collect();
    let listed = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let mut select = connection.prepare(&format!("SELECT {listed} FROM {}", shape.table))?;
    let mut rows = select.query([])?;
    let mut there = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let values = read(row, &names)?;
        let key: Vec<Part> =
            shape.key.iter().filter_map(|column| values.get(*column).and_then(part)).collect();
        let name = (shape.table.to_owned(), key);
        match seen.rows.get(&name) {
            Some(should) if *should == values => {}
            Some(should) => {
                let other =
                    values.iter().filter(|(column, value)| should.get(*column) != Some(value));
                let other: Vec<String> = other
                    .map(|(column, value)| {
                        format!("{column} is {value:?} and should be {:?}", should.get(column))
                    })
                    .collect();
                differs.push(format!("{name:?}: {}", other.join(", ")));
            }
            None => differs.push(format!("{name:?} should not be there: {values:?}")),
        }
        there.insert(name);
    }
    for (name, values) in &seen.rows {
        if name.0 == shape.table && !there.contains(name) {
            differs.push(format!("{name:?} is not there: {values:?}"));
        }
    }
    Ok(())
}

fn read(row: &Row<'_>, names: &[&String]) -> rusqlite::Result<BTreeMap<String, Value>> {
    let mut values = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        let value = match row.get_ref(place)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => Value::Text(text.to_vec()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        };
        values.insert((*name).clone(), value);
    }
    Ok(values)
}
