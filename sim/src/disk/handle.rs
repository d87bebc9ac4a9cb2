//! What SQLite does with an open file: the methods of `sqlite3_io_methods`, version 2. Each finds
//! its file and hands on; nothing is decided here, and no panic goes into C.
#![allow(unsafe_code, reason = "SQLite calls in C")]

use super::Disk;
use super::here::{Caller, with_given};
use super::locks::Level;
use super::names::{Inode, parent};
use super::process::{Failure, Owner};
use super::shm::{REGION, Region};
use super::state::State;
use rusqlite::ffi;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// As the unix VFS says; what is torn is smaller.
const SECTOR_SIZE: c_int = 4096;

/// A file as SQLite has it: the methods, then what is ours.
#[repr(C)]
pub(super) struct Handle {
    methods: *const ffi::sqlite3_io_methods,
    open: *mut Open,
}

/// An open file.
#[derive(Debug)]
struct Open {
    caller: Caller,
    owner: Owner,
    inode: Inode,
    /// None for what SQLite needs for a moment.
    path: Option<String>,
    /// Its name is to become durable with the first sync: as with the unix VFS, this goes for every
    /// journal that might have been made, whoever made it.
    new_name: bool,
    shm: Option<Inode>,
    /// Keeps what SQLite has pointers into.
    regions: Vec<Region>,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Runs what may fail or panic, and says what SQLite is to hear. `code` is for whatever has no code
/// of its own.
pub(super) fn answer(code: c_int, work: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => done,
        Ok(Err(Failure::Full)) => ffi::SQLITE_FULL,
        Ok(Err(Failure::Busy)) => ffi::SQLITE_BUSY,
        Ok(Err(_)) => code,
        Err(_) => {
            with_given(|given| given.panics += 1);
            code
        }
    }
}

/// Opens a file as SQLite's flags say.
pub(super) fn open(caller: Caller, path: Option<&str>, flags: c_int) -> Result<Handle, Failure> {
    let has = |flag: c_int| flags & flag != 0;
    let journal =
        ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
    let process = &caller.process;
    let (owner, inode) = caller.disk.act(process, |state| {
        let inode = match path {
            None => state.create_temporary(),
            Some(path) => match state.names.find(path) {
                Some(_) if has(ffi::SQLITE_OPEN_EXCLUSIVE) => return Err(Failure::Busy),
                Some(inode) => inode,
                None if has(ffi::SQLITE_OPEN_CREATE) => state.create(path)?,
                None => return Err(Failure::Missing),
            },
        };
        let owner = state.open(inode, process)?;
        if let Some(path) = path.filter(|_| has(ffi::SQLITE_OPEN_DELETEONCLOSE)) {
            state.remove(path, false)?;
        }
        Ok((owner, inode))
    })?;
    let open = Box::new(Open {
        owner,
        inode,
        path: path.map(str::to_owned),
        new_name: has(journal) && has(ffi::SQLITE_OPEN_CREATE),
        shm: None,
        regions: Vec::new(),
        caller,
    });
    Ok(Handle { methods: &raw const METHODS, open: Box::into_raw(open) })
}

/// On whose behalf a file of ours was opened.
///
/// # Safety
/// `file` is null or an open file of SQLite.
pub(super) unsafe fn caller_of(file: *mut ffi::sqlite3_file) -> Option<Caller> {
    // SAFETY: the caller's promise; with our methods it is one of our handles.
    let ours = !file.is_null() && unsafe { (*file).pMethods } == &raw const METHODS;
    // SAFETY: as above.
    ours.then(|| unsafe { opened(file) }.caller.clone())
}

/// What is ours of a file.
///
/// # Safety
/// `file` was opened with our methods and is not closed; SQLite uses a file from one place at a
/// time.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Open {
    // SAFETY: `open` was made of a box in `open`, and is given back in `close` alone.
    unsafe { &mut *(*file.cast::<Handle>()).open }
}

impl Open {
    fn act<T>(&self, work: impl FnOnce(&mut State) -> Result<T, Failure>) -> Result<T, Failure> {
        self.caller.disk.act(&self.caller.process, work)
    }

    fn disk(&self) -> &Disk {
        &self.caller.disk
    }

    fn shm_path(&self) -> String {
        format!("{}-shm", self.path.as_deref().unwrap_or_default())
    }

    fn detach(&mut self, delete: bool) {
        if let Some(shm) = self.shm.take() {
            let alive = self.caller.process.is_alive();
            let mut state = self.disk().state();
            state.detach(self.owner, shm, &self.shm_path(), delete && alive);
        }
        self.regions.clear();
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    answer(ffi::SQLITE_IOERR_CLOSE, || {
        // SAFETY: SQLite closes a file once, and does not use it afterwards; the box is `open`'s.
        let mut open = unsafe { Box::from_raw((*file.cast::<Handle>()).open) };
        // Whether or not its process lives: this is the end of the handle.
        open.detach(false);
        open.disk().state().close(open.owner, open.inode);
        if let Some(path) = &open.path {
            open.disk().closed(path);
        }
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    out: *mut c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    answer(ffi::SQLITE_IOERR_READ, || {
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the file is open, and SQLite hands in a buffer of so many bytes.
        let (open, out) =
            unsafe { (opened(file), std::slice::from_raw_parts_mut(out.cast::<u8>(), count)) };
        let offset = u64::try_from(offset).unwrap_or(0);
        let there = open.act(|state| state.read(open.inode, offset, out))?;
        match out.get_mut(there..) {
            Some(rest) if !rest.is_empty() => {
                rest.fill(0);
                Ok(ffi::SQLITE_IOERR_SHORT_READ)
            }
            _ => Ok(ffi::SQLITE_OK),
        }
    })
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    answer(ffi::SQLITE_IOERR_WRITE, || {
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the file is open, and SQLite hands in so many bytes.
        let (open, bytes) =
            unsafe { (opened(file), std::slice::from_raw_parts(bytes.cast::<u8>(), count)) };
        let offset = u64::try_from(offset).unwrap_or(0);
        open.act(|state| state.write(open.inode, offset, bytes)).map(|()| ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    answer(ffi::SQLITE_IOERR_TRUNCATE, || {
        // SAFETY: the file is open.
        let open = unsafe { opened(file) };
        let size = u64::try_from(size).unwrap_or(0);
        open.act(|state| state.set_length(open.inode, size)).map(|()| ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    answer(ffi::SQLITE_IOERR_FSYNC, || {
        // SAFETY: the file is open.
        let open = unsafe { opened(file) };
        open.act(|state| {
            state.sync(open.inode)?;
            match &open.path {
                Some(path) if open.new_name => state.sync_folder(parent(path)),
                _ => Ok(()),
            }
        })?;
        open.new_name = false;
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    answer(ffi::SQLITE_IOERR_FSTAT, || {
        // SAFETY: the file is open.
        let open = unsafe { opened(file) };
        let length = open.act(|state| Ok(state.file(open.inode)?.content.length()))?;
        // SAFETY: SQLite hands in a place for the answer.
        unsafe { *out = i64::try_from(length).unwrap_or(i64::MAX) };
        Ok(ffi::SQLITE_OK)
    })
}

fn level(level: c_int) -> Level {
    match level {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        _ => Level::Exclusive,
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    answer(ffi::SQLITE_IOERR_LOCK, || {
        // SAFETY: the file is open.
        let open = unsafe { opened(file) };
        open.act(|state| state.file_mut(open.inode)?.locks.raise(open.owner, level(wanted)))?;
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    answer(ffi::SQLITE_IOERR_UNLOCK, || {
        // SAFETY: the file is open.
        let open = unsafe { opened(file) };
        open.act(|state| {
            state.file_mut(open.inode)?.locks.lower(open.owner, level(wanted));
            Ok(ffi::SQLITE_OK)
        })
    })
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    answer(ffi::SQLITE_IOERR_CHECKRESERVEDLOCK, || {
        // SAFETY: the file is open.
        let open = unsafe { opened(file) };
        let reserved = open.act(|state| Ok(state.file(open.inode)?.locks.is_reserved()))?;
        // SAFETY: SQLite hands in a place for the answer.
        unsafe { *out = c_int::from(reserved) };
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn file_control(
    file: *mut ffi::sqlite3_file,
    what: c_int,
    out: *mut c_void,
) -> c_int {
    if what != ffi::SQLITE_FCNTL_HAS_MOVED {
        return ffi::SQLITE_NOTFOUND;
    }
    answer(ffi::SQLITE_IOERR, || {
        // SAFETY: the file is open.
        let open = unsafe { opened(file) };
        let path = open.path.as_deref().unwrap_or_default();
        let moved = open.act(|state| Ok(state.names.find(path) != Some(open.inode)))?;
        // SAFETY: for this question SQLite hands in a place for an int.
        unsafe { *out.cast::<c_int>() = c_int::from(moved) };
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    SECTOR_SIZE
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    answer(ffi::SQLITE_IOERR_SHMMAP, || {
        // SAFETY: the file is open, and SQLite hands in a place for the pointer.
        let (open, out) = unsafe { (opened(file), &mut *out) };
        *out = std::ptr::null_mut();
        if usize::try_from(size) != Ok(REGION) {
            return Err(Failure::Broken);
        }
        let number = usize::try_from(region).unwrap_or(usize::MAX);
        let shm = match open.shm {
            Some(shm) => shm,
            None => {
                let path = open.shm_path();
                *open.shm.insert(open.act(|state| state.attach(open.owner, &path))?)
            }
        };
        let region = open.act(|state| {
            let memory = state.file_mut(shm)?.shm.as_mut().ok_or(Failure::Missing)?;
            Ok(memory.region(number, extend != 0))
        })?;
        if let Some(region) = region {
            *out = region.as_ptr().cast_mut().cast::<c_void>();
            open.regions.push(region);
        }
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    answer(ffi::SQLITE_IOERR_SHMLOCK, || {
        // SAFETY: the file is open.
        let open = unsafe { opened(file) };
        let mask = (((1_u32 << (count & 15)) - 1) << (offset & 15)) as u8;
        let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
        let shm = open.shm.ok_or(Failure::Missing)?;
        open.act(|state| {
            let memory = state.file_mut(shm)?.shm.as_mut().ok_or(Failure::Missing)?;
            match flags & ffi::SQLITE_SHM_UNLOCK {
                0 => memory.lock(open.owner, mask, exclusive)?,
                _ => memory.unlock(open.owner, mask),
            }
            Ok(ffi::SQLITE_OK)
        })
    })
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    answer(ffi::SQLITE_OK, || {
        // SAFETY: the file is open.
        unsafe { opened(file) }.detach(delete != 0);
        Ok(ffi::SQLITE_OK)
    })
}
