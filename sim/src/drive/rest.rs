//! The end of a run: everything is healed and switched on, the shops are closed, and after a while
//! all must be safe, equal and quiet.

use super::{Checked, Drive};
use crate::faults::{is_of_fork, stands_for_good};
use crate::plan::At;
use node::demo::compare::{Comparison, compare};
use node::status::{AlarmStatus, PeerStatus};
use std::path::Path;
use std::time::Duration;

/// In which all must have come to rest.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// In which nodes that have just begun know where they are.
const AWAKE: Duration = Duration::from_secs(60);
/// How long it must stay quiet then.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// Packets between two sites in that time: keep-alives, their answers, clocks compared.
const QUIET_PACKETS: u64 = 400;

impl Drive<'_> {
    pub(super) async fn rest(&mut self) -> Checked {
        self.tell("all is healed, the shops are closed");
        self.world.heal_all();
        self.agenda.strike_out(|_| true);
        for at in self.places() {
            self.heal_computer(at);
            let shop = &mut self.shops[at.0];
            shop.held = false;
            shop.set_open(false);
            if shop.burned {
                continue;
            }
            if !self.shops[at.0].is_on() {
                self.start(at).await?;
            }
        }
        if self.plan.life.shared {
            self.upgrade_all().await?;
        }
        let begun = self.now();
        // What copies lost with the power is brought again first.
        self.pass(AWAKE).await?;
        if self.plan.life.shared {
            // Nodes tidy up in their first minute.
            self.pass(AWAKE).await?;
        }
        let rested = self
            .pass_while(PATIENCE, async |drive: &mut Self| match drive.plan.life.shared {
                true => drive.is_sharing_at_rest().await,
                false => drive.is_at_rest().await,
            })
            .await?;
        if !rested {
            let statuses = self.statuses().await;
            return Err(self.broken(
                "B: everything comes to rest",
                format!("Not within {PATIENCE:?} of healing:\n{statuses}"),
            ));
        }
        self.tell(format!("at rest after {:.0} s", (self.now() - begun).as_secs_f64()));
        self.look().await?;
        for at in self.places() {
            if !self.shops[at.0].burned {
                self.look_at_integrity(at)?;
            }
        }
        if self.plan.life.shared {
            self.look_at_shared_content().await?;
        }
        self.look_at_equality()?;
        self.look_at_the_burned().await?;
        self.look_at_journals()?;
        self.look_at_alarms().await?;
        self.look_at_quiet().await
    }

    /// Power that stays, a good disk, a good clock.
    fn heal_computer(&mut self, at: At) {
        self.world.disarm(self.name(at));
        self.heal_disk(at);
        if self.checker.had_wrong_clock(at) {
            self.mend_clock(at);
        }
        self.checker.is_not_itself(at, false);
        self.checker.went_back(at, false);
    }

    /// Whether all that is left holds all that is left, and says so.
    async fn is_at_rest(&mut self) -> bool {
        for at in self.places() {
            if self.shops[at.0].burned {
                continue;
            }
            if !self.shops[at.0].is_on() || self.world.is_fallen(self.name(at)) {
                return false;
            }
            let Some(status) = self.world.try_status(self.name(at)).await else { return false };
            let alone =
                |peer: &PeerStatus| peer.state != "connected" && !self.is_burned(&peer.site);
            if !self.plan.life.behind_nat && status.peers.iter().any(alone) {
                return false;
            }
            let own = |name: &Option<String>| name.as_deref() == Some(self.name(at));
            for database in &status.databases {
                let burned = |name: &str| self.is_burned(name);
                if own(&database.site) {
                    let copies = database.copies.iter().flatten();
                    let all = copies.filter(|copy| !burned(&copy.site)).all(|copy| {
                        let stuck = self.is_stuck(self.place(&copy.site), at);
                        copy.durable_sequence == database.sequence
                            && (copy.applied_sequence == database.sequence || stuck)
                    });
                    if database.safe != Some(true) || database.pending_changes != Some(0) || !all {
                        return false;
                    }
                } else if database.applied_sequence != Some(database.sequence) {
                    let of = database.site.as_deref().map(|site| self.place(site));
                    if of.is_some_and(|origin| self.is_stuck(at, origin)) {
                        // The node must say so.
                        let told = |alarm: &node::status::AlarmStatus| alarm.severity == "critical";
                        if !status.alarms.iter().any(told) {
                            return false;
                        }
                        continue;
                    }
                    // Of a site that is gone for good the last run may never be finished.
                    let gone = database.site.as_deref().filter(|site| self.is_burned(site));
                    let last = gone.and_then(|site| self.holding(at, self.place(site)));
                    let last = last.map(|holding| holding.visible);
                    if last.is_none() || database.applied_sequence != last {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Whether a copy can't go on, since somebody damaged a batch of it in that site's journal.
    pub(crate) fn is_stuck(&self, site: At, origin: At) -> bool {
        let Some(holding) = self.holding(site, origin) else { return false };
        self.checker.is_rotten(site, origin) && holding.applied < holding.visible
    }

    fn is_burned(&self, name: &str) -> bool {
        self.shops[self.place(name).0].burned
    }

    /// B: every copy is its original, and the original is what the oracle saw being committed.
    fn look_at_equality(&mut self) -> Checked {
        for origin in self.places() {
            let shop = &self.shops[origin.0];
            let Some(till) = shop.till.clone().filter(|_| shop.attached && !shop.burned) else {
                continue;
            };
            let original = self.original(origin);
            let checked = self
                .world
                .disk(self.name(origin))
                .look(&original)
                .and_then(|connection| till.lock().history().check(&connection));
            match checked {
                Ok(Ok(())) => {}
                Ok(Err(what)) => {
                    return Err(self.broken("the oracle knows the original", what));
                }
                Err(error) => {
                    return Err(self.broken("E: originals can be read", error.to_string()));
                }
            }
            for site in self.places() {
                if site == origin || self.shops[site.0].burned || self.is_stuck(site, origin) {
                    continue;
                }
                let mirror = self.mirror(site, origin);
                let (shows, latest) = (self.shows(site, origin), self.shops[origin.0].commits());
                let same = self.same(origin, &original, site, &mirror);
                let identical = same.as_ref().is_ok_and(|same| same.identical());
                if shows == Some(latest) && identical {
                    // F47: what was applied here has come back to nobody as a change.
                    self.note_fired(47);
                    continue;
                }
                let what = format!(
                    "{}'s copy of {} shows commit {shows:?} of {latest}.\n{}\n{same:?}",
                    self.name(site),
                    self.name(origin),
                    self.explain(site, origin).unwrap_or_else(|error| error.to_string()),
                );
                return Err(self.broken("B: all copies equal the oracle", what));
            }
        }
        Ok(())
    }

    /// Whether two files hold the same, by the judge that the demo has as well.
    fn same(
        &self,
        origin: At,
        original: &Path,
        site: At,
        mirror: &Path,
    ) -> Result<Comparison, String> {
        let copied = |at: At, path: &Path| {
            let copied = self.world.disk(self.name(at)).copied(path);
            copied.map_err(|failure| format!("{}: {failure}", path.display()))
        };
        let (original, mirror) = (copied(origin, original)?, copied(site, mirror)?);
        compare(original.path(), mirror.path()).map_err(|error| error.to_string())
    }

    /// A: what a site that is lost had called safe is at every other site, and they agree; unless its
    /// disk had lied to it, so that it numbered twice, and that is told.
    async fn look_at_the_burned(&mut self) -> Checked {
        for origin in self.places() {
            if !self.shops[origin.0].burned || !self.shops[origin.0].attached {
                continue;
            }
            let promised = self.checker.promised(origin);
            let mut shown = Vec::new();
            for site in self.places() {
                if !self.shops[site.0].burned && !self.is_stuck(site, origin) {
                    shown.push((self.name(site), self.shows(site, origin)));
                }
            }
            let least = shown.iter().map(|(_, shows)| shows.unwrap_or(0)).min().unwrap_or(0);
            let agree = shown.windows(2).all(|pair| pair[0].1 == pair[1].1);
            self.tell(format!(
                "{} had been told that commit {promised} was safe; the others show {shown:?}",
                self.name(origin)
            ));
            let excused = agree || self.is_fork_told().await;
            if least < promised || !excused {
                return Err(self.broken(
                    "A: what was called safe survives the loss of a disk",
                    format!(
                        "{} burned down; commit {promised} had been called safe, and the others \
                         show {shown:?}.",
                        self.name(origin)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether a site tells of two lines of batches, where one could have come about.
    async fn is_fork_told(&self) -> bool {
        if !self.checker.do_alarms_stand() {
            return false;
        }
        for at in self.places() {
            if self.shops[at.0].burned {
                continue;
            }
            let status = self.world.try_status(self.name(at)).await;
            if status.is_some_and(|status| status.alarms.iter().any(is_of_fork)) {
                return true;
            }
        }
        false
    }

    /// H: at rest nothing is left to be told, but what somebody damaged for good, and forks and
    /// forgeries, which no node takes back yet.
    async fn look_at_alarms(&mut self) -> Checked {
        for at in self.places() {
            if self.shops[at.0].burned || self.checker.was_damaged() {
                continue;
            }
            let Some(status) = self.world.try_status(self.name(at)).await else { continue };
            let excused =
                |alarm: &AlarmStatus| self.checker.do_alarms_stand() && stands_for_good(alarm);
            if let Some(alarm) = status.alarms.iter().find(|alarm| !excused(alarm)) {
                return Err(self.broken(
                    "H: no alarm stands without a reason",
                    format!("{} at rest: {} {}", self.name(at), alarm.what, alarm.remedy),
                ));
            }
        }
        Ok(())
    }

    /// G: where nobody writes, nobody sends more than signs of life.
    async fn look_at_quiet(&mut self) -> Checked {
        let before = self.world.figures().packets;
        let batches = self.checker.batches();
        self.world.run_for(QUIET).await;
        let packets = self.world.figures().packets - before;
        let sites = self.shops.iter().filter(|shop| !shop.burned).count() as u64;
        // Whoever burned down is dialled in vain.
        let burned = self.shops.len() as u64 - sites;
        let limit = QUIET_PACKETS * (sites * (sites - 1) / 2 + sites * burned).max(1);
        self.look_at_claims()?;
        // Of a shared database dead rows are forgotten now and then, also while nobody writes.
        let tidying = if self.plan.life.shared { 3 * sites } else { 0 };
        if packets > limit || self.checker.batches() - batches > tidying {
            return Err(self.broken(
                "G: at rest it is quiet",
                format!(
                    "In {QUIET:?} without a commit {packets} packets were sent (limit {limit}) and \
                     {} batches numbered.",
                    self.checker.batches() - batches
                ),
            ));
        }
        Ok(())
    }

    async fn statuses(&mut self) -> String {
        let mut all = String::new();
        for at in self.places() {
            if let Some(status) = self.world.try_status(self.name(at)).await {
                all.push_str(&node::status::render(&status));
            }
        }
        all
    }
}
