//! What SQLite itself takes from the system beside files: randomness for `random()`, the time for
//! `'now'`, and waiting. A VFS registered as the default one gives it those of the world; for all
//! else it is the unix VFS, to the last pointer.
//!
//! On a thread without a world the unix VFS answers. SQLite's generator belongs to the process and
//! is seeded once: [`Guard::enter`] makes it start anew.
#![allow(unsafe_code, reason = "SQLite asks for its VFS in C")]

use crate::clock::Clock;
use crate::random::Random;
use rusqlite::ffi;
use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// SQLite counts milliseconds from noon of 24 November 4714 BC.
const JULIAN_EPOCH_MS: i64 = 210_866_760_000_000;
const MS_A_DAY: f64 = 86_400_000.0;

/// What SQLite gets on this thread.
struct Given {
    clock: Clock,
    random: Random,
    offset_ms: i64,
    slept: u64,
}

thread_local! {
    static GIVEN: RefCell<Option<Given>> = const { RefCell::new(None) };
}

/// The unix VFS, by value: its functions, for the threads without a world.
struct Unix(ffi::sqlite3_vfs);

// SAFETY: the struct holds pointers to functions and constants of SQLite alone, which any thread
// may use; it is never written after it was copied.
unsafe impl Send for Unix {}
// SAFETY: as above.
unsafe impl Sync for Unix {}

static UNIX: OnceLock<Option<Unix>> = OnceLock::new();

/// While it lives, SQLite on this thread has the world's time and randomness.
#[derive(Debug)]
pub struct Guard(PhantomData<*const ()>);

impl Guard {
    /// Begins. There must be no other in the process.
    pub fn enter(clock: Clock, random: Random) -> Self {
        assert!(UNIX.get_or_init(register).is_some(), "SQLite takes no VFS of ours");
        GIVEN.with_borrow_mut(|given| {
            *given = Some(Given { clock, random, offset_ms: 0, slept: 0 });
        });
        // SAFETY: no bytes and no buffer: documented to make the generator take a new seed at its
        // next use.
        unsafe { ffi::sqlite3_randomness(0, std::ptr::null_mut()) };
        Self(PhantomData)
    }

    /// How often SQLite waited for somebody instead of giving up at once.
    pub fn slept(&self) -> u64 {
        GIVEN.with_borrow(|given| given.as_ref().map_or(0, |given| given.slept))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GIVEN.with_borrow_mut(|given| *given = None);
    }
}

/// While it lives, SQLite's `'now'` is that of a computer whose clock is off by so much.
#[derive(Debug)]
pub struct Here {
    before: i64,
}

impl Here {
    /// Begins on this thread.
    pub fn enter(offset_ms: i64) -> Self {
        Self { before: set_offset(offset_ms) }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        set_offset(self.before);
    }
}

fn set_offset(offset_ms: i64) -> i64 {
    GIVEN.with_borrow_mut(|given| {
        given.as_mut().map_or(0, |given| std::mem::replace(&mut given.offset_ms, offset_ms))
    })
}

fn register() -> Option<Unix> {
    // SAFETY: no name asks for the default VFS, which is valid for ever or null; nothing else in
    // this process registers one.
    let unix = unsafe { *ffi::sqlite3_vfs_find(std::ptr::null()).as_ref()? };
    let ours = Box::leak(Box::new(ffi::sqlite3_vfs {
        pNext: std::ptr::null_mut(),
        zName: c"holdfast-sim".as_ptr(),
        // `pAppData` stays: with it the unix VFS finds its own way to lock and open files.
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

/// Works on what this thread has; `None` on threads without a world, and while a thread ends.
/// Never panics, since C can't be unwound through.
fn with_given<T>(work: impl FnOnce(&mut Given) -> T) -> Option<T> {
    GIVEN.try_with(|given| given.try_borrow_mut().ok()?.as_mut().map(work)).ok().flatten()
}

fn unix() -> Option<&'static ffi::sqlite3_vfs> {
    UNIX.get().and_then(Option::as_ref).map(|unix| &unix.0)
}

/// The world's time in milliseconds of SQLite.
fn julian_ms() -> Option<i64> {
    with_given(|given| JULIAN_EPOCH_MS + given.clock.wall(given.offset_ms).0)
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
