//! The classes of faults: who brings a fault about and ends it, and which faults keep each other
//! from happening.

use super::fault::Fault;

/// What a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Lines between sites.
    Network,
    /// The power, or the node's process.
    Power,
    /// A disk that is on.
    Disk,
    /// A clock.
    Clock,
    /// The database's file.
    File,
    /// What the application does.
    Application,
    /// Several acts for which whole sites are needed: nothing else happens to these meanwhile.
    Script,
}

impl Fault {
    /// Its class.
    pub fn class(self) -> Class {
        match self {
            Self::BadLines
            | Self::OneWay(..)
            | Self::Partition(..)
            | Self::Isolated(_)
            | Self::Flapping(..)
            | Self::Satellite(..)
            | Self::NewAddress(_)
            | Self::SmallPackets(..)
            | Self::UdpBlocked(_) => Class::Network,
            Self::Plug(_)
            | Self::Fuse(..)
            | Self::FuseIn(..)
            | Self::AfterApply(_)
            | Self::CrashTwice(..)
            | Self::Kill(_)
            | Self::NodeDown(_) => Class::Power,
            Self::WrongReads(_)
            | Self::SyncErrors(_)
            | Self::DiskErrors(_)
            | Self::DiskFull(_)
            | Self::SlowDisk(_) => Class::Disk,
            Self::DeadBattery(_)
            | Self::Year(..)
            | Self::Skewed(..)
            | Self::Drifting(..)
            | Self::HourBack(_)
            | Self::Frozen(_) => Class::Clock,
            Self::StaleWal(_) | Self::Missing(_) | Self::Emptied(_) => Class::File,
            Self::LockHeld(_)
            | Self::Bulk(_)
            | Self::LongReader(_)
            | Self::Upgraded(_)
            | Self::Unappliable(_) => Class::Application,
            Self::Shifts(..)
            | Self::Absence(..)
            | Self::Burned(_)
            | Self::Flipped { .. }
            | Self::Forged { .. }
            | Self::Meddled(_)
            | Self::Undone(_)
            | Self::PutBack(..)
            | Self::Cloned { .. }
            | Self::RottenBatch { .. }
            | Self::RottenBase { .. } => Class::Script,
        }
    }

    /// Whether its end would end the other one as well.
    pub fn ends(self, other: Self) -> bool {
        let pair = |a, b, c, d| (a, b) == (c, d) || (a, b) == (d, c);
        match (self, other) {
            (Self::Isolated(a) | Self::UdpBlocked(a), Self::Isolated(b) | Self::UdpBlocked(b)) => {
                a == b
            }
            (
                Self::Flapping(a, b) | Self::Satellite(a, b) | Self::SmallPackets(a, b),
                Self::Flapping(c, d) | Self::Satellite(c, d) | Self::SmallPackets(c, d),
            )
            | (
                Self::OneWay(a, b) | Self::Partition(a, b),
                Self::OneWay(c, d) | Self::Partition(c, d),
            ) => pair(a, b, c, d),
            _ => self == other,
        }
    }

    /// Whether it may cost a site.
    pub fn may_cost_a_site(self) -> bool {
        matches!(
            self,
            Self::WrongReads(_) | Self::Burned(_) | Self::Cloned { clone_first: true, .. }
        )
    }
}
