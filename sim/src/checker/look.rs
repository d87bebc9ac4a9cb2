//! What is looked at every few minutes while the world goes on: that copies show only what their
//! origins had (E) and go on (B), that nobody claims what is not durable (A), that what is called
//! safe is elsewhere (A), that nothing grows without bound (G).

use super::books::Books;
use crate::chronicle::{Behind, Flow};
use crate::drive::{Checked, Drive, FILE, own};
use crate::oracle;
use crate::plan::{At, Fault};
use std::collections::BTreeMap;

/// Bytes of a node's directory for each byte that its databases have, and for each batch, and at
/// least: G.
const BYTES_A_BATCH: u64 = 4096;
const BYTES_AT_LEAST: u64 = 64 << 20;
/// The same for each site, whose base is in it.
const BYTES_A_SITE: u64 = 8 << 20;
/// Bytes of memory that the whole world may take for each site, disks not counted: G.
const MEMORY: u64 = 128 << 20;

impl Drive<'_> {
    /// Looks at everything that can be looked at now.
    pub async fn look(&mut self) -> Checked {
        for at in self.places() {
            self.settle_accounts(at)?;
        }
        self.look_at_copies()?;
        self.look_at_shared()?;
        self.look_at_courtesy()?;
        let books = self.look_at_claims()?;
        let books = self.look_at_promises(books).await?;
        self.look_at_memory()?;
        self.look_at_sizes(&books)
    }

    /// E: every copy shows a state that its origin had, and never an older one again.
    pub(crate) fn look_at_copies(&mut self) -> Checked {
        for site in self.places() {
            if self.shops[site.0].burned {
                continue;
            }
            for origin in self.places().into_iter().filter(|origin| *origin != site) {
                if self.shops[origin.0].till.is_none() {
                    continue;
                }
                if let Some(what) = self.look_at_copy(site, origin)? {
                    return Err(self.broken("E: copies show only states that the origin had", what));
                }
            }
        }
        Ok(())
    }

    fn look_at_copy(&mut self, site: At, origin: At) -> Checked<Option<String>> {
        let path = self.mirror(site, origin);
        let disk = self.world.disk(self.name(site));
        let Some(till) = self.shops[origin.0].till.clone() else { return Ok(None) };
        let program = till.lock();
        let seen = self.checker.copies.look((site, origin), (disk, &path), program.history());
        let latest = program.history().latest().0;
        drop(program);
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                return Ok(Some(format!("{} can't be read: {error}", path.display())));
            }
        };
        if seen.read {
            self.checker.looks += 1;
        }
        if let Some(violation) = seen.violation {
            return Ok(Some(format!(
                "{violation}\n{}",
                self.explain(site, origin).unwrap_or_else(|error| error.to_string())
            )));
        }
        let commits = latest.saturating_sub(seen.shows.unwrap_or(0));
        let at = self.now();
        self.chronicle.behind.push(Behind { at, origin: origin.0, site: site.0, commits });
        Ok(None)
    }

    /// Where a copy and its original differ.
    pub(crate) fn explain(&self, site: At, origin: At) -> rusqlite::Result<String> {
        let original = self.world.disk(self.name(origin)).look(&self.original(origin))?;
        let copy = self.world.disk(self.name(site)).look(&self.mirror(site, origin))?;
        let names = [self.name(origin).to_owned(), format!("its copy at {}", self.name(site))];
        let difference = (&*names[0], &original);
        oracle::difference(difference, (&*names[1], &copy), 5)
    }

    /// A: nobody is said to hold what would be gone if the power failed now.
    pub(crate) fn look_at_claims(&mut self) -> Checked<BTreeMap<At, Books>> {
        let mut durable = BTreeMap::new();
        let mut current = BTreeMap::new();
        for at in self.places() {
            let (disk, path) = (self.world.disk(self.name(at)), self.node_db(at));
            if self.shops[at.0].burned || !disk.exists(&path) {
                continue;
            }
            match self.checker.shelf.read(at, disk, &path) {
                Ok((lasting, now)) => {
                    durable.insert(at, lasting);
                    current.insert(at, now);
                }
                // What a disk that lies has spoiled is given up when it no longer does.
                Err(_) if self.has_a_lying_disk(at) => {}
                Err(error) => {
                    let what = format!("{}'s node.db can't be read: {error}", self.name(at));
                    return Err(self.broken("E: node.db is whole at any moment", what));
                }
            }
        }
        for (teller, books) in &current {
            for ((origin, holder), claimed) in &books.claims {
                let Some(holder) = self.checker.site(*holder) else { continue };
                if self.checker.went_back.contains(&holder) {
                    continue;
                }
                let Some(lasting) = durable.get(&holder) else { continue };
                // What a disk that lies has made of itself is looked at when it no longer does.
                if self.has_a_lying_disk(holder) {
                    continue;
                }
                let held = lasting.holdings.get(origin).map_or(0, |holding| holding.durable);
                if *claimed > held {
                    let whose = self.checker.site(*origin).map_or("?", |at| self.name(at));
                    return Err(self.broken(
                        "A: what is acknowledged is durable",
                        format!(
                            "{} counts on {}'s copy of {whose} up to batch {claimed}; if the power \
                             failed there now, {held} would be left.",
                            self.name(*teller),
                            self.name(holder)
                        ),
                    ));
                }
            }
        }
        self.note_flows(&current);
        self.look_for_standstill(&current)?;
        Ok(durable)
    }

    pub(super) fn has_a_lying_disk(&self, at: At) -> bool {
        self.active.values().any(|active| active.event.fault == Fault::WrongReads(at))
    }

    /// What arrived since the last look.
    fn note_flows(&mut self, current: &BTreeMap<At, Books>) {
        let now = self.now();
        let mut flows = Vec::new();
        for (to, books) in current {
            for (origin, holding) in &books.holdings {
                let Some(from) = self.checker.site(*origin) else { continue };
                if from == *to {
                    self.checker.batches.insert(from, holding.held);
                    continue;
                }
                let before = self.checker.held_before.insert((*to, from), holding.held);
                let batches = holding.held.saturating_sub(before.unwrap_or(0));
                if batches > 0 {
                    flows.push(Flow { at: now, from: from.0, to: to.0, batches });
                }
            }
        }
        self.chronicle.flows.extend(flows);
    }

    /// A: what a node calls safe is durable at another site. Returns the books read last.
    async fn look_at_promises(
        &mut self,
        mut durable: BTreeMap<At, Books>,
    ) -> Checked<BTreeMap<At, Books>> {
        let mut read_at = self.now();
        for at in self.places() {
            let shop = &self.shops[at.0];
            if !shop.is_on() || !shop.attached || self.world.is_fallen(shop.name) {
                continue;
            }
            let name = shop.name;
            let commits = shop.commits();
            let Some(status) = self.world.try_status(name).await else { continue };
            let Some(own) = own(&status, name).filter(|own| own.safe == Some(true)) else {
                continue;
            };
            // Whatever was committed while the answer was on its way is not meant.
            if self.shops[at.0].commits() != commits || self.checker.not_themselves.contains(&at) {
                continue;
            }
            // A node with a slow disk answers after seconds, in which all others go on: a promise is
            // held against what is durable when it is heard. What is durable stays so.
            if read_at != self.now() {
                durable = self.look_at_claims()?;
                read_at = self.now();
            }
            let held =
                durable.iter().filter(|(holder, _)| **holder != at).filter_map(|(_, books)| {
                    let own =
                        books.holdings.iter().find(|(id, _)| self.checker.site(**id) == Some(at));
                    own.map(|(_, holding)| holding.durable)
                });
            // A site that is no more had what it had: nobody can know that it is gone.
            let gone = self.checker.held_before.iter().filter_map(|((holder, origin), held)| {
                (*origin == at && self.shops[holder.0].burned).then_some(*held)
            });
            // Nor of one that went back.
            let told = durable.get(&at).into_iter().flat_map(|books| &books.claims);
            let told = told.filter_map(|((origin, holder), claimed)| {
                let holder = self.checker.site(*holder)?;
                let meant = self.checker.site(*origin) == Some(at)
                    && self.checker.went_back.contains(&holder);
                meant.then_some(*claimed)
            });
            let most = held.chain(gone).chain(told).max().unwrap_or(0);
            if most < own.sequence {
                return Err(self.broken(
                    "A: what is called safe is durable elsewhere",
                    format!(
                        "{name} says that all is safe up to batch {}; the most that any other disk \
                         would still hold is {most}.",
                        own.sequence
                    ),
                ));
            }
            self.checker.safe.insert(at, commits);
        }
        Ok(durable)
    }

    /// G: the process, which is all nodes and all applications, does not grow without bound.
    fn look_at_memory(&self) -> Checked {
        let places = self.places();
        let disks: u64 = places.iter().map(|at| self.world.disk(self.name(*at)).bytes()).sum();
        let used = resident().saturating_sub(disks);
        if used > MEMORY * places.len() as u64 {
            let what = format!("The process holds {used} bytes beside its disks.");
            return Err(self.broken("G: memory stays bounded", what));
        }
        Ok(())
    }

    /// G: a node's directory does not grow beyond what it has to keep.
    fn look_at_sizes(&mut self, books: &BTreeMap<At, Books>) -> Checked {
        for (at, books) in books {
            let disk = self.world.disk(self.name(*at));
            let folder = self.node_db(*at);
            let Some(folder) = folder.parent() else { continue };
            let bytes = disk.bytes_in(folder);
            let batches: u64 = books.holdings.values().map(|holding| holding.held).sum();
            let sites = BYTES_A_SITE * self.shops.len() as u64;
            let limit = BYTES_AT_LEAST.max(sites) + batches * BYTES_A_BATCH;
            if bytes > limit {
                return Err(self.broken(
                    "G: the journal stays bounded",
                    format!(
                        "{}'s directory has {bytes} bytes for {batches} batches.",
                        self.name(*at)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// A site's own database.
    pub(crate) fn original(&self, at: At) -> std::path::PathBuf {
        self.world.file(self.name(at), FILE)
    }

    /// A site's copy of another's.
    pub(crate) fn mirror(&self, site: At, origin: At) -> std::path::PathBuf {
        self.world.mirror(self.name(site), self.name(origin), crate::drive::DATABASE)
    }

    /// A site's `node.db`.
    pub(crate) fn node_db(&self, at: At) -> std::path::PathBuf {
        self.world.node_db(self.name(at))
    }
}

/// Bytes of memory that this process holds; 0 where the system does not tell.
fn resident() -> u64 {
    let told = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = told.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
