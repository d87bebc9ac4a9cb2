//! An environment that is the files of this computer and nothing else of the world. Its locks are
//! those of Linux.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

use crate::environment::*;
use conflict::WallTime;
use nix::fcntl::{FcntlArg, fcntl};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The files of a real computer; nothing else of the world.
#[derive(Debug, Default)]
pub struct Files {
    shared: Mutex<BTreeMap<PathBuf, Arc<File>>>,
}

fn unneeded<T>() -> io::Result<T> {
    Err(io::Error::other("capture has no need of it"))
}

/// The locks of a WAL database's readers.
fn reader_locks(kind: i32) -> nix::libc::flock {
    nix::libc::flock {
        l_type: kind as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 123,
        l_len: 5,
        l_pid: 0,
    }
}

impl Files {
    /// The `-shm` of a database, kept open: closing it would drop this process's locks.
    fn shared(&self, path: &Path) -> io::Result<Option<Arc<File>>> {
        let path = PathBuf::from(format!("{}-shm", path.display()));
        let mut shared = self.shared.lock().unwrap();
        if !shared.contains_key(&path) && path.exists() {
            let file = File::options().read(true).write(true).open(&path)?;
            shared.insert(path.clone(), Arc::new(file));
        }
        Ok(shared.get(&path).cloned())
    }
}

impl Environment for Files {
    fn wall_clock(&self) -> WallTime {
        panic!("capture reads no clock")
    }
    fn fill_random(&self, _: &mut [u8]) {
        panic!("capture needs no randomness")
    }
    fn spawn(&self, _: BoxFuture<'static, ()>) -> Box<dyn TaskHandle> {
        panic!("capture has no tasks")
    }
    fn executor(&self, _: &'static str) -> Arc<dyn Executor> {
        panic!("capture has no tasks")
    }
    fn quic_runtime(&self) -> Arc<dyn quinn::Runtime> {
        panic!("capture has no network")
    }
    fn bind(&self, _: SocketAddr) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        unneeded()
    }
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { unneeded() })
    }
    fn interfaces(&self) -> io::Result<Vec<IpAddr>> {
        unneeded()
    }
    fn open_database(&self, path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok(connection)
    }
    fn watch(&self, _: &Path) -> io::Result<Box<dyn FileWatch>> {
        unneeded()
    }
    fn readers(&self, path: &Path) -> io::Result<Readers> {
        let mut lock = reader_locks(nix::libc::F_WRLCK);
        let Some(shared) = self.shared(path)? else { return Ok(Readers::None) };
        fcntl(&*shared, FcntlArg::F_GETLK(&mut lock))?;
        let free = lock.l_type == nix::libc::F_UNLCK as i16;
        Ok(if free { Readers::None } else { Readers::Some })
    }
    fn shut_readers_out(&self, path: &Path) -> io::Result<Readers> {
        let Some(shared) = self.shared(path)? else { return Ok(Readers::Unknown) };
        match fcntl(&*shared, FcntlArg::F_SETLK(&reader_locks(nix::libc::F_WRLCK))) {
            Ok(_) => Ok(Readers::None),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(Readers::Some),
            Err(error) => Err(error.into()),
        }
    }
    fn let_readers_in(&self, path: &Path) -> io::Result<()> {
        let Some(shared) = self.shared(path)? else { return Ok(()) };
        fcntl(&*shared, FcntlArg::F_SETLK(&reader_locks(nix::libc::F_UNLCK)))?;
        Ok(())
    }
    fn sync_wal(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn file_identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        match std::fs::metadata(path) {
            Ok(data) => Ok(Some(FileIdentity { device: data.dev(), inode: data.ino() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
    fn free_space(&self, _: &Path) -> io::Result<u64> {
        unneeded()
    }
    fn read_file(&self, _: &Path) -> io::Result<Option<Vec<u8>>> {
        unneeded()
    }
    fn write_file(&self, _: &Path, _: &[u8], _: bool) -> io::Result<()> {
        unneeded()
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        unneeded()
    }
    fn list_directory(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        unneeded()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unneeded()
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        unneeded()
    }
}
