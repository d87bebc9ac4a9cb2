//! Taking in the openings of branches: a database of another site's becomes known, or a further
//! site that writes a shared one. What does not fit to what is known is told and not taken.

use super::{Engine, EngineError};
use crate::store::alarms::Severity;
use crate::store::{BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, StoreError, databases};
use conflict::SiteId;
use protocol::branch::Opening;
use protocol::session::LocalBranch;
use protocol::{BranchId, ChainHash, Mode, Name, Sequence, SignedOpening};
use std::path::PathBuf;

/// A branch that came to be known.
#[derive(Debug)]
pub struct Admitted {
    /// The branch.
    pub local: LocalBranch,
    /// Its database.
    pub database: DatabaseNumber,
}

/// Why an opening is not taken.
struct Objection {
    subject: String,
    severity: Severity,
    what: String,
    remedy: &'static str,
}

impl Engine {
    /// Takes in an opening: the branch is known and kept from now on. `None`: it was known, its
    /// origin is not (yet) a member, or it does not fit to what is known, which an alarm says.
    ///
    /// # Errors
    /// The store fails. The inner error is the peer's fault.
    pub fn admit_branch(
        &mut self,
        signed: SignedOpening,
    ) -> Result<Result<Option<Admitted>, String>, EngineError> {
        if self.store.branch(signed.id())?.is_some() {
            return Ok(Ok(None));
        }
        let opening = signed.opening().clone();
        let Some(origin) = self.membership.member(opening.origin).cloned() else {
            return Ok(Ok(None));
        };
        if let Err(error) = signed.verify(&origin.key) {
            return Ok(Err(error.to_string()));
        }
        let known = self.store.databases()?.into_iter().find(|row| row.id == opening.database);
        let objection = match self.objection(&signed, &origin.name, known.as_ref())? {
            Some(objection) => Some(objection),
            None => self.name_taken(&signed, &origin.name)?,
        };
        if let Some(Objection { subject, severity, what, remedy }) = objection {
            self.raise(subject, severity, None, what, remedy)?;
            return Ok(Ok(None));
        }
        let database = match (opening.mode, known) {
            (Mode::Mirror, _) => self.admit_mirror(&signed, &origin.name)?,
            (Mode::Shared, known) => self.admit_shared(&signed, known)?,
        };
        self.clear_alarm(&name_taken(signed.id()))?;
        tracing::info!(
            database = %opening.name, site = %origin.name, mode = ?opening.mode, "a new branch"
        );
        let branch = self
            .store
            .branch(signed.id())?
            .ok_or_else(|| StoreError::Damaged("a branch just added is gone".into()))?;
        Ok(Ok(Some(Admitted { local: self.local_branch(&branch)?, database })))
    }

    /// Why a branch does not fit to the others of its database.
    fn objection(
        &self,
        signed: &SignedOpening,
        origin: &Name,
        known: Option<&DatabaseRow>,
    ) -> Result<Option<Objection>, EngineError> {
        let opening = signed.opening();
        if opening.origin == self.identity.site {
            return Ok(Some(Objection {
                subject: format!("own-branch-unknown:{}", signed.id()),
                severity: Severity::Critical,
                what: format!(
                    "Other sites hold a database {:?} of this site that this site does not know: \
                     its node.db went back in time or was lost.",
                    opening.name
                ),
                remedy: "Stop this node and put its newest directory back; nothing of it is lost \
                         at the other sites.",
            }));
        }
        if opening.parent.is_some() {
            return Ok(Some(Objection {
                subject: format!("unsupported-branch:{}", signed.id()),
                severity: Severity::Warning,
                what: format!(
                    "{origin} goes on with a database {:?} in a way that this version does not \
                     know.",
                    opening.name
                ),
                remedy: "Update the node of this site.",
            }));
        }
        let Some(known) = known else { return Ok(None) };
        if opening.mode == Mode::Shared && known.mode == Mode::Shared {
            let branches = self.store.branches_of(known.number)?;
            let same_place = |branch: &BranchRow| {
                let other = branch.opening.opening();
                (other.origin, other.epoch) == (opening.origin, opening.epoch)
                    || (other.base && opening.base)
            };
            if known.name == opening.name && !branches.iter().any(same_place) {
                return Ok(None);
            }
        }
        Ok(Some(Objection {
            subject: format!("second-branch:{}", signed.id()),
            severity: Severity::Critical,
            what: format!(
                "{origin} opened a branch of {} whose place is taken by another; nothing of it is \
                 taken.",
                known.name
            ),
            remedy: "Look at that computer: its disk was cloned, or its key is stolen.",
        }))
    }

    /// Whether a database's name is one of the other mode's.
    fn name_taken(
        &self,
        signed: &SignedOpening,
        origin: &Name,
    ) -> Result<Option<Objection>, EngineError> {
        let opening = signed.opening();
        // Within one site the newer takes the place of the older.
        let Some(holder) = self.holder(&opening.name, opening.mode, Some(opening.origin))? else {
            return Ok(None);
        };
        let holder = self.site_name(holder);
        let what = match opening.mode {
            Mode::Mirror => format!(
                "{origin} attached a database {} of its own, but {holder} shares one of that name \
                 with the group; nothing of it is taken.",
                opening.name
            ),
            Mode::Shared => format!(
                "{origin} shares a database {} with the group, but {holder} has one of its own of \
                 that name; nothing of it is taken.",
                opening.name
            ),
        };
        Ok(Some(Objection {
            subject: name_taken(signed.id()),
            severity: Severity::Critical,
            what,
            remedy: "Detach one of the two and attach it under another name.",
        }))
    }

    /// A site, `but` this one, that writes a database of this name in the other mode.
    pub(super) fn holder(
        &self,
        name: &Name,
        mode: Mode,
        but: Option<SiteId>,
    ) -> Result<Option<SiteId>, StoreError> {
        for row in self.store.databases()? {
            if row.name != *name || row.mode == mode || row.state == DatabaseState::Detached {
                continue;
            }
            let branches = self.store.branches_of(row.number)?;
            let mut live = branches.iter().filter(|branch| self.is_live(branch));
            if let Some(branch) = live.find(|branch| Some(branch.origin()) != but) {
                return Ok(Some(branch.origin()));
            }
        }
        Ok(None)
    }

    /// Whether more may come of a branch: its origin has not ended it and belongs to the group.
    pub(super) fn is_live(&self, branch: &BranchRow) -> bool {
        let member = self.membership.member(branch.origin());
        !branch.ended && member.is_some_and(|member| !member.removed)
    }

    fn admit_mirror(
        &mut self,
        signed: &SignedOpening,
        origin: &Name,
    ) -> Result<DatabaseNumber, EngineError> {
        let opening = signed.opening();
        let mut row = new_row(opening, DatabaseState::Mirrored);
        row.path = self.directory.mirror(origin, &opening.name);
        row.state = self.set_former_aside(&mut row.path, opening)?;
        self.store.transaction(|transaction| -> Result<_, EngineError> {
            let number = databases::add_database(transaction, &row)?;
            let branch = add(transaction, number, signed)?;
            databases::follow_branch(transaction, number, branch)?;
            Ok(number)
        })
    }

    fn admit_shared(
        &mut self,
        signed: &SignedOpening,
        known: Option<DatabaseRow>,
    ) -> Result<DatabaseNumber, EngineError> {
        let opening = signed.opening();
        self.store.transaction(|transaction| -> Result<_, EngineError> {
            let number = match known {
                Some(row) => row.number,
                None => {
                    databases::add_database(transaction, &new_row(opening, DatabaseState::Kept))?
                }
            };
            let branch = add(transaction, number, signed)?;
            // The founder's is the one with a base; it need not be the first to be heard of.
            if opening.base {
                databases::set_site(transaction, number, opening.origin)?;
                databases::follow_branch(transaction, number, branch)?;
            }
            Ok(number)
        })
    }
}

fn new_row(opening: &Opening, state: DatabaseState) -> DatabaseRow {
    DatabaseRow {
        number: DatabaseNumber(0),
        id: opening.database,
        name: opening.name.clone(),
        site: opening.origin,
        mode: opening.mode,
        state,
        path: PathBuf::new(),
        branch: None,
    }
}

fn add(
    transaction: &rusqlite::Connection,
    number: DatabaseNumber,
    signed: &SignedOpening,
) -> Result<crate::store::BranchNumber, StoreError> {
    let has_base = signed.opening().base;
    let base = if has_base { Sequence(1) } else { Sequence::ZERO };
    let start = ChainHash::start(signed.id());
    databases::add_branch(transaction, number, signed, start, base, !has_base)
}

/// The subject of the alarm that a name is used in two modes.
fn name_taken(branch: BranchId) -> String {
    format!("name-taken:{branch}")
}
