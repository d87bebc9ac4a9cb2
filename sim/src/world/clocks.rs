//! What the computers' clocks say, and everything that goes wrong with them. A node, its SQLite
//! and the applications beside it read the same clock.

use super::World;
use conflict::WallTime;

impl World {
    /// What clocks that are right say.
    pub fn true_time(&self) -> WallTime {
        self.clock.wall(0)
    }

    /// What a site's clock says.
    pub fn wall_clock(&self, site: &str) -> WallTime {
        self.place(site).computer.wall_clock()
    }

    /// Makes a site's clock say that now, and run on from there.
    pub fn set_clock(&self, site: &str, now: WallTime) {
        self.place(site).computer.wall.set(now);
    }

    /// Makes it wrong by so many milliseconds.
    pub fn set_clock_error(&self, site: &str, error_ms: i64) {
        self.place(site).computer.wall.set_error(error_ms);
    }

    /// Moves it forward or back by so many milliseconds.
    pub fn step_clock(&self, site: &str, by_ms: i64) {
        self.place(site).computer.wall.step(by_ms);
    }

    /// Lets it run fast by so many millionths, or slow.
    pub fn drift_clock(&self, site: &str, ppm: i64) {
        self.place(site).computer.wall.set_drift(ppm);
    }

    /// Makes it stand still.
    pub fn freeze_clock(&self, site: &str) {
        self.place(site).computer.wall.set_frozen(true);
    }

    /// Lets it go on from where it stands.
    pub fn thaw_clock(&self, site: &str) {
        self.place(site).computer.wall.set_frozen(false);
    }

    /// Takes the battery of a site's clock: each time that the power comes from now on, it begins
    /// at 1970-01-01.
    pub fn take_battery(&self, site: &str) {
        self.place(site).computer.wall.set_battery_dead(true);
    }

    /// Puts a new battery in: the clock keeps what it says.
    pub fn replace_battery(&self, site: &str) {
        self.place(site).computer.wall.set_battery_dead(false);
    }
}
