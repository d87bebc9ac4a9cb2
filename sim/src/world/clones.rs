//! A second computer with the disk of a first: one site, one key, two machines.

use super::{Place, World};
use crate::disk::Kept;
use crate::network::{self, Access};
use crate::random::Random;
use crate::world::computer::Computer;
use std::sync::Arc;

impl World {
    /// A clone of a site's computer, switched off: its files as they were, under a name and with
    /// an address of its own. It is handled by that name as a site is.
    ///
    /// # Panics
    /// The name is taken.
    pub fn clone_computer(&mut self, name: &str, clone: &str, files: &Kept) {
        assert!(!self.sites.contains_key(clone), "there is a computer {clone} already");
        let number = u8::try_from(self.sites.len() + 1).unwrap();
        let address = network::address_of(number);
        let error = self.wall_clock(name).0 - self.true_time().0;
        let disk = Arc::new(self.disk(name).cloned(files, self.seed, clone));
        let world = (self.clock, Arc::clone(&self.network), disk, Arc::clone(&self.verified));
        let between = Random::new(self.seed, &format!("{clone} between steps"));
        let computer =
            Computer::new(clone, (address, error), world, (Arc::clone(&self.falls), between));
        self.network.connect(address, clone, Access::Direct);
        self.sites.insert(clone.to_owned(), Place { computer, boots: 0, running: None });
    }

    /// Whether there is a computer of that name.
    pub fn has_computer(&self, name: &str) -> bool {
        self.sites.contains_key(name)
    }

    /// Where a site's node keeps all that is its own.
    pub fn node_folder(&self, name: &str) -> std::path::PathBuf {
        super::directory(&self.place(name).computer).path().to_owned()
    }

    /// Where a site's node keeps the base of a branch.
    pub fn base(&self, name: &str, branch: protocol::BranchId) -> std::path::PathBuf {
        super::directory(&self.place(name).computer).snapshot(branch)
    }
}
