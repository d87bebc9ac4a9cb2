//! What SQLite gets of the world on this thread: time, chance, and the disk and process on whose
//! behalf it is called.
//!
//! A path on a computer's disk can be opened only on behalf of a process of that computer; copies
//! to look at, by anybody.

use super::look::ROOT;
use super::process::Process;
use super::{Disk, vfs};
use crate::clock::Clock;
use crate::random::Random;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A process and the disk of its computer.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub disk: Arc<Disk>,
    pub process: Arc<Process>,
    offset_ms: i64,
}

/// What SQLite gets on this thread.
pub(super) struct Given {
    clock: Clock,
    pub random: Random,
    pub slept: u64,
    pub panics: u64,
    caller: Option<Caller>,
    /// Where copies to look at lie.
    desk: Arc<Disk>,
    observer: Arc<Process>,
}

impl Given {
    /// The world's time in milliseconds since 1970, as the caller's clock has it.
    pub fn wall(&self) -> i64 {
        self.clock.wall(self.caller.as_ref().map_or(0, |caller| caller.offset_ms)).0
    }

    fn observer(&self) -> Caller {
        let (disk, process) = (Arc::clone(&self.desk), Arc::clone(&self.observer));
        Caller { disk, process, offset_ms: 0 }
    }
}

thread_local! {
    static GIVEN: RefCell<Option<Given>> = const { RefCell::new(None) };
}

/// Works on what this thread has; `None` on threads without a world, and while a thread ends.
/// Never panics, since C can't be unwound through.
pub(super) fn with_given<T>(work: impl FnOnce(&mut Given) -> T) -> Option<T> {
    GIVEN.try_with(|given| given.try_borrow_mut().ok()?.as_mut().map(work)).ok().flatten()
}

/// Whether this thread has a world.
pub(super) fn is_world() -> bool {
    with_given(|_| ()).is_some()
}

/// How long the world on this thread has lasted, and the computer that works, if one does.
pub fn moment() -> Option<(Duration, Option<String>)> {
    with_given(|given| {
        let computer = given.caller.as_ref().map(|caller| caller.disk.root.as_str());
        let computer = computer.and_then(|root| root.rsplit('/').next()).map(str::to_owned);
        (given.clock.elapsed(), computer)
    })
}

/// The disk for copies to look at.
pub(super) fn desk() -> Option<Arc<Disk>> {
    with_given(|given| Arc::clone(&given.desk))
}

/// On whose behalf a path is used here, if anybody's; without a path, a file for a moment.
pub(super) fn caller(path: Option<&str>) -> Option<Caller> {
    with_given(|given| match path {
        None => Some(given.caller.clone().unwrap_or_else(|| given.observer())),
        Some(path) if lies_in(path, ROOT) => Some(given.observer()),
        Some(path) => given.caller.clone().filter(|caller| lies_in(path, &caller.disk.root)),
    })
    .flatten()
}

fn lies_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// While it lives, SQLite on this thread has the world's time, randomness and disks.
#[derive(Debug)]
pub struct Guard(PhantomData<*const ()>);

impl Guard {
    /// Begins. There must be no other in the process.
    pub fn enter(clock: Clock, random: Random) -> Self {
        assert!(vfs::register(), "SQLite takes no VFS of ours");
        let desk = Arc::new(Disk::at(ROOT.to_owned(), 0, "look"));
        let observer = desk.process();
        GIVEN.with_borrow_mut(|given| {
            let caller = None;
            *given = Some(Given { clock, random, slept: 0, panics: 0, caller, desk, observer });
        });
        vfs::reseed();
        Self(PhantomData)
    }

    /// How often SQLite waited for somebody instead of giving up at once.
    pub fn slept(&self) -> u64 {
        with_given(|given| given.slept).unwrap_or(0)
    }

    /// How often the disk panicked beneath SQLite: bugs.
    pub fn panics(&self) -> u64 {
        with_given(|given| given.panics).unwrap_or(0)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // What it held is dropped after the borrow.
        drop(GIVEN.with_borrow_mut(Option::take));
    }
}

/// While it lives, SQLite on this thread works for a process on a computer.
#[derive(Debug)]
pub struct Here {
    before: Option<Caller>,
    /// It is this thread's.
    _thread: PhantomData<*const ()>,
}

impl Here {
    /// Begins on this thread. `offset_ms` is what the computer's clock says beyond the world's.
    pub fn enter(disk: &Arc<Disk>, process: &Arc<Process>, offset_ms: i64) -> Self {
        let (disk, process) = (Arc::clone(disk), Arc::clone(process));
        let caller = Some(Caller { disk, process, offset_ms });
        let before = with_given(|given| std::mem::replace(&mut given.caller, caller)).flatten();
        Self { before, _thread: PhantomData }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let before = self.before.take();
        drop(with_given(|given| std::mem::replace(&mut given.caller, before)));
    }
}
