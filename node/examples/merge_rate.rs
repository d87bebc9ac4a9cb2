//! Measures how fast a site of a shared database merges and writes what another one did, as a ratio
//! to plain SQLite doing the same rows by prepared statements in transactions of the same size,
//! both at synchronous FULL; and what `node.db` keeps of each row. Receiving batches is not part
//! of it.
//!
//! `cargo run --release -p node --example merge_rate [-- ROWS]`

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example, not the node")]

use anyhow::{Context, bail};
use node::directory::Directory;
use node::engine::members::{found, fresh_site, joined, new_store, read_or_make_key};
use node::engine::{
    AttachRequest, Engine, EngineError, EngineWorker, Harvest, Refresh, SharedStep, attach,
};
use node::environment::Environment;
use node::environment::production::Production;
use node::store::DatabaseNumber;
use protocol::invitation::{JoinReply, JoinRequest};
use protocol::{BranchId, Mode, Sequence, SignedOpening};
use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TABLE: &str = "CREATE TABLE lines (id INTEGER PRIMARY KEY AUTOINCREMENT, \
     sku TEXT NOT NULL, quantity INTEGER NOT NULL, cents INTEGER NOT NULL, vat REAL, at TEXT)";
const INSERT: &str = "INSERT INTO lines (id, sku, quantity, cents, vat, at) \
     VALUES (?1, 'SKU' || (?1 * 7919 % 100003), ?1 % 9, ?1 % 977, 0.19, '2026-11-23T09:00:00')";
const UPDATE: &str = "UPDATE lines SET cents = cents + 1 WHERE id = ?1";
const OTHER: &str = "UPDATE lines SET cents = cents + 2 WHERE id = ?1";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let rows: i64 = match std::env::args().nth(1) {
        Some(rows) => rows.parse().context("ROWS is a number")?,
        None => 20_000,
    };
    let directory = std::env::temp_dir().join(format!("merge-rate-{}", std::process::id()));
    println!("{rows} rows, rows a second");
    println!("{:>8} {:>12} {:>10} {:>10} {:>6}", "batch", "", "plain", "shared", "ratio");
    for batch in [10, 100, 1_000] {
        let rows = rows.min(batch * 1_000);
        std::fs::create_dir_all(&directory)?;
        let mut from = Shop::founded(&directory.join("a")).await?;
        let mut to = from.joining(&directory.join("b")).await?;
        let plain = Connection::open(directory.join("plain.db"))?;
        plain.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
        plain.execute_batch(TABLE)?;
        for (what, sql, own) in
            [("insert", INSERT, None), ("update", UPDATE, None), ("conflict", UPDATE, Some(OTHER))]
        {
            let began = Instant::now();
            in_transactions(&plain, sql, rows, batch)?;
            let floor = began.elapsed();
            if let Some(own) = own {
                in_transactions(&to.application, own, rows, rows)?;
                to.harvest().await?;
            }
            let mut done = 0;
            while done < rows {
                in_transactions_from(&from.application, sql, done, (done + batch).min(rows))?;
                from.harvest().await?;
                done += batch;
            }
            to.hears(&from).await?;
            let began = Instant::now();
            to.settle().await?;
            let rate = |time: Duration| rows as f64 / time.as_secs_f64();
            let (plain, shared) = (rate(floor), rate(began.elapsed()));
            println!("{batch:>8} {what:>12} {plain:>10.0} {shared:>10.0} {:>6.2}", shared / plain);
            from.hears(&to).await?;
            from.settle().await?;
        }
        let store = Connection::open(to.folder.join("site/node.db"))?;
        let kept: i64 = store.query_row(
            "SELECT sum(pgsize) FROM dbstat WHERE name GLOB 'merged*' OR name = 'image'",
            [],
            |row| row.get(0),
        )?;
        let there: i64 =
            plain.query_row("SELECT sum(pgsize) FROM dbstat WHERE name = 'lines'", [], |row| {
                row.get(0)
            })?;
        println!(
            "{:>8} {:>12} {} bytes a row in node.db, {} in the table itself",
            "",
            "",
            kept / rows,
            there / rows
        );
        drop((from, to, plain));
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(())
}

fn in_transactions(
    connection: &Connection,
    sql: &str,
    rows: i64,
    batch: i64,
) -> anyhow::Result<()> {
    let mut done = 0;
    while done < rows {
        in_transactions_from(connection, sql, done, (done + batch).min(rows))?;
        done += batch;
    }
    Ok(())
}

fn in_transactions_from(
    connection: &Connection,
    sql: &str,
    from: i64,
    to: i64,
) -> anyhow::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for row in from..to {
        statement.execute(params![row + 1])?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

/// A site with an application beside it.
struct Shop {
    folder: PathBuf,
    engine: EngineWorker,
    application: Connection,
    number: DatabaseNumber,
}

fn environment() -> Arc<dyn Environment> {
    Arc::new(Production::default())
}

impl Shop {
    async fn founded(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let directory = Directory::new(folder.join("site"));
        let addresses = ["localhost:4433".to_owned()];
        found(&*environment(), &directory, &"a".parse()?, "127.0.0.1:4433".parse()?, &addresses)?;
        let application = Connection::open(folder.join("lines.db"))?;
        application.execute_batch("PRAGMA journal_mode = WAL")?;
        application.execute_batch(TABLE)?;
        Self::attached(folder, directory, Some(application)).await
    }

    async fn joining(&self, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let directory = Directory::new(folder.join("site"));
        let mut store = new_store(&*environment(), &directory)?;
        let key = read_or_make_key(&*environment(), &directory)?.public();
        let invitation = self.step(|engine| engine.invite(60_000)).await?;
        let request = JoinRequest {
            id: invitation.id,
            secret: invitation.secret.clone(),
            site: fresh_site(&*environment()),
            name: "b".parse()?,
        };
        let asked = request.clone();
        let welcome = self.step(move |engine| engine.admit(&asked, key)).await?;
        let JoinReply::Welcome { records, .. } = welcome.reply else { bail!("not admitted") };
        joined(&mut store, &invitation, &request, records, "127.0.0.1:4434".parse()?, &[])?;
        drop(store);
        let engine = Engine::open(environment(), directory.clone())?;
        let waiting = Self {
            folder: folder.to_owned(),
            engine: EngineWorker::new(&*environment(), engine),
            application: Connection::open_in_memory()?,
            number: self.number,
        };
        waiting.hears(self).await?;
        waiting.engine.close().await?;
        Self::attached(folder, directory, None).await
    }

    async fn attached(
        folder: &Path,
        directory: Directory,
        application: Option<Connection>,
    ) -> anyhow::Result<Self> {
        let engine = Engine::open(environment(), directory)?;
        let engine = EngineWorker::new(&*environment(), engine);
        let file = folder.join("lines.db");
        let mode = Some(Mode::Shared);
        let request = AttachRequest { mode, ..AttachRequest::new("lines".parse()?, file.clone()) };
        let (number, ..) = attach(&engine, request, Duration::ZERO).await?;
        let application = match application {
            Some(application) => application,
            None => Connection::open(file)?,
        };
        let mut shop = Self { folder: folder.to_owned(), engine, application, number };
        while let SharedStep::Moved(_) = shop.move_on().await? {}
        shop.settle().await?;
        Ok(shop)
    }

    async fn step<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<R, EngineError> + Send + 'static,
    ) -> anyhow::Result<R> {
        Ok(self.engine.step("measure", work).await?)
    }

    async fn move_on(&self) -> anyhow::Result<SharedStep> {
        let number = self.number;
        self.step(move |engine| engine.step_shared(number)).await
    }

    async fn harvest(&mut self) -> anyhow::Result<()> {
        let number = self.number;
        loop {
            match self.step(move |engine| engine.read_harvest(number)).await? {
                Harvest::Nothing => return Ok(()),
                Harvest::Notes(notes) => {
                    self.step(move |engine| {
                        engine.sync_application(number)?;
                        engine.commit_harvest(number, &notes)
                    })
                    .await?;
                }
                Harvest::Moved => {
                    let moved = self.step(move |engine| engine.refresh_capture(number)).await?;
                    if !matches!(moved, Refresh::Done(_)) {
                        bail!("{moved:?}");
                    }
                }
                other => bail!("{other:?}"),
            }
        }
    }

    /// Merges and writes all that is here.
    async fn settle(&mut self) -> anyhow::Result<()> {
        loop {
            match self.move_on().await? {
                SharedStep::Moved(_) => {}
                SharedStep::Even => return Ok(()),
                SharedStep::Busy => self.harvest().await?,
                stuck => bail!("{stuck:?}"),
            }
        }
    }

    /// Takes all that another site holds.
    async fn hears(&self, from: &Self) -> anyhow::Result<()> {
        let branches = from.step(|engine| Ok(engine.local_branches()?)).await?;
        for local in branches {
            let opening = SignedOpening::clone(&local.opening);
            let branch: BranchId = local.holding.branch;
            self.step(move |engine| engine.admit_branch(opening).map(drop)).await?;
            loop {
                let here = self.step(move |engine| Ok(engine.local_branch_of(branch)?)).await?;
                let Some(here) = here else { break };
                let held: Sequence = here.holding.held;
                let read = move |engine: &mut Engine| engine.read_flight(branch, held);
                let Some(flight) = from.step(read).await? else { break };
                self.step(move |engine| engine.receive_flight(&flight).map(drop)).await?;
            }
            let manifest = from.step(move |engine| engine.read_manifest(branch)).await?;
            if let Some(manifest) = manifest {
                self.step(move |engine| engine.receive_manifest(&manifest).map(drop)).await?;
            }
        }
        Ok(())
    }
}
