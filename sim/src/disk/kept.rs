//! Copies of files that people make and put back: a backup, the image of a whole disk, a clone. A
//! copy holds what processes saw at that moment; memory that connections share is no part of it.

use super::{Disk, text};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Files as they were.
#[derive(Clone, Default)]
pub struct Kept(BTreeMap<PathBuf, Vec<u8>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Disk {
    /// Copies all files.
    pub fn keep(&self) -> Kept {
        let files = self.list().into_iter().filter(|path| !is_shared_memory(path));
        Kept(files.filter_map(|path| Some((path.clone(), self.read(&path).ok()?))).collect())
    }

    /// Puts back those files that are meant, each as a new one, and removes what stands there and
    /// was not copied.
    pub fn put_back(&self, kept: &Kept, is_meant: impl Fn(&Path) -> bool) {
        for path in self.list().into_iter().filter(|path| is_meant(path)) {
            // It was there a moment ago.
            let _ = self.remove(&path);
        }
        for (path, content) in kept.0.iter().filter(|(path, _)| is_meant(path)) {
            if let Some(folder) = path.parent() {
                self.make_folder(folder);
            }
            // Its folder is there.
            let _ = self.put(path, content);
        }
    }

    /// The disk of another computer, switched off, with files of this one under the same paths.
    /// The label decides its chances.
    pub fn cloned(&self, files: &Kept, seed: u64, label: &str) -> Self {
        let clone = Self::at(self.root.clone(), seed, label);
        clone.power_off();
        clone.put_back(files, |_| true);
        clone
    }
}

fn is_shared_memory(path: &Path) -> bool {
    text(path).ends_with("-shm")
}
