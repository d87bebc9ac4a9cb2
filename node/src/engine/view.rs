//! What the store and the files say of the databases, for `status`. What is connected now is
//! added by whoever knows.

use super::{Engine, EngineError};
use crate::shared::conflicts::list;
use crate::shared::intent::unwritten;
use crate::shared::owed::Owed;
use crate::store::alarms::{Alarm, Severity};
use crate::store::progress::PeerRow;
use crate::store::{BranchRow, DatabaseRow, DatabaseState};
use conflict::{SiteId, WallTime};
use protocol::membership::Member;
use protocol::{Epoch, Mode, Sequence};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that `status` tells, but for what is connected.
#[derive(Debug)]
pub struct View {
    /// The time by this site's clock.
    pub now: WallTime,
    /// Databases, by number.
    pub databases: Vec<DatabaseView>,
    /// Members but this site, removed ones included.
    pub members: Vec<Member>,
    /// What is known of peers.
    pub peers: Vec<PeerRow>,
    /// The alarms that stand.
    pub alarms: Vec<Alarm>,
    /// When the node last ran, if it does not run now.
    pub last_run: Option<WallTime>,
}

/// One database.
#[derive(Debug)]
pub struct DatabaseView {
    /// The database.
    pub row: DatabaseRow,
    /// The name of the site whose it is.
    pub site: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// The highest sequence of this site's branch, 0 without one; for a mirror the newest known
    /// anywhere.
    pub sequence: Sequence,
    /// The highest applied here.
    pub applied: Sequence,
    /// The time of that batch.
    pub as_of: WallTime,
    /// Changes in the application's file that are in no batch yet; `None`: can't be told.
    pub pending: Option<u64>,
    /// The copies at other sites.
    pub copies: Vec<CopyView>,
    /// Whether a critical alarm about it stands: then nothing is promised.
    pub critical: bool,
    /// How much of the base is here, and of how much, while it is fetched.
    pub base: Option<(u32, u32)>,
    /// More about a shared one.
    pub shared: Option<SharedView>,
}

/// What there is to say of a shared database only.
#[derive(Debug)]
pub struct SharedView {
    /// The other sites that write it, by name.
    pub origins: Vec<OriginView>,
    /// What the merge decided and nobody has looked at yet.
    pub conflicts: u64,
    /// Rows that the application does not see.
    pub parked: u64,
    /// Rows that wait to be written into the application's file.
    pub unwritten: u64,
    /// Rows that wait for another number.
    pub unnumbered: u64,
}

/// How far another site's branch of a shared database is here.
#[derive(Debug)]
pub struct OriginView {
    /// Its name.
    pub name: String,
    /// The highest sequence held.
    pub sequence: Sequence,
    /// The highest merged.
    pub applied: Sequence,
}

/// One copy at another site.
#[derive(Debug)]
pub struct CopyView {
    /// The site.
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// Its watermark.
    pub durable: Sequence,
    /// What it had applied.
    pub applied: Sequence,
    /// The time of the batch that it applied last.
    pub as_of: WallTime,
    /// When the oldest batch was made that it has not applied; `None` if it has all.
    pub lacks_since: Option<WallTime>,
}

impl DatabaseView {
    /// Whether everything written here is durable at another site. One that says it has more than
    /// this site has another line, or this site went back in time: no copy either way.
    pub fn safe(&self) -> bool {
        self.pending == Some(0)
            && !self.critical
            && self.copies.iter().any(|copy| copy.durable == self.sequence)
            && self.copies.iter().all(|copy| copy.durable <= self.sequence)
    }
}

impl Engine {
    /// Looks at everything.
    ///
    /// # Errors
    /// The store fails.
    pub fn view(&mut self) -> Result<View, EngineError> {
        let now = self.now();
        let mut databases = Vec::new();
        for row in self.store.databases()? {
            match (row.mode, row.state) {
                (Mode::Mirror, DatabaseState::Attached | DatabaseState::Mirrored) => {
                    databases.push(self.view_database(row)?);
                }
                (Mode::Shared, DatabaseState::Attached) => {
                    let shared = self.view_shared(&row)?;
                    let view = self.view_database(row)?;
                    databases.push(DatabaseView { shared: Some(shared), ..view });
                }
                // Also one whose attaching was cut off: to the others it is kept here.
                (Mode::Shared, DatabaseState::Kept | DatabaseState::Attaching)
                    if self.can_be_joined(&row)? =>
                {
                    databases.push(self.view_kept(row)?);
                }
                _ => {}
            }
        }
        let own = self.identity.site;
        Ok(View {
            now,
            databases,
            members: self.membership.members().filter(|m| m.site != own).cloned().collect(),
            peers: self.store.peers()?,
            alarms: self.store.alarms()?,
            last_run: self.store.last_run()?.map(WallTime),
        })
    }

    /// A shared database of which this site keeps the batches only.
    fn view_kept(&mut self, row: DatabaseRow) -> Result<DatabaseView, EngineError> {
        let base = match self.store.founding_branch(row.number)? {
            Some(founder) => self.base_progress(&founder)?,
            None => Some((0, 0)),
        };
        Ok(DatabaseView {
            site: self.site_name(row.site),
            epoch: Epoch(1),
            sequence: Sequence::ZERO,
            applied: Sequence::ZERO,
            as_of: WallTime(0),
            pending: None,
            copies: Vec::new(),
            critical: false,
            base,
            shared: Some(self.view_shared(&row)?),
            row,
        })
    }

    fn view_shared(&self, row: &DatabaseRow) -> Result<SharedView, EngineError> {
        // Of a site that attached it again, only the branch that it writes now.
        let mut newest: BTreeMap<SiteId, BranchRow> = BTreeMap::new();
        for branch in self.store.branches_of(row.number)? {
            let epoch = |branch: &BranchRow| branch.opening.opening().epoch;
            let origin = branch.origin();
            let newer = newest.get(&origin).is_none_or(|known| epoch(known) < epoch(&branch));
            if origin != self.identity.site && newer {
                newest.insert(origin, branch);
            }
        }
        let mut origins: Vec<OriginView> = newest
            .into_iter()
            .map(|(origin, branch)| OriginView {
                name: self.site_name(origin),
                sequence: branch.held,
                applied: branch.applied,
            })
            .collect();
        origins.sort_by(|a, b| a.name.cmp(&b.name));
        let connection = self.store.connection();
        let list::Counts { undecided: conflicts, parked, .. } =
            list::counts(connection, row.number)?;
        let unwritten = unwritten(connection, row.number, u64::MAX)?;
        let unnumbered = Owed::Number.count(connection, row.number)?;
        Ok(SharedView { origins, conflicts, parked, unwritten, unnumbered })
    }

    fn view_database(&mut self, row: DatabaseRow) -> Result<DatabaseView, EngineError> {
        let branch = self.branch_of(&row)?;
        let (epoch, opened) = (branch.opening.opening().epoch, branch.opening.opening().opened);
        let progress: Vec<_> = self
            .store
            .progress()?
            .into_iter()
            .filter(|progress| progress.branch == branch.number)
            // Who was taken out of the group is nobody's backup any more.
            .filter(|progress| self.membership.member(progress.site).is_some_and(|m| !m.removed))
            .collect();
        let attached = row.state == DatabaseState::Attached;
        let critical = self.store.alarms()?.iter().any(|alarm| {
            alarm.database == Some(row.number) && alarm.severity == Severity::Critical
        });
        let known = progress.iter().map(|p| p.durable.max(p.applied)).max().unwrap_or_default();
        let writers: BTreeSet<SiteId> = match row.mode {
            Mode::Mirror => BTreeSet::new(),
            Mode::Shared => {
                let branches = self.store.branches_of(row.number)?;
                branches.iter().filter(|b| self.is_live(b)).map(BranchRow::origin).collect()
            }
        };
        let mut copies = Vec::new();
        for progress in &progress {
            // A site that only keeps a shared database applies nothing, and lacks nothing by that.
            let applies = row.mode == Mode::Mirror || writers.contains(&progress.site);
            let has = if applies { progress.applied } else { progress.durable };
            copies.push(CopyView {
                site: progress.site,
                name: self.site_name(progress.site),
                durable: progress.durable,
                applied: progress.applied,
                as_of: progress.as_of,
                lacks_since: self.time_of(&branch, has.next(), progress.as_of)?,
            });
        }
        // A member that has said nothing yet of this database has nothing of it.
        if attached {
            for member in self.membership.members() {
                if member.site != self.identity.site
                    && !member.removed
                    && !copies.iter().any(|copy| copy.site == member.site)
                {
                    copies.push(CopyView {
                        site: member.site,
                        name: member.name.to_string(),
                        durable: Sequence::ZERO,
                        applied: Sequence::ZERO,
                        as_of: WallTime(0),
                        lacks_since: self.time_of(&branch, Sequence(1), opened)?,
                    });
                }
            }
            copies.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(DatabaseView {
            site: self.site_name(row.site),
            epoch,
            sequence: if attached { branch.held } else { branch.held.max(known) },
            applied: if attached { branch.held } else { branch.applied },
            as_of: if attached { branch.timestamp.wall_time() } else { branch.as_of },
            pending: if attached { self.pending(&row) } else { None },
            copies: if attached { copies } else { Vec::new() },
            critical,
            base: self.base_progress(&branch)?,
            shared: None,
            row,
        })
    }

    /// When a batch was made, if it is held here. One that rotted on the disk says it no more:
    /// then it is the time `before` it, and everything else is told all the same.
    fn time_of(
        &self,
        branch: &BranchRow,
        sequence: Sequence,
        before: WallTime,
    ) -> Result<Option<WallTime>, EngineError> {
        if sequence > branch.held {
            return Ok(None);
        }
        let last = Sequence(sequence.0.saturating_sub(1));
        let batches = self.store.batches_after(branch.number, last, 1, 0)?;
        Ok(batches.first().map(|batch| match protocol::Header::read(&batch.frame) {
            Ok(header) => header.meta.timestamp.wall_time(),
            Err(error) => {
                let what = "a batch is damaged in the journal";
                tracing::warn!(branch = %branch.id, %sequence, %error, "{what}");
                before
            }
        }))
    }

    pub(super) fn base_progress(
        &self,
        branch: &BranchRow,
    ) -> Result<Option<(u32, u32)>, EngineError> {
        if branch.base_held {
            return Ok(None);
        }
        let Some(signed) = self.store.manifest(branch.number)? else { return Ok(Some((0, 0))) };
        let all = u32::try_from(signed.manifest().chunks.len()).unwrap_or(u32::MAX);
        Ok(Some((self.base_file(branch.id)?.count()?, all)))
    }
}
