//! Faults in several acts: F7 and F27 are here, others in files of their own. Whole sites are taken
//! through them, and nothing else happens to these meanwhile.

use super::{Active, Begun, Ended};
use crate::drive::{Checked, Drive};
use crate::plan::{At, Class, Fault};
use crate::workload::Operation;
use crate::workload::clerk::Task;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// What is done to a batch that is carried.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A bit flips.
    Flipped,
    /// Somebody writes another one, and all hashes anew: F48.
    Forged,
}

impl Drive<'_> {
    pub(super) async fn begin_script(&mut self, fault: Fault) -> Checked<Begun> {
        match fault {
            Fault::Shifts(first, second, carrier) => self.shifts(first, second, carrier).await,
            Fault::Flipped { carrier, origin, asker } => {
                self.damaged(carrier, origin, asker, Harm::Flipped).await
            }
            Fault::Forged { carrier, origin, asker } => {
                self.damaged(carrier, origin, asker, Harm::Forged).await
            }
            Fault::Meddled(at) => self.meddled(at).await,
            Fault::Absence(at, _) => self.begin_absence(at).await,
            Fault::Burned(at) => self.burned(at).await,
            Fault::Undone(at) => self.undone(at).await,
            Fault::PutBack(at, old) => self.put_back(at, old).await,
            Fault::Cloned { site, clone_first: false } => self.cloned(site).await,
            Fault::Cloned { site, clone_first: true } => self.cloned_and_heard_first(site).await,
            Fault::RottenBatch { origin, asker } => self.rotten_batch(origin, asker).await,
            Fault::RottenBase { origin, asker } => self.rotten_base(origin, asker).await,
            _ => Ok(Begun::NotNow),
        }
    }

    pub(super) async fn end_script(&mut self, active: &Active) -> Checked<Ended> {
        match active.event.fault {
            Fault::Absence(at, _) => self.end_absence(at).await,
            _ => Ok(Ended::Fired),
        }
    }

    /// F7: what the first wrote reaches the second though they are never on at once.
    pub(super) async fn shifts(&mut self, first: At, second: At, carrier: At) -> Checked<Begun> {
        let sites = [first, second, carrier];
        if !self.at_work(&sites) {
            return Ok(Begun::NotNow);
        }
        self.hold(&sites, true);
        self.shut_down(second).await?;
        self.pass(30 * MINUTE).await?;
        let carried = self.hand_over(first, carrier).await?;
        self.shut_down(first).await?;
        let commits = self.shops[first.0].latest();
        self.start(second).await?;
        let arrived = match carried {
            false => true,
            true => {
                self.pass_while(40 * MINUTE, async |drive: &mut Self| {
                    drive.shows(second, first) >= Some(commits)
                })
                .await?
            }
        };
        let reachable = self.can_meet(second, carrier) && !self.is_stuck(second, first);
        if !arrived && reachable {
            return Err(self.broken(
                "B: changes travel through a third site",
                format!(
                    "{} holds all {commits} commits of {}, and {} has not got them in 40 minutes.",
                    self.name(carrier),
                    self.name(first),
                    self.name(second)
                ),
            ));
        }
        self.hold(&sites, false);
        self.start(first).await?;
        Ok(if carried && arrived { Begun::Over } else { Begun::NotNow })
    }

    /// F27 (and F13, F48 for those who receive): a carrier hands on a damaged batch.
    async fn damaged(&mut self, carrier: At, origin: At, asker: At, harm: Harm) -> Checked<Begun> {
        let sites = [carrier, origin, asker];
        if !self.at_work(&sites) {
            return Ok(Begun::NotNow);
        }
        self.hold(&sites, true);
        self.shut_down(asker).await?;
        let held = self.held(asker, origin);
        if let Some(till) = self.shops[origin.0].till.clone().filter(|_| self.at_work(&[origin])) {
            till.perform(Operation::Sale);
        }
        if let Some(clerk) = self.shops[origin.0].clerk.clone().filter(|_| self.at_work(&[origin]))
        {
            clerk.lock().perform(Task::Sell);
        }
        self.pass(15 * MINUTE).await?;
        let carried = self.hand_over(origin, carrier).await?;
        self.shut_down(origin).await?;
        self.shut_down(carrier).await?;
        let next = held.map_or(1, |held| held + 1);
        let whole = self.frame(carrier, origin, next);
        let flipped = match held {
            Some(held) if carried => match harm {
                Harm::Flipped => self.damage(carrier, origin, held + 1),
                Harm::Forged => self.forge(carrier, origin, held + 1),
            },
            _ => false,
        };
        self.start(carrier).await?;
        self.start(asker).await?;
        self.pass(15 * MINUTE).await?;
        let after = self.held(asker, origin);
        if flipped && after > held {
            return Err(self.broken(
                "D: a damaged batch is not taken",
                format!(
                    "{} took batch {} of {} from {}, in whose journal it was damaged.",
                    self.name(asker),
                    held.unwrap_or_default() + 1,
                    self.name(origin),
                    self.name(carrier),
                ),
            ));
        }
        if let (Harm::Forged, true, Some(whole)) = (harm, flipped, whole) {
            // A bit stays flipped; what was forged would be a fork for good.
            self.note_standing().await;
            self.shut_down(carrier).await?;
            if !self.rewrite(carrier, origin, next, &whole) {
                return Err(self.broken("a journal can be edited", self.name(carrier)));
            }
            self.start(carrier).await?;
        }
        self.hold(&sites, false);
        self.start(origin).await?;
        match harm {
            Harm::Flipped if flipped => self.checker.rotten(carrier, origin),
            Harm::Forged if flipped => self.start_others_anew(carrier).await?,
            _ => {}
        }
        Ok(if flipped { Begun::Over } else { Begun::NotNow })
    }

    /// Closes the first's till and waits until the second shows all it wrote; whether it does.
    async fn hand_over(&mut self, first: At, second: At) -> Checked<bool> {
        self.shops[first.0].set_open(false);
        let commits = self.shops[first.0].latest();
        let shown = self
            .pass_while(20 * MINUTE, async |drive: &mut Self| {
                drive.shows(second, first) >= Some(commits)
            })
            .await?;
        self.shops[first.0].set_open(true);
        Ok(shown)
    }

    pub(super) fn hold(&mut self, sites: &[At], held: bool) {
        for at in sites {
            self.shops[at.0].held = held;
        }
    }

    /// Whether nothing that goes on keeps these from meeting, but for the script that asks.
    pub(super) fn can_meet(&self, a: At, b: At) -> bool {
        let on = |at: At| self.shops[at.0].is_on();
        let disturbed = self.active.values().any(|active| {
            let fault = active.event.fault;
            let sites = fault.sites();
            let about = sites.is_empty() || sites.contains(&a) || sites.contains(&b);
            about && fault.class() != Class::Script
        });
        on(a) && on(b) && !disturbed
    }
}
