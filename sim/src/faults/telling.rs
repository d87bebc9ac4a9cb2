//! What nodes tell of faults that they only notice so far: which critical alarms are new, and which of
//! them stand for good.

use crate::drive::{Checked, DATABASE, Drive};
use crate::plan::At;
use node::status::{AlarmStatus, Status};
use std::collections::{BTreeMap, BTreeSet};

/// The critical alarms that stood before, by site.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(BTreeMap<At, BTreeSet<String>>);

/// Whether it tells of two lines under one branch, or calls what it was sent forged. Nothing takes
/// these back yet.
pub(crate) fn stands_for_good(alarm: &AlarmStatus) -> bool {
    is_of_fork(alarm) || alarm.what.contains("not genuine")
}

/// Whether an alarm tells of two lines of batches of one branch.
pub(crate) fn is_of_fork(alarm: &AlarmStatus) -> bool {
    alarm.what.contains("hold different batches")
}

impl Known {
    /// The first alarm that is new at a computer with that site's disk, and about the site's own
    /// database.
    pub(super) fn new_of(&self, at: At, site: &str, status: Option<&Status>) -> Option<String> {
        let own = format!("{DATABASE}@{site}");
        let mine = |alarm: &&AlarmStatus| alarm.database.as_deref().is_none_or(|name| name == own);
        let alarms = status?.alarms.iter().filter(mine);
        self.first(at, alarms)
    }

    fn first<'a>(
        &self,
        at: At,
        mut alarms: impl Iterator<Item = &'a AlarmStatus>,
    ) -> Option<String> {
        let new = alarms.find(|alarm| {
            let known = self.0.get(&at).is_some_and(|known| known.contains(&key(alarm)));
            alarm.severity == "critical" && !known
        });
        new.map(|alarm| alarm.what.clone())
    }
}

fn key(alarm: &AlarmStatus) -> String {
    format!("{:?} {}", alarm.database, alarm.what)
}

impl Drive<'_> {
    /// What all sites tell now.
    pub(super) async fn known(&mut self) -> Known {
        let mut known = Known::default();
        for at in self.places() {
            let status = self.world.try_status(self.name(at)).await;
            let alarms = status.into_iter().flat_map(|status| status.alarms);
            let critical = alarms.filter(|alarm| alarm.severity == "critical");
            known.0.insert(at, critical.map(|alarm| key(&alarm)).collect());
        }
        known
    }

    /// What a site tells anew of its own database, or any other of a fork of that.
    pub(super) async fn told_of(&mut self, at: At, known: &Known) -> Option<String> {
        let own = format!("{DATABASE}@{}", self.name(at));
        for site in self.places() {
            let status = self.world.try_status(self.name(site)).await;
            let told = match site == at {
                true => known.new_of(at, self.name(at), status.as_ref()),
                false => {
                    let alarms = status.iter().flat_map(|status| &status.alarms);
                    let mine = |alarm: &&AlarmStatus| alarm.database.as_ref() == Some(&own);
                    known.first(site, alarms.filter(|alarm| is_of_fork(alarm)).filter(mine))
                }
            };
            if let Some(what) = told {
                return Some(format!("{} tells: {what}", self.name(site)));
            }
        }
        None
    }

    /// What others were led to say stands, though all is as it was.
    pub(super) async fn note_standing(&mut self) {
        for at in self.places() {
            let status = self.world.try_status(self.name(at)).await;
            if status.is_some_and(|status| status.alarms.iter().any(stands_for_good)) {
                self.checker.alarms_stand();
            }
        }
    }

    /// All others' nodes are started anew: who was told of a fork takes that branch from nobody
    /// until then, not even from its true origin.
    pub(super) async fn start_others_anew(&mut self, but: At) -> Checked {
        for at in self.others(but) {
            if self.shops[at.0].is_on() && !self.world.is_fallen(self.name(at)) {
                self.stop_node(at).await?;
                self.start(at).await?;
            }
        }
        Ok(())
    }

    /// A: a node that has told so promises nothing.
    pub(super) async fn promises_nothing(&mut self, at: At) -> Checked {
        let name = self.name(at);
        let Some(status) = self.world.try_status(name).await else { return Ok(()) };
        let mine = |site: &Option<String>| site.as_deref() == Some(name);
        let own = status.databases.iter().find(|database| mine(&database.site));
        if own.is_none_or(|own| own.safe != Some(true)) {
            return Ok(());
        }
        Err(self.broken(
            "A: what went back in time is not called safe",
            format!("{name} calls {DATABASE} safe:\n{}", node::status::render(&status)),
        ))
    }
}
