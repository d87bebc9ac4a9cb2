//! `attach`: puts a SQLite database under sync.

use super::Context;
use super::ground::Ground;
use clap::{Args, ValueEnum};
use node::control::{self, Request};
use node::engine::{AttachRequest, Attached};
use node::failure::Failure;
use protocol::Name;
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Arguments {
    /// What the database is called in the group
    name: Name,
    /// The SQLite database
    path: PathBuf,
    /// A mirror at every other site, or one database that all sites write
    #[arg(long, value_enum, default_value_t = Mode::Mirror)]
    mode: Mode,
    /// Switch the database to write-ahead logging, so that reading never waits for writing
    #[arg(long)]
    wal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Mirror,
    Shared,
}

/// Attaches, at the running node or in the directory.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    if arguments.mode == Mode::Shared {
        return Err(Failure::refused(
            "This version knows mirrors only.",
            "Leave --mode away; a database that all sites write comes with a later version.",
        ));
    }
    let path = std::path::absolute(&arguments.path).map_err(|error| {
        Failure::usage(
            format!("{} is no path: {error}.", arguments.path.display()),
            "Name the file of the database.",
        )
    })?;
    if path.is_dir() {
        return Err(Failure::usage(
            format!("{} is a directory.", path.display()),
            "Name the file of the database.",
        ));
    }
    let request = AttachRequest { name: arguments.name, path, wal: arguments.wal };
    let attached = match Ground::find(context).await? {
        Ground::Running(directory) => {
            let answer = control::ask(&directory, &Request::Attach(request)).await?;
            serde_json::from_value::<Attached>(answer).map_err(|error| {
                Failure::unable(
                    format!("The node's answer can't be read: {error}."),
                    "Use the same version of the program for the node and for its commands.",
                )
            })?
        }
        Ground::Resting { engine, .. } => {
            let attached = node::engine::attach(&engine, request).await;
            engine.close().await.map_err(Failure::from)?;
            attached.map_err(Failure::from)?.2
        }
    };
    let value = serde_json::to_value(&attached).map_err(|error| {
        Failure::unable(format!("The answer can't be written: {error}."), "This is a bug.")
    })?;
    context.print(&value, &text(&attached))?;
    Ok(0)
}

fn text(attached: &Attached) -> String {
    let mut text = String::new();
    for table in &attached.tables {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  {:<24} {:>12}  {}",
            table.name,
            counted(table.rows, "row"),
            table.finding
        );
    }
    for finding in &attached.findings {
        let _ = writeln!(text, "  note: {finding}");
    }
    let (tables, rows) =
        (attached.tables.len() as u64, attached.tables.iter().map(|table| table.rows).sum());
    let _ = writeln!(
        text,
        "{} is under sync: {}, {}.",
        attached.database,
        counted(tables, "table"),
        counted(rows, "row")
    );
    text
}

fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
