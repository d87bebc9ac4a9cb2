//! Notices that a database file or its `-wal` or `-journal` changed.
//!
//! The directory is watched, so that files made later, removed or renamed over one another are
//! seen. Opening and reading is no change: our own reads must not wake us. Nor are owner and times:
//! SQLite sets the owner of a `-wal` whenever root opens it.

use super::files::{parent, target};
use crate::environment::{BoxFuture, FileWatch};
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// A watch on one database. Notices between two calls of `changed` are merged into one.
#[derive(Debug)]
pub(super) struct Watch {
    notice: Arc<Notify>,
    /// Watches as long as it lives.
    _watcher: RecommendedWatcher,
}

impl Watch {
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let path = target(path)?;
        let notice = Arc::new(Notify::new());
        let noticed = Arc::clone(&notice);
        let names = names(&path)?;
        let watcher = observe(&path, move |event| {
            if concerns(&names, &event) {
                noticed.notify_one();
            }
        })?;
        Ok(Self { notice, _watcher: watcher })
    }
}

/// Hands every event in the directory of `path` to `on_event`, in order.
pub(super) fn observe(
    path: &Path,
    on_event: impl FnMut(notify::Result<Event>) + Send + 'static,
) -> io::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(on_event).map_err(into_io)?;
    watcher.watch(parent(path), RecursiveMode::NonRecursive).map_err(into_io)?;
    Ok(watcher)
}

/// The files whose changes concern the database at `path`.
pub(super) fn names(path: &Path) -> io::Result<[OsString; 3]> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(["", "-wal", "-journal"].map(|suffix| {
        let mut name = name.to_owned();
        name.push(suffix);
        name
    }))
}

impl FileWatch for Watch {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.notice.notified())
    }
}

pub(super) fn concerns(names: &[OsString], event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) if event.need_rescan() => true,
        Ok(event) => {
            !matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)))
                && event
                    .paths
                    .iter()
                    .filter_map(|path| path.file_name())
                    .any(|name| names.iter().any(|watched| watched == name))
        }
        // Something was missed; look rather than guess.
        Err(error) => {
            tracing::debug!(%error, "file notices failed");
            true
        }
    }
}

fn into_io(error: notify::Error) -> io::Error {
    match error.kind {
        notify::ErrorKind::Io(error) => error,
        _ => io::Error::other(error),
    }
}
