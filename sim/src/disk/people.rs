//! What people do to files, with the computer on or off: nobody asks the node, no fuse falls, and
//! it is durable at once. What has a new inode in the real world has one here.

use super::names::{Inode, parent};
use super::process::Failure;
use super::state::State;
use super::{Disk, text};
use crate::random::Random;
use std::path::{Path, PathBuf};

impl Disk {
    /// Whether there is such a file.
    pub fn exists(&self, path: &Path) -> bool {
        self.state().names.find(text(path)).is_some()
    }

    /// All files, sorted by path.
    pub fn list(&self) -> Vec<PathBuf> {
        self.state().names.all().map(|(path, _)| PathBuf::from(path)).collect()
    }

    /// What a file holds, as a process would see it.
    ///
    /// # Errors
    /// There is none.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        let state = self.state();
        let inode = state.names.find(text(path)).ok_or(Failure::Missing)?;
        Ok(Vec::clone(state.file(inode)?.content.image()))
    }

    /// Copies a file: into the one that stands there, or a new one.
    ///
    /// # Errors
    /// There is no such file, or no such folder.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        let content = self.read(from)?;
        self.overwrite(to, &content)
    }

    /// Gives the file that stands there this content, or makes one: as `cp` does, and ransomware.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn overwrite(&self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        self.people(&[path], |state| {
            let inode = match state.names.find(text(path)) {
                Some(inode) => inode,
                None => state.create(text(path))?,
            };
            write_over(state, inode, content)
        })
    }

    /// Puts a new file with this content there, in place of what stood there.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn put(&self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        self.people(&[path], |state| {
            let inode = state.create(text(path))?;
            write_over(state, inode, content)
        })
    }

    /// Moves a file, over what stands there.
    ///
    /// # Errors
    /// There is no such file, or no such folder.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        self.people(&[from, to], |state| state.rename(text(from), text(to)))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// There is none.
    pub fn remove(&self, path: &Path) -> Result<(), Failure> {
        self.people(&[path], |state| state.remove(text(path), false))
    }

    /// Leaves nothing of a file but its name.
    ///
    /// # Errors
    /// There is none.
    pub fn empty(&self, path: &Path) -> Result<(), Failure> {
        self.people(&[path], |state| {
            let inode = state.names.find(text(path)).ok_or(Failure::Missing)?;
            state.set_length(inode, 0)
        })
    }

    /// Makes a folder.
    pub fn make_folder(&self, path: &Path) {
        self.state().names.make_folder(text(path));
    }

    /// Removes everything, as a new disk does that is put in place of a broken one. To be called
    /// with the power off.
    pub fn replace(&self) {
        for path in self.list() {
            // It was there a moment ago.
            let _ = self.remove(&path);
        }
    }

    /// Turns a bit of a file over, on the platter and in memory; nobody is told. Returns whether
    /// there was one.
    pub fn flip_bit(&self, path: &Path, random: &mut Random) -> bool {
        let mut state = self.state();
        let inode = state.names.find(text(path)).unwrap_or_default();
        let Some(file) = state.files.get_mut(&inode) else { return false };
        let bit = random.below(file.content.length() * 8);
        let flipped = file.content.flip(bit);
        state.struck.flipped += u64::from(flipped);
        flipped
    }

    /// Does something as people do: whatever goes wrong for programs, this does not, and it is
    /// durable.
    fn people(
        &self,
        paths: &[&Path],
        work: impl FnOnce(&mut State) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut state = self.state();
        let (fuse, faults) = (state.fuse.take(), std::mem::take(&mut state.faults));
        let capacity = std::mem::replace(&mut state.capacity, u64::MAX);
        let done = work(&mut state);
        paths.iter().for_each(|path| state.names.sync(parent(text(path))));
        state.collect();
        (state.fuse, state.faults, state.capacity) = (fuse, faults, capacity);
        done
    }
}

fn write_over(state: &mut State, inode: Inode, content: &[u8]) -> Result<(), Failure> {
    state.set_length(inode, 0)?;
    state.write(inode, 0, content)?;
    state.sync(inode)
}
