//! `conflicts`: what the merge had to decide, both versions, and a way to decide otherwise.

use super::Context;
use super::ground::{Ground, answered, as_json};
use clap::{Args, Subcommand, ValueEnum};
use node::control::{self, Request};
use node::engine::{Choose, ConflictView, ConflictsView, Kept, SideView};
use node::failure::Failure;
use serde_json::Value;
use std::fmt::Write as _;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
enum Action {
    /// List what is undecided
    List,
    /// Show one
    Show {
        /// Its number
        id: i64,
    },
    /// Decide one
    Keep {
        /// Its number
        id: i64,
        /// What is to count: what counts already, or what lost
        #[arg(value_enum)]
        which: Which,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Winner,
    Loser,
}

/// Lists, shows or decides, at the running node or in the directory.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    match arguments.action.unwrap_or(Action::List) {
        Action::List => list(context).await?,
        Action::Show { id } => show(context, id).await?,
        Action::Keep { id, which } => keep(context, id, which).await?,
    }
    Ok(0)
}

async fn list(context: &Context) -> Result<(), Failure> {
    let view: ConflictsView = match Ground::find(context).await? {
        Ground::Running(directory) => {
            answered(control::ask(&directory, &Request::Conflicts).await?)?
        }
        Ground::Resting { engine, .. } => {
            let view = engine.step("conflicts", |engine| engine.conflicts()).await;
            engine.close().await.map_err(Failure::from)?;
            view.map_err(Failure::from)?
        }
    };
    context.print(&as_json(&view)?, &text(&view))
}

async fn show(context: &Context, id: i64) -> Result<(), Failure> {
    let view: ConflictView = match Ground::find(context).await? {
        Ground::Running(directory) => {
            answered(control::ask(&directory, &Request::Conflict { id }).await?)?
        }
        Ground::Resting { engine, .. } => {
            let view = engine.step("conflict", move |engine| engine.conflict(id)).await;
            engine.close().await.map_err(Failure::from)?;
            view.map_err(Failure::from)?
        }
    };
    context.print(&as_json(&view)?, &whole(&view))
}

async fn keep(context: &Context, id: i64, which: Which) -> Result<(), Failure> {
    let choose = match which {
        Which::Winner => Choose::Winner,
        Which::Loser => Choose::Loser,
    };
    let kept: Kept = match Ground::find(context).await? {
        Ground::Running(directory) => {
            answered(control::ask(&directory, &Request::Keep { id, choose }).await?)?
        }
        Ground::Resting { engine, .. } => {
            let kept = engine.step("conflict.keep", move |engine| engine.keep(id, choose)).await;
            engine.close().await.map_err(Failure::from)?;
            kept.map_err(Failure::from)?.0
        }
    };
    let text = match choose {
        Choose::Winner => {
            format!("Conflict {id} of {} is decided: all stays as it is.", kept.database)
        }
        Choose::Loser => {
            format!(
                "Conflict {id} of {} is decided: what lost counts now, at every site.",
                kept.database
            )
        }
    };
    context.print(&as_json(&kept)?, &text)
}

fn text(view: &ConflictsView) -> String {
    let mut text = String::new();
    for conflict in &view.conflicts {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{:>6}  {}  {:<14} {}",
            conflict.id,
            conflict.since,
            conflict.kind,
            sentence(conflict)
        );
    }
    for dropped in &view.dropped {
        let _ = writeln!(
            text,
            "  note: {} older ones of {} are no longer kept: there were too many",
            dropped.count, dropped.database
        );
    }
    if view.conflicts.is_empty() {
        text.push_str("nothing to decide\n");
    }
    text
}

/// One conflict, on several lines.
fn whole(conflict: &ConflictView) -> String {
    let mut text = format!("{} {}\n", conflict.kind, sentence(conflict));
    for (name, side) in [("winner", &conflict.winner), ("loser", &conflict.loser)] {
        let by = match (&side.site, &side.at) {
            (Some(site), Some(at)) => format!("  (by {site}, {at})"),
            _ => String::new(),
        };
        if conflict.why.is_none() {
            let _ = writeln!(text, "  {name:<7} {}{by}", said(side));
        }
    }
    let state = if conflict.decided { "decided" } else { "undecided" };
    let _ = writeln!(text, "  {state}, since {}", conflict.since);
    if !conflict.decided && conflict.why.is_none() {
        let _ =
            writeln!(text, "  decide it with `node conflicts keep {} winner|loser`", conflict.id);
    }
    text
}

fn sentence(conflict: &ConflictView) -> String {
    let key: Vec<String> = conflict.key.iter().map(Value::to_string).collect();
    let column = conflict.column.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let row = format!("{} {} {}{column}", conflict.database, conflict.table, key.join(","));
    if let Some(why) = &conflict.why {
        return format!("{row}: {why}");
    }
    let at = |side: &SideView| side.site.as_ref().map(|s| format!(" ({s})")).unwrap_or_default();
    let (loser, winner) = (&conflict.loser, &conflict.winner);
    match conflict.kind.as_str() {
        "marked" => format!("{row}: {} is shown as {}", said(winner), said(loser)),
        _ => format!("{row}: {}{} lost to {}{}", said(loser), at(loser), said(winner), at(winner)),
    }
}

fn said(side: &SideView) -> String {
    match side {
        SideView { deleted: true, .. } => "the delete".to_owned(),
        SideView { added: true, value, .. } => format!("adding {value}"),
        SideView { value, .. } => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn read(words: &[&str]) -> Result<Option<Action>, clap::Error> {
        let words = ["conflicts"].iter().chain(words);
        Line::try_parse_from(words).map(|line| line.arguments.action)
    }

    #[test]
    fn the_words_are_those_that_are_promised() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["list"]).unwrap(), Some(Action::List));
        assert_eq!(read(&["show", "7"]).unwrap(), Some(Action::Show { id: 7 }));
        let keep = |which| Some(Action::Keep { id: 7, which });
        assert_eq!(read(&["keep", "7", "winner"]).unwrap(), keep(Which::Winner));
        assert_eq!(read(&["keep", "7", "loser"]).unwrap(), keep(Which::Loser));
        for wrong in [&["keep", "7"][..], &["keep", "7", "both"], &["show", "x"], &["other"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    fn conflict() -> ConflictView {
        let side = |value, site: &str| SideView {
            value,
            site: Some(site.into()),
            at: Some("2026-11-20T16:00:00Z".into()),
            ..SideView::default()
        };
        ConflictView {
            id: 7,
            database: "club".into(),
            table: "item".into(),
            key: vec![json!(1001)],
            kind: "edit".into(),
            column: Some("stock".into()),
            winner: side(json!(5), "uptown"),
            loser: side(json!("x"), "downtown"),
            why: None,
            since: "2026-11-20T16:00:01Z".into(),
            decided: false,
        }
    }

    #[test]
    fn a_conflict_is_told_in_one_line() {
        assert_eq!(
            sentence(&conflict()),
            "club item 1001 stock: \"x\" (downtown) lost to 5 (uptown)"
        );
        let deleted = SideView { deleted: true, ..conflict().winner };
        let delete = ConflictView { winner: deleted, column: None, ..conflict() };
        assert_eq!(
            sentence(&delete),
            "club item 1001: \"x\" (downtown) lost to the delete (uptown)"
        );
        let kept = ConflictView { why: Some("Since.".into()), ..conflict() };
        assert_eq!(sentence(&kept), "club item 1001 stock: Since.");
        let view = ConflictsView { conflicts: vec![conflict()], dropped: Vec::new() };
        assert!(text(&view).contains("     7  2026-11-20T16:00:01Z  edit"));
        assert!(whole(&conflict()).contains("keep 7 winner|loser"));
    }
}
