//! Sites that write one database: the first founds it, the others join from nothing as soon as its
//! base is there, each with a clerk at its own file; and when all of it is at rest.

use super::{Checked, DATABASE, Drive, FILE, Item};
use crate::disk::Disk;
use crate::plan::{At, DAY, OPEN};
use crate::workload::clerk;
use node::status::{DatabaseStatus, PeerStatus, Status};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// Steps of the node at the file: the application works between them.
const NEAR: [&str; 6] =
    ["harvest.", "shared.", "join.", "attach.", "capture.trim", "capture.checkpoint"];

/// Of ten thousand such moments, in how many it does where little is done.
const SELDOM: u64 = 20;

/// A clerk, whom the drive calls on time, and the world between two steps of the node.
#[derive(Clone, Debug)]
pub struct Clerk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: Mutex<clerk::Clerk>,
    manned: AtomicBool,
    full: Arc<AtomicBool>,
}

impl Clerk {
    fn new(mut clerk: clerk::Clerk, disk: Arc<Disk>) -> Self {
        let full = Arc::new(AtomicBool::new(false));
        let is_full = Arc::clone(&full);
        clerk.ask_disk(move || disk.is_on() && !is_full.load(Ordering::Relaxed));
        let (program, manned) = (Mutex::new(clerk), AtomicBool::new(true));
        Self(Arc::new(Shared { program, manned, full }))
    }

    /// Whether its disk is full: then it has errors for which nobody is to blame.
    pub fn disk_is_full(&self, full: bool) {
        self.0.full.store(full, Ordering::Relaxed);
    }

    /// To do something with it.
    pub fn lock(&self) -> MutexGuard<'_, clerk::Clerk> {
        self.0.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody works there, also between the steps of the node.
    pub fn man(&self, manned: bool) {
        self.0.manned.store(manned, Ordering::Relaxed);
    }

    fn act_between(&self) {
        if self.0.manned.load(Ordering::Relaxed) {
            self.lock().act();
        }
    }
}

/// What a site says of its own database: its mirrored one, or the one that all share.
pub(crate) fn own<'a>(status: &'a Status, name: &str) -> Option<&'a DatabaseStatus> {
    let mine = |database: &&DatabaseStatus| {
        database.site.as_deref() == Some(name) || database.mode == "shared"
    };
    status.databases.iter().find(mine)
}

impl Drive<'_> {
    /// Opens a site's application at the shared database's file.
    pub(super) fn open_clerk(&mut self, at: At, found: bool) {
        let name = self.name(at);
        let mut clerk =
            clerk::Clerk::open(self.world, (name, at.0), FILE, Arc::clone(&self.ledger));
        if found {
            clerk.found();
        }
        let clerk = Clerk::new(clerk, Arc::clone(self.world.disk(name)));
        let between = clerk.clone();
        let light = self.plan.life.light;
        let dice = Mutex::new(self.plan.dice(&format!("between {name}")));
        let work = move |step: &str| {
            // Many sites would never come to an end of answering one another.
            let busy = || !light || dice.lock().is_ok_and(|mut dice| dice.happens(SELDOM));
            if NEAR.iter().any(|near| step.starts_with(near)) && busy() {
                between.act_between();
            }
        };
        self.world.set_between_steps(name, Some(Box::new(work)));
        let shop = &mut self.shops[at.0];
        clerk.man(shop.open);
        shop.clerk = Some(clerk);
    }

    /// Whether the shared database is attached at a site now.
    pub(super) async fn try_share(&mut self, at: At) -> bool {
        let name = self.name(at);
        let founds = at == At(0);
        // Who joins knows the rules: what is written before is written without them.
        if !founds && (!self.shops[0].attached || self.held(at, At(0)) < Some(self.ruled)) {
            return false;
        }
        let Some(status) = self.world.try_status(name).await else { return false };
        let known = status.databases.iter().find(|database| database.mode == "shared");
        if known.is_none() && !founds {
            return false;
        }
        if known.is_none_or(|known| known.path.is_empty()) {
            match self.world.try_share(name, FILE, DATABASE).await {
                None => return false,
                Some(Err(failure)) => {
                    self.tell(format!("{name} can't attach: {}", failure.what));
                    return false;
                }
                Some(Ok(attached)) => {
                    for finding in attached.findings {
                        self.tell(format!("{name} finds: {finding}"));
                    }
                }
            }
        }
        if founds {
            for (subject, rule) in clerk::RULES {
                if !self.world.try_rule(name, DATABASE, subject, rule).await {
                    return false;
                }
            }
            self.ruled = self.held(at, at).unwrap_or(0);
            self.in_ledger(crate::oracle::Ledger::rules_are_set);
        } else {
            self.open_clerk(at, false);
        }
        self.shops[at.0].attached = true;
        self.note_in_ledger(at);
        true
    }

    pub(crate) fn in_ledger<T>(&self, work: impl FnOnce(&mut crate::oracle::Ledger) -> T) -> T {
        work(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Now and then two sites do the same at the same instant, to the same rows: where their clocks
    /// agree, so do the stamps.
    pub(super) fn duel(&mut self, at: At) {
        if self.random.below(10) > 0 {
            return;
        }
        let others: Vec<At> = self.places().into_iter().filter(|other| *other != at).collect();
        let other = others[self.random.below(others.len() as u64) as usize];
        let choice = self.random.draw();
        for at in [at, other] {
            let shop = &self.shops[at.0];
            let works = shop.can_act() && !shop.resting && !self.world.is_fallen(shop.name);
            if let Some(clerk) = shop.clerk.clone().filter(|_| works) {
                clerk.lock().duel(choice);
            }
        }
    }

    /// All applications come to the version of the newest.
    pub(super) async fn upgrade_all(&mut self) -> Checked {
        let clerks = self.shops.iter().filter(|shop| !shop.burned);
        let clerks: Vec<Clerk> = clerks.filter_map(|shop| shop.clerk.clone()).collect();
        let most = clerks.iter().filter_map(|clerk| clerk.lock().version()).max().unwrap_or(0);
        for clerk in clerks {
            let done = self
                .pass_while(20 * MINUTE, async |_: &mut Self| {
                    let mut program = clerk.lock();
                    while program.upgrade(most).is_some_and(|at| at < most) {}
                    program.version() == Some(most)
                })
                .await?;
            clerk.lock().quit();
            if !done {
                let what = "An application's file is in use without a pause.".to_owned();
                return Err(self.broken("G: the application can move its schema", what));
            }
        }
        Ok(())
    }

    /// The ledger learns when nodes harvest.
    pub(crate) fn note_in_ledger(&self, at: At) {
        let now = self.now();
        self.in_ledger(|ledger| match self.shops[at.0].harvests() {
            true => ledger.node_begins(at.0, now),
            false => ledger.node_ends(at.0, now),
        });
    }

    /// Sites that have not joined by the end of the last day have some time yet.
    pub(super) async fn await_joins(&mut self) -> Checked {
        for day in 0..3 {
            if self.shops.iter().all(|shop| shop.attached || shop.burned) {
                return Ok(());
            }
            let day = self.plan.request.days + day;
            for at in self.places() {
                self.put(DAY * day, Item::Open(at, day));
            }
            let end = DAY * day + OPEN;
            while self.now() < end && self.shops.iter().any(|s| !s.attached && !s.burned) {
                let next = self.now() + 10 * MINUTE;
                self.pass_until(next).await?;
            }
        }
        match self.shops.iter().find(|shop| !shop.attached && !shop.burned) {
            None => Ok(()),
            Some(shop) => {
                let what = format!("{} never could.", shop.name);
                Err(self.broken("a site can join a shared database", what))
            }
        }
    }

    /// Whether all sites have all of the shared database, and say so.
    pub(super) async fn is_sharing_at_rest(&mut self) -> bool {
        for at in self.places() {
            if self.shops[at.0].burned {
                continue;
            }
            let name = self.name(at);
            if !self.shops[at.0].is_on() || self.world.is_fallen(name) {
                return false;
            }
            let Some(status) = self.world.try_status(name).await else { return false };
            let alone = |peer: &PeerStatus| {
                peer.state != "connected" && !self.shops[self.place(&peer.site).0].burned
            };
            if !self.plan.life.behind_nat && status.peers.iter().any(alone) {
                return false;
            }
            let Some(own) = own(&status, name) else { return false };
            let gone = |site: &str| self.shops[self.place(site).0].burned;
            let merged = own
                .origins
                .iter()
                .flatten()
                .all(|origin| origin.applied_sequence == origin.sequence);
            let shown = own.copies.iter().flatten().filter(|copy| !gone(&copy.site)).all(|copy| {
                copy.durable_sequence == own.sequence && copy.applied_sequence == own.sequence
            });
            if own.safe != Some(true) || own.pending_changes != Some(0) || !merged || !shown {
                return false;
            }
            if self.unwritten(at) != Some(0) {
                return false;
            }
        }
        true
    }

    /// Rows that do not stand in a site's file as they should, as its node knows.
    fn unwritten(&self, at: At) -> Option<i64> {
        let looked = self.world.disk(self.name(at)).look(&self.node_db(at));
        let count = looked.and_then(|connection| {
            connection.query_row("SELECT count(*) FROM unwritten", [], |row| row.get(0))
        });
        count.ok()
    }
}
