//! The files of all computers: a folder for each, for now on the real system's disk (in memory
//! where there is `/dev/shm`).
//!
//! This is the seam for a disk of our own: whatever the node does with files goes through
//! [`Disk`], and what SQLite does through the VFS of `vfs`. Until then a power-off takes an
//! [`Image`] of what a killed process leaves behind: all that was written counts, synced or not.

pub(crate) mod vfs;

use node::environment::production::Production;
use node::environment::{Environment, FileIdentity};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;

/// All files of a world. They go with it.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    system: Production,
    /// The system's inodes in the order in which they were met, so that runs repeat.
    identities: Mutex<BTreeMap<(u64, u64), u64>>,
    /// Removes all at the end.
    _folder: TempDir,
}

/// The files of one computer at one moment.
#[derive(Debug)]
pub struct Image(BTreeMap<PathBuf, Vec<u8>>);

impl Disk {
    /// An empty disk.
    pub fn new() -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("holdfast-sim-").tempdir_in(place)?;
        Ok(Self {
            root: folder.path().canonicalize()?,
            system: Production::new(),
            identities: Mutex::default(),
            _folder: folder,
        })
    }

    /// Where everything lies. Differs from run to run.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a computer's files lie.
    pub fn folder(&self, computer: &str) -> PathBuf {
        self.root.join(computer)
    }

    /// The system that keeps the files.
    pub fn system(&self) -> &dyn Environment {
        &self.system
    }

    /// Which file stands at a path, numbered in the order of first asking.
    ///
    /// # Errors
    /// The system's.
    pub fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        let Some(real) = self.system.file_identity(path)? else { return Ok(None) };
        let mut identities = self.identities.lock().unwrap();
        let next = identities.len() as u64 + 1;
        let inode = *identities.entry((real.device, real.inode)).or_insert(next);
        Ok(Some(FileIdentity { device: 1, inode }))
    }

    /// All files below a folder, sorted.
    ///
    /// # Errors
    /// The system's.
    pub fn files(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// What a computer's files hold now. The `-shm` of a database does not outlive its processes.
    ///
    /// # Errors
    /// The system's.
    pub fn image(&self, folder: &Path) -> io::Result<Image> {
        let lasting = |path: &PathBuf| !path.to_string_lossy().ends_with("-shm");
        let files = self.files(folder)?.into_iter().filter(lasting);
        files.map(|path| Ok((path.clone(), fs::read(path)?))).collect::<io::Result<_>>().map(Image)
    }

    /// Makes a computer's files what they were, whatever was done to them since. To be called
    /// when nobody has them open. Files that still exist keep their identity.
    ///
    /// # Errors
    /// The system's.
    pub fn restore(&self, folder: &Path, Image(files): &Image) -> io::Result<()> {
        for path in self.files(folder)? {
            if !files.contains_key(&path) {
                fs::remove_file(path)?;
            }
        }
        files.iter().try_for_each(|(path, content)| fs::write(path, content))
    }
}
