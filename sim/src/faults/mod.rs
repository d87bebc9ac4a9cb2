//! Bringing faults about, ending them, and telling whether they really happened. A fault that was
//! asked for is tried until it has; one that never does fails the run.

mod application;
mod clocks;
mod disks;
mod files;
mod lines;
mod power;
mod scripts;

use crate::chronicle::Span;
use crate::drive::{Checked, Drive, Item};
use crate::network::Counts;
use crate::plan::{At, Event, Fault};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// What a begin came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It goes on until its time is over.
    Going,
    /// It happened and is over.
    Over,
    /// It can't begin now: a site it needs is off, for instance.
    NotNow,
}

/// What an end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It happened.
    Fired,
    /// There was nothing to happen to: to be tried again.
    Idle,
    /// It goes on a little.
    NotYet,
}

/// A fault that is going on, and how things were when it began.
#[derive(Clone, Debug)]
pub struct Active {
    /// Which.
    pub event: Event,
    /// What the network had counted.
    pub counts: Counts,
    /// Bytes that its first site had sent its second.
    pub sent: u64,
    /// What the disk of its first site had counted.
    pub struck: u64,
    /// The newest batch of its first site.
    pub sequence: u64,
    /// The commits of its first site.
    pub commits: u64,
    /// Whether the power failed where it should.
    pub fell: bool,
    /// Whether it is to fail a second time.
    pub again: bool,
    /// How often its end was put off.
    pub put_off: u32,
}

impl Drive<'_> {
    /// Whether the fault of that number has fired.
    pub(crate) fn is_done(&self, number: usize) -> bool {
        self.done.contains(&number)
    }

    /// The fault at that place of the plan begins, if it can.
    pub(crate) async fn begin_fault(&mut self, place: usize) -> Checked {
        let event = self.plan.events[place];
        let busy = event.fault.sites().iter().any(|at| {
            let shop = &self.shops[at.0];
            shop.held || self.world.is_fallen(shop.name)
        });
        let apart = event.fault.sites().iter().any(|at| self.shops[at.0].burned);
        if apart {
            // Nothing happens any more to what burned down.
            self.drop_fault(place);
            return Ok(());
        }
        let active = Active {
            event,
            counts: self.world.counts(),
            sent: self.first_sent(event.fault),
            struck: self.first_struck(event.fault),
            sequence: self.first_sequence(event.fault).await,
            commits: event.fault.sites().first().map_or(0, |at| self.shops[at.0].commits()),
            fell: false,
            again: false,
            put_off: 0,
        };
        self.active.insert(place, active);
        let begun = match busy {
            true => Begun::NotNow,
            false => self.bring_about(event.fault).await?,
        };
        if begun != Begun::NotNow {
            let now = self.now();
            let span = Span {
                number: event.number,
                what: event.fault.to_string(),
                sites: event.fault.sites().into_iter().map(|at| at.0).collect(),
                from: now,
                until: None,
            };
            self.chronicle.spans.push(span);
        }
        match begun {
            Begun::Going => {
                self.tell(format!("fault {}: {}", event.number, self.plan.tell(event.fault)));
                self.put_in(event.fault.lasts(), Item::End(place));
            }
            Begun::Over => self.finish(place),
            Begun::NotNow => {
                self.active.remove(&place);
                self.put_in(7 * MINUTE, Item::Begin(place));
            }
        }
        Ok(())
    }

    /// A fault's time is over.
    pub(crate) async fn end_fault(&mut self, place: usize) -> Checked {
        let Some(active) = self.active.get(&place).cloned() else { return Ok(()) };
        if active.event.fault.sites().iter().any(|at| self.shops[at.0].burned) {
            // What it happened to is no more.
            self.drop_fault(place);
            return Ok(());
        }
        let ended = self.bring_to_an_end(&active, place).await?;
        match ended {
            Ended::Fired => {
                self.tell(format!("fault {} is over", active.event.number));
                self.finish(place);
            }
            Ended::Idle => {
                self.active.remove(&place);
                let now = self.now();
                self.chronicle.end_span(active.event.number, now);
                self.put_in(20 * MINUTE, Item::Begin(place));
            }
            Ended::NotYet => {
                if let Some(active) = self.active.get_mut(&place) {
                    active.put_off += 1;
                }
                self.put_in(3 * MINUTE, Item::End(place));
            }
        }
        Ok(())
    }

    /// A fault is neither waited for nor counted any more.
    fn drop_fault(&mut self, place: usize) {
        self.active.remove(&place);
        self.done.insert(self.plan.events[place].number);
        self.waiting -= 1;
    }

    fn finish(&mut self, place: usize) {
        let Some(active) = self.active.remove(&place) else { return };
        for number in active.event.fault.numbers() {
            self.note_fired(*number);
        }
        let now = self.now();
        self.chronicle.end_span(active.event.number, now);
        self.done.insert(active.event.number);
        self.waiting -= 1;
    }

    async fn bring_about(&mut self, fault: Fault) -> Checked<Begun> {
        use Fault as F;
        match fault {
            F::BadLines
            | F::OneWay(..)
            | F::Partition(..)
            | F::Isolated(_)
            | F::Flapping(..)
            | F::Satellite(..)
            | F::NewAddress(_)
            | F::SmallPackets(..)
            | F::UdpBlocked(_) => Ok(self.begin_line(fault)),
            F::Plug(at) => self.begin_plug(at).await,
            F::Kill(at) => self.begin_kill(at).await,
            F::Fuse(..) | F::FuseIn(..) | F::AfterApply(_) | F::CrashTwice(..) => {
                Ok(self.begin_fuse(fault))
            }
            F::NodeDown(at) => self.begin_node_down(at).await,
            F::WrongReads(_)
            | F::SyncErrors(_)
            | F::DiskErrors(_)
            | F::DiskFull(_)
            | F::SlowDisk(_) => self.begin_disk(fault).await,
            F::DeadBattery(_)
            | F::Year(..)
            | F::Skewed(..)
            | F::Drifting(..)
            | F::HourBack(_)
            | F::Frozen(_) => self.begin_clock(fault).await,
            F::LockHeld(_) | F::Bulk(_) | F::LongReader(_) => Ok(self.begin_application(fault)),
            F::Unappliable(at) => self.unappliable(at).await,
            F::StaleWal(at) | F::Missing(at) | F::Emptied(at) => self.lost_file(fault, at).await,
            F::Shifts(first, second, carrier) => self.shifts(first, second, carrier).await,
            F::Flipped { carrier, origin, asker } => self.flipped(carrier, origin, asker).await,
            F::Absence(at, _) => self.begin_absence(at).await,
            F::Burned(at) => self.burned(at).await,
        }
    }

    async fn bring_to_an_end(&mut self, active: &Active, place: usize) -> Checked<Ended> {
        use Fault as F;
        match active.event.fault {
            F::BadLines
            | F::OneWay(..)
            | F::Partition(..)
            | F::Isolated(_)
            | F::Flapping(..)
            | F::Satellite(..)
            | F::NewAddress(_)
            | F::SmallPackets(..)
            | F::UdpBlocked(_) => self.end_line(active).await,
            F::Fuse(at, _) | F::FuseIn(at, ..) | F::AfterApply(at) | F::CrashTwice(at, _) => {
                self.end_fuse(active, at, place).await
            }
            F::NodeDown(at) => self.end_node_down(active, at).await,
            F::WrongReads(at)
            | F::SyncErrors(at)
            | F::DiskErrors(at)
            | F::DiskFull(at)
            | F::SlowDisk(at) => self.end_disk(active, at).await,
            F::DeadBattery(at)
            | F::Year(at, _)
            | F::Skewed(at, _)
            | F::Drifting(at, _)
            | F::HourBack(at)
            | F::Frozen(at) => self.end_clock(active, at).await,
            F::LockHeld(_) | F::LongReader(_) => self.end_application(active).await,
            F::Absence(at, _) => self.end_absence(at).await,
            F::Plug(_)
            | F::Kill(_)
            | F::Bulk(_)
            | F::Unappliable(_)
            | F::StaleWal(_)
            | F::Missing(_)
            | F::Emptied(_)
            | F::Shifts(..)
            | F::Flipped { .. }
            | F::Burned(_) => Ok(Ended::Fired),
        }
    }

    /// Something that goes on needs its next move.
    pub(crate) async fn continue_fault(&mut self, place: usize) -> Checked {
        if self.active.contains_key(&place) {
            self.rearm(place);
        }
        Ok(())
    }

    /// Whether PC and node of all these run, with the shop open and the database under sync.
    pub(crate) fn at_work(&self, sites: &[At]) -> bool {
        sites.iter().all(|at| {
            let shop = &self.shops[at.0];
            shop.open && shop.is_on() && shop.attached && !self.world.is_fallen(shop.name)
        })
    }

    fn first_struck(&self, fault: Fault) -> u64 {
        let first = fault.sites().first().copied();
        first.map_or(0, |at| disks::struck(fault, &self.world.disk(self.name(at)).struck()))
    }

    fn first_sent(&self, fault: Fault) -> u64 {
        match fault.sites()[..] {
            [a, b, ..] => self.world.counts_from(self.name(a), self.name(b)).bytes,
            _ => 0,
        }
    }

    async fn first_sequence(&mut self, fault: Fault) -> u64 {
        let Some(at) = fault.sites().first().copied() else { return 0 };
        if !self.shops[at.0].is_on() || self.world.is_fallen(self.name(at)) {
            return 0;
        }
        self.own_sequence(at).await
    }

    /// The newest batch of a running site's own database.
    pub(crate) async fn own_sequence(&mut self, at: At) -> u64 {
        let name = self.name(at);
        let Some(status) = self.world.try_status(name).await else { return 0 };
        let own = status.databases.iter().find(|database| database.site.as_deref() == Some(name));
        own.map_or(0, |database| database.sequence)
    }
}
