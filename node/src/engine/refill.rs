//! A batch of another site that rotted in this one's journal: it is dropped with all that lies
//! behind it, so that the others send it again; what of it was applied stays so. A batch that is
//! read no more here is not looked for: those to whom it is handed on find it.

use super::Engine;
use crate::store::alarms::Severity;
use crate::store::{BranchNumber, DatabaseRow, StoreError};
use protocol::Sequence;
use protocol::session::LocalBranch;

impl Engine {
    /// Drops a branch from `rotten` on, if others hold all of that; returns how far it is then.
    /// Whoever was told that this site holds more has to be told anew.
    pub(super) fn refill(
        &mut self,
        database: &DatabaseRow,
        branch: BranchNumber,
        rotten: Sequence,
    ) -> Result<Option<LocalBranch>, StoreError> {
        let branch = self.store.branch_numbered(branch)?;
        let me = self.identity.site;
        let mut others = self.store.durable_elsewhere(branch.number)?.into_iter();
        let held = others.any(|(site, durable)| {
            let member = self.membership.member(site).is_some_and(|member| !member.removed);
            site != me && member && durable >= branch.held
        });
        if branch.origin() == me || !held {
            return Ok(None);
        }
        self.store.cut_line(&branch, Sequence(rotten.0.saturating_sub(1)))?;
        self.raise(
            format!("rotten:{}", branch.id),
            Severity::Warning,
            Some(database.number),
            format!(
                "Batch {rotten} of {} for {} was damaged on this computer's disk after it was \
                 written there. It is fetched again from the other sites.",
                self.site_name(branch.origin()),
                database.name
            ),
            "Nothing is lost by this, but the disk does not keep what it is given: have it looked \
             at, or replaced.",
        )?;
        let branch = self.store.branch_numbered(branch.number)?;
        self.local_branch(&branch).map(Some)
    }
}
