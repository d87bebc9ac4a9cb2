//! Faults that the application brings about: F43, F44, F64, long readers.

use super::{Active, Begun, Ended};
use crate::drive::{Checked, Clerk, Drive};
use crate::plan::{At, Fault};
use crate::workload::clerk::{Task, UPGRADES};
use crate::workload::{Operation, Outcome};

impl Drive<'_> {
    pub(super) async fn begin_application(&mut self, fault: Fault) -> Checked<Begun> {
        let Some(at) = fault.site() else { return Ok(Begun::NotNow) };
        if matches!(fault, Fault::Unappliable(_)) {
            return self.unappliable(at).await;
        }
        if !self.at_work(&[at]) {
            return Ok(Begun::NotNow);
        }
        if let Some(clerk) = self.shops[at.0].clerk.clone() {
            return Ok(self.begin_at_clerk(fault, at, &clerk));
        }
        let Some(till) = self.shops[at.0].till.clone() else { return Ok(Begun::NotNow) };
        let done = match fault {
            Fault::LockHeld(_) => {
                let _ = till.lock().hold_lock();
                till.lock().holds_lock()
            }
            Fault::LongReader(_) => till.lock().begin_thinking() == Outcome::Nothing,
            Fault::Bulk(_) => {
                return Ok(if self.bulk(at) { Begun::Over } else { Begun::NotNow });
            }
            _ => false,
        };
        self.shops[at.0].rest(done);
        Ok(if done { Begun::Going } else { Begun::NotNow })
    }

    /// The same, where all write one database.
    fn begin_at_clerk(&mut self, fault: Fault, at: At, clerk: &Clerk) -> Begun {
        let done = match fault {
            Fault::LockHeld(_) => clerk.lock().hold_lock(),
            Fault::LongReader(_) => clerk.lock().think(),
            Fault::Bulk(_) => match self.bulk(at) {
                true => return Begun::Over,
                false => return Begun::NotNow,
            },
            Fault::Upgraded(_) => return self.upgrade(at, clerk),
            _ => false,
        };
        self.shops[at.0].rest(done);
        if done { Begun::Going } else { Begun::NotNow }
    }

    /// F36, F37, F39: to the version after the newest that anybody has, if there is one.
    fn upgrade(&mut self, at: At, clerk: &Clerk) -> Begun {
        let all = self.shops.iter().filter(|shop| !shop.burned);
        let newest = all.filter_map(|shop| shop.clerk.as_ref()?.lock().version()).max();
        let most = UPGRADES.len().min(newest.unwrap_or(0) + 1);
        let Some(mut before) = clerk.lock().version() else { return Begun::NotNow };
        while before < most {
            let Some(after) = clerk.lock().upgrade(most) else { return Begun::NotNow };
            self.tell(format!("{}'s application: {}", self.name(at), UPGRADES[before]));
            self.note_fired(if UPGRADES[before].contains(" ADD ") { 36 } else { 39 });
            before = after;
        }
        Begun::Over
    }

    /// One transaction of many rows; whether it is committed.
    pub(super) fn bulk(&mut self, at: At) -> bool {
        if let Some(clerk) = &self.shops[at.0].clerk {
            return clerk.lock().perform(Task::Bulk);
        }
        let till = self.shops[at.0].till.clone();
        till.is_some_and(|till| till.perform(Operation::BulkImport))
    }

    pub(super) async fn end_application(&mut self, active: &Active) -> Checked<Ended> {
        let Some(at) = active.event.fault.site() else { return Ok(Ended::Fired) };
        if let Some(clerk) = self.shops[at.0].clerk.clone() {
            let done = match active.event.fault {
                Fault::LockHeld(_) => clerk.lock().let_go(),
                Fault::LongReader(_) => clerk.lock().conclude_thinking(),
                _ => return Ok(Ended::Fired),
            };
            self.shops[at.0].rest(false);
            self.settle_accounts(at)?;
            return Ok(if done { Ended::Fired } else { Ended::Idle });
        }
        let Some(till) = self.shops[at.0].till.clone() else { return Ok(Ended::Idle) };
        let done = match active.event.fault {
            Fault::Bulk(_) | Fault::Unappliable(_) => return Ok(Ended::Fired),
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
