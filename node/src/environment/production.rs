//! The real world: wall clock, the system's randomness, tokio's tasks, UDP sockets, threads for
//! database work, files, file notices and lock queries.
//!
//! Nothing here decides anything; each method is the plainest way to ask the system. Monotonic
//! time is not here: it is tokio's.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the one place where the node reaches the world"
)]

mod executor;
mod files;
mod readers;
#[cfg(test)]
mod tests;
mod watch;

use super::{BoxFuture, Environment, Executor, FileIdentity, FileWatch, Readers, TaskHandle};
use conflict::WallTime;
use quinn::Runtime;
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The real world. Needs a running tokio runtime, whose end is the end of this boot.
#[derive(Debug)]
pub struct Production {
    random: SystemRandom,
}

impl Production {
    /// The world as it is.
    pub fn new() -> Self {
        Self { random: SystemRandom::new() }
    }
}

impl Default for Production {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment for Production {
    fn wall_clock(&self) -> WallTime {
        let milliseconds = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        // A clock before 1970 is as possible as any wrong clock.
        WallTime(match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => milliseconds(since),
            Err(before) => -milliseconds(before.duration()),
        })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        if self.random.fill(bytes).is_err() {
            // Keys and nonces of predictable bytes would be worse than no node.
            tracing::error!("the system gives no random numbers; the node can't go on");
            std::process::abort();
        }
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) -> Box<dyn TaskHandle> {
        Box::new(Task(tokio::spawn(task)))
    }

    fn executor(&self, name: &'static str) -> Arc<dyn Executor> {
        Arc::new(executor::Thread::start(name))
    }

    fn quic_runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(quinn::TokioRuntime)
    }

    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        // Without this, tokio would panic when the socket is registered.
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let socket = match UdpSocket::bind(address) {
            // A machine without IPv6: all addresses means all that there are.
            Err(error)
                if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                    && error.kind() != io::ErrorKind::AddrInUse
                    && error.kind() != io::ErrorKind::PermissionDenied =>
            {
                tracing::debug!(%error, "no IPv6 here, listening on IPv4 alone");
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, address.port()))
            }
            // Linux and macOS let a socket at [::] serve IPv4 too, unless told otherwise.
            result => result,
        }?;
        quinn::TokioRuntime.wrap_udp_socket(socket)
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(address).await?.collect()) })
    }

    fn interfaces(&self) -> io::Result<Vec<IpAddr>> {
        let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()?
            .into_iter()
            .map(|interface| interface.ip())
            // Nobody can dial a link-local address without knowing through which interface.
            .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    fn open_database(
        &self,
        path: &Path,
        flags: rusqlite::OpenFlags,
    ) -> rusqlite::Result<rusqlite::Connection> {
        super::configured(rusqlite::Connection::open_with_flags(path, flags)?)
    }

    fn watch(&self, path: &Path) -> io::Result<Box<dyn FileWatch>> {
        Ok(Box::new(watch::Watch::start(path)?))
    }

    fn readers(&self, path: &Path) -> io::Result<Readers> {
        readers::readers(path)
    }

    fn shut_readers_out(&self, path: &Path) -> io::Result<Readers> {
        readers::shut_out(path)
    }

    fn let_readers_in(&self, path: &Path) -> io::Result<()> {
        readers::let_in(path)
    }

    fn hold_log(&self, path: &Path) -> io::Result<Readers> {
        readers::hold_log(path)
    }

    fn release_log(&self, path: &Path) -> io::Result<()> {
        readers::release_log(path)
    }

    fn sync_committed(&self, path: &Path) -> io::Result<()> {
        files::sync_committed(path)
    }

    fn rewrite_wal(&self, path: &Path) -> io::Result<()> {
        files::rewrite_wal(path)
    }

    fn file_identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        files::identity(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        files::free_space(path)
    }

    fn read_file(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        files::read(path)
    }

    fn write_file(&self, path: &Path, content: &[u8], private: bool) -> io::Result<()> {
        files::write(path, content, private)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        files::create_directory(path)
    }

    fn list_directory(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        files::list_directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        files::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        files::remove(path)
    }
}

/// A tokio task.
#[derive(Debug)]
struct Task(tokio::task::JoinHandle<()>);

impl TaskHandle for Task {
    fn abort(&self) {
        self.0.abort();
    }
}
