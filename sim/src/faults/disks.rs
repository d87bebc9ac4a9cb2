//! Faults of a disk that is on: F14, F15, F62, F63, errors of reads and writes.

use super::{Active, Begun, Ended};
use crate::chronicle::Condition;
use crate::disk::{Faults, Kind, Struck};
use crate::drive::{Checked, Drive};
use crate::plan::{At, Fault};
use std::time::Duration;

/// Of a million operations, how many go wrong.
const SOME: u64 = 15_000;
/// Of a million syncs.
const MANY: u64 = 200_000;
/// In which a node finds out that something was written back wrongly.
const NOTICES: Duration = Duration::from_secs(5 * 60);
/// F63.
const SLOW: Duration = Duration::from_secs(5);
/// F62: bytes left.
const LEFT: u64 = 8 << 10;

impl Drive<'_> {
    pub(super) async fn begin_disk(&mut self, fault: Fault) -> Checked<Begun> {
        let Some(at) = fault.site() else { return Ok(Begun::NotNow) };
        if !self.at_work(&[at]) {
            return Ok(Begun::NotNow);
        }
        if matches!(fault, Fault::WrongReads(_)) {
            // A node that has just begun reads most.
            self.kill_node(at).await?;
        }
        // The node's own files; a full disk is full for all.
        let none = Faults { only: Some(Kind::Journal), ..Faults::default() };
        let disk = self.world.disk(self.name(at));
        match fault {
            Fault::WrongReads(_) => {
                disk.set_faults(Faults { stale: SOME, misdirected: SOME, ..none })
            }
            Fault::SyncErrors(_) => disk.set_faults(Faults { sync: MANY, ..none }),
            Fault::DiskErrors(_) => disk.set_faults(Faults { read: SOME, write: SOME, ..none }),
            Fault::SlowDisk(_) => disk.set_faults(Faults { slow: SLOW, ..none }),
            Fault::DiskFull(_) => {
                disk.set_free(Some(LEFT));
                self.disk_is_full(at, true);
            }
            _ => return Ok(Begun::NotNow),
        }
        if matches!(fault, Fault::WrongReads(_)) {
            self.start(at).await?;
        }
        Ok(Begun::Going)
    }

    pub(super) async fn end_disk(&mut self, active: &Active) -> Checked<Ended> {
        let Some(at) = active.event.fault.site() else { return Ok(Ended::Fired) };
        let struck = struck(active.event.fault, &self.world.disk(self.name(at)).struck());
        let fired = struck > active.struck;
        if !fired && active.put_off < 10 {
            return Ok(Ended::NotYet);
        }
        self.heal_disk(at);
        if matches!(active.event.fault, Fault::WrongReads(_)) && !self.look_what_is_left(at).await?
        {
            return Ok(Ended::NotYet);
        }
        Ok(if fired { Ended::Fired } else { Ended::Idle })
    }

    /// F14: what was read wrongly may have been written back. A site whose journal is no longer
    /// what it was, or whose node says that it can't go on, is given up, as one whose disk is
    /// lost: nothing that others count on may be lost by that. Returns whether that is known; a
    /// node on a PC that is off says nothing.
    async fn look_what_is_left(&mut self, at: At) -> Checked<bool> {
        let name = self.name(at);
        let on = !self.world.is_fallen(name) && self.shops[at.0].condition != Condition::Off;
        if on && self.shops[at.0].is_on() {
            self.world.kill(name).await;
            self.set_condition(at, Condition::NodeDown);
        }
        // Whole, and shorter than it was: SQLite ends the -wal at the first frame that it reads
        // wrongly, and writes over what stood behind. Where membership was in that, the node has
        // nobody left who could tell it.
        let whole = self.journal_is_whole(at).and_then(|()| self.holds_what_others_count_on(at));
        if let Err(what) = whole {
            self.tell(format!("{name}'s journal is spoiled: {what}"));
            self.checker.rotten(at, at);
            self.note_standing().await;
            self.give_up(at).await?;
            return Ok(true);
        }
        if !on {
            return Ok(false);
        }
        self.start(at).await?;
        let starts = self.shops[at.0].is_on();
        let told = self
            .pass_while(NOTICES, async |drive: &mut Self| {
                let status = drive.world.try_status(drive.name(at)).await;
                status.is_some_and(|status| !status.alarms.is_empty())
            })
            .await?;
        if !starts || told {
            self.tell(format!("{name}'s node is at odds with its disk, and says so"));
            self.checker.rotten(at, at);
            self.note_standing().await;
            self.give_up(at).await?;
        }
        Ok(true)
    }

    /// A good disk again, with room on it.
    pub(crate) fn heal_disk(&mut self, at: At) {
        let disk = self.world.disk(self.name(at));
        disk.set_faults(Faults::default());
        disk.set_free(None);
        self.disk_is_full(at, false);
    }

    fn disk_is_full(&mut self, at: At, full: bool) {
        self.shops[at.0].disk_full = full;
        self.note_in_ledger(at);
        if let Some(till) = &self.shops[at.0].till {
            till.disk_is_full(full);
        }
        if let Some(clerk) = &self.shops[at.0].clerk {
            clerk.disk_is_full(full);
        }
    }
}

/// How often a disk did what the fault asks of it.
pub(super) fn struck(fault: Fault, struck: &Struck) -> u64 {
    match fault {
        Fault::WrongReads(_) => struck.stale + struck.misdirected,
        Fault::SyncErrors(_) => struck.sync,
        Fault::DiskErrors(_) => struck.read + struck.write,
        Fault::SlowDisk(_) => struck.slow,
        Fault::DiskFull(_) => struck.full,
        _ => 0,
    }
}
