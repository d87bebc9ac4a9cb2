//! Whether the simulator would find a defect: each deliberate one is looked for, seed by seed, until
//! a check notices it. What the unbroken node shows under the same seed as well is no finding, nor
//! is anything but an invariant of FAULTS.md.

use super::{Which, child, command, swarm};
use node::breakage::Breakage;
use sim::outcome::{Failure, Outcome};
use sim::plan::Request;
use std::ops::ControlFlow;

/// Where a defect was found.
#[derive(Debug)]
struct Finding {
    seed: u64,
    /// Seeds run until then, this one among them.
    runs: u64,
    check: String,
}

/// Looks for each, or for that which is asked for; whether all were found.
pub fn run(which: &Which, seeds: u64, jobs: usize) -> Result<bool, String> {
    let request = which.request()?;
    let asked = |name: &&str| which.breakage.as_deref().is_none_or(|asked| asked == *name);
    let names: Vec<&str> = Breakage::ALL.iter().map(|(name, _)| *name).filter(asked).collect();
    if names.is_empty() {
        return Err("There is no such defect.".into());
    }
    let mut table = format!("{:<20} {:>6} {:>6}  what broke\n", "defect", "seed", "runs");
    let mut all = true;
    for name in names {
        println!("{name}");
        table += &match look_for(name, &request, seeds, jobs)? {
            Some(Finding { seed, runs, check }) => {
                format!("{name:<20} {seed:>6} {runs:>6}  {check}\n")
            }
            None => {
                all = false;
                format!("{name:<20} {:>6} {seeds:>6}  NOT FOUND\n", "")
            }
        };
    }
    println!("\n{table}");
    Ok(all)
}

fn look_for(
    name: &str,
    request: &Request,
    seeds: u64,
    jobs: usize,
) -> Result<Option<Finding>, String> {
    let (mut runs, mut found) = (0, Ok(None));
    swarm::each(request, Some(name), (seeds, jobs), |request, outcome| {
        runs += 1;
        match judge(name, request, outcome) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(check)) => {
                found = Ok(Some(Finding { seed: request.seed, runs, check }));
                ControlFlow::Break(())
            }
            Err(error) => {
                found = Err(error.to_string());
                ControlFlow::Break(())
            }
        }
    });
    found
}

/// The check that noticed the defect in a run, if one did.
fn judge(
    name: &str,
    request: &Request,
    outcome: std::io::Result<Outcome>,
) -> std::io::Result<Option<String>> {
    let Some(failure) = outcome?.failure else { return Ok(None) };
    let command = command(request, Some(name));
    if !is_invariant(&failure) {
        println!("  seed {}, no invariant: {}\n    {command}", request.seed, failure.check);
        return Ok(None);
    }
    if let Some(other) = child::run(request, None)?.failure {
        println!("  seed {} breaks without it as well: {}", request.seed, other.check);
        return Ok(None);
    }
    println!("  seed {}: {failure}\n    {command}", request.seed);
    Ok(Some(failure.check))
}

/// Whether a check has its letter in FAULTS.md: a run that could not do what was planned, or ended
/// by itself, has found nothing.
fn is_invariant(failure: &Failure) -> bool {
    matches!(failure.check.as_bytes(), [b'A'..=b'H', b':', ..])
}
