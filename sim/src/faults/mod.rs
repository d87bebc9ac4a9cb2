//! Bringing faults about, ending them, and telling whether they really happened. A fault that was
//! asked for is tried until it has; one that never does fails the run.

mod application;
mod clocks;
mod clones;
mod disks;
mod files;
mod going_back;
mod lines;
mod meddling;
mod power;
mod rot;
mod scripts;
mod telling;

pub(crate) use telling::{is_of_fork, stands_for_good};

use crate::chronicle::Span;
use crate::drive::{Checked, Drive, Item, own};
use crate::network::Counts;
use crate::plan::{At, Class, Event, Fault};
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
        // One that had to wait would end with the other.
        let busy = busy || self.active.values().any(|active| active.event.fault.ends(event.fault));
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
            commits: event.fault.site().map_or(0, |at| self.shops[at.0].commits()),
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
        match fault.class() {
            Class::Network => Ok(self.begin_line(fault)),
            Class::Power => self.begin_power(fault).await,
            Class::Disk => self.begin_disk(fault).await,
            Class::Clock => self.begin_clock(fault).await,
            Class::File => self.begin_file(fault).await,
            Class::Application => self.begin_application(fault).await,
            Class::Script => self.begin_script(fault).await,
        }
    }

    /// What is over at once fires when it begins.
    async fn bring_to_an_end(&mut self, active: &Active, place: usize) -> Checked<Ended> {
        match active.event.fault.class() {
            Class::Network => self.end_line(active).await,
            Class::Power => self.end_power(active, place).await,
            Class::Disk => self.end_disk(active).await,
            Class::Clock => self.end_clock(active).await,
            Class::Application => self.end_application(active).await,
            Class::Script => self.end_script(active).await,
            Class::File => Ok(Ended::Fired),
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
        fault.site().map_or(0, |at| disks::struck(fault, &self.world.disk(self.name(at)).struck()))
    }

    fn first_sent(&self, fault: Fault) -> u64 {
        match fault.sites()[..] {
            [a, b, ..] => self.world.counts_from(self.name(a), self.name(b)).bytes,
            _ => 0,
        }
    }

    async fn first_sequence(&mut self, fault: Fault) -> u64 {
        let Some(at) = fault.site() else { return 0 };
        if !self.shops[at.0].is_on() || self.world.is_fallen(self.name(at)) {
            return 0;
        }
        self.own_sequence(at).await
    }

    /// The newest batch of a running site's own database.
    pub(crate) async fn own_sequence(&mut self, at: At) -> u64 {
        let name = self.name(at);
        let Some(status) = self.world.try_status(name).await else { return 0 };
        own(&status, name).map_or(0, |database| database.sequence)
    }
}
