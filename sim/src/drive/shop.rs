//! A shop: a site with its PC, its hours, and the application at its till.

use super::Clerk;
use crate::chronicle::Condition;
use crate::disk::Disk;
use crate::oracle::History;
use crate::workload::{self, Operation, Outcome};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file of a shop's database on its PC.
pub const FILE: &str = "shop.db";
/// The name under which it is attached.
pub const DATABASE: &str = "shop";

/// The application at a till, which the drive calls on time, and the world between two steps of
/// the node.
#[derive(Clone, Debug)]
pub struct Till(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: Mutex<workload::Till>,
    fired: Mutex<BTreeMap<u8, u64>>,
    manned: AtomicBool,
    full: Arc<AtomicBool>,
}

impl Till {
    /// Shares it.
    pub fn new(mut program: workload::Till, disk: Arc<Disk>) -> Self {
        let full = Arc::new(AtomicBool::new(false));
        let is_full = Arc::clone(&full);
        program.ask_disk(move || disk.is_on() && !is_full.load(Ordering::Relaxed));
        let (program, fired) = (Mutex::new(program), Mutex::default());
        Self(Arc::new(Shared { program, fired, manned: AtomicBool::new(true), full }))
    }

    /// Whether its disk is full: then it has errors for which nobody is to blame.
    pub fn disk_is_full(&self, full: bool) {
        self.0.full.store(full, Ordering::Relaxed);
    }

    /// To do something with it.
    pub fn lock(&self) -> MutexGuard<'_, workload::Till> {
        self.0.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody works at it, also between the steps of the node.
    pub fn man(&self, manned: bool) {
        self.0.manned.store(manned, Ordering::Relaxed);
    }

    /// Does what comes next.
    pub fn act(&self) {
        let acted = self.lock().act();
        self.note(acted.operation, &acted.outcome);
    }

    /// The same, between two steps of the node, if somebody is there.
    pub fn act_between(&self) {
        if self.0.manned.load(Ordering::Relaxed) {
            self.act();
        }
    }

    /// Does this; whether it is committed.
    pub fn perform(&self, operation: Operation) -> bool {
        let acted = self.lock().perform(operation);
        self.note(acted.operation, &acted.outcome);
        matches!(acted.outcome, Outcome::Committed(_))
    }

    fn note(&self, operation: Operation, outcome: &Outcome) {
        if let (Some(fault), Outcome::Committed(_)) = (operation.fault(), outcome) {
            let mut fired = self.0.fired.lock().unwrap_or_else(PoisonError::into_inner);
            *fired.entry(fault).or_default() += 1;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Shop {
    /// The site's name.
    pub name: &'static str,
    /// Its application; none before the first opening, and where all share one database.
    pub till: Option<Till>,
    /// Its application at the database that all share; none before it is there.
    pub clerk: Option<Clerk>,
    /// Whether its database is under sync.
    pub attached: bool,
    /// Whether somebody works at the till.
    pub open: bool,
    /// What runs.
    pub condition: Condition,
    /// Whether a fault decides when its PC and its node run, not the hours.
    pub held: bool,
    /// Whether a fault decides what its application does.
    pub resting: bool,
    /// Whether its disk is full.
    pub disk_full: bool,
    /// Whether it burned down.
    pub burned: bool,
    /// Transactions committed while the node was down.
    pub unseen: u64,
    /// Writes to its journal that power cuts took or tore.
    pub torn: u64,
}

impl Shop {
    /// A shop that has not opened yet.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            till: None,
            clerk: None,
            attached: false,
            open: false,
            condition: Condition::Off,
            held: false,
            resting: false,
            disk_full: false,
            burned: false,
            unseen: 0,
            torn: 0,
        }
    }

    /// Whether PC and node run.
    pub fn is_on(&self) -> bool {
        self.condition == Condition::On
    }

    /// Whether its node can take note of what its application does: a full disk puts that off.
    pub fn harvests(&self) -> bool {
        self.is_on() && self.attached && !self.disk_full
    }

    /// Opens or closes it.
    pub fn set_open(&mut self, open: bool) {
        self.open = open;
        if let Some(till) = &self.till {
            till.man(open && !self.resting);
            if !open {
                till.lock().quit();
            }
        }
        if let Some(clerk) = &self.clerk {
            clerk.man(open && !self.resting);
            if !open {
                clerk.lock().quit();
            }
        }
    }

    /// Lets its application do nothing by itself, or go on.
    pub fn rest(&mut self, resting: bool) {
        self.resting = resting;
        if let Some(till) = &self.till {
            till.man(self.open && !resting);
        }
        if let Some(clerk) = &self.clerk {
            clerk.man(self.open && !resting);
        }
    }

    /// Whether its application can work.
    pub fn can_act(&self) -> bool {
        self.open && self.condition != Condition::Off && !self.burned
    }

    /// Transactions that its application committed.
    pub fn commits(&self) -> u64 {
        let clerk = self.clerk.as_ref().map(|clerk| clerk.lock().commits());
        clerk.or_else(|| self.history(|history| history.latest().0)).unwrap_or(0)
    }

    /// The newest of these, as [`crate::drive::Drive`]'s `shows` counts them.
    pub fn latest(&self) -> u64 {
        let clerk = self.clerk.as_ref().map(|clerk| clerk.lock().latest());
        clerk.unwrap_or_else(|| self.commits())
    }

    /// Asks the history of its database.
    pub fn history<T>(&self, ask: impl FnOnce(&History) -> T) -> Option<T> {
        self.till.as_ref().map(|till| ask(till.lock().history()))
    }

    /// Counts the faults that its application brought about by itself.
    pub fn count_operations(&self, fired: &mut BTreeMap<u8, u64>) {
        let replaced = self.clerk.as_ref().map_or(0, |clerk| clerk.lock().replaced());
        if replaced > 0 {
            *fired.entry(42).or_default() += replaced;
        }
        let Some(till) = &self.till else { return };
        for (number, times) in till.0.fired.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *fired.entry(*number).or_default() += times;
        }
    }
}
