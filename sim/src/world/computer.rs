//! A site's computer: what outlives its boots. Its address, its clock's error, its files, and the
//! applications on it.

use crate::clock::{Clock, WallClock};
use crate::disk::here::Here;
use crate::disk::{Disk, Process};
use crate::network::Network;
use crate::random::Random;
use crate::world::application::Program;
use crate::world::boot::Boot;
use crate::world::verified::Verified;
use conflict::WallTime;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// One step of so many, on average, has something else right before it.
const BETWEEN: u64 = 40;

/// Something to be done right before a step of that name.
pub type Work = Box<dyn FnMut(&'static str) + Send>;

struct Between {
    random: Random,
    work: Option<Work>,
}

impl fmt::Debug for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Between").finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Computer {
    /// The site's name.
    pub name: String,
    /// The address that it was given first: by it the network knows it.
    pub address: IpAddr,
    /// The one clock that its node, its SQLite and its applications read.
    pub wall: WallClock,
    /// Where all its files lie.
    pub folder: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) network: Arc<Network>,
    pub(crate) disk: Arc<Disk>,
    /// The world's.
    pub(crate) verified: Arc<Verified>,
    /// It has lost its power by itself, and nobody has dealt with it yet.
    fallen: AtomicBool,
    falls: Arc<Notify>,
    boot: Mutex<Weak<Boot>>,
    between: Mutex<Between>,
    programs: Mutex<Vec<Weak<Program>>>,
    /// How often its node ran a step, by name, and in how much real time.
    pub(crate) steps: Mutex<BTreeMap<&'static str, (u64, Duration)>>,
}

impl Computer {
    pub(crate) fn new(
        name: &str,
        (address, offset_ms): (IpAddr, i64),
        (clock, network, disk, verified): (Clock, Arc<Network>, Arc<Disk>, Arc<Verified>),
        (falls, random): (Arc<Notify>, Random),
    ) -> Arc<Self> {
        let computer = Arc::new(Self {
            name: name.to_owned(),
            address,
            wall: WallClock::new(clock, offset_ms),
            folder: disk.folder(),
            clock,
            network,
            disk,
            verified,
            fallen: AtomicBool::new(false),
            falls,
            boot: Mutex::default(),
            between: Mutex::new(Between { random, work: None }),
            programs: Mutex::default(),
            steps: Mutex::default(),
        });
        let fallen = Arc::downgrade(&computer);
        computer.disk.on_fall(move || {
            if let Some(computer) = fallen.upgrade() {
                computer.note_fall();
            }
        });
        computer
    }

    /// Its node ran a step, which took so long in the real world.
    pub(crate) fn note_step(&self, step: &'static str, took: Duration) {
        let mut steps = self.steps.lock().unwrap();
        let (times, all) = steps.entry(step).or_default();
        *times += 1;
        *all += took;
    }

    /// What its clock says.
    pub fn wall_clock(&self) -> WallTime {
        self.wall.now()
    }

    /// Whether the power is on.
    pub fn is_on(&self) -> bool {
        self.disk.is_on()
    }

    /// Whether it has lost its power by itself since it was switched on.
    pub fn is_fallen(&self) -> bool {
        self.fallen.load(Ordering::Relaxed)
    }

    /// Somebody has dealt with it.
    pub(crate) fn pick_up(&self) {
        self.fallen.store(false, Ordering::Relaxed);
    }

    /// The power goes at this very moment.
    pub(crate) fn fall(&self) {
        self.disk.power_off();
        self.note_fall();
    }

    fn note_fall(&self) {
        self.fallen.store(true, Ordering::Relaxed);
        if let Some(boot) = self.boot.lock().unwrap().upgrade() {
            boot.kill();
        }
        self.unplug();
        self.falls.notify_waiters();
    }

    /// This boot ends with the power.
    pub(crate) fn begin(&self, boot: &Arc<Boot>) {
        *self.boot.lock().unwrap() = Arc::downgrade(boot);
    }

    /// What is to happen now and then right before a step of the node, which is named.
    pub(crate) fn set_between(&self, work: Option<Work>) {
        self.between.lock().unwrap().work = work;
    }

    pub(crate) fn between_steps(&self, step: &'static str) {
        // Taken out meanwhile: what it does may lead here again.
        let work = {
            let mut between = self.between.lock().unwrap();
            let now = between.work.is_some() && between.random.below(BETWEEN) == 0;
            if now { between.work.take() } else { None }
        };
        if let Some(mut work) = work {
            work(step);
            self.between.lock().unwrap().work.get_or_insert(work);
        }
    }

    /// Takes all its sockets off the network.
    pub fn unplug(&self) {
        self.network.unplug(self.address);
    }

    /// While it lives, SQLite on this thread works for a process of this computer, with its clock.
    pub fn here_for_sqlite(&self, process: &Arc<Process>) -> Here {
        // Time stands still while SQLite works, so that the error of this moment is exact.
        let error = self.wall.now().0.saturating_sub(self.clock.wall(0).0);
        Here::enter(&self.disk, process, error)
    }

    pub(crate) fn adopt(&self, program: &Arc<Program>) {
        self.programs.lock().unwrap().push(Arc::downgrade(program));
    }

    /// Ends all applications.
    pub fn end_programs(&self) {
        for program in self.programs() {
            program.end(self);
        }
    }

    fn programs(&self) -> Vec<Arc<Program>> {
        self.programs.lock().unwrap().iter().filter_map(Weak::upgrade).collect()
    }
}
