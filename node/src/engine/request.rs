//! What a person asks of `attach`, what is answered, and what it comes to by all that is known:
//! a database that begins here or one that the group shares already. The doing is told next door.

use super::{Engine, EngineError};
use crate::capture::CaptureError;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::store::{DatabaseNumber, DatabaseRow, DatabaseState};
use protocol::{Mode, Name};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is to be attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttachRequest {
    /// What it is called in the group.
    pub name: Name,
    /// Where it lies.
    pub path: PathBuf,
    /// Whether to switch it to a write-ahead log.
    pub wal: bool,
    /// Who writes it; none: as the group does that has one of this name already, else this site
    /// alone.
    pub mode: Option<Mode>,
    /// What becomes of other content, where the group shares the database already.
    pub content: OwnContent,
    /// Whether to convert keys that several sites can't hand out, where this site founds a shared
    /// database.
    pub convert_keys: bool,
}

impl AttachRequest {
    /// A database with nothing said beyond what must be.
    pub fn new(name: Name, path: PathBuf) -> Self {
        let (wal, mode, content, convert_keys) = (false, None, OwnContent::default(), false);
        Self { name, path, wal, mode, content, convert_keys }
    }
}

/// What becomes of a file that holds something else than what the group shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnContent {
    /// Nothing: the attach is refused.
    #[default]
    Refuse,
    /// It is set aside (`--adopt`).
    SetAside,
    /// It becomes a part of what is shared (`--merge`).
    Merge,
}

/// What attaching comes to.
pub(super) enum Plan {
    /// A database begins here.
    Found(Mode),
    /// The group shares this one already.
    Join(DatabaseNumber),
}

/// What was attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attached {
    /// Its name.
    pub database: String,
    /// Its id.
    pub database_id: String,
    /// Where it lies.
    pub path: String,
    /// `mirror` or `shared`.
    pub mode: String,
    /// Where the file went whose place it took.
    #[serde(default)]
    pub set_aside: Option<String>,
    /// What was found in each table.
    pub tables: Vec<AttachedTable>,
    /// What a person should know.
    pub findings: Vec<String>,
}

/// What was found in a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttachedTable {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
    /// How it is carried.
    pub finding: String,
}

/// A mode in `attach`'s and `status`'s words.
pub(super) fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Mirror => "mirror",
        Mode::Shared => "shared",
    }
}

impl Engine {
    /// What the request comes to, by what is known of the group.
    pub(super) fn plan_attach(&self, request: &AttachRequest) -> Result<Plan, EngineError> {
        let name = &request.name;
        let named: Vec<DatabaseRow> =
            self.store.databases()?.into_iter().filter(|row| row.name == *name).collect();
        if named.iter().any(|row| row.state == DatabaseState::Attached) {
            return Err(Failure::refused(
                format!("This site has a database {name} already."),
                "Choose another name, or `detach` that one first.",
            )
            .into());
        }
        let mut shared = Vec::new();
        for row in named {
            if self.can_be_joined(&row)? {
                shared.push(row);
            }
        }
        let joined = match (request.mode, &shared[..]) {
            (Some(Mode::Mirror), [_, ..]) => {
                return Err(Failure::refused(
                    format!(
                        "The group shares a database {name}: none of that name can be mirrored."
                    ),
                    "Choose another name, or attach with --mode shared to join.",
                )
                .into());
            }
            (_, [_, _, ..]) => {
                let founders: Vec<_> = shared.iter().map(|row| self.site_name(row.site)).collect();
                return Err(Failure::refused(
                    format!(
                        "The group shares several databases {name}, of {}.",
                        founders.join(" and ")
                    ),
                    "Detach all but one of them at its sites, or choose another name.",
                )
                .into());
            }
            (_, [one]) => Some(one.number),
            (_, []) => None,
        };
        let mode = request.mode.unwrap_or(Mode::Mirror);
        match joined {
            Some(number) => Ok(Plan::Join(number)),
            None if request.content != OwnContent::Refuse => Err(Failure::refused(
                format!("As far as this site knows, the group shares no database {name}."),
                "Leave --adopt and --merge away, or wait until `status` shows it.",
            )
            .into()),
            None if request.convert_keys && mode == Mode::Mirror => Err(Failure::usage(
                "A mirrored database needs no converted keys.",
                "Leave --convert-keys away, or attach with --mode shared.",
            )
            .into()),
            None => match self.holder(name, mode, None)? {
                None => Ok(Plan::Found(mode)),
                Some(holder) => Err(Failure::refused(
                    format!(
                        "{} has a database {name} of its own: none of that name can be shared.",
                        self.site_name(holder)
                    ),
                    "Choose another name.",
                )
                .into()),
            },
        }
    }

    /// Whether a file may be attached, by whose it is already; `but` the database for which it is.
    pub(super) fn look_whose(
        &self,
        path: &Path,
        but: Option<DatabaseNumber>,
    ) -> Result<(), EngineError> {
        if path.starts_with(self.resolve(self.directory.path())?) {
            return Err(Failure::refused(
                format!("{} is one of this site's own files.", path.display()),
                "Attach the application's own file.",
            )
            .into());
        }
        for row in self.store.databases()? {
            if row.path != path || Some(row.number) == but {
                continue;
            }
            let (what, remedy) = match row.state {
                DatabaseState::Attached => (
                    format!("{} is attached already, as {}.", path.display(), row.name),
                    "`detach` it first to attach it under another name.",
                ),
                DatabaseState::Attaching if row.branch.is_some() => (
                    format!("Attaching {} as {} was interrupted.", path.display(), row.name),
                    "Attach it under that name again, or `detach` that first.",
                ),
                DatabaseState::Mirrored | DatabaseState::Detached
                    if row.site != self.identity.site =>
                {
                    (
                        format!("{} is a mirror of another site's database.", path.display()),
                        "Attach the application's own file.",
                    )
                }
                _ => continue,
            };
            return Err(Failure::refused(what, remedy).into());
        }
        Ok(())
    }

    /// The path with its links followed, so that one file is not attached twice.
    pub(super) fn resolve(&self, path: &Path) -> Result<PathBuf, EngineError> {
        canonical(&*self.environment, path)
    }
}

/// The path with its links followed.
pub(super) fn canonical(
    environment: &dyn Environment,
    path: &Path,
) -> Result<PathBuf, EngineError> {
    environment.canonical(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => CaptureError::Missing(path.to_owned()).into(),
        _ => super::file_error(&path.display().to_string(), error),
    })
}
