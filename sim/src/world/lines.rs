//! What lies between the sites: lines, cuts in them, and how each site is reached.

use super::World;
use crate::network::{Counts, Line};
use std::net::IpAddr;
use std::time::Duration;

impl World {
    /// Lets nothing pass between two sites.
    pub fn cut(&self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Lets packets pass again, both ways.
    pub fn heal(&self, a: &str, b: &str) {
        self.heal_one_way(a, b);
        self.heal_one_way(b, a);
    }

    /// Lets nothing pass from one site to another; the other way is as it was (F2).
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.network.set_cut(self.address(from), self.address(to), true);
    }

    /// Lets packets pass again, that way.
    pub fn heal_one_way(&self, from: &str, to: &str) {
        self.network.set_cut(self.address(from), self.address(to), false);
    }

    /// Lets no UDP of a site pass, in or out; it still finds names (F6).
    pub fn block_udp(&self, site: &str) {
        self.network.block_udp(self.address(site));
    }

    /// Lets nothing of a site pass; it finds no names either.
    pub fn isolate(&self, site: &str) {
        self.network.isolate(self.address(site));
    }

    /// Ends [`World::block_udp`] and [`World::isolate`].
    pub fn reconnect(&self, site: &str) {
        self.network.let_through(self.address(site));
    }

    /// Ends all cuts, blocks and isolations, and makes all lines those of [`World::line`].
    pub fn heal_all(&self) {
        self.network.heal_all();
    }

    /// What lies between sites where nothing else was said.
    pub fn line(&self) -> Line {
        self.network.line()
    }

    /// Changes it.
    pub fn set_line(&self, line: Line) {
        self.network.set_line(line);
    }

    /// What lies on the way from one site to another.
    pub fn line_from(&self, from: &str, to: &str) -> Line {
        self.network.line_from(self.address(from), self.address(to))
    }

    /// Gives the way from one site to another a line of its own, or takes it away again.
    pub fn set_line_from(&self, from: &str, to: &str, line: Option<Line>) {
        self.network.set_line_from(self.address(from), self.address(to), line);
    }

    /// Gives both ways between two sites such a line, or takes theirs away again.
    pub fn set_line_between(&self, a: &str, b: &str, line: Option<Line>) {
        self.set_line_from(a, b, line);
        self.set_line_from(b, a, line);
    }

    /// Gives a site, or the NAT before it, another address. Where it has a name
    /// ([`crate::Access::Named`]), that gives the new one after a while (F5).
    pub fn new_address(&self, site: &str, name_follows: Duration) {
        self.network.move_host(self.address(site), name_follows);
    }

    /// How long the mappings of a site's NAT last from now on; nothing for a site without one.
    pub fn set_nat_idle(&self, site: &str, idle: Duration) {
        self.network.set_nat_idle(self.address(site), idle);
    }

    /// Where others see a site now.
    pub fn outside_address(&self, site: &str) -> IpAddr {
        self.network.outside(self.address(site))
    }

    /// What became of all packets so far.
    pub fn counts(&self) -> Counts {
        self.network.counts()
    }

    /// What became of those from one site to another.
    pub fn counts_from(&self, from: &str, to: &str) -> Counts {
        self.network.counts_from(self.address(from), self.address(to))
    }

    /// How often a site's NAT gave what it sends another port, since a mapping had expired or its
    /// address had changed.
    pub fn rebindings(&self, site: &str) -> u64 {
        self.network.rebindings(self.address(site))
    }
}
