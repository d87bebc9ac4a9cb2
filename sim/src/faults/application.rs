//! Faults that the application brings about: F43, F44, F64, long readers.

use super::{Active, Begun, Ended};
use crate::drive::{Checked, Drive};
use crate::plan::{At, Fault};

/// F44, in small.
const MANY: u32 = 6000;

impl Drive<'_> {
    pub(super) fn begin_application(&mut self, fault: Fault) -> Begun {
        let Some(at) = fault.sites().first().copied() else { return Begun::NotNow };
        if !self.at_work(&[at]) {
            return Begun::NotNow;
        }
        let Some(till) = self.shops[at.0].till.clone() else { return Begun::NotNow };
        let done = match fault {
            Fault::LockHeld(_) => till.lock().hold_lock(),
            Fault::LongReader(_) => till.lock().begin_long_read(),
            Fault::Bulk(_) => return if self.bulk(at, MANY) { Begun::Over } else { Begun::NotNow },
            _ => false,
        };
        if done { Begun::Going } else { Begun::NotNow }
    }

    /// One transaction of so many rows; whether it is committed.
    pub(super) fn bulk(&mut self, at: At, rows: u32) -> bool {
        let Some(till) = self.shops[at.0].till.clone() else { return false };
        till.lock().bulk_import(rows)
    }

    pub(super) async fn end_application(&mut self, active: &Active) -> Checked<Ended> {
        let Some(at) = active.event.fault.sites().first().copied() else {
            return Ok(Ended::Fired);
        };
        let Some(till) = self.shops[at.0].till.clone() else { return Ok(Ended::Idle) };
        let done = match active.event.fault {
            Fault::LockHeld(_) => till.lock().let_go(true),
            Fault::LongReader(_) => till.lock().end_long_read_with_a_write(),
            _ => false,
        };
        self.settle_accounts(at)?;
        // It ended before by a loss of power or a closed shop, and is begun again.
        Ok(if done { Ended::Fired } else { Ended::Idle })
    }
}
