//! The site's own directory: what lies where in it. Nothing here opens a file.

use protocol::{BranchId, Name};
use std::path::{Path, PathBuf};

/// DIR.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// DIR itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The site's own database.
    pub fn store(&self) -> PathBuf {
        self.0.join("node.db")
    }

    /// The private key.
    pub fn key(&self) -> PathBuf {
        self.0.join("key")
    }

    /// The settings.
    pub fn config(&self) -> PathBuf {
        self.0.join("node.toml")
    }

    /// Held locked by whoever works on the directory.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The local socket on which a running node is asked.
    pub fn control(&self) -> PathBuf {
        self.0.join("control")
    }

    /// The mirrors of one site's databases.
    pub fn mirrors(&self, site: &Name) -> PathBuf {
        self.0.join("mirrors").join(site.as_str())
    }

    /// The mirror of one database.
    pub fn mirror(&self, site: &Name, database: &Name) -> PathBuf {
        self.mirrors(site).join(format!("{database}.db"))
    }

    /// Where bases lie.
    pub fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    /// The chunks of a branch's base.
    pub fn snapshot(&self, branch: BranchId) -> PathBuf {
        self.snapshots().join(format!("{branch}.db"))
    }
}
