//! What must hold of a shared database: its files are whole and their foreign keys too, at every
//! look; at rest all are alike, and hold what the applications did.

use crate::drive::{Checked, Drive};
use crate::oracle::{self, ledger};
use crate::plan::At;
use crate::workload::clerk::TABLES;
use rusqlite::Connection;

/// So many faults of a file are told at once.
const TOLD: usize = 8;

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

    /// B: all files are alike, and hold what the applications did.
    pub(crate) async fn look_at_shared_content(&mut self) -> Checked {
        let mut first: Option<(At, oracle::Content)> = None;
        for at in self.places() {
            if self.shops[at.0].burned {
                continue;
            }
            let name = self.name(at);
            let path = self.original(at);
            let looked = self.world.disk(name).look(&path).and_then(|connection| {
                let content = oracle::content::read(&connection)?;
                Ok((content, ledger::read(&connection, TABLES)?))
            });
            let (content, rows) = match looked {
                Ok(looked) => looked,
                Err(error) => return Err(self.broken("E: files can be read", error.to_string())),
            };
            let wrong = match rows {
                Ok(rows) => self.in_ledger(|ledger| ledger.judge(&rows)),
                Err(twice) => vec![twice],
            };
            if !wrong.is_empty() {
                let what = format!(
                    "{} faults of {name}'s file:\n{}\n{}",
                    wrong.len(),
                    wrong[..wrong.len().min(TOLD)].join("\n"),
                    self.explain_shared().await,
                );
                return Err(self.broken("B: a shared database holds what was done", what));
            }
            match &first {
                None => first = Some((at, content)),
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
        self.tell(format!("all have the same: {rows} rows ever, {deeds} deeds; {conflicts}"));
        Ok(())
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
