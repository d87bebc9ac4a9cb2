//! Taking in what peers send: flights, and how far they are; openings are taken in next door.
//! Everything is checked before it is believed, and durable before it is acknowledged.

use super::{Engine, EngineError};
use crate::breakage::Breakage;
use crate::store::alarms::Severity;
use crate::store::journal::{self, NewBatch};
use crate::store::progress::{self, PeerRow, ProgressRow};
use crate::store::{BranchRow, StoreError};
use conflict::SiteId;
use protocol::flight::Flight;
use protocol::message::{Fork, Holding, Report};
use protocol::session::LocalBranch;
use protocol::{BranchId, ChainHash, Sequence};
use std::sync::Arc;

/// What became of a flight.
#[derive(Debug)]
pub enum Receipt {
    /// It is durable; how far the branch is now.
    Stored(LocalBranch),
    /// All of it was held already.
    Known,
    /// Batches before it are missing here: they are to be asked for.
    Gap,
    /// The branch is not known here.
    Unknown,
    /// The peer sent what its origin never signed: it is not to be trusted further.
    Forged(String),
    /// It differs from what is held here under the same sequence.
    Forked(Fork),
}

/// How a peer's line of a branch stands to this site's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// As far as the peer's goes, they are one.
    Alike,
    /// They hold different batches under one sequence.
    Apart(Fork),
    /// It can't be told: the peer is ahead, or one of them has nothing yet.
    Unknown,
}

impl Engine {
    /// How far every branch is here.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn local_branches(&self) -> Result<Vec<LocalBranch>, StoreError> {
        self.store.branches()?.iter().map(|branch| self.local_branch(branch)).collect()
    }

    /// How far a branch is here.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn local_branch(&self, branch: &BranchRow) -> Result<LocalBranch, StoreError> {
        Ok(LocalBranch {
            opening: Arc::clone(&branch.opening),
            holding: Holding {
                branch: branch.id,
                held: branch.held,
                hash: branch.hash,
                durable: branch.durable(),
                applied: branch.applied,
                as_of: branch.as_of,
            },
            servable: self.store.servable(branch.number)?,
        })
    }

    /// How far a branch is here, by its id.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn local_branch_of(&self, branch: BranchId) -> Result<Option<LocalBranch>, StoreError> {
        self.store.branch(branch)?.map(|branch| self.local_branch(&branch)).transpose()
    }

    /// Stores a flight durably, after checking that it goes on where this site is and that its
    /// origin signed it.
    ///
    /// # Errors
    /// The store fails: nothing is acknowledged.
    pub fn receive_flight(&mut self, flight: &Flight) -> Result<Receipt, EngineError> {
        let Some(branch) = self.store.branch(flight.branch)? else { return Ok(Receipt::Unknown) };
        let origin = branch.opening.opening().origin;
        let Some(member) = self.membership.member(origin) else { return Ok(Receipt::Unknown) };
        if flight.first > branch.held.next() {
            return Ok(Receipt::Gap);
        }
        let before = Sequence(flight.first.0.saturating_sub(1));
        let previous = if before == Sequence::ZERO {
            Some(ChainHash::start(branch.id))
        } else {
            self.store.hash_at(&branch, before)?
        };
        let Some(previous) = previous else { return Ok(Receipt::Gap) };
        let verified = flight.verify_by(previous, &self.limits, |domain, message, signature| {
            self.environment.verify(&member.key, domain, message, signature)
        });
        let hashes = match verified {
            Ok(hashes) => hashes,
            Err(_) if Breakage::HashUnchecked.is_on() => flight
                .frames
                .iter()
                .scan(previous, |hash, frame| {
                    *hash = hash.extend(frame.as_bytes());
                    Some(*hash)
                })
                .collect(),
            Err(error) => return Ok(Receipt::Forged(error.to_string())),
        };
        if let Some(fork) = self.differing(&branch, flight, &hashes)? {
            return Ok(Receipt::Forked(fork));
        }
        if flight.last() <= branch.held {
            return Ok(Receipt::Known);
        }
        if origin == self.identity.site {
            self.note_behind(&branch)?;
            return Ok(Receipt::Known);
        }
        if Breakage::AcknowledgedEarly.is_on() {
            let off = self.store.connection().pragma_update(None, "synchronous", "OFF");
            off.map_err(StoreError::from)?;
        }
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            let places = (flight.first.0..).map(Sequence);
            for ((sequence, frame), hash) in places.zip(&flight.frames).zip(&hashes) {
                if sequence <= branch.held {
                    continue;
                }
                let header =
                    frame.header().map_err(|error| EngineError::Encoding(error.to_string()))?;
                let batch = NewBatch {
                    sequence,
                    hash: *hash,
                    timestamp: header.meta.timestamp,
                    more: header.meta.more,
                    last: header.meta.last,
                    signature: (sequence == flight.last()).then_some(flight.signature),
                    frame: frame.as_bytes(),
                    applied: None,
                };
                journal::append(transaction, branch.number, &batch)?;
            }
            Ok(())
        })?;
        let hash = hashes.last().copied().unwrap_or(branch.hash);
        let branch = BranchRow { held: flight.last(), hash, ..branch };
        Ok(Receipt::Stored(self.local_branch(&branch)?))
    }

    /// Others hold own batches that this site does not have: it numbers nothing until they are
    /// back.
    fn note_behind(&mut self, branch: &BranchRow) -> Result<(), StoreError> {
        self.raise(
            super::harvest::behind(branch.id),
            Severity::Critical,
            Some(branch.database),
            "Other sites hold batches of this site that its own node.db lacks: it went back in \
             time."
                .into(),
            "Stop this node and put its newest directory back; nothing of it is lost at the other \
             sites.",
        )?;
        Ok(())
    }

    /// The first batch of a flight that differs from what is held here under its sequence.
    fn differing(
        &self,
        branch: &BranchRow,
        flight: &Flight,
        hashes: &[ChainHash],
    ) -> Result<Option<Fork>, StoreError> {
        for (sequence, hash) in (flight.first.0..=branch.held.0).map(Sequence).zip(hashes) {
            if let Some(held) = self.store.hash_at(branch, sequence)?
                && held != *hash
            {
                return Ok(Some(Fork { branch: branch.id, sequence, hash: held }));
            }
        }
        Ok(None)
    }

    /// Whether a peer that is at `holding` holds another line than this site.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn compare_lines(&self, holding: &Holding) -> Result<Lines, StoreError> {
        let Some(branch) = self.store.branch(holding.branch)? else { return Ok(Lines::Unknown) };
        if holding.held > branch.held || holding.held == Sequence::ZERO {
            return Ok(Lines::Unknown);
        }
        Ok(match self.store.hash_at(&branch, holding.held)? {
            None => Lines::Unknown,
            Some(hash) if hash == holding.hash => Lines::Alike,
            Some(hash) => Lines::Apart(Fork { branch: branch.id, sequence: holding.held, hash }),
        })
    }

    /// Whether what a peer calls a fork is one, as far as that can be told here.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn is_fork(&self, fork: &Fork) -> Result<bool, StoreError> {
        let Some(branch) = self.store.branch(fork.branch)? else { return Ok(false) };
        Ok(self.store.hash_at(&branch, fork.sequence)?.is_some_and(|hash| hash != fork.hash))
    }

    /// Two lines under one branch: raises the alarm.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_fork(&mut self, fork: &Fork, peer: SiteId) -> Result<(), StoreError> {
        let Some(branch) = self.store.branch(fork.branch)? else { return Ok(()) };
        let database = self.store.database(branch.database)?;
        progress::forget(self.store.connection(), branch.number, peer)?;
        let name = self.site_name(peer);
        self.raise(
            fork_subject(branch.id, peer),
            Severity::Critical,
            Some(database.number),
            format!(
                "This site and {name} hold different batches of {} under number {}: a disk was \
                 cloned or put back from a copy.",
                database.name, fork.sequence
            ),
            "Both lines are kept and nothing is exchanged for this database; find out which \
             computer is the right one and stop the other.",
        )?;
        Ok(())
    }

    /// A peer's line is this site's again: the alarm is over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn clear_fork(&mut self, branch: BranchId, peer: SiteId) -> Result<(), StoreError> {
        self.clear_alarm(&fork_subject(branch, peer))
    }

    /// Takes in how far a peer is, as it says itself.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_progress(&mut self, site: SiteId, holding: &Holding) -> Result<(), StoreError> {
        let report = report_of(site, holding);
        let Some((row, branch)) = self.progress_row(&report)? else { return Ok(()) };
        if branch.opening.opening().origin == self.identity.site && row.durable > branch.held {
            self.note_behind(&branch)?;
        }
        progress::set_progress(self.store.connection(), &row).map(drop)
    }

    /// Takes in a peer's whole vector: what it had said before and holds no more, its disk having
    /// gone back in time or its line being another, does not count any longer.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_vector<'a>(
        &mut self,
        site: SiteId,
        vector: impl IntoIterator<Item = &'a Holding>,
    ) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        for holding in vector {
            rows.extend(self.progress_row(&report_of(site, holding))?.map(|(row, _)| row));
        }
        self.store.transaction(|transaction| {
            progress::forget_site(transaction, site)?;
            rows.iter().try_for_each(|row| progress::set_progress(transaction, row).map(drop))
        })
    }

    /// Takes in how far a third site is, as a peer says; returns whether that is news. Of this
    /// site's own branches hearsay counts no further than they are: who holds more says so itself.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_report(&mut self, report: &Report) -> Result<bool, StoreError> {
        let Some((mut row, branch)) = self.progress_row(report)? else { return Ok(false) };
        if branch.opening.opening().origin == self.identity.site {
            row.durable = row.durable.min(branch.held);
        }
        progress::set_progress(self.store.connection(), &row)
    }

    fn progress_row(
        &self,
        report: &Report,
    ) -> Result<Option<(ProgressRow, BranchRow)>, StoreError> {
        if report.site == self.identity.site || self.membership.member(report.site).is_none() {
            return Ok(None);
        }
        Ok(self.store.branch(report.branch)?.map(|branch| {
            let row = ProgressRow {
                branch: branch.number,
                site: report.site,
                durable: report.durable,
                applied: report.applied,
                as_of: report.as_of,
            };
            (row, branch)
        }))
    }

    /// How far other sites are, each with the origin of the branch: for peers that may not have met
    /// them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn reports(&self) -> Result<Vec<(SiteId, Report)>, StoreError> {
        let branches = self.store.branches()?;
        let progress = self.store.progress()?.into_iter();
        Ok(progress
            .filter_map(|row| {
                let branch = branches.iter().find(|branch| branch.number == row.branch)?;
                let report = Report {
                    site: row.site,
                    branch: branch.id,
                    durable: row.durable,
                    applied: row.applied,
                    as_of: row.as_of,
                };
                Some((branch.opening.opening().origin, report))
            })
            .collect())
    }

    /// Adds to what is known of a peer.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note_peer(&mut self, row: &PeerRow) -> Result<(), StoreError> {
        progress::note_peer(self.store.connection(), row)
    }

    /// A member's name, or its id where it is none.
    pub(super) fn site_name(&self, site: SiteId) -> String {
        self.membership.member(site).map_or_else(|| site.to_string(), |m| m.name.to_string())
    }
}

fn report_of(site: SiteId, holding: &Holding) -> Report {
    Report {
        site,
        branch: holding.branch,
        durable: holding.durable,
        applied: holding.applied,
        as_of: holding.as_of,
    }
}

/// The subject of the alarm that a peer holds another line of a branch.
fn fork_subject(branch: BranchId, peer: SiteId) -> String {
    format!("fork:{branch}:{peer}")
}
