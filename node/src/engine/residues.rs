//! Handing key residues over to members that have none: an invitation hands over half of the
//! inviter's own, so that after the seventh there is nothing left to hand over. Nobody asks for
//! them: everybody sees who has none.

use super::members::malformed;
use super::{Engine, EngineError};
use crate::store::BranchRow;
use conflict::SiteId;
use protocol::membership::{Handover, Record, Residues, SignedRecord};
use protocol::{Mode, Sequence};

/// One of so many goes to each that has none.
const SHARE: u32 = 8;

impl Engine {
    /// Hands residues over to members that have none, where this site writes a shared database;
    /// the records that say so.
    ///
    /// # Errors
    /// The store fails.
    pub fn share_residues(&mut self) -> Result<Vec<SignedRecord>, EngineError> {
        let me = self.identity.site;
        let poor: Vec<SiteId> = self
            .membership
            .members()
            .filter(|member| !member.removed && member.residues.count() == 0 && member.site != me)
            .map(|member| member.site)
            .collect();
        let mut handed = Vec::new();
        if poor.is_empty() {
            return Ok(handed);
        }
        let branches = self.store.branches()?;
        if shared(&branches, me).next().is_none() {
            return Ok(handed);
        }
        let now = self.now();
        let promised = self.store.promised_residues(now)?;
        let mut membership = self.membership.clone();
        for site in poor {
            let own = membership.member(me).map(|own| own.residues).unwrap_or_default();
            let (_, residues) = Residues(own.0 & !promised.0).split(SHARE);
            if residues.count() == 0 || !self.is_in_step(site, &branches)? {
                continue;
            }
            let record = Record::Handover(Handover {
                group: self.identity.group,
                from: me,
                to: site,
                residues,
                handed: now,
            });
            let signed = SignedRecord::sign(&record, &self.key).map_err(malformed)?;
            membership.merge(vec![signed.clone()]).map_err(malformed)?;
            handed.push(signed);
        }
        if !handed.is_empty() {
            self.keep_members(membership)?;
        }
        Ok(handed)
    }

    /// Whether a site has applied all that this one wrote in the shared databases that both write.
    /// Otherwise it might give to new rows the numbers that rows have here which it has not seen.
    fn is_in_step(&self, site: SiteId, branches: &[BranchRow]) -> Result<bool, EngineError> {
        let progress = self.store.progress()?;
        let lacks_some = |own: &BranchRow| {
            let mut told =
                progress.iter().filter(|row| (row.branch, row.site) == (own.number, site));
            let applied = told.next().map_or(Sequence::ZERO, |row| row.applied);
            applied < own.held && shared(branches, site).any(|other| other.database == own.database)
        };
        Ok(!shared(branches, self.identity.site).any(lacks_some))
    }
}

/// The branches in which a site writes shared databases.
fn shared(branches: &[BranchRow], site: SiteId) -> impl Iterator<Item = &BranchRow> {
    branches.iter().filter(move |branch| {
        let of_mode = branch.opening.opening().mode == Mode::Shared;
        of_mode && branch.origin() == site && !branch.ended
    })
}
