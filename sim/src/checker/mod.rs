//! What must hold, by FAULTS.md: looked at while the world goes on ([`look`]), after every loss of
//! power ([`crash`]), and at rest ([`crate::drive`]'s end). It sees applications through the oracle, copies
//! through their files, and nodes through their files and what `status` says; it shares no code with
//! capture or apply.

mod books;
mod branches;
mod copies;
mod courtesy;
mod crash;
mod damage;
mod journals;
mod look;
mod said;
mod shared;
mod standstill;

pub use books::{Books, Holding};
pub(crate) use branches::Hashes;

use crate::plan::At;
use books::Shelf;
use conflict::SiteId;
use copies::Copies;
use courtesy::Courtesy;
use node::status::Status;
use standstill::Standing;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug)]
pub struct Checker {
    ids: BTreeMap<SiteId, At>,
    copies: Copies,
    courtesy: Courtesy,
    shelf: Shelf,
    /// Sites whose database's file is not their own for a while.
    not_themselves: BTreeSet<At>,
    /// Sites whose node's directory was put back from an old copy, or has a clone: what others
    /// were told of it may be gone, and they can't know.
    went_back: BTreeSet<At>,
    /// Whether an alarm was raised that stands though what it tells is over.
    alarms_stand: bool,
    /// Sites whose clock was wrong at any time.
    wrong_clocks: BTreeSet<At>,
    /// Carriers in whose journal somebody damaged a batch, and of whom.
    rotten: BTreeSet<(At, At)>,
    /// The commit of each site's database that was called safe last.
    safe: BTreeMap<At, u64>,
    burned: BTreeSet<At>,
    batches: BTreeMap<At, u64>,
    /// How much of whose database each site held at the last look.
    held_before: BTreeMap<(At, At), u64>,
    /// Copies, by site and origin, that lack what their site holds.
    standing: BTreeMap<(At, At), Standing>,
    /// The changes of each shared file when it was looked at last.
    looked_at: BTreeMap<At, u64>,
    looks: u64,
}

impl Checker {
    /// Nothing is known yet of so many sites.
    pub fn new(sites: usize) -> Self {
        Self {
            ids: BTreeMap::new(),
            copies: Copies::new(sites),
            courtesy: Courtesy::default(),
            shelf: Shelf::default(),
            not_themselves: BTreeSet::new(),
            went_back: BTreeSet::new(),
            alarms_stand: false,
            wrong_clocks: BTreeSet::new(),
            rotten: BTreeSet::new(),
            safe: BTreeMap::new(),
            burned: BTreeSet::new(),
            batches: BTreeMap::new(),
            held_before: BTreeMap::new(),
            standing: BTreeMap::new(),
            looked_at: BTreeMap::new(),
            looks: 0,
        }
    }

    /// A site has joined.
    pub fn know(&mut self, at: At, status: &Status) {
        if let Ok(id) = uuid::Uuid::parse_str(&status.site_id) {
            self.ids.insert(SiteId::from_bytes(id.into_bytes()), at);
        }
    }

    /// The names of sites as they stand in marks.
    pub fn codes(&self, name: impl Fn(At) -> String) -> BTreeMap<SiteId, String> {
        self.ids.iter().map(|(id, at)| (*id, name(*at))).collect()
    }

    /// Whose id that is.
    pub fn site(&self, id: SiteId) -> Option<At> {
        self.ids.get(&id).copied()
    }

    /// Batches numbered at all sites, as far as was seen.
    pub fn batches(&self) -> u64 {
        self.batches.values().sum()
    }

    /// Looks at copies.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// How much of the origin's batches a site held last.
    pub fn held_last(&mut self, site: At, origin: At, held: u64) {
        self.held_before.insert((site, origin), held);
    }

    /// A site will not come back.
    pub fn burned(&mut self, at: At) {
        self.burned.insert(at);
    }

    /// The commit that was called safe at a site that burned down.
    pub fn promised(&self, at: At) -> u64 {
        self.safe.get(&at).copied().unwrap_or(0)
    }

    /// A clock is wrong from now on: its stamps are no measure any more.
    pub fn clock_is_wrong(&mut self, at: At) {
        self.wrong_clocks.insert(at);
    }

    /// Whether a clock was ever wrong.
    pub fn had_wrong_clock(&self, at: At) -> bool {
        self.wrong_clocks.contains(&at)
    }

    /// Another file stands in the place of a database, or no longer.
    pub fn is_not_itself(&mut self, at: At, other: bool) {
        match other {
            true => self.not_themselves.insert(at),
            false => self.not_themselves.remove(&at),
        };
    }

    /// What a site's node had on its disk is older than it was, or no longer.
    pub fn went_back(&mut self, at: At, went_back: bool) {
        match went_back {
            true => self.went_back.insert(at),
            false => self.went_back.remove(&at),
        };
    }

    /// What was told of a fork or of a damaged batch stands for good: nothing takes it back yet.
    pub fn alarms_stand(&mut self) {
        self.alarms_stand = true;
    }

    /// Whether there is such an alarm.
    pub fn do_alarms_stand(&self) -> bool {
        self.alarms_stand
    }

    /// Somebody damages a copy, or it was put right.
    pub fn spoiled(&mut self, site: At, origin: At, spoiled: bool) {
        self.copies.spoil(site, origin, spoiled);
    }

    /// A computer has lost its power.
    pub fn power_failed(&mut self, site: At) {
        self.copies.forgive(site);
    }

    /// A batch of the origin is damaged in the carrier's journal for good, or a site's own lines
    /// were, by a disk that lied: what peers say of that stands.
    pub fn rotten(&mut self, carrier: At, origin: At) {
        self.rotten.insert((carrier, origin));
    }

    /// Whether any journal was.
    pub fn was_damaged(&self) -> bool {
        !self.rotten.is_empty()
    }

    /// Whether that journal was damaged by hand.
    pub fn is_rotten(&self, carrier: At, origin: At) -> bool {
        self.rotten.contains(&(carrier, origin))
    }
}
