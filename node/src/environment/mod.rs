//! The one seam between the node and the world: time, randomness, sockets, tasks, files,
//! databases and file notices come through [`Environment`], and nothing in `node` reaches round
//! it (`node/.clippy.toml` forbids the ways round by name).
//!
//! Production is [`production::Production`]; the simulator brings its own. Monotonic time and
//! timers are tokio's, which the simulator pauses.

pub mod production;
pub mod wal;
mod worker;

use conflict::WallTime;
use protocol::keys::{BadSignature, Domain, PublicKey, Signature};
use rusqlite::config::DbConfig;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use worker::Worker;

/// A future that may be handed to another task.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything that a node asks of the world. One value serves one boot of one site.
pub trait Environment: Debug + Send + Sync + 'static {
    /// What this computer's clock says. It may be wrong and may step.
    fn wall_clock(&self) -> WallTime;

    /// Fills `bytes` with randomness fit for keys.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Whether `signature` is the key's over `message`. Here only so that the simulator, where all
    /// sites are one computer, need not find out the same at each of them.
    ///
    /// # Errors
    /// It is not.
    fn verify(
        &self,
        key: &PublicKey,
        domain: Domain,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        key.verify(domain, message, signature)
    }

    /// Runs `task` in the background until it ends, its handle is aborted, or this boot ends.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> Box<dyn TaskHandle>;

    /// A place where the steps of one [`Worker`] run, one after another: a thread of its own in
    /// production, inline in the simulator.
    fn executor(&self, name: &'static str) -> Arc<dyn Executor>;

    /// The timers, tasks and clock of QUIC.
    fn quic_runtime(&self) -> Arc<dyn quinn::Runtime>;

    /// Seeds connection ids and the like of a QUIC endpoint; fresh at each call.
    fn endpoint_seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.fill_random(&mut seed);
        seed
    }

    /// A UDP socket at `address`; port 0 takes a free one.
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>>;

    /// The addresses of `host:port` now. Names are looked up afresh at each call.
    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// The addresses of this machine's interfaces, loopback included.
    fn interfaces(&self) -> io::Result<Vec<IpAddr>>;

    /// Opens a SQLite database, `flags` as SQLite has them. Busy timeout 0: waiting is done in
    /// virtual time, between steps.
    fn open_database(
        &self,
        path: &Path,
        flags: rusqlite::OpenFlags,
    ) -> rusqlite::Result<rusqlite::Connection>;

    /// Notices that the database at `path` or its `-wal` or `-journal` was written, made,
    /// removed or replaced. Notices may be spurious, and may be missed: a slow poll stands behind.
    fn watch(&self, path: &Path) -> io::Result<Box<dyn FileWatch>>;

    /// Whether some other connection, of any process, reads the WAL database at `path` now.
    fn readers(&self, path: &Path) -> io::Result<Readers>;

    /// Where nobody reads the WAL database at `path` now, keeps all other processes from beginning
    /// to until [`Environment::let_readers_in`], and says [`Readers::None`]: whoever comes
    /// meanwhile waits inside SQLite, busy timeout or not. For moments only, and not while
    /// another connection of this process reads it. To be called inside our own write
    /// transaction, which has its read lock by then.
    ///
    /// Where this is not possible it says what [`Environment::readers`] says.
    fn shut_readers_out(&self, path: &Path) -> io::Result<Readers> {
        self.readers(path)
    }

    /// Ends what [`Environment::shut_readers_out`] began.
    fn let_readers_in(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }

    /// Until [`Environment::release_log`], whoever begins to read the WAL database at `path` reads
    /// its `-wal` as well, so that what it then writes is appended there. Otherwise a writer for
    /// whom all of the `-wal` is in the file begins it anew, with a sync, and lets readers in as
    /// it does, however they were shut out. For the moment of beginning a transaction. It has no
    /// effect where somebody reads the file alone already ([`Readers::Some`]), and where it is not
    /// possible ([`Readers::Unknown`]).
    fn hold_log(&self, path: &Path) -> io::Result<Readers> {
        let _ = path;
        Ok(Readers::Unknown)
    }

    /// Ends what [`Environment::hold_log`] began.
    fn release_log(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }

    /// Makes what was committed to the database at `path` durable, without a descriptor of its file:
    /// what is in its `-wal`; or, where there is none, that its rollback journal is gone, since one
    /// that comes back with a power cut takes back what was committed.
    fn sync_committed(&self, path: &Path) -> io::Result<()>;

    /// Writes the `-wal` of the database at `path` again as far as it is whole ([`wal::rewrite`]),
    /// and makes it durable; nothing where there is none. After a sync that failed the system may
    /// take for written what never was, so that a later sync succeeds and writes nothing (F15). To
    /// be called while nobody writes the database.
    fn rewrite_wal(&self, path: &Path) -> io::Result<()>;

    /// Which file stands at `path`; `None` where there is none. A file renamed over another has
    /// another identity, an edited one the same.
    fn file_identity(&self, path: &Path) -> io::Result<Option<FileIdentity>>;

    /// The path of a file that exists, with links followed.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;

    /// Free bytes where `path` lies.
    fn free_space(&self, path: &Path) -> io::Result<u64>;

    /// The whole content of a small file; `None` where there is none.
    fn read_file(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Writes a small file durably and at once (new or replaced, never half), readable by the
    /// owner alone if `private`.
    fn write_file(&self, path: &Path, content: &[u8], private: bool) -> io::Result<()>;

    /// Makes a directory and those above it; one that exists is fine.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted; none where it does not exist.
    fn list_directory(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Renames a file within its file system, durably.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; one that does not exist is fine.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
}

/// A new connection, set as all of a node's are.
///
/// # Errors
/// SQLite's.
pub fn configured(connection: rusqlite::Connection) -> rusqlite::Result<rusqlite::Connection> {
    // rusqlite's own default is five seconds.
    connection.busy_timeout(Duration::ZERO)?;
    // Else each new value for a range is a reason to plan, and so to parse, a statement anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// A background task.
pub trait TaskHandle: Send + Sync + Debug {
    /// Ends the task at its next await.
    fn abort(&self);
}

/// Runs named steps one after another. Between two steps the simulator may run applications,
/// other work of the node, or end the boot.
pub trait Executor: Send + Sync + Debug {
    /// Runs `job` after all jobs submitted before, and completes when it has run. If this boot
    /// ends first, it never completes.
    fn execute(&self, step: &'static str, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// Notices about one file.
pub trait FileWatch: Send + Debug {
    /// Completes when something may have changed since the last call.
    fn changed(&mut self) -> BoxFuture<'_, ()>;
}

/// Whether a database has readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Nobody reads.
    None,
    /// Somebody reads.
    Some,
    /// This system can't tell.
    Unknown,
}

/// Which file stands at a path: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}
