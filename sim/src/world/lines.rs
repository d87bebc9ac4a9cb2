//! What lies between the sites: lines, and cuts in them.

use super::World;
use crate::network::Line;

impl World {
    /// Lets nothing pass between two sites.
    pub fn cut(&self, a: &str, b: &str) {
        self.network.cut(self.address(a), self.address(b));
    }

    /// Lets packets pass again.
    pub fn heal(&self, a: &str, b: &str) {
        self.network.heal(self.address(a), self.address(b));
    }

    /// What lies between the sites.
    pub fn line(&self) -> Line {
        self.network.line()
    }

    /// Changes it.
    pub fn set_line(&self, line: Line) {
        self.network.set_line(line);
    }
}
