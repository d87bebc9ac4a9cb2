//! Whether the simulator would find a defect: each deliberate one is looked for, seed by seed, until
//! a check notices it. What the unbroken node shows under the same seed as well is no finding, nor
//! is anything but an invariant of FAULTS.md.

use super::{Which, child, command, swarm};
use node::breakage::Breakage;
use sim::outcome::{Failure, Outcome};
use sim::plan::Request;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::ops::ControlFlow;

/// Where a defect was found.
#[derive(Debug)]
struct Finding {
    seed: u64,
    /// Seeds run until then, this one among them.
    runs: u64,
    check: String,
}

/// Checks that fail without any defect, by scenario and seed; none where all is well.
type Unbroken = BTreeMap<(&'static str, u64), Option<String>>;

/// Where defects of merging are looked for, unless another scenario is asked for.
const OF_MERGING: &str = "shared";

/// Looks for each, or for that which is asked for; whether all were found.
pub fn run(which: &Which, seeds: u64, jobs: usize) -> Result<bool, String> {
    let request = which.request()?;
    let asked = |name: &&str| which.breakage.as_deref().is_none_or(|asked| asked == *name);
    let names: Vec<(&str, Breakage)> =
        Breakage::ALL.into_iter().filter(|(name, _)| asked(name)).collect();
    if names.is_empty() {
        return Err("There is no such defect.".into());
    }
    let mut unbroken = Unbroken::new();
    let mut table = format!("{:<20} {:>6} {:>6}  what broke\n", "defect", "seed", "runs");
    let mut all = true;
    for (name, breakage) in names {
        println!("{name}");
        let request = match breakage.is_of_merging() && request.scenario == "mix" {
            true => Request { scenario: OF_MERGING, ..request.clone() },
            false => request.clone(),
        };
        let found = look_for(name, &request, (seeds, jobs), &mut unbroken);
        let found = found.map_err(|error| format!("{name}: {error}"))?;
        all &= found.is_some();
        let (seed, runs, check) = match found {
            Some(Finding { seed, runs, check }) => (seed.to_string(), runs, check),
            None => (String::new(), seeds, "NOT FOUND".to_owned()),
        };
        let _ = writeln!(table, "{name:<20} {seed:>6} {runs:>6}  {check}");
    }
    println!("\n{table}");
    Ok(all)
}

fn look_for(
    name: &str,
    request: &Request,
    size: (u64, usize),
    unbroken: &mut Unbroken,
) -> std::io::Result<Option<Finding>> {
    let (mut runs, mut found) = (0, Ok(None));
    swarm::each(request, Some(name), size, |request, outcome| {
        runs += 1;
        let seed = request.seed;
        found = outcome
            .and_then(|outcome| judge(name, request, outcome, unbroken))
            .map(|check| check.map(|check| Finding { seed, runs, check }));
        match found {
            Ok(None) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    found
}

/// The check that noticed the defect in a run, if one did.
fn judge(
    name: &str,
    request: &Request,
    outcome: Outcome,
    unbroken: &mut Unbroken,
) -> std::io::Result<Option<String>> {
    let (Some(failure), seed) = (outcome.failure, request.seed) else { return Ok(None) };
    if !is_invariant(&failure) {
        println!("  seed {seed} breaks no invariant: {failure}");
        return Ok(None);
    }
    let other = match unbroken.entry((request.scenario, seed)) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => {
            let failure = child::run(request, None)?.failure;
            unknown.insert(failure.map(|failure| failure.check))
        }
    };
    if let Some(check) = other {
        println!("  seed {seed} breaks without it as well: {check}");
        return Ok(None);
    }
    println!("  seed {seed}: {failure}\n    {}", command(request, Some(name)));
    Ok(Some(failure.check))
}

/// Whether a check has its letter in FAULTS.md: a run that could not do what was planned, or ended
/// by itself, has found nothing.
fn is_invariant(failure: &Failure) -> bool {
    matches!(failure.check.as_bytes(), [b'A'..=b'H', b':', ..])
}
