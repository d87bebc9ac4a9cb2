//! Looking at a database without being noticed: on a copy of its file, `-wal` and `-journal`, away
//! from its computer. No lock is taken and nothing of the original is touched or recovered.
//! Contents are shared with the original until one of them is written.

use super::file::Content;
use super::here;
use super::process::Failure;
use super::{Disk, text};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where copies lie.
pub(super) const ROOT: &str = "/look";
/// What belongs to a database.
pub(super) const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

/// A copy of a database. It goes with this value.
#[derive(Debug)]
pub struct Copied {
    path: PathBuf,
    desk: Arc<Disk>,
}

impl Copied {
    /// Where it lies. It may be opened there as by any program, and written.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.desk.clear_away(text(&self.path));
    }
}

/// Which state is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Current,
    Durable,
}

impl Disk {
    /// A connection to the database as processes see it now, for reading.
    ///
    /// # Errors
    /// There is no such file, or it is no database.
    pub fn look(&self, path: &Path) -> rusqlite::Result<Connection> {
        self.observe(path, View::Current)
    }

    /// The same, of what would be found if the power went now and nothing unsynced survived.
    ///
    /// # Errors
    /// There would be no such file, or it would be no database.
    pub fn look_durable(&self, path: &Path) -> rusqlite::Result<Connection> {
        self.observe(path, View::Durable)
    }

    /// Lets somebody work on the database where it lies, as with any tool; with the power off, on
    /// the disk taken out of its computer.
    ///
    /// # Errors
    /// SQLite's.
    pub fn edit<T>(
        self: &Arc<Self>,
        path: &Path,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if !self.is_on() {
            return self.edit_elsewhere(path, work);
        }
        let tool = self.process();
        let _here = here::Here::enter(self, &tool, 0);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        work(&connection)
    }

    fn edit_elsewhere<T>(
        &self,
        path: &Path,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let unable = |failure: Failure| {
            let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            rusqlite::Error::SqliteFailure(code, Some(format!("{}: {failure}", path.display())))
        };
        let copied = self.copied(path).map_err(unable)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(copied.path(), flags)?;
        let done = work(&connection)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)?;
        let content = copied.desk.read(copied.path()).map_err(unable)?;
        for suffix in &SUFFIXES[1..] {
            let beside = format!("{}{suffix}", text(path));
            if self.exists(Path::new(&beside)) {
                self.remove(Path::new(&beside)).map_err(unable)?;
            }
        }
        self.overwrite(path, &content).map_err(unable)?;
        Ok(done)
    }

    /// A copy of the database as it is now.
    ///
    /// # Errors
    /// There is no such file, or this thread has no world.
    pub fn copied(&self, path: &Path) -> Result<Copied, Failure> {
        self.copy_of(path, View::Current)
    }

    fn observe(&self, path: &Path, view: View) -> rusqlite::Result<Connection> {
        let copied = self.copy_of(path, view).map_err(|failure| {
            let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            rusqlite::Error::SqliteFailure(code, Some(format!("{}: {failure}", path.display())))
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(copied.path(), flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "query_only", true)?;
        // From here on closing the connection clears away.
        copied.desk.state().fleeting.insert(text(copied.path()).to_owned());
        std::mem::forget(copied);
        Ok(connection)
    }

    fn copy_of(&self, path: &Path, view: View) -> Result<Copied, Failure> {
        let desk = here::desk().ok_or(Failure::Dead)?;
        let path = text(path);
        let mut files = Vec::new();
        {
            let state = self.state();
            let durable = (view == View::Durable).then(|| state.names.durable());
            for suffix in SUFFIXES {
                let name = format!("{path}{suffix}");
                let inode = match &durable {
                    None => state.names.find(&name),
                    Some(names) => names.get(&name).copied(),
                };
                let Some(inode) = inode else { continue };
                let content = &state.file(inode)?.content;
                let image = match view {
                    View::Current => Arc::clone(content.image()),
                    View::Durable => Arc::new(content.durable()),
                };
                files.push((suffix, image));
            }
        }
        if files.first().is_none_or(|(suffix, _)| !suffix.is_empty()) {
            return Err(Failure::Missing);
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let path = desk.lay_out(name, files)?;
        Ok(Copied { path: path.into(), desk })
    }

    /// Puts files in a new folder of this disk; returns the path of the first.
    fn lay_out(
        &self,
        name: &str,
        files: Vec<(&'static str, Arc<Vec<u8>>)>,
    ) -> Result<String, Failure> {
        let mut state = self.state();
        let folder = format!("{ROOT}/{}", state.number());
        state.names.make_folder(&folder);
        let path = format!("{folder}/{name}");
        for (suffix, image) in files {
            let inode = state.create(&format!("{path}{suffix}"))?;
            state.file_mut(inode)?.content = Content::new(image);
        }
        state.names.sync_all();
        Ok(path)
    }

    /// Removes a copy.
    pub(super) fn clear_away(&self, path: &str) {
        let mut state = self.state();
        for suffix in SUFFIXES.into_iter().chain(["-shm"]) {
            // Not all of them exist, and nothing here can fail for another reason.
            let _ = state.remove(&format!("{path}{suffix}"), false);
        }
        state.names.remove_folder(super::names::parent(path));
        state.names.sync_all();
        state.forget(path);
        state.collect();
    }

    /// A database was closed: if it was a look's, the copy goes.
    pub(super) fn closed(&self, path: &str) {
        if self.root == ROOT && self.state().fleeting.contains(path) {
            self.clear_away(path);
        }
    }
}
