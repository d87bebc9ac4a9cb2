//! `doctor`: looks for what would go wrong with databases, before they are attached and after.

use super::Context;
use super::ground::{Ground, answered, as_json};
use clap::Args;
use node::control::{self, Request};
use node::engine::{Diagnosis, doctor, doctor_alone};
use node::failure::Failure;
use node::units::counted;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct Arguments {
    /// A SQLite database, attached or not; without it all that are attached. Without --dir it is
    /// looked at as no site's
    path: Option<PathBuf>,
}

/// Looks, by the running node or in the directory; 1 if anything is severe.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    // The node may run in another directory.
    let path = arguments.path.map(|path| {
        std::path::absolute(&path).map_err(|error| {
            Failure::usage(
                format!("{} is no path: {error}.", path.display()),
                "Name the file of the database.",
            )
        })
    });
    let diagnosis = match (path.transpose()?, &context.dir) {
        (Some(path), None) => doctor_alone(Arc::clone(&context.environment), &path)?,
        (path, _) => match Ground::find(context).await? {
            Ground::Running(directory) => {
                answered(control::ask(&directory, &Request::Doctor { path }).await?)?
            }
            Ground::Resting { engine, .. } => {
                let diagnosis = doctor(&engine, path).await;
                engine.close().await.map_err(Failure::from)?;
                diagnosis?
            }
        },
    };
    context.print(&as_json(&diagnosis)?, &text(&diagnosis))?;
    Ok(u8::from(diagnosis.is_severe()))
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for symptom in &diagnosis.findings {
        let of = symptom.database.as_ref().unwrap_or(&symptom.path);
        let (severity, what, remedy) = (symptom.severity.as_str(), &symptom.what, &symptom.remedy);
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", format!("{severity:<8}  {of}: {what} {remedy}").trim_end());
    }
    let _ = match (diagnosis.examined.len() as u64, diagnosis.findings.len() as u64) {
        (0, _) => writeln!(
            text,
            "No database is attached here. Name a file to have it looked at before it is attached."
        ),
        (examined, findings) => {
            writeln!(text, "{} in {}.", counted(findings, "finding"), counted(examined, "database"))
        }
    };
    text
}
