//! Faults of a disk that is on: F14, F15, F62, F63, errors of reads and writes.

use super::{Active, Begun, Ended};
use crate::disk::{Ills, Part};
use crate::drive::{Checked, Drive};
use crate::plan::Fault;
use std::time::Duration;

/// Of ten thousand operations, how many go wrong.
const SOME: u64 = 150;
/// F63.
const SLOW: Duration = Duration::from_secs(5);

impl Drive<'_> {
    pub(super) fn begin_disk(&mut self, fault: Fault) -> Begun {
        let Some(at) = fault.sites().first().copied() else { return Begun::NotNow };
        if !self.at_work(&[at]) {
            return Begun::NotNow;
        }
        let ills = match fault {
            Fault::WrongReads(_) => {
                Ills { stale_reads: SOME, misdirected_reads: SOME, ..Ills::default() }
            }
            Fault::SyncErrors(_) => Ills { sync_errors: 2000, ..Ills::default() },
            Fault::DiskErrors(_) => {
                Ills { read_errors: SOME, write_errors: SOME, ..Ills::default() }
            }
            Fault::DiskFull(_) => Ills { full: true, ..Ills::default() },
            Fault::SlowDisk(_) => Ills { slow: SLOW, ..Ills::default() },
            _ => return Begun::NotNow,
        };
        // The node's own files: its directory lies on another disk than the application's.
        self.world.disk(self.name(at)).set_ills(Part::Node, ills);
        Begun::Going
    }

    pub(super) async fn end_disk(&mut self, active: &Active) -> Checked<Ended> {
        let Some(at) = active.event.fault.sites().first().copied() else {
            return Ok(Ended::Fired);
        };
        let name = self.name(at);
        let struck = self.world.disk(name).struck().total() > active.struck;
        if !struck && active.put_off < 10 {
            return Ok(Ended::NotYet);
        }
        self.world.disk(name).set_ills(Part::Node, Ills::default());
        Ok(if struck { Ended::Fired } else { Ended::Idle })
    }
}
