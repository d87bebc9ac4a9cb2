//! Faults of a computer's clock: F21 to F28.

use super::{Active, Begun, Ended};
use crate::clock::start_of_year;
use crate::drive::{Checked, Drive};
use crate::plan::{At, Fault};

impl Drive<'_> {
    pub(super) async fn begin_clock(&mut self, fault: Fault) -> Checked<Begun> {
        let Some(at) = fault.site() else { return Ok(Begun::NotNow) };
        if !self.at_work(&[at]) {
            return Ok(Begun::NotNow);
        }
        let name = self.name(at);
        match fault {
            Fault::DeadBattery(_) => {
                self.world.take_battery(name);
                self.plug(at).await?;
                self.start(at).await?;
            }
            Fault::Year(_, year) => self.world.set_clock(name, start_of_year(i64::from(year))),
            Fault::Skewed(_, seconds) => self.world.step_clock(name, seconds * 1000),
            Fault::HourBack(_) => self.world.step_clock(name, -3_600_000),
            Fault::Drifting(_, ppm) => self.world.drift_clock(name, ppm),
            Fault::Frozen(_) => self.world.freeze_clock(name),
            _ => return Ok(Begun::NotNow),
        }
        self.checker.clock_is_wrong(at);
        self.in_ledger(crate::oracle::Ledger::clock_is_wrong);
        Ok(Begun::Going)
    }

    /// It fired if something was stamped under it.
    pub(super) async fn end_clock(&mut self, active: &Active) -> Checked<Ended> {
        let Some(at) = active.event.fault.site() else { return Ok(Ended::Fired) };
        let name = self.name(at);
        if !self.shops[at.0].is_on() || self.world.is_fallen(name) {
            return Ok(Ended::NotYet);
        }
        let stamped = self.own_sequence(at).await > active.sequence;
        if !stamped && active.put_off < 20 {
            return Ok(Ended::NotYet);
        }
        self.mend_clock(at);
        Ok(if stamped { Ended::Fired } else { Ended::Idle })
    }

    /// Somebody sets it right.
    pub(crate) fn mend_clock(&self, at: At) {
        let name = self.name(at);
        self.world.thaw_clock(name);
        self.world.drift_clock(name, 0);
        self.world.replace_battery(name);
        self.world.set_clock_error(name, 0);
    }
}
