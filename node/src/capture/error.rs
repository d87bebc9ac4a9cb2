//! What can go wrong beside an application's database, and what to do about it. Waiting and
//! retrying are the engine's: here a busy moment is only told apart from a failure.

use crate::failure::Failure;
use conflict::SiteId;
use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a step beside an application's database failed.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// No file.
    #[error("there is no file at {}", .0.display())]
    Missing(PathBuf),
    /// Some other file.
    #[error("{} is not a SQLite database, or it is encrypted", .0.display())]
    NotADatabase(PathBuf),
    /// Another program holds it, now or for good (`locking_mode=EXCLUSIVE`).
    #[error("{} is locked by another program", .0.display())]
    Locked(PathBuf),
    /// The operating system lets nobody, or not us, write it.
    #[error("{} can't be written", .0.display())]
    ReadOnly(PathBuf),
    /// SQLite finds it broken.
    #[error("{} is damaged: {}", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// Somebody's triggers are in it.
    #[error("{} is already attached by site {}", .0.display(), .1)]
    AttachedElsewhere(PathBuf, SiteId),
    /// Our log or marker is not in it.
    #[error("{} is not attached: it has no log of changes", .0.display())]
    NotAttached(PathBuf),
    /// It holds what can't be kept safe.
    #[error("{what}")]
    Refused {
        /// What.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A trigger of the application did not let a row of another site in or out.
    #[error("a trigger in {} refuses rows of other sites: {}", .0.display(), .1)]
    Trigger(PathBuf, String),
    /// SQLite failed on the application's database.
    #[error("SQLite failed on {}: {}", .0.display(), .1)]
    Application(PathBuf, #[source] rusqlite::Error),
    /// The file system failed on the application's database.
    #[error("{} can't be reached: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    /// SQLite failed on the node's own database.
    #[error("the node's own database failed: {0}")]
    Store(#[source] rusqlite::Error),
    /// The node's own database holds what this version didn't write.
    #[error("the node's own database holds an unreadable {0}")]
    Unreadable(&'static str),
}

impl CaptureError {
    /// Tells SQLite's errors on the application's file apart.
    pub(crate) fn application(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(path),
            Some(ErrorCode::NotADatabase) => Self::NotADatabase(path),
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged(path, error.to_string()),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(path),
            _ => Self::Application(path, error),
        }
    }

    /// Whether the same step may succeed in a moment.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Locked(_))
    }

    fn remedy(&self) -> &str {
        match self {
            Self::Missing(_) => "Check the path, or bring the file back.",
            Self::NotADatabase(_) => "Give the path of an unencrypted SQLite 3 database.",
            Self::Locked(_) => {
                "Try again when the other program is idle; if it uses \
                 locking_mode=EXCLUSIVE, that must be switched off."
            }
            Self::ReadOnly(_) => {
                "Let the node's user write the file and its directory, as the application does."
            }
            Self::Damaged(..) => "Take it from a backup or from another site's copy.",
            Self::AttachedElsewhere(..) => {
                "Detach it at that site, or detach this file here first if that site is gone."
            }
            Self::NotAttached(_) => {
                "If the application made a new database, attach it; otherwise bring the old \
                 file back."
            }
            Self::Refused { remedy, .. } => remedy,
            Self::Trigger(..) => "Mend the trigger, or let triggers of that table stay silent.",
            Self::Application(..) | Self::File(..) => {
                "Check the file, its disk and its permissions."
            }
            Self::Store(_) => "Check the disk that holds the site's directory.",
            Self::Unreadable(_) => "Run the node version that wrote it, or attach again.",
        }
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        let mut what = format!("{error}.");
        // A path stays as it is.
        if let Some(first) = what.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let remedy = error.remedy();
        match &error {
            CaptureError::Missing(_) | CaptureError::NotADatabase(_) => Self::usage(what, remedy),
            CaptureError::AttachedElsewhere(..) | CaptureError::Refused { .. } => {
                Self::refused(what, remedy)
            }
            _ => Self::unable(what, remedy),
        }
    }
}
