//! What can go wrong, as a plan names it: which fault, where. How it is brought about and how it is
//! told that it happened is `faults`'s.

use std::fmt;
use std::time::Duration;

/// A site, by its place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(pub usize);

/// A fault, with where and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All lines lose 30 %, double 50 % and reorder.
    BadLines,
    /// Packets pass in one direction only.
    OneWay(At, At),
    /// Nothing passes between two sites.
    Partition(At, At),
    /// One site has no line.
    Isolated(At),
    /// Up and down every 5 s while a large import has to travel.
    Flapping(At, At),
    /// 30 kbit/s, 5 s there and back.
    Satellite(At, At),
    /// Its address changes while something is on its way.
    NewAddress(At),
    /// Packets over 1,200 bytes vanish between two sites.
    SmallPackets(At, At),
    /// Its router drops all UDP.
    UdpBlocked(At),
    /// The first is on while the second is off and the reverse; the third carries.
    Shifts(At, At, At),
    /// The plug is pulled.
    Plug(At),
    /// The power fails at a mutating operation of the disk, so many from then on.
    Fuse(At, u64),
    /// The power fails inside a named step of the node, at that mutating operation of it.
    FuseIn(At, Step, u64),
    /// The power fails after a mirror was written and before anybody is told.
    AfterApply(At),
    /// The power fails, and again during the next boot.
    CrashTwice(At, u64),
    /// The node alone is killed.
    Kill(At),
    /// Reads return what stood there earlier, or what stands elsewhere.
    WrongReads(At),
    /// Syncs report errors.
    SyncErrors(At),
    /// Reads and writes report errors.
    DiskErrors(At),
    /// No space is left.
    DiskFull(At),
    /// Every operation of the disk takes 5 s.
    SlowDisk(At),
    /// The node is stopped while the application goes on, writes and checkpoints.
    NodeDown(At),
    /// The clock begins at 1970 at every boot.
    DeadBattery(At),
    /// The clock says that year.
    Year(At, i32),
    /// The clock is off by so many seconds.
    Skewed(At, i64),
    /// The clock drifts, parts per million.
    Drifting(At, i64),
    /// The clock is set back one hour.
    HourBack(At),
    /// The clock stands still.
    Frozen(At),
    /// A bit of a batch that one site carries for another is flipped in its journal; the third
    /// asks it.
    Flipped {
        /// Who carries.
        carrier: At,
        /// Whose batch.
        origin: At,
        /// Who asks.
        asker: At,
    },
    /// An old copy of the database's file is put in its place beside the `-wal` of today, and
    /// taken away again.
    StaleWal(At),
    /// The database's file is gone for a while.
    Missing(At),
    /// The database's file is empty for a while.
    Emptied(At),
    /// The application holds a write lock for ten minutes.
    LockHeld(At),
    /// One transaction of many rows.
    Bulk(At),
    /// The application reads for an hour, then writes in the same transaction.
    LongReader(At),
    /// The application makes a table that no mirror can be written with.
    Unappliable(At),
    /// The application comes to its next version, which moves the schema.
    Upgraded(At),
    /// Who carries a batch for another changes what it says, so that all but the signature is as it
    /// should be; the third asks it.
    Forged {
        /// Who carries.
        carrier: At,
        /// Whose batch.
        origin: At,
        /// Who asks.
        asker: At,
    },
    /// A member publishes changes of tables that nobody shares.
    Meddled(At),
    /// The PC stays off for so many days.
    Absence(At, u32),
    /// Fire, or a disk that is lost: the site never comes back.
    Burned(At),
    /// The application does not wait for its disk, which loses at a power cut what was already
    /// sent.
    Undone(At),
    /// Something of a PC is put back from an old copy, and taken away again.
    PutBack(At, Old),
    /// A disk is cloned, and both copies run under one key.
    Cloned {
        /// Whose disk.
        site: At,
        /// Whether the others hear of the clone first.
        clone_first: bool,
    },
    /// A bit of a batch is flipped in its origin's own journal; the other asks it.
    RottenBatch {
        /// Whose batch.
        origin: At,
        /// Who asks.
        asker: At,
    },
    /// A bit of a base is flipped where its origin keeps it; the other asks it.
    RottenBase {
        /// Whose base.
        origin: At,
        /// Who asks.
        asker: At,
    },
}

/// What is put back from an old copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// The database, while the node goes on.
    Backup,
    /// The database, with the PC off; the node's directory stays.
    Database,
    /// The node's directory, with the PC off; the database stays.
    Directory,
    /// All of it.
    Machine,
}

/// The steps of the node in which a fuse is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A batch is numbered.
    Number,
    /// A flight is stored.
    Store,
    /// A mirror is written, then how far it is.
    Apply,
    /// A shared database is merged, or written.
    Merge,
}

impl Step {
    /// As the node names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "harvest.commit",
            Self::Store => "flight.receive",
            Self::Apply => "mirror.step",
            Self::Merge => "shared.step",
        }
    }
}

impl Fault {
    /// Its numbers in FAULTS.md; none for misfortunes too common to be listed.
    pub fn numbers(self) -> &'static [u8] {
        match self {
            Self::BadLines => &[1],
            Self::OneWay(..) => &[2],
            Self::Flapping(..) => &[3],
            Self::Satellite(..) => &[4],
            Self::NewAddress(_) => &[5],
            Self::SmallPackets(..) | Self::UdpBlocked(_) => &[6],
            Self::Shifts(..) => &[7],
            Self::AfterApply(_) => &[9],
            Self::FuseIn(_, Step::Apply | Step::Merge, _) => &[10, 11],
            // F12 is counted where a cut really took something of the journal.
            Self::Fuse(..) | Self::FuseIn(..) => &[10],
            Self::CrashTwice(..) => &[10, 18],
            Self::WrongReads(_) => &[14],
            Self::SyncErrors(_) => &[15],
            Self::NodeDown(_) => &[16],
            Self::DeadBattery(_) => &[21],
            Self::Year(_, 2099) => &[28],
            Self::Year(..) => &[22],
            Self::Skewed(_, seconds) if seconds < 0 => &[24],
            Self::Skewed(..) => &[23],
            Self::HourBack(_) => &[25],
            Self::Frozen(_) => &[26],
            Self::Flipped { .. } => &[27],
            // F36 and F39 are counted where columns came, or went.
            Self::Upgraded(_) => &[37],
            Self::Forged { .. } => &[48],
            Self::Meddled(_) => &[52],
            Self::Absence(_, days) if days >= 60 => &[30],
            Self::StaleWal(_) => &[33],
            Self::Missing(_) | Self::Emptied(_) => &[35],
            Self::LockHeld(_) => &[43],
            Self::Bulk(_) => &[44],
            Self::DiskFull(_) => &[62],
            Self::SlowDisk(_) => &[63],
            Self::Unappliable(_) => &[64],
            Self::Burned(_) => &[19],
            Self::Undone(_) => &[20],
            Self::PutBack(_, Old::Backup) => &[29],
            Self::PutBack(_, Old::Database | Old::Directory) => &[32],
            Self::PutBack(_, Old::Machine) => &[34],
            Self::Cloned { .. } => &[31],
            Self::RottenBatch { .. } | Self::RottenBase { .. } => &[13],
            Self::Partition(..)
            | Self::Isolated(_)
            | Self::Plug(_)
            | Self::Kill(_)
            | Self::DiskErrors(_)
            | Self::Drifting(..)
            | Self::LongReader(_)
            | Self::Absence(..) => &[],
        }
    }

    /// The same fault where only the hub can be reached by the others: it carries.
    pub fn through(self, hub: At) -> Self {
        match self {
            Self::Shifts(first, second, carrier) if first == hub => {
                Self::Shifts(carrier, second, hub)
            }
            Self::Shifts(first, second, carrier) if second == hub => {
                Self::Shifts(first, carrier, hub)
            }
            other => other,
        }
    }

    /// How long it lasts. Those that are over at once last a moment.
    pub fn lasts(self) -> Duration {
        let minutes = match self {
            Self::Flapping(..) | Self::SlowDisk(_) | Self::LockHeld(_) => 10,
            Self::BadLines
            | Self::OneWay(..)
            | Self::Partition(..)
            | Self::Isolated(_)
            | Self::Satellite(..)
            | Self::SmallPackets(..)
            | Self::UdpBlocked(_) => 45,
            Self::Shifts(..) | Self::Frozen(_) | Self::PutBack(..) | Self::Cloned { .. } => 90,
            Self::Undone(_) | Self::RottenBatch { .. } | Self::RottenBase { .. } => 60,
            Self::NodeDown(_) | Self::LongReader(_) | Self::DiskFull(_) => 60,
            Self::WrongReads(_) | Self::SyncErrors(_) | Self::DiskErrors(_) => 20,
            Self::StaleWal(_)
            | Self::Missing(_)
            | Self::Emptied(_)
            | Self::Flipped { .. }
            | Self::Forged { .. } => 30,
            Self::DeadBattery(_)
            | Self::Year(..)
            | Self::Skewed(..)
            | Self::Drifting(..)
            | Self::HourBack(_) => 24 * 60,
            Self::Absence(_, days) => u64::from(days) * 24 * 60,
            Self::Fuse(..)
            | Self::FuseIn(..)
            | Self::AfterApply(_)
            | Self::CrashTwice(..)
            | Self::Plug(_)
            | Self::Kill(_)
            | Self::NewAddress(_)
            | Self::Bulk(_)
            | Self::Upgraded(_)
            | Self::Meddled(_)
            | Self::Unappliable(_)
            | Self::Burned(_) => 5,
        };
        Duration::from_secs(60 * minutes)
    }

    /// The sites that it is about.
    pub fn sites(self) -> Vec<At> {
        match self {
            Self::BadLines => Vec::new(),
            Self::OneWay(a, b)
            | Self::Partition(a, b)
            | Self::Flapping(a, b)
            | Self::Satellite(a, b)
            | Self::SmallPackets(a, b)
            | Self::RottenBatch { origin: a, asker: b }
            | Self::RottenBase { origin: a, asker: b } => vec![a, b],
            Self::Shifts(a, b, c)
            | Self::Flipped { carrier: a, origin: b, asker: c }
            | Self::Forged { carrier: a, origin: b, asker: c } => {
                vec![a, b, c]
            }
            Self::Isolated(a)
            | Self::NewAddress(a)
            | Self::UdpBlocked(a)
            | Self::Plug(a)
            | Self::Fuse(a, _)
            | Self::FuseIn(a, ..)
            | Self::AfterApply(a)
            | Self::CrashTwice(a, _)
            | Self::Kill(a)
            | Self::WrongReads(a)
            | Self::SyncErrors(a)
            | Self::DiskErrors(a)
            | Self::DiskFull(a)
            | Self::SlowDisk(a)
            | Self::NodeDown(a)
            | Self::DeadBattery(a)
            | Self::Year(a, _)
            | Self::Skewed(a, _)
            | Self::Drifting(a, _)
            | Self::HourBack(a)
            | Self::Frozen(a)
            | Self::StaleWal(a)
            | Self::Missing(a)
            | Self::Emptied(a)
            | Self::LockHeld(a)
            | Self::Bulk(a)
            | Self::LongReader(a)
            | Self::Unappliable(a)
            | Self::Upgraded(a)
            | Self::Meddled(a)
            | Self::Absence(a, _)
            | Self::Burned(a)
            | Self::Undone(a)
            | Self::PutBack(a, _)
            | Self::Cloned { site: a, .. } => vec![a],
        }
    }

    /// The first of them.
    pub fn site(self) -> Option<At> {
        self.sites().first().copied()
    }

    fn title(self) -> &'static str {
        match self {
            Self::BadLines => "all lines lose, double and reorder",
            Self::OneWay(..) => "packets pass one way only",
            Self::Partition(..) => "the line between is cut",
            Self::Isolated(_) => "no line",
            Self::Flapping(..) => "the line flaps during a large catch-up",
            Self::Satellite(..) => "30 kbit/s and 5 s there and back",
            Self::NewAddress(_) => "a new address",
            Self::SmallPackets(..) => "large packets vanish",
            Self::UdpBlocked(_) => "UDP is blocked",
            Self::Shifts(..) => "two are never on at once, a third carries",
            Self::Plug(_) => "the plug is pulled",
            Self::Fuse(..) => "the power fails at an I/O",
            Self::FuseIn(_, Step::Number, _) => "the power fails while a batch is numbered",
            Self::FuseIn(_, Step::Store, _) => "the power fails while a flight is stored",
            Self::FuseIn(_, Step::Apply, _) => "the power fails between apply and cursor",
            Self::FuseIn(_, Step::Merge, _) => "the power fails while a shared database is written",
            Self::AfterApply(_) => "the power fails after apply, before the acknowledgement",
            Self::CrashTwice(..) => "the power fails, and again while recovering",
            Self::Kill(_) => "the node is killed",
            Self::WrongReads(_) => "stale and misdirected reads",
            Self::SyncErrors(_) => "syncs report errors",
            Self::DiskErrors(_) => "reads and writes report errors",
            Self::DiskFull(_) => "the disk is full",
            Self::SlowDisk(_) => "every I/O takes 5 s",
            Self::NodeDown(_) => "the node is down, the application goes on and checkpoints",
            Self::DeadBattery(_) => "boots in 1970",
            Self::Year(_, 2099) => "the clock jumps to 2099",
            Self::Year(..) => "the clock says 2036",
            Self::Skewed(_, seconds) if seconds < 0 => "a slow clock",
            Self::Skewed(..) => "a fast clock",
            Self::Drifting(..) => "the clock drifts",
            Self::HourBack(_) => "the clock is set back one hour",
            Self::Frozen(_) => "the clock stands still",
            Self::Flipped { .. } => "a batch is damaged where it is carried",
            Self::StaleWal(_) => "an old copy beside the -wal of today",
            Self::Missing(_) => "the database file is gone",
            Self::Emptied(_) => "the database file is empty",
            Self::LockHeld(_) => "the application holds a write lock",
            Self::Bulk(_) => "one transaction of many rows",
            Self::LongReader(_) => "the application reads for an hour, then writes",
            Self::Unappliable(_) => "a batch that no mirror can take",
            Self::Upgraded(_) => "the application is upgraded, and moves its schema",
            Self::Meddled(_) => "a member publishes changes of tables that nobody shares",
            Self::Forged { .. } => "a batch is forged where it is carried",
            Self::Absence(..) => "the PC stays off",
            Self::Burned(_) => "fire",
            Self::Undone(_) => "a power cut undoes what was already sent",
            Self::PutBack(_, Old::Backup) => "the database is put back from an old backup",
            Self::PutBack(_, Old::Database) => "the database is put back, not the node's directory",
            Self::PutBack(_, Old::Directory) => {
                "the node's directory is put back, not the database"
            }
            Self::PutBack(_, Old::Machine) => "the whole PC is put back",
            Self::Cloned { clone_first: false, .. } => "a disk is cloned",
            Self::Cloned { clone_first: true, .. } => "a disk is cloned, and the clone heard first",
            Self::RottenBatch { .. } => "a batch is damaged in its origin's journal",
            Self::RottenBase { .. } => "a base is damaged at its origin",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())?;
        for number in self.numbers() {
            write!(f, " F{number}")?;
        }
        Ok(())
    }
}
