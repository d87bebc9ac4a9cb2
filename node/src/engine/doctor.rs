//! `doctor`: looks at databases for what would go wrong with them, before they are attached and
//! after. It only reads. What goes wrong already is told by alarms.

use super::request::{canonical, word};
use super::{Engine, EngineError, EngineWorker};
use crate::capture::{Application, CaptureError, Captured, Finding, Marker, Weight};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::shared::{Policy, fit};
use crate::store::alarms::Severity;
use crate::store::{DatabaseRow, DatabaseState};
use conflict::SiteId;
use protocol::membership::Residues;
use protocol::{DatabaseId, Mode};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `doctor` found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The databases that were looked at.
    pub examined: Vec<Examined>,
    /// What was found, the worst first.
    pub findings: Vec<Symptom>,
}

impl Diagnosis {
    /// Whether anything can't stay as it is.
    pub fn is_severe(&self) -> bool {
        self.findings.iter().any(|symptom| symptom.severity == Severity::Critical)
    }

    fn add(&mut self, examined: Examined, symptoms: Vec<Symptom>) {
        self.examined.push(examined);
        self.findings.extend(symptoms);
        self.findings.sort_by_key(|symptom| std::cmp::Reverse(symptom.severity));
    }
}

/// A database that was looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Examined {
    /// Its name; none before it is attached.
    pub database: Option<String>,
    /// Where it lies.
    pub path: String,
    /// `mirror` or `shared`; none before it is attached.
    pub mode: Option<String>,
}

impl Examined {
    fn of(path: &Path, row: Option<&DatabaseRow>) -> Self {
        Self {
            database: row.map(|row| row.name.to_string()),
            path: path.display().to_string(),
            mode: row.map(|row| word(row.mode).to_owned()),
        }
    }
}

/// Something that would go wrong, or is good to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Symptom {
    /// How bad it is.
    pub severity: Severity,
    /// The database's name, if it is attached.
    pub database: Option<String>,
    /// Where it lies.
    pub path: String,
    /// The table concerned.
    pub table: Option<String>,
    /// What was found, in one sentence.
    pub what: String,
    /// What to do about it; empty where nothing need be done.
    pub remedy: String,
}

/// Looks at the database at `path`, or at all that are attached.
///
/// # Errors
/// The file at `path` can't be looked at, or the store fails.
pub async fn doctor(
    engine: &EngineWorker,
    path: Option<PathBuf>,
) -> Result<Diagnosis, EngineError> {
    let mut diagnosis = Diagnosis::default();
    if let Some(path) = path {
        let (examined, symptoms) =
            engine.step("doctor.path", move |engine| engine.examine_path(&path)).await?;
        diagnosis.add(examined, symptoms);
        return Ok(diagnosis);
    }
    let attached = engine.step("doctor.list", |engine| Ok(engine.store.databases()?)).await?;
    for row in attached.into_iter().filter(|row| row.state == DatabaseState::Attached) {
        let examined = Examined::of(&row.path, Some(&row));
        let symptoms =
            engine.step("doctor.attached", move |engine| engine.examine_attached(&row)).await;
        let symptoms = match symptoms {
            // That it can't be looked at is what is found of it.
            Err(EngineError::Capture(error)) => vec![unreadable(&examined, error)],
            other => other?,
        };
        diagnosis.add(examined, symptoms);
    }
    Ok(diagnosis)
}

/// Looks at a database that no site has anything to do with yet.
///
/// # Errors
/// It can't be looked at.
pub fn doctor_alone(
    environment: Arc<dyn Environment>,
    path: &Path,
) -> Result<Diagnosis, EngineError> {
    let path = canonical(&*environment, path)?;
    let examined = Examined::of(&path, None);
    let symptoms = unattached(environment, &examined, path, Residues::ALL)?;
    let mut diagnosis = Diagnosis::default();
    diagnosis.add(examined, symptoms);
    Ok(diagnosis)
}

impl Engine {
    fn examine_path(&self, path: &Path) -> Result<(Examined, Vec<Symptom>), EngineError> {
        let path = self.resolve(path)?;
        let mut databases = self.store.databases()?.into_iter();
        match databases.find(|row| row.state == DatabaseState::Attached && row.path == path) {
            Some(row) => Ok((Examined::of(&path, Some(&row)), self.examine_attached(&row)?)),
            None => {
                let (environment, examined) =
                    (Arc::clone(&self.environment), Examined::of(&path, None));
                let symptoms = unattached(environment, &examined, path, self.residues())?;
                Ok((examined, symptoms))
            }
        }
    }

    fn examine_attached(&self, row: &DatabaseRow) -> Result<Vec<Symptom>, EngineError> {
        let mut application = self.application(row.path.clone(), row, Captured::default());
        let inspection = application.inspect()?;
        let mut findings = inspection.findings.clone();
        if row.mode == Mode::Shared {
            let policy = Policy::read(self.store.connection(), row.number, self.identity.site)?;
            let residues = self.residues();
            findings.extend(application.reading(|connection| {
                fit::findings(connection, &inspection, false, residues, &policy)
            })?);
        }
        let examined = Examined::of(&row.path, Some(row));
        Ok(findings.into_iter().map(|found| symptom(&examined, found)).collect())
    }
}

/// What is found in a file that is not attached: as a mirror's original, and what more there is to
/// say if all sites were to write it.
fn unattached(
    environment: Arc<dyn Environment>,
    examined: &Examined,
    path: PathBuf,
    residues: Residues,
) -> Result<Vec<Symptom>, CaptureError> {
    // Nothing is installed, so that nobody is named by it.
    let nobody =
        Marker { database: DatabaseId(uuid::Uuid::nil()), site: SiteId::new(uuid::Uuid::nil()) };
    let mut application = Application::new(environment, path, nobody, Captured::default());
    let inspection = application.inspect()?;
    let shared = application.reading(|connection| {
        fit::findings(connection, &inspection, false, residues, &Policy::default())
    })?;
    let mut symptoms: Vec<Symptom> =
        inspection.findings.iter().map(|found| symptom(examined, found.clone())).collect();
    symptoms.extend(shared.into_iter().map(|found| {
        let mut symptom = symptom(examined, found);
        // What stands in the way of shared mode alone does not stand in a mirror's.
        symptom.severity = symptom.severity.min(Severity::Warning);
        symptom.what = format!("in shared mode: {}", symptom.what);
        symptom
    }));
    Ok(symptoms)
}

fn symptom(examined: &Examined, found: Finding) -> Symptom {
    let severity = match found.weight {
        Weight::Refusal => Severity::Critical,
        Weight::Warning => Severity::Warning,
        Weight::Note => Severity::Info,
    };
    Symptom {
        severity,
        database: examined.database.clone(),
        path: examined.path.clone(),
        table: found.table,
        what: format!("{}.", found.what),
        remedy: found.remedy,
    }
}

/// An attached database that can't be read; one that is locked just now may be free soon.
fn unreadable(examined: &Examined, error: CaptureError) -> Symptom {
    let severity = if error.is_busy() { Severity::Warning } else { Severity::Critical };
    let Failure { what, remedy, .. } = error.into();
    let Examined { database, path, .. } = examined.clone();
    Symptom { severity, database, path, table: None, what, remedy }
}
