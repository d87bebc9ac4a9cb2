//! Asks the system who reads a database in WAL mode, without taking part in it.
//!
//! A reader holds a shared lock on one of the bytes 123 to 127 of the `-shm` file; `F_GETLK` asks
//! for a conflict with a lock that is never taken. POSIX locks belong to the process: readers in
//! this process, our own connections among them, are invisible. So is a reader that reads the
//! database without its `-shm` (`locking_mode=EXCLUSIVE`, `immutable`).

#[cfg(not(target_os = "linux"))]
pub(super) fn readers(_: &std::path::Path) -> std::io::Result<crate::environment::Readers> {
    Ok(crate::environment::Readers::Unknown)
}

#[cfg(target_os = "linux")]
pub(super) use linux::readers;

#[cfg(target_os = "linux")]
mod linux {
    #![expect(clippy::disallowed_types, reason = "the -shm must be opened to ask about its locks")]

    use super::super::files::{beside, identity, identity_of};
    use crate::environment::Readers;
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
        let path = beside(path, "-shm")?;
        let Some(known) = identity(&path)? else {
            return Ok(Readers::None);
        };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&(known.device, known.inode)) {
            return ask(file);
        }
        let file = match File::open(&path) {
            Ok(file) => ManuallyDrop::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Readers::None),
            Err(error) => return Err(error),
        };
        // What was opened may already be another file than the one looked up.
        let opened = identity_of(&file.metadata()?);
        let answer = ask(&file);
        open.entry((opened.device, opened.inode)).or_insert(file);
        answer
    }

    fn ask(file: &File) -> io::Result<Readers> {
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: FIRST,
            l_len: COUNT,
            l_pid: 0,
        };
        fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
        let free = lock.l_type == libc::F_UNLCK as libc::c_short;
        Ok(if free { Readers::None } else { Readers::Some })
    }
}
