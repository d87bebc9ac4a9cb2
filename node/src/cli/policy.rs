//! `policy`: shows or sets the merge rules of a database that all sites write.

use super::Context;
use super::ground::{Ground, answered, as_json};
use clap::Args;
use node::control::{self, Request};
use node::engine::{PolicyView, RuleSet};
use node::failure::Failure;
use protocol::Name;
use std::fmt::Write as _;

/// The rules, and where each holds.
const RULES: &str = "\
Rules of a column (TABLE.COLUMN):
  last-writer         the latest value wins (default)
  counter             what was added and taken away counts, at whichever site
  first-writer        the first value stays
  site-priority SITE  the values of SITE win
  local               stays at its site
Rules of a table:
  append-only         rows are only ever inserted
  whole-row           an edit carries all columns
  local               stays at its site: sessions, caches
  same-key merge | collide              one key made at two sites is one row, or two
  foreign-keys keep-parent | park-child a deleted row that is needed stays, or the other is parked
  triggers silent | run                 whether triggers run for changes of other sites
  give-back yes | no                    whether a marked value returns when it is free";

#[derive(Debug, Args)]
#[command(after_help = RULES)]
pub struct Arguments {
    /// The database
    name: Name,
    /// What the rule is about
    #[arg(value_name = "TABLE[.COLUMN]", requires = "rule")]
    subject: Option<String>,
    /// The rule to set
    #[arg(value_name = "RULE", num_args = 1..=2)]
    rule: Vec<String>,
}

/// Shows or sets, at the running node or in the directory.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { name, subject, rule } = arguments;
    match subject {
        Some(subject) => set(context, name, subject, rule.join(" ")).await,
        None => show(context, name).await,
    }
}

async fn show(context: &Context, name: Name) -> Result<u8, Failure> {
    let view = match Ground::find(context).await? {
        Ground::Running(directory) => {
            let request = Request::Policy { name: name.to_string() };
            answered(control::ask(&directory, &request).await?)?
        }
        Ground::Resting { engine, .. } => {
            let view = engine.step("policy", move |engine| engine.policy(&name)).await;
            engine.close().await.map_err(Failure::from)?;
            view.map_err(Failure::from)?
        }
    };
    context.print(&as_json(&view)?, &text(&view))?;
    Ok(0)
}

async fn set(context: &Context, name: Name, subject: String, rule: String) -> Result<u8, Failure> {
    let set: RuleSet = match Ground::find(context).await? {
        Ground::Running(directory) => {
            let request = Request::SetPolicy { name: name.to_string(), subject, rule };
            answered(control::ask(&directory, &request).await?)?
        }
        Ground::Resting { engine, .. } => {
            let set = engine
                .step("policy.set", move |engine| engine.choose_rule(&name, &subject, &rule))
                .await;
            engine.close().await.map_err(Failure::from)?;
            set.map_err(Failure::from)?.0
        }
    };
    for warning in &set.warnings {
        context.say(&format!("note: {warning}"));
    }
    let subject = subject_of(&set.table, set.column.as_deref());
    context.print(
        &as_json(&set)?,
        &format!("{subject} of {} is merged by `{}` from now on.", set.database, set.rule),
    )?;
    Ok(0)
}

fn text(view: &PolicyView) -> String {
    let mut text = String::new();
    for rule in &view.policy {
        let subject = subject_of(&rule.table, rule.column.as_deref());
        let default = if rule.default { "  (default)" } else { "" };
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {subject:<32} {}{default}", rule.rule);
    }
    if view.policy.is_empty() {
        let _ = writeln!(text, "  {} has no tables yet", view.database);
    }
    if !view.proposals.is_empty() {
        let _ = writeln!(text, "\nworth considering");
    }
    for proposal in &view.proposals {
        let subject = subject_of(&proposal.table, proposal.column.as_deref());
        let _ = writeln!(
            text,
            "  {subject:<32} {}: {}\n    {}",
            proposal.rule, proposal.why, proposal.command
        );
    }
    text
}

fn subject_of(table: &str, column: Option<&str>) -> String {
    column.map_or_else(|| table.to_owned(), |column| format!("{table}.{column}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use node::engine::{ProposalView, RuleView};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn read(words: &[&str]) -> Result<Arguments, clap::Error> {
        let words = ["policy"].iter().chain(words);
        Line::try_parse_from(words).map(|line| line.arguments)
    }

    #[test]
    fn a_rule_may_have_one_word_or_two() {
        let shown = read(&["club"]).unwrap();
        assert!(shown.subject.is_none() && shown.rule.is_empty());
        let set = read(&["club", "item.stock", "counter"]).unwrap();
        assert_eq!(
            (set.subject.as_deref(), set.rule.join(" ").as_str()),
            (Some("item.stock"), "counter")
        );
        let two = read(&["club", "item", "same-key", "collide"]).unwrap();
        assert_eq!(two.rule.join(" "), "same-key collide");
        let quoted = read(&["club", "item", "same-key collide"]).unwrap();
        assert_eq!(quoted.rule.join(" "), "same-key collide");
        assert!(read(&["club", "item"]).is_err());
        assert!(read(&["club", "item", "a", "b", "c"]).is_err());
        assert!(read(&["No Name"]).is_err());
        assert!(read(&[]).is_err());
    }

    #[test]
    fn the_text_has_every_rule_and_every_proposal() {
        let rule = |table: &str, column: Option<&str>, rule: &str, default| RuleView {
            table: table.into(),
            column: column.map(str::to_owned),
            rule: rule.into(),
            default,
        };
        let view = PolicyView {
            database: "club".into(),
            policy: vec![
                rule("item", None, "last-writer", true),
                rule("item", Some("stock"), "counter", false),
            ],
            proposals: vec![ProposalView {
                table: "session".into(),
                column: None,
                rule: "local".into(),
                why: "Because.".into(),
                command: "node policy club session local".into(),
            }],
        };
        let text = text(&view);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.contains(&vec!["item", "last-writer", "(default)"]));
        assert!(lines.contains(&vec!["item.stock", "counter"]));
        assert!(lines.contains(&vec!["node", "policy", "club", "session", "local"]));
    }
}
