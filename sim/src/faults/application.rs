//! Faults that the application brings about: F43, F44, F64, long readers.

use super::{Active, Begun, Ended};
use crate::drive::{Checked, Drive};
use crate::plan::{At, Fault};
use crate::workload::{Operation, Outcome};

impl Drive<'_> {
    pub(super) fn begin_application(&mut self, fault: Fault) -> Begun {
        let Some(at) = fault.sites().first().copied() else { return Begun::NotNow };
        if !self.at_work(&[at]) {
            return Begun::NotNow;
        }
        let Some(till) = self.shops[at.0].till.clone() else { return Begun::NotNow };
        let done = match fault {
            Fault::LockHeld(_) => {
                let _ = till.lock().hold_lock();
                till.lock().holds_lock()
            }
            Fault::LongReader(_) => till.lock().begin_thinking() == Outcome::Nothing,
            Fault::Bulk(_) => return if self.bulk(at) { Begun::Over } else { Begun::NotNow },
            _ => false,
        };
        self.shops[at.0].rest(done);
        if done { Begun::Going } else { Begun::NotNow }
    }

    /// One transaction of many rows; whether it is committed.
    pub(super) fn bulk(&mut self, at: At) -> bool {
        let till = self.shops[at.0].till.clone();
        till.is_some_and(|till| till.perform(Operation::BulkImport))
    }

    pub(super) async fn end_application(&mut self, active: &Active) -> Checked<Ended> {
        let Some(at) = active.event.fault.sites().first().copied() else {
            return Ok(Ended::Fired);
        };
        let Some(till) = self.shops[at.0].till.clone() else { return Ok(Ended::Idle) };
        let done = match active.event.fault {
            Fault::LockHeld(_) => matches!(till.lock().let_go(true), Outcome::Committed(_)),
            // Its own other programs may have written meanwhile: then it gives up, as it would alone.
            Fault::LongReader(_) => till.lock().finish_thinking() != Outcome::Nothing,
            _ => false,
        };
        self.shops[at.0].rest(false);
        self.settle_accounts(at)?;
        // It ended before by a loss of power or a closed shop, and is begun again.
        Ok(if done { Ended::Fired } else { Ended::Idle })
    }
}
