//! One run, told as it happens.

use super::Which;
use sim::outcome::{Outcome, table};
use sim::plan::Request;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'a> {
    /// Twice, and both must be the same.
    pub twice: bool,
    /// As one line of JSON alone.
    pub json: bool,
    /// Where the picture goes.
    pub html: Option<&'a Path>,
}

/// Runs it; whether nothing broke, or what kept it from running.
pub fn run(which: &Which, telling: Telling<'_>) -> Result<bool, String> {
    let request = which.request()?;
    let breakage = which.breakage.as_deref();
    if let Some(path) = telling.html {
        // Rather now than after a long run.
        std::fs::write(path, "")
            .map_err(|error| format!("{} can't be written: {error}.", path.display()))?;
    }
    let begun = cpu();
    let (outcome, chronicle) = sim::drive::run(&request, breakage, !telling.json)?;
    let cost = cpu().saturating_sub(begun);
    if telling.json {
        let line = serde_json::to_string(&outcome).map_err(|error| error.to_string())?;
        println!("{line}");
    } else {
        print(&request, breakage, &outcome, cost);
    }
    if let Some(path) = telling.html {
        let picture = sim::picture::draw(&request, &chronicle, &outcome);
        std::fs::write(path, picture)
            .map_err(|error| format!("{} can't be written: {error}.", path.display()))?;
    }
    if telling.twice {
        let (again, _) = sim::drive::run(&request, breakage, false)?;
        if again != outcome {
            eprintln!(
                "The two runs differ: something reaches round the Environment.\n{outcome:#?}\n\
                 {again:#?}"
            );
            return Ok(false);
        }
        if !telling.json {
            println!("Run twice: the same packets and the same content.");
        }
    }
    Ok(outcome.failure.is_none())
}

fn print(request: &Request, breakage: Option<&str>, outcome: &Outcome, cost: Duration) {
    println!("\nFaults that fired:\n{}", table(&outcome.fired));
    let figures = &outcome.figures;
    println!(
        "{:.1} days in {:.2} CPU seconds: {} commits, {} batches, {} packets, {} bytes, \
         {} looks at copies",
        figures.virtual_ms as f64 / 86_400_000.0,
        cost.as_secs_f64(),
        figures.commits,
        figures.batches,
        figures.packets,
        figures.bytes,
        figures.looks,
    );
    println!("trace   {}\ncontent {}", outcome.trace, outcome.content);
    match &outcome.failure {
        None => println!("Seed {}: nothing broke.", request.seed),
        Some(failure) => println!(
            "\n{failure}\n\nSeed {}, commit {}. To repeat it:\n  {}",
            request.seed,
            commit(),
            super::command(request, breakage)
        ),
    }
}

/// The commit that the source is at, as far as git knows.
pub fn commit() -> String {
    let asked = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    match asked {
        Ok(answer) if answer.status.success() => {
            String::from_utf8_lossy(&answer.stdout).trim().to_owned()
        }
        _ => "unknown".into(),
    }
}

/// CPU time of this process's main thread so far; the whole world runs on it.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
