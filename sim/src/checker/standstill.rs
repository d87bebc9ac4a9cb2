//! B: a copy goes on while its site is well. At rest all copies are equal; this notices one that
//! stood still meanwhile, as one does that can't be written until the node starts again.

use super::Books;
use crate::drive::{Checked, Drive};
use crate::plan::At;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a copy may lack what its site holds. A node has it in seconds; faults of the copy
/// itself last half an hour.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// How far a copy is that lacks something, and when it was first seen there.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    applied: u64,
    since: Duration,
}

impl Drive<'_> {
    pub(super) fn look_for_standstill(&mut self, current: &BTreeMap<At, Books>) -> Checked {
        let now = self.now();
        for (site, books) in current {
            // Who only keeps a shared database merges nothing.
            let applies = !self.plan.life.shared || self.shops[site.0].attached;
            let well = applies && self.is_well(*site);
            for (origin, holding) in &books.holdings {
                let Some(origin) = self.checker.site(*origin) else { continue };
                // Without the base nothing can be applied.
                let even = holding.durable == 0 || holding.applied >= holding.visible;
                // Nor beyond a batch that somebody damaged in that journal: nothing refills it yet, and
                // that it stops there is what is asked of it.
                // Where all write one database, what builds upon it stops as well.
                let stuck = self.checker.is_rotten(*site, origin)
                    || (self.plan.life.shared && self.checker.was_damaged());
                let copy = (*site, origin);
                if origin == *site || !well || even || stuck {
                    self.checker.standing.remove(&copy);
                    continue;
                }
                let here = Standing { applied: holding.applied, since: now };
                let standing = self.checker.standing.entry(copy).or_insert(here);
                if standing.applied != holding.applied {
                    *standing = here;
                }
                if now - standing.since >= PATIENCE {
                    return Err(self.broken(
                        "B: a copy goes on while its site is well",
                        format!(
                            "{}'s copy of {} has been at batch {} for more than {PATIENCE:?}, and \
                             its journal could bring it to {}.",
                            self.name(*site),
                            self.name(origin),
                            holding.applied,
                            holding.visible
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether its node runs and no fault is about it.
    fn is_well(&self, at: At) -> bool {
        self.shops[at.0].is_on()
            && !self.world.is_fallen(self.name(at))
            && self.active.values().all(|active| !active.event.fault.sites().contains(&at))
    }
}
