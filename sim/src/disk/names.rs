//! Folders and names: which file stands where, and which of that is not on the platter yet. A name
//! made, removed or moved is durable once its folder is synced.

use super::cut::survival;
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// A file's number, for ever its own.
pub(super) type Inode = u64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, Inode>,
    folders: BTreeSet<String>,
    pending: Vec<Change>,
}

/// A change of names that may still be lost.
#[derive(Debug)]
struct Change {
    /// The name that was taken away, and whose it was.
    gone: Option<(String, Inode)>,
    /// The name that was given, and whose it was before.
    given: Option<(String, Option<Inode>)>,
}

impl Change {
    fn paths(&self) -> impl Iterator<Item = &String> {
        let gone = self.gone.iter().map(|(path, _)| path);
        gone.chain(self.given.iter().map(|(path, _)| path))
    }
}

/// The folder that holds a path.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Names {
    pub fn find(&self, path: &str) -> Option<Inode> {
        self.now.get(path).copied()
    }

    pub fn all(&self) -> impl Iterator<Item = (&String, Inode)> {
        self.now.iter().map(|(path, inode)| (path, *inode))
    }

    pub fn is_folder(&self, path: &str) -> bool {
        self.folders.contains(path)
    }

    /// Makes a folder and those above it, durably.
    pub fn make_folder(&mut self, path: &str) {
        let mut path = path;
        while !path.is_empty() && self.folders.insert(path.to_owned()) {
            path = parent(path);
        }
    }

    /// Removes an empty folder.
    pub fn remove_folder(&mut self, path: &str) {
        self.folders.remove(path);
    }

    /// The names in a folder, sorted.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let inside = |path: &String| {
            let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
            (!rest.contains('/')).then(|| rest.to_owned())
        };
        let files = self.now.keys().filter_map(inside);
        let found: BTreeSet<_> = files.chain(self.folders.iter().filter_map(inside)).collect();
        found.into_iter().collect()
    }

    /// Whether a file has a name, or may have one after a power cut.
    pub fn hold(&self, inode: Inode) -> bool {
        let gone = |change: &Change| {
            change.gone.as_ref().is_some_and(|(_, gone)| *gone == inode)
                || change.given.as_ref().is_some_and(|(_, over)| *over == Some(inode))
        };
        self.now.values().any(|named| *named == inode) || self.pending.iter().any(gone)
    }

    /// Gives a file a name, whosever it was.
    pub fn link(&mut self, path: &str, inode: Inode) {
        let over = self.now.insert(path.to_owned(), inode);
        self.pending.push(Change { gone: None, given: Some((path.to_owned(), over)) });
    }

    /// Takes a name away.
    pub fn unlink(&mut self, path: &str) -> Option<Inode> {
        let inode = self.now.remove(path)?;
        self.pending.push(Change { gone: Some((path.to_owned(), inode)), given: None });
        Some(inode)
    }

    /// Gives a file another name, whosever that was; `None` if there is no such file. Otherwise
    /// what stood there.
    pub fn rename(&mut self, from: &str, to: &str) -> Option<Option<Inode>> {
        let inode = self.now.remove(from)?;
        let over = self.now.insert(to.to_owned(), inode);
        let gone = Some((from.to_owned(), inode));
        self.pending.push(Change { gone, given: Some((to.to_owned(), over)) });
        Some(over)
    }

    /// Makes the names in a folder durable.
    pub fn sync(&mut self, folder: &str) {
        self.pending.retain(|change| !change.paths().any(|path| parent(path) == folder));
    }

    /// Makes everything durable.
    pub fn sync_all(&mut self) {
        self.pending.clear();
    }

    /// Whether a name is the one that a power cut leaves.
    pub fn is_settled(&self, path: &str) -> bool {
        !self.pending.iter().any(|change| change.paths().any(|changed| changed == path))
    }

    /// Takes the power: of each name's changes, the newest may be undone. Returns how many were.
    pub fn cut(&mut self, random: &mut Random) -> u64 {
        if self.pending.is_empty() {
            return 0;
        }
        let survival = survival(random);
        let mut kept = BTreeSet::new();
        let mut undone = 0;
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            let bound = change.paths().any(|path| kept.contains(path));
            if bound || random.happens(survival) {
                kept.extend(change.paths().cloned());
            } else {
                undone += 1;
                undo(&mut self.now, change);
            }
        }
        undone
    }

    /// What would stand where if nothing that was not synced had reached the platter.
    pub fn durable(&self) -> BTreeMap<String, Inode> {
        let mut now = self.now.clone();
        for Change { gone, given } in self.pending.iter().rev() {
            undo(&mut now, Change { gone: gone.clone(), given: given.clone() });
        }
        now
    }
}

fn undo(now: &mut BTreeMap<String, Inode>, change: Change) {
    match change.given {
        Some((path, Some(before))) => drop(now.insert(path, before)),
        Some((path, None)) => drop(now.remove(&path)),
        None => {}
    }
    if let Some((path, inode)) = change.gone {
        now.insert(path, inode);
    }
}
