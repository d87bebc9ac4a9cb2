//! The demo's stage: the directory, three sites with their nodes, tills and lines, and what can be
//! done to them. What is done when, and how it is told, is the story's.

use super::meter::{Board, CopyBoard, LOOK, Meter, SITES};
use super::process::{Node, Program};
use super::relay::Relay;
use super::screen::{Screen, count};
use super::till::Till;
use crate::control::{self, Request};
use crate::directory::Directory;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::status::{DatabaseStatus, Status};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The sites.
pub(super) const NAMES: [&str; SITES] = ["downtown", "uptown", "harbour"];
/// What every site's database is called.
pub(super) const DATABASE: &str = "pos";
/// How often counters are shown.
const TICK: Duration = Duration::from_millis(200);
/// How long copies may take to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Over the counters: time of the act, batches of each site, and of the copies at each site the
/// rows and for how long a sale has been missing.
const HEADING: &str =
    "      time   batches made    rows at downtown, behind    uptown, behind   harbour, behind";

/// What the demo is asked for.
#[derive(Debug)]
pub struct Options {
    /// The binary `node`.
    pub program: PathBuf,
    /// Where everything lies; `None`: in a temporary directory that goes afterwards.
    pub dir: Option<PathBuf>,
    /// How long the sales of the second act go on.
    pub sales: Duration,
}

/// The demo, with all that it started.
#[derive(Debug)]
pub struct Demo {
    pub(super) environment: Arc<dyn Environment>,
    pub(super) screen: Screen,
    pub(super) sales: Duration,
    pub(super) board: Arc<Mutex<Board>>,
    pub(super) lines: Vec<Relay>,
    program: Program,
    dir: PathBuf,
    temporary: bool,
    nodes: [Option<Node>; SITES],
    tills: Vec<Till>,
    meter: Option<Meter>,
    /// What each site last said of itself.
    pub(super) known: [Option<Status>; SITES],
    /// When the act began, and whether its counters have a heading yet.
    act: (Instant, bool),
}

impl Demo {
    /// Makes the directory.
    ///
    /// # Errors
    /// There is something in it already, or it can't be made.
    pub fn open(
        environment: &Arc<dyn Environment>,
        options: Options,
        screen: Screen,
    ) -> Result<Self, Failure> {
        let (dir, temporary) = match options.dir {
            Some(dir) => {
                let dir = std::path::absolute(&dir).map_err(|error| {
                    Failure::usage(
                        format!("{} is no path: {error}.", dir.display()),
                        "Name another.",
                    )
                })?;
                (dir, false)
            }
            None => {
                let mut random = [0; 6];
                environment.fill_random(&mut random);
                let name = data_encoding::HEXLOWER.encode(&random);
                (std::env::temp_dir().join(format!("holdfast-demo-{name}")), true)
            }
        };
        let another = "Name a directory with --dir that is empty or does not exist.";
        let unable = |error: std::io::Error| {
            Failure::unable(format!("{} can't be used: {error}.", dir.display()), another)
        };
        if dir.exists() && !dir.is_dir() {
            return Err(Failure::usage(format!("{} is no directory.", dir.display()), another));
        }
        if !environment.list_directory(&dir).map_err(unable)?.is_empty() {
            return Err(Failure::usage(
                format!(
                    "{} is not empty: the demo touches nothing that it did not make.",
                    dir.display()
                ),
                another,
            ));
        }
        for part in ["shops", "logs"] {
            environment.create_directory(&dir.join(part)).map_err(unable)?;
        }
        Ok(Self {
            environment: Arc::clone(environment),
            screen,
            sales: options.sales,
            board: Arc::default(),
            lines: Vec::new(),
            program: Program(options.program),
            dir,
            temporary,
            nodes: [const { None }; SITES],
            tills: Vec::new(),
            meter: None,
            known: [const { None }; SITES],
            act: (Instant::now(), false),
        })
    }

    /// Ends whatever still runs, and removes the directory unless it was asked for or `keep`.
    /// Returns where things are kept.
    ///
    /// # Errors
    /// The directory can't be removed.
    pub async fn close(mut self, keep: bool) -> Result<Option<PathBuf>, Failure> {
        self.meter = None;
        for till in &mut self.tills {
            till.close().await;
        }
        self.tills.clear();
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            // One that has ended already is what is wanted.
            if let Err(error) = node.kill().await {
                tracing::warn!(%error, "at the end of the demo");
            }
        }
        if keep || !self.temporary {
            return Ok(Some(self.dir));
        }
        std::fs::remove_dir_all(&self.dir).map_err(|error| {
            Failure::unable(
                format!("{} can't be removed: {error}.", self.dir.display()),
                "Remove it by hand.",
            )
        })?;
        Ok(None)
    }

    /// What the meter and the tills wrote down.
    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A site's own directory.
    pub(super) fn site_dir(&self, site: usize) -> PathBuf {
        self.dir.join(name(site))
    }

    /// A till's database.
    pub(super) fn original(&self, site: usize) -> PathBuf {
        self.dir.join("shops").join(name(site)).join("pos.db")
    }

    /// The copy of a till's database at another site.
    pub(super) fn copy(&self, origin: usize, at: usize) -> PathBuf {
        self.site_dir(at).join("mirrors").join(name(origin)).join(format!("{DATABASE}.db"))
    }

    /// Makes the shops' databases, with so many products each, and the meter that looks at them.
    pub(super) async fn build(&mut self, products: [u32; SITES]) -> Result<(), Failure> {
        let unable = |error: String| {
            Failure::unable(
                format!("The sample shops can't be made: {error}."),
                "Look whether the disk is full.",
            )
        };
        for (site, size) in products.into_iter().enumerate() {
            let path = self.original(site);
            if let Some(parent) = path.parent() {
                self.environment.create_directory(parent).map_err(|e| unable(e.to_string()))?;
            }
            let till = Till::make(&self.environment, &self.board, site, &path, size).await;
            self.tills.push(till.map_err(|error| unable(error.to_string()))?);
            self.lines.push(Relay::open().map_err(|error| unable(error.to_string()))?);
        }
        let copies = copies().map(|(origin, at)| (origin, at, self.copy(origin, at))).collect();
        let originals = (0..SITES).map(|site| self.original(site)).collect();
        self.meter = Some(Meter::start(&self.environment, &self.board, originals, copies));
        Ok(())
    }

    /// Founds the first site or lets another join it, starts its node, and attaches its till.
    pub(super) async fn found(&mut self, site: usize) -> Result<(), Failure> {
        let dir = self.site_dir(site);
        let address =
            self.lines.get(site).map(|line| line.address().to_string()).unwrap_or_default();
        let mut arguments =
            vec!["--site", name(site), "--listen", "127.0.0.1:0", "--address", &address];
        if site == 0 {
            self.program.run(&dir, "init", &arguments).await?;
        } else {
            let invited = self.program.run::<&str>(&self.site_dir(0), "invite", &[]).await?;
            let code = invited.get("code").and_then(Value::as_str).ok_or_else(|| {
                Failure::unable("`node invite` printed no code.", "This is a bug.")
            })?;
            arguments.push(code);
            self.program.run(&dir, "join", &arguments).await?;
        }
        self.switch_on(site).await?;
        let path = self.original(site).display().to_string();
        self.program.run(&dir, "attach", &[DATABASE, &path]).await?;
        Ok(())
    }

    /// Starts a site's node.
    pub(super) async fn switch_on(&mut self, site: usize) -> Result<(), Failure> {
        let log = self.dir.join("logs").join(format!("{}.log", name(site)));
        let node = Node::start(&self.program, name(site), &self.site_dir(site), &log).await?;
        if let Some(line) = self.lines.get(site) {
            line.set_target(node.listen());
        }
        if let Some(place) = self.nodes.get_mut(site) {
            *place = Some(node);
        }
        if let Some(meter) = &self.meter {
            meter.set_awake(site, true).await;
        }
        Ok(())
    }

    /// Closes a site's till and switches its computer off, as a system does that shuts down.
    pub(super) async fn switch_off(&mut self, site: usize) -> Result<(), Failure> {
        self.close_till(site).await;
        if let Some(meter) = &self.meter {
            meter.set_awake(site, false).await;
        }
        match self.nodes.get_mut(site).and_then(Option::take) {
            Some(node) => node.switch_off().await,
            None => Ok(()),
        }
    }

    /// Kills a site's node; its till goes on.
    pub(super) async fn kill(&mut self, site: usize) -> Result<(), Failure> {
        match self.nodes.get_mut(site).and_then(Option::take) {
            Some(node) => node.kill().await,
            None => Ok(()),
        }
    }

    /// Cuts a site's line: nothing gets to it or from it.
    pub(super) fn cut(&self, site: usize) {
        let own = self.nodes.get(site).and_then(Option::as_ref).map(Node::listen);
        for (index, line) in self.lines.iter().enumerate() {
            if index == site {
                line.cut();
            } else if let Some(own) = own {
                line.cut_client(own);
            }
        }
    }

    /// Heals all lines.
    pub(super) fn heal(&self) {
        for line in &self.lines {
            line.heal();
        }
    }

    /// Opens a till.
    pub(super) fn open_till(&mut self, site: usize) {
        if let Some(till) = self.tills.get_mut(site) {
            till.open(&*self.environment);
        }
    }

    /// Closes a till.
    pub(super) async fn close_till(&mut self, site: usize) {
        if let Some(till) = self.tills.get_mut(site) {
            till.close().await;
        }
    }

    /// Begins an act.
    pub(super) fn begin(&mut self, title: &str) -> Result<(), Failure> {
        self.act = (Instant::now(), false);
        self.screen.title(title)
    }

    /// Shows the counters until `until` holds: it is asked every few milliseconds, and given what
    /// the sites said last.
    pub(super) async fn show_until(
        &mut self,
        what: &str,
        mut until: impl FnMut(&Board, &[Option<Status>; SITES]) -> bool,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut shown: Option<Instant> = None;
        // What they said before is no answer.
        self.ask().await?;
        loop {
            let done = until(&self.board(), &self.known);
            if done || shown.is_none_or(|shown| shown.elapsed() >= TICK) {
                shown = Some(Instant::now());
                self.ask().await?;
                if !self.act.1 {
                    self.act.1 = true;
                    self.screen.line(HEADING)?;
                }
                let counters = self.counters();
                self.screen.live(&counters)?;
            }
            if done {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failure::unable(
                    format!("{what} is not done after {} s.", PATIENCE.as_secs()),
                    "Look at the logs in the demo's directory.",
                ));
            }
            sleep(LOOK).await;
        }
    }

    /// Shows the counters for a while.
    pub(super) async fn show_for(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        self.show_until("The act", |_, _| Instant::now() >= end).await
    }

    /// Asks each node that runs how it is, and looks whether one has ended by itself.
    async fn ask(&mut self) -> Result<(), Failure> {
        if let Some(trouble) = self.board().trouble.clone() {
            return Err(Failure::unable(
                format!("A till got an error from its database: {trouble}."),
                "Look at the logs in the demo's directory.",
            ));
        }
        for site in 0..SITES {
            let directory = Directory::new(self.site_dir(site));
            let Some(Some(node)) = self.nodes.get_mut(site) else { continue };
            if let Some(status) = node.ended() {
                return Err(Failure::unable(
                    format!("The node of {} ended by itself ({status}).", name(site)),
                    "Look at its log in the demo's directory.",
                ));
            }
            let answer =
                timeout(Duration::from_secs(5), control::ask(&directory, &Request::Status));
            let answer = answer.await.map_err(|_| {
                Failure::unable(
                    format!("The node of {} does not answer.", name(site)),
                    "Look at its log in the demo's directory.",
                )
            })??;
            if let Some(place) = self.known.get_mut(site) {
                *place = serde_json::from_value(answer).ok();
            }
        }
        Ok(())
    }

    /// One line, under [`HEADING`].
    fn counters(&self) -> String {
        let board = self.board();
        let mut line = format!("{:5.1} s  ", self.act.0.elapsed().as_secs_f64());
        for status in &self.known {
            line += &format!("{:>5}", own(status.as_ref()).map_or(0, |own| own.sequence));
        }
        line += " ";
        for at in 0..SITES {
            let here = || board.copies.iter().filter(|copy| copy.at == at);
            let rows = count(here().map(|copy| copy.rows).sum());
            let behind = here().map(CopyBoard::behind).max().unwrap_or_default().as_secs_f64();
            let behind = match self.nodes.get(at) {
                Some(Some(_)) if behind > 0.0 => format!("{behind:.1} s"),
                Some(Some(_)) => "0".to_owned(),
                _ => "off".to_owned(),
            };
            line += &format!(" {rows:>9} {behind:>7}");
        }
        line
    }

    /// What `status` says of a site's own database.
    pub(super) async fn final_status(&self, site: usize) -> Result<Status, Failure> {
        let value = self.program.run::<&str>(&self.site_dir(site), "status", &[]).await?;
        serde_json::from_value(value).map_err(|error| {
            Failure::unable(format!("`node status` can't be read: {error}."), "This is a bug.")
        })
    }

    /// Switches off all nodes that run.
    pub(super) async fn switch_all_off(&mut self) -> Result<(), Failure> {
        for site in 0..SITES {
            self.switch_off(site).await?;
        }
        Ok(())
    }

    /// Where everything lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// All copies: origin and place.
pub(super) fn copies() -> impl Iterator<Item = (usize, usize)> {
    (0..SITES)
        .flat_map(|origin| (0..SITES).filter(move |at| *at != origin).map(move |at| (origin, at)))
}

/// A site's name.
pub(super) fn name(site: usize) -> &'static str {
    NAMES.get(site).copied().unwrap_or_default()
}

/// A site's own database, in what it says of itself.
pub(super) fn own(status: Option<&Status>) -> Option<&DatabaseStatus> {
    let status = status?;
    status.databases.iter().find(|database| database.site.as_deref() == Some(&status.site))
}
