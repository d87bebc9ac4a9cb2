//! Asks the system who reads a database in WAL mode, without taking part in it.
//!
//! A reader holds a shared lock on one of the bytes 123 to 127 of the `-shm` file; `F_GETLK` asks
//! for a conflict with a lock that is never taken. POSIX locks belong to the process: readers in
//! this process, our own connections among them, are invisible. So is a reader that reads the
//! database without its `-shm` (`locking_mode=EXCLUSIVE`, `immutable`).
//!
//! Taking that lock shuts readers out: SQLite then tries again, in steps of microseconds to
//! milliseconds and for seconds in all, without asking the application's busy handler.
//!
//! The first of those bytes stands for reading the file alone, all of the `-wal` being in it. Who
//! finds it locked reads the `-wal` as well. That also holds for our own connections, if the lock
//! belongs to the open file, not to the process (`F_OFD_SETLK`).

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use crate::environment::Readers;
    use std::io;
    use std::path::Path;

    pub(in super::super) fn readers(_: &Path) -> io::Result<Readers> {
        Ok(Readers::Unknown)
    }

    pub(in super::super) fn shut_out(_: &Path) -> io::Result<Readers> {
        Ok(Readers::Unknown)
    }

    pub(in super::super) fn let_in(_: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(in super::super) fn hold_log(_: &Path) -> io::Result<Readers> {
        Ok(Readers::Unknown)
    }

    pub(in super::super) fn release_log(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{hold_log, let_in, readers, release_log, shut_out};
#[cfg(target_os = "linux")]
pub(super) use linux::{hold_log, let_in, readers, release_log, shut_out};

#[cfg(target_os = "linux")]
mod linux {
    #![expect(clippy::disallowed_types, reason = "the -shm must be opened to ask about its locks")]

    use super::super::files::{beside, identity, identity_of};
    use crate::environment::Readers;
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io;
    use std::mem::ManuallyDrop;
    use std::path::Path;
    use std::sync::{Mutex, PoisonError};

    /// The first of SQLite's read locks in the `-shm`, and their number.
    const FIRST: libc::off_t = 123;
    const COUNT: libc::off_t = 5;

    /// Every `-shm` ever asked about, by device and inode, open for ever.
    ///
    /// Closing any descriptor of a file drops *all* locks that this process holds on it, those of
    /// our own SQLite connections included; so none is ever closed, not even that of a file since
    /// removed, and the table belongs to the process as its locks do. The cost is one descriptor
    /// each time an application's last connection removed the `-shm` and the next made a new one,
    /// which does not happen while the node itself is connected.
    static OPEN: Mutex<BTreeMap<(u64, u64), ManuallyDrop<File>>> = Mutex::new(BTreeMap::new());

    pub(in super::super) fn readers(path: &Path) -> io::Result<Readers> {
        Ok(with_shared(path, ask)?.unwrap_or(Readers::None))
    }

    /// Shuts readers of other processes out, if there are none.
    pub(in super::super) fn shut_out(path: &Path) -> io::Result<Readers> {
        take(path, FcntlArg::F_SETLK(&lock(libc::F_WRLCK)))
    }

    /// Lets them in again. This drops the read locks of all connections of this process.
    pub(in super::super) fn let_in(path: &Path) -> io::Result<()> {
        give(path, FcntlArg::F_SETLK(&lock(libc::F_UNLCK)))
    }

    /// Keeps the lock of those who read the file alone, if nobody has it.
    pub(in super::super) fn hold_log(path: &Path) -> io::Result<Readers> {
        take(path, FcntlArg::F_OFD_SETLK(&first(libc::F_WRLCK)))
    }

    pub(in super::super) fn release_log(path: &Path) -> io::Result<()> {
        give(path, FcntlArg::F_OFD_SETLK(&first(libc::F_UNLCK)))
    }

    /// Takes a lock, if no reader is in the way.
    fn take(path: &Path, how: FcntlArg<'_>) -> io::Result<Readers> {
        let taken = with_shared(path, |file| match fcntl(file, how) {
            Ok(_) => Ok(Readers::None),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(Readers::Some),
            Err(Errno::EBADF) => Ok(Readers::Unknown), // the -shm may only be read
            Err(error) => Err(error.into()),
        })?;
        Ok(taken.unwrap_or(Readers::Unknown))
    }

    fn give(path: &Path, how: FcntlArg<'_>) -> io::Result<()> {
        with_shared(path, |file| Ok(fcntl(file, how)?)).map(drop)
    }

    /// Does something with the `-shm` of the database at `path`, if there is one.
    fn with_shared<T>(
        path: &Path,
        work: impl FnOnce(&File) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let path = beside(path, "-shm")?;
        let Some(known) = identity(&path)? else {
            return Ok(None);
        };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&(known.device, known.inode)) {
            return work(file).map(Some);
        }
        // Locks that shut readers out need a descriptor that may write; asking does not.
        let opened = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(&path),
            opened => opened,
        };
        let file = match opened {
            Ok(file) => ManuallyDrop::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // What was opened may already be another file than the one looked up.
        let opened = identity_of(&file.metadata()?);
        let result = work(&file);
        open.entry((opened.device, opened.inode)).or_insert(file);
        result.map(Some)
    }

    fn lock(kind: libc::c_int) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: FIRST,
            l_len: COUNT,
            l_pid: 0,
        }
    }

    fn first(kind: libc::c_int) -> libc::flock {
        libc::flock { l_len: 1, ..lock(kind) }
    }

    fn ask(file: &File) -> io::Result<Readers> {
        let mut lock = lock(libc::F_WRLCK);
        fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
        let free = lock.l_type == libc::F_UNLCK as libc::c_short;
        Ok(if free { Readers::None } else { Readers::Some })
    }
}
