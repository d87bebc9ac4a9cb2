//! All files of one disk, and everything that is done to them: each operation may be the one at
//! which the fuse falls, may fail as the faults say, and wakes who watches.

use super::cut::cut;
use super::faults::{Faults, Kind, Struck};
use super::file::Content;
use super::locks::{Level, Locks};
use super::names::{Inode, Names, parent};
use super::process::{Failure, Owner, Process};
use super::shm::Shm;
use super::watches::{Watches, base};
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How large a disk is.
const CAPACITY: u64 = 100 << 30;
/// A chance's whole.
const MILLION: u64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub random: Random,
    pub files: BTreeMap<Inode, File>,
    pub names: Names,
    pub faults: Faults,
    pub struck: Struck,
    pub watches: Watches,
    pub powered: bool,
    /// At which mutating operation from now the power goes; 1 is the next.
    pub fuse: Option<u64>,
    /// Mutating operations so far.
    pub operations: u64,
    /// The power has gone by itself, and nobody was told yet.
    pub fell: bool,
    pub debt: Duration,
    /// Databases that go when they are closed.
    pub fleeting: BTreeSet<String>,
    processes: Vec<Arc<Process>>,
    used: u64,
    pub capacity: u64,
    renamed: BTreeMap<String, u64>,
    numbered: u64,
}

/// A file, whether or not it still has a name.
#[derive(Debug)]
pub(super) struct File {
    pub content: Content,
    pub kind: Kind,
    /// The database it belongs to.
    pub base: Arc<str>,
    pub locks: Locks,
    /// It is the memory that connections share.
    pub shm: Option<Shm>,
    pub open: BTreeSet<Owner>,
    /// When it last changed, in the disk's own count.
    pub changed: u64,
}

impl State {
    pub fn new(random: Random, notices: Random) -> Self {
        Self {
            random,
            files: BTreeMap::new(),
            names: Names::default(),
            faults: Faults::default(),
            struck: Struck::default(),
            watches: Watches::new(notices),
            powered: true,
            fuse: None,
            operations: 0,
            fell: false,
            debt: Duration::ZERO,
            fleeting: BTreeSet::new(),
            processes: Vec::new(),
            used: 0,
            capacity: CAPACITY,
            renamed: BTreeMap::new(),
            numbered: 0,
        }
    }

    pub fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    // Processes and power.

    pub fn process(&mut self) -> Arc<Process> {
        self.processes.retain(|process| process.is_alive() && Arc::strong_count(process) > 1);
        let process = Arc::new(Process::new(self.number(), self.powered));
        self.processes.push(Arc::clone(&process));
        process
    }

    pub fn kill(&mut self, process: &Process) {
        process.end();
        for file in self.files.values_mut() {
            file.locks.release(process.id);
            file.open.retain(|owner| owner.process != process.id);
            if let Some(shm) = &mut file.shm {
                shm.release(process.id);
            }
        }
        self.collect();
    }

    /// The power goes: what was not synced is lost, torn, or not.
    pub fn cut(&mut self) {
        self.powered = false;
        self.fuse = None;
        self.struck.cuts += 1;
        self.processes.drain(..).for_each(|process| process.end());
        self.struck.names += self.names.cut(&mut self.random);
        for file in self.files.values_mut() {
            file.locks = Locks::default();
            file.open.clear();
            if file.shm.take().is_some() || file.kind == Kind::Temporary {
                file.content = Content::default();
                continue;
            }
            let damage = cut(&mut file.content, &mut self.random);
            let sum = self.struck.damage.entry(file.kind).or_default();
            sum.lost += damage.lost;
            sum.torn += damage.torn;
            sum.survived += damage.survived;
        }
        self.collect();
        self.used = self.files.values().map(|file| file.content.length()).sum();
        let renamed: Vec<_> = self.names.all().map(|(path, _)| base(path).to_owned()).collect();
        renamed.into_iter().for_each(|base| self.note_name(&base));
    }

    /// Whether the power goes at this operation.
    fn burn(&mut self) -> bool {
        self.operations += 1;
        match &mut self.fuse {
            Some(0 | 1) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn fall(&mut self) -> Failure {
        self.struck.fuses += 1;
        self.fell = true;
        self.cut();
        Failure::Dead
    }

    /// Does something that may be the last; whether it was done then is open.
    fn mutate(&mut self, work: impl FnOnce(&mut Self)) -> Result<(), Failure> {
        if self.burn() {
            if self.random.happens(5000) {
                work(self);
            }
            return Err(self.fall());
        }
        work(self);
        Ok(())
    }

    // Faults.

    fn strikes(&mut self, kind: Kind, chance: u64) -> bool {
        chance > 0
            && self.faults.only.is_none_or(|only| only == kind)
            && self.random.below(MILLION) < chance
    }

    fn take_time(&mut self, kind: Kind) {
        if !self.faults.slow.is_zero() && self.faults.only.is_none_or(|only| only == kind) {
            self.struck.slow += 1;
            self.debt += self.faults.slow;
        }
    }

    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    /// Leaves so many bytes free.
    pub fn set_free(&mut self, free: Option<u64>) {
        self.capacity = free.map_or(CAPACITY, |free| self.used + free);
    }

    fn room_for(&mut self, growth: u64) -> Result<(), Failure> {
        if growth > self.free() {
            self.struck.full += 1;
            return Err(Failure::Full);
        }
        Ok(())
    }

    // Names.

    /// A new empty file at a path, in place of what stood there.
    pub fn create(&mut self, path: &str) -> Result<Inode, Failure> {
        if !self.names.is_folder(parent(path)) {
            return Err(Failure::NoFolder);
        }
        let inode = self.new_file(Kind::of(path), base(path));
        self.mutate(|state| state.link(path, inode))?;
        Ok(inode)
    }

    /// A file without a name.
    pub fn create_temporary(&mut self) -> Inode {
        self.new_file(Kind::Temporary, "")
    }

    fn new_file(&mut self, kind: Kind, base: &str) -> Inode {
        let inode = self.number();
        let file = File {
            content: Content::default(),
            kind,
            base: base.into(),
            locks: Locks::default(),
            shm: None,
            open: BTreeSet::new(),
            changed: inode,
        };
        self.files.insert(inode, file);
        inode
    }

    fn link(&mut self, path: &str, inode: Inode) {
        self.names.link(path, inode);
        self.renamed(path);
    }

    fn renamed(&mut self, path: &str) {
        let base = base(path);
        self.note_name(base);
        if !path.ends_with("-shm") {
            self.watches.tell(base);
        }
    }

    fn note_name(&mut self, base: &str) {
        let number = self.number();
        self.renamed.insert(base.to_owned(), number);
    }

    /// Takes a name away; durably if `sync`.
    pub fn remove(&mut self, path: &str, sync: bool) -> Result<(), Failure> {
        if self.names.find(path).is_none() {
            return Err(Failure::Missing);
        }
        self.mutate(|state| {
            state.names.unlink(path);
            state.renamed(path);
            state.collect();
        })?;
        if sync { self.sync_folder(parent(path)) } else { Ok(()) }
    }

    /// Moves a name, over whatever stood there.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let inode = self.names.find(from).ok_or(Failure::Missing)?;
        if !self.names.is_folder(parent(to)) {
            return Err(Failure::NoFolder);
        }
        self.mutate(|state| {
            state.names.rename(from, to);
            if let Some(file) = state.files.get_mut(&inode) {
                (file.kind, file.base) = (Kind::of(to), base(to).into());
            }
            state.renamed(from);
            state.renamed(to);
            state.collect();
        })
    }

    pub fn sync_folder(&mut self, folder: &str) -> Result<(), Failure> {
        self.mutate(|state| {
            state.names.sync(folder);
            state.collect();
        })
    }

    /// Forgets files that nobody can reach any more.
    pub fn collect(&mut self) {
        let (names, used) = (&self.names, &mut self.used);
        self.files.retain(|inode, file| {
            let kept = !file.open.is_empty()
                || file.shm.as_ref().is_some_and(Shm::is_attached)
                || names.hold(*inode);
            if !kept {
                *used = used.saturating_sub(file.content.length());
            }
            kept
        });
    }

    // Handles.

    /// Notes that a file is open.
    pub fn open(&mut self, inode: Inode, process: &Process) -> Result<Owner, Failure> {
        let owner = Owner { process: process.id, handle: self.number() };
        self.file_mut(inode)?.open.insert(owner);
        Ok(owner)
    }

    /// Ends a handle, whether or not its process still lives.
    pub fn close(&mut self, owner: Owner, inode: Inode) {
        let Some(file) = self.files.get_mut(&inode) else { return };
        file.open.remove(&owner);
        file.locks.lower(owner, Level::None);
        if file.open.is_empty() {
            self.collect();
        }
    }

    /// Forgets that there ever was a database at a path.
    pub fn forget(&mut self, path: &str) {
        self.fleeting.remove(path);
        self.renamed.remove(path);
    }

    /// Makes a handle one of those that share a database's memory, and returns where it is.
    pub fn attach(&mut self, owner: Owner, path: &str) -> Result<Inode, Failure> {
        let inode = match self.names.find(path) {
            Some(inode) => inode,
            None => {
                let inode = self.new_file(Kind::of(path), base(path));
                self.link(path, inode);
                inode
            }
        };
        self.file_mut(inode)?.shm.get_or_insert_default().attach(owner);
        Ok(inode)
    }

    /// Ends a handle's part in shared memory; the last may take the name away.
    pub fn detach(&mut self, owner: Owner, inode: Inode, path: &str, delete: bool) {
        let shm = self.files.get_mut(&inode).and_then(|file| file.shm.as_mut());
        let last = shm.is_some_and(|shm| shm.detach(owner));
        if last && delete && self.names.find(path) == Some(inode) {
            self.names.unlink(path);
        }
        if last {
            self.collect();
        }
    }

    // Content.

    pub fn file(&self, inode: Inode) -> Result<&File, Failure> {
        self.files.get(&inode).ok_or(Failure::Missing)
    }

    pub fn file_mut(&mut self, inode: Inode) -> Result<&mut File, Failure> {
        self.files.get_mut(&inode).ok_or(Failure::Missing)
    }

    /// Fills `out` from `offset` as far as the file goes; returns how far.
    pub fn read(&mut self, inode: Inode, offset: u64, out: &mut [u8]) -> Result<usize, Failure> {
        let faults = self.faults;
        if faults == Faults::default() {
            return Ok(self.file(inode)?.content.read(offset, out));
        }
        let kind = self.file(inode)?.kind;
        if self.strikes(kind, faults.read) {
            self.struck.read += 1;
            return Err(Failure::Broken);
        }
        if !self.file_mut(inode)?.content.warm(offset) {
            self.take_time(kind);
        }
        let length = self.file(inode)?.content.length();
        let places = length / (out.len() as u64).max(1);
        if self.strikes(kind, faults.misdirected) && places > 1 && out.len() > 1 {
            let place = self.random.below(places) * out.len() as u64;
            if place != offset {
                self.struck.misdirected += 1;
                return Ok(self.file(inode)?.content.read(place, out));
            }
        }
        let count = self.file(inode)?.content.read(offset, out);
        if self.strikes(kind, faults.stale) {
            let choice = self.random.draw();
            let read = out.get_mut(..count).unwrap_or_default();
            if self.file(inode)?.content.make_stale(offset, read, choice) {
                self.struck.stale += 1;
            }
        }
        Ok(count)
    }

    pub fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let (length, kind) = {
            let file = self.file(inode)?;
            (file.content.length(), file.kind)
        };
        if self.strikes(kind, self.faults.write) {
            self.struck.write += 1;
            return Err(Failure::Broken);
        }
        let growth = (offset + bytes.len() as u64).saturating_sub(length);
        if growth > 0 {
            self.room_for(growth)?;
        }
        self.mutate(|state| {
            state.used += growth;
            let remember = state.faults.stale > 0;
            state.change(inode, |content| content.write(offset, bytes, remember));
        })
    }

    pub fn set_length(&mut self, inode: Inode, length: u64) -> Result<(), Failure> {
        let old = self.file(inode)?.content.length();
        self.room_for(length.saturating_sub(old))?;
        self.mutate(|state| {
            state.used = (state.used + length).saturating_sub(old);
            let remember = state.faults.stale > 0;
            state.change(inode, |content| content.set_length(length, remember));
        })
    }

    /// Changes a file's content, and wakes who watches it.
    pub fn change(&mut self, inode: Inode, work: impl FnOnce(&mut Content)) {
        self.numbered += 1;
        if let Some(file) = self.files.get_mut(&inode) {
            work(&mut file.content);
            file.changed = self.numbered;
            self.watches.tell(&file.base);
        }
    }

    /// Makes a file's content durable.
    pub fn sync(&mut self, inode: Inode) -> Result<(), Failure> {
        let kind = self.file(inode)?.kind;
        self.take_time(kind);
        if self.strikes(kind, self.faults.sync) {
            self.struck.sync += 1;
            self.file_mut(inode)?.content.give_up();
            return Err(Failure::Broken);
        }
        self.mutate(|state| {
            if let Some(file) = state.files.get_mut(&inode) {
                file.content.sync();
            }
        })
    }

    /// A number that differs whenever a database, its `-wal` or its `-journal` did.
    pub fn mutations(&self, path: &str) -> u64 {
        let changed = |suffix: &str| {
            let inode = self.names.find(&format!("{path}{suffix}"))?;
            self.files.get(&inode).map(|file| file.changed)
        };
        let named = self.renamed.get(path).copied();
        [changed(""), changed("-wal"), changed("-journal"), named]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(0)
    }

    /// Whether a power cut would leave a database, its `-wal` and its `-journal` as they are.
    pub fn is_settled(&self, path: &str) -> bool {
        super::look::SUFFIXES.iter().all(|suffix| {
            let path = format!("{path}{suffix}");
            let file = self.names.find(&path).and_then(|inode| self.files.get(&inode));
            self.names.is_settled(&path) && file.is_none_or(|file| file.content.is_settled())
        })
    }

    /// What all files take, each content counted once.
    pub fn bytes(&self) -> u64 {
        let mut counted = BTreeSet::new();
        let mut sum = 0;
        for file in self.files.values() {
            if counted.insert(Arc::as_ptr(file.content.image()) as usize) {
                sum += file.content.length();
            }
            sum += file.content.overhead() + file.shm.as_ref().map_or(0, Shm::length);
        }
        sum
    }
}
