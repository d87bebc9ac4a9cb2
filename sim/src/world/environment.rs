//! The node's view of the world, for one boot of one site. Once the boot is over every call fails
//! or does nothing.

use crate::disk::Disk;
use crate::world::boot::Boot;
use crate::world::computer::Computer;
use crate::world::executor::Inline;
use crate::world::quic::Quic;
use conflict::WallTime;
use node::environment::{
    BoxFuture, Environment, Executor, FileIdentity, FileWatch, Readers, TaskHandle,
};
use protocol::keys::{BadSignature, Domain, PublicKey, Signature};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct SimEnvironment {
    /// What ends with the power.
    pub boot: Arc<Boot>,
    /// What does not.
    pub computer: Arc<Computer>,
}

impl SimEnvironment {
    /// The environment of a boot.
    pub fn new(computer: Arc<Computer>, boot: Boot) -> Self {
        let boot = Arc::new(boot);
        computer.begin(&boot);
        Self { boot, computer }
    }

    /// The disk, while the boot lasts, for what lies on it.
    fn files(&self, path: &Path) -> io::Result<&Disk> {
        self.boot.alive()?;
        if !path.starts_with(&self.computer.folder) {
            let what = format!("{} is not on the computer {}", path.display(), self.computer.name);
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(&self.computer.disk)
    }
}

impl Environment for SimEnvironment {
    fn wall_clock(&self) -> WallTime {
        self.computer.wall_clock()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.boot.fill_random(bytes);
    }

    fn verify(
        &self,
        key: &PublicKey,
        domain: Domain,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        self.computer.verified.verify(key, domain, message, signature)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) -> Box<dyn TaskHandle> {
        Box::new(Task(self.boot.spawn(task)))
    }

    fn executor(&self, _: &'static str) -> Arc<dyn Executor> {
        Arc::new(Inline::start(&self.computer, &self.boot))
    }

    fn quic_runtime(&self) -> Arc<dyn quinn::Runtime> {
        Arc::new(Quic(Arc::clone(&self.boot)))
    }

    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        self.boot.alive()?;
        Ok(self.computer.network.bind(self.computer.address, address)?)
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            self.boot.alive()?;
            if let Ok(address) = address.parse() {
                return Ok(vec![address]);
            }
            // Asking takes a while.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let found = address.rsplit_once(':').and_then(|(name, port)| {
                let ip = self.computer.network.find(self.computer.address, name)?;
                Some(SocketAddr::new(ip, port.parse().ok()?))
            });
            found.map(|address| vec![address]).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn interfaces(&self) -> io::Result<Vec<IpAddr>> {
        self.boot.alive()?;
        Ok(vec![self.computer.network.interface(self.computer.address), Ipv4Addr::LOCALHOST.into()])
    }

    fn open_database(
        &self,
        path: &Path,
        flags: rusqlite::OpenFlags,
    ) -> rusqlite::Result<rusqlite::Connection> {
        if let Err(error) = self.files(path) {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
                Some(error.to_string()),
            ));
        }
        let _here = self.boot.here();
        node::environment::configured(rusqlite::Connection::open_with_flags(path, flags)?)
    }

    fn watch(&self, path: &Path) -> io::Result<Box<dyn FileWatch>> {
        Ok(Box::new(self.files(path)?.watch(path)))
    }

    fn readers(&self, path: &Path) -> io::Result<Readers> {
        self.files(path)?.readers(&self.boot.process, path)
    }

    fn shut_readers_out(&self, path: &Path) -> io::Result<Readers> {
        self.files(path)?.shut_readers_out(&self.boot.process, path)
    }

    fn let_readers_in(&self, path: &Path) -> io::Result<()> {
        self.files(path)?.let_readers_in(&self.boot.process, path)
    }

    fn hold_log(&self, path: &Path) -> io::Result<Readers> {
        self.files(path)?.hold_log(&self.boot.process, path)
    }

    fn release_log(&self, path: &Path) -> io::Result<()> {
        self.files(path)?.release_log(&self.boot.process, path)
    }

    fn sync_committed(&self, path: &Path) -> io::Result<()> {
        self.files(path)?.sync_committed(&self.boot.process, path)
    }

    fn rewrite_wal(&self, path: &Path) -> io::Result<()> {
        self.files(path)?.rewrite_wal(&self.boot.process, path)
    }

    fn file_identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.files(path)?.identity(&self.boot.process, path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.files(path)?.canonical(&self.boot.process, path)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.files(path)?.free_space(&self.boot.process)
    }

    fn read_file(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.files(path)?.read_file(&self.boot.process, path)
    }

    fn write_file(&self, path: &Path, content: &[u8], _private: bool) -> io::Result<()> {
        self.files(path)?.write_file(&self.boot.process, path, content)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.files(path)?.create_directory(&self.boot.process, path)
    }

    fn list_directory(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.files(path)?.list_directory(&self.boot.process, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files(to)?;
        self.files(from)?.rename_file(&self.boot.process, from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.files(path)?.remove_file(&self.boot.process, path)
    }
}

/// A task of a boot; none if the boot was over.
#[derive(Debug)]
struct Task(Option<tokio::task::AbortHandle>);

impl TaskHandle for Task {
    fn abort(&self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
