//! What is due when.

use crate::plan::At;
use std::collections::BTreeMap;
use std::time::Duration;

/// Something due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A shop opens on that day.
    Open(At, u32),
    /// Its application does something.
    Act(At),
    /// It closes on that day.
    Close(At, u32),
    /// Its PC is switched on, and its node starts.
    Boot(At),
    /// Its database is put under sync.
    Attach(At),
    /// The fault at that place of the plan begins.
    Begin(usize),
    /// A fault that is going on needs something: the line flaps, for instance.
    Continue(usize),
    /// It ends.
    End(usize),
    /// The checker looks.
    Look,
}

/// Items by time, then in the order in which they were put down.
#[derive(Debug, Default)]
pub struct Agenda {
    items: BTreeMap<(Duration, u64), Item>,
    next: u64,
}

impl Agenda {
    /// Puts something down.
    pub fn put(&mut self, at: Duration, item: Item) {
        self.next += 1;
        self.items.insert((at, self.next), item);
    }

    /// When the next is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.items.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next.
    pub fn take(&mut self) -> Option<Item> {
        self.items.pop_first().map(|(_, item)| item)
    }

    /// Strikes out what is no longer wanted.
    pub fn strike_out(&mut self, unwanted: impl Fn(&Item) -> bool) {
        self.items.retain(|_, item| !unwanted(item));
    }
}
