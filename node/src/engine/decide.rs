//! What people decide for a shared database: its merge rules, and conflicts. Both end in a change of
//! this site's own, which is numbered like any. How changes are merged is not known here.

#[cfg(test)]
mod tests;
mod view;

pub use view::{
    ConflictView, ConflictsView, DroppedView, Kept, PolicyView, ProposalView, RuleSet, RuleView,
    SideView,
};

use super::{Engine, EngineError};
use crate::capture::Images;
use crate::failure::Failure;
use crate::shared::conflicts::list::{self, Conflict};
use crate::shared::conflicts::{Context, Detail, Kind, What, decision};
use crate::shared::policy::{self, Choice, Entry, Policy, Setting};
use crate::store::{DatabaseNumber, DatabaseRow, DatabaseState, StoreError};
use conflict::row::Column;
use conflict::{Rule, SiteId, Value, Version};
use protocol::schema::Schema;
use protocol::session::LocalBranch;
use protocol::{Mode, Name};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// A change that this site makes by itself, by names: also of what the local schema lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnChange {
    /// The table; [`policy::TABLE`] for a rule.
    pub table: String,
    /// The values of its key.
    pub key: Vec<Value>,
    /// Which of several rows of that key.
    pub birth: Option<Version>,
    /// What happens to it.
    pub operation: OwnOperation,
}

impl OwnChange {
    fn entry(entry: &Entry) -> Self {
        Self {
            table: policy::TABLE.to_owned(),
            key: entry.key(),
            birth: None,
            operation: OwnOperation::Insert(vec![entry.value()]),
        }
    }
}

/// What happens to a row.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnOperation {
    /// The row is there from now on, with these columns beside the key; it may have been before.
    Insert(Vec<(String, Value)>),
    /// These columns have these values, labelled with these rules.
    Set(Vec<(String, Value, Rule)>),
    /// This much is added to a column.
    Add(String, Value),
    /// The row lives again: an insert of all that it means, but for these columns.
    Revive(Vec<(String, Value, Rule)>),
    /// The row is gone.
    Delete,
}

/// Which of two changes is to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choose {
    /// What counts already.
    Winner,
    /// What lost.
    Loser,
}

impl Engine {
    /// Sets a rule, in people's words.
    ///
    /// # Errors
    /// It can't be set, or the store fails.
    pub fn choose_rule(
        &mut self,
        name: &Name,
        subject: &str,
        rule: &str,
    ) -> Result<(RuleSet, Option<LocalBranch>), EngineError> {
        let database = self.shared_database(name)?;
        let schema = self.schema_here(&database)?;
        let sites: Vec<(String, SiteId)> = self
            .membership
            .members()
            .filter(|member| !member.removed)
            .map(|member| (member.name.to_string(), member.site))
            .collect();
        let now = Policy::read(self.store.connection(), database.number, self.identity.site)?;
        let parsed = policy::parse(subject, rule, &schema, &now, &sites)?;
        let stays = match &parsed.column {
            Some(column) => now.column_is_local(&parsed.table, column),
            None => now.is_local(&parsed.table),
        };
        let travels = parsed.choice.setting() == Setting::Rule && parsed.choice != Choice::Local;
        if stays && travels {
            return Err(Failure::refused(
                format!(
                    "{subject} stays at each site: if it travelled again, what was written there \
                     meanwhile would give way to what was shared before."
                ),
                "Leave it; or copy what is to be shared into another table.",
            )
            .into());
        }
        let set = RuleSet {
            database: name.to_string(),
            rule: parsed.choice.spelled(|site| self.site_name(site)),
            table: parsed.table,
            column: parsed.column,
            warnings: parsed.warnings,
        };
        let branch = self.set_policy(database.number, &parsed.entry)?;
        Ok((set, branch))
    }

    /// Sets a rule; returns how far this site's branch is then.
    ///
    /// # Errors
    /// The change can't be numbered.
    pub fn set_policy(
        &mut self,
        number: DatabaseNumber,
        entry: &Entry,
    ) -> Result<Option<LocalBranch>, EngineError> {
        self.append_own_changes(number, vec![OwnChange::entry(entry)], |_| Ok(()))
    }

    /// Decides a conflict, at all sites; returns how far this site's branch is then.
    ///
    /// # Errors
    /// There is none of that number, it is decided, it can't be decided so, or the store fails.
    pub fn keep(
        &mut self,
        id: i64,
        choose: Choose,
    ) -> Result<(Kept, Option<LocalBranch>), EngineError> {
        let conflict = self.find_conflict(id)?;
        if conflict.decided && !conflict.kind.is_lasting() {
            return Err(Failure::refused(
                format!("Conflict {id} is decided already."),
                "Where it was decided wrongly, change the row in the application.",
            )
            .into());
        }
        let (database, now) = (self.store.database(conflict.database)?, self.now());
        let decide = move |connection: &Connection| {
            list::set_decided(Context { connection, database: conflict.database, now }, id)
        };
        let column = self.column_of(&conflict)?;
        let mut changes = vec![OwnChange::entry(&decision::entry(&conflict, column)?)];
        if choose == Choose::Loser {
            changes.push(self.change_for(&conflict)?);
        }
        let branch = self.append_own_changes(database.number, changes, decide)?;
        Ok((Kept { id, database: database.name.to_string(), kept: choose }, branch))
    }

    /// The change that makes the loser count.
    fn change_for(&self, conflict: &Conflict) -> Result<OwnChange, EngineError> {
        let label = {
            let policy =
                Policy::read(self.store.connection(), conflict.database, self.identity.site)?;
            let table = conflict.table.clone();
            move |column: &str| winning(policy.rule(&table, column))
        };
        let named = |values: &[(Column, Value)]| -> Result<Vec<_>, EngineError> {
            values
                .iter()
                .map(|(column, value)| {
                    let name = self.column_name(conflict, *column)?.ok_or_else(|| {
                        StoreError::Damaged(format!("column {} has no name", column.0))
                    })?;
                    let rule = match conflict.kind {
                        Kind::Priority => Rule::SitePriority,
                        _ => label(&name),
                    };
                    Ok((name, value.clone(), rule))
                })
                .collect()
        };
        let operation = match (conflict.kind, &conflict.detail) {
            (Kind::DeleteEdit, Detail::Lost { loser, .. }) => match &loser.what {
                What::Set(values) => OwnOperation::Revive(named(values)?),
                _ => OwnOperation::Delete,
            },
            (Kind::AddToDeleted, _) => OwnOperation::Revive(Vec::new()),
            (Kind::NotANumber, _) => {
                return Err(Failure::refused(
                    "Nothing can be added to what is no number.",
                    "Set a number there in the application, or keep the winner.",
                )
                .into());
            }
            (_, Detail::Lost { loser, .. }) => match &loser.what {
                What::Set(values) => OwnOperation::Set(named(values)?),
                What::Added(column, amount) => {
                    let named = named(&[(*column, amount.clone())])?;
                    let column = named.into_iter().next().map(|(name, ..)| name);
                    OwnOperation::Add(column.unwrap_or_default(), amount.clone())
                }
                What::Deleted | What::Unknown => OwnOperation::Delete,
            },
            (_, Detail::Marked { column, shown, .. }) => {
                let name = self
                    .local(conflict.database)?
                    .column(&conflict.table, *column)
                    .ok_or_else(|| {
                        Failure::unable(
                            format!(
                                "The marked column of {} is not there any more.",
                                conflict.table
                            ),
                            "Look at `conflicts` again in a moment.",
                        )
                    })?;
                let rule = label(&name);
                OwnOperation::Set(vec![(name, shown.clone(), rule)])
            }
            (_, Detail::Parked(_)) => {
                return Err(Failure::refused(
                    "A parked row can't be shown as it is.",
                    "It comes back by itself when what is in its way is gone; `conflicts show` \
                     says what that is.",
                )
                .into());
            }
            (_, Detail::Kept) => {
                return Err(Failure::refused(
                    "The deleted row stays as long as others refer to it.",
                    "Delete those in the application; then it goes by itself.",
                )
                .into());
            }
        };
        Ok(OwnChange {
            table: conflict.table.clone(),
            key: conflict.row.key_values()?,
            birth: conflict.row.birth()?,
            operation,
        })
    }

    /// The name of the column that a conflict is about, where it is about one.
    fn column_of(&self, conflict: &Conflict) -> Result<Option<String>, EngineError> {
        let number = match &conflict.detail {
            Detail::Marked { column, .. } => {
                return Ok(self.local(conflict.database)?.column(&conflict.table, *column));
            }
            Detail::Lost { loser, .. } => match &loser.what {
                What::Set(values) if values.len() == 1 => values.first().map(|(column, _)| *column),
                What::Added(column, _) => Some(*column),
                _ => None,
            },
            Detail::Parked(_) | Detail::Kept => None,
        };
        Ok(number.map(|number| self.column_name(conflict, number)).transpose()?.flatten())
    }

    fn find_conflict(&self, id: i64) -> Result<Conflict, EngineError> {
        list::find(self.store.connection(), id)?.ok_or_else(|| {
            Failure::usage(
                format!("There is no conflict {id}."),
                "See `conflicts` for those there are; one that solved itself is gone.",
            )
            .into()
        })
    }

    fn column_name(
        &self,
        conflict: &Conflict,
        column: Column,
    ) -> Result<Option<String>, EngineError> {
        let connection = self.store.connection();
        Ok(list::column_name(connection, conflict.database, conflict.row.table, column)?)
    }

    /// The shared database of that name.
    fn shared_database(&self, name: &Name) -> Result<DatabaseRow, EngineError> {
        let named = self.store.databases()?.into_iter().filter(|row| row.name == *name);
        let mut named: Vec<DatabaseRow> =
            named.filter(|row| row.state != DatabaseState::Detached).collect();
        let shared = named.iter().position(|row| row.mode == Mode::Shared);
        match shared {
            Some(at) => Ok(named.swap_remove(at)),
            None if named.is_empty() => Err(Failure::usage(
                format!("There is no database {name} here."),
                "See `status` for the names there are.",
            )
            .into()),
            None => Err(Failure::refused(
                format!("{name} is mirrored: one site writes it, and there is nothing to merge."),
                "Rules are for databases that were attached with `--mode shared`.",
            )
            .into()),
        }
    }

    fn schema_here(&self, database: &DatabaseRow) -> Result<Schema, EngineError> {
        let images = Images::new(self.store.connection(), database.number.0);
        let Some((_, captured, _)) = images.position()? else {
            return Err(Failure::unable(
                format!("The tables of {} are not here yet.", database.name),
                "Attach it, or wait until its first copy is here.",
            )
            .into());
        };
        Ok(captured.schema)
    }
}

/// The rule under which a value that a person chose counts, whoever set what before.
fn winning(rule: Rule) -> Rule {
    match rule {
        Rule::FirstWriter | Rule::AppendOnly | Rule::Local => Rule::LastWriter,
        Rule::Yields => Rule::SitePriority,
        rule => rule,
    }
}
