//! `attach`: puts a SQLite database under sync.

use super::Context;
use super::ground::Ground;
use clap::{Args, ValueEnum};
use node::control::{self, Request};
use node::engine::{AttachRequest, Attached, OwnContent};
use node::failure::Failure;
use node::units::counted;
use protocol::Name;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct Arguments {
    /// What the database is called in the group
    name: Name,
    /// The SQLite database
    path: PathBuf,
    /// A mirror at every other site (the default), or one database that all sites write (the
    /// default where the group shares one of this name)
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Where the group shares it and PATH holds something else: set that file aside
    #[arg(long, conflicts_with = "merge")]
    adopt: bool,
    /// Where the group shares it and PATH holds something else: make that a part of it. Of a row
    /// that both have the group's values count, and `conflicts` lists the others
    #[arg(long)]
    merge: bool,
    /// Convert keys that several sites can't hand out into ones that they can
    #[arg(long)]
    convert_keys: bool,
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
    let request = AttachRequest {
        wal: arguments.wal,
        mode: arguments.mode.map(|mode| match mode {
            Mode::Mirror => protocol::Mode::Mirror,
            Mode::Shared => protocol::Mode::Shared,
        }),
        content: match (arguments.adopt, arguments.merge) {
            (true, _) => OwnContent::SetAside,
            (_, true) => OwnContent::Merge,
            _ => OwnContent::Refuse,
        },
        convert_keys: arguments.convert_keys,
        ..AttachRequest::new(arguments.name, path)
    };
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
            // While no node runs, nothing comes.
            let attached = node::engine::attach(&engine, request, Duration::ZERO).await;
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
    if let Some(aside) = &attached.set_aside {
        let _ = writeln!(text, "  note: the file that was there is kept as {aside}");
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
