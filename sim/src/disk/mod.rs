//! The disk of one computer: all its files in memory, with what SQLite, the node and people do to
//! them. It knows what was synced and what was not, so a power cut loses, tears and reorders the
//! rest; it fills up, reports errors, returns the wrong sectors and takes its time, as told.
//!
//! Paths are those of the simulated world, `/disk/downtown/shop.db`, the same in every run; nothing
//! lies on the real disk. SQLite gets here through the VFS of `vfs`, the node's own file operations
//! through `system`, people's through `people`.
//!
//! Durable is what is synced: a file's content with the file, its name with the folder. Not here:
//! permissions, links, other devices.

mod cut;
mod faults;
mod file;
mod handle;
pub(crate) mod here;
mod kept;
mod locks;
mod look;
mod names;
mod people;
mod process;
mod shm;
mod state;
mod system;
#[cfg(test)]
mod tests;
mod vfs;
mod watches;

pub use cut::Damage;
pub use faults::{Faults, Kind, Struck};
pub use here::moment;
pub use kept::Kept;
pub use look::Copied;
pub use process::{Failure, Process};

use crate::random::Random;
use state::State;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type OnFall = Box<dyn Fn() + Send + Sync>;

/// See the module.
pub struct Disk {
    root: String,
    state: Mutex<State>,
    on_fall: Mutex<Option<OnFall>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.root).finish()
    }
}

impl Disk {
    /// The empty disk of a computer, switched on.
    pub fn new(computer: &str, seed: u64) -> Self {
        Self::at(format!("/disk/{computer}"), seed, computer)
    }

    fn at(root: String, seed: u64, label: &str) -> Self {
        let random = |what| Random::new(seed, &format!("{label} {what}"));
        let mut state = State::new(random("disk"), random("notices"));
        state.names.make_folder(&root);
        Self { root, state: Mutex::new(state), on_fall: Mutex::default() }
    }

    /// Where all its files lie.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(&self.root)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that a process does, unless it is dead.
    fn act<T>(
        &self,
        process: &Process,
        work: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (result, fell) = {
            let mut state = self.state();
            if !process.is_alive() {
                return Err(Failure::Dead);
            }
            let result = work(&mut state);
            (result, std::mem::take(&mut state.fell))
        };
        if fell {
            self.tell_fallen();
        }
        result
    }

    fn tell_fallen(&self) {
        if let Some(tell) = &*self.on_fall.lock().unwrap_or_else(PoisonError::into_inner) {
            tell();
        }
    }

    /// What is to happen at the moment when the power goes by itself. No file can be touched from
    /// within.
    pub fn on_fall(&self, tell: impl Fn() + Send + Sync + 'static) {
        *self.on_fall.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tell));
    }

    /// A program begins. With the power off it is dead from the start.
    pub fn process(&self) -> Arc<Process> {
        self.state().process()
    }

    /// `kill -9`: its handles are dead and its locks gone; what it wrote stays, synced or not.
    pub fn kill(&self, process: &Process) {
        self.state().kill(process);
    }

    /// Whether the power is on.
    pub fn is_on(&self) -> bool {
        self.state().powered
    }

    /// Switches it on; nothing if it is on.
    pub fn power_on(&self) {
        self.state().powered = true;
    }

    /// The plug: all processes are dead, and what was not synced is lost, torn, or not; nothing
    /// if it is off.
    pub fn power_off(&self) {
        let mut state = self.state();
        if state.powered {
            state.cut();
        }
    }

    /// Makes everything durable, as a system does that is shut down.
    pub fn sync_all(&self) {
        let mut state = self.state();
        state.files.values_mut().for_each(|file| file.content.sync());
        state.names.sync_all();
        state.collect();
    }

    /// The power goes at the `nth` write, sync, truncation, or making, moving or removing of a
    /// file from now on, maybe in the middle of it; 1 is the next.
    pub fn set_fuse(&self, nth: u64) {
        self.state().fuse = Some(nth);
    }

    /// It does not.
    pub fn clear_fuse(&self) {
        self.state().fuse = None;
    }

    /// Writes, syncs, truncations, and makings, movings and removings of files so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Bytes of the files below a folder.
    pub fn bytes_in(&self, folder: &Path) -> u64 {
        let state = self.state();
        let below = state.names.all().filter(|(path, _)| Path::new(path).starts_with(folder));
        below.filter_map(|(_, inode)| Some(state.file(inode).ok()?.content.length())).sum()
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// What goes wrong now.
    pub fn faults(&self) -> Faults {
        self.state().faults
    }

    /// How often something went wrong so far.
    pub fn struck(&self) -> Struck {
        self.state().struck.clone()
    }

    /// Leaves so many bytes free, or, with `None`, ample.
    pub fn set_free(&self, bytes: Option<u64>) {
        self.state().set_free(bytes);
    }

    /// How many bytes are free.
    pub fn free(&self) -> u64 {
        self.state().free()
    }

    /// How long what was done since last asked has taken.
    pub fn take_debt(&self) -> Duration {
        std::mem::take(&mut self.state().debt)
    }

    /// A number that differs from what it was whenever the database at a path, its `-wal` or its
    /// `-journal` were touched since.
    pub fn mutations(&self, path: &Path) -> u64 {
        self.state().mutations(text(path))
    }

    /// Whether a power cut would leave the database at a path as it is.
    pub fn is_settled(&self, path: &Path) -> bool {
        self.state().is_settled(text(path))
    }

    /// Bytes of memory that all files take, durable or not.
    pub fn bytes(&self) -> u64 {
        self.state().bytes()
    }
}

/// A path as the disk has it. The simulator's paths are text.
fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
