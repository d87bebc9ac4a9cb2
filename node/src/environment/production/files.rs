//! Small files, directories, and what is asked about database files without opening them.
//!
//! No function here ever opens a SQLite database or its `-shm`: closing a descriptor of one drops
//! every lock that this process's SQLite holds on it.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the files behind Environment's file methods"
)]

use crate::environment::FileIdentity;
use crate::environment::wal::{self, WalFile};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `Ok(None)` instead of "there is none".
fn if_present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Where SQLite itself finds the database: it follows symbolic links, and keeps `-wal` and its
/// like beside their target.
pub(super) fn target(path: &Path) -> io::Result<PathBuf> {
    Ok(if_present(fs::canonicalize(path))?.unwrap_or_else(|| path.to_owned()))
}

/// The database's file with a suffix, such as `-wal`, beside it.
pub(super) fn beside(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut name = target(path)?.into_os_string();
    name.push(suffix);
    Ok(name.into())
}

pub(super) fn identity(path: &Path) -> io::Result<Option<FileIdentity>> {
    Ok(if_present(fs::metadata(path))?.map(|data| identity_of(&data)))
}

pub(super) fn identity_of(data: &fs::Metadata) -> FileIdentity {
    FileIdentity { device: data.dev(), inode: data.ino() }
}

pub(super) fn sync_committed(path: &Path) -> io::Result<()> {
    // SQLite holds no locks on either, so these descriptors may be closed.
    if let Some(wal) = if_present(File::open(beside(path, "-wal")?))? {
        return wal.sync_data();
    }
    let journal = beside(path, "-journal")?;
    if let Some(journal) = if_present(File::open(&journal))? {
        journal.sync_data()?;
    }
    File::open(parent(&journal))?.sync_all()
}

pub(super) fn rewrite_wal(path: &Path) -> io::Result<()> {
    let path = beside(path, "-wal")?;
    let Some(file) = if_present(OpenOptions::new().read(true).write(true).open(&path))? else {
        return Ok(());
    };
    let mut wal = Wal(file);
    if wal::rewrite(&mut wal)? == 0 {
        return Ok(());
    }
    wal.0.sync_all()?;
    // Nor need its name be there, if the sync that failed was its first.
    File::open(parent(&path))?.sync_all()
}

struct Wal(File);

impl WalFile for Wal {
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = out.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset.saturating_add(read as u64)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => break,
                more => read += more?,
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

pub(super) fn free_space(path: &Path) -> io::Result<u64> {
    // A path that is yet to be made lies where its nearest existing ancestor does.
    let mut place = path;
    loop {
        match nix::sys::statvfs::statvfs(place) {
            Err(nix::errno::Errno::ENOENT) if place != parent(place) => place = parent(place),
            Err(error) => return Err(error.into()),
            Ok(space) => {
                #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
                let (blocks, size) =
                    (u64::from(space.blocks_available()), u64::from(space.fragment_size()));
                return Ok(blocks.saturating_mul(size));
            }
        }
    }
}

pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    if_present(fs::read(path))
}

/// Writes beside, syncs, renames over, syncs the directory: at every moment the path holds the
/// old content or the new.
pub(super) fn write(path: &Path, content: &[u8], private: bool) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".new");
    let beside = parent(path).join(beside);
    // What an interrupted write left may have other permissions.
    remove(&beside)?;
    let written = write_new(&beside, content, private).and_then(|()| rename(&beside, path));
    if written.is_err() {
        // Already failing, and the next write clears it away as well.
        drop(remove(&beside));
    }
    written
}

fn write_new(path: &Path, content: &[u8], private: bool) -> io::Result<()> {
    let mode = if private { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(parent(to))?;
    if parent(from) != parent(to) {
        sync_directory(parent(from))?;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<_> =
        path.ancestors().take_while(|p| *p != Path::new("") && !p.exists()).collect();
    fs::create_dir_all(path)?;
    missing.into_iter().try_for_each(|made| sync_directory(parent(made)))
}

pub(super) fn list_directory(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(entries) = if_present(fs::read_dir(path))? else {
        return Ok(Vec::new());
    };
    let mut names = entries
        .map(|entry| Ok(PathBuf::from(entry?.file_name())))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    if_present(fs::remove_file(path)).map(drop)
}
