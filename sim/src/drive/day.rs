//! The days: opening, working, closing, nights, and whatever is due in between.

use super::shop::{DATABASE, FILE, Till};
use super::{Checked, Drive, Item};
use crate::chronicle::Condition;
use crate::network::Access;
use crate::plan::{At, DAY, Night, OPEN};
use crate::workload;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

const MINUTE: Duration = Duration::from_secs(60);
/// How far apart the checker's looks are at most.
const LOOK_MINUTES: u64 = 40;
/// How long a NAT keeps a mapping.
const NAT_IDLE: Duration = Duration::from_secs(60);
/// F8: after so many minutes it is looked whether there was a storm: packets between two sites.
const RUSH_MINUTES: u64 = 10;
const RUSH_PACKETS: u64 = 3000;
const RUSH_PACKETS_A_MINUTE: u64 = 300;
/// How many days longer a run may last until its last fault has fired.
const EXTRA: u32 = 3;

/// A morning on which several PCs were switched on in the same second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rush {
    at: Duration,
    /// Packets sent until then.
    packets: u64,
    booted: u64,
}

impl Drive<'_> {
    /// The sites join, and what is planned is put on the agenda.
    pub(super) async fn begin_world(&mut self) -> Checked {
        for at in self.places() {
            let name = self.name(at);
            let access = match (self.plan.life.behind_nat, at.0) {
                // The one whom all others reach has a name that follows its address.
                (true, 0) => Access::Named,
                (true, _) => Access::Nat { idle: NAT_IDLE },
                (false, _) => Access::Direct,
            };
            self.world.site_with(name, access).await;
            if self.plan.clocks_agree() {
                self.world.set_clock_error(name, 0);
            }
            self.set_condition(at, Condition::On);
            self.checker.know(at, &self.world.status(name).await);
        }
        self.tell(format!(
            "{} sites have joined: {}",
            self.shops.len(),
            self.plan.sites.join(", ")
        ));
        let begun = self.now();
        for at in self.places() {
            self.put(begun, Item::Open(at, 0));
            let later = MINUTE * self.random.below(60) as u32;
            self.put(begun + later, Item::Attach(at));
        }
        for day in 0..self.plan.request.days {
            for at in self.places() {
                let (opens, closes) = self.plan.late(at, day);
                if day > 0 {
                    self.put(DAY * day + opens, Item::Open(at, day));
                }
                self.put(DAY * day + OPEN + closes, Item::Close(at, day));
            }
        }
        for (place, event) in self.plan.events.iter().enumerate() {
            self.agenda.put(event.at, Item::Begin(place));
        }
        self.put(begun + MINUTE, Item::Look);
        Ok(())
    }

    /// Lives all days, and longer if a fault has not fired yet.
    pub(super) async fn live_days(&mut self) -> Checked {
        let end = DAY * (self.plan.request.days - 1) + OPEN + 90 * MINUTE;
        self.pass_until(end).await?;
        for day in self.plan.request.days..self.plan.request.days + EXTRA {
            if self.waiting == 0 {
                break;
            }
            // What has not fired yet has another day for it.
            for at in self.places() {
                self.put(DAY * day, Item::Open(at, day));
            }
            let end = DAY * day + OPEN;
            while self.waiting > 0 && self.now() < end {
                let next = self.now() + 10 * MINUTE;
                self.pass_until(next).await?;
            }
        }
        Ok(())
    }

    /// Every fault asked for fires. What else is broken is of more interest, and often why.
    pub(super) fn look_at_fired(&self) -> Checked {
        if self.waiting == 0 {
            return Ok(());
        }
        let pending: Vec<String> = self
            .plan
            .events
            .iter()
            .filter(|event| !self.is_done(event.number))
            .map(|event| format!("{} {}", event.number, self.plan.tell(event.fault)))
            .collect();
        Err(self.broken(
            "every fault asked for fires",
            format!("These never did: {}.", pending.join("; ")),
        ))
    }

    /// Lives on for a while.
    pub async fn pass(&mut self, time: Duration) -> Checked {
        let until = self.now() + time;
        self.pass_until(until).await
    }

    /// Lives on until a condition holds; whether it did in time.
    pub async fn pass_while(
        &mut self,
        patience: Duration,
        holds: impl AsyncFn(&mut Self) -> bool,
    ) -> Checked<bool> {
        let until = self.now() + patience;
        while self.now() < until {
            if holds(self).await {
                return Ok(true);
            }
            let next = self.now() + Duration::from_secs(5);
            self.pass_until(next).await?;
        }
        Ok(holds(self).await)
    }

    /// Lives on until a moment: whatever is due until then happens.
    pub async fn pass_until(&mut self, until: Duration) -> Checked {
        loop {
            let due = self.agenda.next_due().map_or(until, |due| due.min(until));
            let now = self.now();
            if due > now {
                let wake = Instant::now() + (due - now);
                tokio::select! {
                    biased;
                    name = self.world.fallen() => {
                        let at = self.place(&name);
                        self.fell(at).await?;
                        continue;
                    }
                    () = sleep_until(wake) => {}
                }
            }
            if self.agenda.next_due().is_none_or(|due| due > until) {
                return Ok(());
            }
            if let Some(item) = self.agenda.take() {
                // A fault's own script passes time by the same loop.
                Box::pin(self.take(item)).await?;
            }
        }
    }

    async fn take(&mut self, item: Item) -> Checked {
        match item {
            Item::Open(at, day) => self.open(at, day).await,
            Item::Close(at, day) => self.close(at, day).await,
            Item::Act(at) => self.act(at).await,
            Item::Boot(at) => self.boot(at).await,
            Item::Attach(at) => self.attach(at).await,
            Item::Begin(place) => self.begin_fault(place).await,
            Item::Continue(place) => self.continue_fault(place).await,
            Item::End(place) => self.end_fault(place).await,
            Item::Look => {
                self.look().await?;
                self.look_at_rush()?;
                let next = MINUTE * (1 + self.random.below(LOOK_MINUTES)) as u32;
                self.put_in(next, Item::Look);
                Ok(())
            }
        }
    }

    async fn open(&mut self, at: At, day: u32) -> Checked {
        let shop = &mut self.shops[at.0];
        if shop.burned {
            return Ok(());
        }
        shop.set_open(true);
        if self.plan.life.shared {
            // The others join from nothing, and have no file before.
            if at == At(0) && self.shops[0].clerk.is_none() {
                self.open_clerk(at, true);
                self.tell(format!("{} opens", self.name(at)));
            }
        } else if day == 0 {
            let name = self.name(at);
            let program = workload::Till::open(self.world, name, FILE, &format!("till {}", at.0));
            let till = Till::new(program, Arc::clone(self.world.disk(name)));
            let between = till.clone();
            let work = move |step: &str| {
                // Where the node is at the application's file: all else is far from it.
                let near = ["harvest.", "attach.", "capture.trim", "capture.checkpoint"];
                if near.iter().any(|near| step.starts_with(near)) {
                    between.act_between();
                }
            };
            self.world.set_between_steps(name, Some(Box::new(work)));
            self.shops[at.0].till = Some(till);
            self.tell(format!("{name} opens"));
        }
        self.agenda.strike_out(|item| *item == Item::Act(at));
        self.put_in(MINUTE, Item::Act(at));
        if self.shops[at.0].condition != Condition::On && !self.shops[at.0].held {
            let begun = self.now();
            self.boot(at).await?;
            if self.plan.is_rush(day) && self.shops[at.0].is_on() {
                self.note_rush(begun);
            }
        }
        Ok(())
    }

    /// One more is switched on in the morning's second (F8).
    fn note_rush(&mut self, at: Duration) {
        let packets = self.world.figures().packets;
        let same = self.rush.filter(|rush| at - rush.at <= Duration::from_secs(1));
        let mut rush = same.unwrap_or(Rush { at, packets, booted: 0 });
        rush.booted += 1;
        self.rush = Some(rush);
    }

    /// F8: who all come at once find one another without a storm.
    fn look_at_rush(&mut self) -> Checked {
        let Some(rush) = self.rush else { return Ok(()) };
        let minutes = (self.now() - rush.at).as_secs() / 60;
        if minutes < RUSH_MINUTES {
            return Ok(());
        }
        self.rush = None;
        if rush.booted < 2 {
            return Ok(());
        }
        let packets = self.world.figures().packets - rush.packets;
        let pairs = (self.shops.len() * (self.shops.len() - 1) / 2) as u64;
        let limit = pairs * (RUSH_PACKETS + RUSH_PACKETS_A_MINUTE * minutes);
        if packets > limit {
            return Err(self.broken(
                "G: no storm when all come back at once",
                format!(
                    "{} sites were switched on in the same second, and in {minutes} minutes \
                     {packets} packets were sent (limit {limit}).",
                    rush.booted
                ),
            ));
        }
        self.note_fired(8);
        Ok(())
    }

    async fn close(&mut self, at: At, day: u32) -> Checked {
        self.shops[at.0].set_open(false);
        let shop = &self.shops[at.0];
        if shop.held || shop.burned || shop.condition == Condition::Off {
            return Ok(());
        }
        match self.plan.night(at, day) {
            Night::On => Ok(()),
            Night::ShutDown => self.shut_down(at).await,
            Night::Plug => self.plug(at).await,
        }
    }

    async fn act(&mut self, at: At) -> Checked {
        let shop = &mut self.shops[at.0];
        if !shop.open {
            return Ok(());
        }
        if shop.can_act() && !shop.resting && !self.world.is_fallen(shop.name) {
            let before = shop.commits();
            if let Some(till) = shop.till.clone() {
                till.act();
            }
            if let Some(clerk) = shop.clerk.clone() {
                clerk.lock().act();
                self.duel(at);
            }
            let shop = &mut self.shops[at.0];
            if shop.condition == Condition::NodeDown {
                shop.unseen += shop.commits() - before;
            }
        }
        self.settle_accounts(at)?;
        let seconds = self.pace / 3 + self.random.below(self.pace * 4 / 3);
        self.put_in(Duration::from_secs(seconds), Item::Act(at));
        Ok(())
    }

    /// What its application complained of.
    pub fn settle_accounts(&mut self, at: At) -> Checked {
        let shop = &self.shops[at.0];
        let of_clerk =
            shop.clerk.as_ref().and_then(|clerk| clerk.lock().complaints().first().cloned());
        if let Some(complaint) = of_clerk {
            let what = format!("{}: {}", self.name(at), complaint.what);
            return Err(self.broken(complaint.check, what));
        }
        let of_till = || Some(shop.till.as_ref()?.lock().violations().first()?.to_string());
        let complaint = of_till();
        match complaint {
            None => Ok(()),
            Some(complaint) => Err(self.broken(
                "G: the application sees no error that it would not have alone",
                format!("{}: {complaint}", self.name(at)),
            )),
        }
    }

    async fn attach(&mut self, at: At) -> Checked {
        let shop = &self.shops[at.0];
        if shop.attached || shop.burned {
            return Ok(());
        }
        let has_file = shop.till.is_some() || self.plan.life.shared;
        let ready = shop.is_on() && has_file && !self.world.is_fallen(shop.name);
        let attached = match self.plan.life.shared {
            _ if !ready => false,
            true => self.try_share(at).await,
            false => self.try_attach(at).await,
        };
        if attached {
            self.tell(format!("{}'s database is under sync", self.name(at)));
            return Ok(());
        }
        self.put_in(3 * MINUTE, Item::Attach(at));
        Ok(())
    }

    /// Whether the database is under sync now.
    async fn try_attach(&mut self, at: At) -> bool {
        let name = self.name(at);
        let Some(status) = self.world.try_status(name).await else { return false };
        let known = status.databases.iter().any(|database| database.site.as_deref() == Some(name));
        if !known {
            // Attaching waits for a moment in which nobody is at the file.
            let attached = self.world.try_attach(name, FILE, DATABASE).await;
            if attached.is_none() {
                return false;
            }
        }
        self.shops[at.0].attached = true;
        true
    }

    /// Switches a PC on, or starts its node again.
    pub async fn boot(&mut self, at: At) -> Checked {
        let shop = &self.shops[at.0];
        if shop.held || shop.burned || shop.condition == Condition::On {
            return Ok(());
        }
        self.start(at).await
    }

    /// As [`Drive::boot`], also where a fault decides.
    pub async fn start(&mut self, at: At) -> Checked {
        let name = self.name(at);
        if self.shops[at.0].burned || self.shops[at.0].is_on() {
            return Ok(());
        }
        match self.world.boot(name).await {
            Ok(()) => {
                self.set_condition(at, Condition::On);
                self.tell(format!("{name} is on"));
            }
            Err(error) => {
                self.tell(format!("{name} does not start: {error}"));
                if !self.world.is_fallen(name) {
                    self.put_in(2 * MINUTE, Item::Boot(at));
                }
            }
        }
        Ok(())
    }

    /// Switches a PC off as it should be.
    pub async fn shut_down(&mut self, at: At) -> Checked {
        let name = self.name(at);
        self.shops[at.0].set_open(false);
        self.world.shut_down(name).await;
        self.set_condition(at, Condition::Off);
        self.tell(format!("{name} is switched off"));
        self.look_after_crash(at).await
    }

    /// Pulls the plug of a PC.
    pub async fn plug(&mut self, at: At) -> Checked {
        let name = self.name(at);
        self.world.power_off(name).await;
        self.checker.power_failed(at);
        self.note_torn(at);
        self.set_condition(at, Condition::Off);
        self.tell(format!("{name} loses its power"));
        self.look_after_crash(at).await
    }

    /// Stops a node; its PC goes on.
    pub async fn stop_node(&mut self, at: At) -> Checked {
        let name = self.name(at);
        self.world.try_stop(name).await;
        self.set_condition(at, Condition::NodeDown);
        self.tell(format!("{name}'s node is stopped"));
        self.look_after_crash(at).await
    }

    /// Kills a node; its PC goes on.
    pub async fn kill_node(&mut self, at: At) -> Checked {
        let name = self.name(at);
        self.world.kill(name).await;
        self.set_condition(at, Condition::NodeDown);
        self.tell(format!("{name}'s node is killed"));
        self.look_after_crash(at).await
    }

    /// The power has failed by a fuse or a strike: what is left of it.
    async fn fell(&mut self, at: At) -> Checked {
        let step = self.world.fell_in(self.name(at));
        self.world.power_off(self.name(at)).await;
        self.checker.power_failed(at);
        self.note_torn(at);
        self.set_condition(at, Condition::Off);
        let within =
            step.map_or_else(|| "between two steps".to_owned(), |step| format!("in {step}"));
        self.tell(format!("{} loses its power {within}", self.name(at)));
        self.note_fallen(at, step);
        self.look_after_crash(at).await?;
        if !self.shops[at.0].held {
            self.boot_soon(at);
        }
        Ok(())
    }

    /// Somebody switches it on again within minutes, if the shop is open; else in the morning.
    pub fn boot_soon(&mut self, at: At) {
        if self.shops[at.0].open {
            let later = Duration::from_secs(20 + self.random.below(600));
            self.put_in(later, Item::Boot(at));
        }
    }

    /// Somebody works at the till again, if it is a time for that.
    pub(crate) fn reopen(&mut self, at: At) {
        let of_day = Duration::from_secs(self.now().as_secs() % DAY.as_secs());
        self.shops[at.0].set_open(of_day < OPEN);
        self.agenda.strike_out(|item| *item == Item::Act(at));
        self.put_in(MINUTE, Item::Act(at));
    }

    /// All sites.
    pub fn places(&self) -> Vec<At> {
        (0..self.shops.len()).map(At).collect()
    }

    /// The place of a site.
    pub fn place(&self, name: &str) -> At {
        At(self.plan.sites.iter().position(|site| *site == name).unwrap_or_default())
    }

    pub(crate) fn put(&mut self, at: Duration, item: Item) {
        let at = at.max(self.now());
        self.agenda.put(at, item);
    }

    pub(crate) fn put_in(&mut self, later: Duration, item: Item) {
        let at = self.now() + later;
        self.agenda.put(at, item);
    }
}
