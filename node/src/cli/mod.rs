//! The command line, a file a command. Results go to stdout, for people or as one JSON document;
//! everything else goes to stderr.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where things are printed")]

mod attach;
mod conflicts;
mod demo;
mod detach;
mod doctor;
mod ground;
mod init;
mod invite;
mod join;
mod policy;
mod remove;
mod run;
mod status;

use clap::{Parser, Subcommand};
use node::environment::Environment;
use node::environment::production::Production;
use node::failure::{Failure, FailureKind};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// Keeps a shop's SQLite database safe at its other locations.
#[derive(Debug, Parser)]
#[command(name = "node", version, propagate_version = true)]
struct Arguments {
    /// The site's own directory
    #[arg(long, env = "NODE_DIR", global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a site and a new group with it as the first member
    Init(init::Arguments),
    /// Print a code that admits one site to the group, once
    Invite(invite::Arguments),
    /// Make a site and join the group of an invitation code
    Join(join::Arguments),
    /// Put a SQLite database under sync
    Attach(attach::Arguments),
    /// Remove everything that attach put into a database
    Detach(detach::Arguments),
    /// Take a site out of the group: its key is refused from then on
    Remove(remove::Arguments),
    /// Show or set the merge rules of a database that all sites write
    Policy(policy::Arguments),
    /// Show what the merge had to decide, and decide otherwise
    Conflicts(conflicts::Arguments),
    /// Look for what would go wrong with databases, before attach and after
    Doctor(doctor::Arguments),
    /// Run the site until SIGTERM or Ctrl-C
    Run(run::Arguments),
    /// Tell how safe the data is
    Status(status::Arguments),
    /// Show three sites on this machine with a sample shop
    Demo(demo::Arguments),
}

/// What every command is given.
struct Context {
    environment: Arc<dyn Environment>,
    dir: Option<PathBuf>,
    json: bool,
}

impl Context {
    /// Prints a result: `value` with `--json`, else `text`.
    ///
    /// # Errors
    /// Stdout is gone.
    fn print(&self, value: &Value, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        let written = if self.json {
            writeln!(stdout, "{value}")
        } else {
            write!(stdout, "{text}{}", if text.ends_with('\n') { "" } else { "\n" })
        };
        written.and_then(|()| stdout.flush()).map_err(|error| {
            Failure::unable(
                format!("The result can't be printed: {error}."),
                "Look at where the output goes.",
            )
        })
    }

    /// Says something beside the result.
    fn say(&self, text: &str) {
        eprintln!("{text}");
    }
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            let json = std::env::args_os().any(|argument| argument == "--json");
            return fail(&wrong_usage(&error), json);
        }
        Err(help) => {
            // Help and version are results. Who closes the pipe has read enough.
            drop(help.print());
            return ExitCode::SUCCESS;
        }
    };
    let default = if matches!(arguments.command, Command::Run(_)) { "info" } else { "warn" };
    let filter =
        EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let context = Context {
        environment: Arc::new(Production::default()),
        dir: arguments.dir,
        json: arguments.json,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(perform(&context, arguments.command));
            // Nothing waits for what still runs in the background.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::unable(
            format!("The program can't start: {error}."),
            "Look at the limits of this system.",
        )),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure, context.json),
    }
}

/// What clap found wrong, in one sentence and a remedy.
fn wrong_usage(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n");
    let what = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let tip = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("tip: "));
    let remedy = tip.map_or("See `--help` for how it is used.".to_owned(), sentence);
    Failure::usage(sentence(what), remedy)
}

/// Words as one sentence: in one line, with a capital and a full stop.
fn sentence(words: &str) -> String {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let (first, rest) = words.split_at(words.chars().next().map_or(0, char::len_utf8));
    let full_stop = if words.ends_with('.') { "" } else { "." };
    format!("{}{rest}{full_stop}", first.to_uppercase())
}

/// Says what went wrong: on stderr, and with `--json` on stdout too. If nobody listens any more,
/// the exit code still tells.
fn fail(failure: &Failure, json: bool) -> ExitCode {
    if json {
        let kind = match failure.kind {
            FailureKind::Refused => "refused",
            FailureKind::Usage => "usage",
            FailureKind::Unable => "unable",
        };
        let error = json!({
            "error": {"kind": kind, "what": failure.what, "remedy": failure.remedy}
        });
        drop(writeln!(std::io::stdout(), "{error}"));
    }
    drop(writeln!(std::io::stderr(), "{failure}"));
    ExitCode::from(failure.kind.exit_code())
}

/// Runs one command; returns the exit code of an answer, 0 or 1.
async fn perform(context: &Context, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Init(arguments) => init::run(context, arguments),
        Command::Invite(arguments) => invite::run(context, arguments).await,
        Command::Join(arguments) => join::run(context, arguments).await,
        Command::Attach(arguments) => attach::run(context, arguments).await,
        Command::Detach(arguments) => detach::run(context, arguments).await,
        Command::Remove(arguments) => remove::run(context, arguments).await,
        Command::Policy(arguments) => policy::run(context, arguments).await,
        Command::Conflicts(arguments) => conflicts::run(context, arguments).await,
        Command::Doctor(arguments) => doctor::run(context, arguments).await,
        Command::Run(arguments) => run::run(context, arguments).await,
        Command::Status(arguments) => status::run(context, arguments).await,
        Command::Demo(arguments) => demo::run(context, arguments).await,
    }
}
