//! What the node asks of its files and directories beside SQLite: the file operations of
//! `Environment`, in the steps that production takes, so that the power may go between any two.

use super::names::{Inode, parent};
use super::process::{Failure, Process};
use super::shm::Shm;
use super::state::State;
use super::{Disk, text};
use node::environment::wal::{self, WalFile};
use node::environment::{BoxFuture, FileIdentity, FileWatch, Readers};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;

/// All computers' disks are of one kind.
const DEVICE: u64 = 1;

/// A `-wal` while it is written again.
struct Wal<'a>(&'a mut State, Inode);

impl WalFile for Wal<'_> {
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read(self.1, offset, out)?)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        Ok(self.0.write(self.1, offset, bytes)?)
    }
}

impl Disk {
    pub(crate) fn read_file(&self, process: &Process, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.act(process, |state| {
            let Some(inode) = state.names.find(text(path)) else { return Ok(None) };
            let mut content = vec![0; state.file(inode)?.content.length() as usize];
            state.read(inode, 0, &mut content)?;
            Ok(Some(content))
        })?)
    }

    /// Writes beside, syncs, renames over, syncs the folder.
    pub(crate) fn write_file(
        &self,
        process: &Process,
        path: &Path,
        content: &[u8],
    ) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        let beside = path.with_file_name(format!(".{name}.new"));
        let (beside, path) = (text(&beside), text(path));
        Ok(self.act(process, |state| {
            if_present(state.remove(beside, false))?;
            let written = write_new(state, beside, content)
                .and_then(|()| state.rename(beside, path))
                .and_then(|()| state.sync_folder(parent(path)));
            if written.is_err() && state.powered {
                if_present(state.remove(beside, false))?;
            }
            written
        })?)
    }

    pub(crate) fn create_directory(&self, process: &Process, path: &Path) -> io::Result<()> {
        Ok(self.act(process, |state| {
            state.names.make_folder(text(path));
            Ok(())
        })?)
    }

    pub(crate) fn list_directory(
        &self,
        process: &Process,
        path: &Path,
    ) -> io::Result<Vec<PathBuf>> {
        let names = self.act(process, |state| Ok(state.names.list(text(path))))?;
        Ok(names.into_iter().map(PathBuf::from).collect())
    }

    pub(crate) fn rename_file(&self, process: &Process, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (text(from), text(to));
        Ok(self.act(process, |state| {
            state.rename(from, to)?;
            state.sync_folder(parent(to))?;
            if parent(from) == parent(to) { Ok(()) } else { state.sync_folder(parent(from)) }
        })?)
    }

    pub(crate) fn remove_file(&self, process: &Process, path: &Path) -> io::Result<()> {
        Ok(self.act(process, |state| if_present(state.remove(text(path), false)))?)
    }

    pub(crate) fn identity(
        &self,
        process: &Process,
        path: &Path,
    ) -> io::Result<Option<FileIdentity>> {
        let path = text(path);
        Ok(self.act(process, |state| {
            let inode = state.names.find(path);
            Ok(inode.map(|inode| FileIdentity { device: DEVICE, inode }))
        })?)
    }

    pub(crate) fn free_space(&self, process: &Process) -> io::Result<u64> {
        Ok(self.act(process, |state| Ok(state.free()))?)
    }

    pub(crate) fn canonical(&self, process: &Process, path: &Path) -> io::Result<PathBuf> {
        let found = |state: &mut State| {
            let there = state.names.find(text(path)).is_some() || state.names.is_folder(text(path));
            if there { Ok(()) } else { Err(Failure::Missing) }
        };
        self.act(process, found)?;
        Ok(path.to_owned())
    }

    /// Makes the `-wal` of a database durable.
    pub(crate) fn sync_committed(&self, process: &Process, path: &Path) -> io::Result<()> {
        let (wal, journal) = (format!("{}-wal", text(path)), format!("{}-journal", text(path)));
        Ok(self.act(process, |state| {
            if let Some(inode) = state.names.find(&wal) {
                return state.sync(inode);
            }
            if let Some(inode) = state.names.find(&journal) {
                state.sync(inode)?;
            }
            state.sync_folder(parent(&wal))
        })?)
    }

    pub(crate) fn rewrite_wal(&self, process: &Process, path: &Path) -> io::Result<()> {
        let wal = format!("{}-wal", text(path));
        self.act(process, |state| {
            let Some(inode) = state.names.find(&wal) else { return Ok(Ok(())) };
            Ok(wal::rewrite(&mut Wal(state, inode)).and_then(|end| match end {
                0 => Ok(()),
                _ => Ok(state.sync(inode).and_then(|()| state.sync_folder(parent(&wal)))?),
            }))
        })?
    }

    pub(crate) fn readers(&self, process: &Process, path: &Path) -> io::Result<Readers> {
        self.with_shm(process, path, |shm| some(shm.has_readers(process.id)))
            .map(|readers| readers.unwrap_or(Readers::None))
    }

    pub(crate) fn shut_readers_out(&self, process: &Process, path: &Path) -> io::Result<Readers> {
        self.with_shm(process, path, |shm| some(!shm.shut_out(process.id)))
            .map(|readers| readers.unwrap_or(Readers::Unknown))
    }

    pub(crate) fn let_readers_in(&self, process: &Process, path: &Path) -> io::Result<()> {
        self.with_shm(process, path, |shm| shm.let_in(process.id)).map(drop)
    }

    pub(crate) fn hold_log(&self, process: &Process, path: &Path) -> io::Result<Readers> {
        self.with_shm(process, path, |shm| some(!shm.hold_log(process.id)))
            .map(|readers| readers.unwrap_or(Readers::Unknown))
    }

    pub(crate) fn release_log(&self, process: &Process, path: &Path) -> io::Result<()> {
        self.with_shm(process, path, |shm| shm.release_log(process.id)).map(drop)
    }

    fn with_shm<T>(
        &self,
        process: &Process,
        path: &Path,
        work: impl FnOnce(&mut Shm) -> T,
    ) -> io::Result<Option<T>> {
        let path = format!("{}-shm", text(path));
        Ok(self.act(process, |state| {
            let file = state.names.find(&path).and_then(|inode| state.files.get_mut(&inode));
            Ok(file.and_then(|file| file.shm.as_mut()).map(work))
        })?)
    }

    pub(crate) fn watch(&self, path: &Path) -> Watch {
        Watch(self.state().watches.watch(text(path)))
    }
}

fn some(readers: bool) -> Readers {
    if readers { Readers::Some } else { Readers::None }
}

fn write_new(state: &mut State, path: &str, content: &[u8]) -> Result<(), Failure> {
    let inode: Inode = state.create(path)?;
    state.write(inode, 0, content)?;
    state.sync(inode)
}

fn if_present(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(Failure::Missing) => Ok(()),
        result => result,
    }
}

/// A watch on one database.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Notify>);

impl FileWatch for Watch {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.notified())
    }
}
