//! Lives a plan: shops open and close, applications work, faults begin and end, and the checker
//! looks, all in one loop over an agenda in virtual time. What a fault does is in
//! `faults`, what must hold in `checker`.

mod agenda;
mod day;
mod rest;
mod shared;
mod shop;

pub use agenda::Item;
pub use shared::Clerk;
pub(crate) use shared::own;
pub use shop::{DATABASE, FILE, Shop, Till};

use crate::checker::Checker;
use crate::chronicle::{Chronicle, Condition};
use crate::network::Line;
use crate::oracle::Ledger;
use crate::outcome::{Failure, Figures, Outcome};
use crate::plan::{At, Plan, Request};
use crate::random::Random;
use crate::workload::clerk;
use crate::world::World;
use agenda::Agenda;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A check passed, or the first invariant broken.
pub type Checked<T = ()> = Result<T, Failure>;

/// Runs a request; `aloud` prints the story as it happens.
///
/// # Errors
/// The request can't be planned.
pub fn run(
    request: &Request,
    breakage: Option<&str>,
    aloud: bool,
) -> Result<(Outcome, Chronicle), String> {
    let plan =
        Plan::new(request.clone()).ok_or("There is no such scenario, or not so many sites.")?;
    set_breakage(breakage)?;
    let mut chronicle = Chronicle::new(aloud);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        crate::world::run(request.seed, async |world: &mut World| {
            let mut drive = Drive::new(world, &plan, &mut chronicle);
            let failure = drive.live().await.err();
            drive.outcome(failure)
        })
    }));
    let outcome = lived.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
        let check = "nothing panics".to_owned();
        let at_ms = millis(chronicle.entries.last().map_or(Duration::ZERO, |entry| entry.at));
        let failure = Failure { check, what: what.unwrap_or_default(), at_ms };
        Outcome { failure: Some(failure), ..Outcome::default() }
    });
    Ok((outcome, chronicle))
}

#[cfg(feature = "breakages")]
fn set_breakage(name: Option<&str>) -> Result<(), String> {
    node::breakage::set(name)
}

#[cfg(not(feature = "breakages"))]
fn set_breakage(name: Option<&str>) -> Result<(), String> {
    match name {
        None => Ok(()),
        Some(_) => Err("This build has no defects to choose from: --features breakages.".into()),
    }
}

/// A run in the middle of its life.
#[derive(Debug)]
pub struct Drive<'a> {
    /// The world.
    pub world: &'a mut World,
    /// What it is to go through.
    pub plan: &'a Plan,
    /// What happened so far.
    pub chronicle: &'a mut Chronicle,
    /// The sites, by place.
    pub shops: Vec<Shop>,
    /// What must hold.
    pub checker: Checker,
    /// Which faults fired, and how often.
    pub fired: BTreeMap<u8, u64>,
    pub(crate) agenda: Agenda,
    pub(crate) active: BTreeMap<usize, crate::faults::Active>,
    /// The numbers of faults that have fired.
    pub(crate) done: BTreeSet<usize>,
    /// The line that there is where nothing is wrong with it.
    pub(crate) ordinary: Line,
    /// Faults that could not begin, or have not fired yet.
    pub(crate) waiting: usize,
    pub(crate) random: Random,
    /// What was done to the database that all share.
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    /// The founder's batch with which all rules of that were set.
    ruled: u64,
    rush: Option<day::Rush>,
    /// Seconds between two acts of an application, on average.
    pace: u64,
}

impl<'a> Drive<'a> {
    fn new(world: &'a mut World, plan: &'a Plan, chronicle: &'a mut Chronicle) -> Self {
        let shops = plan.sites.iter().map(|name| Shop::new(name)).collect();
        let ordinary = world.line();
        Self {
            world,
            plan,
            chronicle,
            shops,
            checker: Checker::new(plan.sites.len()),
            fired: BTreeMap::new(),
            agenda: Agenda::default(),
            active: BTreeMap::new(),
            done: BTreeSet::new(),
            ordinary,
            waiting: plan.events.len(),
            random: plan.dice("drive"),
            ledger: Arc::new(Mutex::new(Ledger::new(clerk::TABLES))),
            ruled: 0,
            rush: None,
            pace: plan.pace(),
        }
    }

    async fn live(&mut self) -> Checked {
        self.begin_world().await?;
        self.live_days().await?;
        if self.plan.life.shared {
            self.await_joins().await?;
        }
        self.rest().await?;
        if self.plan.request.scenario == "shared-forgery" {
            self.end_of_time().await?;
        }
        self.look_at_fired()
    }

    fn outcome(&mut self, failure: Option<Failure>) -> Outcome {
        self.chronicle.end = self.now();
        for shop in &self.shops {
            shop.count_operations(&mut self.fired);
        }
        let totals = self.world.figures();
        let figures = Figures {
            virtual_ms: millis(self.now()),
            packets: totals.packets,
            bytes: totals.bytes,
            batches: self.checker.batches(),
            commits: self.shops.iter().map(Shop::commits).sum(),
            looks: self.checker.looks(),
        };
        Outcome {
            trace: self.world.trace_hash().to_hex().to_string(),
            content: self.world.content_hash().to_hex().to_string(),
            figures,
            fired: self.fired.clone(),
            failure,
        }
    }

    /// How long the world has lasted.
    pub fn now(&self) -> Duration {
        self.world.figures().time
    }

    /// The name of a site.
    pub fn name(&self, at: At) -> &'static str {
        self.plan.name(at)
    }

    /// Writes a line of the story.
    pub fn tell(&mut self, text: impl Into<String>) {
        let now = self.now();
        self.chronicle.tell(now, text.into());
    }

    /// A fault of the catalogue happened.
    pub fn note_fired(&mut self, number: u8) {
        *self.fired.entry(number).or_default() += 1;
    }

    pub(crate) fn set_condition(&mut self, at: At, condition: Condition) {
        let now = self.now();
        self.chronicle.conditions.push((now, at.0, condition));
        self.shops[at.0].condition = condition;
        self.note_in_ledger(at);
    }

    /// The first invariant broken.
    pub fn broken(&self, check: &str, what: impl Into<String>) -> Failure {
        Failure { check: check.to_owned(), what: what.into(), at_ms: millis(self.now()) }
    }
}

/// Milliseconds of a span.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
