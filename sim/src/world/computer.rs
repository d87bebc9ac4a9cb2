//! A site's computer: what outlives its boots. Its address, its clock's error, its files, and the
//! applications on it.

use crate::clock::{Clock, WallClock};
use crate::disk::Disk;
use crate::disk::vfs::Here;
use crate::network::Network;
use crate::world::application::Program;
use crate::world::notices::Notices;
use conflict::WallTime;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

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
    pub(crate) notices: Notices,
    on: AtomicBool,
    programs: Mutex<Vec<Weak<Program>>>,
    /// How often its node ran a step, by name, and in how much real time.
    pub(crate) steps: Mutex<BTreeMap<&'static str, (u64, Duration)>>,
}

impl Computer {
    pub(crate) fn new(
        name: &str,
        (address, offset_ms): (IpAddr, i64),
        (clock, network, disk): (Clock, Arc<Network>, Arc<Disk>),
        notices: Notices,
    ) -> Self {
        Self {
            name: name.to_owned(),
            address,
            wall: WallClock::new(clock, offset_ms),
            folder: disk.folder(name),
            clock,
            network,
            disk,
            notices,
            on: AtomicBool::new(true),
            programs: Mutex::default(),
            steps: Mutex::default(),
        }
    }

    /// What its clock says.
    pub fn wall_clock(&self) -> WallTime {
        self.wall.now()
    }

    /// Whether the power is on.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(crate) fn set_on(&self, on: bool) {
        if on && !self.on.swap(on, Ordering::Relaxed) {
            self.wall.power_on();
        }
        self.on.store(on, Ordering::Relaxed);
    }

    /// Takes all its sockets off the network.
    pub fn unplug(&self) {
        self.network.unplug(self.address);
    }

    /// While it lives, SQLite on this thread has this computer's clock.
    pub fn here_for_sqlite(&self) -> Here {
        // Time stands still while SQLite works, so that the error of this moment is exact.
        Here::enter(self.wall.now().0.saturating_sub(self.clock.wall(0).0))
    }

    /// Who is to be told of written files.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    pub(crate) fn adopt(&self, program: &Arc<Program>) {
        self.programs.lock().unwrap().push(Arc::downgrade(program));
    }

    /// Whether an application reads this file now.
    pub fn has_readers(&self, path: &Path) -> bool {
        self.programs().iter().any(|program| program.reads(path))
    }

    /// Ends all applications.
    pub fn end_programs(&self) {
        for program in self.programs() {
            program.end();
        }
    }

    fn programs(&self) -> Vec<Arc<Program>> {
        self.programs.lock().unwrap().iter().filter_map(Weak::upgrade).collect()
    }
}
