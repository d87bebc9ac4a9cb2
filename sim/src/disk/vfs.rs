//! The VFS that SQLite gets as its default: files on the disks of this world, randomness for
//! `random()`, the time for `'now'`, and waiting. What is done with an open file is in `handle`.
//!
//! On a thread without a world the unix VFS answers, to the last pointer. SQLite's generator
//! belongs to the process and is seeded once: [`reseed`] makes it start anew.
#![allow(unsafe_code, reason = "SQLite asks for its VFS in C")]

use super::handle::{self, Handle, answer};
use super::here::{self, Caller, with_given};
use super::process::Failure;
use rusqlite::ffi;
use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

/// SQLite counts milliseconds from noon of 24 November 4714 BC.
const JULIAN_EPOCH_MS: i64 = 210_866_760_000_000;
const MS_A_DAY: f64 = 86_400_000.0;
/// The longest path.
const PATH: c_int = 512;

/// The unix VFS, by value: its functions, for the threads without a world.
struct Unix(ffi::sqlite3_vfs);

// SAFETY: the struct holds pointers to functions and constants of SQLite alone, which any thread
// may use; it is never written after it was copied.
unsafe impl Send for Unix {}
// SAFETY: as above.
unsafe impl Sync for Unix {}

static UNIX: OnceLock<Option<Unix>> = OnceLock::new();

/// Makes SQLite ask here from now on; returns whether it does.
pub(super) fn register() -> bool {
    UNIX.get_or_init(registered).is_some()
}

/// Makes SQLite's generator take a new seed at its next use.
pub(super) fn reseed() {
    // SAFETY: no bytes and no buffer: documented to do just that.
    unsafe { ffi::sqlite3_randomness(0, std::ptr::null_mut()) };
}

fn registered() -> Option<Unix> {
    // SAFETY: takes one int, and is called before SQLite is initialized, by the first call of it;
    // if it was in use before, the answer is MISUSE and nothing has changed.
    unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0) };
    // SAFETY: no name asks for the default VFS, which is valid for ever or null; nothing else in
    // this process registers one.
    let unix = unsafe { *ffi::sqlite3_vfs_find(std::ptr::null()).as_ref()? };
    let size = c_int::try_from(size_of::<Handle>()).ok()?;
    let ours = Box::leak(Box::new(ffi::sqlite3_vfs {
        pNext: std::ptr::null_mut(),
        szOsFile: size.max(unix.szOsFile),
        mxPathname: PATH.max(unix.mxPathname),
        zName: c"holdfast-sim".as_ptr(),
        // `pAppData` stays: with it the unix VFS finds its own way to lock and open files.
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xCurrentTimeInt64: Some(current_time_int64),
        ..unix
    }));
    // SAFETY: the struct lives for ever and is complete, being a copy of a complete one.
    let done = unsafe { ffi::sqlite3_vfs_register(ours, 1) };
    (done == ffi::SQLITE_OK).then_some(Unix(unix))
}

fn unix() -> Option<&'static ffi::sqlite3_vfs> {
    UNIX.get().and_then(Option::as_ref).map(|unix| &unix.0)
}

/// A path as SQLite hands it in.
///
/// # Safety
/// Null, or a string that ends with a zero and outlives what is returned.
unsafe fn path<'a>(name: *const c_char) -> Option<&'a str> {
    // SAFETY: not null, and the caller's promise.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default())
}

/// On whose behalf SQLite opens a file. For what belongs to an open database that is known,
/// whoever calls.
///
/// # Safety
/// `name` is what `xOpen` was given with `flags`.
unsafe fn opener(name: *const c_char, flags: c_int) -> Option<Caller> {
    if flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0 && !name.is_null() {
        // SAFETY: documented for names of a -wal or a journal that were handed to `xOpen`; the
        // database is open as long as these are, and is one of ours on a thread with a world.
        let owner = unsafe { handle::caller_of(ffi::sqlite3_database_file_object(name)) };
        if owner.is_some() {
            return owner;
        }
    }
    // SAFETY: the caller's promise.
    here::caller(unsafe { path(name) })
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    if !here::is_world() {
        return match unix().and_then(|unix| unix.xOpen) {
            // SAFETY: passed on as it came; ours is a copy of the unix VFS in all that it looks
            // at, and the file has at least its size.
            Some(unix) => unsafe { unix(vfs, name, file, flags, out) },
            None => ffi::SQLITE_ERROR,
        };
    }
    // SAFETY: SQLite hands in a place for a file. Without methods it is never closed.
    unsafe { (*file).pMethods = std::ptr::null() };
    answer(ffi::SQLITE_CANTOPEN, || {
        // SAFETY: as SQLite handed them in.
        let (caller, path) = unsafe { (opener(name, flags), path(name)) };
        let handle = handle::open(caller.ok_or(Failure::Missing)?, path, flags)?;
        // SAFETY: the place has the size of a `Handle`, as registered, and nothing is in it.
        unsafe { file.cast::<Handle>().write(handle) };
        if !out.is_null() {
            // SAFETY: SQLite hands in a place for the flags, or null.
            unsafe { *out = flags };
        }
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    if !here::is_world() {
        return match unix().and_then(|unix| unix.xDelete) {
            // SAFETY: as in `open`.
            Some(unix) => unsafe { unix(vfs, name, sync) },
            None => ffi::SQLITE_ERROR,
        };
    }
    answer(ffi::SQLITE_IOERR_DELETE, || {
        // SAFETY: SQLite hands in a path.
        let path = unsafe { path(name) }.ok_or(Failure::Missing)?;
        let caller = here::caller(Some(path)).ok_or(Failure::Dead)?;
        match caller.disk.act(&caller.process, |state| state.remove(path, sync & 1 != 0)) {
            Err(Failure::Missing) => Ok(ffi::SQLITE_IOERR_DELETE_NOENT),
            done => done.map(|()| ffi::SQLITE_OK),
        }
    })
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    if !here::is_world() {
        return match unix().and_then(|unix| unix.xAccess) {
            // SAFETY: as in `open`.
            Some(unix) => unsafe { unix(vfs, name, flags, out) },
            None => ffi::SQLITE_ERROR,
        };
    }
    answer(ffi::SQLITE_IOERR_ACCESS, || {
        // SAFETY: SQLite hands in a path.
        let path = unsafe { path(name) }.ok_or(Failure::Missing)?;
        let caller = here::caller(Some(path)).ok_or(Failure::Dead)?;
        let there = caller.disk.act(&caller.process, |state| {
            let Some(inode) = state.names.find(path) else {
                return Ok(state.names.is_folder(path));
            };
            // As the unix VFS: an empty file does not count as existing.
            let length = state.file(inode)?.content.length();
            Ok(flags != ffi::SQLITE_ACCESS_EXISTS || length > 0)
        })?;
        // SAFETY: SQLite hands in a place for the answer.
        unsafe { *out = c_int::from(there) };
        Ok(ffi::SQLITE_OK)
    })
}

unsafe extern "C" fn full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    if !here::is_world() {
        return match unix().and_then(|unix| unix.xFullPathname) {
            // SAFETY: as in `open`.
            Some(unix) => unsafe { unix(vfs, name, size, out) },
            None => ffi::SQLITE_ERROR,
        };
    }
    answer(ffi::SQLITE_CANTOPEN, || {
        if name.is_null() {
            return Err(Failure::Missing);
        }
        // SAFETY: SQLite hands in a string.
        let bytes = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
        // All paths of the world are whole, and none goes up.
        let whole = bytes.starts_with(b"/");
        if !whole || bytes.len() > usize::try_from(size).unwrap_or(0) {
            return Err(Failure::Missing);
        }
        // SAFETY: it fits, and the two do not overlap: one is SQLite's new buffer.
        unsafe { std::ptr::copy_nonoverlapping(name, out, bytes.len()) };
        Ok(ffi::SQLITE_OK)
    })
}

/// The world's time in milliseconds of SQLite.
fn julian_ms() -> Option<i64> {
    with_given(|given| JULIAN_EPOCH_MS + given.wall())
}

unsafe extern "C" fn randomness(
    vfs: *mut ffi::sqlite3_vfs,
    count: c_int,
    out: *mut c_char,
) -> c_int {
    let length = usize::try_from(count).unwrap_or(0);
    let filled = with_given(|given| {
        if !out.is_null() && length > 0 {
            // SAFETY: SQLite hands in a buffer of so many bytes.
            given.random.fill(unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), length) });
        }
        count
    });
    match (filled, unix().and_then(|unix| unix.xRandomness)) {
        (Some(count), _) => count,
        // SAFETY: passed on as it came; ours is a copy of the unix VFS in all that it looks at.
        (None, Some(unix)) => unsafe { unix(vfs, count, out) },
        (None, None) => 0,
    }
}

unsafe extern "C" fn sleep(vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    // There is one thread: whoever is waited for could not go on. So nobody waits, and it counts.
    let slept = with_given(|given| given.slept += 1);
    match (slept, unix().and_then(|unix| unix.xSleep)) {
        // SAFETY: as in `randomness`.
        (None, Some(unix)) => unsafe { unix(vfs, microseconds) },
        _ => microseconds,
    }
}

unsafe extern "C" fn current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    match (julian_ms(), unix().and_then(|unix| unix.xCurrentTime)) {
        (Some(now), _) => {
            // SAFETY: SQLite hands in a place for the answer.
            unsafe { *out = now as f64 / MS_A_DAY };
            ffi::SQLITE_OK
        }
        // SAFETY: as in `randomness`.
        (None, Some(unix)) => unsafe { unix(vfs, out) },
        (None, None) => ffi::SQLITE_ERROR,
    }
}

unsafe extern "C" fn current_time_int64(
    vfs: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    match (julian_ms(), unix().and_then(|unix| unix.xCurrentTimeInt64)) {
        (Some(now), _) => {
            // SAFETY: SQLite hands in a place for the answer.
            unsafe { *out = now };
            ffi::SQLITE_OK
        }
        // SAFETY: as in `randomness`.
        (None, Some(unix)) => unsafe { unix(vfs, out) },
        (None, None) => ffi::SQLITE_ERROR,
    }
}
