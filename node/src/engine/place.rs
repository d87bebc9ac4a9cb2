//! The place of the file of an application that joins a shared database: what stands there, a new
//! file put there at once and whole, the former one set aside. What is in them is told next door.

use super::mirror::beside;
use super::request::AttachRequest;
use super::{Engine, EngineError, file_error};
use crate::capture::{CaptureError, Captured, Images};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::store::{DatabaseNumber, DatabaseState};
use crate::units::rfc3339;
use rusqlite::OpenFlags;
use std::path::{Path, PathBuf};

/// What stands where the application's file is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// No file.
    Free(PathBuf),
    /// A database, whatever is in it.
    Taken(PathBuf),
    /// The file that an attach has put there which was cut off since.
    Ready,
}

/// The file beside `path` that is not yet the application's.
pub(super) fn new_file(path: &Path) -> PathBuf {
    beside(path, ".holdfast-new")
}

impl Engine {
    /// What stands at the path of a request to join; nothing is changed.
    pub(super) fn look_at_place(
        &mut self,
        request: &AttachRequest,
        number: DatabaseNumber,
    ) -> Result<Place, EngineError> {
        let row = self.store.database(number)?;
        let path = self.resolve_new(&request.path)?;
        self.look_whose(&path, Some(number))?;
        if row.state == DatabaseState::Attaching && row.path != path {
            return Err(Failure::refused(
                format!("Attaching {} at {} was interrupted.", row.name, row.path.display()),
                "Attach it there again, or `detach` it first.",
            )
            .into());
        }
        let Some(file) = self.identity_of(&path)? else {
            for suffix in ["-wal", "-journal"] {
                let left = beside(&path, suffix);
                if self.identity_of(&left)?.is_some() {
                    return Err(Failure::refused(
                        format!("{} lies there without its database.", left.display()),
                        "It may hold data: put its database back, or move it away.",
                    )
                    .into());
                }
            }
            return Ok(Place::Free(path));
        };
        let position = Images::new(self.store.connection(), number.0).position()?;
        let left_ready = row.state == DatabaseState::Attaching
            && position.is_some_and(|(position, ..)| position.file == file);
        let mut application = self.application(path.clone(), &row, Captured::default());
        application.inspect()?;
        let ours = application
            .marker()?
            .is_some_and(|marker| (marker.database, marker.site) == (row.id, self.identity.site));
        Ok(if left_ready && ours { Place::Ready } else { Place::Taken(path) })
    }

    /// The path with its links followed, as far as there is something at it.
    fn resolve_new(&self, path: &Path) -> Result<PathBuf, EngineError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.resolve(path);
        };
        match self.identity_of(path)? {
            Some(_) => self.resolve(path),
            None => Ok(self.resolve(parent)?.join(name)),
        }
    }

    pub(super) fn identity_of(
        &self,
        path: &Path,
    ) -> Result<Option<crate::environment::FileIdentity>, EngineError> {
        self.environment
            .file_identity(path)
            .map_err(|error| file_error(&path.display().to_string(), error))
    }

    /// Removes what an attach has left that was cut off.
    pub(super) fn remove_new(&self, path: &Path) -> Result<(), EngineError> {
        // The file last: while it is there, there may be more.
        for suffix in ["-wal", "-shm", "-journal", ""] {
            let left = beside(&new_file(path), suffix);
            self.environment
                .remove_file(&left)
                .map_err(|error| file_error(&left.display().to_string(), error))?;
        }
        Ok(())
    }

    /// Puts the new file where the application looks for it; gives where the one went that was
    /// there.
    pub(super) fn put_in_place(
        &mut self,
        path: &Path,
        taken: bool,
    ) -> Result<Option<PathBuf>, EngineError> {
        let new = new_file(path);
        let file = |error| file_error(&path.display().to_string(), error);
        if self.identity_of(&beside(&new, "-wal"))?.is_some() {
            return Err(CaptureError::Locked(new).into());
        }
        let aside = match (self.identity_of(path)?, taken) {
            (Some(_), true) => Some(set_aside(&*self.environment, path)?),
            (Some(_), false) => {
                return Err(Failure::unable(
                    format!("Another file has come to {} meanwhile.", path.display()),
                    "Stop the application, and attach again.",
                )
                .into());
            }
            (None, _) => None,
        };
        // What a former database left would be read as this one's.
        for suffix in ["-wal", "-shm"] {
            self.environment.remove_file(&beside(path, suffix)).map_err(file)?;
        }
        self.environment.rename(&new, path).map_err(file)?;
        Ok(aside)
    }
}

/// Moves a database's file away from its path, whole and with the time in its name; gives where
/// it is.
fn set_aside(environment: &dyn Environment, path: &Path) -> Result<PathBuf, EngineError> {
    let time = rfc3339(environment.wall_clock()).replace(':', "-");
    let aside = beside(path, &format!(".{time}"));
    let file = |error| file_error(&aside.display().to_string(), error);
    if environment.file_identity(&aside).map_err(file)?.is_some() {
        return Err(CaptureError::Locked(aside).into());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let alone = || {
        let connection = environment.open_database(path, flags)?;
        // Before anything is read this also asks whether another connection is open, if it has a
        // write-ahead log. With a rollback journal only one that is at work can be told.
        connection.query_row("PRAGMA main.locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        connection.query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(connection)
    };
    let connection = alone().map_err(|error| match CaptureError::application(path, error) {
        CaptureError::Locked(_) => Failure::unable(
            format!("{} is open in another program, so it can't be set aside.", path.display()),
            "Close the application, and attach again.",
        )
        .into(),
        other => EngineError::from(other),
    })?;
    environment.rename(path, &aside).map_err(file)?;
    // Empty by now.
    connection.close().map_err(|(_, error)| CaptureError::application(&aside, error))?;
    for suffix in ["-wal", "-shm"] {
        environment.remove_file(&beside(path, suffix)).map_err(file)?;
    }
    Ok(aside)
}
