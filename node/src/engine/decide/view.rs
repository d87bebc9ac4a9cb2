//! Rules and conflicts as people and scripts see them: with names, words and times. Nothing is
//! decided here.

use crate::capture::Images;
use crate::engine::{Choose, Engine, EngineError};
use crate::json;
use crate::shared::conflicts::list::{self, Conflict};
use crate::shared::conflicts::{Detail, Kind, Side, What};
use crate::shared::policy::{self, Policy};
use crate::store::DatabaseNumber;
use crate::units::rfc3339;
use conflict::row::Column;
use conflict::visible::{Reason, RowId};
use protocol::Name;
use protocol::schema::Schema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The rules of a database, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyView {
    /// The database.
    pub database: String,
    /// What holds.
    pub policy: Vec<RuleView>,
    /// What may be right.
    pub proposals: Vec<ProposalView>,
}

/// A rule that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// The table.
    pub table: String,
    /// The column; null: the table as a whole.
    pub column: Option<String>,
    /// In the words that set it.
    pub rule: String,
    /// Whether it is what holds without a choice.
    pub default: bool,
}

/// A rule that may be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalView {
    /// The table.
    pub table: String,
    /// The column; null: the table as a whole.
    pub column: Option<String>,
    /// In the words that set it.
    pub rule: String,
    /// Why.
    pub why: String,
    /// The command that sets it.
    pub command: String,
}

/// A rule that was set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleSet {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// The column; null: the table as a whole.
    pub column: Option<String>,
    /// In the words that set it.
    pub rule: String,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// All undecided conflicts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConflictsView {
    /// The oldest first.
    pub conflicts: Vec<ConflictView>,
    /// Databases of which some are no longer here, since there were too many.
    pub dropped: Vec<DroppedView>,
}

/// How many conflicts of a database are no longer here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DroppedView {
    /// The database.
    pub database: String,
    /// How many, ever.
    pub count: u64,
}

/// One conflict, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConflictView {
    /// Its number.
    pub id: i64,
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// The values of the key.
    pub key: Vec<Json>,
    /// See [`Kind::as_str`].
    pub kind: String,
    /// The column; null: the row as a whole.
    pub column: Option<String>,
    /// What counts.
    pub winner: SideView,
    /// What lost.
    pub loser: SideView,
    /// In words, why, where that takes more than both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when.
    pub since: String,
    /// Whether a person has decided it.
    pub decided: bool,
}

/// One side of a conflict, for people.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SideView {
    /// The column's value, or an object with those of several columns; null also where the row is
    /// deleted, or none is known.
    pub value: Json,
    /// Whether the value was added, not set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub added: bool,
    /// Whether the row was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The site.
    pub site: Option<String>,
    /// When it was made.
    pub at: Option<String>,
}

/// A decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The conflict.
    pub id: i64,
    /// Its database.
    pub database: String,
    /// What was kept.
    pub kept: Choose,
}

/// What a database is called here, and its tables.
pub(super) struct Local {
    name: String,
    schema: Schema,
}

impl Local {
    /// The name of a column by its place in a table of the local schema.
    pub(super) fn column(&self, table: &str, place: usize) -> Option<String> {
        let table = self.schema.tables.iter().find(|of| of.name == table)?;
        table.columns.get(place).cloned()
    }

    fn parked_why(&self, reason: &Reason) -> String {
        let row = |row: &RowId| {
            let table = self.schema.tables.get(row.table.0 as usize);
            let key: Vec<String> =
                row.key.iter().map(|value| json::from_value(value).to_string()).collect();
            format!("{} {}", table.map_or("a row", |table| &table.name), key.join(","))
        };
        match reason {
            Reason::Unborn => {
                "The change that makes it has not come yet, or the table has another \
                               key here."
                    .to_owned()
            }
            Reason::Rejected => "The table's own constraints do not let it in.".to_owned(),
            Reason::KeyTaken { .. } => "Another row, made earlier, has its key.".to_owned(),
            Reason::ValueTaken { by, .. } => {
                format!("{} has a value that must be unique and can't be marked.", row(by))
            }
            Reason::NoMark { .. } => {
                "Another row has a value that must be unique, and every mark is taken.".to_owned()
            }
            Reason::Parent { parent, .. } => {
                format!("It refers to {}, which is not there.", row(parent))
            }
        }
    }
}

impl Engine {
    /// What a database is called here, and its tables, if they are here yet.
    pub(super) fn local(&self, number: DatabaseNumber) -> Result<Local, EngineError> {
        let name = self.store.database(number)?.name.to_string();
        let position = Images::new(self.store.connection(), number.0).position()?;
        let schema = position.map(|(_, captured, _)| captured.schema).unwrap_or_default();
        Ok(Local { name, schema })
    }

    /// The rules of a shared database, and what else may be right.
    ///
    /// # Errors
    /// There is no such database, or the store fails.
    pub fn policy(&self, name: &Name) -> Result<PolicyView, EngineError> {
        let database = self.shared_database(name)?;
        let schema = self.schema_here(&database)?;
        let policy = Policy::read(self.store.connection(), database.number, self.identity.site)?;
        for entry in policy.unknown() {
            tracing::warn!(?entry, "a newer version of the program set this rule");
        }
        let spelled = |choice: policy::Choice| choice.spelled(|site| self.site_name(site));
        let lines = policy.lines(&schema);
        let chosen = |proposal: &policy::Proposal| {
            lines.iter().any(|line| {
                (&line.table, &line.column) == (&proposal.table, &proposal.column)
                    && line.choice.setting() == proposal.choice.setting()
                    && !line.choice.is_default()
            })
        };
        let proposals = policy::propose(&schema)?.into_iter().filter(|proposal| !chosen(proposal));
        Ok(PolicyView {
            database: name.to_string(),
            proposals: proposals.map(|proposal| ProposalView::new(name, proposal)).collect(),
            policy: lines
                .iter()
                .map(|line| RuleView {
                    table: line.table.clone(),
                    column: line.column.clone(),
                    rule: spelled(line.choice),
                    default: line.choice.is_default(),
                })
                .collect(),
        })
    }

    /// All undecided conflicts.
    ///
    /// # Errors
    /// The store fails.
    pub fn conflicts(&self) -> Result<ConflictsView, EngineError> {
        let mut locals = BTreeMap::new();
        let mut conflicts = Vec::new();
        for conflict in list::undecided(self.store.connection())? {
            let local = match locals.entry(conflict.database) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.local(conflict.database)?),
            };
            conflicts.push(self.view_conflict(&conflict, local)?);
        }
        let mut dropped = Vec::new();
        for database in self.store.databases()? {
            let count = list::dropped(self.store.connection(), database.number)?;
            if count > 0 {
                dropped.push(DroppedView { database: database.name.to_string(), count });
            }
        }
        Ok(ConflictsView { conflicts, dropped })
    }

    /// One conflict, decided or not.
    ///
    /// # Errors
    /// There is none of that number, or the store fails.
    pub fn conflict(&self, id: i64) -> Result<ConflictView, EngineError> {
        let conflict = self.find_conflict(id)?;
        self.view_conflict(&conflict, &self.local(conflict.database)?)
    }

    fn view_conflict(
        &self,
        conflict: &Conflict,
        local: &Local,
    ) -> Result<ConflictView, EngineError> {
        let (mut column, mut why) = (None, None);
        let (winner, loser) = match &conflict.detail {
            Detail::Lost { loser, winner } => {
                let alone = !matches!(conflict.kind, Kind::DeleteEdit | Kind::Insert);
                column = match &loser.what {
                    What::Set(values) if alone => values.first().map(|(column, _)| *column),
                    What::Added(column, _) => Some(*column),
                    _ => None,
                };
                (self.view_side(conflict, winner, alone)?, self.view_side(conflict, loser, alone)?)
            }
            Detail::Marked { meant, shown, .. } => (
                SideView { value: json::from_value(meant), ..SideView::default() },
                SideView { value: json::from_value(shown), ..SideView::default() },
            ),
            Detail::Parked(reason) => {
                why = Some(local.parked_why(reason));
                Default::default()
            }
            Detail::Kept => {
                why = Some("It was deleted, and stays since another row refers to it.".to_owned());
                Default::default()
            }
        };
        let column = match (&conflict.detail, column) {
            (Detail::Marked { column, .. }, _) => local.column(&conflict.table, *column),
            (_, Some(column)) => Some(self.named(conflict, column)?),
            _ => None,
        };
        Ok(ConflictView {
            id: conflict.id,
            database: local.name.clone(),
            table: conflict.table.clone(),
            key: conflict.row.key_values()?.iter().map(json::from_value).collect(),
            kind: conflict.kind.as_str().to_owned(),
            column,
            winner,
            loser,
            why,
            since: rfc3339(conflict.since),
            decided: conflict.decided,
        })
    }

    /// `alone`: it is about one column, which is named beside.
    fn view_side(
        &self,
        conflict: &Conflict,
        side: &Side,
        alone: bool,
    ) -> Result<SideView, EngineError> {
        let value = match &side.what {
            What::Set(values) if alone => {
                values.first().map_or(Json::Null, |(_, value)| json::from_value(value))
            }
            What::Set(values) => {
                let mut object = Map::new();
                for (column, value) in values {
                    object.insert(self.named(conflict, *column)?, json::from_value(value));
                }
                Json::Object(object)
            }
            What::Added(_, amount) => json::from_value(amount),
            What::Deleted | What::Unknown => Json::Null,
        };
        Ok(SideView {
            value,
            added: matches!(side.what, What::Added(..)),
            deleted: side.what == What::Deleted,
            site: Some(self.site_name(side.version.origin)),
            at: Some(rfc3339(side.version.timestamp.wall_time())),
        })
    }

    /// The name of a column by its number; where it has none, that.
    fn named(&self, conflict: &Conflict, column: Column) -> Result<String, EngineError> {
        let name = self.column_name(conflict, column)?;
        Ok(name.unwrap_or_else(|| format!("column {}", column.0)))
    }
}

impl ProposalView {
    /// A proposal with the command that sets it in `database`.
    pub fn new(database: &Name, proposal: policy::Proposal) -> Self {
        let rule = proposal.choice.spelled(|site| site.to_string());
        let column = proposal.column.as_ref().map(|name| format!(".{name}")).unwrap_or_default();
        let subject = for_shell(&format!("{}{column}", proposal.table));
        let command = format!("node policy {database} {subject} {rule}");
        let (table, column, why) = (proposal.table, proposal.column, proposal.why.to_owned());
        Self { table, column, rule, why, command }
    }
}

/// A word as a shell takes it.
fn for_shell(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
