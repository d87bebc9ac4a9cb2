//! `cargo run --release -p sim -- --seed 42`: real Holdfast nodes through bad days and nights, as the
//! seed has them. `swarm` runs many seeds, `--shrink` makes a failing one smaller.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program says what it found")]

mod program;

use clap::{Parser, Subcommand};
#[cfg(feature = "breakages")]
use program::breakages;
use program::run::Telling;
use program::swarm::Size;
use program::{Which, list, regressions, run, shrink, swarm};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs real Holdfast nodes in virtual time through faults that the seed decides
#[derive(Parser, Debug)]
#[command(name = "sim", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Run twice and compare
    #[arg(long)]
    twice: bool,
    /// Print the outcome alone, as one line of JSON
    #[arg(long)]
    json: bool,
    /// Draw the run into a file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the nodes' own log beside the story, as far as this lets it: node=debug, for instance
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Make a failing run smaller
    #[arg(long)]
    shrink: bool,
    /// List scenarios and faults
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run again what once showed a bug
    Regressions,
    /// Look for each deliberate defect of the node, seed by seed, until a check notices it
    #[cfg(feature = "breakages")]
    Breakages {
        #[command(flatten)]
        which: Which,
        /// At most so many for each
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// At the same time
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Run many seeds, counting up from --seed
    Swarm {
        #[command(flatten)]
        which: Which,
        /// How many
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// At the same time
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// End with the first that fails
        #[arg(long)]
        until_failure: bool,
        /// Where failing seeds are kept
        #[arg(long, default_value = "target/sim-failures.txt")]
        failures: PathBuf,
    },
}

fn main() -> ExitCode {
    let Arguments { which, twice, json, html, log, shrink, list, command } = Arguments::parse();
    let done = match command {
        Some(Command::Swarm { which, seeds, jobs, until_failure, failures }) => {
            let size = Size { seeds, jobs, until_failure, failures: &failures };
            swarm::run(&which, size).map(|failed| failed == 0)
        }
        #[cfg(feature = "breakages")]
        Some(Command::Breakages { which, seeds, jobs }) => breakages::run(&which, seeds, jobs),
        Some(Command::Regressions) => regressions::run(),
        None if list => {
            list::print();
            Ok(true)
        }
        None if shrink => shrink::run(&which).map(|_| true),
        None => log
            .map_or(Ok(()), |filter| sim::log::print(&filter))
            .and_then(|()| run::run(&which, Telling { twice, json, html: html.as_deref() })),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}
