//! Faults of the power, and of the node's own process: F9 to F12, F16, F18, plugs and kills.

use super::{Active, Begun, Ended};
use crate::chronicle::Condition;
use crate::disk::Kind;
use crate::drive::{Checked, Drive, Item};
use crate::plan::{At, Fault, Step};
use crate::workload::Operation;
use std::time::Duration;

/// How often a fuse is set anew until it falls in the right step; then the plug is pulled.
const ATTEMPTS: u32 = 20;
/// How often a fuse is set anew meanwhile.
const REARM: Duration = Duration::from_secs(30);

impl Drive<'_> {
    pub(super) async fn begin_power(&mut self, fault: Fault) -> Checked<Begun> {
        match fault {
            Fault::Plug(at) => self.begin_plug(at).await,
            Fault::Kill(at) => self.begin_kill(at).await,
            Fault::NodeDown(at) => self.begin_node_down(at).await,
            fault => Ok(self.begin_fuse(fault)),
        }
    }

    pub(super) async fn end_power(&mut self, active: &Active, place: usize) -> Checked<Ended> {
        match active.event.fault {
            Fault::Plug(_) | Fault::Kill(_) => Ok(Ended::Fired),
            Fault::NodeDown(at) => self.end_node_down(active, at).await,
            fault => match fault.site() {
                Some(at) => self.end_fuse(active, at, place).await,
                None => Ok(Ended::Fired),
            },
        }
    }

    async fn begin_plug(&mut self, at: At) -> Checked<Begun> {
        if self.shops[at.0].condition == Condition::Off || self.world.is_fallen(self.name(at)) {
            return Ok(Begun::NotNow);
        }
        self.plug(at).await?;
        self.boot_soon(at);
        Ok(Begun::Over)
    }

    async fn begin_kill(&mut self, at: At) -> Checked<Begun> {
        if !self.shops[at.0].is_on() || self.world.is_fallen(self.name(at)) {
            return Ok(Begun::NotNow);
        }
        self.kill_node(at).await?;
        self.boot_soon(at);
        Ok(Begun::Over)
    }

    fn begin_fuse(&mut self, fault: Fault) -> Begun {
        if !self.at_work(&fault.sites()) {
            return Begun::NotNow;
        }
        self.arm(fault);
        let place =
            self.active.keys().copied().find(|place| self.plan.events[*place].fault == fault);
        if let Some(place) = place {
            self.put_in(REARM, Item::Continue(place));
        }
        Begun::Going
    }

    fn arm(&mut self, fault: Fault) {
        match fault {
            Fault::Fuse(at, operations) | Fault::CrashTwice(at, operations) => {
                self.world.set_fuse(self.name(at), operations);
            }
            Fault::FuseIn(at, step, operations) => {
                self.world.set_fuse_in(self.name(at), step.name(), operations);
            }
            Fault::AfterApply(at) => {
                let step = if self.plan.life.shared { Step::Merge } else { Step::Apply };
                self.world.strike_after(self.name(at), step.name());
            }
            _ => {}
        }
    }

    /// A fuse that has not fallen, since its step was over before, is set again.
    pub(super) fn rearm(&mut self, place: usize) {
        let Some(active) = self.active.get(&place) else { return };
        let fault = active.event.fault;
        if active.fell || matches!(fault, Fault::Fuse(..) | Fault::CrashTwice(..)) {
            return;
        }
        if self.at_work(&fault.sites()) {
            self.arm(fault);
        }
        self.put_in(REARM, Item::Continue(place));
    }

    /// The power has failed at a site, in that step of its node.
    pub(crate) fn note_fallen(&mut self, at: At, step: Option<&'static str>) {
        for active in self.active.values_mut() {
            active.fell |= match active.event.fault {
                Fault::Fuse(site, _) => site == at,
                Fault::FuseIn(site, wanted, _) => site == at && step == Some(wanted.name()),
                Fault::AfterApply(site) => site == at,
                Fault::CrashTwice(site, _) => site == at && active.again,
                _ => false,
            };
        }
    }

    async fn end_fuse(&mut self, active: &Active, at: At, place: usize) -> Checked<Ended> {
        if active.fell {
            return Ok(Ended::Fired);
        }
        if let Fault::CrashTwice(_, operations) = active.event.fault
            && self.shops[at.0].condition == Condition::Off
        {
            return self.crash_again(at, operations, place).await;
        }
        if active.put_off < ATTEMPTS {
            return Ok(Ended::NotYet);
        }
        self.world.disarm(self.name(at));
        Ok(Ended::Idle)
    }

    /// F18: the power fails again while the node recovers: within its first operations, which SQLite
    /// and the catch-up make.
    async fn crash_again(&mut self, at: At, operations: u64, place: usize) -> Checked<Ended> {
        self.agenda.strike_out(|item| *item == Item::Boot(at));
        if let Some(active) = self.active.get_mut(&place) {
            active.again = true;
        }
        self.world.set_fuse(self.name(at), operations);
        self.start(at).await?;
        Ok(Ended::NotYet)
    }

    /// What a power cut took of what was not synced: F12 is that of the journal.
    pub(crate) fn note_torn(&mut self, at: At) {
        let struck = self.world.disk(self.name(at)).struck();
        let damage = struck.damage.get(&Kind::Journal).copied().unwrap_or_default();
        let torn = damage.lost + damage.torn;
        if std::mem::replace(&mut self.shops[at.0].torn, torn) < torn {
            self.note_fired(12);
        }
    }

    async fn begin_node_down(&mut self, at: At) -> Checked<Begun> {
        if !self.at_work(&[at]) {
            return Ok(Begun::NotNow);
        }
        self.shops[at.0].held = true;
        self.shops[at.0].unseen = 0;
        self.stop_node(at).await?;
        Ok(Begun::Going)
    }

    async fn end_node_down(&mut self, active: &Active, at: At) -> Checked<Ended> {
        let shop = &self.shops[at.0];
        if shop.unseen == 0 && shop.open && active.put_off < 20 {
            return Ok(Ended::NotYet);
        }
        let written = shop.unseen > 0;
        if let Some(till) = shop.till.clone() {
            till.perform(Operation::Checkpoint);
        }
        if let Some(clerk) = &shop.clerk {
            clerk.lock().checkpoint();
        }
        self.shops[at.0].held = false;
        self.start(at).await?;
        Ok(if written { Ended::Fired } else { Ended::Idle })
    }

    pub(super) async fn begin_absence(&mut self, at: At) -> Checked<Begun> {
        if !self.shops[at.0].is_on() || self.world.is_fallen(self.name(at)) {
            return Ok(Begun::NotNow);
        }
        self.shut_down(at).await?;
        self.shops[at.0].held = true;
        Ok(Begun::Going)
    }

    pub(super) async fn end_absence(&mut self, at: At) -> Checked<Ended> {
        self.shops[at.0].held = false;
        if self.shops[at.0].open {
            self.start(at).await?;
        }
        Ok(Ended::Fired)
    }

    /// Fire: what was called safe at that moment must be found elsewhere for ever.
    pub(super) async fn burned(&mut self, at: At) -> Checked<Begun> {
        let (name, shop) = (self.name(at), &self.shops[at.0]);
        if shop.attached && shop.is_on() && !self.world.is_fallen(name) {
            self.look().await?;
        }
        self.tell(format!("{name} burns down"));
        self.give_up(at).await?;
        Ok(Begun::Over)
    }

    /// A site is no more: it does not come back.
    pub(super) async fn give_up(&mut self, at: At) -> Checked {
        // What it holds now is the last that can be known of it.
        for origin in self.places() {
            if let Some(held) = self.held(at, origin) {
                self.checker.held_last(at, origin, held);
            }
        }
        // Nothing more is looked at there: its disk is gone.
        self.shops[at.0].burned = true;
        self.shops[at.0].set_open(false);
        self.checker.burned(at);
        if self.shops[at.0].condition != Condition::Off {
            self.world.power_off(self.name(at)).await;
            self.set_condition(at, Condition::Off);
        }
        Ok(())
    }
}
