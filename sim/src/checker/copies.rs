//! The copies of all databases at all sites: each is watched by the oracle, and read again only when
//! its file has changed.

use crate::disk::Disk;
use crate::oracle::{Content, History, Verdict, Watcher, content};
use crate::plan::At;
use std::collections::BTreeMap;
use std::path::Path;

/// One copy.
#[derive(Debug)]
struct Copy {
    watcher: Watcher,
    /// The file's changes when it was read last, and what it held.
    mutations: Option<u64>,
    content: Option<Content>,
    shows: Option<u64>,
    spoiled: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Copies(BTreeMap<(At, At), Copy>);

/// What a look came to.
#[derive(Debug)]
pub struct Seen {
    /// The newest commit that it may show; none: there is no copy yet.
    pub shows: Option<u64>,
    /// Whether it was read.
    pub read: bool,
    /// What must not be.
    pub violation: Option<String>,
}

impl Copies {
    /// Nothing has been seen yet.
    pub fn new(sites: usize) -> Self {
        let mut copies = BTreeMap::new();
        for site in (0..sites).map(At) {
            for origin in (0..sites).map(At).filter(|origin| *origin != site) {
                let name = format!("the copy of site {} at site {}", origin.0, site.0);
                let watcher = Watcher::new(&name);
                copies.insert(
                    (site, origin),
                    Copy { watcher, mutations: None, content: None, shows: None, spoiled: false },
                );
            }
        }
        Self(copies)
    }

    /// Somebody damages a copy, or it was put right and begins anew.
    pub fn spoil(&mut self, site: At, origin: At, spoiled: bool) {
        if let Some(copy) = self.0.get_mut(&(site, origin)) {
            copy.spoiled = spoiled;
            copy.mutations = None;
            copy.watcher.begin_anew();
        }
    }

    /// A computer has lost its power: its copies may be those of some moments ago, since their
    /// journals bring the rest again.
    pub fn forgive(&mut self, site: At) {
        for ((at, _), copy) in &mut self.0 {
            if *at == site {
                copy.mutations = None;
                copy.watcher.begin_anew();
            }
        }
    }

    /// Looks at one.
    ///
    /// # Errors
    /// SQLite's: the file can't be read.
    pub fn look(
        &mut self,
        (site, origin): (At, At),
        (disk, path): (&Disk, &Path),
        history: &History,
    ) -> rusqlite::Result<Seen> {
        let Some(copy) = self.0.get_mut(&(site, origin)) else {
            return Ok(Seen { shows: None, read: false, violation: None });
        };
        if copy.spoiled {
            return Ok(Seen { shows: copy.shows, read: false, violation: None });
        }
        let mutations = disk.exists(path).then(|| disk.mutations(path));
        let read = mutations.is_none() || mutations != copy.mutations;
        if read {
            let connection = mutations.map(|_| disk.look(path)).transpose()?;
            copy.content = connection.as_ref().map(content::read).transpose()?;
            copy.mutations = mutations;
        }
        // Also a content that stays may have become that of a later commit.
        let violation = match copy.watcher.judge(history, copy.content.as_ref()) {
            Verdict::NotYet => {
                copy.shows = None;
                None
            }
            Verdict::Shows { newest, .. } => {
                copy.shows = Some(newest);
                None
            }
            Verdict::Unknown => None,
            Verdict::Violation(what) => Some(what),
        };
        Ok(Seen { shows: copy.shows, read, violation })
    }
}
